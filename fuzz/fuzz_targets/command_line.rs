//! Lines of commands on a sample: whatever they are, each ends with an answer that is safe to show.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use stopcode_commands::{Session, run};
use stopcode_dump::Dump;
use stopcode_kernel::Machine;
use stopcode_symbols::SymbolSource;

const SAMPLE: &[u8] = include_bytes!("../../samples/seed-double-fault.dmp");

fn session() -> Session {
    let dump = Dump::from_bytes(SAMPLE.to_vec()).expect("the sample opens");
    Session::new(Machine::new(dump, &SymbolSource::new([])), "")
}

thread_local! {
    /// Opening the sample takes longer than most lines do.
    static SESSION: RefCell<Session> = RefCell::new(session());
}

fuzz_target!(|line: &str| {
    let _ = stopcode_commands::parse_line(line);
    SESSION.with_borrow_mut(|session| {
        for line in line.lines() {
            for answer in run(session, line) {
                let shown = answer.text.chars().chain(answer.reason.iter().flat_map(|reason| reason.chars()));
                assert!(shown.into_iter().all(|c| c == '\n' || !c.is_control()));
            }
            let _ = stopcode_commands::complete(session, line);
        }
        if session.is_over() {
            *session = self::session();
        }
    });
});
