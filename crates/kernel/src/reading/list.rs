//! Lists of the kernel: circles of `LIST_ENTRY`, whose links may lead anywhere in a damaged dump.

use std::collections::HashSet;
use stopcode_base::{Arch, Memory, VirtAddr};

/// More entries than this are not followed: real machines have some thousands of threads.
const MOST_ENTRIES: usize = 100_000;

/// What a walk along a list found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The structures the links stand in, in the list's order.
    pub entries: Vec<VirtAddr>,
    /// Why there may be more of them; `None` if the walk came round to the head.
    pub broken: Option<String>,
}

/// Walks the list whose head lies at `head`; each link stands `offset` bytes into its structure.
///
/// Where a link cannot be followed the walk goes on backwards from the head, so that one lost page loses no more
/// than the entries on it.
///
/// # Errors
/// If the head itself cannot be read: why.
pub(crate) fn walk(memory: &dyn Memory, arch: Arch, head: VirtAddr, offset: u64) -> Result<Listed, String> {
    let first = memory
        .read_word(arch, head)
        .map_err(|miss| format!("the list's head at {}: {}", arch.windbg(head), miss.reason))?;
    if first == 0 {
        return Err(format!("the list's head at {} is zero", arch.windbg(head)));
    }
    let mut seen = HashSet::from([head]);
    let (mut entries, broken) = follow(memory, arch, head, 0, &mut seen);
    if broken.is_some() && entries.len() < MOST_ENTRIES {
        let (mut rest, _) = follow(memory, arch, head, arch.pointer_size(), &mut seen);
        rest.reverse();
        entries.append(&mut rest);
    }
    let entries = entries.into_iter().map(|link| link.minus(offset)).collect();
    Ok(Listed { entries, broken })
}

/// Follows the links at `side` (0 forwards, a pointer's size backwards) of each entry to one that was seen before.
fn follow(
    memory: &dyn Memory,
    arch: Arch,
    head: VirtAddr,
    side: u64,
    seen: &mut HashSet<VirtAddr>,
) -> (Vec<VirtAddr>, Option<String>) {
    let mut links = Vec::new();
    let mut at = head;
    loop {
        let next = match memory.read_word(arch, at.plus(side)) {
            Ok(next) => VirtAddr(next),
            Err(miss) => {
                // The entry itself is not there: it is counted by its link alone, which is not enough.
                if at != head {
                    links.pop();
                }
                return (links, Some(format!("the link at {}: {}", arch.windbg(at), miss.reason)));
            }
        };
        if next == head {
            return (links, None);
        }
        if !arch.is_kernel(next) {
            return (
                links,
                Some(format!(
                    "the link at {} leads to {}, no kernel address",
                    arch.windbg(at),
                    arch.windbg(next)
                )),
            );
        }
        if !seen.insert(next) {
            return (links, Some(format!("the link at {} leads back into the list", arch.windbg(at))));
        }
        if seen.len() > MOST_ENTRIES {
            return (links, Some(format!("cut off after {MOST_ENTRIES} entries")));
        }
        links.push(next);
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stopcode_base::SliceMemory;

    const BASE: u64 = 0xffff_8000_0000_0000;

    /// Memory of 16-byte links; `next` and `previous` are numbers of entries, entry 0 is the head.
    fn circle(links: &[(u64, u64)]) -> Vec<u8> {
        links
            .iter()
            .flat_map(|(next, last)| [next, last].map(|n| (BASE + 16 * n).to_le_bytes()))
            .flatten()
            .collect()
    }

    fn walked(bytes: &[u8]) -> Listed {
        walk(&SliceMemory { base: VirtAddr(BASE), bytes }, Arch::X64, VirtAddr(BASE), 0).unwrap()
    }

    fn numbers(list: &Listed) -> Vec<u64> {
        list.entries.iter().map(|at| (at.0 - BASE) / 16).collect()
    }

    #[test]
    fn a_circle_is_walked_once() {
        let list = walked(&circle(&[(2, 1), (0, 2), (1, 0)]));
        assert_eq!((numbers(&list), list.broken), (vec![2, 1], None));
        let empty = walked(&circle(&[(0, 0)]));
        assert!(empty.entries.is_empty() && empty.broken.is_none());
    }

    #[test]
    fn links_of_x86_are_half_as_wide() {
        let base = 0x8500_0000_u32;
        let words = [base + 8, base + 16, base + 16, base, base, base + 8];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let at = VirtAddr(base.into());
        let list = walk(&SliceMemory { base: at, bytes: &bytes }, Arch::X86, at, 4).unwrap();
        assert_eq!(list.entries, [VirtAddr(0x8500_0004), VirtAddr(0x8500_000c)]);
        assert_eq!(list.broken, None);
    }

    #[test]
    fn a_lost_entry_loses_no_other() {
        // 1, 2, 9 (not there), 3.
        let list = walked(&circle(&[(1, 3), (2, 0), (9, 1), (0, 9)]));
        assert_eq!(numbers(&list), [1, 2, 3]);
        assert!(list.broken.unwrap().contains("not in this dump"));
    }

    #[test]
    fn a_circle_beside_the_head_ends() {
        let list = walked(&circle(&[(1, 0), (2, 0), (1, 1)]));
        assert_eq!(numbers(&list), [1, 2]);
        assert!(list.broken.unwrap().contains("back into the list"));
    }

    proptest! {
        #[test]
        fn any_links_end(links in prop::collection::vec((0_u64..12, 0_u64..12), 1..12)) {
            let list = walked(&circle(&links));
            let mut once = list.entries.clone();
            once.sort();
            once.dedup();
            prop_assert_eq!(once.len(), list.entries.len());
            prop_assert!(list.entries.len() < 12);
        }
    }
}
