//! The machine around a planted fault: kernel, processors, processes, and the thread that crashes.

use super::driver::{Driver, NAMES};
use super::kernel::{PROFILES, Profile};
use super::pool::Page;
use super::rng::Rng;
use crate::machine::{
    BugCheck, Cpu, Exception, Frame, Machine, Module, Process, Processor, Registers, Stack, Thread, Trap,
    Unloaded, Verifier,
};
use crate::{Error, Hex, context};

/// Where the crashed processor was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Setting {
    /// In a deferred procedure call, at DISPATCH_LEVEL, on the processor's DPC stack.
    Dpc,
    /// In a thread of the system, at PASSIVE_LEVEL.
    Worker,
    /// In a system service of a program.
    Service,
}

/// Bytes of a kernel stack.
const STACK: u64 = 0x6000;
/// Room of a processor's own structures, and where they lie in it.
const PROCESSOR_ROOM: u64 = 0x4_0000;
const CONTEXT_AT: u64 = 0x1_1340;
const IDLE_THREAD_AT: u64 = 0x1_21c0;
const IDT_AT: u64 = 0x1_4000;
const GDT_AT: u64 = 0x1_5fb0;
const TSS_AT: u64 = 0x1_7000;
/// Room between stacks: each has a gap below it.
const STACK_ROOM: u64 = 0x1_0000;

/// A stack that grows as functions are called.
pub(super) struct Chain {
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) sp: u64,
    /// Outermost first.
    frames: Vec<Frame>,
    bytes: Vec<crate::machine::Code>,
}

impl Chain {
    /// A stack of the usual size that ends at `high`.
    pub(super) fn ending_at(high: u64) -> Self {
        Self::new(high - STACK, high)
    }

    fn new(low: u64, high: u64) -> Self {
        let sp = high - 0x50;
        let outermost = Frame { sp: Hex(sp), ret: Hex(0), trap: false, name: String::new() };
        Self { low, high, sp, frames: vec![outermost], bytes: Vec::new() }
    }

    /// A function is entered that returns to `ret` and takes `frame` bytes.
    pub(super) fn call(&mut self, ret: u64, frame: u64) {
        self.sp -= 8 + frame;
        self.frames.push(Frame { sp: Hex(self.sp), ret: Hex(ret), trap: false, name: String::new() });
    }

    /// The processor enters a trap at `rip`: the frame lies below what was there.
    pub(super) fn trap(&mut self, rip: u64) -> u64 {
        self.sp = (self.sp & !0xf) - 0x190;
        self.frames.push(Frame { sp: Hex(self.sp), ret: Hex(rip), trap: true, name: String::new() });
        self.sp
    }

    pub(super) fn put(&mut self, at: u64, bytes: Vec<u8>) {
        self.bytes.push(crate::machine::Code { at: Hex(at), bytes: bytes.into(), about: String::new() });
    }

    fn stack(self, about: &str) -> Stack {
        let mut frames = self.frames;
        frames.reverse();
        Stack {
            about: about.to_owned(),
            low: Hex(self.low),
            high: Hex(self.high),
            bytes: self.bytes,
            frames,
            words: Vec::new(),
        }
    }
}

/// A machine that is about to crash.
pub(super) struct Scene {
    pub(super) rng: Rng,
    pub(super) profile: &'static Profile,
    pub(super) setting: Setting,
    pub(super) nt: u64,
    pub(super) driver: Driver,
    /// The stack that the crash happens on.
    pub(super) chain: Chain,
    /// Pool of the driver.
    pub(super) pool: Page,
    /// The processor that crashes.
    pub(super) cpu: usize,
    pub(super) machine: Machine,
}

impl Scene {
    /// A machine of one of the builds that `fits`.
    pub(super) fn fitting(mut rng: Rng, fits: impl Fn(u32) -> bool) -> Result<Self, Error> {
        let profiles: Vec<&Profile> = PROFILES.iter().filter(|profile| fits(profile.build)).collect();
        let profile = rng.pick(&profiles).ok_or_else(|| Error::Missing("kernel".to_owned()))?;
        let setting = rng.pick(&[Setting::Dpc, Setting::Worker, Setting::Service]).unwrap_or(Setting::Worker);
        Ok(Self::lay_out(rng, profile, setting))
    }

