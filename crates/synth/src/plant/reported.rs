//! Damage that the kernel itself finds: in a page-table entry, in a list, in pool.

use super::access::{enter, tag};
use super::driver::{PROLOG, RSP};
use super::scene::Scene;
use super::{Culprit, Flip, Plot};
use crate::Hex;
use crate::machine::{Page, Trap};

/// STATUS_STACK_BUFFER_OVERRUN, as `int 29h` raises it.
const FAST_FAIL: u64 = 0xc000_0409;

/// 0x1A, 0x41792: an entry of a page table that is to be zero is not.
pub(super) fn pte(scene: &mut Scene, hardware: bool) -> Plot {
    let page = 0x1_4000_0000 + scene.rng.below(1 << 16) * 0x1000;
    let bit = 1 + scene.rng.below(47) as u32;
    let tables = 0x4_0000 + scene.rng.below(0x1000) * 4;
    let table = |n: u64| Hex((tables + n) << 12 | 0x67);
    let inside = (scene.driver.base + 0x1000 + scene.rng.below(0x400) * 4) & !1;
    let entry = if hardware { 1 << bit } else { inside };
    let neighbours = 1 + scene.rng.below(3);
    for n in 0..=neighbours {
        // What a driver writes it writes in a row; what flips flips alone.
        let contents = match (hardware, n) {
            (_, 0) => entry,
            (true, _) => 0,
            (false, n) => inside + n * 0x20,
        };
        let of = Hex(page + n * 0x1000);
        scene.machine.pages.push(Page { of, entries: vec![table(0), table(1), table(2), Hex(contents)] });
    }
    for (function, offset, frame) in [
        ("MmCleanProcessAddressSpace", 0x15a, 0x98),
        ("MiDeleteVad", 0x4d1, 0xb8),
        ("MiDeleteVirtualAddresses", 0x2f0, 0x148),
    ] {
        let ret = scene.nt(function, offset);
        scene.chain.call(ret, frame);
    }
    let at = scene.machine.pte_base.0 + ((page & 0xffff_ffff_ffff) >> 12) * 8;
    let registers = scene.registers();
    let ret = scene.nt("MiDeletePteRun", 0x1c4);
    scene.chain.call(ret, 0x88);
    let ret = scene.nt("MiDeletePteList", 0x2a1);
    scene.bug_check_from(ret, 0x1a, [0x4_1792, at, entry, 0], registers);
    let name = scene.driver.name.clone();
    if hardware {
        Plot {
            culprit: Culprit::Memory,
            flip: Some(Flip { at: Hex(at), bit, was: Hex(0), is: Hex(entry) }),
            story: format!("bit {bit} flipped in the page-table entry at {at:#x}, which was zero"),
        }
    } else {
        Plot {
            culprit: Culprit::Driver(name.clone()),
            flip: None,
            story: format!("{name} wrote addresses of its own over page-table entries from {at:#x} on"),
        }
    }
}

