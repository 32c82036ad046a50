//! A witness made up for tests: says what it is told to say, and nothing else.

use crate::witness::{Remark, Topic, Witness, WitnessKind};
use crate::{Class, Hypothesis, Verdict, judge};
use std::borrow::Cow;
use stopcode_base::{Arch, Fact, FileTime, Registers, VirtAddr, X64Registers};
use stopcode_kernel::{
    Context, Difference, DpcHistory, Exception, Frame, ImageCheck, Irp, Module, Place, Processor, Pte,
    Region, RegionKind, Stack, StackKind, StackLocation, StopCode, System, Thread, Trust, UnloadedModule,
    Verifier,
};

/// Where the fake kernel is loaded.
pub(crate) const NT: u64 = 0xffff_f800_0000_0000;
/// Where the first driver is loaded; each further one lies 1 MB above.
pub(crate) const DRIVERS: u64 = 0xffff_f880_0000_0000;
/// Child-SP of the innermost frame, unless told otherwise.
pub(crate) const STACK: u64 = 0xffff_f980_0000_4000;

/// The witness.
pub(crate) struct Fake {
    kind: WitnessKind,
    stop: StopCode,
    system: System,
    exception: Option<Exception>,
    context: Option<Context>,
    stacks: Vec<Stack>,
    modules: Vec<Module>,
    processors: Vec<Processor>,
    thread: Thread,
    flags: Option<u32>,
    memory: Vec<(VirtAddr, Vec<u8>)>,
    entries: Vec<(VirtAddr, Pte)>,
    remarks: Vec<Remark>,
    request: Option<Irp>,
    check: Option<ImageCheck>,
    region: Option<Region>,
    devices: Vec<(u64, String)>,
    histories: Option<Vec<DpcHistory>>,
    constants: Vec<(String, [u8; 4])>,
}

fn unknown<T>() -> Fact<T> {
    Fact::missing("not told")
}

fn module(image: &str, base: u64) -> Module {
    Module {
        image: image.to_owned(),
        display: if image == "ntoskrnl.exe" { "nt" } else { image.split('.').next().unwrap() }.to_owned(),
        path: String::new(),
        base: VirtAddr(base),
        size: 0x10_0000,
        time_date_stamp: None,
        checksum: None,
        link_date: Fact::missing("not told"),
        version: None,
    }
}

impl Fake {
    /// A dump with a stop code, the kernel loaded, and nothing else.
    pub(crate) fn new(code: u32, arguments: [u64; 4]) -> Self {
        Self {
            kind: WitnessKind::Dump,
            stop: StopCode { code, arguments },
            system: System {
                os_version: unknown(),
                product: None,
                build: None,
                arch: Some(Arch::X64),
                processors: None,
                uptime_seconds: unknown(),
                crash_time: unknown(),
                processor_name: None,
                microcode: None,
                machine: None,
                firmware: None,
                features: None,
                fingerprint: None,
                hypervisor: unknown(),
                live: unknown(),
            },
            exception: None,
            context: None,
            stacks: Vec::new(),
            modules: vec![module("ntoskrnl.exe", NT)],
            processors: Vec::new(),
            thread: Thread {
                address: unknown(),
                stack_limit: unknown(),
                stack_base: unknown(),
                process: unknown(),
                process_id: unknown(),
            },
            flags: None,
            memory: Vec::new(),
            entries: Vec::new(),
            remarks: Vec::new(),
            request: None,
            check: None,
            region: None,
            devices: Vec::new(),
            histories: None,
            constants: Vec::new(),
        }
    }

    /// As pasted text would tell it.
    pub(crate) fn text(mut self) -> Self {
        self.kind = WitnessKind::Text;
        self
    }

    /// Loads a driver.
    pub(crate) fn module(mut self, image: &str) -> Self {
        let base = DRIVERS + 0x10_0000 * (self.modules.len() as u64 - 1);
        self.modules.push(module(image, base));
        self
    }

    /// The stack to judge, innermost first: `nt!KeBugCheckEx`, `driver.sys` or `driver.sys!Function`. Modules are loaded as
    /// needed; Child-SPs are 0x100 apart.
    pub(crate) fn stack(self, frames: &[&str]) -> Self {
        let pointers: Vec<u64> = (0..frames.len() as u64).map(|n| STACK + 0x100 * n).collect();
        self.stack_at(&frames.iter().copied().zip(pointers).collect::<Vec<_>>())
    }

