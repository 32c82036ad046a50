//! Where a build keeps its fields.
//!
//! Offsets come from the layout pack of `stopcode-symbols`, which is made from public type tables: facts about Windows,
//! and nothing of how dumps are read. What the public tables leave out (the greater part of the KPRCB since 22621) is
//! as the debugger data of real dumps of that build tells it.

use crate::{Error, machine};
use stopcode_base::Arch;
use stopcode_symbols::{Layouts, Wanted};

/// A build that can be written.
struct Build {
    number: u32,
    /// The update whose structures are taken where the description names none.
    revision: Option<u32>,
    /// `Size` of KDDEBUGGER_DATA64: fields beyond it do not exist.
    kdbg_size: usize,
    /// What real dumps of the build say and the pack does not: type, field, offset; no field for a size.
    known: &'static [(&'static str, &'static str, usize)],
}

/// x64 builds, oldest first.
static BUILDS: [Build; 8] = [
    // As released, before the page-table isolation of 2018 moved the KPRCB.
    Build { number: 7601, revision: Some(0), kdbg_size: 0x340, known: &[] },
    Build { number: 9600, revision: Some(0), kdbg_size: 0x360, known: &[] },
    Build { number: 14393, revision: Some(6343), kdbg_size: 0x368, known: &[] },
    Build { number: 17763, revision: Some(5933), kdbg_size: 0x380, known: &[] },
    Build { number: 19041, revision: Some(804), kdbg_size: 0x380, known: &[] },
    Build { number: 20348, revision: Some(2529), kdbg_size: 0x380, known: &[] },
    Build { number: 22000, revision: Some(2538), kdbg_size: 0x380, known: &[] },
    Build { number: 26100, revision: None, kdbg_size: 0x3a0, known: &KNOWN_26100 },
];

/// x86 builds, oldest first; the size of the debugger data is that of the version, whatever the processor.
static BUILDS_X86: [Build; 5] = [
    Build { number: 2600, revision: Some(5512), kdbg_size: 0x290, known: &[] },
    Build { number: 3790, revision: Some(3959), kdbg_size: 0x318, known: &[] },
    Build { number: 7601, revision: Some(17514), kdbg_size: 0x340, known: &[] },
    Build { number: 9600, revision: Some(17415), kdbg_size: 0x360, known: &[] },
    Build { number: 19041, revision: Some(1288), kdbg_size: 0x380, known: &[] },
];

/// KDBG of dumps of 26100.2314.
static KNOWN_26100: [(&str, &str, usize); 8] = [
    ("_KPRCB", "", 0xcf00),
    ("_KPCR", "", 0xd080),
    ("_KPRCB", "DpcStack", 0x38a0),
    ("_KPRCB", "DpcRoutineActive", 0x38ba),
    ("_KPRCB", "NormalDpcState", 0x38bc),
    ("_KPRCB", "VendorString", 0x8f90),
    ("_KPRCB", "Context", 0x8fc0),
    ("_KPRCB", "IsrStack", 0x8fd8),
];

/// KDBG of a dump of 22000 on ARM64, and what its lists and names show: the process's links lead to
/// `PsActiveProcessHead`, its id is 4 and its name System.
static ARM64_22000: Build = Build { number: 22000, revision: None, kdbg_size: 0x380, known: &KNOWN_ARM64 };

