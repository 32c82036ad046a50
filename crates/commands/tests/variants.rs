//! The same thing asked in several of WinDbg's spellings has one answer.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use common::{sample, session, session_with};
use serde_json::Value;
use stopcode_commands::{Answer, Session, Status, run};

fn ask(session: &mut Session, line: &str) -> Answer {
    let answer = run(session, line).remove(0);
    assert_eq!(answer.status, Status::Answer, "{line}: {answer:?}");
    answer
}

#[test]
fn a_stack_from_where_it_is_told_to_begin() {
    let mut session = session(&sample("seed-double-fault"));
    let sites = |answer: &Answer| -> Vec<Value> {
        answer.data["frames"].as_array().unwrap().iter().map(|frame| frame["instruction"].clone()).collect()
    };
    let own = sites(&ask(&mut session, "~3 k"));
    assert!(own.len() > 2);
    let context = ask(&mut session, "~3 r").data;
    let (pointer, instruction) =
        (context["stack_pointer"].as_str().unwrap(), context["instruction"].as_str().unwrap());
    let two = sites(&ask(&mut session, &format!("~3 k = {pointer} {instruction}")));
    assert_eq!(two[..2], own[..2]);
    let three = sites(&ask(&mut session, &format!("k = 0 {pointer} {instruction} 2")));
    assert_eq!(three, own[..2]);
    assert_eq!(sites(&ask(&mut session, "~3kn L2")), own[..2]);
    assert_eq!(run(&mut session, "k = 1").remove(0).status, Status::Failed);
    // Across the double fault, and from a frame in the middle on the thread's stack.
    let symbols = sample("symbols").with_extension("");
    let mut session = session_with(&sample("seed-double-fault-kernel"), Some(&symbols)).unwrap();
    let whole = ask(&mut session, "k");
    assert_eq!(sites(&ask(&mut session, "k = @$csp @$ip")), sites(&whole));
    let frame = &whole.data["frames"][4];
    let (pointer, instruction) =
        (frame["child_sp"].as_str().unwrap(), frame["instruction"].as_str().unwrap());
    let middle = ask(&mut session, &format!("k = {pointer} {instruction}"));
    assert_eq!(sites(&middle)[..6], sites(&whole)[4..10]);
    assert_eq!(middle.data["thread"], whole.data["thread"]);
}

#[test]
fn a_trap_frames_missing_registers_stay_unknown_further_up() {
    let symbols = sample("symbols").with_extension("");
    let mut session = session_with(&sample("seed-double-fault-kernel"), Some(&symbols)).unwrap();
    let frames = ask(&mut session, "k").data["frames"].clone();
    let trap = frames[2]["child_sp"].as_str().unwrap().to_owned();
    let mut frame = |line: &str| run(&mut session, line).remove(1).text;
    let (whole, part) = (frame(".trap 0; .frame /r 4"), frame(&format!(".trap {trap}; .frame /r 1")));
    // Nobody saved RBX between the trap and this frame; RSI was saved.
    assert!(whole.contains(" rbx=0000000000000021") && part.contains(" rbx=????????????????"), "{part}");
    assert!(whole.contains(" rsi=0000000000000021") && part.contains(" rsi=0000000000000021"), "{part}");
}

#[test]
fn all_processors_in_turn() {
    let mut session = session(&sample("seed-double-fault"));
    let listed = ask(&mut session, "~*").data;
    let each = ask(&mut session, "~*r $ip");
    assert_eq!(each.data.as_array().unwrap().len(), listed.as_array().unwrap().len());
    for (one, listed) in each.data.as_array().unwrap().iter().zip(listed.as_array().unwrap()) {
        assert_eq!(one["data"]["$ip"], listed["instruction"], "{one}");
    }
    // Nothing stays selected.
    assert_eq!(session.prompt(), "4: kd>");
}

#[test]
fn control_registers_are_those_of_the_selected_processor() {
    let mut session = session(&sample("seed-double-fault"));
    let special = ask(&mut session, "!pcr").data["special"].clone();
    for name in ["cr0", "cr3", "cr4", "idtr", "gdtr"] {
        assert_eq!(ask(&mut session, &format!("r {name}")).data[name], special[name], "{name}");
        assert_eq!(ask(&mut session, &format!("? @{name}")).data["value"], special[name], "{name}");
    }
}

#[test]
fn the_debuggers_registers_lead_to_the_same_objects() {
    let mut session = session(&sample("seed-double-fault"));
    let thread = ask(&mut session, "!thread").data;
    for (register, field) in [("$thread", "address"), ("$teb", "teb"), ("$proc", "process")] {
        assert_eq!(ask(&mut session, &format!("? @{register}")).data["value"], thread[field], "{register}");
    }
    let process = ask(&mut session, "!process").data;
    assert_eq!(ask(&mut session, "? @$peb").data["value"], process["peb"]);
    assert_eq!(
        ask(&mut session, "? @$tpid").data["value"],
        format!("{:#x}", process["id"].as_u64().unwrap())
    );
}

/// The registers that a function has to give back are those its caller had: what the walk of the stack itself rests on.
#[test]
fn registers_of_a_frame_are_those_given_back() {
    let symbols = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/symbols");
    let mut session = session_with(&sample("seed-double-fault-kernel"), Some(symbols.as_ref())).unwrap();
    let frames = ask(&mut session, "k").data["frames"].as_array().unwrap().clone();
    let first = ask(&mut session, ".frame /r 1").text;
    let pointer = frames[1]["child_sp"].as_str().unwrap().trim_start_matches("0x").to_owned();
    assert!(first.contains(&format!("rsp={pointer}")) && first.contains("rax=????????????????"), "{first}");
    assert!(!first.contains("efl="), "flags are not given back: {first}");
    // Behind the trap frame of the fault all volatile registers are known again.
    let fault = frames.iter().position(|frame| frame["turn"] != Value::Null).unwrap();
    let text = ask(&mut session, &format!(".frame /r {fault:x}")).text;
    assert!(!text.contains("rax=?"), "{text}");
}
