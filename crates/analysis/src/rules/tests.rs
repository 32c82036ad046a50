//! For each rule a case that it speaks to and one that it must stay out of; and what holds for every case.

use crate::fake::{DRIVERS, Fake, NT, STACK, confidence, lead, of, refuted, registers, says};
use crate::{Class, Topic, judge};
use proptest::prelude::*;
use stopcode_base::{VirtAddr, X64Registers};

const KERNEL_STACK: [&str; 4] =
    ["nt!KeBugCheckEx", "nt!KiBugCheckDispatch", "nt!KiPageFault", "nt!ExFreePool"];

#[test]
fn verifier_names_the_nearest_driver_and_nobody_where_there_is_none() {
    let stop = || Fake::new(0xc4, [0x2000, 0, 0, 0]);
    let (class, module, sure) =
        lead(&stop().stack(&["nt!KeBugCheckEx", "nt!VerifierBugCheck", "guilty.sys", "other.sys"]));
    assert_eq!((class, module.as_deref()), (Class::VerifierDetectedDriverBug, Some("guilty.sys")));
    assert!(sure >= 0.8);
    assert_eq!(lead(&stop().stack(&KERNEL_STACK)).1, None);
}

/// A device that reads or writes where it must not is caught by the chipset, in the middle of whatever runs.
#[test]
fn a_device_kept_from_memory_is_not_the_driver_that_was_interrupted() {
    const DEVICE: u64 = 0xffff_e001_2d3a_4060;
    let stop = || Fake::new(0xe6, [0x26, DEVICE, 0x1000, 6]).stack(&["nt!KeBugCheckEx", "bystander.sys"]);
    let (class, module, _) = lead(&stop());
    assert_ne!((class, module.as_deref()), (Class::VerifierDetectedDriverBug, Some("bystander.sys")));
    let own = stop().module("owner.sys").device(DEVICE, r"\Driver\owner");
    assert!(says(&own, Class::VerifierDetectedDriverBug, "Driver Verifier"));
    assert!(judge(&own).hypotheses.iter().any(|h| {
        h.suspect.as_ref().is_some_and(|suspect| suspect.module.as_deref() == Some("owner.sys"))
    }));
}

#[test]
fn a_driver_that_left_work_behind_is_named_only_by_its_address() {
    let (touched, elsewhere) = (DRIVERS + 0x10, 0xffff_e000_0000_1000);
    for (code, arguments) in [
        (0xce, [touched, 8, touched, 0]),
        (0xce, [elsewhere, 0, touched, 0]),
        (0xd4, [touched, 2, 8, touched]),
        (0xcb, [touched, 0, elsewhere, 1]),
    ] {
        let named = Fake::new(code, arguments).module("gone.sys");
        assert_eq!(lead(&named).1.as_deref(), Some("gone.sys"), "{code:#x}");
        assert!(says(&named, Class::DriverBug, "is in gone.sys"));
        assert_eq!(lead(&Fake::new(code, arguments)).1, None, "{code:#x}");
    }
    // The bytes left in pages, and a list of what was locked, are in no driver.
    assert_eq!(lead(&Fake::new(0xcb, [elsewhere, 0, elsewhere, 1]).module("other.sys")).1, None);
}

#[test]
fn the_device_of_an_argument_is_its_drivers() {
    const DEVICE: u64 = 0xffff_e001_2d3a_4060;
    let stop = |driver: &str| {
        Fake::new(0x9f, [1, DEVICE, 0, 0]).device(DEVICE, driver).module("guilty.sys").module("disk.sys")
    };
    assert_eq!(lead(&stop(r"\Driver\guilty")).1.as_deref(), Some("guilty.sys"));
    let by_bus = Fake::new(0x9f, [3, DEVICE, 0, 0]).device(DEVICE, r"\Driver\guilty").module("guilty.sys");
    assert_eq!(lead(&by_bus).1, None);
    assert!(says(&stop(r"\Driver\guilty"), Class::DriverBug, "(Arg2) is of"));
    // Windows' own drivers make devices for those of others; a driver that is not loaded has no image to name.
    for driver in [r"\Driver\disk", r"\Driver\unknown"] {
        assert_eq!(lead(&stop(driver)).1, None, "{driver}");
    }
}