    /// The same with Child-SPs.
    pub(crate) fn stack_at(mut self, frames: &[(&str, u64)]) -> Self {
        let mut list = Vec::new();
        for (index, (name, pointer)) in frames.iter().enumerate() {
            let (image, symbol) =
                name.split_once('!').map_or((*name, None), |(i, s)| (i, Some(s.to_owned())));
            let image = if image == "nt" { "ntoskrnl.exe" } else { image };
            if !self.modules.iter().any(|m| m.image == image) {
                self = self.module(image);
            }
            let base = self.modules.iter().find(|m| m.image == image).unwrap().base;
            let instruction = base.plus(0x1000 + 0x10 * index as u64);
            let place = Place { symbol, offset: 0x10, ..self.place(instruction) };
            let trust = if index == 0 { Trust::Context } else { Trust::Unwind };
            list.push(Frame::told(instruction, VirtAddr(*pointer), place, trust));
        }
        self.stacks.push(Stack {
            kind: StackKind::BugCheck,
            thread: None,
            processor: None,
            frames: list,
            ended: "told so".to_owned(),
            refused: Vec::new(),
        });
        self
    }

    /// An access violation, its context, and the code that ran.
    pub(crate) fn fault(mut self, at: VirtAddr, touched: u64, registers: X64Registers, code: &[u8]) -> Self {
        self.exception = Some(Exception { code: 0xc000_0005, address: at, parameters: vec![0, touched] });
        self.context = Some(Context {
            registers: Registers::X64(X64Registers { rip: at.0, ..registers }),
            known: 0xffff,
            origin: "told so".to_owned(),
            command: ".ecxr".to_owned(),
            trap_frame: None,
            fault_address: None,
        });
        self.memory.push((at, code.to_vec()));
        self
    }

    /// Memory.
    pub(crate) fn bytes_at(mut self, at: u64, bytes: &[u8]) -> Self {
        self.memory.push((VirtAddr(at), bytes.to_vec()));
        self
    }

    /// An I/O request at `at` whose current stack location belongs to `driver`.
    pub(crate) fn request(mut self, at: u64, driver: &str) -> Self {
        let nowhere = VirtAddr(0);
        let location = StackLocation {
            address: nowhere,
            major: 22,
            minor: 2,
            flags: 0,
            control: 0,
            arguments: [0; 4],
            device: nowhere,
            file: nowhere,
            completion: nowhere,
            context: nowhere,
            driver: Fact::known(driver.to_owned(), "told so"),
        };
        self.request = Some(Irp {
            address: VirtAddr(at),
            size: 0,
            status: 0,
            pending_returned: false,
            cancel: false,
            cancel_routine: nowhere,
            mdl: nowhere,
            thread: nowhere,
            stack_count: 1,
            current_location: 1,
            locations: vec![location],
        });
        self
    }

    /// A device object and its driver's name.
    pub(crate) fn device(mut self, at: u64, driver: &str) -> Self {
        self.devices.push((at, driver.to_owned()));
        self
    }

    /// Code that the DPC watchdog of processor 0 wrote down.
    pub(crate) fn history(mut self, code: &[u64]) -> Self {
        let (start, end) = (VirtAddr(STACK), VirtAddr(STACK + 0x1000));
        let code = code.iter().map(|at| VirtAddr(*at)).collect();
        self.histories.get_or_insert_default().push(DpcHistory { processor: 0, start, end, code });
        self
    }

    /// A constant in the code of an image.
    pub(crate) fn constant(mut self, image: &str, bytes: [u8; 4]) -> Self {
        self.constants.push((image.to_owned(), bytes));
        self
    }

    /// The processor's name.
    pub(crate) fn processor(mut self, name: &str) -> Self {
        self.system.processor_name = Some(name.to_owned());
        self
    }

    /// Limits of the thread's stack.
    pub(crate) fn limits(mut self, limit: u64, base: u64) -> Self {
        self.thread.stack_limit = Fact::known(VirtAddr(limit), "told so");
        self.thread.stack_base = Fact::known(VirtAddr(base), "told so");
        self
    }