    fn lay_out(mut rng: Rng, profile: &'static Profile, setting: Setting) -> Self {
        let old = profile.build < 14393;
        let nt = 0xffff_f800_0000_0000 + (0x10 + rng.below(0x7f0)) * 0x20_0000;
        // Regions of the address space: never two of the 512 GiB that one top entry covers, nor that of the module list.
        let region = |index: u64| 0xffff_0000_0000_0000 | index << 39;
        let first = 0x140 + rng.below(0x18);
        let (system, pool, stacks) = (region(first), region(first + 0x20), region(first + 0x50));
        let pte_base = if old { 0xffff_f680_0000_0000 } else { region(0x1d0 + rng.below(0x18)) };
        let count = rng.pick(&[2_u64, 4, 8]).unwrap_or(4);
        let keys = (rng.word(), rng.word());
        let name = rng.pick(&NAMES).unwrap_or("exnetflt.sys");
        let mut driver = Driver::new(&mut rng, name);
        let (modules, next) = modules(&mut rng, profile, nt);
        driver.base = next + rng.below(0x40) * 0x1_0000;
        let mut machine = machine(&mut rng, profile, pte_base, keys, modules);
        processes(&mut machine, &mut rng, pool, nt, profile.size);
        let cpu = rng.below(count) as usize;
        for number in 0..count {
            processor(&mut machine, profile, number, system, stacks, nt);
        }
        machine.crash_processor = cpu as u32;
        let chain = enter(&mut machine, &mut rng, setting, cpu, stacks + 0x100_0000, pool);
        let page = Page::new(pool + 0x10_0000 + rng.below(0x400) * 0x1000);
        let mut scene = Self { rng, profile, setting, nt, driver, chain, pool: page, cpu, machine };
        scene.come_to_the_driver();
        scene
    }

    /// The address of a kernel function, and a place in it.
    pub(super) fn nt(&self, function: &str, offset: u64) -> u64 {
        self.nt + self.profile.rva(function) + offset
    }

    /// Calls from where the thread began to where a driver is called.
    fn come_to_the_driver(&mut self) {
        let names: &[(&str, u64)] = match self.setting {
            Setting::Dpc => &[("KiIdleLoop", 0x5a), ("KiRetireDpcList", 0x1f4), ("KiExecuteAllDpcs", 0x30e)],
            Setting::Worker => {
                &[("KiStartSystemThread", 0x28), ("PspSystemThreadStartup", 0x55), ("ExpWorkerThread", 0x105)]
            }
            Setting::Service => {
                &[("KiSystemServiceCopyEnd", 0x25), ("NtDeviceIoControlFile", 0x56), ("IofCallDriver", 0x59)]
            }
        };
        for (name, offset) in names {
            let frame = 0x28 + 0x10 * self.rng.below(9);
            let ret = self.nt(name, *offset);
            self.chain.call(ret, frame);
        }
    }

    /// The interrupt level that the crashed processor was at.
    pub(super) fn irql(&self) -> u8 {
        if self.setting == Setting::Dpc { 2 } else { 0 }
    }

    /// Registers with nothing in them that tells: small numbers, and pointers into the stack and the pool.
    pub(super) fn registers(&mut self) -> Registers {
        let mut registers = Registers::default();
        let (low, pool) = (self.chain.low, self.pool.at);
        for n in 0..16_u8 {
            let value = match self.rng.below(4) {
                0 => low + self.rng.below(0x600) * 8,
                1 => pool + self.rng.below(0x200) * 8,
                _ => self.rng.below(0x400),
            };
            registers.set(n, value);
        }
        registers.eflags = Hex(0x1_0246);
        registers
    }

