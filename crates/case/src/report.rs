//! The report: plain data with the names of the JSON format. `stopcode-report` prints it; programs read it.
//!
//! Rules of the format: codes and addresses are strings, `0x` and lower-case hex without padding; counts, sizes,
//! offsets and seconds are numbers; times are RFC 3339 in UTC; what is absent is `null`, never left out. Fields are
//! added, never renamed or removed, within one `schema_version`.

use schemars::JsonSchema;
use serde::Serialize;

/// Version of the format. Raised only when a field changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// What `analyze` returns.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Report {
    /// One input was given.
    One(Box<DumpReport>),
    /// A folder, an archive or several inputs were given.
    Many(SeriesReport),
}

impl Report {
    /// At least one input gave a verdict.
    pub fn has_verdict(&self) -> bool {
        match self {
            Self::One(dump) => dump.verdict.is_some(),
            Self::Many(series) => series.dumps.iter().any(|dump| dump.verdict.is_some()),
        }
    }
}

/// Several inputs, grouped by machine.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SeriesReport {
    /// Version of the format.
    pub schema_version: u32,
    /// One entry an input, unreadable ones included.
    pub dumps: Vec<DumpReport>,
    /// One entry a machine.
    pub cases: Vec<CaseReport>,
}

/// The joint verdict on one machine.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CaseReport {
    /// How the machine was told from others.
    pub machine: MachineReport,
    /// Paths of its inputs, in the order of time.
    pub members: Vec<String>,
    /// Two or three sentences.
    pub summary: String,
    /// By confidence, highest first.
    pub hypotheses: Vec<HypothesisReport>,
    /// What to do, in order.
    pub next_steps: Vec<NextStepReport>,
    /// Drivers that do not come with Windows and that came, went or changed between its dumps, in the order of time.
    pub driver_changes: Vec<DriverChangeReport>,
}

/// What became of a driver between two dumps that follow one another.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DriverChangeReport {
    /// Lower-case image file name.
    pub image: String,
    /// `changed`: another file of that name; `came`: loaded from `after` on; `went`: loaded up to `before`; `at_times`: now
    /// loaded, now not.
    pub change: String,
    /// Path of the last dump before it; for `at_times` of the first.
    pub before: String,
    /// Path of the first dump after it; for `at_times` of the last.
    pub after: String,
    /// When the file before was linked, RFC 3339; `null` where it is not loaded or its stamp is no date.
    pub link_date_before: Option<String>,
    /// When the file after was.
    pub link_date_after: Option<String>,
    /// In how many dumps it is loaded.
    pub loaded_in: usize,
    /// Of how many that show their drivers.
    pub dumps: usize,
}

/// What is known of a machine, and why its dumps were put together.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct MachineReport {
    /// A short name for it: maker and model, or its processor.
    pub name: String,
    /// What the grouping rests on, in words.
    pub grouped_by: Vec<String>,
}

/// One input.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DumpReport {
    /// Version of the format.
    pub schema_version: u32,
    /// What was read.
    pub input: InputReport,
    /// The stop code.
    pub stop: Option<StopReport>,
    /// The system.
    pub system: Option<SystemReport>,
    /// The exception that led to the stop.
    pub exception: Option<ExceptionReport>,
    /// Stacks; the one the verdict rests on first.
    pub stacks: Vec<StackReport>,
    /// Loaded modules, in the order of the dump.
    pub modules: Vec<ModuleReport>,
    /// Unloaded drivers, newest first.
    pub unloaded_modules: Vec<UnloadedModuleReport>,
    /// Secondary data of the dump (`.enumtag` in WinDbg), in the order of the file.
    pub secondary_data: Vec<SecondaryDataReport>,
    /// The verdict; `null` only where nothing could be read.
    pub verdict: Option<VerdictReport>,
    /// What was wrong with the input or with reading it.
    pub problems: Vec<ProblemReport>,
}

/// What was read.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct InputReport {
    /// As given; inside an archive `archive.zip!member.dmp`.
    pub path: String,
    /// `triage64`, `full64`, `text`, `unreadable`, …
    pub kind: String,
    /// In bytes.
    pub size: u64,
}