    /// A page-table entry.
    pub(crate) fn entry(mut self, of: u64, value: u64) -> Self {
        self.entries.push((VirtAddr(of), Pte { level: 1, address: VirtAddr(0), value }));
        self
    }

    /// Processors by their `IpiFrozen`.
    pub(crate) fn frozen(mut self, states: &[u32]) -> Self {
        self.processors = (0..)
            .zip(states)
            .map(|(number, state)| Processor {
                number,
                prcb: None,
                thread: None,
                idle_thread: None,
                ipi_frozen: Some(*state),
                registers: None,
                crashed: false,
                irql: None,
            })
            .collect();
        self
    }

    /// A remark.
    pub(crate) fn remark(mut self, topic: Topic, text: &str) -> Self {
        self.remarks.push(Remark { topic, text: text.to_owned() });
        self
    }

    /// A live dump, or a crash.
    pub(crate) fn live(mut self, live: bool) -> Self {
        self.system.live = Fact::known(live, "told so");
        self
    }

    /// Seconds since start.
    pub(crate) fn uptime(mut self, seconds: f64) -> Self {
        self.system.uptime_seconds = Fact::known(seconds, "told so");
        self
    }

    /// When a module was linked, and when the machine crashed, in Unix seconds.
    pub(crate) fn dates(mut self, image: &str, linked: u32, crashed: u32) -> Self {
        for module in self.modules.iter_mut().filter(|m| m.image == image) {
            module.link_date = Fact::known(FileTime::from_unix(linked), "told so");
            module.time_date_stamp = Some(linked);
        }
        self.system.crash_time = Fact::known(FileTime::from_unix(crashed), "told so");
        self
    }

    /// The code of every image compared with its file: where bytes differ, what the file has, what memory has.
    pub(crate) fn compared(mut self, differences: &[(u64, &[u8], &[u8])]) -> Self {
        let difference = |(start, expected, found): &(u64, &[u8], &[u8])| Difference {
            start: VirtAddr(*start),
            expected: expected.to_vec(),
            found: found.to_vec(),
        };
        self.check = Some(ImageCheck {
            file: "driver.sys".into(),
            compared: 0x1000,
            missing: 0,
            excused: 0,
            errors: differences.iter().map(|(_, expected, _)| expected.len() as u64).sum(),
            differences: differences.iter().map(difference).collect(),
            unknown_patches: Vec::new(),
        });
        self
    }

    /// A stack of the crashed processor's own.
    pub(crate) fn processor_stack(mut self, limit: u64, base: u64) -> Self {
        self = self.frozen(&[0]);
        if let Some(processor) = self.processors.first_mut() {
            processor.crashed = true;
        }
        self.region = Some(Region {
            kind: RegionKind::Stack,
            start: VirtAddr(limit),
            end: VirtAddr(base),
            name: Some("processor 0, deferred procedure calls".to_owned()),
            processor: Some(0),
        });
        self
    }

    /// Driver Verifier's flags.
    pub(crate) fn verifier_flags(mut self, flags: u32) -> Self {
        self.flags = Some(flags);
        self
    }

    /// ECX of CPUID leaf 1.
    pub(crate) fn features(mut self, ecx: u32) -> Self {
        self.system.features = Some(ecx);
        self
    }

    /// Another exception code.
    pub(crate) fn status(mut self, code: u32) -> Self {
        if let Some(exception) = &mut self.exception {
            exception.code = code;
        }
        self
    }
}

