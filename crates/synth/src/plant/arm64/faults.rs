//! What is wrong on an ARM64 machine: a driver's pointer, a page's entry, a list.

use super::{NOP, Scene, data_abort};
use crate::machine::{Arch, Exception, Page, Registers};
use crate::plant::rng::Rng;
use crate::plant::{Culprit, Flip, Plot};
use crate::{Hex, context};

/// STATUS_STACK_BUFFER_OVERRUN, as `brk #0xf003` raises it, and its parameter where a list is corrupt.
const FAST_FAIL: u64 = 0xc000_0409;
const FAST_FAIL_LIST: u64 = 3;
/// The syndrome of a `brk` of 32 bits, without its number.
const BREAKPOINT: u64 = 0x3c << 26 | 1 << 25;
const DISPATCH_LEVEL: u8 = 2;
/// Of the registers that functions keep, and that pointers are loaded into.
const OWNERS: [u32; 4] = [19, 20, 21, 22];
const POINTERS: [u32; 4] = [8, 9, 10, 11];

/// `ldr to, [from, #offset]`, 64 bits wide.
fn load(to: u32, from: u32, offset: u64) -> u32 {
    0xf940_0000 | (offset as u32 / 8) << 10 | from << 5 | to
}

/// Loads and stores of `w0` and `x0` by way of a register: the opcode, the binary logarithm of the bytes, and if it writes.
const FORMS: [(u32, u32, bool); 5] = [
    (0xf940_0000, 3, false),
    (0xf900_0000, 3, true),
    (0xb940_0000, 2, false),
    (0xb900_0000, 2, true),
    (0x3940_0000, 0, false),
];

/// Words as a structure of a driver holds them, with one of them set.
fn structure(scene: &mut Scene, field: u64, value: u64) -> Vec<u8> {
    let mut words: Vec<u64> = (0..16).map(|_| scene.rng.below(0x1_0000)).collect();
    if let Some(word) = words.get_mut(field as usize / 8) {
        *word = value;
    }
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// A pointer out of pool, with a flipped bit or out of memory that is someone else's by now.
pub(super) fn pointer(scene: &mut Scene, hardware: bool) -> Plot {
    let access = Access::draw(&mut scene.rng);
    let bit = 47 + scene.rng.below(16) as u32;
    let mix = scene.rng.word();
    let (name, tag) = scene.name_and_tag();
    let others = 2 + scene.rng.below(5);
    scene.pool.others(&mut scene.rng, others);
    let was = scene.pool.block(tag, &[0; 0x90], true);
    let (is, owner_tag) = if hardware {
        (was ^ 1 << bit, tag)
    } else {
        // A string of another owner lies where the pointer was.
        (u64::from_le_bytes(*b"S\0y\0s\0t\0") ^ (mix & 0x0007_0007_0007_0007), *b"MmSt")
    };
    let words = structure(scene, access.field, is);
    let owner = scene.pool.block(owner_tag, &words, true);
    let at = owner + access.field;
    access.fault(scene, owner, is, false);
    if hardware {
        let story =
            format!("{name} read a pointer from its own pool at {at:#x}, in which bit {bit} had flipped");
        let flip = Some(Flip { at: Hex(at), bit, was: Hex(was), is: Hex(is) });
        return Plot { culprit: Culprit::Memory, flip, story };
    }
    let story =
        format!("{name} read a pointer at {at:#x} from a block that it had freed and that others used since");
    Plot { culprit: Culprit::Driver(name), flip: None, story }
}

/// A null pointer: one that is not checked, or one that a flipped bit carried past the check.
pub(super) fn null(scene: &mut Scene, hardware: bool) -> Plot {
    let access = Access::draw(&mut scene.rng);
    let bit = 20 + scene.rng.below(26) as u32;
    let is = if hardware { 1 << bit } else { 0 };
    let (name, tag) = scene.name_and_tag();
    let words = structure(scene, access.field, is);
    let owner = scene.pool.block(tag, &words, true);
    let at = owner + access.field;
    access.fault(scene, owner, is, hardware);
    if hardware {
        let story = format!(
            "bit {bit} flipped in a null pointer at {at:#x}, which passed the check for null in {name}"
        );
        let flip = Some(Flip { at: Hex(at), bit, was: Hex(0), is: Hex(is) });
        return Plot { culprit: Culprit::Memory, flip, story };
    }
    let story = format!("{name} used a null pointer from {at:#x} without a check");
    Plot { culprit: Culprit::Driver(name), flip: None, story }
}

/// An access by way of a pointer in a structure.
struct Access {
    owner: u32,
    pointer: u32,
    field: u64,
    offset: u64,
    form: (u32, u32, bool),
}

impl Access {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            owner: rng.pick(&OWNERS).unwrap_or(19),
            pointer: rng.pick(&POINTERS).unwrap_or(8),
            field: 8 + 8 * rng.below(12),
            offset: 8 * rng.below(15),
            form: rng.pick(&FORMS).unwrap_or((0xf940_0000, 3, false)),
        }
    }

    /// The driver loads the pointer out of the structure at `owner`, checks it for null where it does, and faults on it.
    fn fault(&self, scene: &mut Scene, owner: u64, pointer: u64, checked: bool) {
        let registers = self.stand(scene, owner, pointer, checked);
        scene.stop(registers, pointer.wrapping_add(self.offset), self.writes());
    }

    const fn writes(&self) -> bool {
        self.form.2
    }

    /// The registers at the access.
    fn stand(&self, scene: &mut Scene, owner: u64, pointer: u64, checked: bool) -> Registers {
        let (opcode, scale, _) = self.form;
        let mut body = vec![load(self.pointer, self.owner, self.field)];
        // cbz over the access.
        body.extend(checked.then_some(0xb400_0000 | 2 << 5 | self.pointer));
        let faults = 4 * body.len() as u64;
        body.push(opcode | (self.offset as u32 >> scale) << 10 | self.pointer << 5);
        let mut registers = scene.enter(&body, faults);
        for (number, value) in [(self.owner, owner), (self.pointer, pointer)] {
            if let Some(slot) = registers.x.get_mut(number as usize) {
                *slot = Hex(value);
            }
        }
        registers
    }
}