/// The stop code.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct StopReport {
    /// As recorded: `0x1000007e`.
    pub code: String,
    /// Without the bit that a minidump may add: `0x7e`.
    pub base_code: String,
    /// `SYSTEM_THREAD_EXCEPTION_NOT_HANDLED`; `null` for a code that is not Microsoft's.
    pub name: Option<String>,
    /// Four of them.
    pub arguments: Vec<ArgumentReport>,
}

/// An argument.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ArgumentReport {
    /// Its value.
    pub value: String,
    /// What it means for this code, with the value's own meaning where one is known.
    pub meaning: Option<String>,
}

/// The system.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SystemReport {
    /// `10.0.19041.804`.
    pub os_version: Option<String>,
    /// `Windows 10 …`.
    pub product: Option<String>,
    /// How the version was found, or why it is not exact.
    pub os_version_source: Option<String>,
    /// What the places of the kernel's globals tell of its build.
    pub fingerprint: Option<String>,
    /// The key of the kernel's image in a symbol store: TimeDateStamp and SizeOfImage.
    pub kernel_key: Option<String>,
    /// Build number.
    pub build: Option<u32>,
    /// `x64`, `arm64`, `x86`.
    pub architecture: Option<String>,
    /// Number of processors.
    pub processors: Option<u32>,
    /// Seconds since start.
    pub uptime_seconds: Option<f64>,
    /// RFC 3339, UTC.
    pub crash_time: Option<String>,
    /// Processor's own name.
    pub processor_name: Option<String>,
    /// Microcode revision.
    pub microcode: Option<String>,
    /// Maker and model.
    pub machine: Option<String>,
    /// Firmware vendor, version, date.
    pub firmware: Option<String>,
    /// Process that happened to run.
    pub process: Option<String>,
    /// Driver Verifier's flags, where known; `0x0` is off.
    pub verifier_flags: Option<String>,
}

/// The exception that led to the stop.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ExceptionReport {
    /// NTSTATUS.
    pub code: String,
    /// `STATUS_ACCESS_VIOLATION`.
    pub name: Option<String>,
    /// Where it was raised.
    pub address: String,
    /// `amdppm+0x334c`.
    pub symbol: Option<String>,
}

/// A stack.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct StackReport {
    /// `exception`, `bugcheck`, `processor`, `thread`.
    pub kind: String,
    /// ETHREAD.
    pub thread: Option<String>,
    /// Processor number.
    pub processor: Option<u32>,
    /// Innermost first.
    pub frames: Vec<FrameReport>,
    /// Why the walk ended.
    pub ended: String,
    /// Where unwind data of an image at hand led no further, and what follows was searched for.
    pub refused: Vec<RefusedReport>,
}

/// Unwind data that led no further.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RefusedReport {
    /// Index of the frame whose caller it did not give.
    pub frame: usize,
    /// Why.
    pub why: String,
}

/// A turn of the kernel's between a frame and the one before.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CrossingReport {
    /// `trap`, `exception`, `interrupt`, `double_fault`, `nmi`, `machine_check`, `system_call`, `user_mode`,
    /// `stack_switch`, `switched_out`.
    pub turn: String,
    /// The same in words.
    pub text: String,
    /// What the stack of the frame before is, where it is known and another.
    pub from: Option<String>,
    /// What the stack of this frame is, where it is known and another.
    pub to: Option<String>,
    /// Address of the `KTRAP_FRAME` that holds this frame's registers.
    pub trap_frame: Option<String>,
}

