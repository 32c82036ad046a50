//! The described machine as bytes at virtual addresses.

use crate::block::Block;
use crate::layout::{self, Layout};
use crate::machine::{Arch, Call, Machine, Stack};
use crate::physical::shape::Shape;
use crate::{Error, context, image, objects, work};
use std::collections::BTreeMap;

/// The largest stack that is taken: ten times what Windows gives a thread.
const MAX_STACK: u64 = 0xb4000;
/// Windows up to Windows 11 hold at most this many processors in a small dump's array.
const MAX_PROCESSORS: usize = 64;
/// A no-op, for what surrounds a call that is described alone.
const NOP: u8 = 0x90;
/// Bytes kept on either side of the address a call returns to.
const CALL_WINDOW: u64 = 16;

/// All that the dump holds, in the order Windows stores it.
pub(crate) struct Image {
    /// The data blocks.
    pub(crate) blocks: Vec<Block>,
    /// The crashed processor's stack from its stack pointer up.
    pub(crate) call_stack: Block,
    /// All stacks as a whole: a dump of pages holds them below the stack pointer, too.
    pub(crate) stacks: Vec<Block>,
}

/// Builds the memory of the machine.
fn lay_out(machine: &Machine, layout: &Layout) -> Result<Image, Error> {
    let mut stacks =
        machine.stacks.iter().map(|one| stack(machine.arch, one)).collect::<Result<Vec<_>, _>>()?;
    write_on_stacks(machine, &mut stacks)?;
    let crashed = machine.crashed()?;
    let call_stack = above(&stacks, crashed.registers.rsp.0)
        .ok_or_else(|| Error::Missing("stack of the crashed processor".to_owned()))?;

    let mut blocks =
        vec![Block { at: machine.global("MmVerifierData")?, bytes: objects::verifier(machine, layout)? }];
    blocks.extend(processors(machine, layout, &stacks)?);
    for thread in &machine.threads {
        blocks.push(Block { at: thread.at.0, bytes: objects::thread(machine, layout, thread)? });
    }
    for process in &machine.processes {
        blocks.push(Block { at: process.at.0, bytes: objects::process(machine, layout, process)? });
    }
    // A stack that no processor stands on is of interest as a whole: the one a double fault left, for instance.
    let stands_on =
        |stack: &Block| machine.processors.iter().any(|p| stack.from(p.registers.rsp.0).is_some());
    blocks.extend(stacks.iter().filter(|stack| !stands_on(stack)).cloned());
    blocks.extend(machine.memory.iter().map(|m| Block { at: m.at.0, bytes: m.bytes.0.clone() }));
    blocks.extend(work::blocks(machine, layout)?);
    blocks.extend(code(machine)?);
    blocks.extend(windows(machine)?);
    blocks.extend(page_entries(machine)?);
    Ok(Image { blocks, call_stack, stacks })
}

/// Each processor's KPRCB, context and stack, then the array that points to the KPRCBs.
fn processors(machine: &Machine, layout: &Layout, stacks: &[Block]) -> Result<Vec<Block>, Error> {
    if machine.processors.len() > MAX_PROCESSORS {
        return Err(Error::TooLarge("the list of processors".to_owned()));
    }
    let mut blocks = Vec::new();
    // The crashed one comes first.
    let mut order: Vec<_> = machine.processors.iter().collect();
    order.sort_by_key(|p| (p.number != machine.crash_processor, p.number));
    for cpu in order {
        let crashed = cpu.number == machine.crash_processor;
        let flags = if crashed { context::FLAGS_CRASHED } else { context::FLAGS_FROZEN };
        blocks.push(Block { at: cpu.prcb.0, bytes: objects::prcb(machine, layout, cpu)? });
        blocks.push(Block { at: cpu.context_at.0, bytes: context::of(machine.arch, &cpu.registers, flags) });
        let reported =
            machine.exception.as_ref().filter(|_| crashed).map_or(&cpu.registers, |e| &e.registers);
        blocks.extend(above(stacks, reported.rsp.0));
    }
    let mut by_number: Vec<_> = machine.processors.iter().collect();
    by_number.sort_by_key(|p| p.number);
    let pointers = by_number.iter().flat_map(|p| machine.arch.word(p.prcb.0)).collect();
    blocks.push(Block { at: machine.global("KiProcessorBlock")?, bytes: pointers });
    Ok(blocks)
}

