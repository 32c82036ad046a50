//! Work under way in a described machine (requests to drivers, deferred calls) and what its firmware tells, as commands show
//! them out of every kind of dump that holds memory.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests are tests")]

mod common;

use common::{ROOT, finish, stopcode};
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use stopcode_synth::container::{self, Kind};
use stopcode_synth::{Dpc, Driver, Firmware, Hex, Irp, Location, Machine, Slot};

/// A sample with work: two drivers above one another, a request that the lower one holds and a second that was never sent,
/// three deferred calls of which one runs, and a machine's firmware. `pool` is free room in the kernel's half.
fn busy(sample: &str, build: Option<u32>, pool: u64) -> Machine {
    let path = format!("{ROOT}/samples/{sample}.json");
    let mut machine = Machine::read(Path::new(&path)).unwrap();
    machine.pages.clear();
    machine.build = build.unwrap_or(machine.build);
    let at = |offset: u64| Hex(pool + offset);
    let code = machine.modules.last().unwrap().base.0;
    let crashed = machine.processors.iter().find(|cpu| cpu.number == machine.crash_processor).unwrap();
    let (thread, processor) = (crashed.thread, crashed.number);
    machine.drivers = vec![
        Driver { at: at(0), name: r"\Driver\exdisk".to_owned(), devices: vec![at(0x400), at(0x800)] },
        Driver { at: at(0x1000), name: r"\FileSystem\exfs".to_owned(), devices: vec![at(0x1400)] },
    ];
    let lower = Location {
        major: 3,
        control: 1,
        arguments: [Hex(0x1000), Hex(0), Hex(0x20_0000), Hex(0)],
        device: at(0x400),
        completion: Hex(code + 0x1230),
        context: at(0x1400),
        ..Location::default()
    };
    let upper = Location { major: 3, control: 0xe0, device: at(0x1400), file: at(0x1900), ..lower };
    let packet = |at, current_location, locations| Irp {
        at,
        thread,
        status: Hex(0x103),
        current_location,
        cancel: false,
        cancel_routine: Hex(0),
        mdl: Hex(0),
        locations,
    };
    machine.irps = vec![
        packet(at(0x2000), 1, vec![lower, upper]),
        Irp {
            cancel: true,
            cancel_routine: Hex(code + 0x1100),
            ..packet(at(0x2400), 2, vec![Location::default()])
        },
    ];
    let call = |at, routine, active| Dpc {
        at,
        processor,
        routine: Hex(code + routine),
        context: Hex(0),
        arguments: [Hex(0); 2],
        active,
    };
    machine.dpcs = vec![
        call(at(0x3000), 0x1010, false),
        call(at(0x3100), 0x1020, true),
        call(at(0x3200), 0x1030, false),
    ];
    let slot = |locator: &str, size_mib| Slot {
        locator: locator.to_owned(),
        size_mib,
        speed: 3200,
        configured_speed: 2933,
        manufacturer: "Example Memory".to_owned(),
        part_number: "EX-32".to_owned(),
    };
    machine.firmware = Some(Firmware {
        version: [3, 2],
        bios_vendor: "Example Firmware".to_owned(),
        bios_version: "F.12".to_owned(),
        bios_date: "02/03/2012".to_owned(),
        manufacturer: "Example Computers".to_owned(),
        product: "Bench 9".to_owned(),
        memory: vec![slot("DIMM_A1", 8192), slot("DIMM_A2", 0), slot("DIMM_B1", 65536)],
    });
    machine
}

/// Machines of both widths, before Windows 8 and after: its queues of deferred calls are linked one way.
fn machines() -> [Machine; 4] {
    [
        busy("seed-double-fault", None, 0xffff_fa80_3000_0000),
        busy("driver-null-write", None, 0xffff_c98c_4000_0000),
        busy("driver-null-write-x86", None, 0x8740_0000),
        busy("driver-null-write-x86", Some(19041), 0x8740_0000),
    ]
}

/// Writes each machine as each kind that holds memory, and asks commands about it.
fn each(line: &str, check: impl Fn(&Machine, &[Value], &str)) {
    let folder = tempfile::tempdir().unwrap();
    for machine in machines() {
        for kind in [Kind::Full, Kind::Summary, Kind::BitmapKernel, Kind::Triage] {
            if !kind.is_of(machine.arch) {
                continue;
            }
            let path = folder.path().join("machine.dmp");
            container::write_to(&machine, kind, &mut File::create(&path).unwrap()).unwrap();
            let irp = machine.irps[0].at.0;
            let line = line.replace("DEVICE1", &format!("{:#x}", machine.drivers[0].devices[1].0));
            let line = line.replace("IRP2", &format!("{:#x}", machine.irps[1].at.0));
            let line = line.replace("IRP1", &format!("{irp:#x}"));
            let mut command = stopcode();
            let run = finish(command.arg("debug").arg(&path).args(["--format", "json", "-c", &line]));
            let answers: Vec<Value> =
                run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            check(
                &machine,
                &answers,
                &format!("{:?} {}, {kind:?}: {}", machine.arch, machine.build, run.stdout),
            );
        }
    }
}

fn hex(value: Hex) -> Value {
    json!(format!("{:#x}", value.0))
}

