//! Source lines, on an invented machine that has a real driver with a PDB loaded.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use common::{sample, shared};
use std::path::Path;
use stopcode_commands::{Session, Status, run};
use stopcode_dump::Dump;
use stopcode_image::Image;
use stopcode_kernel::Machine;
use stopcode_symbols::{PdbFile, SymbolSource};
use stopcode_synth::{Hex, triage};

/// A machine on which the driver in `file` is loaded in the place of the last one of a sample's, and where that is.
fn machine_with(file: &Path) -> (Session, u64) {
    let bytes = std::fs::read(file).unwrap();
    let image = Image::of_file(&bytes).unwrap();
    let mut described =
        stopcode_synth::Machine::read(&sample("driver-null-write").with_extension("json")).unwrap();
    let driver = described.modules.last_mut().unwrap();
    driver.path = format!(r"\SystemRoot\System32\drivers\{}", file.file_name().unwrap().to_string_lossy());
    driver.time_stamp = Hex(image.headers().time_date_stamp.into());
    driver.size = Hex(image.headers().size_of_image.into());
    let base = driver.base.0;
    let dump = Dump::from_bytes(triage::write(&described).unwrap()).unwrap();
    let symbols = SymbolSource::new([file.parent().unwrap().to_owned()]);
    (Session::new(Machine::new(dump, &symbols), ""), base)
}

#[test]
fn lines_are_those_of_the_pdb() {
    let Some(data) = shared("lines_are_those_of_the_pdb") else { return };
    let driver = data.join("pe/systeminformer/amd64/systeminformer.sys");
    let pdb = PdbFile::open(std::fs::File::open(driver.with_extension("pdb")).unwrap()).unwrap();
    let (mut session, base) = machine_with(&driver);
    let mut asked = 0;
    for (rva, line) in pdb.all_lines().step_by(997) {
        let at = base + u64::from(rva);
        let answer = run(&mut session, &format!("ln {at:x}")).remove(0);
        assert_eq!(answer.status, Status::Answer, "{answer:?}");
        // The last of several lines that begin at the same address is the one the PDB gives.
        let line = pdb.line(rva).unwrap_or(line);
        assert_eq!(
            (&answer.data["source"]["file"], &answer.data["source"]["line"]),
            (&line.file.as_str().into(), &line.line.into())
        );
        let shown = format!("[{} @ {}]", line.file, line.line);
        assert!(answer.text.lines().any(|text| text == shown), "{}", answer.text);
        let stack = run(&mut session, &format!("k = @$csp {at:x}")).remove(0);
        assert!(stack.text.lines().nth(1).unwrap().ends_with(&shown), "{}", stack.text);
        let bare = run(&mut session, &format!("kL = @$csp {at:x}")).remove(0);
        assert!(!bare.text.contains(&shown));
        asked += 1;
    }
    assert!(asked > 5, "{asked}");
    run(&mut session, ".lines -d");
    assert!(!run(&mut session, &format!("ln {:x}", base + 0x2000)).remove(0).text.contains(" @ "));
}
