//! `stopcode synth`: what it writes, `stopcode analyze` reads.

#![cfg(feature = "synth")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stopcode-synth-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn stopcode(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stopcode")).args(arguments).output().unwrap()
}

fn sample(name: &str) -> String {
    format!("{}/../../samples/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_described_machine_is_written_and_read() {
    let folder = Folder::new("described");
    let out = folder.0.join("seed.dmp").display().to_string();
    let machine = sample("seed-double-fault.json");
    let done = stopcode(&["synth", "--machine", &machine, "--kind", "bitmap-kernel", "-o", &out]);
    assert!(done.status.success(), "{done:?}");
    let read = stopcode(&["analyze", &out]);
    assert!(String::from_utf8_lossy(&read.stdout).contains("UNEXPECTED_KERNEL_MODE_TRAP"), "{read:?}");
}

#[test]
fn planted_faults_come_with_their_truth() {
    let folder = Folder::new("planted");
    let out = folder.0.display().to_string();
    let done = stopcode(&["synth", "planted", "--seed", "3", "--count", "4", "-o", &out]);
    assert!(done.status.success(), "{done:?}");
    let text = std::fs::read_to_string(folder.0.join("truth.json")).unwrap();
    let truths: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(truths.len(), 4);
    for (name, truth) in &truths {
        let read = stopcode(&["analyze", "--format", "json", &folder.0.join(name).display().to_string()]);
        assert!(read.status.success(), "{name}: {read:?}");
        assert!(truth["stop_code"].is_string() && truth["hardware"].is_boolean());
    }
}

/// The drivers' files come along, each under its own key: with them a flipped opcode is seen as what it is.
#[test]
fn the_drivers_of_planted_machines_have_files() {
    let folder = Folder::new("images");
    let out = folder.0.display().to_string();
    let done = stopcode(&["synth", "planted", "--seed", "996000", "--count", "60", "-o", &out]);
    assert!(done.status.success(), "{done:?}");
    let text = std::fs::read_to_string(folder.0.join("truth.json")).unwrap();
    let truths: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    let images = folder.0.join("images").display().to_string();
    let of = |class: &str| {
        let fitting =
            truths.iter().filter(|(_, truth)| truth["class"] == class).map(|(name, _)| name.clone());
        fitting.map(|name| folder.0.join(name).display().to_string()).collect::<Vec<_>>()
    };
    for (class, changed) in [("opcode-bit", true), ("bad-jump", false)] {
        let machines = of(class);
        assert_eq!(machines.len(), 3, "{class}");
        for machine in machines {
            let read = stopcode(&["analyze", "--symbols", &images, &machine]);
            let text = String::from_utf8_lossy(&read.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(text.contains("code in memory and in its file differ"), changed, "{class}: {text}");
        }
    }
}

/// A mistake names the field, and leaves no file behind.
#[test]
fn mistakes_are_named() {
    let folder = Folder::new("mistakes");
    let (machine, out) = (folder.0.join("machine.json"), folder.0.join("out.dmp"));
    let text = std::fs::read_to_string(sample("driver-null-write.json")).unwrap();
    let written = |text: &str, kind: &str| {
        std::fs::write(&machine, text).unwrap();
        let [machine, out] = [&machine, &out].map(|path| path.display().to_string());
        let done = stopcode(&["synth", "--machine", &machine, "--kind", kind, "-o", &out]);
        assert_eq!(done.status.code(), Some(2));
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    assert!(written(&text.replace("crash_time", "crash_tiem"), "triage").contains("`crash_tiem`"));
    assert!(written(&text.replace("19041", "12345"), "triage").contains("build 12345"));
    let file = text.replacen(
        "\"modules\": [\n",
        "\"modules\": [\n{\"path\": \"x\", \"base\": \"0x0\", \"file\": \"no.sys\"},\n",
        1,
    );
    assert!(written(&file, "complete").contains("no.sys"), "{file}");
    assert!(!Path::new(&out).exists());
}
