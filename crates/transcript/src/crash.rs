//! A crash as a text tells it, ready to be asked.

use std::borrow::Cow;
use std::collections::BTreeMap;
use stopcode_analysis::{Remark, Witness, WitnessKind};
use stopcode_base::{Fact, VirtAddr};
use stopcode_kernel::{
    Context, Exception, Module, Place, Processor, Pte, Stack, StopCode, System, Thread, UnloadedModule,
    Verifier,
};

/// One crash out of a pasted text.
///
/// Unknown addresses in frames are 0: a `kb` of 64-bit Windows prints no stack pointers, and nothing prints the
/// instruction pointer of a frame 0 without registers. 32-bit stacks give ChildEBP in place of Child-SP.
#[derive(Clone, Debug)]
pub struct Crash {
    pub(crate) stop: Option<StopCode>,
    pub(crate) arguments_known: [bool; 4],
    pub(crate) told_by: &'static str,
    pub(crate) system: System,
    pub(crate) exception: Fact<Exception>,
    pub(crate) context: Fact<Context>,
    pub(crate) stacks: Vec<Stack>,
    pub(crate) modules: Vec<Module>,
    pub(crate) unloaded: Vec<UnloadedModule>,
    pub(crate) processors: Vec<Processor>,
    pub(crate) thread: Thread,
    pub(crate) verifier: Fact<Verifier>,
    pub(crate) remarks: Vec<Remark>,
    /// Addresses that the text names.
    pub(crate) places: BTreeMap<u64, Place>,
    /// First address of a function → the last one known to be inside.
    pub(crate) functions: BTreeMap<u64, u64>,
    pub(crate) bytes: BTreeMap<u64, Vec<u8>>,
    pub(crate) entries: Vec<(u64, Vec<Pte>)>,
}

impl Crash {
    /// Which of the four arguments the text tells; the others are 0 in [`Witness::stop`].
    pub const fn arguments_known(&self) -> [bool; 4] {
        self.arguments_known
    }

    /// What told the stop code, in words: `pasted !analyze`, `the BugCheck line`; empty without a stop code.
    pub const fn told_by(&self) -> &'static str {
        self.told_by
    }

    /// The named function that `address` lies in, between its start and the last address that the text names in it.
    fn function_at(&self, address: VirtAddr) -> Option<Place> {
        let (start, last) = self.functions.range(..=address.0).next_back()?;
        if address.0 > *last {
            return None;
        }
        let mut place = self.places.get(last)?.clone();
        place.offset = address.0 - start;
        Some(place)
    }
}

impl Witness for Crash {
    fn kind(&self) -> WitnessKind {
        WitnessKind::Text
    }

    fn stop(&self) -> Option<StopCode> {
        self.stop
    }

    fn system(&self) -> &System {
        &self.system
    }

    fn exception(&self) -> Fact<Exception> {
        self.exception.clone()
    }

    fn context(&self) -> Fact<Context> {
        self.context.clone()
    }

    fn stacks(&self) -> &[Stack] {
        &self.stacks
    }

    fn modules(&self) -> &[Module] {
        &self.modules
    }

    fn unloaded(&self) -> &[UnloadedModule] {
        &self.unloaded
    }

    fn processors(&self) -> &[Processor] {
        &self.processors
    }

    fn thread(&self) -> &Thread {
        &self.thread
    }

    fn verifier(&self) -> Fact<Verifier> {
        self.verifier.clone()
    }

    fn place(&self, address: VirtAddr) -> Place {
        if let Some(place) = self.places.get(&address.0).cloned().or_else(|| self.function_at(address)) {
            return place;
        }
        if let Some(module) = self.module_at(address) {
            return Place {
                image: Some(module.image.clone()),
                display: Some(module.display.clone()),
                offset: address.0.wrapping_sub(module.base.0),
                ..Place::default()
            };
        }
        let unloaded = self.unloaded.iter().find(|driver| (driver.start..driver.end).contains(&address));
        unloaded.map_or_else(Place::default, |driver| Place {
            image: Some(driver.name.to_ascii_lowercase()),
            display: Some(driver.name.clone()),
            offset: address.0.wrapping_sub(driver.start.0),
            unloaded: true,
            ..Place::default()
        })
    }

    fn bytes(&self, address: VirtAddr, limit: usize) -> Cow<'_, [u8]> {
        let mut found = Vec::new();
        let mut at = address.0;
        while found.len() < limit {
            let Some((start, run)) = self.bytes.range(..=at).next_back() else { break };
            let skip = usize::try_from(at - start).unwrap_or(usize::MAX);
            let Some(rest) = run.get(skip..).filter(|rest| !rest.is_empty()) else { break };
            let rest = rest.get(..limit - found.len()).unwrap_or(rest);
            found.extend_from_slice(rest);
            let Some(next) = at.checked_add(rest.len() as u64) else { break };
            at = next;
        }
        Cow::Owned(found)
    }

    fn page_table_entries(&self, address: VirtAddr) -> Vec<Pte> {
        let walk = self.entries.iter().find(|(of, _)| VirtAddr(*of).page() == address.page());
        walk.map(|(_, entries)| entries.clone()).unwrap_or_default()
    }

    fn remarks(&self) -> &[Remark] {
        &self.remarks
    }
}
