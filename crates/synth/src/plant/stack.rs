//! 0x7F, 8: the processor could not push onto the stack, and took the stack of its double fault.

use super::access::enter;
use super::driver::{PROLOG, RSP};
use super::scene::{Chain, Scene};
use super::{Culprit, Flip, Plot};
use crate::Hex;
use crate::machine::Trap;

/// A stack pointer with a flipped bit, or a stack that recursion used up.
pub(super) fn double_fault(scene: &mut Scene, hardware: bool) -> Plot {
    let bit = 16 + scene.rng.below(24) as u32;
    let frame = 0x38 + 0x10 * scene.rng.below(5) as u8;
    let before = 3 + scene.rng.below(20) as usize;
    // The function calls itself: five bytes back to where it begins.
    let mut body = vec![0x90; before];
    let call = PROLOG + before as u64;
    body.push(0xe8);
    body.extend((-(call as i32 + 5)).to_le_bytes());
    let inner = scene.driver.function(frame, &body);
    enter(scene, inner);
    let rip = scene.driver.base + inner.start + call;
    let depth = if hardware { scene.rng.below(4) } else { u64::MAX };
    let step = 8 + inner.frame;
    let mut entered = 0;
    while entered < depth && scene.chain.sp >= scene.chain.low + step {
        scene.chain.call(rip + 5, inner.frame);
        entered += 1;
    }
    // The last entry still finds room for its return address, if that, and its frame reaches below the stack.
    let true_sp = scene.chain.sp;
    let rsp = if hardware {
        true_sp ^ 1 << bit
    } else {
        if true_sp >= scene.chain.low + 8 {
            scene.chain.call(rip + 5, inner.frame);
        }
        scene.chain.sp
    };
    let mut registers = scene.registers();
    registers.rip = Hex(rip);
    registers.set(RSP, rsp);
    // The processor goes on on the stack of the double fault.
    let top = scene
        .machine
        .processors
        .get(scene.cpu)
        .and_then(|cpu| cpu.ist.first().copied())
        .map_or(0, |ist| ist.0);
    let chain = Chain::ending_at(top);
    scene.switch_to(chain);
    let at = scene.trap_at_top(registers);
    scene.machine.traps.push(Trap {
        at: Hex(at),
        registers,
        error_code: Hex(0),
        fault_address: Hex(0),
        previous_irql: scene.irql(),
        user: false,
    });
    let ret = scene.nt("KiDoubleFaultAbort", if scene.profile.build < 9600 { 0xb2 } else { 0x2c3 });
    scene.chain.call(ret, 0x138);
    let cr = scene.machine.processors.get(scene.cpu).map_or((0, 0), |cpu| (cpu.cr0.0, cpu.cr4.0));
    let arguments = if scene.profile.build < 17763 { [8, cr.0, cr.1, rip] } else { [8, at, rsp, rip] };
    scene.bug_check(0x7f, arguments, registers);
    if !hardware && let Some(cpu) = scene.machine.processors.get_mut(scene.cpu) {
        cpu.cr2 = Hex(rsp - 8);
    }
    let name = scene.driver.name.clone();
    if hardware {
        Plot {
            culprit: Culprit::Processor,
            flip: Some(Flip { at: Hex(0), bit, was: Hex(true_sp), is: Hex(rsp) }),
            story: format!("bit {bit} flipped in the stack pointer while {name} ran"),
        }
    } else {
        Plot {
            culprit: Culprit::Driver(name.clone()),
            flip: None,
            story: format!("{name} called itself {} times and used up the kernel stack", entered + 2),
        }
    }
}
