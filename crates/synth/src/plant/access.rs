//! A driver's instruction that faults: on a pointer, on a page, or because it is not the instruction it was.

use super::driver::{self, FORMS, Form, PROLOG, Placed, RSP};
use super::scene::{Scene, Setting};
use super::{Culprit, Flip, Plot};
use crate::Hex;
use crate::machine::{Page, Registers};

/// STATUS_ACCESS_VIOLATION and STATUS_ILLEGAL_INSTRUCTION.
const ACCESS_VIOLATION: u64 = 0xc000_0005;
const ILLEGAL_INSTRUCTION: u64 = 0xc000_001d;
/// Registers that an owner of pointers is kept in, and that pointers are loaded into: rbx, rsi, rdi; and the volatile
/// ones without rsp and r12, which are encoded otherwise.
const OWNERS: [u8; 3] = [3, 6, 7];
const POINTERS: [u8; 7] = [0, 1, 2, 8, 9, 10, 11];

/// The registers, offsets and the form of an access by way of a pointer in a structure.
struct Shape {
    owner: u8,
    pointer: u8,
    /// Where in the structure the pointer lies.
    field: u8,
    /// Where behind the pointer the access goes.
    offset: u8,
    form: Form,
}

fn shape(scene: &mut Scene) -> Option<Shape> {
    let rng = &mut scene.rng;
    Some(Shape {
        owner: rng.pick(&OWNERS)?,
        pointer: rng.pick(&POINTERS)?,
        field: 8 + 8 * rng.below(12) as u8,
        offset: 8 * rng.below(15) as u8,
        form: rng.pick(&FORMS)?,
    })
}

/// Words as a structure of a driver holds them: counts, sizes, states.
fn fields(scene: &mut Scene) -> Vec<u64> {
    (0..16).map(|_| scene.rng.below(0x1_0000)).collect()
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().copied().flat_map(u64::to_le_bytes).collect()
}

/// The tag a driver gives its pool.
pub(super) fn tag(scene: &Scene) -> [u8; 4] {
    let mut letters = scene.driver.name.bytes().chain([b' '; 4]);
    [(); 4].map(|()| letters.next().unwrap_or(b' '))
}

/// Enters the driver: a function that is called from outside, and the one it calls, which is `inner`.
pub(super) fn enter(scene: &mut Scene, inner: Placed) {
    let before = 3 + scene.rng.below(40) as usize;
    let frame = 0x28 + 0x10 * scene.rng.below(5) as u8;
    let (outer, returns) = scene.driver.caller(frame, inner, before);
    let ret = scene.nt("IopfCallDriver", 0x4b);
    scene.chain.call(ret, outer.frame);
    let ret = scene.driver.base + returns;
    scene.chain.call(ret, inner.frame);
}

/// The registers at `rip`, which lies in the function that was entered last.
fn stand(scene: &mut Scene, rip: u64) -> Registers {
    let mut registers = scene.registers();
    registers.rip = Hex(rip);
    registers.set(RSP, scene.chain.sp);
    registers
}

/// The access fails: by a page fault where the address is canonical, else by a protection fault, and ends as the
/// setting has it.
fn fail(scene: &mut Scene, registers: Registers, address: u64, writes: bool) {
    let canonical = matches!(address >> 47, 0 | 0x1_ffff);
    let user = address >> 47 == 0;
    let write = u64::from(writes);
    if !canonical {
        scene.stop_by_exception("KiGeneralProtectionFault", ACCESS_VIOLATION, &[0, u64::MAX], registers);
    } else if scene.setting == Setting::Dpc {
        let arguments = [address, 2, write, registers.rip.0];
        scene.stop_in_page_fault(0xd1, arguments, registers, writes, address);
    } else if user {
        scene.stop_by_exception("KiPageFault", ACCESS_VIOLATION, &[write, address], registers);
        if let Some(cpu) = scene.machine.processors.get_mut(scene.cpu) {
            cpu.cr2 = Hex(address);
        }
    } else {
        // Windows 10 tells the error code of the processor, whose bit 1 is the write; earlier ones tell 0 or 1.
        let how = if scene.profile.build >= 10240 { write * 2 } else { write };
        let arguments = [address, how, registers.rip.0, 2];
        scene.stop_in_page_fault(0x50, arguments, registers, writes, address);
    }
}

