//! Unwinding against what a processor did: recordings of compiled functions in an emulator (`harness/unwind`).
//!
//! A sample lies beside this file. `STOPCODE_UNWIND_RECORDS` names a folder with larger ones.
#![allow(clippy::indexing_slicing, clippy::print_stderr, clippy::unwrap_used)]

mod common;

use common::LoadedImage;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use stopcode_base::{SliceMemory, VirtAddr};
use stopcode_unwind::{Arm64Frame, Stands, X64Frame, X64Rules, unwind_arm64, unwind_x64};

/// rbx, rsp, rbp, rsi, rdi, r12 to r15.
const NONVOLATILE: [usize; 9] = [3, 4, 5, 6, 7, 12, 13, 14, 15];

/// Recordings by name, and the images they were made of.
const IMAGES: [(&str, &str); 17] = [
    ("systeminformer", "systeminformer/amd64/systeminformer.sys"),
    ("ksi", "systeminformer/amd64/ksi.dll"),
    ("winpty", "node-pty/x64/winpty.dll"),
    ("xcpt4", "seh/x64/xcpt4.exe"),
    ("nested_collided", "seh/x64/nested_collided.exe"),
    ("xframe_eh_dll", "seh/x64/xframe_eh_dll.dll"),
    ("xframe_eh_exe", "seh/x64/xframe_eh_exe.exe"),
    ("windivert", "windivert/WinDivert64_2.2.sys"),
    ("windivert_1_3", "windivert/WinDivert64_1.3.sys"),
    ("winpmem", "winpmem/winpmem_x64_test.sys"),
    ("systeminformer_arm64", "systeminformer/arm64/systeminformer.sys"),
    ("ksi_arm64", "systeminformer/arm64/ksi.dll"),
    ("winpty_arm64", "node-pty/arm64/winpty.dll"),
    ("xcpt4_arm64", "seh/ARM64/xcpt4.exe"),
    ("nested_collided_arm64", "seh/ARM64/nested_collided.exe"),
    ("xframe_eh_dll_arm64", "seh/ARM64/xframe_eh_dll.dll"),
    ("xframe_eh_exe_arm64", "seh/ARM64/xframe_eh_exe.exe"),
];

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn words<const N: usize>(&mut self) -> [u64; N] {
        [(); N].map(|()| self.u64())
    }

    fn gpr(&mut self) -> [u64; 16] {
        self.words()
    }

    /// xmm6 to xmm15.
    fn xmm(&mut self) -> [u128; 10] {
        [(); 10].map(|()| u128::from_le_bytes(self.take(16).try_into().unwrap()))
    }
}

#[derive(Default)]
struct Tally {
    records: usize,
    offsets: BTreeSet<(u32, u32)>,
    after_calls: usize,
    wrong: Vec<String>,
}

fn compare(image: &LoadedImage, recording: &[u8]) -> Tally {
    let mut tally = Tally::default();
    let rules = X64Rules::new();
    let mut all = Cursor(recording);
    assert_eq!(all.take(4), b"SCUW");
    assert_eq!(
        (all.u64(), (all.u32(), all.u32())),
        (image.base, image.pdata),
        "a recording of another image"
    );
    while !all.0.is_empty() {
        let (kind, rva, function) = (all.u32(), all.u32(), all.u32());
        let (gpr, xmm) = (all.gpr(), all.xmm());
        let (rip, rsp) = (all.u64(), all.u64());
        let (mut expected, expected_xmm) = (all.gpr(), all.xmm());
        expected[4] = rsp;
        let length = all.u32() as usize;
        let stack = SliceMemory { base: VirtAddr(gpr[4]), bytes: all.take(length) };

        let mut frame =
            X64Frame { rip: image.base + u64::from(rva), gpr, known: 0xffff, ..X64Frame::default() };
        frame.xmm[6..].copy_from_slice(&xmm);
        frame.known_xmm = 0xffc0;
        let stands = if kind == 1 { Stands::AfterCall } else { Stands::Interrupted };
        tally.records += 1;
        if kind == 1 {
            tally.after_calls += 1;
            frame.known = 0xf0f8;
        } else {
            tally.offsets.insert((function, rva));
        }
        let found = unwind_x64(&image.view(), &stack, &frame, stands);
        // A rule that was kept undoes a frame as the data itself does: asked twice, so that the second finds it.
        for _ in 0..2 {
            let kept = rules.unwind(&image.view(), &stack, &frame, stands);
            assert_eq!(format!("{kept:?}"), format!("{found:?}"), "{rva:#x}");
        }
        let fault = match found {
            Err(why) => Some(why.to_string()),
            Ok(caller) => {
                let got = caller.frame;
                let wrong: Vec<_> =
                    NONVOLATILE.iter().filter(|n| got.get(**n as u8) != Some(expected[**n])).collect();
                let same = got.rip == rip
                    && wrong.is_empty()
                    && got.xmm[6..] == expected_xmm
                    && got.known_xmm == 0xffc0;
                (!same).then(|| format!("rip {:#x}, registers {wrong:?}", got.rip))
            }
        };
        tally.wrong.extend(fault.map(|fault| format!("{stands:?} {rva:#x} of {function:#x}: {fault}")));
    }
    tally
}

