//! `DUMP_HEADER64` and `DUMP_HEADER32`: what every kernel dump tells in its first pages.
//!
//! The writer fills the whole header with `PAGE` before it sets what it knows, so a field that still holds this
//! pattern is absent, not 0x45474150. Layout: the SDK's `mindumpdef.h`, checked on real 64-bit dumps; the 32-bit
//! layout has met no real file yet.

use crate::bytes::{fixed_text, is_filler, set_u32, set_u64, u32_at, u64_at};
use crate::context;
use crate::exception::ExceptionRecord;
use crate::kind::Bits;
use std::fmt;
use stopcode_base::{Arch, FileTime, PhysAddr, Problem, Registers, Severity, VirtAddr};

/// Facts of the dump header. `None` means that the writer did not set the field, or that the file ends before it.
#[derive(Clone, PartialEq, Debug)]
pub struct Header {
    /// Which of the two header layouts this is.
    pub bits: Bits,
    /// The architecture, if [`Self::machine_image_type`] is one we know.
    pub arch: Option<Arch>,
    /// `IMAGE_FILE_MACHINE_*`.
    pub machine_image_type: u32,
    /// 0xf: free (retail) kernel, 0xc: checked kernel.
    pub major_version: u32,
    /// Build number of Windows NT, such as 19041.
    pub minor_version: u32,
    /// CR3 or TTBR of the context that wrote the dump; the low 12 bits may hold a PCID.
    pub directory_table_base: Option<PhysAddr>,
    /// Where `nt!MmPfnDatabase` lies: the variable, not the database.
    pub pfn_database: Option<VirtAddr>,
    /// Head of the list of loaded modules.
    pub ps_loaded_module_list: Option<VirtAddr>,
    /// Head of the list of processes.
    pub ps_active_process_head: Option<VirtAddr>,
    /// Processors that ran.
    pub number_processors: u32,
    /// The stop code as recorded, with the high bits some codes carry (`0x1000007e`).
    pub bug_check_code: u32,
    /// Its four arguments.
    pub bug_check_parameters: [u64; 4],
    /// Where `KDDEBUGGER_DATA64` lies.
    pub kd_debugger_data_block: Option<VirtAddr>,
    /// DumpType as recorded; [`crate::Kind`] says what it means.
    pub dump_type: Option<u32>,
    /// When the system crashed, UTC.
    pub system_time: Option<FileTime>,
    /// Time since start, in units of 100 ns.
    pub system_uptime: Option<u64>,
    /// Comment, as a debugger's `.dump` leaves one.
    pub comment: Option<String>,
    /// 1 workstation, 2 domain controller, 3 server.
    pub product_type: Option<u32>,
    /// `VER_SUITE_*` bits.
    pub suite_mask: Option<u32>,
    /// What the writer says about the dump as a whole.
    pub attributes: Option<Attributes>,
    /// Counts the system's starts.
    pub boot_id: Option<u32>,
    /// The exception record; a plain bug check leaves a breakpoint at KeBugCheckEx here.
    pub exception: Option<ExceptionRecord>,
    /// The context that the dump reports: of the exception, where there was one.
    pub context: Option<Registers>,
    /// `ContextFlags` of [`Self::context`].
    pub context_flags: Option<u32>,
    /// The size the writer planned; may be larger than the file, which is no sign of damage.
    pub required_dump_space: Option<u64>,
    /// Which parts a triage dump was to have.
    pub minidump_fields: Option<u32>,
    /// NTSTATUS of writing the secondary data.
    pub secondary_data_state: Option<u32>,
    /// NTSTATUS of writing the dump.
    pub writer_status: Option<u32>,
    /// 32-bit only: physical address extension was on.
    pub pae_enabled: Option<bool>,
}

impl Header {
    /// Reads the header at the start of `head`; `None` if not even the stop code is there. What is odd goes to
    /// `problems`.
    pub(crate) fn parse(head: &[u8], bits: Bits, problems: &mut Vec<Problem>) -> Option<Self> {
        let header = match bits {
            Bits::B32 => Self::parse32(head)?,
            Bits::B64 => Self::parse64(head)?,
        };
        header.check(head, problems);
        Some(header)
    }

    fn parse64(head: &[u8]) -> Option<Self> {
        let machine_image_type = u32_at(head, 0x30)?;
        let arch = Arch::from_machine(machine_image_type);
        let context = arch.and_then(|arch| context::parse(arch, head.get(0x348..0xf00)?));
        let mut bug_check_parameters = [0; 4];
        for (n, parameter) in bug_check_parameters.iter_mut().enumerate() {
            *parameter = u64_at(head, 0x40 + 8 * n)?;
        }
        let address = |offset| set_u64(head, offset).map(VirtAddr);
        Some(Self {
            bits: Bits::B64,
            arch,
            machine_image_type,
            major_version: u32_at(head, 8)?,
            minor_version: u32_at(head, 0xc)?,
            directory_table_base: set_u64(head, 0x10).map(PhysAddr),
            pfn_database: address(0x18),
            ps_loaded_module_list: address(0x20),
            ps_active_process_head: address(0x28),
            number_processors: u32_at(head, 0x34)?,
            bug_check_code: u32_at(head, 0x38)?,
            bug_check_parameters,
            kd_debugger_data_block: address(0x80),
            dump_type: set_u32(head, 0xf98),
            system_time: set_u64(head, 0xfa8).map(FileTime),
            system_uptime: set_u64(head, 0x1030),
            comment: fixed_text(head, 0xfb0..0x1030),
            product_type: set_u32(head, 0x1040),
            suite_mask: set_u32(head, 0x1044),
            attributes: set_u32(head, 0x1050).map(Attributes),
            boot_id: set_u32(head, 0x1054),
            exception: head.get(0xf00..0xf98).and_then(ExceptionRecord::from_header),
            context: context.map(|(registers, _)| registers),
            context_flags: context.map(|(_, flags)| flags),
            required_dump_space: set_u64(head, 0xfa0),
            minidump_fields: set_u32(head, 0x1038),
            secondary_data_state: set_u32(head, 0x103c),
            writer_status: set_u32(head, 0x1048),
            pae_enabled: None,
        })
    }