/// A pointer out of pool, with a flipped bit or out of memory that is someone else's by now.
pub(super) fn pointer(scene: &mut Scene, hardware: bool) -> Plot {
    let Some(shape) = shape(scene) else { return nothing() };
    let tag = tag(scene);
    // In a DPC a protection fault ends otherwise than in 0xD1, and is left to the threads.
    let canonical = scene.setting == Setting::Dpc || scene.rng.coin();
    let bit = if canonical { 24 + scene.rng.below(15) } else { 47 + scene.rng.below(16) } as u32;
    let seed = scene.rng.word();
    let others = 2 + scene.rng.below(5);
    scene.pool.others(&mut scene.rng, others);
    let target = scene.pool.block(tag, &bytes(&[seed & 0xff; 20]), true);
    let was = target;
    let mut words = fields(scene);
    let place = usize::from(shape.field / 8);
    let (is, owner_tag, in_use) = if hardware {
        (was ^ 1 << bit, tag, true)
    } else {
        // The block has been freed; a string or the pointers of another owner lie in it now.
        let mix = scene.rng.word();
        let foreign = if canonical {
            (target & 0xffff_ff80_0000_0000) | (mix & 0x7f_ffff_f000) | 0x10
        } else {
            u64::from_le_bytes([0x53, 0, 0x79, 0, 0x73, 0, 0x74, 0]) ^ (mix & 0x0007_0007_0007_0007)
        };
        for word in &mut words {
            *word = foreign ^ (*word & 0x7) << 32;
        }
        (foreign, *b"MmSt", true)
    };
    if let Some(word) = words.get_mut(place) {
        *word = is;
    }
    let owner = scene.pool.block(owner_tag, &bytes(&words), in_use);
    let mut body = driver::load(shape.pointer, shape.owner, shape.field);
    let loaded = body.len() as u64;
    body.extend(shape.form.encode(shape.pointer, shape.offset));
    let inner = scene.driver.function(0x28 + 0x10 * (seed % 4) as u8, &body);
    enter(scene, inner);
    let rip = scene.driver.base + inner.start + PROLOG + loaded;
    let mut registers = stand(scene, rip);
    registers.set(shape.owner, owner);
    registers.set(shape.pointer, is);
    fail(scene, registers, is.wrapping_add(shape.offset.into()), shape.form.writes);
    let name = scene.driver.name.clone();
    let at = owner + u64::from(shape.field);
    if hardware {
        Plot {
            culprit: Culprit::Memory,
            flip: Some(Flip { at: Hex(at), bit, was: Hex(was), is: Hex(is) }),
            story: format!(
                "{name} read a pointer from its own pool at {at:#x}, in which bit {bit} had flipped"
            ),
        }
    } else {
        Plot {
            culprit: Culprit::Driver(name.clone()),
            flip: None,
            story: format!(
                "{name} read a pointer at {at:#x} from a block that it had freed and that others used since"
            ),
        }
    }
}

/// A null pointer: one that is not checked, or one that a flipped bit carried past the check.
pub(super) fn null(scene: &mut Scene, hardware: bool) -> Plot {
    let Some(shape) = shape(scene) else { return nothing() };
    let tag = tag(scene);
    let bit = 20 + scene.rng.below(26) as u32;
    let frame = 0x28 + 0x10 * scene.rng.below(4) as u8;
    let mut words = fields(scene);
    let is = if hardware { 1 << bit } else { 0 };
    if let Some(word) = words.get_mut(usize::from(shape.field / 8)) {
        *word = is;
    }
    let owner = scene.pool.block(tag, &bytes(&words), true);
    let access = shape.form.encode(shape.pointer, shape.offset);
    let mut body = driver::load(shape.pointer, shape.owner, shape.field);
    if hardware {
        body.extend(driver::skip_if_null(shape.pointer, access.len() as u8));
    }
    let before = body.len() as u64;
    body.extend(access);
    let inner = scene.driver.function(frame, &body);
    enter(scene, inner);
    let rip = scene.driver.base + inner.start + PROLOG + before;
    let mut registers = stand(scene, rip);
    registers.set(shape.owner, owner);
    registers.set(shape.pointer, is);
    fail(scene, registers, is + u64::from(shape.offset), shape.form.writes);
    let name = scene.driver.name.clone();
    let at = owner + u64::from(shape.field);
    if hardware {
        Plot {
            culprit: Culprit::Memory,
            flip: Some(Flip { at: Hex(at), bit, was: Hex(0), is: Hex(is) }),
            story: format!(
                "bit {bit} flipped in a null pointer at {at:#x}, which passed the check for null in {name}"
            ),
        }
    } else {
        Plot {
            culprit: Culprit::Driver(name.clone()),
            flip: None,
            story: format!("{name} used a null pointer from {at:#x} without a check"),
        }
    }
}

