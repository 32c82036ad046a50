//! Writes a sample as every kind of dump: `kinds DIR [SAMPLE]`.

use std::path::PathBuf;
use stopcode_synth::{Machine, container};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(folder) = arguments.next().map(PathBuf::from) else {
        return Err("usage: kinds DIR [SAMPLE]".into());
    };
    let sample = arguments.next().unwrap_or_else(|| "seed-double-fault".to_owned());
    let description = format!("{}/../../samples/{sample}.json", env!("CARGO_MANIFEST_DIR"));
    let machine = Machine::read(description.as_ref())?;
    std::fs::create_dir_all(&folder)?;
    for kind in container::Kind::ALL {
        let mut file = std::fs::File::create(folder.join(kind.name()).with_extension("dmp"))?;
        container::write_to(&machine, kind, &mut file)?;
    }
    Ok(())
}