#[test]
fn the_watchdogs_history_names_who_stands_in_it_most() {
    let stop = || {
        Fake::new(0x133, [1, 0x1e00, 0, 0])
            .stack(&["nt!KeBugCheckEx", "nt!KeAccumulateTicks", "nt!KiIdleLoop"])
            .module("some.sys")
            .module("guilty.sys")
    };
    let (some, guilty) = (DRIVERS + 0x10, DRIVERS + 0x10_0010);
    let code: Vec<u64> = [[NT + 0x1000, NT + 0x2000, guilty], [NT + 0x1000, some, guilty]].concat().repeat(4);
    let told = stop().history(&code);
    assert_eq!(lead(&told).1.as_deref(), Some("guilty.sys"));
    assert!(says(&told, Class::DriverBug, "8 lie in guilty.sys"));
    // Too few say nothing, and the kernel's own name nobody.
    for code in [vec![guilty; 7], vec![NT + 0x1000; 40]] {
        assert_eq!(lead(&stop().history(&code)).1, None);
    }
    assert!(judge(&stop()).missing.iter().any(|it| it.contains("history of deferred procedure calls")));
}

#[test]
fn a_pool_tag_names_the_one_driver_that_has_it() {
    let stop = || {
        Fake::new(0xc2, [0xa, 0xffff_c001_0000_0000, u64::from(u32::from_le_bytes(*b"Glt1")), 0])
            .stack(&["nt!KeBugCheckEx", "nt!ExFreePoolWithTag"])
            .module("guilty.sys")
            .module("other.sys")
            .module("disk.sys")
    };
    let one = stop().constant("guilty.sys", *b"Glt1");
    assert_eq!(lead(&one).1.as_deref(), Some("guilty.sys"));
    assert!(says(&one, Class::PoolCorruptionByDriver, "\"Glt1\""));
    // In two it may stand by chance; Windows' own have tags of their own.
    let two = stop().constant("guilty.sys", *b"Glt1").constant("other.sys", *b"Glt1");
    for fake in [two, stop().constant("disk.sys", *b"Glt1"), stop()] {
        assert_eq!(lead(&fake).1, None);
    }
}

#[test]
fn a_check_in_the_call_convicts_its_caller_only() {
    let caller =
        Fake::new(0xe3, [0; 4]).stack(&["nt!KeBugCheckEx", "nt!ExReleaseResourceLite", "guilty.sys"]);
    assert!(lead(&caller).2 >= 0.8);
    let left = Fake::new(0x13c, [0; 4]).stack(&["nt!KeBugCheckEx", "nt!PspThreadDelete"]);
    let (class, module, sure) = lead(&left);
    assert_eq!((class, module), (Class::DriverBug, None));
    assert!(sure < 0.9);
}

#[test]
fn limits_prove_an_overflow_or_refute_it() {
    let limit = STACK & !0xfff;
    let stop = |pointer| {
        Fake::new(0x7f, [8, 0xffff_f900_0000_0000, pointer, NT + 0x1020])
            .stack_at(&[
                ("nt!KeBugCheckEx", STACK + 0x9000),
                ("nt!KiDoubleFaultAbort", STACK + 0x9100),
                ("nt!A", pointer),
            ])
            .limits(limit, limit + 0x6000)
    };
    let out = stop(limit - 0x30).entry(limit - 0x1000, 0).entry(limit, 0x8000_0000_1234_5963);
    assert!(confidence(&out, Class::KernelStackOverflow) >= 0.9);
    assert!(says(&out, Class::KernelStackOverflow, "guard page"));
    assert!(confidence(&stop(limit + 0x3000), Class::KernelStackOverflow) < 0.5);
    let mapped = stop(limit - 0x30).entry(limit - 0x1000, 0x8000_0000_1234_5963);
    assert!(refuted(&mapped, Class::KernelStackOverflow, "not the stack's end"));
}

