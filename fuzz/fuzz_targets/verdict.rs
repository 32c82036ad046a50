//! The whole straight path on a dump: machine, stacks, verdict.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_analysis::{MachineWitness, judge};
use stopcode_dump::Dump;
use stopcode_kernel::Machine;
use stopcode_symbols::SymbolSource;

fuzz_target!(|bytes: &[u8]| {
    let Ok(dump) = Dump::from_bytes(bytes.to_vec()) else { return };
    let symbols = SymbolSource::new([]);
    let machine = Machine::new(dump, &symbols);
    let verdict = judge(&MachineWitness::new(&machine));
    assert!(!verdict.hypotheses.is_empty());
    assert!(verdict.hypotheses.iter().map(|h| h.confidence).sum::<f64>() <= 1.0 + 1e-9);
});
