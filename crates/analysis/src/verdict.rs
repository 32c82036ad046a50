//! The verdict as data: hypotheses with evidence for and against, and what would settle the rest.

use crate::strength::Strength;
use stopcode_base::VirtAddr;

/// What kind of cause a hypothesis names. The identifiers are part of the JSON format and never change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A driver did something wrong.
    DriverBug,
    /// Driver Verifier caught a driver at it.
    VerifierDetectedDriverBug,
    /// A driver damaged pool or another shared structure; the crash came later, elsewhere.
    PoolCorruptionByDriver,
    /// An antivirus or filter driver.
    AntivirusOrFilterDriver,
    /// A kernel stack ran out.
    KernelStackOverflow,
    /// Memory modules or their settings.
    MemoryHardware,
    /// The processor, its voltage or clock.
    ProcessorHardware,
    /// A disk, its cable or controller.
    StorageHardware,
    /// Heat or power supply.
    OverheatingOrPower,
    /// Firmware.
    FirmwareBios,
    /// Graphics: driver or card.
    GpuDriverOrHardware,
    /// A USB device or its driver.
    UsbDevice,
    /// A bug of Windows itself.
    OsBug,
    /// Damaged file system or system files.
    FilesystemCorruption,
    /// Wrong settings.
    Misconfiguration,
    /// Something waited for ever.
    DeadlockOrHang,
    /// Somebody wanted this stop.
    IntentionalOrTest,
    /// A hook, a rootkit, a cheat, an anti-cheat or a research tool changed the kernel.
    TamperingOrResearchTool,
    /// Not known.
    Unknown,
}

impl Class {
    /// Every class, in the order of the documentation.
    pub const ALL: [Self; 19] = [
        Self::DriverBug,
        Self::VerifierDetectedDriverBug,
        Self::PoolCorruptionByDriver,
        Self::AntivirusOrFilterDriver,
        Self::KernelStackOverflow,
        Self::MemoryHardware,
        Self::ProcessorHardware,
        Self::StorageHardware,
        Self::OverheatingOrPower,
        Self::FirmwareBios,
        Self::GpuDriverOrHardware,
        Self::UsbDevice,
        Self::OsBug,
        Self::FilesystemCorruption,
        Self::Misconfiguration,
        Self::DeadlockOrHang,
        Self::IntentionalOrTest,
        Self::TamperingOrResearchTool,
        Self::Unknown,
    ];

    /// The identifier used in JSON.
    pub const fn id(self) -> &'static str {
        match self {
            Self::DriverBug => "driver_bug",
            Self::VerifierDetectedDriverBug => "verifier_detected_driver_bug",
            Self::PoolCorruptionByDriver => "pool_corruption_by_driver",
            Self::AntivirusOrFilterDriver => "antivirus_or_filter_driver",
            Self::KernelStackOverflow => "kernel_stack_overflow",
            Self::MemoryHardware => "memory_hardware",
            Self::ProcessorHardware => "processor_hardware",
            Self::StorageHardware => "storage_hardware",
            Self::OverheatingOrPower => "overheating_or_power",
            Self::FirmwareBios => "firmware_bios",
            Self::GpuDriverOrHardware => "gpu_driver_or_hardware",
            Self::UsbDevice => "usb_device",
            Self::OsBug => "os_bug",
            Self::FilesystemCorruption => "filesystem_corruption",
            Self::Misconfiguration => "misconfiguration",
            Self::DeadlockOrHang => "deadlock_or_hang",
            Self::IntentionalOrTest => "intentional_or_test",
            Self::TamperingOrResearchTool => "tampering_or_research_tool",
            Self::Unknown => "unknown",
        }
    }

    /// The class in a sentence: `a bug in a driver`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::DriverBug => "a bug in a driver",
            Self::VerifierDetectedDriverBug => "a driver bug that Driver Verifier caught",
            Self::PoolCorruptionByDriver => "memory damaged earlier by a driver",
            Self::AntivirusOrFilterDriver => "an antivirus or filter driver",
            Self::KernelStackOverflow => "a kernel stack that ran out",
            Self::MemoryHardware => "failing memory",
            Self::ProcessorHardware => "an unstable processor",
            Self::StorageHardware => "a failing disk, cable or controller",
            Self::OverheatingOrPower => "heat or power supply",
            Self::FirmwareBios => "firmware",
            Self::GpuDriverOrHardware => "the graphics driver or card",
            Self::UsbDevice => "a USB device or its driver",
            Self::OsBug => "a bug in Windows",
            Self::FilesystemCorruption => "damaged files or file system",
            Self::Misconfiguration => "wrong settings",
            Self::DeadlockOrHang => "a hang",
            Self::IntentionalOrTest => "a stop that somebody asked for",
            Self::TamperingOrResearchTool => "a tool that changes the kernel",
            Self::Unknown => "unknown",
        }
    }
}