/// Deferred procedure calls run on a stack of the processor: its limits count, not the thread's.
#[test]
fn on_a_stack_of_the_processors_its_own_limits_count() {
    let (limit, own) = (STACK & !0xfff, 0xffff_f9a0_0001_0000);
    let stop = |pointer| {
        Fake::new(0x7f, [8, 0xffff_f900_0000_0000, pointer, NT + 0x1020])
            .stack_at(&[
                ("nt!KeBugCheckEx", STACK + 0x9000),
                ("nt!KiDoubleFaultAbort", STACK + 0x9100),
                ("nt!A", pointer),
            ])
            .limits(limit, limit + 0x6000)
            .processor_stack(own, own + 0x6000)
    };
    let out = stop(own - 0x30).entry(own - 0x1000, 0);
    assert!(confidence(&out, Class::KernelStackOverflow) >= 0.9);
    assert!(says(&out, Class::KernelStackOverflow, "the stack of processor 0, deferred procedure calls"));
    assert!(confidence(&stop(own + 0x3000), Class::KernelStackOverflow) < 0.5);
    let flipped = stop((own + 0x3000) ^ 1 << 40);
    assert!(says(
        &flipped,
        Class::ProcessorHardware,
        "one flipped bit (bit 40) away from the stack of processor 0"
    ));
}

#[test]
fn a_text_suggests_an_overflow_and_never_proves_it() {
    let text = Fake::new(0x7f, [8, 0x8005_0033, 0x406f8, NT + 0x1020])
        .text()
        .stack_at(&[
            ("nt!KeBugCheckEx", 0xffff_f880_009b_9de8),
            ("nt!KiDoubleFaultAbort", 0xffff_f880_009b_9f30),
            ("nt!A", 0xffff_f880_03dc_cfd0),
            ("nt!VerifierB", 0xffff_f880_03dc_d090),
            ("filter.sys", 0xffff_f880_03dc_d160),
            ("nt!C", 0xffff_f880_03dc_d200),
        ])
        .frozen(&[2, 2, 0])
        .remark(Topic::Theory, "every processor is frozen")
        .remark(Topic::Product, "Kaspersky");
    let (class, _, sure) = lead(&text);
    assert_eq!(class, Class::KernelStackOverflow);
    assert!((0.5..0.9).contains(&sure), "{sure}");
    for words in ["page line", "does not hold", "Kaspersky", "Driver Verifier's own checks"] {
        assert!(says(&text, Class::KernelStackOverflow, words), "{words}");
    }
    assert!((0.02..0.3).contains(&confidence(&text, Class::DriverBug)));
}

#[test]
fn a_shallow_stack_walked_to_its_end_had_not_run_out() {
    let shallow = Fake::new(0x7f, [8, 0, 0, 0]).text().stack_at(&[
        ("nt!KiUnlockDispatcherDatabase", 0xffff_f880_0000_5100),
        ("nt!NtWait", 0xffff_f880_0000_5200),
        ("nt!KiSystemServiceCopyEnd", 0xffff_f880_0000_5300),
    ]);
    assert_ne!(lead(&shallow).0, Class::KernelStackOverflow);
    let deep = Fake::new(0x7f, [8, 0, 0, 0]).text().stack_at(&[
        ("nt!KiDoubleFaultAbort", 0xffff_f880_0100_0000),
        ("nt!A", 0xffff_f880_0000_0100),
        ("nt!KiSystemServiceCopyEnd", 0xffff_f880_0000_5f00),
    ]);
    assert_eq!(lead(&deep).0, Class::KernelStackOverflow);
}

#[test]
fn age_is_told_in_years_where_the_crash_is_dated() {
    let base = || Fake::new(0x7f, [8, 0, 0, 0]).stack(&["nt!KiDoubleFaultAbort", "nt!A", "old.sys", "nt!B"]);
    let year = 31_557_600;
    assert!(says(
        &base().dates("old.sys", 1_000_000_000, 1_000_000_000 + 5 * year),
        Class::DriverBug,
        "5 years before the crash"
    ));
    assert!(!says(
        &base().dates("old.sys", 1_000_000_000, 1_000_000_000 + year),
        Class::DriverBug,
        "before the crash"
    ));
}

