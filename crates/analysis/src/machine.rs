//! The crashed machine as a witness: a thin adapter. The machine itself is lazy and remembers what it worked out, so
//! that no fact is computed that no rule asked for.

use crate::witness::{Remark, Witness, WitnessKind};
use std::borrow::Cow;
use stopcode_base::{Fact, VirtAddr};
use stopcode_kernel::{
    Context, DpcHistory, ErrorRecord, Exception, ImageCheck, Irp, Machine, Module, Place, Processor, Pte,
    Region, Stack, StopCode, System, Thread, UnloadedModule, Verifier,
};

/// Of an image no more is searched.
const MOST_SEARCHED: u64 = 16 << 20;

/// A [`Witness`] over a dump's machine.
pub struct MachineWitness<'m> {
    machine: &'m Machine,
    remarks: Vec<Remark>,
}

impl<'m> MachineWitness<'m> {
    /// Lets a machine testify.
    pub fn new(machine: &'m Machine) -> Self {
        let remarks = machine
            .black_box()
            .into_iter()
            .map(|text| Remark { topic: crate::Topic::BlackBox, text })
            .collect();
        Self { machine, remarks }
    }
}

impl Witness for MachineWitness<'_> {
    fn kind(&self) -> WitnessKind {
        WitnessKind::Dump
    }
    fn stop(&self) -> Option<StopCode> {
        Some(self.machine.stop())
    }
    fn system(&self) -> &System {
        self.machine.system()
    }
    fn exception(&self) -> Fact<Exception> {
        self.machine.exception().clone()
    }
    fn context(&self) -> Fact<Context> {
        self.machine.context().clone()
    }
    fn stacks(&self) -> &[Stack] {
        self.machine.stacks()
    }
    fn modules(&self) -> &[Module] {
        self.machine.modules()
    }
    fn unloaded(&self) -> &[UnloadedModule] {
        self.machine.unloaded()
    }
    fn processors(&self) -> &[Processor] {
        self.machine.processors()
    }
    fn thread(&self) -> &Thread {
        self.machine.thread()
    }
    fn verifier(&self) -> Fact<Verifier> {
        self.machine.verifier()
    }
    fn place(&self, address: VirtAddr) -> Place {
        self.machine.place(address)
    }
    fn bytes(&self, address: VirtAddr, limit: usize) -> Cow<'_, [u8]> {
        Cow::Owned(self.machine.memory().read_available(address, limit))
    }
    fn page_table_entries(&self, address: VirtAddr) -> Vec<Pte> {
        self.machine.page_table_entries(address)
    }
    fn error_record(&self) -> Fact<ErrorRecord> {
        self.machine.error_record()
    }
    fn irp(&self, address: VirtAddr) -> Fact<Irp> {
        self.machine.irp_at(address)
    }
    fn region(&self, address: VirtAddr) -> Fact<Region> {
        self.machine.region(address)
    }
    fn check_image(&self, module: &Module) -> Fact<ImageCheck> {
        self.machine.check_image(module)
    }
    fn device_driver(&self, address: VirtAddr) -> Fact<String> {
        self.machine.device_driver(address)
    }
    fn dpc_histories(&self) -> Fact<Vec<DpcHistory>> {
        self.machine.dpc_histories()
    }
    fn first_in(&self, module: &Module, patterns: &[Vec<u8>]) -> Option<VirtAddr> {
        const PAGE: u64 = 0x1000;
        let longest = patterns.iter().map(Vec::len).max()?;
        let pages = module.size.min(MOST_SEARCHED) / PAGE;
        (0..pages).find_map(|page| {
            let start = module.base.plus(page * PAGE);
            // What begins at the end of a page goes on in the next.
            let held = self.machine.memory().read_available(start, PAGE as usize + longest - 1);
            let at = (0..held.len()).find(|at| {
                held.get(*at..).is_some_and(|rest| patterns.iter().any(|pattern| rest.starts_with(pattern)))
            })?;
            Some(start.plus(at as u64))
        })
    }
    fn remarks(&self) -> &[Remark] {
        &self.remarks
    }
}
