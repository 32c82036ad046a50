//! What an editor of `knowledge/` is told by `cargo test -p stopcode-knowledge`: file, line, and what is wrong.

use std::fmt::Debug;

use serde::de::DeserializeOwned;

use crate::bug_check::{BUG_CHECKS, BugCheck, SUBCODES, Subcode, bug_check};
use crate::build::{BUILDS, kernel_build, parse_version};
use crate::driver::{DRIVERS, Driver, driver};
use crate::function::{FUNCTIONS, Function};
use crate::ntstatus::{STATUSES, ntstatus};
use crate::table::{Table, hex, is_data, leading_text, merged};
use crate::win32::{ERRORS, win32_error};

type Checked<K> = Result<K, String>;

/// What is wrong with a file: each line that `check` refuses, or whose key does not follow the one before.
fn problems<K: Ord + Debug>(
    file: &str,
    text: &'static str,
    check: impl Fn(&'static str) -> Checked<K>,
) -> Vec<String> {
    let mut last: Option<K> = None;
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| is_data(line)) {
        let problem = match check(line) {
            Err(problem) => problem,
            Ok(key) => {
                let follows = last.as_ref().is_none_or(|last| *last < key);
                let problem =
                    format!("{key:?} must stand before {last:?} (lines are sorted, and no key comes twice)");
                last = Some(key);
                if follows {
                    continue;
                }
                problem
            }
        };
        problems.push(format!("{file}:{}: {problem}", index + 1));
    }
    problems
}

/// Checks a table and its edits.
fn assert_table<K: Ord + Debug>(name: &str, table: &Table, check: impl Fn(&'static str) -> Checked<K>) {
    let mut all = problems(&format!("knowledge/{name}"), table.generated, &check);
    all.extend(problems(&format!("knowledge/edits/{name}"), table.edits, &check));
    assert!(all.is_empty(), "\n{}\n", all.join("\n"));
}

/// The record that a line gives: a generated line with its edit laid over it, an edit laid over its generated line.
fn record<T: DeserializeOwned>(table: &Table, line: &'static str, name: &str, keys: usize) -> Checked<T> {
    if !line.starts_with(&format!("{{\"{name}\"")) {
        return Err(format!("a line starts with {{\"{name}\":"));
    }
    let key =
        |line| (0..keys).map(|index| leading_text(line, index).to_ascii_lowercase()).collect::<Vec<_>>();
    let counterpart =
        |text: &'static str| text.lines().find(|other| is_data(other) && key(other) == key(line));
    let parsed = |result: serde_json::Result<T>| result.map_err(|error| error.to_string());
    match (counterpart(table.generated), counterpart(table.edits)) {
        (Some(generated), Some(edit)) if edit == line => parsed(merged(generated, edit)),
        // An edit that cannot be laid over this line is reported where it stands.
        (_, Some(edit)) => {
            parsed(serde_json::from_str(line)).map(|plain| merged(line, edit).unwrap_or(plain))
        }
        (_, None) => parsed(serde_json::from_str(line)),
    }
}

/// A number in the one form in which it is looked up.
fn number(text: &str) -> Checked<u64> {
    hex(text)
        .filter(|value| format!("{value:#x}") == text)
        .ok_or(format!("{text:?} is not a number as in 0x7e: small letters, no zeros before it"))
}

/// A number with eight digits.
fn eight_digits(text: &str) -> Checked<u32> {
    hex(text)
        .and_then(|value| u32::try_from(value).ok())
        .filter(|value| format!("{value:#010x}") == text)
        .ok_or(format!("{text:?} is not a number as in 0xc0000005: small letters, eight digits"))
}

fn ensure(holds: bool, problem: impl Into<String>) -> Checked<()> {
    if holds { Ok(()) } else { Err(problem.into()) }
}

fn parameter_number(text: &str) -> Checked<()> {
    ensure(["1", "2", "3", "4"].contains(&text), format!("{text:?} is no parameter: they are \"1\" to \"4\""))
}

#[test]
fn bug_checks_are_in_order() {
    assert_table("bugchecks.jsonl", &BUG_CHECKS, |line| {
        let record: BugCheck = record(&BUG_CHECKS, line, "code", 1)?;
        let code = number(leading_text(line, 0))?;
        for (parameter, values) in &record.param_values {
            parameter_number(parameter)?;
            values.keys().try_for_each(|value| number(value).map(drop))?;
        }
        let selector = record.subcode_param.unwrap_or(1);
        ensure((1..=4).contains(&selector), "subcode_param is 1 to 4")?;
        let listed = record.same_as.unwrap_or(record.code);
        let prefix = format!("{{\"code\":\"{listed:#x}\",");
        let has_subcodes = [SUBCODES.generated, SUBCODES.edits].iter().any(|text| text.contains(&prefix));
        ensure(
            has_subcodes == record.subcode_param.is_some(),
            "subcode_param is there exactly if subcodes.jsonl has lines for this code",
        )?;
        ensure(
            bug_check(record.code).as_ref() == Some(&record),
            "looking this code up finds something else",
        )?;
        Ok(code)
    });
}

#[test]
fn subcodes_are_in_order() {
    assert_table("subcodes.jsonl", &SUBCODES, |line| {
        let record: Subcode = record(&SUBCODES, line, "code", 2)?;
        let key = (number(leading_text(line, 0))?, number(leading_text(line, 1))?);
        record.params.keys().try_for_each(|parameter| parameter_number(parameter))?;
        let bug_check = bug_check(record.code).ok_or("bugchecks.jsonl has no such code")?;
        ensure(bug_check.same_as.is_none(), "this code takes its subcodes from the one it is the same as")?;
        ensure(
            bug_check.subcode(record.value).as_ref() == Some(&record),
            "looking it up finds something else",
        )?;
        Ok(key)
    });
}

#[test]
fn drivers_are_in_order() {
    assert_table("drivers.jsonl", &DRIVERS, |line| {
        let record: Driver = record(&DRIVERS, line, "image", 1)?;
        ensure(
            !record.image.contains(['\\', '/', '?']),
            "an image is a bare file name or a pattern with asterisks",
        )?;
        ensure(
            record.problem_basis.is_some() == record.known_problem.is_some(),
            "a known problem has a basis",
        )?;
        if let Some(alternative) = &record.inbox_alternative {
            let inbox = driver(&alternative.driver).is_some_and(|driver| driver.inbox);
            ensure(inbox, format!("{} is not listed as coming with Windows", alternative.driver))?;
        }
        let instance = record.image.replace('*', "0");
        ensure(driver(&instance).as_ref() == Some(&record), format!("{instance} finds something else"))?;
        Ok(record.image.to_ascii_lowercase())
    });
}

#[test]
fn functions_are_in_order() {
    assert_table("functions.jsonl", &FUNCTIONS, |line| {
        let record: Function = record(&FUNCTIONS, line, "symbol", 1)?;
        let (module, name) = record.symbol.split_once('!').ok_or("a symbol is module!name")?;
        ensure(
            crate::function(module, name).as_ref() == Some(&record),
            "looking it up finds something else",
        )?;
        Ok(record.symbol.to_ascii_lowercase())
    });
}

#[test]
fn statuses_are_in_order() {
    assert_table("ntstatus.tsv", &STATUSES, |line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let (code, name, meaning) = match *columns {
            [code, name] => (code, name, None),
            [code, name, meaning] => (code, name, Some(meaning)),
            _ => return Err("a line is code, name, and perhaps meaning, with tabs between".to_owned()),
        };
        ensure(!name.is_empty() && !name.contains(' '), "a name is one word")?;
        ensure(
            meaning.is_none_or(|meaning| !meaning.trim().is_empty()),
            "leave the tab out if there is no meaning",
        )?;
        let code = eight_digits(code)?;
        ensure(ntstatus(code).is_some(), "looking this code up finds nothing")?;
        Ok(code)
    });
}

