//! Planted faults are what their truth says, and the machine around them is sound.

use crate::reader::Dump;
use iced_x86::{Decoder, DecoderOptions, Mnemonic, OpKind, Register};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use stopcode_synth::plant::{Class, Culprit, Truth, plant};
use stopcode_synth::{Machine, Registers, container, triage};

const SEEDS: u64 = 25;

fn each(mut check: impl FnMut(Class, &Machine, &Truth, &Dump)) {
    for class in Class::ALL {
        for seed in 0..SEEDS {
            let (machine, truth) = plant(seed, class).unwrap();
            let dump = Dump::new(triage::write(&machine).unwrap());
            check(class, &machine, &truth, &dump);
        }
    }
}

#[test]
fn planted_machines_are_sound_small_dumps() {
    each(|_, machine, truth, dump| {
        dump.check();
        assert_eq!(u64::from(dump.u32(0x38)), truth.stop_code.0);
        assert_eq!(machine.build, truth.build);
        assert!(machine.modules.iter().any(|module| module.path.ends_with(&truth.driver)));
    });
}

#[test]
fn planted_machines_fit_into_pages() {
    for class in Class::ALL {
        for seed in 0..4 {
            let (machine, _) = plant(seed, class).unwrap();
            container::write(&machine, container::Kind::BitmapKernel).unwrap();
        }
    }
}

#[test]
fn a_twin_stops_with_the_same_code() {
    let mut codes = BTreeSet::new();
    for class in Class::ALL.into_iter().filter(|class| class.is_hardware()) {
        assert!(!class.twin().is_hardware() && class.twin().twin() == class);
        for seed in 0..SEEDS {
            let (hardware, truth) = plant(seed, class).unwrap();
            let (software, twin) = plant(seed, class.twin()).unwrap();
            assert_eq!(truth.stop_code, twin.stop_code, "{class:?} {seed}");
            assert_eq!((truth.build, &truth.driver), (twin.build, &twin.driver));
            assert_eq!(hardware.modules[0], software.modules[0], "one kernel, at one place");
            assert!(matches!(twin.culprit, Culprit::Driver(name) if name == truth.driver));
            assert!(!matches!(truth.culprit, Culprit::Driver(_)));
            codes.insert(truth.stop_code);
        }
    }
    assert!(codes.len() >= 9, "{codes:?}");
}

/// A flip is one bit, and the dump holds the flipped value.
#[test]
fn a_flip_is_one_bit_and_in_the_dump() {
    let mut found = 0;
    each(|class, _, truth, dump| {
        let Some(flip) = truth.flip else { return };
        assert_eq!(flip.was.0 ^ flip.is.0, 1 << flip.bit, "{class:?}");
        if let Some(at) = dump.place(flip.at.0, 8) {
            let is = if class == Class::OpcodeBit { dump.file[at].into() } else { dump.u64(at) };
            assert_eq!(is, flip.is.0, "{class:?} at {:?}", flip.at);
            found += 1;
        } else {
            assert_eq!(class, Class::StackPointerBit);
        }
    });
    assert!(found > 100, "{found}");
}

fn value(registers: &Registers, register: Register) -> u64 {
    let r = registers;
    let all = [
        r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
        r.r14, r.r15,
    ];
    // Segments are flat, and are asked for, too.
    if register.is_gpr() { all[register.full_register().number()].0 } else { 0 }
}

/// The bytes at the instruction pointer are an access to the very address, with the registers of the trap.
#[test]
fn the_instruction_touches_the_address_that_faulted() {
    let mut decoded = 0;
    each(|class, machine, truth, dump| {
        let args = machine.bug_check.arguments.map(|argument| argument.0);
        let Some(trap) = machine.traps.first().map(|trap| trap.registers) else { return };
        let address = match (truth.stop_code.0, &machine.exception) {
            (0xd1 | 0x50, _) => args[0],
            (0x3b | 0x7e, Some(exception)) if exception.code.0 == 0xc000_0005 => exception.information[1].0,
            (0x3b | 0x7e, _) => {
                let at = dump.place(trap.rip.0, 2).unwrap();
                let mut decoder = Decoder::new(64, &dump.file[at..at + 15], DecoderOptions::NONE);
                let instruction = decoder.decode();
                assert!(instruction.is_invalid() || instruction.mnemonic() == Mnemonic::Ud2, "{class:?}");
                return;
            }
            _ => return,
        };
        let at = dump.place(trap.rip.0, 15).unwrap();
        let mut decoder = Decoder::with_ip(64, &dump.file[at..at + 15], trap.rip.0, DecoderOptions::NONE);
        let instruction = decoder.decode();
        let operand =
            (0..instruction.op_count()).find(|n| instruction.op_kind(*n) == OpKind::Memory).unwrap();
        let touched =
            instruction.virtual_address(operand, 0, |register, _, _| Some(value(&trap, register))).unwrap();
        if matches!(touched >> 47, 0 | 0x1_ffff) {
            assert_eq!(touched, address, "{class:?} {}", truth.seed);
        } else {
            assert_eq!(address, u64::MAX, "{class:?}: a protection fault tells no address");
        }
        decoded += 1;
    });
    assert!(decoded > 100, "{decoded}");
}

/// The stack pointer of a double fault lies below the stack where recursion used it up, and far from it where a bit
/// flipped.
#[test]
fn a_double_fault_tells_where_its_stack_pointer_was() {
    for seed in 0..SEEDS {
        let stack = |class| {
            let (machine, truth) = plant(seed, class).unwrap();
            let stack = machine.stacks.iter().find(|stack| stack.about == "the thread").unwrap().clone();
            (machine.traps.last().unwrap().registers.rsp.0, stack, truth)
        };
        let (rsp, overflown, _) = stack(Class::StackOverflow);
        assert!((overflown.low.0 - 0x1000..overflown.low.0 + 8).contains(&rsp), "{seed}: {rsp:#x}");
        assert!(overflown.frames.len() > 100);
        let (rsp, whole, truth) = stack(Class::StackPointerBit);
        let flip = truth.flip.unwrap();
        assert!(!(whole.low.0..whole.high.0).contains(&rsp));
        assert!((whole.low.0..whole.high.0).contains(&(rsp ^ 1 << flip.bit)));
    }
}

/// Hundreds of machines, no two alike.
#[test]
fn variations_are_many() {
    let (mut drivers, mut builds, mut files) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    each(|_, machine, truth, dump| {
        drivers.insert(truth.driver.clone());
        builds.insert(machine.build);
        let mut hasher = DefaultHasher::new();
        dump.file.hash(&mut hasher);
        assert!(files.insert(hasher.finish()), "{truth:?}");
    });
    assert!(drivers.len() > 30 && builds.len() == 6, "{} drivers, builds {builds:?}", drivers.len());
}
