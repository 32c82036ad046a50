//! The post that started the project, as published.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

use stopcode_analysis::{Topic, Witness};
use stopcode_base::VirtAddr;
use stopcode_kernel::{StackKind, StopCode, Trust};
use stopcode_transcript::{Crash, looks_like_text, parse};

const SEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/seed/double-fault.txt");

fn seed(test: &str) -> Option<Crash> {
    let Ok(text) = std::fs::read(SEED) else {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("SKIPPED: {test}: ../shared is not beside the checkout\n").as_bytes(),
        );
        return None;
    };
    assert!(looks_like_text(&text));
    let mut crashes = parse(&text).unwrap();
    assert_eq!(crashes.len(), 1);
    crashes.pop()
}

#[test]
fn stop_and_processors() {
    let Some(crash) = seed("stop_and_processors") else { return };
    let arguments = [8, 0x8005_0033, 0x406f8, 0xffff_f800_032a_a875];
    assert_eq!(crash.stop(), Some(StopCode { code: 0x7f, arguments }));
    assert_eq!(crash.arguments_known(), [true; 4]);
    let frozen: Vec<_> = crash.processors().iter().map(|p| (p.number, p.ipi_frozen, p.crashed)).collect();
    let expected: Vec<_> = (0..8).map(|n| (n, Some(if n == 4 { 0 } else { 2 }), n == 4)).collect();
    assert_eq!(frozen, expected);
    assert_eq!(crash.system().processors, Some(8));
}

#[test]
fn stack() {
    let Some(crash) = seed("stack") else { return };
    let [stack] = crash.stacks() else { panic!("{} stacks", crash.stacks().len()) };
    assert_eq!((stack.kind, stack.processor), (StackKind::BugCheck, Some(4)));
    let pointers: Vec<u64> = stack.frames.iter().map(|frame| frame.stack_pointer.0).collect();
    assert_eq!(
        pointers,
        [
            0xffff_f880_009b_9de8,
            0xffff_f880_009b_9df0,
            0xffff_f880_009b_9f30,
            0xffff_f880_03dc_cfd0,
            0xffff_f880_03dc_d090,
            0xffff_f880_03dc_d160,
            0xffff_f880_03dc_d350,
            0xffff_f880_03dc_d400,
            0xffff_f880_03dc_d460,
            0xffff_f880_03dc_d490,
            0xffff_f880_03dc_d4d0,
            0xffff_f880_03dc_d530,
            0xffff_f880_03dc_d560,
        ]
    );
    let labels: Vec<String> = stack.frames.iter().filter_map(|frame| frame.place.label()).collect();
    assert_eq!(
        labels,
        [
            "nt!KeBugCheckEx",
            "nt!KiBugCheckDispatch+0x69",
            "nt!KiDoubleFaultAbort+0xb2",
            "nt!KiIpiSendRequest+0x305",
            "nt!KeFlushMultipleRangeTb+0x22a",
            "nt! ?? ::FNODOBFM::`string'+0x204ce",
            "nt!MiEmptyWorkingSet+0x24a",
            "nt!MiTrimAllSystemPagableMemory+0x218",
            "nt!MmVerifierTrimMemory+0xf1",
            "nt!ViKeRaiseIrqlSanityChecks+0xcf",
            "nt!VerifierKeAcquireSpinLockRaiseToDpc+0x54",
            "iaStor+0x253f5",
            "iaStor+0x32a2",
        ]
    );
    let fault = &stack.frames[3];
    assert_eq!((fault.instruction, fault.trust), (VirtAddr(0xffff_f800_032a_a875), Trust::PdbAssisted));
    let last = stack.frames.last().unwrap();
    assert_eq!(last.instruction, VirtAddr(0xffff_f880_0182_22a2));
    assert_eq!((last.place.image.as_deref(), last.trust), (Some("iastor.sys"), Trust::Unwind));
}

#[test]
fn module_and_code() {
    let Some(crash) = seed("module_and_code") else { return };
    let [module] = crash.modules() else { panic!("{} modules", crash.modules().len()) };
    assert_eq!((module.image.as_str(), module.display.as_str()), ("iastor.sys", "iaStor"));
    assert_eq!((module.base.0, module.size), (0xffff_f880_0181_f000, 0x3a_4000));
    assert_eq!(module.path, r"\SystemRoot\system32\DRIVERS\iaStor.sys");
    assert_eq!(module.link_date.get().unwrap().to_string(), "2012-02-01T19:15:24Z");
    let code = [
        0x5e, 0x5d, 0xc3, 0x8b, 0xc6, 0xe9, 0xe2, 0xfe, 0xff, 0xff, 0x0f, 0xb7, 0x0d, 0xb4, 0x89, 0x21, 0,
        0x0f, 0xb7, 0x05, 0xaf, 0x89, 0x21, 0, 0x8b, 0xfa,
    ];
    let start = VirtAddr(0xffff_f800_032a_a85b);
    assert_eq!(crash.bytes(start, 100).as_ref(), code);
    assert_eq!(crash.bytes(start.plus(2), 3).as_ref(), [0xc3, 0x8b, 0xc6]);
    assert!(crash.bytes(start.minus(1), 4).is_empty());
    assert_eq!(crash.place(start).label().as_deref(), Some("nt!KiIpiSendRequest+0x2eb"));
    assert_eq!(crash.place(start.plus(5)).label().as_deref(), Some("nt!KiIpiSendRequest+0x2f0"));
    let in_driver = crash.place(VirtAddr(0xffff_f880_0184_4400));
    assert_eq!(in_driver.label().as_deref(), Some("iaStor+0x25400"));
    assert_eq!(crash.place(VirtAddr(0x1234)).label(), None);
}

#[test]
fn what_the_author_says() {
    let Some(crash) = seed("what_the_author_says") else { return };
    let of = |topic: Topic| {
        crash.remarks().iter().filter(move |remark| remark.topic == topic).map(|r| r.text.as_str())
    };
    assert!(of(Topic::Product).any(|text| text == "Kaspersky"));
    let theories: Vec<_> = of(Topic::Theory).collect();
    assert!(
        theories.iter().any(|text| text.contains("every single processor (except #4) is in a frozen state"))
    );
    assert!(theories.len() <= 3, "{theories:#?}");
}