#[test]
fn one_bit_in_an_empty_page_table_entry_is_memory_and_many_are_a_stray_write() {
    let entry = |value| Fake::new(0x1a, [0x41792, 0xffff_f680_0000_1000, value, 0]);
    let one = entry(1 << 37);
    assert_eq!(lead(&one).0, Class::MemoryHardware);
    assert!(says(&one, Class::MemoryHardware, "bit 37"));
    assert_eq!(lead(&entry(0x0123_4567_89ab_cdef)).0, Class::PoolCorruptionByDriver);
}

#[test]
fn damaged_pool_names_who_handed_it_over_and_a_broken_cookie_is_a_function_of_its_own() {
    let pool = Fake::new(0x19, [0x20, 0, 0, 0]).stack(&["nt!KeBugCheckEx", "nt!ExFreePool", "guilty.sys"]);
    let (class, module, _) = lead(&pool);
    assert_eq!((class, module.as_deref()), (Class::PoolCorruptionByDriver, Some("guilty.sys")));
    let cookie = Fake::new(0x139, [2, 0, 0, 0]).stack(&["nt!KeBugCheckEx", "guilty.sys"]);
    assert_eq!(lead(&cookie).0, Class::DriverBug);
    assert_eq!(lead(&Fake::new(0x19, [0x20, 0, 0, 0])).1, None);
}

/// `mov eax,[rcx+10h]`
const LOAD: [u8; 3] = [0x8b, 0x41, 0x10];

#[test]
fn an_instruction_that_cannot_raise_its_fault_speaks_against_its_driver() {
    let at = VirtAddr(DRIVERS + 0x1000);
    let case =
        |touched: u64, rcx: u64| {
            Fake::new(0x7e, [0xc000_0005, at.0, 0, 0])
                .stack(&["driver.sys", "nt!PspSystemThreadStartup"])
                .fault(at, touched, registers(rcx), &LOAD)
        };
    let honest = case(0x10, 0);
    assert_eq!(lead(&honest).1.as_deref(), Some("driver.sys"));
    assert!(lead(&honest).2 >= 0.8);
    let impossible = case(0x4444, 0xffff_9000_0000_0000);
    assert!(refuted(&impossible, Class::DriverBug, "cannot have raised it"));
    assert!(says(&impossible, Class::ProcessorHardware, "cannot have raised it"));
    assert!(lead(&impossible).2 < lead(&honest).2 - 0.2);
}

#[test]
fn a_flipped_bit_acquits_the_driver_it_was_given_to() {
    let at = VirtAddr(DRIVERS + 0x1000);
    let pointer = 0xffff_9000_1234_0000_u64;
    let case =
        |touched: u64| {
            Fake::new(0x7e, [0xc000_0005, at.0, 0, 0])
                .stack(&["driver.sys", "nt!PspSystemThreadStartup"])
                .fault(at, touched, registers(pointer), &[0x90])
        };
    let flipped = case((pointer + 0x10) ^ 1 << 40);
    assert!(says(&flipped, Class::MemoryHardware, "bit 40"));
    assert!(confidence(&flipped, Class::DriverBug) < confidence(&case(0x10), Class::DriverBug));
    assert!(!says(&case(0x10), Class::MemoryHardware, "bit"));
}

#[test]
fn an_instruction_set_that_the_processor_lacks_is_told_from_one_it_has() {
    let at = VirtAddr(DRIVERS + 0x1000);
    let popcnt = [0xf3, 0x48, 0x0f, 0xb8, 0xc1];
    let case = |features| {
        Fake::new(0x7e, [0xc000_001d, at.0, 0, 0])
            .stack(&["driver.sys", "nt!PspSystemThreadStartup"])
            .fault(at, 0, registers(0), &popcnt)
            .status(0xc000_001d)
            .features(features)
    };
    assert!(says(&case(0), Class::DriverBug, "POPCNT"));
    assert!(!says(&case(1 << 23), Class::DriverBug, "POPCNT"));
    assert!(says(&case(1 << 23), Class::ProcessorHardware, "illegal"));
}

#[test]
fn a_framework_is_not_blamed_for_its_client() {
    let at = VirtAddr(DRIVERS + 0x1000);
    let case = |image: &str| {
        Fake::new(0xd1, [0x10, 2, 0, at.0]).stack(&[image, "nt!KiStartSystemThread"]).fault(
            at,
            0x10,
            registers(0),
            &LOAD,
        )
    };
    assert_eq!(lead(&case("wdf01000.sys")).1, None);
    assert_eq!(lead(&case("driver.sys")).1.as_deref(), Some("driver.sys"));
}