/// What kind of thing is suspected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum SuspectKind {
    /// A driver image.
    Driver,
    /// Windows itself.
    Os,
    /// A part of the machine.
    Hardware,
    /// Firmware.
    Firmware,
    /// A device.
    Device,
    /// A user-mode process.
    Process,
    /// A person.
    Person,
}

impl SuspectKind {
    /// The identifier used in JSON.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Os => "os",
            Self::Hardware => "hardware",
            Self::Firmware => "firmware",
            Self::Device => "device",
            Self::Process => "process",
            Self::Person => "person",
        }
    }
}

/// Who or what is suspected.
#[derive(Clone, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Suspect {
    /// What kind of thing it is.
    pub kind: SuspectKind,
    /// Lower-case image file name, for drivers, Windows' own images and processes.
    pub module: Option<String>,
    /// How to call it: `amdppm.sys (AMD processor power management)`, `memory modules`.
    pub name: String,
}

/// What an item of evidence rests on. A sound verdict rests on several kinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Basis {
    /// The stop code and its arguments.
    Arguments,
    /// Registers, trap frame, exception record.
    Context,
    /// Bytes of code.
    CodeBytes,
    /// Frames of a stack.
    Stack,
    /// Module list, dates, unloaded drivers.
    Modules,
    /// Memory contents, page-table entries.
    Memory,
    /// The system: uptime, processors, hypervisor, firmware, processes.
    Environment,
    /// Driver Verifier.
    Verifier,
    /// Other dumps of the same machine.
    Series,
    /// What the field knows.
    Knowledge,
}

/// One fact that speaks for or against a hypothesis, with the command that shows it.
#[derive(Clone, PartialEq, Debug)]
pub struct Evidence {
    /// The fact, with its figures.
    pub text: String,
    /// The debugger command that shows it.
    pub command: Option<String>,
    /// The address it is about.
    pub address: Option<VirtAddr>,
    /// Strength in log-odds (natural logarithm), always positive; the side it stands on gives the sign.
    pub weight: f64,
    /// The step of the scale that the weight comes from; `None` where a rule works a figure out.
    pub strength: Option<Strength>,
    /// What it rests on.
    pub basis: Basis,
    /// The one bit that was found flipped: a series in which the same bit returns is telling.
    pub flipped_bit: Option<u8>,
}

/// How sure a confidence is, in words; the same scale wherever a report speaks of one (see STYLE.md).
pub fn confidence_words(confidence: f64) -> &'static str {
    match confidence {
        c if c >= 0.9 => "almost certain",
        c if c >= 0.7 => "likely",
        c if c >= 0.5 => "more likely than not",
        c if c >= 0.3 => "plausible",
        c if c >= 0.05 => "possible",
        _ => "unlikely",
    }
}

/// A possible cause.
#[derive(Clone, PartialEq, Debug)]
pub struct Hypothesis {
    /// What kind of cause.
    pub class: Class,
    /// Who, if anybody can be named.
    pub suspect: Option<Suspect>,
    /// Probability that class and suspect are the cause.
    pub confidence: f64,
    /// What speaks for it, strongest first.
    pub supports: Vec<Evidence>,
    /// What speaks against it, strongest first.
    pub contradicts: Vec<Evidence>,
}

/// Something the owner of the machine can do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NextStep {
    /// What to do.
    pub text: String,
    /// Why it helps.
    pub reason: String,
    /// How to take it back, where that is not obvious.
    pub undo: Option<String>,
}

/// Crashes with the same bucket look like the same crash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// Hash of version and text, 16 hex digits.
    pub id: String,
    /// Version of the rules that made it.
    pub version: u32,
    /// Readable parts, joined: `0x7e|0xc0000005|amdppm.sys+0x334c`.
    pub text: String,
}

/// What happened, who did it, how sure we are, on what evidence, and what to do next.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    /// Two or three sentences.
    pub summary: String,
    /// What was going on, in sentences of facts: how it began, through whom it went, what the code did.
    pub story: Vec<String>,
    /// For counting equal crashes.
    pub bucket: Bucket,
    /// By confidence, highest first; never empty.
    pub hypotheses: Vec<Hypothesis>,
    /// In the order in which to do them.
    pub next_steps: Vec<NextStep>,
    /// Facts that would have helped and why they are not there.
    pub missing: Vec<String>,
}