/// A frame.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FrameReport {
    /// Frame 0: the instruction pointer; then return addresses, as WinDbg shows them. `null` where a text does not tell.
    pub instruction: Option<String>,
    /// Child-SP.
    pub stack_pointer: Option<String>,
    /// Lower-case image file name with extension.
    pub module: Option<String>,
    /// WinDbg's name of the module.
    pub display: Option<String>,
    /// Function.
    pub symbol: Option<String>,
    /// From the symbol, or from the module's base where there is none.
    pub offset: Option<u64>,
    /// `context`, `trap_frame`, `machine_frame`, `unwind`, `pdb_assisted`, `unwind_from_scan`, `scan_call`,
    /// `scan`.
    pub trust: String,
    /// Frames may be missing between this one and the one before.
    pub gap_before: bool,
    /// What happened between this frame and the one before, if it is no plain call.
    pub crossing: Option<CrossingReport>,
    /// The symbol is only the nearest one below.
    pub uncertain: bool,
    /// The driver was unloaded.
    pub unloaded: bool,
    /// What the function does, or what the driver is, in a few words.
    pub note: Option<String>,
}

/// A loaded module.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ModuleReport {
    /// Lower-case image file name with extension, as frames and suspects name it.
    pub name: String,
    /// Where it is loaded.
    pub base: String,
    /// In bytes.
    pub size: u64,
    /// As recorded.
    pub path: Option<String>,
    /// RFC 3339; `null` where the stamp is no date.
    pub link_date: Option<String>,
    /// Why there is no link date.
    pub link_date_missing: Option<String>,
    /// File version.
    pub version: Option<String>,
    /// Who makes it, as far as known by its name.
    pub vendor: Option<String>,
    /// `os`, `antivirus`, `storage`, …
    pub role: Option<String>,
}

/// An unloaded driver.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UnloadedModuleReport {
    /// As Windows kept it: a minidump keeps 12 characters.
    pub name: String,
    /// Where it was loaded.
    pub base: String,
    /// In bytes.
    pub size: u64,
}

/// A blob of secondary data.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SecondaryDataReport {
    /// Its tag.
    pub guid: String,
    /// The symbol or driver it belongs to, where that is known.
    pub owner: Option<String>,
    /// In bytes.
    pub size: u64,
}

/// The verdict.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct VerdictReport {
    /// Two or three sentences.
    pub summary: String,
    /// What was going on, in sentences of facts: how it began, through whom it went, what the code did.
    pub story: Vec<String>,
    /// For counting equal crashes.
    pub bucket: BucketReport,
    /// By confidence, highest first; never empty.
    pub hypotheses: Vec<HypothesisReport>,
    /// What to do, in order.
    pub next_steps: Vec<NextStepReport>,
    /// What would have helped and why it is not there.
    pub missing: Vec<String>,
}

/// For counting equal crashes.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct BucketReport {
    /// Hash of version and text.
    pub id: String,
    /// Version of the rules that made it.
    pub version: u32,
    /// Its parts, readable.
    pub text: String,
}

/// A possible cause.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct HypothesisReport {
    /// One of the classes in the documentation.
    pub class: String,
    /// Who, if anybody can be named.
    pub suspect: Option<SuspectReport>,
    /// Probability that class and suspect are the cause.
    pub confidence: f64,
    /// Strongest first.
    pub supports: Vec<EvidenceReport>,
    /// Strongest first.
    pub contradicts: Vec<EvidenceReport>,
}

/// Who or what is suspected.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SuspectReport {
    /// `driver`, `os`, `hardware`, `firmware`, `device`, `process`, `person`.
    pub kind: String,
    /// Lower-case image file name.
    pub module: Option<String>,
    /// How to call it.
    pub name: String,
}

/// An item of evidence.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct EvidenceReport {
    /// The fact with its figures.
    pub text: String,
    /// The debugger command that shows it.
    pub command: Option<String>,
    /// The address it is about.
    pub address: Option<String>,
    /// Strength in log-odds.
    pub weight: f64,
    /// What it rests on: `arguments`, `context`, `code_bytes`, `stack`, `modules`, `memory`, `environment`, …
    pub basis: String,
}

/// Something to do.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NextStepReport {
    /// What.
    pub text: String,
    /// Why it helps.
    pub reason: String,
    /// How to take it back.
    pub undo: Option<String>,
}

/// A problem of the input.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ProblemReport {
    /// `note`, `warning`, `error`.
    pub severity: String,
    /// What is wrong.
    pub what: String,
    /// Where.
    #[serde(rename = "where")]
    pub place: String,
    /// What can be done.
    pub hint: Option<String>,
}
