//! Commands on the machine's objects, on the samples: what a reader sees.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use proptest::prelude::*;
use stopcode_commands::{Session, Status, commands, run};
use stopcode_dump::Dump;
use stopcode_kernel::Machine;
use stopcode_symbols::SymbolSource;

fn session(sample: &str) -> Session {
    let path = format!("{}/../../samples/{sample}.dmp", env!("CARGO_MANIFEST_DIR"));
    Session::new(Machine::new(Dump::open(path.as_ref()).unwrap(), &SymbolSource::new([])), "")
}

/// Each line of a script with what it shows, as a terminal would.
fn shown(sample: &str, script: &[&str]) -> String {
    let mut session = session(sample);
    let mut text = String::new();
    for line in script {
        text.push_str(&format!("{} {line}\n", session.prompt()));
        for answer in run(&mut session, line) {
            text.push_str(&answer.text);
            if let Some(reason) = answer.reason {
                text.push_str(&format!("({:?}: {reason})\n", answer.status));
            }
        }
    }
    text
}

#[test]
fn ipi_is_as_the_post_of_2014_shows_it() {
    let mut expected = String::new();
    for (number, state) in [2, 2, 2, 2, 0, 2, 2, 2].into_iter().enumerate() {
        let words = if state == 2 { "[Frozen]" } else { "[Running]" };
        expected.push_str(&format!("IPI State for Processor {number}\n"));
        expected.push_str(&format!("  TargetCount     0 PacketBarrier    0 IpiFrozen   {state} {words}\n"));
    }
    assert_eq!(run(&mut session("seed-double-fault"), "!ipi").remove(0).text, expected);
}

#[test]
fn what_the_post_left_open() {
    let script = [
        "!thread -1 0",
        "!irql",
        "!pte fffff88003dccfc8",
        "!pte fffff88003dcd000",
        "!address fffff88003dcd000",
        "!address fffff88003dccfc8",
        "!vtop fffff88003dcd000",
        "!stackusage 3",
        "!pcr",
        "!cpuinfo 4",
        "!verifier",
        "!running",
        "!idt",
        "!process -1 1",
    ];
    insta::assert_snapshot!(shown("seed-double-fault", &script));
}

#[test]
fn what_is_not_there_says_why() {
    let script = [
        "!pte 10",
        "!irp 10",
        "!process 0 0",
        "!thread 10",
        "!whea",
        "!mca",
        "!blackboxbsd",
        "!address ffffffff`ffff0000",
        "!vtop 1 2",
        "!ipi 99",
        "!error 12345678",
    ];
    insta::assert_snapshot!(shown("driver-null-write", &script));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is asked, of whatever address: an answer, never a panic.
    #[test]
    fn any_argument_is_answered(
        which in 0_usize..1000,
        numbers in prop::collection::vec(
            prop_oneof![any::<u64>(), 0_u64..64, 0xfffff880_009b0000_u64..0xfffff880_009bf000, Just(0xfffffa80_09f3cb50)],
            0..4,
        ),
    ) {
        let all: Vec<_> = commands().filter(|command| command.name.starts_with('!')).collect();
        let command = all[which % all.len()];
        let arguments: Vec<String> = numbers.iter().map(|number| format!("{number:x}")).collect();
        let line = format!("{} {}", command.name, arguments.join(" "));
        for answer in run(&mut session("seed-double-fault"), &line) {
            prop_assert!(answer.status == Status::Answer || answer.reason.is_some(), "{}: {:?}", line, answer);
            prop_assert!(answer.text.len() < 1 << 20);
        }
    }
}