fn compare_arm64(image: &LoadedImage, recording: &[u8]) -> Tally {
    let mut tally = Tally::default();
    let mut all = Cursor(recording);
    assert_eq!(all.take(4), b"SCUA");
    assert_eq!(
        (all.u64(), (all.u32(), all.u32())),
        (image.base, image.pdata),
        "a recording of another image"
    );
    while !all.0.is_empty() {
        let (kind, rva, function) = (all.u32(), all.u32(), all.u32());
        let (x, sp, d) = (all.words::<31>(), all.u64(), all.words::<8>());
        let expected = (all.u64(), all.u64(), all.words::<11>(), all.words::<8>());
        let length = all.u32() as usize;
        let stack = SliceMemory { base: VirtAddr(sp), bytes: all.take(length) };
        let pc = image.base + u64::from(rva);
        let mut frame = Arm64Frame { pc, sp, x, known: 0x7fff_ffff, d, known_d: 0xff };
        tally.records += 1;
        let stands = if kind == 1 { Stands::AfterCall } else { Stands::Interrupted };
        if kind == 1 {
            tally.after_calls += 1;
            frame.known = 0x3ff8_0000;
        } else {
            tally.offsets.insert((function, rva));
        }
        let fault = match unwind_arm64(&image.view(), &stack, &frame, stands) {
            Err(why) => Some(why.to_string()),
            Ok(caller) => {
                let got = caller.frame;
                let x = [(); 11].map({
                    let mut register = 18;
                    move |()| {
                        register += 1;
                        got.get(register).unwrap_or(0)
                    }
                });
                let wrong: Vec<_> = (0..11).filter(|n| x[*n] != expected.2[*n]).map(|n| n + 19).collect();
                ((got.pc, got.sp, x, got.d) != expected).then(|| {
                    format!("pc {:#x}, sp {:#x} for {:#x}, registers {wrong:?}", got.pc, got.sp, expected.1)
                })
            }
        };
        tally.wrong.extend(fault.map(|fault| format!("{stands:?} {rva:#x} of {function:#x}: {fault}")));
    }
    tally
}

fn recordings() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let larger = std::env::var_os("STOPCODE_UNWIND_RECORDS").map(PathBuf::from);
    let mut found = Vec::new();
    for entry in
        [Some(folder), larger].into_iter().flatten().flat_map(|folder| std::fs::read_dir(folder).unwrap())
    {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
        let mut bytes = std::fs::read(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "xz") {
            let mut plain = Vec::new();
            lzma_rust2::XzReader::new(bytes.as_slice(), false).read_to_end(&mut plain).unwrap();
            bytes = plain;
        }
        found.push((name, bytes));
    }
    found
}

#[test]
fn every_recorded_frame_is_the_shadow_stacks() {
    let recordings = recordings();
    assert!(!recordings.is_empty());
    let mut wrong = Vec::new();
    for (name, recording) in recordings {
        let (_, path) = IMAGES.iter().find(|(key, _)| *key == name).unwrap();
        let Some(image) = LoadedImage::open("against_a_processor", path) else { return };
        let tally = if recording.starts_with(b"SCUA") {
            compare_arm64(&image, &recording)
        } else {
            compare(&image, &recording)
        };
        eprintln!(
            "{name}: {} records, {} offsets, {} after calls, {} wrong",
            tally.records,
            tally.offsets.len(),
            tally.after_calls,
            tally.wrong.len()
        );
        wrong.extend(tally.wrong.into_iter().take(12).map(|fault| format!("{name}: {fault}")));
        assert!(tally.offsets.len() > 200, "{name}: hardly anything was recorded");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