/// Memory that is not there at DISPATCH_LEVEL: pageable, or with a flipped valid bit.
pub(super) fn paged(scene: &mut Scene, hardware: bool) -> Plot {
    let Some(shape) = shape(scene) else { return nothing() };
    let tag = tag(scene);
    let frame = 0x28 + 0x10 * scene.rng.below(4) as u8;
    // Far from the pool that is written, in the same region: its tables are described, not made.
    let region = scene.pool.at & 0xffff_ff80_0000_0000;
    let page = region + 0x40_0000_0000 + scene.rng.below(1 << 16) * 0x1000;
    let tables = 0x4_0000 + scene.rng.below(0x1000) * 4;
    let frame_number = 0x10_0000 + scene.rng.below(0x10_0000);
    let table = |n: u64| Hex((tables + n) << 12 | 0x63);
    let valid = frame_number << 12 | 0x8000_0000_0000_0963;
    let software = scene.rng.below(3);
    let entry = match (hardware, software) {
        (true, _) => valid & !1,
        // In transition; in the page file; to be filled with zeros.
        (false, 0) => frame_number << 12 | 0x880,
        (false, 1) => frame_number << 32 | 0x2080,
        (false, _) => 0x80,
    };
    scene.machine.pages.push(Page { of: Hex(page), entries: vec![table(0), table(1), table(2), Hex(entry)] });
    let mut words = fields(scene);
    let target = page + 0x40 + 8 * scene.rng.below(0x180);
    if let Some(word) = words.get_mut(usize::from(shape.field / 8)) {
        *word = target;
    }
    let owner = scene.pool.block(tag, &bytes(&words), true);
    let mut body = driver::load(shape.pointer, shape.owner, shape.field);
    let before = body.len() as u64;
    body.extend(shape.form.encode(shape.pointer, shape.offset));
    let inner = scene.driver.function(frame, &body);
    enter(scene, inner);
    let rip = scene.driver.base + inner.start + PROLOG + before;
    let mut registers = stand(scene, rip);
    registers.set(shape.owner, owner);
    registers.set(shape.pointer, target);
    // A spin lock raises the level in a thread, too.
    let address = target + u64::from(shape.offset);
    let arguments = [address, 2, u64::from(shape.form.writes), rip];
    scene.stop_in_page_fault(0xd1, arguments, registers, shape.form.writes, address);
    for trap in &mut scene.machine.traps {
        trap.previous_irql = 2;
    }
    let cpu = scene.cpu;
    if let Some(cpu) = scene.machine.processors.get_mut(cpu) {
        cpu.saved_irql = 2;
    }
    let name = scene.driver.name.clone();
    if hardware {
        let at = scene.machine.pte_base.0 + ((page & 0xffff_ffff_ffff) >> 12) * 8;
        Plot {
            culprit: Culprit::Memory,
            flip: Some(Flip { at: Hex(at), bit: 0, was: Hex(valid), is: Hex(entry) }),
            story: format!("the valid bit flipped in the page-table entry of {page:#x}, which {name} used"),
        }
    } else {
        Plot {
            culprit: Culprit::Driver(name.clone()),
            flip: None,
            story: format!(
                "{name} touched pageable memory at {address:#x} at DISPATCH_LEVEL, while it was not in memory"
            ),
        }
    }
}

