//! What a description may say, what it may not, and what `vary` makes of one.

use crate::reader::{Dump, INVENTED, SAMPLES, sample, sample_path};
use stopcode_synth::container::{self, Kind};
use stopcode_synth::{Error, Exception, Hex, Machine, Registers, triage};

fn refused(change: impl FnOnce(&mut Machine)) -> Error {
    let mut machine = sample("driver-null-write");
    change(&mut machine);
    triage::write(&machine).map(drop).unwrap_err()
}

#[test]
fn descriptions_survive_a_round_trip() {
    for name in SAMPLES {
        let machine = sample(name);
        let mut again = Machine::from_json(&serde_json::to_string(&machine).unwrap()).unwrap();
        again.read_files(&sample_path("")).unwrap();
        assert_eq!(machine, again);
    }
}

/// A dump of pages holds the tables themselves, where other bytes would change what they say.
#[test]
fn bytes_among_the_page_tables_are_refused() {
    let mut machine = sample("driver-null-write");
    let mut block = machine.code[0].clone();
    block.at = Hex(machine.pte_base.0 + 0x40);
    machine.memory.push(block);
    let written = container::write_to(&machine, Kind::BitmapKernel, &mut std::io::Cursor::new(Vec::new()));
    assert!(matches!(written.unwrap_err(), Error::Contradiction(_)));
}

#[test]
fn contradictions_are_refused() {
    assert!(matches!(refused(|m| m.build = 12345), Error::UnknownBuild(12345)));
    assert!(matches!(refused(|m| m.modules.clear()), Error::Missing(_)));
    assert!(matches!(refused(|m| m.crash_processor = 9), Error::Missing(_)));
    assert!(matches!(refused(|m| m.threads.clear()), Error::Missing(_)));
    assert!(matches!(refused(|m| m.stacks.clear()), Error::Outside { .. }));
    assert!(matches!(refused(|m| m.traps[0].at = Hex(0x1000)), Error::Outside { at: 0x1000, .. }));
    assert!(matches!(refused(|m| m.stacks[0].high = Hex(u64::MAX)), Error::TooLarge(_)));
    assert!(matches!(refused(|m| m.calls[0].target = Hex(0)), Error::Contradiction(_)));
    assert!(matches!(refused(|m| m.pages[0].entries[0] = Hex(1)), Error::Contradiction(_)));
    let unknown = |m: &mut Machine| _ = m.kernel.globals.insert("NoSuchThing".to_owned(), Hex(1));
    assert!(matches!(refused(unknown), Error::UnknownGlobal(_)));
    assert!(matches!(Machine::from_json("{\"abuot\": 1}"), Err(Error::Json(_))));
}

/// An exception's record and context lie on the stack, and the header holds the same context.
#[test]
fn an_exception_is_what_the_header_reports() {
    let mut machine = sample("memory-bit-flip");
    let low = machine.stacks[0].low.0;
    let rsp = machine.stacks[0].frames[8].sp;
    let registers = Registers { rip: Hex(0xfffff802_15000000), rsp, rax: Hex(7), ..Registers::default() };
    machine.exception = Some(Exception {
        code: Hex(0xc000_0005),
        information: vec![Hex(1), Hex(u64::MAX)],
        record_at: Hex(low + 0x800),
        context_at: Hex(low + 0x100),
        registers,
    });
    // The stack is stored from where the crashed processor stands: move it below both records.
    let cpu = machine.crash_processor as usize;
    machine.processors[cpu].registers.rsp = Hex(low + 0x20);
    let dump = Dump::new(triage::write(&machine).unwrap());
    dump.check();
    assert_eq!((dump.u64(0x348 + 0xf8), dump.u64(0x348 + 0x78)), (0xfffff802_15000000, 7));
    let (stack, top) = (dump.u32(0x2028) as usize, dump.u64(0x2048));
    let at = |address: u64| stack + (address - top) as usize;
    assert_eq!(dump.u32(at(low + 0x800)), 0xc000_0005);
    assert_eq!(dump.u64(at(low + 0x800) + 0x28), u64::MAX);
    let context = at(low + 0x100);
    assert_eq!(dump.file[context..context + 0x4d0], dump.file[0x348..0x348 + 0x4d0]);
    assert_eq!(dump.u64(0xf10), machine.processors[cpu].registers.rip.0, "the record is KeBugCheckEx's");
}

#[test]
fn variations_are_sound_and_repeatable() {
    for name in INVENTED {
        let machine = sample(name);
        let write = |seed| triage::write(&machine.vary(seed).unwrap()).unwrap();
        let mut seen = Vec::new();
        for seed in 0..20 {
            let file = write(seed);
            assert_eq!(file, write(seed));
            Dump::new(file.clone()).check();
            assert!(!seen.contains(&file), "{name}: seed {seed} repeats another");
            seen.push(file);
        }
    }
}

#[test]
fn a_variation_slides_code_and_stack_alike() {
    let machine = sample("driver-null-write");
    let varied = machine.vary(3).unwrap();
    let slide = varied.modules[0].base.0 - machine.modules[0].base.0;
    assert_ne!(slide, 0);
    assert_eq!(varied.stacks[0].frames[0].ret.0 - machine.stacks[0].frames[0].ret.0, slide);
    assert_eq!(varied.bug_check.arguments[3].0 - machine.bug_check.arguments[3].0, slide);
    assert_eq!(varied.bug_check.arguments[1], machine.bug_check.arguments[1], "a level is no address");
    assert_eq!(varied.pte_base, machine.pte_base);
}

/// What was recorded on a stack stays at its addresses.
#[test]
fn a_recorded_machine_has_no_variations() {
    let refused = sample("seed-double-fault").vary(3);
    assert!(matches!(refused, Err(Error::Contradiction(_))), "{refused:?}");
}