/// `name+0x1230`, as places in the last module are shown.
fn ends_with(shown: &Value, offset: u64, at: u64) -> bool {
    let shown = shown.as_str().unwrap();
    let digits: String = shown.rsplit('(').next().unwrap().chars().filter(char::is_ascii_hexdigit).collect();
    shown.contains(&format!("+{offset:#x}")) && u64::from_str_radix(&digits, 16) == Ok(at)
}

#[test]
fn a_device_is_its_drivers() {
    each("!devobj DEVICE1; !devobj IRP1", |machine, answers, what| {
        let [device, request] = answers else { panic!("{what}") };
        if answers[0]["data"].is_null() {
            // A triage dump holds what the crash touched, and says what it lacks.
            assert!(what.contains("Triage"), "{what}");
            return;
        }
        assert_eq!(device["data"]["driver"], json!(machine.drivers[0].name), "{what}");
        assert!(request["data"].is_null(), "{what}");
    });
}

#[test]
fn a_request_is_shown_with_its_drivers() {
    each("!irp IRP1; !irp IRP2; !thread", |machine, answers, what| {
        let code = machine.modules.last().unwrap().base.0;
        let [sent, unsent] = machine.irps.as_slice() else { panic!() };
        let shown = &answers[0]["data"];
        assert_eq!(shown["address"], hex(sent.at), "{what}");
        assert_eq!(shown["thread"], hex(sent.thread), "{what}");
        assert_eq!(shown["status"], hex(sent.status), "{what}");
        assert_eq!((&shown["stack_count"], &shown["current_location"]), (&json!(2), &json!(1)), "{what}");
        let drivers = [r"\Driver\exdisk", r"\FileSystem\exfs"];
        for ((location, described), driver) in
            shown["locations"].as_array().unwrap().iter().zip(&sent.locations).zip(drivers)
        {
            assert_eq!(location["major"], described.major, "{what}");
            assert_eq!(location["device"], hex(described.device), "{what}");
            assert_eq!(location["file"], hex(described.file), "{what}");
            assert_eq!(location["arguments"], json!(described.arguments.map(hex)), "{what}");
            assert_eq!(location["driver"], driver, "{what}");
            assert!(ends_with(&location["completion"], 0x1230, code + 0x1230), "{what}");
        }
        let text = answers[0]["text"].as_str().unwrap();
        assert!(text.contains("Irp is active with 2 stacks 1 is current"), "{what}");
        assert!(text.contains(">[IRP_MJ_READ(3), 0]") && text.contains("STATUS_PENDING"), "{what}");
        let text = answers[1]["text"].as_str().unwrap();
        assert!(text.contains("completed, or was not sent yet") && text.contains("cancelled"), "{what}");
        assert_eq!(answers[2]["data"]["irps"], json!([hex(sent.at), hex(unsent.at)]), "{what}");
    });
}

#[test]
fn deferred_calls_are_shown_in_the_order_of_their_queue() {
    each("!dpcs", |machine, answers, what| {
        let code = machine.modules.last().unwrap().base.0;
        let shown = answers[0]["data"].as_array().unwrap();
        assert_eq!(shown.len(), machine.processors.len(), "{what}");
        for processor in shown {
            let waiting = processor["waiting"].as_array().unwrap();
            if processor["processor"] != machine.crash_processor {
                assert_eq!((&processor["depth"], waiting.len()), (&json!(0), 0), "{what}");
                continue;
            }
            assert_eq!(processor["depth"], 2, "{what}");
            for (shown, (place, offset)) in waiting.iter().zip([(0, 0x1010), (2, 0x1030)]) {
                assert_eq!(shown["kdpc"], hex(machine.dpcs[place].at), "{what}");
                assert!(ends_with(&shown["function"], offset, code + offset), "{what}");
            }
            assert_eq!(waiting.len(), 2, "{what}");
            // Windows 7 does not note which one runs.
            if machine.build > 7601 {
                assert_eq!(processor["kdpc"], hex(machine.dpcs[1].at), "{what}");
                assert!(ends_with(&processor["function"], 0x1020, code + 0x1020), "{what}");
            }
        }
    });
}

#[test]
fn firmware_and_memory_are_the_machines() {
    each("!sysinfo smbios", |_, answers, what| {
        let machine = &answers[0]["data"]["machine"];
        for (name, value) in [
            ("BiosVendor", "Example Firmware"),
            ("BiosVersion", "F.12"),
            ("BiosReleaseDate", "02/03/2012"),
            ("SystemManufacturer", "Example Computers"),
            ("SystemProductName", "Bench 9"),
        ] {
            assert_eq!(machine[name], value, "{what}");
        }
        let module = |locator: &str, size: u32| {
            json!({
                "locator": locator, "size_mib": size, "speed": 3200, "configured_speed": 2933,
                "manufacturer": "Example Memory", "part_number": "EX-32",
            })
        };
        // The slot between them is empty.
        assert_eq!(
            answers[0]["data"]["memory"],
            json!([module("DIMM_A1", 8192), module("DIMM_B1", 65536)]),
            "{what}"
        );
        assert!(answers[0]["text"].as_str().unwrap().contains("From Smbios 3.2"), "{what}");
    });
}
