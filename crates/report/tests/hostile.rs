//! Whatever a dump says of itself, what is written stays text.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use common::*;
use proptest::prelude::*;
use stopcode_report::{Format, Style};

/// Strings that renderers, terminals and people have fallen for, and any others.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[-`<>@#|*_\\[\\]()!~.:/a-c \n]{0,80}",
        Just("\x1b]0;owned\x07\x1b[2J\u{9b}31m".to_owned()),
        Just("\u{202e}gpj.exe\u{2066}\u{200b}".to_owned()),
        Just("```\n@everyone <script>alert(1)</script> [x](https://evil.example) ![y](z)\n```".to_owned()),
        ("[a-z ]{1,12}", 0..2_500_usize).prop_map(|(word, times)| word.repeat(times / word.len())),
        (0..900_usize).prop_map(|times| "`@_".repeat(times)),
    ]
}

/// A failing input belongs into a test of its own, not into a file beside the tests.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn controls(text: &str) -> Option<char> {
    text.chars().find(|c| *c != '\n' && stopcode_base::visible(&c.to_string()) != c.to_string())
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn text_and_markdown_hold_no_hidden_character(bad in hostile(), width in 0..200_usize) {
        let t = |text: &str| format!("{text}{bad}");
        for report in [full(&t), unreadable(&t), series(&t)] {
            for format in [Format::Text, Format::Markdown] {
                let out = written(&report, format, Style { colour: false, width });
                prop_assert_eq!(controls(&out), None);
                prop_assert!(out.ends_with('\n') && !out.ends_with("\n\n"));
            }
        }
    }

    #[test]
    fn the_short_form_is_short_and_the_fences_hold(bad in hostile()) {
        for place in 0..2 {
            let t = |text: &str| if place == 0 { format!("{text}{bad}") } else { format!("{bad}{text}") };
            for report in [full(&t), unreadable(&t), series(&t)] {
                let out = written(&report, Format::Markdown, Style::default());
                let (short, details) = out.split_once("\n---\n").unwrap();
                prop_assert!(short.chars().count() < 2_000, "{} characters", short.chars().count());
                prop_assert!(!short.contains("```") && short.starts_with("**"));
                // Every fence is one of ours, alone on its line, and they come in pairs.
                let fences: Vec<&str> = details.lines().filter(|line| line.contains("```")).collect();
                prop_assert!(fences.chunks(2).all(|pair| *pair == ["```text", "```"]), "{:?}", fences);
                prop_assert_eq!(details.matches("```").count(), fences.len());
                // Between the fences there is nothing but the heading.
                let outside: String = details.split("```").step_by(2).collect();
                prop_assert_eq!(outside.trim(), "### Details");
            }
        }
    }

    #[test]
    fn json_reads_back_to_the_same_data_and_is_safe_to_print(bad in hostile()) {
        let t = |text: &str| format!("{text}{bad}");
        for report in [full(&t), series(&t)] {
            let out = written(&report, Format::Json, Style::default());
            prop_assert_eq!(controls(&out), None);
            let read: serde_json::Value = serde_json::from_str(&out).unwrap();
            prop_assert_eq!(read, serde_json::to_value(&report).unwrap());
        }
    }
}

/// What a renderer sees of the short form outside code spans and escapes, by the rules of CommonMark.
fn live(markdown: &str) -> String {
    let characters: Vec<char> = markdown.chars().collect();
    let run = |at: usize| characters[at..].iter().take_while(|c| **c == '`').count();
    let mut live = String::new();
    let mut at = 0;
    while at < characters.len() {
        match characters[at] {
            '\\' if characters.get(at + 1).is_some_and(char::is_ascii_punctuation) => {
                live.push('\0');
                at += 2;
            }
            '`' => {
                let opened = run(at);
                let mut end = at + opened;
                while end < characters.len() && run(end) != opened {
                    end += run(end).max(1);
                }
                assert!(end < characters.len(), "a code span that is never closed in\n{markdown}");
                live.push('\0');
                at = end + opened;
            }
            other => {
                live.push(other);
                at += 1;
            }
        }
    }
    live
}

proptest! {
    #![proptest_config(config(64))]

    /// The short form cannot link, mention, mark up or carry HTML; of markup it has its own bold, lists and spans.
    #[test]
    fn nothing_in_the_short_form_acts(bad in hostile()) {
        for t in [&|text: &str| format!("{text}{bad}") as String, &|text: &str| format!("{bad}{text}")] as [Text<'_>; 2] {
            for report in [full(t), unreadable(t), series(t)] {
                let out = written(&report, Format::Markdown, Style::default());
                let live = live(out.split_once("\n---\n").unwrap().0);
                let active = live.find(['@', '#', '<', '>', '[', ']', '|', '~', '$', '^', '&', '_'].as_slice());
                let active = active.filter(|at| !is_inner_underscore(&live, *at));
                prop_assert_eq!(active.map(|at| &live[at..]), None);
                prop_assert!(!live.contains("://") && live.matches("**").count().is_multiple_of(2));
                prop_assert!(!live.replace("**", "").contains('*'));
            }
        }
    }
}

fn is_inner_underscore(text: &str, at: usize) -> bool {
    let (before, rest) = text.split_at(at);
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    rest.starts_with('_') && word(before.chars().next_back()) && word(rest.chars().nth(1))
}

#[test]
fn the_reading_of_markdown_in_this_test_is_right() {
    assert_eq!(live("a \\@b `@` c `` `@ `` d"), "a \0b \0 c \0 d");
    assert_eq!(live("see <b>"), "see <b>");
}
