//! The post of 2014 that this project began with, command by command, on the sample that was made after it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{sample, session, session_with};
use std::path::{Path, PathBuf};
use stopcode_commands::{Session, Status, run};

const POST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/seed/double-fault.txt");

fn with_symbols() -> Session {
    let symbols = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/symbols"));
    session_with(&sample("seed-double-fault-kernel"), Some(&symbols)).unwrap()
}

/// What a session shows at a prompt.
fn shown(mut session: Session, lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(&format!("{} {line}\n", session.prompt()));
        for answer in run(&mut session, line) {
            assert_eq!(answer.status, Status::Answer, "{answer:?}");
            text.push_str(&answer.text);
        }
    }
    text
}

/// Commands of a text that was copied out of a debugger, and the lines each printed: up to the next blank one. A web page
/// keeps one blank of several, and the author's own words follow arrows.
fn commands_of(post: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in post.lines() {
        let line = squeezed(line.split("<-").next().unwrap_or_default());
        if let Some((_, command)) = line.split_once("kd> ") {
            assert!(line.starts_with("4: kd> "), "{line}");
            found.push((command.to_owned(), Vec::new()));
            inside = true;
        } else if line.is_empty() {
            inside = false;
        } else if let Some((_, lines)) = found.last_mut().filter(|_| inside) {
            lines.push(line);
        }
    }
    found
}

fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether our line tells what the post's does. What we say more stands behind; only of a part that lies apart from its function
/// WinDbg's name stands behind ours.
fn tells(ours: &str, posts: &str) -> bool {
    let literal = posts.split_once(" nt! ?? ").is_some_and(|(columns, name)| {
        ours.starts_with(columns) && ours.ends_with(&format!("[nt! ?? {name}]"))
    });
    ours.starts_with(posts) || literal
}

#[test]
fn each_line_of_the_post_is_ours_too() {
    if !Path::new(POST).is_file() {
        let skipped = "SKIPPED: each_line_of_the_post_is_ours_too: ../shared is not beside the checkout\n";
        std::io::Write::write_all(&mut std::io::stderr(), skipped.as_bytes()).unwrap();
        return;
    }
    let post = std::fs::read_to_string(POST).unwrap();
    let mut session = with_symbols();
    assert_eq!(session.prompt(), "4: kd>");
    let commands = commands_of(&post);
    let names: Vec<&str> = commands.iter().map(|(command, _)| command.as_str()).collect();
    assert_eq!(names, ["k", "ub nt!KiIpiSendRequest+0x305", "!ipi", "lmvm iaStor"]);
    let mut compared = 0;
    for (command, wanted) in &commands {
        let answer = run(&mut session, command).remove(0);
        let ours: Vec<String> = answer.text.lines().map(squeezed).collect();
        let mut rest = ours.iter();
        for line in wanted {
            assert!(
                rest.any(|own| tells(own, line)),
                "{command}: {line}\nis not in order in\n{}",
                answer.text
            );
            compared += 1;
        }
    }
    assert_eq!(compared, 14 + 9 + 16 + 6);
    // The stop code stands in the post as `!analyze` prints it.
    let analysis = run(&mut session, "!analyze -v").remove(0).text;
    let head = post.lines().map(squeezed).skip_while(|line| !line.starts_with("UNEXPECTED_")).take(9);
    let head: Vec<String> =
        head.filter(|line| line.starts_with("UNEXPECTED_") || line.starts_with("Arg")).collect();
    assert_eq!(head.len(), 6);
    for line in &head {
        // What stands behind an argument's comma are words.
        let figures = line.split(',').next().unwrap_or_default();
        assert!(analysis.lines().any(|own| squeezed(own).starts_with(figures)), "{line}");
    }
    assert!(analysis.to_lowercase().contains("double fault"));
}

#[test]
fn the_post_command_by_command() {
    let lines = [
        ".bugcheck",
        "k -a 0n13",
        "ub nt!KiIpiSendRequest+0x305",
        "!ipi",
        "lmvm iaStor",
        "ln fffff800`032ec198",
        "!thread -1 1",
        "!pte fffff880`03dccff2",
        "!pte fffff880`03dcd000",
        "!verifier",
    ];
    insta::assert_snapshot!(shown(with_symbols(), &lines));
}

/// Without symbols the same places are told by module and offset.
#[test]
fn the_post_without_symbols() {
    let lines = [
        ".bugcheck",
        "k 0n13",
        "ub nt+94875",
        "!ipi",
        "lmvm iaStor",
        "!thread -1 1",
        "!pte fffff880`03dccff2",
    ];
    insta::assert_snapshot!(shown(session(&sample("seed-double-fault-kernel")), &lines));
}
