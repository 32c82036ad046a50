//! How long an analysis takes: one dump within the process, and a folder of them through the whole of it.

#![allow(missing_docs, reason = "criterion's macros define functions")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run has no figure")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use stopcode_analysis::{MachineWitness, Verdict, judge};
use stopcode_case::Options;
use stopcode_dump::Dump;
use stopcode_kernel::Machine;
use stopcode_report::{Format, Style};
use stopcode_symbols::SymbolSource;

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples");
/// Dumps in the folder.
const FOLDER: u64 = 64;

fn sample(name: &str) -> PathBuf {
    Path::new(SAMPLES).join(name)
}

fn verdict(bytes: Vec<u8>, symbols: &SymbolSource) -> Verdict {
    let machine = Machine::new(Dump::from_bytes(bytes).unwrap(), symbols);
    judge(&MachineWitness::new(&machine))
}

/// From paths to JSON, as the command does it; how many bytes of JSON there are.
fn json(paths: &[PathBuf]) -> usize {
    let report = stopcode_case::analyze(paths, &Options::default());
    let mut out = Vec::new();
    stopcode_report::write(&report, Format::Json, &Style::plain(), &mut out).unwrap();
    out.len()
}

fn one_dump(criterion: &mut Criterion) {
    let symbols = SymbolSource::new([]);
    let mut group = criterion.benchmark_group("one dump");
    for name in ["seed-double-fault.dmp", "driver-null-write.dmp"] {
        let path = sample(name);
        let bytes = std::fs::read(&path).unwrap();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("{name}, bytes to verdict"), |bencher| {
            bencher.iter_batched(
                || bytes.clone(),
                |bytes| black_box(verdict(bytes, &symbols)),
                BatchSize::SmallInput,
            );
        });
        let paths = [path];
        group.bench_function(format!("{name}, file to JSON"), |bencher| {
            bencher.iter(|| json(black_box(&paths)));
        });
    }
    group.finish();
}

/// Many starts of one machine, each with its own addresses, times and link dates.
fn folder(criterion: &mut Criterion) {
    let folder = std::env::temp_dir().join(format!("stopcode-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let description = std::fs::read_to_string(sample("driver-null-write.json")).unwrap();
    let machine = stopcode_synth::Machine::from_json(&description).unwrap();
    let mut size = 0;
    for seed in 0..FOLDER {
        let bytes = stopcode_synth::triage::write(&machine.vary(seed).unwrap()).unwrap();
        size += bytes.len() as u64;
        std::fs::write(folder.join(format!("{seed:03}.dmp")), bytes).unwrap();
    }
    let mut group = criterion.benchmark_group("folder");
    group.sample_size(20).throughput(Throughput::Bytes(size));
    let paths = [folder.clone()];
    group.bench_function(format!("{FOLDER} dumps, folder to JSON"), |bencher| {
        bencher.iter(|| json(black_box(&paths)));
    });
    group.finish();
    std::fs::remove_dir_all(folder).unwrap();
}

criterion_group!(benches, one_dump, folder);
criterion_main!(benches);