/// One stack with its return addresses and words.
fn stack(arch: Arch, stack: &Stack) -> Result<Block, Error> {
    let size = stack.high.0.checked_sub(stack.low.0).filter(|size| *size <= MAX_STACK);
    let size = size.ok_or_else(|| Error::TooLarge(format!("stack `{}`", stack.about)))?;
    let mut block = Block { at: stack.low.0, bytes: vec![0; size as usize] };
    for recorded in &stack.bytes {
        write(&mut block, recorded.at.0, &recorded.bytes.0, || "recorded stack".to_owned())?;
    }
    let mut put = |at: u64, value: u64, what: &dyn Fn() -> String| {
        write(&mut block, at, &arch.word(value).collect::<Vec<u8>>(), what)
    };
    let next_frames = stack.frames.iter().skip(1);
    for (frame, next) in stack.frames.iter().zip(next_frames) {
        let what = || format!("return of `{}`", frame.name);
        match arch {
            _ if frame.trap => {}
            // Each frame keeps its caller's EBP, and above that where it returns to.
            Arch::X86 => {
                put(frame.sp.0, next.sp.0, &what)?;
                put(frame.sp.0.wrapping_add(4), frame.ret.0, &what)?;
            }
            // A frame record: the caller's x29, which leads to the caller's record, and above that where it returns to. What
            // has no frame of its own has its return address in x30.
            Arch::Arm64 if frame.sp == next.sp => {}
            Arch::Arm64 => {
                put(frame.sp.0, next.sp.0, &what)?;
                put(frame.sp.0.wrapping_add(8), frame.ret.0, &what)?;
            }
            Arch::X64 => put(next.sp.0.wrapping_sub(8), frame.ret.0, &what)?,
        }
    }
    for word in &stack.words {
        put(word.at.0, word.value.0, &|| "stack word".to_owned())?;
    }
    Ok(block)
}

/// Trap frames, the exception's records, and the arguments that `KeBugCheckEx` saves above its return address.
fn write_on_stacks(machine: &Machine, stacks: &mut [Block]) -> Result<(), Error> {
    let mut place = |at: u64, bytes: &[u8], what: &str| {
        let done = stacks.iter_mut().any(|stack| stack.write(at, bytes));
        if done { Ok(()) } else { Err(Error::Outside { what: what.to_owned(), at }) }
    };
    for trap in &machine.traps {
        place(trap.at.0, &context::trap_frame_of(machine.arch, machine.build, trap), "trap frame")?;
    }
    if let Some(exception) = &machine.exception {
        place(
            exception.record_at.0,
            &context::exception_record(machine.arch, exception),
            "exception record",
        )?;
        let context = context::of(machine.arch, &exception.registers, context::FLAGS_CRASHED);
        place(exception.context_at.0, &context, "exception context")?;
    }
    if machine.arch == Arch::Arm64 {
        // Arguments stay in registers.
        return Ok(());
    }
    // On x86 they are the call's own, pushed before its return address.
    let home = machine.crashed()?.registers.rsp.0.wrapping_add(machine.arch.pointer() as u64);
    let saved = [machine.bug_check.code].into_iter().chain(machine.bug_check.arguments);
    let saved: Vec<u8> = saved.flat_map(|value| machine.arch.word(value.0)).collect();
    place(home, &saved, "bug check arguments")
}

fn write(block: &mut Block, at: u64, bytes: &[u8], what: impl Fn() -> String) -> Result<(), Error> {
    if block.write(at, bytes) { Ok(()) } else { Err(Error::Outside { what: what(), at }) }
}

/// The stack that holds `rsp`, from there to its end.
fn above(stacks: &[Block], rsp: u64) -> Option<Block> {
    stacks.iter().find_map(|stack| Some(Block { at: rsp, bytes: stack.from(rsp)?.to_vec() }))
}

/// Code windows, and call sites: inside a window where one is described, else in a small window of their own.
fn code(machine: &Machine) -> Result<Vec<Block>, Error> {
    let mut windows: Vec<Block> =
        machine.code.iter().map(|c| Block { at: c.at.0, bytes: c.bytes.0.clone() }).collect();
    for call in &machine.calls {
        let (at, instruction) = call_instruction(machine.arch, call)?;
        if windows.iter_mut().any(|window| window.write(at, &instruction)) {
            continue;
        }
        let returns_to = call.returns_to.0;
        // Windows never overlap: two that disagree would leave it to the reader's order which is true.
        let ends = windows.iter().map(Block::end).filter(|end| *end <= at);
        let low = ends.max().unwrap_or(0).max(returns_to.wrapping_sub(CALL_WINDOW));
        let starts = windows.iter().map(|w| w.at).filter(|start| *start >= returns_to);
        let high = starts.min().unwrap_or(u64::MAX).min(returns_to.wrapping_add(CALL_WINDOW));
        let mut window = Block { at: low, bytes: vec![NOP; high.wrapping_sub(low) as usize] };
        write(&mut window, at, &instruction, || "call".to_owned())?;
        windows.push(window);
    }
    Ok(windows)
}

