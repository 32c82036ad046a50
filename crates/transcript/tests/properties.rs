//! Whatever the input, reading it neither panics nor takes more than time in proportion to it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

use proptest::prelude::*;
use std::time::{Duration, Instant};
use stopcode_analysis::Witness;
use stopcode_base::VirtAddr;
use stopcode_transcript::{looks_like_text, parse};

/// Reads `bytes` and asks everything there is to ask.
fn ask(bytes: &[u8]) -> usize {
    let _ = looks_like_text(bytes);
    let Ok(crashes) = parse(bytes) else { return 0 };
    for crash in &crashes {
        let _ = (crash.stop(), crash.exception(), crash.context(), crash.verifier(), crash.told_by());
        for stack in crash.stacks() {
            for frame in stack.frames.iter().take(50) {
                let _ = (
                    frame.place.label(),
                    crash.place(frame.instruction),
                    crash.bytes(frame.stack_pointer, 64),
                );
            }
        }
        for address in [0, 1, 0xffff_f800_032a_a85b, u64::MAX] {
            let _ = (crash.place(VirtAddr(address)), crash.bytes(VirtAddr(address), 4096));
            let _ = crash.page_table_entries(VirtAddr(address));
        }
        let _ = (
            crash.system(),
            crash.thread(),
            crash.processors(),
            crash.modules(),
            crash.unloaded(),
            crash.remarks(),
        );
    }
    crashes.len()
}

/// Pieces that debuggers print, to be put together in ways they never do.
const PIECES: [&str; 64] = [
    "4: kd> ",
    "kd> k",
    "lm",
    "Arguments:",
    "Arg1: ",
    "Arg4: 0",
    "0000000000000008",
    "fffff880`009b9de8",
    "8dd9f5c0",
    "nt!KeBugCheckEx",
    "nt!",
    " ?? ::FNODOBFM::`string'",
    "+0x204ce",
    "iaStor+0x253f5",
    "(Inline Function)",
    "--------`--------",
    " : ",
    "Child-SP RetAddr Call Site",
    "RetAddr : Args to Child",
    "STACK_TEXT:",
    "TRAP_FRAME: ",
    "CONTEXT: ",
    "rip=fffff800032aa875",
    "rax=0",
    "eip=8046a86c",
    "pc=1 lr=2",
    "BugCheck 7F, {8, ",
    "}",
    "{",
    "[",
    "]",
    "NAME_OF_IT (7f)",
    "UNEXPECTED_KERNEL_MODE_TRAP (7f)",
    "BUGCHECK_CODE: d1",
    "BUGCHECK_P1: 1",
    "start end module name",
    "IPI State for Processor 4",
    "IpiFrozen 2",
    "TargetCount 99999999999",
    "<-",
    "> > ",
    "&gt;",
    "&amp;amp;amp;",
    "&#x110000;",
    "<br>",
    "[code]",
    "Loading Dump File [",
    "Windows 7 Kernel Version 7601 MP (8 procs) Free x64",
    "Unloaded modules:",
    "Timestamp: Wed Feb 99 19:15:24 2012 (4F299E0C)",
    "System Uptime: 99999 days 99:99:99",
    "VA ffff",
    "PTE at 1 PDE at 2",
    "contains 0",
    "dps",
    "db",
    "dq",
    "CHKIMG_EXTENSION: !chkimg",
    "THREAD ffff8000",
    "Base 0 Limit ffffffffffffffff",
    "Status : 0xbe00000000800400",
    "WARNING: Stack unwind information not available",
    "every processor is frozen and idle",
    "\u{2018}\u{a0}\u{200b}é",
];

fn line() -> impl Strategy<Value = String> {
    prop::collection::vec(
        (prop::sample::select(PIECES.to_vec()), prop::sample::select(vec!["", " ", "  ", "\t", "\n"])),
        0..8,
    )
    .prop_map(|parts| parts.into_iter().flat_map(|(piece, gap)| [piece, gap]).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        ask(&bytes);
    }

    #[test]
    fn arbitrary_text(text in "\\PC{0,400}") {
        ask(text.as_bytes());
    }

    #[test]
    fn pieces_in_any_order(lines in prop::collection::vec(line(), 0..60)) {
        ask(lines.join("\n").as_bytes());
    }

    /// The same text in UTF-16 tells the same.
    #[test]
    fn encodings_agree(lines in prop::collection::vec(line(), 1..30)) {
        let text = lines.join("\n");
        let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        prop_assert_eq!(ask(text.as_bytes()), ask(&wide));
    }
}

/// Twice the input must not take much more than twice the time. Each piece repeated is somebody's worst case.
#[test]
fn time_is_linear() {
    const SIZE: usize = 30_000;
    let time = |text: &str| {
        let start = Instant::now();
        ask(text.as_bytes());
        start.elapsed()
    };
    let mut patterns: Vec<String> = PIECES.iter().map(|piece| format!("{piece}\n")).collect();
    patterns.extend(PIECES.iter().map(|piece| (*piece).to_owned()));
    patterns.push(format!("fffff880`009b9de8 fffff800`0328b169 nt!operator{}\n", "<".repeat(2000)));
    patterns.push("fffff880`009b9de8 fffff800`0328b169\n".to_owned());
    patterns.push(
        "00 fffff880`009b9de8 fffff800`0328b169 nt!F+0x1 <- Kaspersky and frozen processors of every kind\n"
            .to_owned(),
    );
    for pattern in patterns {
        let text = |size: usize| pattern.repeat(size / pattern.len() + 1);
        let (short, long) = (text(SIZE), text(4 * SIZE));
        let (one, four) = (time(&short).min(time(&short)), time(&long));
        // Quadratic work would take 16 times as long; small times are noise.
        assert!(
            four < one * 10 + Duration::from_millis(200),
            "{pattern:?}: {one:?}, four times as much: {four:?}"
        );
    }
}

/// Texts whose every stack, stop and module is another one.
#[test]
fn many_different_things() {
    let mut text = String::new();
    for n in 0..20_000_u32 {
        text.push_str(&format!("{n}: kd> k\nfffff880`{n:08x} fffff800`{n:08x} nt!F{n}+0x1\nfffff880`{n:08x} fffff800`{n:08x} a{n}+0x1\n"));
        text.push_str(&format!(
            "BugCheck {n:X}, {{{n:x}, 1, 2, 3}}\nfffff880`{n:08x} fffff881`{n:08x} m{n} (no symbols)\n"
        ));
    }
    let start = Instant::now();
    assert!(ask(text.as_bytes()) > 1000);
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
}