/// Memory that is not there at DISPATCH_LEVEL: pageable, or with a flipped valid bit. Ends in 0xD1.
pub(super) fn paged(scene: &mut Scene, hardware: bool) -> Plot {
    /// A table; a page of the kernel's that has been written.
    const TABLE: u64 = 0x703;
    const PAGE: u64 = 0x00e0_0000_0000_0703;
    let access = Access::draw(&mut scene.rng);
    let (name, tag) = scene.name_and_tag();
    // Far from the pool that is written, in the same region: its tables are described, not made.
    let page = (scene.pool.at & !0x7f_ffff_ffff) + 0x40_0000_0000 + scene.rng.below(1 << 16) * 0x1000;
    let tables = 0x4_0000 + scene.rng.below(0x1000) * 4;
    let table = |n: u64| Hex((tables + n) << 12 | TABLE);
    let frame = 0x10_0000 + scene.rng.below(0x10_0000);
    let valid = frame << 12 | PAGE;
    let entry = match (hardware, scene.rng.below(3)) {
        (true, _) => valid & !1,
        // In transition; in the page file; to be filled with zeros.
        (false, 0) => frame << 12 | 0x880,
        (false, 1) => frame << 32 | 0x2080,
        (false, _) => 0x80,
    };
    scene.machine.pages.push(Page { of: Hex(page), entries: vec![table(0), table(1), table(2), Hex(entry)] });
    let target = page + 0x40 + 8 * scene.rng.below(0x180);
    let words = structure(scene, access.field, target);
    let owner = scene.pool.block(tag, &words, true);
    let registers = access.stand(scene, owner, target, false);
    let address = target + access.offset;
    scene.trap(registers, data_abort(access.writes()), address, DISPATCH_LEVEL);
    let ret = scene.nt("KiSynchronousException", 0x2f8);
    let arguments = [address, DISPATCH_LEVEL.into(), access.writes().into(), registers.rip.0];
    scene.bug_check(ret, 0xd1, arguments, registers);
    if hardware {
        let at = scene.machine.pte_base.0 + ((page & 0xffff_ffff_ffff) >> 12) * 8;
        let flip = Some(Flip { at: Hex(at), bit: 0, was: Hex(valid), is: Hex(entry) });
        let story = format!("the valid bit flipped in the page-table entry of {page:#x}, which {name} used");
        return Plot { culprit: Culprit::Memory, flip, story };
    }
    let story = format!(
        "{name} touched pageable memory at {address:#x} at DISPATCH_LEVEL, while it was not in memory"
    );
    Plot { culprit: Culprit::Driver(name), flip: None, story }
}