    /// The fault is taken by `KiPageFault` and reported as it is: 0xA, 0x50, 0xD1.
    pub(super) fn stop_in_page_fault(
        &mut self,
        code: u64,
        arguments: [u64; 4],
        registers: Registers,
        writes: bool,
        address: u64,
    ) {
        let at = self.chain.trap(registers.rip.0);
        self.machine.traps.push(Trap {
            at: Hex(at),
            registers,
            error_code: Hex(u64::from(writes) * 2),
            fault_address: Hex(address),
            previous_irql: self.irql(),
            user: false,
        });
        let offset = self.profile.page_fault_call;
        let ret = self.nt("KiPageFault", offset);
        self.chain.call(ret, 0x138);
        self.bug_check(code, arguments, registers);
        if let Some(cpu) = self.machine.processors.get_mut(self.cpu) {
            cpu.cr2 = Hex(address);
        }
    }

    /// `KiBugCheckDispatch` calls `KeBugCheckEx`.
    pub(super) fn bug_check(&mut self, code: u64, arguments: [u64; 4], registers: Registers) {
        let ret = self.nt("KiBugCheckDispatch", 0x69);
        self.bug_check_from(ret, code, arguments, registers);
    }

    /// Whoever returns to `ret` calls `KeBugCheckEx`.
    pub(super) fn bug_check_from(
        &mut self,
        ret: u64,
        code: u64,
        arguments: [u64; 4],
        mut registers: Registers,
    ) {
        self.chain.call(ret, 0);
        self.machine.bug_check = BugCheck { code: Hex(code), arguments: arguments.map(Hex) };
        let [first, second, third, _] = arguments;
        registers.rip = Hex(self.nt("KeBugCheckEx", 0));
        registers.rsp = Hex(self.chain.sp);
        registers.rcx = Hex(code);
        registers.rdx = Hex(first);
        registers.r8 = Hex(second);
        registers.r9 = Hex(third);
        registers.eflags = Hex(0x46);
        let irql = self.irql();
        if let Some(cpu) = self.machine.processors.get_mut(self.cpu) {
            cpu.registers = registers;
            cpu.saved_irql = irql;
        }
    }

    /// The fault becomes an exception that nobody handles: 0x3B in a service, else 0x7E. `fault` is the handler that
    /// takes it.
    pub(super) fn stop_by_exception(
        &mut self,
        fault: &str,
        status: u64,
        information: &[u64],
        registers: Registers,
    ) {
        let address = information.get(1).copied().unwrap_or(0);
        let at = self.chain.trap(registers.rip.0);
        self.machine.traps.push(Trap {
            at: Hex(at),
            registers,
            error_code: Hex(0),
            fault_address: Hex(if fault == "KiPageFault" { address } else { 0 }),
            previous_irql: self.irql(),
            user: false,
        });
        let ret = self.nt(fault, 0x103);
        self.chain.call(ret, 0x1b8);
        let record_at = self.chain.sp + 0x110;
        let ret = self.nt("KiExceptionDispatch", 0xce);
        self.chain.call(ret, 0x6d8);
        let context_at = self.chain.sp + 0x1f0;
        for (function, offset, frame) in [
            ("KiDispatchException", 0x16d, 0x6a8),
            ("RtlDispatchException", 0x422, 0x28),
            ("RtlpExecuteHandlerForException", 0xf, 0x48),
        ] {
            let ret = self.nt(function, offset);
            self.chain.call(ret, frame);
        }
        self.machine.exception = Some(Exception {
            code: Hex(status),
            information: information.iter().copied().map(Hex).collect(),
            record_at: Hex(record_at),
            context_at: Hex(context_at),
            registers,
        });
        let rip = registers.rip.0;
        if self.setting == Setting::Service {
            let ret = self.nt("KiSystemServiceHandler", 0x7c);
            self.chain.call(ret, 0x138);
            self.bug_check(0x3b, [status, rip, context_at, 0], registers);
        } else {
            let ret = self.nt("PspSystemThreadStartup", 0x1b5e);
            let status = 0xffff_ffff_0000_0000 | status;
            self.bug_check_from(ret, 0x7e, [status, rip, record_at, context_at], registers);
        }
    }