#[test]
fn errors_are_in_order() {
    assert_table("win32.tsv", &ERRORS, |line| {
        let Some((code, name)) = line.split_once('\t') else {
            return Err("a line is code and name, with a tab between".to_owned());
        };
        ensure(!name.is_empty() && !name.contains([' ', '\t']), "a name is one word")?;
        let code = eight_digits(code)?;
        ensure(win32_error(code).is_some(), "looking this code up finds nothing")?;
        Ok(code)
    });
}

#[test]
fn builds_are_in_order() {
    assert_table("builds.tsv", &BUILDS, |line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [arch, stamp, size, version] = *columns else {
            return Err("a line is architecture, TimeDateStamp, SizeOfImage and version, with tabs between"
                .to_owned());
        };
        ensure(["x64", "arm64"].contains(&arch), format!("{arch:?} is neither x64 nor arm64"))?;
        ensure(parse_version(version).is_some(), format!("{version:?} is not four numbers"))?;
        let (stamp, size) = (eight_digits(stamp)?, eight_digits(size)?);
        ensure(kernel_build(arch, stamp, size).is_some(), "looking this kernel up finds nothing")?;
        Ok((arch, stamp, size))
    });
}

#[test]
fn a_wrong_line_is_named() {
    let text = "# about\n0x2\n\n0x1\n0x0A\n0x3\n";
    let found = problems("knowledge/x.tsv", text, number);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("knowledge/x.tsv:4: 1 must stand before Some(2)"), "{}", found[0]);
    assert!(found[1].starts_with("knowledge/x.tsv:5: \"0x0A\" is not a number"), "{}", found[1]);
}

#[test]
fn the_tables_are_as_large_as_their_sources() {
    let lines = |table: &Table| table.generated.lines().filter(|line| is_data(line)).count();
    let counts = [&BUG_CHECKS, &SUBCODES, &STATUSES, &DRIVERS, &FUNCTIONS, &BUILDS].map(lines);
    // 3,658 kernels less one that shares its identity with another.
    assert!(
        counts.iter().zip([536, 1500, 3011, 701, 906, 3657]).all(|(count, least)| *count >= least),
        "{counts:?}"
    );
}
