//! Writes many different synthetic minidumps into a folder, for benches: `many DIR COUNT`.

use std::path::PathBuf;
use stopcode_synth::{Machine, triage};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(count)) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        return Err("usage: many DIR COUNT".into());
    };
    let count: u64 = count.parse()?;
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples");
    let machines: Vec<Machine> = ["driver-null-write", "memory-bit-flip"]
        .iter()
        .map(|name| Ok(Machine::from_json(&std::fs::read_to_string(format!("{samples}/{name}.json"))?)?))
        .collect::<Result<_, Box<dyn std::error::Error>>>()?;
    std::fs::create_dir_all(&folder)?;
    for (seed, machine) in (0..count).zip(machines.iter().cycle()) {
        std::fs::write(folder.join(format!("{seed:06}.dmp")), triage::write(&machine.vary(seed)?)?)?;
    }
    Ok(())
}