/// 0x139, 3: the links of a list do not fit.
pub(super) fn list(scene: &mut Scene, hardware: bool) -> Plot {
    let tag = tag(scene);
    let bit = 5 + scene.rng.below(6) as u32;
    let frame = 0x28 + 0x10 * scene.rng.below(4) as u8;
    let lead = vec![0x90; 2 + scene.rng.below(16) as usize];
    let count = 1 + scene.rng.below(4);
    scene.pool.others(&mut scene.rng, count);
    // Head and two entries, each at the start of its block.
    let [head, removed, other] = [(); 3].map(|()| scene.pool.block(tag, &[0; 0x38], true));
    let links = |scene: &mut Scene, at: u64, next: u64, previous: u64| {
        scene.pool.put(at, &next.to_le_bytes());
        scene.pool.put(at + 8, &previous.to_le_bytes());
    };
    links(scene, removed, other, head);
    let next = if hardware {
        links(scene, head, removed, other);
        links(scene, other, head, removed);
        let flipped = other ^ 1 << bit;
        scene.pool.put(removed, &flipped.to_le_bytes());
        flipped
    } else {
        // Inserted at the tail a second time: the entry becomes its own neighbour.
        links(scene, head, removed, other);
        links(scene, other, other, other);
        other
    };
    // mov rdx, [rbx]; mov rax, [rbx+8]; cmp [rdx+8], rbx; jne; cmp [rax], rbx; je; mov ecx, 3; int 29h.
    let mut body = lead.clone();
    body.extend([0x48, 0x8b, 0x13, 0x48, 0x8b, 0x43, 0x08, 0x48, 0x39, 0x5a, 0x08, 0x75, 0x05]);
    body.extend([0x48, 0x39, 0x18, 0x74, 0x07, 0xb9, 0x03, 0, 0, 0, 0xcd, 0x29]);
    let rva = PROLOG + body.len() as u64 - 2;
    let inner = scene.driver.function(frame, &body);
    enter(scene, inner);
    let mut registers = scene.registers();
    registers.rip = Hex(scene.driver.base + inner.start + rva);
    registers.set(RSP, scene.chain.sp);
    for (number, value) in [(3, removed), (2, next), (0, head), (1, 3)] {
        registers.set(number, value);
    }
    let trap = scene.chain.trap(registers.rip.0);
    scene.machine.traps.push(Trap {
        at: Hex(trap),
        registers,
        error_code: Hex(0),
        fault_address: Hex(0),
        previous_irql: scene.irql(),
        user: false,
    });
    let ret = scene.nt("KiRaiseSecurityCheckFailure", 0x323);
    scene.chain.call(ret, 0x1b8);
    let record = scene.chain.sp + 0x100;
    scene.put_record(record, FAST_FAIL, &[3], registers);
    let ret = scene.nt("KiFastFailDispatch", 0xd0);
    scene.chain.call(ret, 0x138);
    scene.bug_check(0x139, [3, trap, record, 0], registers);
    let name = scene.driver.name.clone();
    if hardware {
        Plot {
            culprit: Culprit::Memory,
            flip: Some(Flip { at: Hex(removed), bit, was: Hex(other), is: Hex(next) }),
            story: format!(
                "bit {bit} flipped in the forward link at {removed:#x} of a list that {name} keeps"
            ),
        }
    } else {
        Plot {
            culprit: Culprit::Driver(name.clone()),
            flip: None,
            story: format!("{name} put the entry at {other:#x} into its list twice"),
        }
    }
}

/// 0x19, 0x20: the size in a pool header does not fit the header after it.
pub(super) fn pool(scene: &mut Scene, hardware: bool) -> Plot {
    let tag = tag(scene);
    let bit = scene.rng.below(6) as u32;
    let over = 8 + 8 * scene.rng.below(3) as usize;
    let letter = 0x41 + scene.rng.below(26) as u8;
    let count = 1 + scene.rng.below(4);
    scene.pool.others(&mut scene.rng, count);
    let size = 0x20 + 0x10 * scene.rng.below(4) as usize;
    let filler = if hardware { vec![0; size] } else { vec![letter; size] };
    let block = scene.pool.block(tag, &filler, true);
    let next = scene.pool.block(*b"File", &[0; 0x60], true) - 16;
    let was = scene.pool.word(next);
    if hardware {
        scene.pool.put(next, &(was ^ 1 << (16 + bit)).to_le_bytes());
    } else {
        scene.pool.put(next, &vec![letter; over]);
    }
    let is = scene.pool.word(next);
    let units = is >> 16 & 0xff;
    for (function, offset, frame) in [
        ("ObpFreeObject", 0x1d0, 0x58),
        ("ObfDereferenceObject", 0xb1, 0x38),
        ("ExFreePoolWithTag", 0x6a, 0xa8),
    ] {
        let ret = scene.nt(function, offset);
        scene.chain.call(ret, frame);
    }
    let registers = scene.registers();
    let ret = scene.nt("ExFreePool", 0x3c2);
    scene.bug_check_from(ret, 0x19, [0x20, next, next + units * 16, is & 0xffff_ffff], registers);
    let name = scene.driver.name.clone();
    if hardware {
        Plot {
            culprit: Culprit::Memory,
            flip: Some(Flip { at: Hex(next), bit: 16 + bit, was: Hex(was), is: Hex(is) }),
            story: format!("bit {} flipped in the pool header at {next:#x}", 16 + bit),
        }
    } else {
        Plot {
            culprit: Culprit::Driver(name.clone()),
            flip: None,
            story: format!(
                "{name} wrote {over} bytes past the end of its block at {block:#x}, over the next header"
            ),
        }
    }
}
