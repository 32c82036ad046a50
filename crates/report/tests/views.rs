//! What readers see.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use common::*;
use stopcode_report::{Format, Style};

#[test]
fn text_of_a_dump() {
    insta::assert_snapshot!(written(&full(&plain), Format::Text, Style::default()));
}

#[test]
fn text_of_an_unreadable_input() {
    insta::assert_snapshot!(written(&unreadable(&plain), Format::Text, Style::default()));
}

#[test]
fn text_of_a_series() {
    insta::assert_snapshot!(written(&series(&plain), Format::Text, Style::default()));
}

#[test]
fn markdown_of_a_dump() {
    insta::assert_snapshot!(written(&full(&plain), Format::Markdown, Style::default()));
}

#[test]
fn markdown_of_an_unreadable_input() {
    insta::assert_snapshot!(written(&unreadable(&plain), Format::Markdown, Style::default()));
}

#[test]
fn markdown_of_a_series() {
    insta::assert_snapshot!(written(&series(&plain), Format::Markdown, Style::default()));
}

#[test]
fn json_of_a_dump() {
    insta::assert_snapshot!(written(&full(&plain), Format::Json, Style::default()));
}

/// The page of a forum post of 2014 and ours agree on the shape of a stack: address, address, call site.
#[test]
fn a_stack_reads_as_in_windbg() {
    let text = written(&full(&plain), Format::Text, Style::default());
    for line in [
        "fffff880`009b9de8 fffff800`0328b169 nt!KeBugCheckEx",
        "fffff880`009b9df0 fffff800`03289632 nt!KiBugCheckDispatch+0x69",
        "fffff880`009b9f30 fffff800`032aa875 nt!KiDoubleFaultAbort+0xb2",
        "fffff880`03dccfd0 fffff800`032909ba nt!KiIpiSendRequest+0x305",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    // Nobody knows where a frame returns to when the next one is behind a gap.
    assert!(text.contains("fffff880`03dcd090 --------`-------- nt!KeFlushMultipleRangeTb+0x22a"));
}

#[test]
fn colours_only_repeat_what_the_words_say() {
    for report in [full(&plain), unreadable(&plain), series(&plain)] {
        let bare = written(&report, Format::Text, Style::default());
        let colourful = written(&report, Format::Text, Style { colour: true, ..Style::default() });
        assert!(colourful.contains("\x1b[") && !bare.contains('\x1b'));
        assert_eq!(without_colours(&colourful), bare);
    }
}

fn without_colours(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    out
}

#[test]
fn text_is_wrapped_to_the_width_asked_for() {
    for width in [0, 80, 100, 140] {
        let text = written(&full(&plain), Format::Text, Style { colour: false, width });
        // Stacks and commands keep their lines; all else fits.
        let wide = |line: &&str| {
            line.chars().count() > width.max(80) && !line.contains('`') && !line.contains("Child-SP")
        };
        assert_eq!(text.lines().find(wide), None, "at {width}");
    }
}

#[test]
fn long_lists_are_cut_and_counted() {
    let mut dump = full_dump(&plain);
    let frame = dump.stacks[0].frames[3].clone();
    dump.stacks[0].frames.extend(std::iter::repeat_n(frame, 1_000));
    let module = dump.modules[4].clone();
    dump.modules.extend(std::iter::repeat_n(module, 100));
    let text = written(&stopcode_case::Report::One(Box::new(dump)), Format::Text, Style::default());
    assert!(text.contains("… and 969 more (--format json shows all)"), "frames: 9 + 1,000 - 40\n{text}");
    assert!(text.contains("… and 79 more (--format json shows all)"), "modules: 3 + 100 - 24\n{text}");
    assert!(text.lines().count() < 200);
}
