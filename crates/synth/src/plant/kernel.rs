//! The kernels that machines are planted with.

use crate::Hex;
use crate::kdbg;
use crate::machine::{Encoding, Kernel, Pdb};
use stopcode_symbols::{KernelBuild, kernel_builds, symbol_names};

/// A kernel of which enough is known.
pub(super) struct Profile {
    pub(super) build: u32,
    /// File version, by which the table of kernels knows it.
    pub(super) version: &'static str,
    /// The update whose structures it has; none for what the layouts hold only one of.
    pub(super) revision: Option<u32>,
    /// Zero where it is not known: it is made up then.
    pub(super) time_stamp: u32,
    pub(super) size: u32,
    /// Where `KiPageFault` calls on, behind its start, as published stacks have it.
    pub(super) page_fault_call: u64,
}

pub(super) static PROFILES: [Profile; 6] = [
    Profile {
        build: 7601,
        version: "6.1.7601.24540",
        revision: Some(24540),
        time_stamp: 0,
        size: 0x5e_9000,
        page_fault_call: 0x260,
    },
    Profile {
        build: 9600,
        version: "6.3.9600.20778",
        revision: Some(20778),
        time_stamp: 0,
        size: 0x7a_2000,
        page_fault_call: 0x23d,
    },
    Profile {
        build: 17763,
        version: "10.0.17763.4010",
        revision: Some(4010),
        time_stamp: 0xb7f8_ea88,
        size: 0xa6_d000,
        page_fault_call: 0x42e,
    },
    Profile {
        build: 19041,
        version: "10.0.19041.804",
        revision: Some(804),
        time_stamp: 0x0d83_33e6,
        size: 0x104_6000,
        page_fault_call: 0x469,
    },
    Profile {
        build: 22000,
        version: "10.0.22000.1335",
        revision: Some(1335),
        time_stamp: 0xd6e4_6b79,
        size: 0x104_7000,
        page_fault_call: 0x463,
    },
    Profile {
        build: 26100,
        version: "10.0.26100.2314",
        revision: None,
        time_stamp: 0x3c50_28de,
        size: 0x144_f000,
        page_fault_call: 0x463,
    },
];

/// The debugger data of dumps of 26100.2314 and its `KeBugCheckEx`: the table of kernels has none of that build. The
/// other functions are made up.
static GLOBALS_26100: [(&str, u64); 26] = [
    ("PsLoadedModuleList", 0xef_4790),
    ("PsActiveProcessHead", 0xf0_4e30),
    ("PspCidTable", 0xfc_4cb0),
    ("ExpSystemResourcesList", 0xef_9cc0),
    ("KeTimeIncrement", 0xfc_4b68),
    ("KeBugCheckCallbackListHead", 0xf2_1540),
    ("KiBugCheckData", 0xf2_15a0),
    ("IopErrorLogListHead", 0xf8_b470),
    ("MmPfnDatabase", 0xfc_4c38),
    ("PoolTrackTable", 0xef_dde8),
    ("NtBuildLabEx", 0xfc_21c0),
    ("KiProcessorBlock", 0xfc_6c00),
    ("MmUnloadedDrivers", 0xef_47b8),
    ("MmLastUnloadedDriver", 0xef_47b0),
    ("MmSpecialPoolTag", 0xfc_4c2c),
    ("MmVerifierData", 0xf0_3380),
    ("CmNtCSDVersion", 0xfc_21a0),
    ("MmPhysicalMemoryBlock", 0xfc_4b88),
    ("KdDebuggerDataBlock", 0xe0_1040),
    ("KeBugCheckEx", 0x4b_87e0),
    ("KiBugCheckDispatch", 0x68_c600),
    ("KiPageFault", 0x68_7900),
    ("KiGeneralProtectionFault", 0x68_7600),
    ("KiDoubleFaultAbort", 0x68_6a00),
    ("KiIdleLoop", 0x67_d7a0),
    ("KiRetireDpcList", 0x2c_3310),
];

impl Profile {
    fn known(&self) -> Option<&'static KernelBuild> {
        kernel_builds().iter().find(|kernel| kernel.version == self.version)
    }

    /// The address of a function or variable, relative to the kernel; made up for a function that is not known.
    pub(super) fn rva(&self, name: &str) -> u64 {
        let known = self.known().and_then(|kernel| kernel.address_of(name)).map(u64::from);
        let of_26100 = || GLOBALS_26100.iter().find(|(global, _)| *global == name).map(|(_, rva)| *rva);
        known.or_else(|| of_26100().filter(|_| self.build == 26100)).unwrap_or_else(|| self.made_up(name))
    }

    /// Somewhere in the code behind `KeBugCheckEx`, always the same for the same name.
    fn made_up(&self, name: &str) -> u64 {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        0x2_0000 + (hash % u64::from(self.size / 8)) / 16 * 16
    }

    /// What a description says of the kernel.
    pub(super) fn kernel(&self, keys: (u64, u64)) -> Kernel {
        let address = |pointer: &str| {
            let known = |name: &&str| {
                self.known().and_then(|kernel| kernel.address_of(name)).is_some()
                    || self.build == 26100 && GLOBALS_26100.iter().any(|(global, _)| global == name)
            };
            symbol_names(pointer).into_iter().find(known).map(|name| self.rva(name))
        };
        let globals =
            kdbg::pointer_names().filter_map(|name| Some((name.to_owned(), Hex(address(name)?)))).collect();
        let block = self.rva("KdDebuggerDataBlock");
        let place = |name| self.known().and_then(|kernel| kernel.address_of(name)).map(|rva| Hex(rva.into()));
        let encoding = (|| {
            Some(Encoding {
                flag_at: place("KdpDataBlockEncoded")?,
                never_at: place("KiWaitNever")?,
                never: Hex(keys.0),
                always_at: place("KiWaitAlways")?,
                always: Hex(keys.1),
            })
        })();
        Kernel { debugger_data: Hex(block), debugger_data_list: Hex(block + 0x4_0000), globals, encoding }
    }

    /// The kernel's PDB, where it is known.
    pub(super) fn pdb(&self) -> Option<Pdb> {
        let key = self.known()?.key.to_string();
        let (guid, age) = key.split_once('-')?;
        Some(Pdb { name: "ntkrnlmp.pdb".to_owned(), guid: guid.to_owned(), age: age.parse().ok()? })
    }
}