    fn parse32(head: &[u8]) -> Option<Self> {
        let machine_image_type = u32_at(head, 0x20)?;
        let arch = Arch::from_machine(machine_image_type);
        let context = arch.and_then(|arch| context::parse(arch, head.get(0x320..0x7d0)?));
        let mut bug_check_parameters = [0; 4];
        for (n, parameter) in bug_check_parameters.iter_mut().enumerate() {
            *parameter = u64::from(u32_at(head, 0x2c + 4 * n)?);
        }
        let address = |offset| set_u32(head, offset).map(|low| VirtAddr(u64::from(low)));
        Some(Self {
            bits: Bits::B32,
            arch,
            machine_image_type,
            major_version: u32_at(head, 8)?,
            minor_version: u32_at(head, 0xc)?,
            directory_table_base: set_u32(head, 0x10).map(|low| PhysAddr(u64::from(low))),
            pfn_database: address(0x14),
            ps_loaded_module_list: address(0x18),
            ps_active_process_head: address(0x1c),
            number_processors: u32_at(head, 0x24)?,
            bug_check_code: u32_at(head, 0x28)?,
            bug_check_parameters,
            kd_debugger_data_block: address(0x60),
            dump_type: set_u32(head, 0xf88),
            system_time: set_u64(head, 0xfc0).map(FileTime),
            system_uptime: set_u64(head, 0xfb8),
            comment: fixed_text(head, 0x820..0x8a0),
            product_type: set_u32(head, 0xf94),
            suite_mask: set_u32(head, 0xf98),
            attributes: set_u32(head, 0x8a0).map(Attributes),
            boot_id: set_u32(head, 0x8a4),
            exception: head.get(0x7d0..0x820).and_then(ExceptionRecord::from_header32),
            context: context.map(|(registers, _)| registers),
            context_flags: context.map(|(_, flags)| flags),
            required_dump_space: set_u64(head, 0xfa0),
            minidump_fields: set_u32(head, 0xf8c),
            secondary_data_state: set_u32(head, 0xf90),
            writer_status: set_u32(head, 0xf9c),
            pae_enabled: head.get(0x5c).filter(|b| **b <= 1).map(|b| *b == 1),
        })
    }

    fn check(&self, head: &[u8], problems: &mut Vec<Problem>) {
        let mut warn =
            |place: &str, what: String| problems.push(Problem::new(Severity::Warning, place, what));
        let size = self.bits.header_size();
        if head.len() < size {
            warn(
                "dump header",
                format!("the file ends after {:#x} of the header's {size:#x} bytes", head.len()),
            );
        }
        if self.arch.is_none() {
            let machine = self.machine_image_type;
            warn("dump header, MachineImageType", format!("{machine:#x} is no architecture we know"));
        }
        if is_filler(self.bug_check_code) {
            warn("dump header, BugCheckCode", "the writer never set the stop code".to_owned());
        }
        if let (Some(arch), Some(flags)) = (self.arch, self.context_flags)
            && context::flags_contradict(arch, flags)
        {
            let what = format!("ContextFlags {flags:#x} are not those of {arch}: the registers may be wrong");
            warn("dump header, ContextRecord", what);
        }
    }
}

/// `DUMP_FILE_ATTRIBUTES`: bits that describe how the dump was written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attributes(pub u32);

impl Attributes {
    const NAMES: [&'static str; 10] = [
        "HiberCrash",
        "DumpDevicePowerOff",
        "InsufficientDumpfileSize",
        "KernelGeneratedTriageDump",
        "LiveDumpGeneratedDump",
        "DumpIsGeneratedOffline",
        "FilterDumpFile",
        "EarlyBootCrash",
        "EncryptedDumpData",
        "DecryptedDump",
    ];

    /// Crashed while hibernating or waking.
    pub const HIBER_CRASH: Self = Self(1);
    /// The dump file was too small for all that should have gone into it.
    pub const INSUFFICIENT_DUMPFILE_SIZE: Self = Self(1 << 2);
    /// A live dump: the system went on running.
    pub const LIVE_DUMP: Self = Self(1 << 4);
    /// An active dump: pages of no interest were left out.
    pub const FILTER_DUMP_FILE: Self = Self(1 << 6);
    /// The dump is encrypted and cannot be read as it is.
    pub const ENCRYPTED: Self = Self(1 << 8);

    /// True if every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Names of the set bits that the SDK names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        (0..).zip(Self::NAMES).filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| name)
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