/// An instruction that is not the one that was written: by a flipped bit, or because it begins in the middle of one.
pub(super) fn opcode(scene: &mut Scene, hardware: bool) -> Plot {
    /// The register that the driver jumps through: r10.
    const POINTER: u8 = 10;
    let tag = tag(scene);
    let illegal = scene.setting != Setting::Dpc && scene.rng.coin();
    let small = 0x10 + scene.rng.below(0x1000);
    let offset = 8 * (1 + scene.rng.below(14) as u8);
    let frame = 0x28 + 0x10 * scene.rng.below(4) as u8;
    let which = scene.rng.below(3) as usize;
    let lead = vec![0x90; 4 + scene.rng.below(24) as usize];
    let words = fields(scene);
    let target = scene.pool.block(tag, &bytes(&words), true);
    let mut body = lead.clone();
    let at = PROLOG + lead.len() as u64;
    let (inner, rip, flip, base) = if hardware && illegal {
        // lock xadd [rbx+offset], edx; with bit 1 of its last opcode byte flipped it is no instruction.
        body.extend([0xf0, 0x0f, 0xc1, 0x53, offset]);
        let inner = scene.driver.function(frame, &body);
        (inner, inner.start + at, Some((inner.start + at + 2, 1)), 3)
    } else if hardware {
        // mov rax, [rcx+offset]; a flipped bit makes it read by way of rax, of rbx, or of r9.
        body.extend(driver::load(0, 1, offset));
        let inner = scene.driver.function(frame, &body);
        let (byte, bit, base) = [(2, 0, 0), (2, 1, 3), (0, 0, 9)].get(which).copied().unwrap_or((2, 0, 0));
        (inner, inner.start + at, Some((inner.start + at + byte, bit)), base)
    } else {
        // mov r10, [rcx+offset]; jmp r10; mov r11, constant: the pointer leads into the constant.
        let base = [0_u8, 3, 2].get(which).copied().unwrap_or(0);
        let (constant, base) = if illegal {
            ([0x0f, 0x0b, 0x48, 0x8b, 0x41, offset, 0x90, 0x90], 3)
        } else {
            ([0x48, 0x8b, 0x40 | base, offset, 0x90, 0x90, 0x90, 0x90], base)
        };
        body.extend(driver::load(POINTER, 1, offset));
        body.extend([0x41, 0xff, 0xe0 | POINTER & 7]);
        let at = PROLOG + body.len() as u64;
        body.extend([0x49, 0xbb]);
        body.extend(constant);
        let inner = scene.driver.function(frame, &body);
        let there = scene.driver.base + inner.start + at + 2;
        scene.pool.put(target + u64::from(offset), &there.to_le_bytes());
        (inner, inner.start + at + 2, None, base)
    };
    enter(scene, inner);
    let was_is = flip.map(|(rva, bit)| (rva, bit, scene.driver.flip(rva, bit)));
    let rip = scene.driver.base + rip;
    let mut registers = stand(scene, rip);
    registers.set(1, target);
    if !hardware {
        registers.set(POINTER, rip);
    }
    if illegal {
        registers.set(base, target);
        scene.stop_by_exception("KiInvalidOpcodeFault", ILLEGAL_INSTRUCTION, &[], registers);
    } else {
        registers.set(base, small);
        fail(scene, registers, small + u64::from(offset), false);
    }
    let name = scene.driver.name.clone();
    match was_is {
        Some((rva, bit, (was, is))) => {
            let at = scene.driver.base + rva;
            Plot {
                culprit: Culprit::Memory,
                flip: Some(Flip { at: Hex(at), bit, was: Hex(was.into()), is: Hex(is.into()) }),
                story: format!("bit {bit} flipped in the code of {name} at {at:#x}"),
            }
        }
        None => Plot {
            culprit: Culprit::Driver(name.clone()),
            flip: None,
            story: format!(
                "{name} jumped through a pointer of its own into the middle of an instruction, to {rip:#x}"
            ),
        },
    }
}

/// What stands where nothing could be drawn from an empty list; none of them is.
fn nothing() -> Plot {
    Plot { culprit: Culprit::Processor, flip: None, story: String::new() }
}