    /// The machine, with the driver, its stack and its pool in their places.
    pub(super) fn finish(mut self) -> Machine {
        self.pool.others(&mut self.rng, 3);
        self.machine.memory.push(self.pool.finish());
        self.machine.modules.push(self.driver.module());
        self.machine.stacks.insert(0, self.chain.stack("the crash"));
        self.machine
    }

    /// Puts an `EXCEPTION_RECORD` onto the stack.
    pub(super) fn put_record(&mut self, at: u64, status: u64, information: &[u64], registers: Registers) {
        let exception = Exception {
            code: Hex(status),
            information: information.iter().copied().map(Hex).collect(),
            record_at: Hex(at),
            context_at: Hex(0),
            registers,
        };
        self.chain.put(at, context::exception_record(crate::machine::Arch::X64, &exception));
    }

    /// The processor enters a trap on a fresh stack, whose top it starts at.
    pub(super) fn trap_at_top(&mut self, registers: Registers) -> u64 {
        self.chain.frames.clear();
        // Where the frame returns to is another stack.
        let outer = Frame { sp: registers.rsp, ret: Hex(0), trap: false, name: String::new() };
        self.chain.frames.push(outer);
        self.chain.sp = self.chain.high;
        self.chain.trap(registers.rip.0)
    }

    /// Goes on on another stack; the one before stays as it is.
    pub(super) fn switch_to(&mut self, chain: Chain) {
        let before = std::mem::replace(&mut self.chain, chain);
        self.machine.stacks.push(before.stack("the thread"));
    }
}

