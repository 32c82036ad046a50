//! A driver with code: a PE file of a few functions that begin and end as compilers make them, with unwind data.

use super::rng::Rng;
use crate::Hex;
use crate::image::{self, Assembly, Function};
use crate::machine::{Module, Pdb};

/// Names of drivers that exist, and of some that do not.
pub(super) const NAMES: [&str; 40] = [
    "nvlddmkm.sys",
    "amdkmdag.sys",
    "igdkmd64.sys",
    "Netwtw08.sys",
    "rtwlane.sys",
    "bcmwl63a.sys",
    "e1d68x64.sys",
    "rt640x64.sys",
    "iaStorAC.sys",
    "iaStorE.sys",
    "aswSP.sys",
    "aswNetSec.sys",
    "klif.sys",
    "epfwwfp.sys",
    "mfehidk.sys",
    "WinDivert64.sys",
    "RTKVHD64.sys",
    "SynTP.sys",
    "truecrypt.sys",
    "vgk.sys",
    "BEDaisy.sys",
    "AsIO3.sys",
    "cpuz153_x64.sys",
    "ElbyCDIO.sys",
    "exnetflt.sys",
    "exdisk.sys",
    "qzaudio.sys",
    "varbus64.sys",
    "onyxflt.sys",
    "merlinusb.sys",
    "tbfilter.sys",
    "sundialpf.sys",
    "kobaltnet.sys",
    "havenfs.sys",
    "quillscan.sys",
    "pelikanhid.sys",
    "ostrichvpn.sys",
    "larkcam.sys",
    "drumlin.sys",
    "zephyrgpu.sys",
];

/// Number of rsp among the registers.
pub(super) const RSP: u8 = 4;

/// How an instruction uses the memory it faults on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Form {
    prefix: &'static [u8],
    wide: bool,
    opcode: &'static [u8],
    /// The register operand, or the extension of the opcode.
    reg: u8,
    immediate: &'static [u8],
    pub(super) writes: bool,
}

/// Loads, stores, and what does both.
pub(super) const FORMS: [Form; 8] = [
    Form { prefix: &[], wide: true, opcode: &[0x8b], reg: 0, immediate: &[], writes: false },
    Form { prefix: &[], wide: false, opcode: &[0x8b], reg: 2, immediate: &[], writes: false },
    Form { prefix: &[], wide: false, opcode: &[0x89], reg: 2, immediate: &[], writes: true },
    Form { prefix: &[], wide: true, opcode: &[0x89], reg: 0, immediate: &[], writes: true },
    Form { prefix: &[], wide: false, opcode: &[0xff], reg: 0, immediate: &[], writes: true },
    Form { prefix: &[], wide: false, opcode: &[0x80], reg: 7, immediate: &[1], writes: false },
    Form { prefix: &[0xf0], wide: false, opcode: &[0x0f, 0xc1], reg: 2, immediate: &[], writes: true },
    Form { prefix: &[], wide: false, opcode: &[0x0f, 0xb6], reg: 0, immediate: &[], writes: false },
];

impl Form {
    /// The instruction with `[base+offset]` as its operand; `base` is not rsp or r12.
    pub(super) fn encode(&self, base: u8, offset: u8) -> Vec<u8> {
        let rex = 0x40 | u8::from(self.wide) << 3 | base >> 3;
        let mut bytes = self.prefix.to_vec();
        bytes.extend((rex != 0x40).then_some(rex));
        bytes.extend(self.opcode);
        bytes.extend([0x40 | self.reg << 3 | base & 7, offset]);
        bytes.extend(self.immediate);
        bytes
    }
}

/// `mov to, [from+offset]`, 64 bits wide.
pub(super) fn load(to: u8, from: u8, offset: u8) -> Vec<u8> {
    vec![0x48 | (to >> 3) << 2 | from >> 3, 0x8b, 0x40 | (to & 7) << 3 | from & 7, offset]
}

