//! Planted faults of ARM64 machines, through the binary: what was planted is what commands show, and stacks lead from the bug
//! check through the exception into the driver.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests are tests")]

mod common;

use common::{finish, stopcode};
use serde_json::{Value, json};
use std::fs::File;
use stopcode_synth::container::{self, Kind};
use stopcode_synth::plant::{Class, Truth, plant_on};
use stopcode_synth::{Arch, Hex, Machine};

const SEEDS: u64 = 6;

fn hex(value: Hex) -> Value {
    json!(format!("{:#x}", value.0))
}

/// Plants each class that ARM64 has, as a small dump and as one of pages, and asks `line`, in which AT stands for where the flipped bit is,
/// RECORD, CONTEXT and TRAP for where the exception and context records and the trap frame are.
fn each(line: &str, check: impl Fn(&Machine, &Truth, &[Value], &str)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("planted.dmp");
    for class in Class::ALL.into_iter().filter(|class| class.is_of(Arch::Arm64)) {
        for seed in 0..SEEDS {
            let (machine, truth) = plant_on(Arch::Arm64, seed, class).unwrap();
            let at = truth.flip.map_or(0, |flip| flip.at.0);
            let trap = machine.traps[0].at.0;
            // Arguments of an exception that nobody handled lead to its record, and those of a fast fail.
            let record = machine.exception.as_ref().map_or(machine.bug_check.arguments[2], |e| e.record_at).0;
            let line = line.replace("AT", &format!("{at:#x}")).replace("RECORD", &format!("{record:#x}"));
            let line = line.replace("TRAP", &format!("{trap:#x}"));
            let context = machine.exception.as_ref().map_or(0, |exception| exception.context_at.0);
            let line = line.replace("CONTEXT", &format!("{context:#x}"));
            for kind in [Kind::Triage, Kind::BitmapKernel] {
                container::write_to(&machine, kind, &mut File::create(&path).unwrap()).unwrap();
                let mut command = stopcode();
                let run = finish(command.arg("debug").arg(&path).args(["--format", "json", "-c", &line]));
                assert_eq!(run.stderr, "");
                let answers: Vec<Value> =
                    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                check(&machine, &truth, &answers, &format!("{class:?} {seed} {kind:?}: {}", run.stdout));
            }
        }
    }
}

/// What the frame and an exception's context tell is what the processor held; a trap frame leaves out x19 to x28.
#[test]
fn the_context_is_the_faults_and_the_stack_crosses_the_trap() {
    each(".bugcheck; k; .ecxr; k; .trap TRAP; .trap", |machine, truth, answers, what| {
        assert_eq!(answers[0]["data"]["code"], hex(truth.stop_code), "{what}");
        let held = machine.traps[0].registers;
        let described = &machine.stacks[0].frames;
        let frames = |answer: &Value| answer["data"]["frames"].as_array().unwrap().clone();
        let instructions = |answer: &Value| -> Vec<Value> {
            frames(answer).iter().map(|frame| frame["instruction"].clone()).collect()
        };
        // Each frame's return address is where the next one stands.
        let returns: Vec<Value> =
            described.iter().map(|frame| frame.ret).filter(|at| at.0 != 0).map(hex).collect();
        assert_eq!(instructions(&answers[1])[1..], returns, "{what}");
        let interrupted = described.iter().position(|frame| frame.trap).unwrap();
        let crossed = &frames(&answers[1])[interrupted + 1];
        assert_eq!(crossed["instruction"], hex(held.rip), "{what}");
        assert_eq!(crossed["child_sp"], hex(held.rsp), "{what}");
        assert_eq!(crossed["trust"], "trap_frame", "{what}");
        for (shown, all) in [(&answers[2], machine.exception.is_some()), (&answers[4], false)] {
            let shown = &shown["data"];
            assert_eq!(shown["instruction"], hex(held.rip), "{what}");
            assert_eq!(shown["stack_pointer"], hex(held.rsp), "{what}");
            let named = (0..).map(|number| format!("x{number}")).zip(held.x);
            for (number, (name, value)) in named.enumerate() {
                let expected = if all || number < 19 { hex(value) } else { Value::Null };
                assert_eq!(shown["registers"][&name], expected, "{what}: {name}");
            }
            for (name, value) in [("fp", held.rbp), ("lr", held.lr)] {
                assert_eq!(shown["registers"][name], hex(value), "{what}: {name}");
            }
        }
        assert_eq!(instructions(&answers[3]), returns[interrupted..], "{what}");
        let module = truth.driver.trim_end_matches(".sys");
        for frame in &frames(&answers[3])[..2] {
            let name = frame["module"].as_str().unwrap();
            assert!(name.eq_ignore_ascii_case(module), "{what}: {name}");
        }
    });
}

