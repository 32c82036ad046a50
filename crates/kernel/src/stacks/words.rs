//! A stack word by word, with what each is: what `dps` shows, and what of it belongs to the walked chain.

use crate::core::Core;
use crate::processors::trap;
use crate::stacks::stack::{Stack, StackWord, WordMark};
use stopcode_base::{Arch, VirtAddr};
use stopcode_unwind::call_site::{self, CallSite};
use stopcode_unwind::{CONTEXT_SIZE, Code, CodeAt, context_records};

/// More words than the largest stack has are not read.
const MOST_WORDS: usize = 0x4000;

/// `count` words from `from` on; fewer where memory ends or that many are more than any stack has.
pub(crate) fn words(core: &Core, stack: &Stack, from: VirtAddr, count: usize) -> Vec<StackWord> {
    let width = core.arch.pointer_size();
    let bytes = core.memory().read_available(from, count.min(MOST_WORDS) * width as usize);
    let value = |word: &[u8]| word.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    let values: Vec<u64> = bytes.chunks_exact(width as usize).map(value).collect();
    let contexts = if core.arch == Arch::X64 { context_records(from, &values) } else { Vec::new() };
    let marks = Marks { core, stack, contexts };
    let addresses = (0..).map(|index| from.plus(width * index));
    addresses
        .zip(values)
        .map(|(address, value)| {
            let value = VirtAddr(value);
            StackWord { address, value, place: core.place(value), mark: marks.mark(address, value) }
        })
        .collect()
}

struct Marks<'a> {
    core: &'a Core,
    stack: &'a Stack,
    contexts: Vec<VirtAddr>,
}

impl Marks<'_> {
    fn mark(&self, address: VirtAddr, value: VirtAddr) -> WordMark {
        let frames = &self.stack.frames;
        if let Some(index) = frames.iter().position(|frame| frame.return_slot == Some(address)) {
            return WordMark::Return(index);
        }
        let within =
            |start: VirtAddr, size: u64| address.offset_from(start).is_some_and(|offset| offset < size);
        let traps = frames.iter().flat_map(|frame| {
            [frame.trap_frame, frame.crossing.and_then(|crossing| crossing.trap_frame)].into_iter().flatten()
        });
        if let Some(trap) = { traps }.find(|trap| within(*trap, trap::size(self.core.arch))) {
            return WordMark::TrapFrame(trap);
        }
        if let Some(context) = self.contexts.iter().find(|context| within(**context, CONTEXT_SIZE)) {
            return WordMark::Context(*context);
        }
        if self.is_like_a_return(address, value) { WordMark::Stale } else { WordMark::Plain }
    }

    fn is_like_a_return(&self, address: VirtAddr, value: VirtAddr) -> bool {
        let is_inside = !matches!(self.core.code.at(value), CodeAt::NotCode | CodeAt::Data | CodeAt::Start);
        let memory = self.core.memory();
        is_inside
            && match self.core.arch {
                // Calls are made with the stack pointer at a multiple of 16.
                Arch::X64 => address.0 & 0xf == 8 && call_site::x64(memory, value) != CallSite::NotCall,
                Arch::Arm64 => {
                    value.0.is_multiple_of(4) && call_site::arm64(memory, value) != CallSite::NotCall
                }
                _ => true,
            }
    }
}