/// Modules of every system, the kernel first, and where the next one could lie.
pub(super) fn modules(rng: &mut Rng, profile: &Profile, nt: u64) -> (Vec<Module>, u64) {
    const SYSTEM: [(&str, u64); 16] = [
        ("hal.dll", 0x4_9000),
        ("kdcom.dll", 0xb000),
        ("CI.dll", 0xc_2000),
        ("pci.sys", 0x7_9000),
        ("ACPI.sys", 0xc_c000),
        ("storport.sys", 0xb_0000),
        ("fltmgr.sys", 0x7_3000),
        ("Ntfs.sys", 0x2d_8000),
        ("ndis.sys", 0x17_0000),
        ("tcpip.sys", 0x2e_b000),
        ("afd.sys", 0xa_7000),
        ("Wdf01000.sys", 0xd_1000),
        ("dxgkrnl.sys", 0x3b_0000),
        ("win32k.sys", 0x9_a000),
        ("HDAudBus.sys", 0x2_6000),
        ("intelppm.sys", 0x4_0000),
    ];
    let time_stamp = match profile.time_stamp {
        0 => 0x5300_0000 + rng.below(0x800_0000),
        known => known.into(),
    };
    let mut modules = vec![Module {
        path: r"\SystemRoot\system32\ntoskrnl.exe".to_owned(),
        base: Hex(nt),
        size: Hex(profile.size.into()),
        time_stamp: Hex(time_stamp),
        checksum: Hex(0),
        pdb: profile.pdb(),
        ..Module::default()
    }];
    let mut next = nt + u64::from(profile.size).next_multiple_of(0x20_0000) + 0x40_0000;
    for (name, size) in SYSTEM {
        let folder = if name.contains(".dll") { "" } else { r"drivers\" };
        modules.push(Module {
            path: format!(r"\SystemRoot\System32\{folder}{name}"),
            base: Hex(next),
            size: Hex(size),
            time_stamp: Hex(0x5000_0000 + rng.below(0x1800_0000)),
            ..Module::default()
        });
        next += size.next_multiple_of(0x1_0000) + rng.below(4) * 0x1_0000;
    }
    (modules, next)
}

/// A machine without processors and threads.
pub(super) fn machine(
    rng: &mut Rng,
    profile: &Profile,
    pte_base: u64,
    keys: (u64, u64),
    modules: Vec<Module>,
) -> Machine {
    let last = modules.last().map_or(0, |module| module.base.0 + module.size.0);
    Machine {
        about: "Planted: invented, every bit of it.".to_owned(),
        arch: crate::machine::Arch::X64,
        pae: false,
        build: profile.build,
        revision: profile.revision,
        crash_time: 1_400_000_000 + rng.below(300_000_000) as u32,
        uptime_seconds: 60 + rng.below(400_000) as u32,
        product_type: 1,
        suite_mask: Hex(0x110),
        bug_check: BugCheck { code: Hex(0), arguments: [Hex(0); 4] },
        pte_base: Hex(pte_base),
        kernel: profile.kernel(keys),
        cpu: Cpu {
            vendor: "GenuineIntel".to_owned(),
            name: "Intel(R) Core(TM) i5-7500 CPU @ 3.40GHz".to_owned(),
            family: 6,
            model: 158,
            stepping: 9,
            mhz: 3408,
            microcode: Hex(0xde),
            cpuid: Vec::new(),
        },
        crash_processor: 0,
        exception: None,
        processors: Vec::new(),
        processes: Vec::new(),
        threads: Vec::new(),
        stacks: Vec::new(),
        traps: Vec::new(),
        modules,
        unloaded: vec![Unloaded {
            name: "dump_storport.sys".to_owned(),
            start: Hex(last + 0x1000_0000),
            end: Hex(last + 0x1001_0000),
        }],
        verifier: Verifier::default(),
        drivers: Vec::new(),
        irps: Vec::new(),
        dpcs: Vec::new(),
        firmware: None,
        code: Vec::new(),
        calls: Vec::new(),
        pages: Vec::new(),
        memory: Vec::new(),
        installed: crate::Installed::default(),
    }
}

/// The idle process, the system's, and programs.
pub(super) fn processes(machine: &mut Machine, rng: &mut Rng, pool: u64, nt: u64, size: u32) {
    const PROGRAMS: [&str; 8] = [
        "smss.exe",
        "csrss.exe",
        "services.exe",
        "lsass.exe",
        "svchost.exe",
        "explorer.exe",
        "chrome.exe",
        "game.exe",
    ];
    let idle = Process {
        // In the kernel's own data.
        at: Hex(nt + u64::from(size) - 0x2_0000),
        id: Hex(0),
        parent: Hex(0),
        name: "Idle".to_owned(),
        peb: Hex(0),
        directory_table_base: Hex(0x1a_d000),
    };
    let system = Process { at: Hex(pool + 0x4040), id: Hex(4), name: "System".to_owned(), ..idle.clone() };
    machine.processes = vec![idle, system];
    for (n, name) in (1..).zip(PROGRAMS) {
        machine.processes.push(Process {
            at: Hex(pool + 0x4040 + n * 0x2000),
            id: Hex(0x100 + n * 0x44 + rng.below(0x10) * 4),
            parent: Hex(4),
            name: name.to_owned(),
            peb: Hex(0x7f_f000_0000 + n * 0x1_0000),
            directory_table_base: Hex(0x2000_0000 + n * 0x1_1000),
        });
    }
}

/// One processor that idles, frozen.
fn processor(machine: &mut Machine, profile: &Profile, number: u64, system: u64, stacks: u64, nt: u64) {
    let room = system + number * PROCESSOR_ROOM;
    let high = stacks + (number * 4 + 1) * STACK_ROOM;
    let idle = room + IDLE_THREAD_AT;
    let mut chain = Chain::new(high - STACK, high);
    chain.call(nt + profile.rva("KiIdleLoop") + 0x5a, 0x28);
    chain.call(nt + profile.rva("PoIdle") + 0x36e, 0x148);
    let registers = Registers {
        rip: Hex(nt + profile.rva("PpmIdleGuestExecute") + 0x1d),
        rsp: Hex(chain.sp),
        rbx: Hex(room + 0x180),
        eflags: Hex(0x246),
        ..Registers::default()
    };
    let at = machine.processes.first().map_or(Hex(0), |idle| idle.at);
    machine.threads.push(Thread {
        at: Hex(idle),
        process: at,
        id: Hex(0),
        stack_limit: Hex(high - STACK),
        stack_base: Hex(high),
        initial_stack: Hex(high - 0x50),
        kernel_stack: Hex(chain.sp),
        state: 2,
        wait_reason: 0,
        priority: 0,
        start_address: Hex(nt + profile.rva("KiIdleLoop")),
        teb: Hex(0),
        trap_frame: Hex(0),
    });
    machine.stacks.push(chain.stack("an idle processor"));
    let (page_fault, double_fault) = (profile.rva("KiPageFault"), profile.rva("KiDoubleFaultAbort"));
    machine.processors.push(Processor {
        number: number as u32,
        prcb: Hex(room + 0x180),
        context_at: Hex(room + CONTEXT_AT),
        ipi_frozen: 2,
        thread: Hex(idle),
        idle_thread: Hex(idle),
        registers,
        cr0: Hex(0x8005_0033),
        cr2: Hex(0),
        cr4: Hex(if profile.build < 14393 { 0x4_06f8 } else { 0x37_0678 }),
        cr8: Hex(0xf),
        saved_irql: 0,
        dpc_stack: Hex(high + STACK_ROOM - 0x50),
        isr_stack: Hex(high + 2 * STACK_ROOM),
        dpc_active: false,
        idt: Hex(room + IDT_AT),
        gdt: Hex(room + GDT_AT),
        tss: Hex(room + TSS_AT),
        rsp0: Hex(high - 0x50),
        ist: vec![Hex(high + 3 * STACK_ROOM)],
        gates: vec![
            crate::machine::Gate { vector: 8, handler: Hex(nt + double_fault), ist: 1 },
            crate::machine::Gate { vector: 14, handler: Hex(nt + page_fault), ist: 0 },
        ],
    });
}

/// The crashed processor leaves idling: it gets the thread of the setting, and the stack that goes with it.
fn enter(
    machine: &mut Machine,
    rng: &mut Rng,
    setting: Setting,
    number: usize,
    stacks: u64,
    pool: u64,
) -> Chain {
    let Some(cpu) = machine.processors.get_mut(number) else { return Chain::new(stacks, stacks + STACK) };
    cpu.ipi_frozen = 0;
    cpu.cr8 = Hex(0);
    if setting == Setting::Dpc {
        // The idle thread stays current, and its own stack is left as it was.
        cpu.dpc_active = true;
        let high = cpu.dpc_stack.0 + 0x50;
        return Chain::new(high - STACK, high);
    }
    let high = stacks + (1 + rng.below(0x40)) * STACK_ROOM;
    run_thread(machine, rng, setting, number, high, pool);
    Chain::new(high - STACK, high)
}

/// A thread of its own for a processor, with the stack below `high`.
pub(super) fn run_thread(
    machine: &mut Machine,
    rng: &mut Rng,
    setting: Setting,
    number: usize,
    high: u64,
    pool: u64,
) {
    let Some(cpu) = machine.processors.get_mut(number) else { return };
    cpu.ipi_frozen = 0;
    let at = pool + 0x8_0080 + rng.below(0x20) * 0x1000;
    cpu.thread = Hex(at);
    cpu.rsp0 = Hex(high - 0x50);
    let service = setting == Setting::Service;
    let process = machine.processes.get(if service { 2 + rng.below(8) as usize } else { 1 });
    machine.threads.push(Thread {
        at: Hex(at),
        process: process.map_or(Hex(0), |process| process.at),
        id: Hex(0x20 + rng.below(0x800) * 4),
        stack_limit: Hex(high - STACK),
        stack_base: Hex(high),
        initial_stack: Hex(high - 0x50),
        kernel_stack: Hex(high - 0x600),
        state: 2,
        wait_reason: 0,
        priority: 12,
        start_address: Hex(0),
        teb: Hex(if service { 0x7f_f100_0000 } else { 0 }),
        trap_frame: Hex(0),
    });
}