/// A context record holds all registers, and the stack begins where they stand.
#[test]
fn a_context_record_is_selected_whole() {
    each(".cxr CONTEXT; k; .trap TRAP; k", |machine, _, answers, what| {
        if machine.exception.is_none() {
            return;
        }
        let (held, shown) = (machine.traps[0].registers, &answers[0]["data"]);
        assert_eq!(shown["instruction"], hex(held.rip), "{what}");
        assert_eq!(shown["stack_pointer"], hex(held.rsp), "{what}");
        let named = (0..).map(|number| format!("x{number}")).zip(held.x);
        for (name, value) in named.chain([("fp".to_owned(), held.rbp), ("lr".to_owned(), held.lr)]) {
            assert_eq!(shown["registers"][&name], hex(value), "{what}: {name}");
        }
        let frames = |answer: &Value| -> Vec<Value> {
            let frames = answer["data"]["frames"].as_array().unwrap();
            frames.iter().map(|frame| frame["instruction"].clone()).collect()
        };
        assert!(frames(&answers[1]).len() > 1, "{what}");
        assert_eq!(frames(&answers[1]), frames(&answers[3]), "{what}");
    });
}

/// No argument of 0x3B leads to the record: it is found on the stack.
#[test]
fn the_exceptions_record_is_found() {
    each(".exr RECORD; .exr -1", |machine, truth, answers, what| {
        let Some(exception) = &machine.exception else {
            // What was no exception has no record, and a fast fail's names its kind.
            let found = answers[0]["data"]["code"] == "0xc0000409";
            assert_eq!(found, truth.stop_code.0 == 0x139, "{what}");
            return;
        };
        for answer in &answers[..2] {
            assert_eq!(answer["data"]["code"], hex(exception.code), "{what}");
            let information: Vec<Value> = exception.information.iter().copied().map(hex).collect();
            assert_eq!(answer["data"]["parameters"], json!(information), "{what}");
        }
    });
}

/// The dump holds the flipped value: in the page table, in the list, or in the pointer that the driver used.
#[test]
fn a_flip_is_one_bit_and_what_the_driver_used() {
    each("dq AT L1; .ecxr", |machine, truth, answers, what| {
        let registers = machine.traps[0].registers;
        let Some(flip) = truth.flip else {
            assert!(!truth.hardware, "{what}");
            return;
        };
        assert_eq!(flip.was.0 ^ flip.is.0, 1 << flip.bit, "{what}");
        assert_eq!(answers[0]["data"]["values"], json!([hex(flip.is)]), "{what}");
        if matches!(truth.class, Class::ListBit | Class::PteValidBit) {
            return;
        }
        let text = answers[1]["data"]["code"]["text"].as_str().unwrap();
        let base: usize = text
            .split("[x")
            .nth(1)
            .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
            .unwrap_or_else(|| panic!("{what}: {text}"));
        assert_eq!(registers.x[base], flip.is, "{what}");
        let trap = &machine.traps[0];
        assert!(trap.fault_address.0.wrapping_sub(flip.is.0) < 0x80, "{what}");
        let writes = trap.error_code.0 & 0x40 != 0;
        assert_eq!(text.starts_with("st"), writes, "{what}: {text}");
    });
}

/// One stop code and one machine for both, but for what is planted; who is at fault is not who was the victim.
#[test]
fn a_fault_of_the_hardware_has_a_twin() {
    for class in Class::ALL.into_iter().filter(|class| class.is_of(Arch::Arm64) && class.is_hardware()) {
        for seed in 0..4 * SEEDS {
            let (machine, truth) = plant_on(Arch::Arm64, seed, class).unwrap();
            let (other, twin) = plant_on(Arch::Arm64, seed, class.twin()).unwrap();
            assert!(truth.hardware && !twin.hardware);
            assert_eq!((truth.stop_code, &truth.driver), (twin.stop_code, &twin.driver), "{class:?} {seed}");
            assert_eq!(machine.modules[0], other.modules[0]);
            assert_eq!(machine.crash_processor, other.crash_processor);
        }
    }
    let unknown = Class::ALL.into_iter().find(|class| !class.is_of(Arch::Arm64)).unwrap();
    assert!(plant_on(Arch::Arm64, 1, unknown).is_err(), "not planted there");
}