static KNOWN_ARM64: [(&str, &str, usize); 46] = [
    ("_KPRCB", "", 0x9680),
    ("_KPCR", "", 0xa000),
    ("_EPROCESS", "", 0xc80),
    ("_ETHREAD", "", 0x910),
    ("_MM_DRIVER_VERIFIER_DATA", "", 0xb0),
    ("_KPCR", "Self", 0x18),
    ("_KPRCB", "CurrentThread", 0x8),
    ("_KPRCB", "IdleThread", 0x18),
    ("_KPRCB", "Number", 0x24),
    ("_KPRCB", "ProcessorState", 0x40),
    ("_KPROCESSOR_STATE", "ContextFrame", 0x320),
    ("_KPRCB", "CpuType", 0x6f0),
    ("_KPRCB", "MHz", 0x6f4),
    ("_KPRCB", "VendorString", 0x890),
    ("_KPRCB", "Context", 0x8a0),
    ("_KPRCB", "DpcStack", 0xaf8),
    ("_KPRCB", "DpcRoutineActive", 0xb1a),
    ("_KPRCB", "NormalDpcState", 0xb1c),
    ("_KPRCB", "IsrStack", 0x18e0),
    ("_KTHREAD", "Header", 0),
    ("_KTHREAD", "InitialStack", 0x28),
    ("_KTHREAD", "StackLimit", 0x30),
    ("_KTHREAD", "StackBase", 0x38),
    ("_KTHREAD", "KernelStack", 0x58),
    ("_KTHREAD", "ApcState", 0x90),
    ("_KAPC_STATE", "Process", 0x20),
    ("_KTHREAD", "Teb", 0xe8),
    ("_KTHREAD", "State", 0x17c),
    ("_KTHREAD", "QueueListEntry", 0x200),
    ("_KTHREAD", "NextProcessor", 0x238),
    ("_KTHREAD", "WaitReason", 0x2a3),
    ("_ETHREAD", "Cid", 0x4e8),
    ("_ETHREAD", "IrpList", 0x520),
    ("_KPROCESS", "Header", 0),
    ("_KPROCESS", "DirectoryTableBase", 0x28),
    ("_EPROCESS", "UniqueProcessId", 0x3f8),
    ("_EPROCESS", "ActiveProcessLinks", 0x400),
    ("_EPROCESS", "CreateTime", 0x420),
    ("_EPROCESS", "InheritedFromUniqueProcessId", 0x4f8),
    ("_EPROCESS", "Peb", 0x508),
    ("_EPROCESS", "ImageFileName", 0x560),
    ("_EPROCESS", "ThreadListHead", 0x598),
    ("_EPROCESS", "ActiveThreads", 0x5a8),
    ("_ETHREAD", "ThreadListEntry", 0x558),
    ("_MM_DRIVER_VERIFIER_DATA", "Level", 0),
    ("_MM_DRIVER_VERIFIER_DATA", "RaiseIrqls", 4),
];

/// The layout of one build.
pub(crate) struct Layout {
    pub(crate) arch: machine::Arch,
    build: &'static Build,
    /// Absent for what the pack does not have: then only known fields are written.
    pack: Option<stopcode_symbols::Layout>,
    /// `Size` of KDDEBUGGER_DATA64.
    pub(crate) kdbg_size: usize,
}

// The same in every build of an architecture.
const PCR_PRCB: u16 = 0x180;
const ARM64_PCR_PRCB: u16 = 0x980;
const X86_PCR_PRCB: u16 = 0x120;

/// The layout of a build, as of an update of it.
pub(crate) fn of(arch: machine::Arch, build: u32, revision: Option<u32>) -> Result<Layout, Error> {
    if arch == machine::Arch::Arm64 {
        let build =
            Some(&ARM64_22000).filter(|known| known.number == build).ok_or(Error::UnknownBuild(build))?;
        return Ok(Layout { arch, build, pack: None, kdbg_size: build.kdbg_size });
    }
    let (builds, of_pack) = match arch {
        machine::Arch::X86 => (BUILDS_X86.as_slice(), Arch::X86),
        _ => (BUILDS.as_slice(), Arch::X64),
    };
    let known = builds.iter().find(|known| known.number == build).ok_or(Error::UnknownBuild(build))?;
    let wanted =
        Wanted { arch: of_pack, build, revision: revision.or(known.revision), sizes: None, offsets: &[] };
    let pack = Layouts::for_kernel(&wanted).map_err(|_| Error::UnknownBuild(build))?;
    Ok(Layout { arch, build: known, pack: Some(pack), kdbg_size: known.kdbg_size })
}

impl Layout {
    /// Where a field lies; `None` if the build has none of that name, or its place is not known.
    pub(crate) fn at(&self, ty: &str, field: &str) -> Option<usize> {
        let known = self.build.known.iter().find(|known| (known.0, known.1) == (ty, field));
        known
            .map(|known| known.2)
            .or_else(|| self.pack.as_ref()?.field(ty, field).map(|field| field.offset as usize))
    }

    /// Where a field lies that every build has.
    pub(crate) fn field(&self, ty: &str, field: &str) -> Result<usize, Error> {
        self.at(ty, field)
            .ok_or_else(|| Error::UnknownField { what: format!("{ty}.{field}"), build: self.build.number })
    }

