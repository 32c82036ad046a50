//! Where fields of ARM64's processes and threads lie, inferred: from the offsets that the dump itself gives, and the
//! x64 layout of the same build.
//!
//! Both layouts are compiled from one source, in which a few members depend on the processor. Between those, members
//! lie as far from each other on both. So a field that lies between two fields whose places the dump gives, both
//! moved by the same distance, has moved by that distance, too. Two more steps of the same kind: what lies between a
//! `_KPROCESS` (the first member of its process) and two such fields, and what follows two of them closely.

use super::{Layouts, NoLayout, Wanted};
use crate::field::Field;
use stopcode_base::Arch;

/// Before this build the parts of a process do not keep together.
const FIRST_BUILD: u32 = 19041;

/// How far behind the last two fields that the dump gives one is still told, in bytes.
const REACH: u32 = 0x100;

/// Of one processor only: save areas and shadow stacks.
const PROCESSORS_OWN: [&str; 5] =
    ["KernelShadowStack", "NpxState", "StateSaveArea", "XStateSave", "UserShadowStack"];

/// The inner and the outer structure of a thread and of a process: an offset in one counts for the other.
const NESTED: [(&str, &str); 2] = [("_KTHREAD", "_ETHREAD"), ("_KPROCESS", "_EPROCESS")];

/// The fields that can be told, by structure and name.
pub(super) fn fields(wanted: &Wanted<'_>) -> Result<Vec<(&'static str, &'static str, Field)>, NoLayout> {
    let none = NoLayout::Architecture(wanted.arch);
    if wanted.arch != Arch::Arm64 || wanted.build < FIRST_BUILD {
        return Err(none);
    }
    let x64 = Wanted { arch: Arch::X64, sizes: None, offsets: &[], ..*wanted };
    let Ok(x64) = Layouts::for_kernel(&x64) else { return Err(none) };
    let mut found = Vec::new();
    for (inner, outer) in NESTED {
        let mut anchors: Vec<(u32, i64)> = wanted
            .offsets
            .iter()
            .filter(|known| known.ty == inner || known.ty == outer)
            .filter_map(|known| {
                let there = x64.field(known.ty, known.field)?.offset;
                Some((there, i64::from(known.offset) - i64::from(there)))
            })
            .collect();
        anchors.sort_unstable();
        let Some(inner_size) = x64.size(inner) else { continue };
        for ty in [inner, outer] {
            for (name, place) in x64.fields(ty) {
                let is_own = PROCESSORS_OWN.iter().any(|own| name.starts_with(own));
                // Members of the outer structure lie behind the inner one.
                let least = if ty == outer { inner_size } else { 0 };
                if is_own || place.bits.is_some() || place.offset < least {
                    continue;
                }
                let moved = distance(&anchors, place.offset, inner_size)
                    .and_then(|by| u32::try_from(i64::from(place.offset) + by).ok());
                found.extend(moved.map(|offset| (ty, name, Field { offset, bits: None })));
            }
        }
    }
    if found.is_empty() { Err(none) } else { Ok(found) }
}

/// How far a field at `offset` on x64 has moved; `anchors` are places on x64 and how far those moved, sorted.
fn distance(anchors: &[(u32, i64)], offset: u32, inner_size: u32) -> Option<i64> {
    let (below, above) = anchors.split_at(anchors.partition_point(|(at, _)| *at <= offset));
    let agree = |a: &(u32, i64), b: &(u32, i64)| (a.1 == b.1).then_some(a.1);
    match (below, above) {
        ([.., last], [next, ..]) => agree(last, next),
        ([.., before, last], []) if offset - last.0 <= REACH => agree(before, last),
        ([], [first, second, ..]) if offset >= inner_size => agree(first, second),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KnownOffset;

    /// What KDBG of a 22000 kernel says.
    const GIVEN: [(&str, &str, u32); 12] = [
        ("_KTHREAD", "InitialStack", 0x28),
        ("_KTHREAD", "StackLimit", 0x30),
        ("_KTHREAD", "StackBase", 0x38),
        ("_KTHREAD", "KernelStack", 0x58),
        ("_KTHREAD", "Teb", 0xe8),
        ("_KTHREAD", "State", 0x17c),
        ("_KTHREAD", "QueueListEntry", 0x200),
        ("_KTHREAD", "NextProcessor", 0x238),
        ("_KTHREAD", "WaitReason", 0x2a3),
        ("_EPROCESS", "InheritedFromUniqueProcessId", 0x4f8),
        ("_EPROCESS", "Peb", 0x508),
        ("_ETHREAD", "IrpList", 0x520),
    ];

    fn told(given: &[(&'static str, &'static str, u32)], ty: &str, field: &str) -> Option<u32> {
        let offsets: Vec<_> =
            given.iter().map(|&(ty, field, offset)| KnownOffset { ty, field, offset }).collect();
        let wanted =
            Wanted { arch: Arch::Arm64, build: 22000, revision: None, sizes: None, offsets: &offsets };
        let layout = Layouts::for_kernel(&wanted).ok()?;
        layout.field(ty, field).map(|field| field.offset)
    }

    #[test]
    fn what_lies_between_two_that_moved_alike_moved_alike() {
        let told = |ty, field| told(&GIVEN, ty, field);
        assert_eq!(told("_EPROCESS", "UniqueProcessId"), Some(0x3f8));
        assert_eq!(told("_EPROCESS", "ImageFileName"), Some(0x560));
        assert_eq!(told("_EPROCESS", "ThreadListHead"), Some(0x598));
        assert_eq!(told("_ETHREAD", "Cid"), Some(0x4e8));
        assert_eq!(told("_KTHREAD", "Process"), Some(0x240));
        assert_eq!(told("_KTHREAD", "Teb"), Some(0xe8), "what the dump gives comes first");
    }

    #[test]
    fn what_is_not_held_from_both_sides_is_not_told() {
        // Between two that moved by different distances; far behind the last; in the part before the first.
        assert_eq!(told(&GIVEN, "_KTHREAD", "TrapFrame"), None);
        assert_eq!(told(&GIVEN, "_EPROCESS", "VadRoot"), None);
        assert_eq!(told(&GIVEN, "_KPROCESS", "DirectoryTableBase"), None);
        assert_eq!(told(&GIVEN, "_KTHREAD", "KernelShadowStack"), None);
        assert_eq!(told(&GIVEN, "_KPRCB", "CurrentThread"), None);
        // One place alone holds nothing, nor do two that disagree.
        assert_eq!(told(&GIVEN[10..], "_EPROCESS", "UniqueProcessId"), None);
        let mut odd = GIVEN;
        odd[10].2 += 8;
        assert_eq!(told(&odd, "_EPROCESS", "UniqueProcessId"), None);
        assert_eq!(told(&odd, "_EPROCESS", "ImageFileName"), None);
        assert_eq!(told(&odd, "_ETHREAD", "Cid"), Some(0x4e8));
    }
}
