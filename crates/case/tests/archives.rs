//! Dumps in archives, and in archives in archives.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // Tests.

use std::io::{Cursor, Write};
use stopcode_case::{DumpReport, Options, Report, analyze};

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../../samples/{name}.dmp", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn zip(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap().into_inner()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn cab(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = cab::CabinetBuilder::new();
    let folder = builder.add_folder(cab::CompressionType::MsZip);
    for (name, _) in members {
        folder.add_file(*name);
    }
    let mut writer = builder.build(Cursor::new(Vec::new())).unwrap();
    let mut contents = members.iter();
    while let Some(mut file) = writer.next_file().unwrap() {
        file.write_all(contents.next().unwrap().1).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// What is reported of a file with these bytes: the end of each name, and its kind.
fn reported(name: &str, bytes: &[u8]) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let of = |report: &DumpReport| {
        let at = report.input.path.find(name).unwrap();
        (report.input.path[at..].to_owned(), report.input.kind.clone())
    };
    match analyze(&[path], &Options::default()) {
        Report::One(report) => vec![of(&report)],
        Report::Many(series) => series.dumps.iter().map(of).collect(),
    }
}

fn expected(names: &[(&str, &str)]) -> Vec<(String, String)> {
    names.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect()
}

#[test]
fn dumps_are_read_where_they_are_packed() {
    let (one, two) = (sample("driver-null-write"), sample("memory-bit-flip"));
    assert_eq!(reported("a.dmp.gz", &gzip(&one)), expected(&[("a.dmp.gz!a.dmp", "triage64")]));
    let both = cab(&[("one.dmp", &one), ("two.dmp", &two), ("empty.dmp", b"")]);
    let names =
        [("w.cab!one.dmp", "triage64"), ("w.cab!two.dmp", "triage64"), ("w.cab!empty.dmp", "unreadable")];
    assert_eq!(reported("w.cab", &both), expected(&names));
    // What Windows Error Reporting sends, sent on.
    let sent = zip("report/w.cab", &both);
    let names = [
        ("z.zip!report/w.cab!one.dmp", "triage64"),
        ("z.zip!report/w.cab!two.dmp", "triage64"),
        ("z.zip!report/w.cab!empty.dmp", "unreadable"),
    ];
    assert_eq!(reported("z.zip", &sent), expected(&names));
    // Packed three times: the third is not opened.
    let thrice = zip("b.zip", &zip("c.zip", &zip("d.dmp", &one)));
    assert_eq!(reported("a.zip", &thrice), expected(&[("a.zip!b.zip!c.zip", "unreadable")]));
    assert_eq!(reported("none.cab", &cab(&[("read.me", b"no")])), expected(&[("none.cab", "unreadable")]));
}