#[test]
fn graphics_names_the_driver_in_its_argument_and_no_other_code_does() {
    let tdr = Fake::new(0x116, [0, DRIVERS + 0x500, 0, 0]).module("display.sys");
    let (class, module, sure) = lead(&tdr);
    assert_eq!((class, module.as_deref()), (Class::GpuDriverOrHardware, Some("display.sys")));
    assert!(sure >= 0.8);
    let power = judge(&Fake::new(0x9f, [3, DRIVERS + 0x500, 0, 0]));
    assert!(of(&power, Class::GpuDriverOrHardware).is_none());
}

/// An exception that code raises itself is its own, and no hardware's.
#[test]
fn a_breakpoint_and_a_division_are_the_codes_own() {
    let at = VirtAddr(DRIVERS + 0x1000);
    for status in [0x8000_0003, 0xc000_0420, 0xc000_0094] {
        let arguments = [u64::from(status), at.0, 0, 0];
        let own = Fake::new(0x7e, arguments)
            .stack(&["guilty.sys", "nt!PspSystemThreadStartup"])
            .fault(at, 0, registers(0), &[0xcc])
            .status(status);
        assert_eq!(lead(&own).1.as_deref(), Some("guilty.sys"), "{status:#x}");
        assert!(says(&own, Class::DriverBug, "the exception is a"), "{status:#x}");
        let nowhere = judge(&Fake::new(0x7e, arguments).text());
        assert_eq!(nowhere.hypotheses[0].class, Class::DriverBug);
    }
}

/// A trap that is no double fault says nothing of the stack.
#[test]
fn other_traps_are_no_overflows() {
    for (trap, class) in [
        (0, Class::DriverBug),
        (3, Class::DriverBug),
        (0xd, Class::DriverBug),
        (0x12, Class::ProcessorHardware),
    ] {
        let stop = Fake::new(0x7f, [trap, 0, 0, 0]);
        assert_eq!(lead(&stop).0, class, "{trap:#x}");
        assert!(of(&judge(&stop), Class::KernelStackOverflow).is_none(), "{trap:#x}");
    }
    let board = judge(&Fake::new(0x7f, [2, 0, 0, 0]));
    assert!(of(&board, Class::DriverBug).is_none() && of(&board, Class::MemoryHardware).is_some());
}

#[test]
fn the_memory_manager_tells_damage_from_misuse() {
    let stop =
        |arguments| Fake::new(0x1a, arguments).stack(&["nt!KeBugCheckEx", "nt!MmUnlockPages", "caller.sys"]);
    assert_eq!(lead(&stop([0x1236, 1, 2, 3])).1.as_deref(), Some("caller.sys"));
    assert_eq!(lead(&Fake::new(0x1a, [0x1236, 1, 2, 3])).0, Class::DriverBug);
    // The same page twice, but for one bit.
    let flipped = stop([0x403, 1, 0x8000_0001_2345_6867, 0x8000_0001_2345_6867 ^ 1 << 21]);
    assert_eq!(lead(&flipped).0, Class::MemoryHardware);
    assert!(says(&flipped, Class::MemoryHardware, "differs in one bit, 0x200000"));
    let other = stop([0x403, 1, 0x8000_0001_2345_6867, 0x8000_0009_8765_4867]);
    assert!(!says(&other, Class::MemoryHardware, "one bit"));
}

/// Whatever is called after a watchdog waited for something; graphics has rules of its own.
#[test]
fn what_is_called_a_watchdog_is_a_hang() {
    for code in [0x14f, 0x1cf, 0x1d5, 0x15c] {
        assert!(of(&judge(&Fake::new(code, [0; 4])), Class::DeadlockOrHang).is_some(), "{code:#x}");
    }
    assert!(of(&judge(&Fake::new(0x141, [0; 4])), Class::DeadlockOrHang).is_none());
}

