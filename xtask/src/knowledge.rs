//! `cargo xtask knowledge --from ../shared`: writes the generated tables under `knowledge/` from the collected facts.
//!
//! Nothing under `knowledge/edits/` is touched: what people correct by hand lives there and is laid over these
//! tables when they are looked up, so that generating again never loses an edit.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

/// Generates every table from `shared` and writes it under `root`/knowledge.
pub(crate) fn run(shared: &Path, root: &Path) -> Result<()> {
    for (name, text) in render(shared)? {
        let path = root.join("knowledge").join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// The tables by file name. The same facts give the same bytes.
fn render(shared: &Path) -> Result<Vec<(&'static str, String)>> {
    let bug_checks = records(shared, "bugchecks.json")?;
    Ok(vec![
        ("bugchecks.jsonl", bug_check_table(&bug_checks)?),
        ("subcodes.jsonl", subcode_table(&bug_checks)?),
        ("ntstatus.tsv", status_table(&records(shared, "ntstatus.json")?)?),
        ("drivers.jsonl", driver_table(&records(shared, "drivers.json")?)?),
        ("functions.jsonl", function_table(&records(shared, "functions.json")?)?),
        ("builds.tsv", build_table(&kernel_list(shared)?)?),
    ])
}

const BUG_CHECKS: &str = "\
# One bug check a line, sorted by code. Generated; corrections go into edits/bugchecks.jsonl.
# Facts from MicrosoftDocs/windows-driver-docs (CC BY 4.0), reworded; names also from windows-sys (MIT or Apache-2.0).
";
const SUBCODES: &str = "\
# What the selecting parameter of a bug check says, one value a line, sorted by code and value. Generated;
# corrections go into edits/subcodes.jsonl.
# Facts from MicrosoftDocs/windows-driver-docs (CC BY 4.0), reworded.
";
const STATUSES: &str = "\
# NTSTATUS values: code, name, meaning (where we have one), sorted by code. Generated; corrections go into
# edits/ntstatus.tsv. Names from mingw-w64 headers (public domain) and windows-sys (MIT or Apache-2.0).
";
const DRIVERS: &str = "\
# One driver image a line, sorted by name; an asterisk in a name makes it a pattern. Generated; corrections go into
# edits/drivers.jsonl. Only images that a public list confirms or that come with Windows;
# `vulnerable` from LOLDrivers (Apache-2.0).
";
const FUNCTIONS: &str = "\
# What well-known functions on a kernel stack do, sorted by symbol. Generated; corrections go into
# edits/functions.jsonl. Wording is our own; `verified` says where the name was seen.
";
const BUILDS: &str = "\
# Windows kernels: architecture, TimeDateStamp, SizeOfImage, file version; sorted by the first three. Generated;
# additions go into edits/builds.tsv.
# From System Informer's list, MIT licence, Copyright (c) 2022 Winsider Seminars & Solutions, Inc.
";

fn bug_check_table(records: &[Value]) -> Result<String> {
    let mut rows = BTreeMap::new();
    for record in records {
        let code = number(record, "code")?;
        let mut row = Map::new();
        row.insert("code".into(), json!(hex(code)));
        keep(&mut row, record, &["name", "aliases", "summary"]);
        row.insert("params".into(), list(record, "params")?.iter().map(parameter).collect());
        if !object(record, "subcodes")?.is_empty() {
            // The first parameter selects unless the page says otherwise (kb/README.md).
            row.insert("subcode_param".into(), record.get("subcode_param").cloned().unwrap_or(json!(1)));
        }
        if let Some(values) = record.get("param_values") {
            row.insert("param_values".into(), with_short_keys(values)?);
        }
        row.insert("typical_causes".into(), field(record, "typical_causes")?.clone());
        keep_if_true(&mut row, record, "live_dump");
        row.insert("documented".into(), field(record, "documented")?.clone());
        if record.get("same_as").is_some() {
            row.insert("same_as".into(), json!(hex(hex_value(string(record, "same_as")?)?)));
        }
        row.insert("source".into(), json!(short_source(string(record, "source")?)));
        insert_new(&mut rows, code, Value::Object(row).to_string())?;
    }
    Ok(file(BUG_CHECKS, rows))
}

fn subcode_table(records: &[Value]) -> Result<String> {
    let mut rows = BTreeMap::new();
    // A variant of another bug check shares that one's subcodes.
    for record in records.iter().filter(|record| record.get("same_as").is_none()) {
        let code = number(record, "code")?;
        for (key, subcode) in object(record, "subcodes")? {
            let value = hex_value(key)?;
            let mut row = Map::new();
            row.insert("code".into(), json!(hex(code)));
            row.insert("value".into(), json!(hex(value)));
            let meaning = string(subcode, "meaning")?;
            // The rule has a field of its own; the text need not repeat it.
            let rule = subcode.get("rule").and_then(Value::as_str);
            let repeated = rule.map(|rule| format!("rule {rule}: ")).unwrap_or_default();
            row.insert("meaning".into(), json!(meaning.strip_prefix(&repeated).unwrap_or(meaning)));
            keep(&mut row, subcode, &["rule"]);
            if let Some(params) = subcode.get("params").and_then(Value::as_object) {
                let params: Map<String, Value> =
                    params.iter().map(|(index, param)| (index.clone(), parameter(param))).collect();
                row.insert("params".into(), Value::Object(params));
            }
            insert_new(&mut rows, (code, value), Value::Object(row).to_string())?;
        }
    }
    Ok(file(SUBCODES, rows))
}

fn status_table(records: &[Value]) -> Result<String> {
    let mut rows = BTreeMap::new();
    for record in records {
        let code = number(record, "code")?;
        let mut row = format!("{code:#010x}\t{}", string(record, "name")?);
        if let Some(meaning) = record.get("meaning").and_then(Value::as_str) {
            row.push_str(&format!("\t{meaning}"));
        }
        insert_new(&mut rows, code, row)?;
    }
    Ok(file(STATUSES, rows))
}

fn driver_table(records: &[Value]) -> Result<String> {
    let mut rows = BTreeMap::new();
    for record in records {
        let image = string(record, "image")?;
        let is_pattern = string(record, "match")? == "glob";
        ensure!(
            is_pattern == image.contains('*'),
            "{image}: a pattern holds an asterisk, and only a pattern"
        );
        let mut row = Map::new();
        keep(&mut row, record, &["image", "vendor", "product", "category"]);
        keep_if_true(&mut row, record, "inbox");
        keep(&mut row, record, &["known_problem", "known_fixed_version", "problem_basis"]);
        keep_if_true(&mut row, record, "vulnerable");
        let confidence = match string(record, "confidence")? {
            "corroborated" => "corroborated",
            "in-box, well known" => "inbox_well_known",
            other => bail!("{image}: unknown confidence {other:?}"),
        };
        row.insert("confidence".into(), json!(confidence));
        row.insert("sources".into(), field(record, "corroborated_by")?.clone());
        insert_new(&mut rows, image.to_ascii_lowercase(), Value::Object(row).to_string())?;
    }
    Ok(file(DRIVERS, rows))
}

fn function_table(records: &[Value]) -> Result<String> {
    let mut rows = BTreeMap::new();
    for record in records {
        let symbol = string(record, "symbol")?;
        let mut row = Map::new();
        keep(&mut row, record, &["symbol", "what", "role", "blame_skip"]);
        if let Some(note) = record.get("blame_note") {
            row.insert("note".into(), note.clone());
        }
        keep(&mut row, record, &["verified"]);
        insert_new(&mut rows, symbol.to_ascii_lowercase(), Value::Object(row).to_string())?;
    }
    Ok(file(FUNCTIONS, rows))
}

/// The kernels of System Informer's list. Where two versions share one identity a dump cannot tell them apart:
/// the older is given, and a comment names the other.
fn build_table(xml: &str) -> Result<String> {
    let mut kernels: BTreeMap<(&str, u64, u64), Vec<Vec<u64>>> = BTreeMap::new();
    for element in xml.split("<data ").skip(1) {
        let tag = element.split('>').next().unwrap_or_default();
        let attribute = |name: &str| {
            let value = tag.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
            value.with_context(|| format!("no {name} in {tag}"))
        };
        match attribute("file")? {
            // ntkrla57.exe is the kernel for five-level page tables.
            "ntoskrnl.exe" | "ntkrla57.exe" => {}
            "lxcore.sys" => continue,
            other => bail!("{other}: is that a kernel?"),
        }
        let arch = match attribute("arch")? {
            "amd64" => "x64",
            "arm64" => "arm64",
            other => bail!("unknown architecture {other}"),
        };
        let version = attribute("version")?.split('.').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        ensure!(version.len() == 4, "a version has four numbers: {tag}");
        let key = (arch, hex_value(attribute("timestamp")?)?, hex_value(attribute("size")?)?);
        kernels.entry(key).or_default().push(version);
    }
    let mut header = BUILDS.to_owned();
    let mut rows = BTreeMap::new();
    for ((arch, stamp, size), mut versions) in kernels {
        versions.sort();
        let mut versions = versions.iter().map(|version| {
            let numbers: Vec<String> = version.iter().map(u64::to_string).collect();
            numbers.join(".")
        });
        let version = versions.next().context("a kernel has a version")?;
        for twin in versions {
            header.push_str(&format!("# {arch} {twin} has the same identity as {version}.\n"));
        }
        insert_new(
            &mut rows,
            (arch, stamp, size),
            format!("{arch}\t{stamp:#010x}\t{size:#010x}\t{version}"),
        )?;
    }
    Ok(file(&header, rows))
}

fn records(shared: &Path, name: &str) -> Result<Vec<Value>> {
    let path = shared.join("kb").join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("parsing {}", path.display()))
}

fn kernel_list(shared: &Path) -> Result<String> {
    let path = shared.join("data/nt-builds/kphdyn.xml.gz");
    let packed = fs::File::open(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut xml = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut xml)?;
    Ok(xml)
}

fn file<K>(header: &str, rows: BTreeMap<K, String>) -> String {
    rows.into_values().fold(header.to_owned(), |text, row| text + &row + "\n")
}

fn insert_new<K: Ord + std::fmt::Debug>(rows: &mut BTreeMap<K, String>, key: K, row: String) -> Result<()> {
    ensure!(!row.contains('\n'), "{key:?}: a row is one line");
    match rows.insert(key, row) {
        None => Ok(()),
        Some(twice) => bail!("two rows have the key of: {twice}"),
    }
}

/// A parameter without what goes without saying: an unused one needs no text.
fn parameter(param: &Value) -> Value {
    if param.get("kind").and_then(Value::as_str) == Some("reserved") {
        return json!({"kind": "reserved"});
    }
    param.clone()
}

fn with_short_keys(values: &Value) -> Result<Value> {
    let mut short = Map::new();
    for (index, texts) in values.as_object().context("param_values is an object")? {
        let texts = texts.as_object().context("the values of a parameter are an object")?;
        let texts = texts.iter().map(|(value, text)| Ok((hex(hex_value(value)?), text.clone())));
        short.insert(index.clone(), Value::Object(texts.collect::<Result<_>>()?));
    }
    Ok(Value::Object(short))
}

/// "page.md; windows-sys" instead of where in which repository each lies: the file's first lines say that.
fn short_source(source: &str) -> String {
    let parts = source.split("; ").map(|part| {
        if part.starts_with("windows-sys") { "windows-sys" } else { part.rsplit('/').next().unwrap_or(part) }
    });
    parts.collect::<Vec<_>>().join("; ")
}

fn keep(row: &mut Map<String, Value>, record: &Value, names: &[&str]) {
    for name in names {
        if let Some(value) = record.get(*name).filter(|value| !value.is_null()) {
            row.insert((*name).to_owned(), value.clone());
        }
    }
}

fn keep_if_true(row: &mut Map<String, Value>, record: &Value, name: &str) {
    if record.get(name) == Some(&Value::Bool(true)) {
        row.insert(name.to_owned(), Value::Bool(true));
    }
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

fn hex_value(text: &str) -> Result<u64> {
    let digits = text.strip_prefix("0x").with_context(|| format!("{text:?} does not start with 0x"))?;
    u64::from_str_radix(digits, 16).with_context(|| format!("{text:?} is not hexadecimal"))
}

fn field<'a>(record: &'a Value, name: &str) -> Result<&'a Value> {
    record.get(name).with_context(|| format!("no {name} in {record}"))
}

