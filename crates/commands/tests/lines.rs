//! Random lines on a dump: no panic, no endless work, no endless output, nothing that a terminal would act on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{sample, session};
use proptest::prelude::*;
use std::time::{Duration, Instant};
use stopcode_commands::{commands, complete, run};

/// What a line may be made of: names of commands, pieces of expressions, and anything else.
fn piece() -> impl Strategy<Value = String> {
    let names: Vec<&str> = commands().map(|command| command.name).collect();
    let pieces = [
        "@rsp",
        "@$ip",
        "@rax",
        "nt",
        "nt!",
        "nt!KeBugCheckEx",
        "iaStor+25",
        "poi(",
        ")",
        "(",
        "L10",
        "L?",
        "L?fffffffff",
        "l",
        "-1",
        "0n10",
        "0x",
        "fffff880`03dcd000",
        "ffffffffffffffff",
        "0",
        ";",
        "\"",
        "*",
        "?",
        "-v",
        "/r",
        "-r9",
        "-a",
        "-q",
        "=",
        "$t0",
        "$t19",
        "and",
        "mod",
        ">>>",
        "+",
        "-",
        "~",
        "~4",
        "~99",
        "s",
        "m",
        "vm",
        "_KTHREAD",
        "Tcb.",
        "@$thread",
        "k",
        "kvnf",
        "\u{1b}[31m",
        "\u{202e}",
        "é",
        "`",
        "!",
        "@",
        "@!\"",
        "::",
    ];
    prop_oneof![
        3 => proptest::sample::select(names).prop_map(str::to_owned),
        6 => proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,6}",
        1 => "[0-9a-f]{1,17}",
    ]
}

fn line() -> impl Strategy<Value = String> {
    proptest::collection::vec((piece(), proptest::bool::weighted(0.8)), 0..10).prop_map(|pieces| {
        pieces.into_iter().map(|(piece, space)| if space { piece + " " } else { piece }).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_line_ends(lines in proptest::collection::vec(line(), 1..4)) {
        let mut session = session(&sample("seed-double-fault"));
        for line in lines {
            let start = Instant::now();
            for answer in run(&mut session, &line) {
                let json = serde_json::to_string(&answer).unwrap();
                let shown = format!("{}{}{}", answer.command, answer.text, answer.reason.unwrap_or_default());
                prop_assert!(shown.len() < 8 << 20 && json.len() < 64 << 20, "{line}: {} bytes", shown.len());
                prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{line}: {shown}");
                prop_assert!(!shown.contains('\u{202e}'), "{line}");
            }
            let (start_of_word, _) = complete(&session, &line);
            prop_assert!(line.is_char_boundary(start_of_word), "{line}");
            prop_assert!(start.elapsed() < Duration::from_mins(1), "{line}: {:?}", start.elapsed());
        }
    }
}