/// What a live report is about, who asked for it, and whether it is one at all.
#[test]
fn live_reports_are_told_from_crashes() {
    for (code, class) in [
        (0x161, Class::IntentionalOrTest),
        (0x11c8, Class::IntentionalOrTest),
        (0x21c8, Class::IntentionalOrTest),
        (0x1a3, Class::DeadlockOrHang),
        (0x16b, Class::DeadlockOrHang),
        (0x193, Class::GpuDriverOrHardware),
    ] {
        assert_eq!(lead(&Fake::new(code, [0; 4])).0, class, "{code:#x}");
    }
    let told = |fake: Fake| judge(&fake).summary;
    let hardware = || Fake::new(0x124, [0; 4]);
    assert!(told(hardware()).contains("It can write such a report and go on."));
    assert!(told(hardware().live(true)).contains("this is no crash"));
    assert!(told(hardware().live(false)).starts_with("Windows stopped with 0x124"));
    assert!(told(Fake::new(0x1cc, [0; 4])).contains("this is no crash"));
    assert!(told(Fake::new(0xd1, [0; 4])).starts_with("Windows stopped with 0xd1"));
}

#[test]
fn the_power_button_accuses_nobody_and_a_clock_watchdog_the_processor() {
    let button = judge(&Fake::new(0x1c8, [0; 4]));
    assert_eq!(button.hypotheses[0].class, Class::IntentionalOrTest);
    assert!(button.hypotheses.iter().all(|h| h.suspect.as_ref().is_none_or(|s| s.module.is_none())));
    assert!(of(&button, Class::DriverBug).is_none());
    assert_eq!(lead(&Fake::new(0x101, [0xc, 0, 0, 2])).0, Class::ProcessorHardware);
}

#[test]
fn a_power_request_is_a_drivers_and_acpi_is_firmware() {
    assert_eq!(lead(&Fake::new(0x9f, [3, 0, 0, 0])).0, Class::DriverBug);
    assert_eq!(lead(&Fake::new(0xa5, [0; 4])).0, Class::FirmwareBios);
}

#[test]
fn a_machine_check_of_the_memory_controller_names_memory_and_one_of_a_cache_does_not() {
    let check = |low: u64| Fake::new(0x124, [0, 0xffff_9000_0000_0000, 0xb200_0000, low]);
    assert!(says(&check(0x0090), Class::MemoryHardware, "memory controller"));
    assert!(of(&judge(&check(0x0135)), Class::MemoryHardware).is_none());
    assert_eq!(lead(&check(0x0135)).0, Class::ProcessorHardware);
}

#[test]
fn a_fault_that_a_null_register_explains_is_no_processors() {
    // cmp byte ptr [rcx+29h],5 at address 29h, with a trap frame whose rcx is something else
    let registers = X64Registers { gpr: [DRIVERS; 16], ..X64Registers::default() };
    let at = |touched| {
        Fake::new(0xd1, [touched, 2, 0, DRIVERS + 0x1000]).module("a.sys").fault(
            VirtAddr(DRIVERS + 0x1000),
            touched,
            registers,
            &[0x80, 0x79, 0x29, 0x05],
        )
    };
    assert!(says(&at(0x29), Class::DriverBug, "base register is null"));
    assert!(of(&judge(&at(0x29)), Class::ProcessorHardware).is_none());
    assert!(says(&at(0x1234_5678_0000), Class::ProcessorHardware, "cannot have raised it"));
}

#[test]
fn who_holds_the_power_request_is_read_from_it() {
    let stop = || Fake::new(0x9f, [3, 1, 2, 0xffff_e000_0000_1000]).module("holder.sys");
    assert_eq!(
        lead(&stop().request(0xffff_e000_0000_1000, "\\Driver\\holder")).1.as_deref(),
        Some("holder.sys")
    );
    assert_eq!(lead(&stop().request(0xffff_e000_0000_1000, "\\Driver\\absent")).1, None);
    assert_eq!(lead(&stop()).1, None);
}

#[test]
fn a_known_instability_adds_to_a_suspicion_and_makes_none() {
    let name = "13th Gen Intel(R) Core(TM) i9-13900K";
    assert!(says(&Fake::new(0x101, [0x18, 0, 0, 3]).processor(name), Class::ProcessorHardware, "maker says"));
    assert!(of(&judge(&Fake::new(0xe2, [0; 4]).processor(name)), Class::ProcessorHardware).is_none());
}

