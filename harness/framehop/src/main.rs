//! Frames a second of `unwind_x64` and of framehop, over the same image, registers and stacks.
//!
//! usage: stopcode-framehop IMAGE RECORDING [ROUNDS]
//!
//! The recording is one of `harness/unwind/record.py`, and IMAGE the file it was made of. Each record is one frame:
//! registers and the stack above them. Each is measured with nothing kept from one frame to the next and with its cache of
//! rules kept, as for the stacks of many threads. All must come to the caller's instruction and stack pointer
//! that the emulator's shadow stack had; what does not is counted.

use framehop::x86_64::{CacheX86_64, Reg, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{FrameAddress, MayAllocateDuringUnwind, Module, ModuleSectionInfo, Unwinder};
use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;
use stopcode_base::{Memory, MissReason, SliceMemory, VirtAddr};
use stopcode_unwind::{ImageView, Stands, X64Frame, X64Rules, unwind_x64};

type Cache = CacheX86_64<MayAllocateDuringUnwind>;

/// framehop's names of the registers, in the processor's order.
const ORDER: [Reg; 16] = [
    Reg::RAX,
    Reg::RCX,
    Reg::RDX,
    Reg::RBX,
    Reg::RSP,
    Reg::RBP,
    Reg::RSI,
    Reg::RDI,
    Reg::R8,
    Reg::R9,
    Reg::R10,
    Reg::R11,
    Reg::R12,
    Reg::R13,
    Reg::R14,
    Reg::R15,
];

/// An image laid out as a loader would.
struct Loaded {
    base: u64,
    pdata: (u32, u32),
    bytes: Vec<u8>,
}

impl Loaded {
    fn new(raw: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes(raw[at..at + 4].try_into().unwrap());
        let half = |at: usize| usize::from(u16::from_le_bytes(raw[at..at + 2].try_into().unwrap()));
        let pe = word(60) as usize;
        let optional = pe + 24;
        let mut bytes = vec![0; word(optional + 56) as usize];
        let headers = word(optional + 60) as usize;
        bytes[..headers].copy_from_slice(&raw[..headers]);
        for section in 0..half(pe + 6) {
            let at = optional + half(pe + 20) + 40 * section + 8;
            let [size, rva, stored, offset] = [0, 4, 8, 12].map(|field| word(at + field) as usize);
            let length = size.min(stored);
            bytes[rva..rva + length].copy_from_slice(&raw[offset..offset + length]);
        }
        let base = u64::from(word(optional + 24)) | u64::from(word(optional + 28)) << 32;
        Self { base, pdata: (word(optional + 136), word(optional + 140)), bytes }
    }
}

impl Memory for Loaded {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        SliceMemory { base: VirtAddr(self.base), bytes: &self.bytes }.read_some(at, buffer)
    }
}

/// The whole image stands for each section: unwind data and code may lie in any.
struct Sections<'a>(&'a Loaded);

impl<'a> ModuleSectionInfo<&'a [u8]> for Sections<'a> {
    fn base_svma(&self) -> u64 {
        self.0.base
    }

    fn section_svma_range(&mut self, name: &[u8]) -> Option<Range<u64>> {
        matches!(name, b".text" | b".rdata").then(|| self.0.base..self.0.base + self.0.bytes.len() as u64)
    }

    fn section_data(&mut self, name: &[u8]) -> Option<&'a [u8]> {
        let (rva, size) = self.0.pdata;
        match name {
            b".text" | b".rdata" => Some(&self.0.bytes),
            b".pdata" => Some(&self.0.bytes[rva as usize..(rva + size) as usize]),
            _ => None,
        }
    }
}

struct Record<'a> {
    frame: X64Frame,
    stands: Stands,
    expected: (u64, u64),
    stack: SliceMemory<'a>,
}