impl Witness for Fake {
    fn kind(&self) -> WitnessKind {
        self.kind
    }
    fn stop(&self) -> Option<StopCode> {
        Some(self.stop)
    }
    fn system(&self) -> &System {
        &self.system
    }
    fn exception(&self) -> Fact<Exception> {
        self.exception.clone().map_or_else(unknown, |exception| Fact::known(exception, "told so"))
    }
    fn context(&self) -> Fact<Context> {
        self.context.clone().map_or_else(unknown, |context| Fact::known(context, "told so"))
    }
    fn stacks(&self) -> &[Stack] {
        &self.stacks
    }
    fn modules(&self) -> &[Module] {
        &self.modules
    }
    fn unloaded(&self) -> &[UnloadedModule] {
        &[]
    }
    fn processors(&self) -> &[Processor] {
        &self.processors
    }
    fn thread(&self) -> &Thread {
        &self.thread
    }
    fn verifier(&self) -> Fact<Verifier> {
        self.flags.map_or_else(unknown, |flags| Fact::known(Verifier { flags }, "told so"))
    }
    fn place(&self, address: VirtAddr) -> Place {
        let Some(module) = self.module_at(address) else { return Place::default() };
        Place {
            image: Some(module.image.clone()),
            display: Some(module.display.clone()),
            offset: address.0 - module.base.0,
            ..Place::default()
        }
    }
    fn bytes(&self, address: VirtAddr, limit: usize) -> Cow<'_, [u8]> {
        let held = self.memory.iter().find_map(|(start, bytes)| {
            bytes.get(usize::try_from(address.offset_from(*start)?).ok()?..).filter(|rest| !rest.is_empty())
        });
        Cow::Borrowed(held.map_or(&[][..], |rest| &rest[..rest.len().min(limit)]))
    }
    fn page_table_entries(&self, address: VirtAddr) -> Vec<Pte> {
        self.entries.iter().filter(|(of, _)| of.page() == address.page()).map(|(_, entry)| *entry).collect()
    }
    fn irp(&self, address: VirtAddr) -> Fact<Irp> {
        self.request
            .clone()
            .filter(|irp| irp.address == address)
            .map_or_else(unknown, |irp| Fact::known(irp, "told so"))
    }
    fn device_driver(&self, address: VirtAddr) -> Fact<String> {
        let device = self.devices.iter().find(|(at, _)| *at == address.0);
        device.map_or_else(unknown, |(_, driver)| Fact::known(driver.clone(), "told so"))
    }
    fn dpc_histories(&self) -> Fact<Vec<DpcHistory>> {
        self.histories.clone().map_or_else(unknown, |all| Fact::known(all, "told so"))
    }
    fn first_in(&self, module: &Module, patterns: &[Vec<u8>]) -> Option<VirtAddr> {
        let is = |constant: &[u8; 4]| patterns.iter().any(|pattern| pattern.ends_with(constant));
        let held = self.constants.iter().any(|(image, constant)| *image == module.image && is(constant));
        held.then(|| module.base.plus(0x800))
    }
    fn remarks(&self) -> &[Remark] {
        &self.remarks
    }
    fn region(&self, address: VirtAddr) -> Fact<Region> {
        let held = self.region.clone().filter(|region| (region.start..region.end).contains(&address));
        held.map_or_else(unknown, |region| Fact::known(region, "told so"))
    }
    fn check_image(&self, _module: &Module) -> Fact<ImageCheck> {
        self.check.clone().map_or_else(unknown, |check| Fact::known(check, "told so"))
    }
}

/// The hypothesis of a class.
pub(crate) fn of(verdict: &Verdict, class: Class) -> Option<&Hypothesis> {
    verdict.hypotheses.iter().find(|h| h.class == class)
}

/// What a class has.
pub(crate) fn confidence(fake: &Fake, class: Class) -> f64 {
    of(&judge(fake), class).map_or(0.0, |h| h.confidence)
}

/// What leads: its class, its module, its confidence.
pub(crate) fn lead(fake: &Fake) -> (Class, Option<String>, f64) {
    let verdict = judge(fake);
    let lead = &verdict.hypotheses[0];
    (lead.class, lead.suspect.as_ref().and_then(|s| s.module.clone()), lead.confidence)
}

/// True if something with these words speaks for a class.
pub(crate) fn says(fake: &Fake, class: Class, words: &str) -> bool {
    of(&judge(fake), class).is_some_and(|h| h.supports.iter().any(|e| e.text.contains(words)))
}

/// The same against it.
pub(crate) fn refuted(fake: &Fake, class: Class, words: &str) -> bool {
    of(&judge(fake), class).is_some_and(|h| h.contradicts.iter().any(|e| e.text.contains(words)))
}

/// Registers of which rcx holds this, and all others nothing.
pub(crate) fn registers(rcx: u64) -> X64Registers {
    let mut registers = X64Registers::default();
    registers.gpr[1] = rcx;
    registers
}