fn string<'a>(record: &'a Value, name: &str) -> Result<&'a str> {
    field(record, name)?.as_str().with_context(|| format!("{name} is not a text in {record}"))
}

fn number(record: &Value, name: &str) -> Result<u64> {
    field(record, name)?.as_u64().with_context(|| format!("{name} is not a number in {record}"))
}

fn list<'a>(record: &'a Value, name: &str) -> Result<&'a [Value]> {
    let list =
        field(record, name)?.as_array().with_context(|| format!("{name} is not a list in {record}"))?;
    Ok(list)
}

fn object<'a>(record: &'a Value, name: &str) -> Result<&'a Map<String, Value>> {
    field(record, name)?.as_object().with_context(|| format!("{name} is not an object in {record}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_tables_are_what_the_generator_writes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let shared = root.join("../shared");
        if !shared.exists() {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), "SKIPPED: the_committed_tables_are_what_the_generator_writes: ../shared is not beside the checkout\n".as_bytes());
            return;
        }
        for (name, text) in render(&shared).unwrap() {
            let committed = fs::read_to_string(root.join("knowledge").join(name)).unwrap();
            let differs = committed.lines().zip(text.lines()).position(|(ours, theirs)| ours != theirs);
            assert!(
                committed == text,
                "knowledge/{name}:{}: differs from what `cargo xtask knowledge` writes; hand edits belong in knowledge/edits",
                differs.map_or(committed.lines().count().min(text.lines().count()), |line| line) + 1
            );
        }
    }

    #[test]
    fn kernels_that_share_an_identity_are_named_and_other_images_left_out() {
        let row = |version: &str, file: &str| {
            format!(
                r#"<data arch="amd64" version="{version}" file="{file}" hash="00" timestamp="0x10" size="0x1000">1</data>"#
            )
        };
        let xml = row("10.0.1.9", "ntoskrnl.exe")
            + &row("10.0.1.10", "ntoskrnl.exe")
            + &row("10.0.1.8", "lxcore.sys");
        let table = build_table(&xml).unwrap();
        let rows: Vec<&str> = table.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(rows, ["x64\t0x00000010\t0x00001000\t10.0.1.9"]);
        assert!(table.contains("# x64 10.0.1.10 has the same identity as 10.0.1.9."));
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        let status = json!({"code": 5, "name": "A"});
        assert!(status_table(std::slice::from_ref(&status)).is_ok());
        assert!(status_table(&[status.clone(), status]).is_err());
    }
}