/// `test register, register` and `je` over `distance` bytes.
pub(super) fn skip_if_null(register: u8, distance: u8) -> Vec<u8> {
    let rex = 0x48 | (register >> 3) << 2 | register >> 3;
    vec![rex, 0x85, 0xc0 | (register & 7) << 3 | register & 7, 0x74, distance]
}

/// A driver under construction.
pub(super) struct Driver {
    pub(super) name: String,
    pub(super) base: u64,
    pub(super) size: u64,
    time_stamp: u32,
    text: Vec<u8>,
    functions: Vec<Function>,
}

/// A function's place, relative to the image.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    pub(super) start: u64,
    /// Bytes that its prolog takes off the stack.
    pub(super) frame: u64,
}

/// Bytes of `sub rsp, imm8`.
pub(super) const PROLOG: u64 = 4;

impl Driver {
    pub(super) fn new(rng: &mut Rng, name: &str) -> Self {
        let mut driver = Self {
            name: name.to_owned(),
            base: 0,
            size: 0x6000 + rng.below(0x18) * 0x1000,
            time_stamp: rng.below(0x1000_0000) as u32,
            text: Vec::new(),
            functions: Vec::new(),
        };
        // What stands before: functions that nobody calls here.
        for _ in 0..rng.below(24) {
            let body = vec![0x90; 8 + rng.below(0x60) as usize];
            driver.function(0x28, &body);
        }
        driver
    }

    /// Adds a function whose frame is `frame` bytes, at most 0x78: a prolog, `body`, an epilog.
    pub(super) fn function(&mut self, frame: u8, body: &[u8]) -> Placed {
        // Twins may differ in code: what differs is another file, and other files have other stamps.
        let mixed = |stamp: u32, byte: &u8| (stamp ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        self.time_stamp = body.iter().fold(self.time_stamp, mixed);
        let start = image::TEXT as u64 + self.text.len() as u64;
        self.text.extend([0x48, 0x83, 0xec, frame]);
        self.text.extend(body);
        self.text.extend([0x48, 0x83, 0xc4, frame, 0xc3]);
        let end = image::TEXT as u64 + self.text.len() as u64;
        self.functions.push(Function { start: start as u32, end: end as u32, frame });
        self.text.resize(self.text.len().next_multiple_of(16), 0xcc);
        Placed { start, frame: frame.into() }
    }

    /// Adds a function that calls another one; gives where that call returns to, relative to the image.
    pub(super) fn caller(&mut self, frame: u8, target: Placed, before: usize) -> (Placed, u64) {
        let start = image::TEXT as u64 + self.text.len() as u64;
        let returns = start + PROLOG + before as u64 + 5;
        let mut body = vec![0x90; before];
        body.push(0xe8);
        body.extend((target.start.wrapping_sub(returns) as u32).to_le_bytes());
        body.push(0x90);
        (self.function(frame, &body), returns)
    }

    /// Flips a bit of the code at `rva`; gives the byte before and after.
    pub(super) fn flip(&mut self, rva: u64, bit: u32) -> (u8, u8) {
        let slot = self.text.get_mut((rva as usize).wrapping_sub(image::TEXT));
        slot.map_or((0, 0), |byte| {
            let was = *byte;
            *byte ^= 1 << (bit % 8);
            (was, *byte)
        })
    }

    /// The module with its file.
    pub(super) fn module(&self) -> Module {
        // Some day from 2015 to 2024.
        let time_stamp = 0x5600_0000 + self.time_stamp % 0x1000_0000;
        let mut module = Module {
            path: format!(r"\SystemRoot\System32\drivers\{}", self.name),
            base: Hex(self.base),
            size: Hex(self.size),
            time_stamp: Hex(time_stamp.into()),
            pdb: Some(Pdb {
                name: self.name.replace(".sys", ".pdb"),
                guid: format!("{:032X}", u128::from(time_stamp) << 90 | u128::from(self.size)),
                age: 1,
            }),
            ..Module::default()
        };
        module.contents =
            image::assemble(&module, &Assembly { text: &self.text, functions: &self.functions });
        module
    }
}
