//! What this reader finds in a dump, as JSON, to hold beside what other readers find: `peer_facts DUMP < ADDRESSES`.
//!
//! Addresses are hexadecimal, one a line; of each the eight bytes are told, or why they are not there.
//! `harness/peers/compare.py` runs it.

#![allow(clippy::print_stdout, reason = "a program for people")]

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::error::Error;
use std::io::BufRead;
use std::path::Path;
use stopcode_base::{Memory, PhysAddr, VirtAddr};
use stopcode_dump::Dump;
use stopcode_kernel::Machine;
use stopcode_symbols::SymbolSource;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: peer_facts DUMP < ADDRESSES")?;
    let machine = Machine::new(Dump::open(Path::new(&path))?, &SymbolSource::new([]));
    let (pages, digest) = pages(machine.dump())?;
    let reads = std::io::stdin().lock().lines().map(|line| read(&machine, line?.trim()));
    let modules = machine
        .modules()
        .iter()
        .map(|module| json!({"base": module.base.0, "size": module.size, "name": module.image}));
    let facts = json!({
        "pages": pages,
        "sha256": digest,
        "reads": reads.collect::<Result<Vec<_>, _>>()?,
        "modules": modules.collect::<Vec<_>>(),
        "processes": processes(&machine),
    });
    println!("{facts}");
    Ok(())
}

/// How many pages the dump holds, and a digest over each one's frame number and bytes in ascending order.
fn pages(dump: &Dump) -> Result<(u64, String), Box<dyn Error>> {
    let memory = dump.physical().ok_or("the dump holds no pages")?;
    let mut digest = Sha256::new();
    let (mut from, mut pages) = (0, 0);
    while let Some((first, count)) = memory.next_run(from) {
        for pfn in first..first + count {
            let mut page = [0; 0x1000];
            let read = memory.read_physical(PhysAddr(pfn << 12), &mut page);
            read.map_err(|miss| format!("page {pfn:#x}: {miss}"))?;
            digest.update(pfn.to_le_bytes());
            digest.update(page);
        }
        pages += count;
        from = first + count;
    }
    Ok((pages, format!("{:x}", digest.finalize())))
}

fn read(machine: &Machine, line: &str) -> Result<Value, Box<dyn Error>> {
    let address = u64::from_str_radix(line, 16)?;
    let mut bytes = [0; 8];
    let read = machine.dump().read(VirtAddr(address), &mut bytes);
    Ok(match read {
        Ok(()) => json!({"at": line, "value": u64::from_le_bytes(bytes)}),
        Err(miss) => json!({"at": line, "miss": miss.to_string()}),
    })
}

/// The processes of `PsActiveProcessHead`: id and name.
fn processes(machine: &Machine) -> Vec<Value> {
    let listed = machine.process_list();
    let all = listed.value().map(|listed| listed.entries.as_slice()).unwrap_or_default();
    all.iter()
        .filter_map(|at| {
            let process = machine.process_at(*at);
            let process = process.value()?;
            Some(json!({"id": process.id.value(), "name": process.image.value()}))
        })
        .collect()
}