/// 0x139, 3: the links of a list do not fit.
pub(super) fn list(scene: &mut Scene, hardware: bool) -> Plot {
    /// The register of the entry, and those of its neighbours.
    const ENTRY: u32 = 19;
    const NEXT: u32 = 8;
    const PREVIOUS: u32 = 9;
    let (name, tag) = scene.name_and_tag();
    let bit = 5 + scene.rng.below(6) as u32;
    let count = 1 + scene.rng.below(4);
    scene.pool.others(&mut scene.rng, count);
    // Head and two entries, each at the start of its block.
    let [head, removed, other] = [(); 3].map(|()| scene.pool.block(tag, &[0; 0x38], true));
    let flipped = other ^ 1 << bit;
    // An entry that is inserted at the tail a second time becomes its own neighbour.
    let (next, others) = if hardware { (flipped, (head, removed)) } else { (other, (other, other)) };
    for (at, (forward, back)) in [(head, (removed, other)), (removed, (next, head)), (other, others)] {
        scene.pool.put(at, &forward.to_le_bytes());
        scene.pool.put(at + 8, &back.to_le_bytes());
    }
    // ldr x8, [x19]; ldr x9, [x19, #8]; ldr x10, [x8, #8]; cmp x10, x19; b.ne; ldr x10, [x9]; cmp x10, x19; b.eq;
    // mov w0, #3; brk #0xf003.
    let compare = 0xeb00_0000 | ENTRY << 16 | 10 << 5 | 31;
    let mut body = vec![NOP; 2 + scene.rng.below(16) as usize];
    body.extend([load(NEXT, ENTRY, 0), load(PREVIOUS, ENTRY, 8), load(10, NEXT, 8), compare, 0x5400_0081]);
    body.extend([load(10, PREVIOUS, 0), compare, 0x5400_0060, 0x5280_0060, 0xd43e_0060]);
    let faults = 4 * (body.len() as u64 - 1);
    let mut registers = scene.enter(&body, faults);
    for (number, value) in [(ENTRY, removed), (NEXT, next), (PREVIOUS, head), (0, FAST_FAIL_LIST)] {
        if let Some(slot) = registers.x.get_mut(number as usize) {
            *slot = Hex(value);
        }
    }
    let at = scene.trap(registers, BREAKPOINT | 0xf003, 0, 0);
    let ret = scene.nt("KiSynchronousException", 0x1a4);
    scene.chain.call(ret, 0x160);
    let record_at = scene.chain.sp + 0x40;
    let record = Exception {
        code: Hex(FAST_FAIL),
        information: vec![Hex(FAST_FAIL_LIST)],
        record_at: Hex(record_at),
        context_at: Hex(0),
        registers,
    };
    scene.chain.put(record_at, &context::exception_record(Arch::Arm64, &record));
    let ret = scene.nt("KiFastFailDispatch", 0xd4);
    scene.bug_check(ret, 0x139, [FAST_FAIL_LIST, at, record_at, 0], registers);
    if hardware {
        let story =
            format!("bit {bit} flipped in the forward link at {removed:#x} of a list that {name} keeps");
        let flip = Some(Flip { at: Hex(removed), bit, was: Hex(other), is: Hex(next) });
        return Plot { culprit: Culprit::Memory, flip, story };
    }
    let story = format!("{name} put the entry at {other:#x} into its list twice");
    Plot { culprit: Culprit::Driver(name), flip: None, story }
}