#[test]
fn whoever_was_interrupted_is_not_blamed_for_the_machine() {
    let frames = ["nt!KeBugCheckEx", "nt!HalBugCheckSystem", "bystander.sys"];
    for code in [0x124, 0x9c, 0xe2, 0xa5] {
        let (class, module, _) = lead(&Fake::new(code, [0; 4]).stack(&frames));
        assert_ne!((class, module.as_deref()), (Class::DriverBug, Some("bystander.sys")), "{code:#x}");
    }
}

#[test]
fn no_advice_is_given_twice_and_the_plan_names_this_machines_drivers() {
    let verdict =
        judge(&Fake::new(0x1e, [0xc000_0005, NT + 0x1000, 0, 0]).stack(&KERNEL_STACK).module("extra.sys"));
    let texts: Vec<&str> = verdict.next_steps.iter().map(|step| step.text.as_str()).collect();
    assert!(texts.iter().filter(|text| text.contains("Update the firmware")).count() <= 1, "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("/driver extra.sys")), "{texts:?}");
}

#[test]
fn a_bucket_is_the_same_with_and_without_symbols() {
    let bucket = |frames: &[&str]| judge(&Fake::new(0xd1, [8, 2, 0, 0]).stack(frames)).bucket;
    assert_eq!(bucket(&["nt!KeBugCheckEx", "guilty.sys!Named"]), bucket(&["nt", "guilty.sys"]));
}

#[test]
fn a_changed_kernel_is_nobodys_proof_and_a_crasher_is_known() {
    let changed = Fake::new(0x109, [0, 0, 0, 1]);
    assert!(says(&changed, Class::TamperingOrResearchTool, "hook it"));
    assert!(lead(&changed).2 < 0.6);
    assert!(of(&judge(&Fake::new(0xd1, [0; 4])), Class::TamperingOrResearchTool).is_none());
    let asked = Fake::new(0xd1, [0; 4]).stack(&["nt!KeBugCheckEx", "nt!KiPageFault", "myfault.sys"]);
    assert_eq!(lead(&asked).0, Class::IntentionalOrTest);
}

#[test]
fn storage_is_named_for_what_could_not_be_read_back_and_not_for_a_process_that_died() {
    assert_eq!(lead(&Fake::new(0x7a, [0, 0xc000_0185, 0, 0])).0, Class::StorageHardware);
    assert!(lead(&Fake::new(0xef, [0; 4])).2 < 0.5);
}

#[test]
fn a_foreign_code_is_its_callers_and_microsofts_own_is_not() {
    let frames = ["nt!KeBugCheckEx", "caller.sys", "nt!KiStartSystemThread"];
    assert!(says(
        &Fake::new(0xa000_0001, [5, 0, 0, 0]).stack(&frames),
        Class::DriverBug,
        "called KeBugCheckEx"
    ));
    assert!(!says(&Fake::new(0xd1, [5, 0, 0, 0]).stack(&frames), Class::DriverBug, "called KeBugCheckEx"));
}

#[test]
fn a_debuggers_blame_counts_little_and_never_for_windows() {
    let blamed = |image| Fake::new(0xd1, [0; 4]).text().remark(Topic::DebuggerBlame, image);
    assert!(says(&blamed("guilty.sys"), Class::DriverBug, "blames guilty.sys"));
    assert!(lead(&blamed("guilty.sys")).2 < 0.8);
    assert!(judge(&blamed("ntkrnlmp.exe")).hypotheses.iter().all(|h| h.class != Class::OsBug));
}

/// The bucket of a 0x9F names whose driver the debugger found in the request, beside the bus that it blames.
#[test]
fn the_holder_of_a_power_request_is_named_in_text_as_well() {
    let told = |name| Fake::new(0x9f, [3, 1, 2, 3]).text().remark(Topic::RequestHolder, name);
    assert_eq!(lead(&told("Guilty")).1.as_deref(), Some("guilty.sys"));
    assert_ne!(lead(&told("pci")).1.as_deref(), Some("pci.sys"));
}

#[test]
fn what_is_usual_leads_where_nothing_is_known_and_is_never_sure() {
    let bare = Fake::new(0xd1, [0; 4]).text();
    let (class, module, sure) = lead(&bare);
    assert_eq!((class, module), (Class::DriverBug, None));
    assert!(sure < 0.6);
    assert!(!says(&Fake::new(0xe2, [0; 4]), Class::DriverBug, "most often"));
}

#[test]
fn long_uptime_speaks_against_hardware_and_a_short_one_does_not() {
    let after = |seconds| Fake::new(0x1a, [0x41792, 0xffff_f680_0000_1000, 1 << 37, 0]).uptime(seconds);
    assert!(refuted(&after(2_600_000.0), Class::MemoryHardware, "30 days"));
    assert!(!refuted(&after(600.0), Class::MemoryHardware, "days"));
}

#[test]
fn verifier_that_was_off_is_named_as_missing() {
    let missing = |flags| judge(&Fake::new(0xd1, [0; 4]).verifier_flags(flags)).missing;
    assert!(missing(0).iter().any(|m| m.contains("Verifier was off")));
    assert!(!missing(0x9bb).iter().any(|m| m.contains("Verifier was off")));
}

#[test]
fn user_mode_frames_are_nobodys_guilt() {
    let fake = Fake::new(0x50, [0; 4]).text().stack_at(&[
        ("nt!KeBugCheckEx", 0xffff_f880_0000_1000),
        ("nt!KiSystemServiceCopyEnd", 0xffff_f880_0000_1100),
        ("ntdll.dll!ZwRead", 0x76_fe5c),
    ]);
    assert!(judge(&fake).hypotheses.iter().all(|h| h.suspect.as_ref().is_none_or(|s| s.module.is_none())));
}

proptest! {
    #[test]
    fn every_verdict_is_sorted_sums_to_one_at_most_and_is_never_empty(
        code in prop_oneof![any::<u32>(), proptest::sample::select(vec![
            0x0a_u32, 0x19, 0x1a, 0x1e, 0x3b, 0x50, 0x7a, 0x7e, 0x7f, 0x9f, 0xc2, 0xc4, 0xce, 0xd1, 0xef, 0x101, 0x116,
            0x124, 0x133, 0x139, 0x13a, 0x1c8, 0x1000_007e,
        ])],
        arguments in any::<[u64; 4]>(),
        small in any::<bool>(),
        frames in proptest::collection::vec((proptest::sample::select(vec![
            "nt!KeBugCheckEx", "nt!KiPageFault", "nt!KiDoubleFaultAbort", "nt!KiDispatchException", "nt!KiSystemServiceCopyEnd",
            "a.sys", "b.sys", "wdf01000.sys", "ntfs.sys", "klif.sys", "nvlddmkm.sys",
        ]), any::<u64>()), 0..12),
        at in any::<u64>(),
        touched in any::<u64>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..16),
        limits in any::<(u64, u64)>(),
        uptime in any::<f64>(),
        text in any::<bool>(),
    ) {
        let arguments = if small { arguments.map(|a| a & 0xf) } else { arguments };
        let mut fake = Fake::new(code, arguments)
            .stack_at(&frames)
            .fault(VirtAddr(at), touched, registers(at ^ touched), &bytes)
            .limits(limits.0, limits.1)
            .frozen(&[2, 5, 0])
            .uptime(uptime);
        if text {
            fake = fake.text();
        }
        let verdict = judge(&fake);
        prop_assert!(!verdict.hypotheses.is_empty());
        prop_assert!(verdict.hypotheses.iter().all(|h| (0.0..=1.0).contains(&h.confidence)));
        prop_assert!(verdict.hypotheses.windows(2).all(|w| w[0].confidence >= w[1].confidence));
        prop_assert!(verdict.hypotheses.iter().map(|h| h.confidence).sum::<f64>() <= 1.0 + 1e-9);
        for item in verdict.hypotheses.iter().flat_map(|h| h.supports.iter().chain(&h.contradicts)) {
            prop_assert!(item.weight >= 0.0 && item.weight.is_finite());
            prop_assert!(item.command.is_some(), "{}", item.text);
        }
    }
}