/// Bytes on either side of an address for which a small dump holds a window.
const WINDOW: u64 = 0x80;

/// Where the registers of the crash point into an image that is a file, its bytes: what the kernel keeps in a small
/// dump too.
fn windows(machine: &Machine) -> Result<Vec<Block>, Error> {
    let exception = machine.exception.iter().map(|exception| exception.registers);
    let traps = machine.traps.iter().map(|trap| trap.registers);
    let crashed = machine.processors.iter().map(|processor| processor.registers);
    let registers = exception.chain(traps).chain(crashed);
    let mut wanted: Vec<u64> = registers.flat_map(|r| r.general().into_iter().chain([r.rip.0])).collect();
    wanted.sort_unstable();
    let mut blocks: Vec<Block> = Vec::new();
    for module in machine.modules.iter().filter(|module| !module.contents.is_empty()) {
        let image = image::load(&module.contents, module.base.0, &module.file)?;
        for at in wanted.iter().filter(|at| module.holds(**at)) {
            let low = at.wrapping_sub(WINDOW).max(module.base.0);
            let low = blocks.last().map_or(low, |last| low.max(last.end()));
            let high = (at + WINDOW).min(module.base.0 + module.size.0);
            let range = (low - module.base.0) as usize..(high.max(low) - module.base.0) as usize;
            let bytes = image.get(range).unwrap_or_default().to_vec();
            if !bytes.is_empty() {
                blocks.push(Block { at: low, bytes });
            }
        }
    }
    // What is described as a window is there already.
    blocks.retain(|block| {
        machine.code.iter().all(|code| {
            block.end() <= code.at.0 || code.at.0.wrapping_add(code.bytes.0.len() as u64) <= block.at
        })
    });
    Ok(blocks)
}

/// The bytes of a call, and where they start.
fn call_instruction(arch: Arch, call: &Call) -> Result<(u64, Vec<u8>), Error> {
    if call.import && arch == Arch::X86 {
        // Where the pointer lies is named as it is.
        let bytes = [0xff, 0x15].into_iter().chain(arch.word(call.target.0)).collect::<Vec<u8>>();
        return Ok((call.returns_to.0.wrapping_sub(bytes.len() as u64), bytes));
    }
    let distance = call.target.0.wrapping_sub(call.returns_to.0) as i64;
    let distance = i32::try_from(distance).map_err(|_| {
        Error::Contradiction(format!(
            "a call returning to {:?} reaches no {:?}",
            call.returns_to, call.target
        ))
    })?;
    let mut bytes = if call.import { vec![0xff, 0x15] } else { vec![0xe8] };
    bytes.extend(distance.to_le_bytes());
    Ok((call.returns_to.0.wrapping_sub(bytes.len() as u64), bytes))
}

/// Page-table entries at the addresses where the tables map themselves, each once.
fn page_entries(machine: &Machine) -> Result<Vec<Block>, Error> {
    let shape = Shape::of(machine);
    let mut entries = BTreeMap::new();
    for page in &machine.pages {
        let mut at = page.of.0;
        let mut places = Vec::new();
        for _ in 0..shape.levels() {
            at = shape.self_mapped(machine.pte_base.0, at);
            places.push(at);
        }
        places.reverse();
        for (level, (at, value)) in places.into_iter().zip(&page.entries).enumerate() {
            // The four entries above x86's page directories are in no page of the tables.
            if level == 0 && shape.has_pointer_table() {
                continue;
            }
            if entries.insert(at, value.0).is_some_and(|earlier| earlier != value.0) {
                return Err(Error::Contradiction(format!("two values for the page-table entry at {at:#x}")));
            }
        }
    }
    Ok(entries.into_iter().map(|(at, value)| Block { at, bytes: shape.entry(value) }).collect())
}

/// The memory of the machine in its build's layout, for a container that is not this crate's first.
pub(crate) fn of(machine: &Machine) -> Result<(Image, Layout), Error> {
    let layout = layout::of(machine.arch, machine.build, machine.revision)?;
    Ok((lay_out(machine, &layout)?, layout))
}
