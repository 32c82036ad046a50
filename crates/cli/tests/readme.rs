//! The README's example is what the program prints.

use std::process::Command;

#[test]
fn the_readme_shows_real_output() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let output = Command::new(env!("CARGO_BIN_EXE_stopcode"))
        .args(["analyze", "samples/seed-double-fault-kernel.dmp"])
        .current_dir(root)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let path = format!("{root}/README.md");
    let readme = std::fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
    let prompt = "$ stopcode analyze samples/seed-double-fault-kernel.dmp\n";
    let (before, rest) = readme.split_once(prompt).expect("the README shows this command");
    let (shown, after) = rest.split_once("```").expect("the example's fence is closed");
    // The README stops before the facts for the analyst, which are long.
    let (wanted, _) = printed.split_once("\nStop code\n").expect("the report has a part on the stop code");
    let wanted = format!("{wanted}\n…\n");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{prompt}{wanted}```{after}")).unwrap();
        return;
    }
    assert_eq!(shown, wanted, "run `UPDATE=1 cargo test -p stopcode --test readme`");
}

#[test]
fn the_readmes_debugger_session_is_real_too() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let line =
        "debug samples/seed-double-fault-kernel.dmp --symbols samples/symbols --script samples/the-post.txt";
    let output = Command::new(env!("CARGO_BIN_EXE_stopcode"))
        .args(line.split(' '))
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let path = format!("{root}/README.md");
    let readme = std::fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
    let prompt = format!("$ stopcode {line}\n");
    let (before, rest) = readme.split_once(&prompt).expect("the README shows this command");
    let (shown, after) = rest.split_once("```").expect("the example's fence is closed");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{prompt}{printed}```{after}")).unwrap();
        return;
    }
    assert_eq!(shown, printed, "run `UPDATE=1 cargo test -p stopcode --test readme -- --test-threads 1`");
}