fn records<'a>(recording: &'a [u8], image: &Loaded) -> Vec<Record<'a>> {
    assert_eq!(&recording[..4], b"SCUW");
    let word = |at: usize| u64::from_le_bytes(recording[at..at + 8].try_into().unwrap());
    let half = |at: usize| u32::from_le_bytes(recording[at..at + 4].try_into().unwrap());
    assert_eq!(word(4), image.base, "a recording of another image");
    let mut found = Vec::new();
    let mut at = 20;
    while at < recording.len() {
        let stands = if half(at) == 1 { Stands::AfterCall } else { Stands::Interrupted };
        let mut frame =
            X64Frame { rip: image.base + u64::from(half(at + 4)), known: 0xffff, ..X64Frame::default() };
        at += 12;
        for (n, register) in frame.gpr.iter_mut().enumerate() {
            *register = word(at + 8 * n);
        }
        at += 128;
        for (n, register) in frame.xmm[6..].iter_mut().enumerate() {
            *register = u128::from(word(at + 16 * n)) | u128::from(word(at + 16 * n + 8)) << 64;
        }
        frame.known_xmm = 0xffc0;
        let expected = (word(at + 160), word(at + 168));
        at += 176 + 128 + 160;
        let length = half(at) as usize;
        let stack = SliceMemory { base: VirtAddr(frame.rsp()), bytes: &recording[at + 4..at + 4 + length] };
        at += 4 + length;
        found.push(Record { frame, stands, expected, stack });
    }
    found
}

fn ours(image: &Loaded, rules: Option<&X64Rules>, record: &Record<'_>) -> Option<(u64, u64)> {
    let view = ImageView { base: VirtAddr(image.base), pdata: image.pdata, memory: image };
    let caller = match rules {
        Some(rules) => rules.unwind(&view, &record.stack, &record.frame, record.stands),
        None => unwind_x64(&view, &record.stack, &record.frame, record.stands),
    };
    let caller = black_box(&caller).as_ref().ok()?;
    Some((caller.frame.rip, caller.frame.rsp()))
}

fn theirs<'a>(
    unwinder: &UnwinderX86_64<&'a [u8]>,
    cache: &mut Cache,
    record: &Record<'_>,
) -> Option<(u64, u64)> {
    let frame = &record.frame;
    let mut registers = UnwindRegsX86_64::new(frame.rip, frame.rsp(), frame.gpr[5]);
    for (name, value) in ORDER.into_iter().zip(frame.gpr) {
        registers.set(name, value);
    }
    let address = match record.stands {
        Stands::Interrupted => FrameAddress::from_instruction_pointer(frame.rip),
        Stands::AfterCall => FrameAddress::from_return_address(frame.rip)?,
    };
    let mut read = |at: u64| {
        let offset = at.checked_sub(record.stack.base.0).ok_or(())? as usize;
        let bytes = record.stack.bytes.get(offset..offset + 8).ok_or(())?;
        Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| ())?))
    };
    let rip = black_box(unwinder.unwind_frame(address, &mut registers, cache, &mut read).ok()??);
    Some((rip, registers.sp()))
}

/// One who unwinds: caller's instruction and stack pointer of a record.
type One<'a> = Box<dyn FnMut(&Record<'_>) -> Option<(u64, u64)> + 'a>;

/// In turns, so that all meet the same weather; of each the best round counts.
fn measure(rounds: usize, records: &[Record<'_>], all: &mut [(&str, One<'_>)]) {
    let mut best = vec![f64::INFINITY; all.len()];
    for _ in 0..rounds {
        for (best, (_, one)) in best.iter_mut().zip(all.iter_mut()) {
            let start = Instant::now();
            for record in records {
                black_box(one(record));
            }
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    for (best, (what, one)) in best.iter().zip(all) {
        let wrong = records.iter().filter(|record| one(record) != Some(record.expected)).count();
        println!(
            "{what:24} {:10.0} frames/s, {wrong} of {} wrong",
            records.len() as f64 / best,
            records.len()
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, image, recording, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: stopcode-framehop IMAGE RECORDING [ROUNDS]");
        std::process::exit(64);
    };
    let rounds = rest.first().map_or(20, |text| text.parse().unwrap());
    let image = Loaded::new(&std::fs::read(image).unwrap());
    let recording = std::fs::read(recording).unwrap();
    let records = records(&recording, &image);
    let mut unwinder = UnwinderX86_64::new();
    let range = image.base..image.base + image.bytes.len() as u64;
    unwinder.add_module(Module::new("image".to_owned(), range, image.base, Sections(&image)));
    let mut kept = Cache::new();
    let rules = X64Rules::new();
    let mut all: [(&str, One<'_>); 4] = [
        ("stopcode, nothing kept", Box::new(|record| ours(&image, None, record))),
        ("stopcode, rules kept", Box::new(|record| ours(&image, Some(&rules), record))),
        ("framehop, cache emptied", Box::new(|record| theirs(&unwinder, &mut Cache::new(), record))),
        ("framehop, cache kept", Box::new(|record| theirs(&unwinder, &mut kept, record))),
    ];
    measure(rounds, &records, &mut all);
}