    /// Bytes of a structure.
    pub(crate) fn size(&self, ty: &str) -> Result<usize, Error> {
        let known = self.build.known.iter().find(|known| (known.0, known.1) == (ty, ""));
        let size =
            known.map(|known| known.2).or_else(|| self.pack.as_ref()?.size(ty).map(|size| size as usize));
        size.ok_or_else(|| Error::UnknownField { what: ty.to_owned(), build: self.build.number })
    }

    /// True where a field that is to be written may be missing, and is left out then: of ARM64 not all are known, and
    /// the builds of x86 that are written lie further apart than those of x64.
    pub(crate) fn is_partial(&self) -> bool {
        self.arch != machine::Arch::X64
    }

    /// Bytes of the KPCR before its KPRCB.
    pub(crate) fn pcr_prcb(&self) -> u16 {
        match self.arch {
            machine::Arch::X64 => PCR_PRCB,
            machine::Arch::Arm64 => ARM64_PCR_PRCB,
            machine::Arch::X86 => X86_PCR_PRCB,
        }
    }

    /// Up to Windows 7 the context inside the processor state is filled, and the memory manager's part of the small
    /// dump.
    pub(crate) fn is_windows_7(&self) -> bool {
        self.build.number < 9200
    }

    /// Bytes of a processor's number. Before Windows 7 had groups of processors it was one.
    pub(crate) fn processor_number(&self) -> usize {
        if self.build.number < 7600 { 1 } else { 4 }
    }

    /// `ServicePackBuild` of the small dump.
    pub(crate) fn service_pack(&self) -> usize {
        if self.build.number == 7601 { 0x100 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every build has all that the writer needs of it.
    #[test]
    fn every_build_is_whole() {
        for build in &BUILDS {
            let layout = of(machine::Arch::X64, build.number, None).unwrap();
            for ty in ["_KPRCB", "_KPCR", "_ETHREAD", "_EPROCESS", "_MM_DRIVER_VERIFIER_DATA", "_IRP"] {
                assert!(layout.size(ty).unwrap() > 0x90, "{ty} of {}", build.number);
            }
            for (ty, field) in [
                ("_KPRCB", "Context"),
                ("_KPRCB", "DpcStack"),
                ("_KTHREAD", "WaitReason"),
                ("_ETHREAD", "ThreadListEntry"),
                ("_EPROCESS", "ActiveProcessLinks"),
            ] {
                assert!(layout.field(ty, field).is_ok(), "{ty}.{field} of {}", build.number);
            }
        }
    }

    /// Of x86 a build may lack a field, but none without which nobody finds threads and processes.
    #[test]
    fn every_x86_build_has_what_leads_on() {
        for build in &BUILDS_X86 {
            let layout = of(machine::Arch::X86, build.number, None).unwrap();
            for (ty, field) in [
                ("_KPRCB", "CurrentThread"),
                ("_KPRCB", "Number"),
                ("_KPRCB", "ProcessorState"),
                ("_KTHREAD", "StackLimit"),
                ("_KTHREAD", "StackBase"),
                ("_KTHREAD", "ApcState"),
                ("_ETHREAD", "Cid"),
                ("_EPROCESS", "ActiveProcessLinks"),
                ("_EPROCESS", "ImageFileName"),
                ("_KPCR", "SelfPcr"),
            ] {
                assert!(layout.field(ty, field).is_ok(), "{ty}.{field} of {}", build.number);
            }
            assert_eq!(layout.field("_KPCR", "PrcbData").unwrap(), usize::from(layout.pcr_prcb()));
        }
    }

    /// Figures of the debugger data in real dumps: 9600, 19041 and 26100.
    #[test]
    fn real_dumps_agree() {
        let sizes = |build| {
            let layout = of(machine::Arch::X64, build, None).unwrap();
            ["_KPRCB", "_ETHREAD", "_EPROCESS"].map(|ty| layout.size(ty).unwrap())
        };
        assert_eq!(sizes(19041), [0xaf00, 0x898, 0xa40]);
        assert_eq!(sizes(7601), [0x4d00, 0x498, 0x4d0]);
        let layout = of(machine::Arch::X64, 26100, None).unwrap();
        assert_eq!(layout.at("_KTHREAD", "State"), Some(0x184));
        assert_eq!(layout.at("_EPROCESS", "Peb"), Some(0x2e0));
        assert_eq!(layout.at("_EPROCESS", "InheritedFromUniqueProcessId"), Some(0x2d0));
        assert!(matches!(of(machine::Arch::X64, 12345, None), Err(Error::UnknownBuild(12345))));
    }
}
