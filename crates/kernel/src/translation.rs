//! From a virtual address to a physical one, entry by entry.

use crate::core::Core;
use crate::paging;
use stopcode_base::{Arch, Fact, PhysAddr, VirtAddr};
use stopcode_dump::paging::{EntryKind, Form, Mapping, Paging};

/// A walk through the page tables, as far as the dump tells it.
#[derive(Clone, PartialEq, Debug)]
pub struct Translation {
    /// The address.
    pub address: VirtAddr,
    /// The entries, the top table's first. A small dump may hold some of them and not others.
    pub entries: Vec<TableEntry>,
    /// Where the byte lies; else why it lies nowhere, or why that is not known.
    pub physical: Fact<PhysAddr>,
}

/// An entry of a page table.
#[derive(Clone, PartialEq, Debug)]
pub struct TableEntry {
    /// 1 page table, 2 directory, 3 directory pointer, 4 top, 5 top with LA57.
    pub level: u8,
    /// Where Windows sees it, through the self-map, if that is known.
    pub address: Option<VirtAddr>,
    /// Its value and what that means; else why it is not known.
    pub value: Fact<(u64, EntryKind)>,
}

impl TableEntry {
    /// As WinDbg names the level: `PTE`, `PDE`, `PPE`, `PXE`.
    pub fn name(&self) -> &'static str {
        match self.level {
            1 => "PTE",
            2 => "PDE",
            3 => "PPE",
            4 => "PXE",
            _ => "PML5E",
        }
    }
}

pub(crate) fn translate(core: &Core, address: VirtAddr) -> Translation {
    let paging = match core.arch {
        Arch::Arm64 => Paging::Arm64,
        _ => Paging::X64FourLevel,
    };
    match core.dump.address_space() {
        Some(space) => {
            let walk = space.walk(address);
            let levels = space.paging().levels();
            let selfmap = paging::self_map(core, address, levels);
            let entries = (1..=levels).rev().map(|level| {
                let found = walk.entries().find(|entry| entry.level == level);
                let value = found.map(|entry| {
                    let source = match entry.address {
                        Some(at) => format!("physical memory at {at:#}"),
                        None => "self-map".to_owned(),
                    };
                    Fact::known((entry.value, entry.kind), source)
                });
                TableEntry {
                    level,
                    address: selfmap.get(usize::from(level) - 1).copied(),
                    value: value.unwrap_or_else(|| Fact::missing("the walk ended before this level")),
                }
            });
            let physical = match walk.outcome {
                Ok(Mapping::Physical(at, _)) => Fact::known(at, "page tables"),
                Ok(Mapping::Zeros(_)) => {
                    Fact::missing("never used yet: it reads as zeros, and no page holds it")
                }
                Err(reason) => Fact::missing(reason.to_string()),
            };
            Translation { address, entries: entries.collect(), physical }
        }
        None => by_self_map(core, address, paging),
    }
}

/// A small dump holds some entries under their own addresses.
fn by_self_map(core: &Core, address: VirtAddr, paging: Paging) -> Translation {
    let places = paging::self_map(core, address, paging.levels());
    if places.is_empty() {
        let physical = Fact::missing("where the page tables lie in the address space is not in this dump");
        return Translation { address, entries: Vec::new(), physical };
    }
    let mut entries: Vec<TableEntry> = places
        .iter()
        .zip(1_u8..)
        .map(|(at, level)| {
            let value = match core.memory().read_u64(*at) {
                Ok(value) => Fact::known((value, Form::new(paging).kind(level, value)), "self-map"),
                Err(miss) => Fact::missing(miss.reason.to_string()),
            };
            TableEntry { level, address: Some(*at), value }
        })
        .collect();
    entries.reverse();
    let physical = outcome(&entries, address);
    Translation { address, entries, physical }
}

/// Where the lowest entry that decides leads: a large page, or the page table's own entry.
fn outcome(entries: &[TableEntry], address: VirtAddr) -> Fact<PhysAddr> {
    let last = entries.last().map_or_else(|| "the page table".to_owned(), |entry| entry.name().to_owned());
    for entry in entries {
        let Some((_, kind)) = entry.value.get() else { continue };
        let name = entry.name();
        match kind {
            EntryKind::Large(page) => {
                let within = address.0 & ((1 << (12 + 9 * (u32::from(entry.level) - 1))) - 1);
                return Fact::known(page.plus(within), format!("{name} of a large page"));
            }
            EntryKind::Valid(page) | EntryKind::Transition(page) if entry.level == 1 => {
                return Fact::known(page.plus(address.0 & 0xfff), name);
            }
            EntryKind::Valid(_) | EntryKind::Transition(_) => {}
            EntryKind::PageFile { .. } => return Fact::missing("paged out"),
            EntryKind::Prototype(_) | EntryKind::PrototypeInVad => {
                return Fact::missing(format!("the {name} refers to a prototype, which is not in this dump"));
            }
            EntryKind::DemandZero => {
                return Fact::missing("never used yet: it reads as zeros, and no page holds it");
            }
            _ => return Fact::missing(format!("not mapped: the {name} is not valid")),
        }
    }
    Fact::missing(format!("the {last} is not in this dump"))
}
