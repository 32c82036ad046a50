//! `stopcode symbols` on real pairs of images and PDBs.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and skipped tests are told"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

fn shared(test: &str, path: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")).join(path);
    if !path.exists() {
        eprintln!("SKIPPED: {test}: ../shared is not beside the checkout");
        return None;
    }
    Some(path)
}

/// Exit code, standard output, standard error.
fn symbols(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_stopcode")).arg("symbols").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_pdb_is_listed_for_readers_and_for_programs() {
    let Some(pdb) = shared("a_pdb_is_listed", "data/pe/systeminformer/amd64/ksi.pdb") else { return };
    let pdb = pdb.to_str().unwrap();
    let (code, text, errors) = symbols(&["list", pdb]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let (code, json, _) = symbols(&["list", pdb, "--format", "json"]);
    let json: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json.len()), (Some(0), text.lines().count()));
    let function = json.iter().find(|entry| entry["name"] == "KsiRemoveQueueApc").unwrap();
    assert_eq!(function["kind"], "function");
    assert!(function["size"].as_u64().unwrap() > 0);

    let start = function["rva"].as_u64().unwrap();
    let end = start + function["size"].as_u64().unwrap();
    let addresses = [start, start + 4, end].map(|rva| format!("{rva:#x}"));
    let (code, text, _) = symbols(&["lookup", pdb, &addresses[0], &addresses[1], &addresses[2]]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((code, lines.len()), (Some(0), 3));
    assert!(lines[0].ends_with("KsiRemoveQueueApc  [its start; function record]"), "{text}");
    assert!(lines[1].contains("KsiRemoveQueueApc+0x4  [inside it"), "{text}");
    assert!(!lines[2].contains("inside it"), "{text}");
}

#[test]
fn lines_and_inlined_functions_are_shown_on_request() {
    let Some(pdb) = shared("lines_are_shown", "data/pe/systeminformer/amd64/systeminformer.pdb") else {
        return;
    };
    let pdb = pdb.to_str().unwrap();
    let (code, json, _) = symbols(&["list", pdb, "--format", "json"]);
    assert_eq!(code, Some(0));
    let json: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let function = json.iter().find(|entry| entry["name"] == "KphCommsSendMessage").unwrap();
    let rva = format!("{:x}", function["rva"].as_u64().unwrap());
    let (code, text, errors) = symbols(&["lookup", pdb, "--lines", &rva]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(text.lines().nth(1).unwrap().contains(".c @ "), "{text}");
    assert!(text.lines().last().unwrap().contains(".obj"), "{text}");
}

#[test]
fn types_are_shown_as_dt_shows_them() {
    let Some(pdb) = shared("types_are_shown", "data/pe/systeminformer/amd64/systeminformer.pdb") else {
        return;
    };
    let pdb = pdb.to_str().unwrap();
    let (code, text, errors) = symbols(&["types", pdb, "nt!_OBJECT_ATTRIBUTES", "_NO_SUCH"]);
    assert_eq!(code, Some(0));
    assert!(errors.contains("no type _NO_SUCH"), "{errors}");
    assert_eq!(
        text,
        "_OBJECT_ATTRIBUTES
   +0x000 Length           : Uint4B
   +0x008 RootDirectory    : Ptr64 Void
   +0x010 ObjectName       : Ptr64 _UNICODE_STRING
   +0x018 Attributes       : Uint4B
   +0x020 SecurityDescriptor : Ptr64 Void
   +0x028 SecurityQualityOfService : Ptr64 Void
   size 0x30
"
    );
    let (_, text, _) = symbols(&["types", pdb, "_DRIVER_OBJECT", "--field", "DriverUnload"]);
    assert!(text.contains("   +0x068 DriverUnload     : Ptr64     void\n"), "{text}");
    let (_, text, _) = symbols(&["types", pdb, "_UNICODE_STR*"]);
    assert_eq!(text, "          _UNICODE_STRING\n");
    let (_, json, _) = symbols(&["types", pdb, "_MODE", "_LIST_ENTRY", "-r1", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["values"][1]["name"], "UserMode", "{json}");
    assert_eq!((&json[1]["size"], &json[1]["members"][1]["depth"]), (&16.into(), &1.into()), "{json}");
}

#[test]
fn a_dump_is_identified_with_reasons() {
    let Some(dump) = shared("a_dump_is_identified", "data/dumps/triage_x64.dmp") else {
        return;
    };
    let (code, text, _) = symbols(&["identify", dump.to_str().unwrap()]);
    assert_eq!(code, Some(0));
    assert!(text.contains("10.0.19041.804") && text.contains("globals lie as in"), "{text}");
}

#[test]
fn names_of_many_builds_fit_into_one_file() {
    let test = "names_of_many_builds";
    let place = "data/isf/symbols/windows/ntkrnlmp.pdb";
    let (Some(tables), Some(dump)) = (shared(test, place), shared(test, "data/dumps/triage_x64.dmp")) else {
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(&tables).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let own = files.iter().find(|path| path.to_str().unwrap().contains("5278AFF8")).unwrap().clone();
    let some =
        files.iter().filter(|path| **path != own).take(2).chain([&own]).map(|path| path.to_str().unwrap());
    let pack = std::env::temp_dir().join(format!("stopcode-{}.names", std::process::id()));
    let arguments: Vec<&str> = ["pack", "-o", pack.to_str().unwrap()].into_iter().chain(some).collect();
    let (code, out, errors) = symbols(&arguments);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(out.starts_with("3 builds, "), "{out}");
    let (_, by_pack, _) = symbols(&["identify", "--symbols", pack.to_str().unwrap(), dump.to_str().unwrap()]);
    let (_, by_table, _) = symbols(&["identify", "--symbols", own.to_str().unwrap(), dump.to_str().unwrap()]);
    std::fs::remove_file(&pack).unwrap();
    assert!(by_pack.ends_with(&format!("names        {}\n", pack.display())), "{by_pack}");
    assert_eq!(by_pack.lines().take(4).collect::<Vec<_>>(), by_table.lines().take(4).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_read_is_said() {
    let (code, out, errors) = symbols(&["list", "/nonexistent/x.pdb"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(errors.contains("x.pdb"), "{errors}");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let (code, _, errors) = symbols(&["lookup", manifest, "1000"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("neither a PDB nor an image"), "{errors}");
    assert_eq!(symbols(&["lookup", manifest, "+10"]).0, Some(64));
}
