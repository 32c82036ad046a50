//! Planted faults on ARM64: a driver's access by way of a pointer that is wrong, a page whose entry is, a list.
//!
//! Functions keep frame records (x29, x30) and have packed unwind data, as compilers make them. The kernel's entry makes a trap
//! frame, whose last two words are a frame record, so that the chain goes on to what was interrupted.

mod faults;

use super::driver::NAMES;
use super::kernel::Profile;
use super::pool::Page;
use super::rng::Rng;
use super::scene::{self, Setting};
use super::{Class, Plot};
use crate::image::{self, Packed};
use crate::machine::{
    Arch, BugCheck, Exception, Frame, Kernel, Machine, Module, Pdb, Processor, Registers, Stack, Thread,
    Trap, Word,
};
use crate::{Error, Hex, kdbg};

/// Windows 11 of October 2021, of which a real dump tells the structures. No table holds its functions: they are made up, as
/// the kernel's time stamp is.
static PROFILE: Profile = Profile {
    build: 22000,
    version: "",
    revision: None,
    time_stamp: 0,
    size: 0x104_7000,
    page_fault_call: 0,
};

const ACCESS_VIOLATION: u64 = 0xc000_0005;
/// Where the kernel's variables begin, how far apart they lie, and where its debugger data are.
const GLOBALS: u64 = 0xc0_0000;
const GLOBAL_ROOM: u64 = 0x140;
const DEBUGGER_DATA: u64 = 0xd0_0040;
/// A processor's own structures, and its stacks.
const PROCESSOR_ROOM: u64 = 0x4_0000;
const PCR_PRCB: u64 = 0x980;
const CONTEXT_AT: u64 = 0x1_1340;
const IDLE_THREAD_AT: u64 = 0x1_21c0;
const STACK: u64 = 0x6000;
const STACK_ROOM: u64 = 0x1_0000;
/// A trap frame with the float registers behind it, and where its frame record lies.
const TRAP_ROOM: u64 = 0x370;
const TRAP_RECORD: u64 = 0x140;
/// Bytes of a prolog: `stp x29, x30, [sp, #-frame]!` and `mov x29, sp`.
const PROLOG: u64 = 8;
/// x29, x30, and the number that stands for the stack pointer.
const FP: u32 = 29;
const LR: u32 = 30;
const SP: u32 = 31;
const NOP: u32 = 0xd503_201f;

/// The syndrome of an access of the kernel's that no page translates.
fn data_abort(writes: bool) -> u64 {
    const DATA_ABORT: u64 = 0x25 << 26 | 1 << 25;
    const NO_PAGE: u64 = 7;
    const WRITE: u64 = 1 << 6;
    DATA_ABORT | NO_PAGE | if writes { WRITE } else { 0 }
}

/// A driver under construction.
struct Driver {
    module: Module,
    text: Vec<u8>,
    functions: Vec<Packed>,
}

impl Driver {
    fn new(rng: &mut Rng, base: u64) -> Self {
        let name = rng.pick(&NAMES).unwrap_or("exnetflt.sys");
        let module = Module {
            path: format!(r"\SystemRoot\System32\drivers\{name}"),
            base: Hex(base),
            size: Hex(0x6000 + rng.below(0x18) * 0x1000),
            time_stamp: Hex(0x5600_0000 + rng.below(0x1000_0000)),
            pdb: Some(Pdb {
                name: name.replace(".sys", ".pdb"),
                guid: format!("{:016X}{:016X}", rng.word(), rng.word()),
                age: 1,
            }),
            ..Module::default()
        };
        let mut driver = Self { module, text: Vec::new(), functions: Vec::new() };
        for _ in 0..rng.below(24) {
            driver.function(0x20, &vec![NOP; 2 + rng.below(0x18) as usize]);
        }
        driver
    }

    /// Adds a function that keeps its frame record at the lower end of `frame` bytes, a multiple of 16 below 0x200; gives
    /// where it lies.
    fn function(&mut self, frame: u64, body: &[u32]) -> u64 {
        let start = (image::TEXT + self.text.len()) as u64;
        let record = LR << 10 | SP << 5 | FP;
        let words = frame as u32 / 8;
        let prolog = [0xa980_0000 | ((0x80 - words) & 0x7f) << 15 | record, 0x9100_03fd];
        let epilog = [0xa8c0_0000 | words << 15 | record, 0xd65f_03c0];
        let code = prolog.iter().chain(body).chain(&epilog);
        self.text.extend(code.flat_map(|word| word.to_le_bytes()));
        let end = (image::TEXT + self.text.len()) as u64;
        self.functions.push(Packed { start: start as u32, end: end as u32, frame: frame as u32 });
        self.text.resize(self.text.len().next_multiple_of(16), 0);
        self.module.base.0 + start
    }

    /// Adds a function that calls the one at `target`; gives where that call returns to.
    fn caller(&mut self, frame: u64, target: u64, before: usize) -> u64 {
        let call = self.module.base.0 + (image::TEXT + self.text.len()) as u64 + PROLOG + 4 * before as u64;
        let distance = (target.wrapping_sub(call) >> 2) as u32 & 0x3ff_ffff;
        let mut body = vec![NOP; before];
        body.extend([0x9400_0000 | distance, NOP]);
        self.function(frame, &body);
        call + 4
    }

    fn finish(mut self) -> Module {
        self.module.contents = image::assemble_arm64(&self.module, &self.text, &self.functions);
        self.module
    }
}

/// A stack that grows as functions are called: each function's frame record lies at its stack pointer.
struct Chain {
    low: u64,
    high: u64,
    sp: u64,
    /// Outermost first.
    frames: Vec<Frame>,
    words: Vec<Word>,
}

impl Chain {
    fn new(high: u64) -> Self {
        let sp = high - 0x60;
        let outermost = Frame { sp: Hex(sp), ret: Hex(0), trap: false, name: String::new() };
        Self { low: high - STACK, high, sp, frames: vec![outermost], words: Vec::new() }
    }

    fn call(&mut self, ret: u64, frame: u64) {
        self.sp -= frame;
        self.frames.push(Frame { sp: Hex(self.sp), ret: Hex(ret), trap: false, name: String::new() });
    }

    /// The processor enters a trap at `pc`; gives where the trap frame lies. The entry saves the float registers, too.
    fn trap(&mut self, pc: u64) -> u64 {
        self.sp -= TRAP_ROOM;
        let record = Hex(self.sp + TRAP_RECORD);
        self.frames.push(Frame { sp: record, ret: Hex(pc), trap: true, name: String::new() });
        self.sp
    }

    /// Words at a place in the stack.
    fn put(&mut self, at: u64, bytes: &[u8]) {
        let words = bytes.chunks_exact(8).filter_map(<[u8]>::first_chunk);
        let values = words.map(|word| Hex(u64::from_le_bytes(*word)));
        let places = (at..).step_by(8).map(Hex);
        self.words.extend(places.zip(values).map(|(at, value)| Word { at, value }));
    }

    fn stack(self, about: &str) -> Stack {
        let frames = self.frames.into_iter().rev().collect();
        let (low, high) = (Hex(self.low), Hex(self.high));
        Stack { about: about.to_owned(), low, high, bytes: Vec::new(), frames, words: self.words }
    }
}

/// A machine that is about to crash.
struct Scene {
    rng: Rng,
    service: bool,
    nt: u64,
    driver: Driver,
    chain: Chain,
    pool: Page,
    machine: Machine,
}

/// A machine with a fault of this class, if ARM64 machines are planted with it.
pub(super) fn plant(rng: Rng, class: Class) -> Result<(Machine, Plot), Error> {
    let mut scene = Scene::lay_out(rng);
    let plot = match class {
        Class::PointerBit | Class::UseAfterFree => faults::pointer(&mut scene, class.is_hardware()),
        Class::NullBit | Class::NullDereference => faults::null(&mut scene, class.is_hardware()),
        Class::PteValidBit | Class::WrongIrql => faults::paged(&mut scene, class.is_hardware()),
        Class::ListBit | Class::ListCorruption => faults::list(&mut scene, class.is_hardware()),
        _ => return Err(Error::Contradiction(format!("{}, which is not planted on ARM64", class.name()))),
    };
    Ok((scene.finish(), plot))
}

impl Scene {
    fn lay_out(mut rng: Rng) -> Self {
        let nt = 0xffff_f800_0000_0000 + (0x10 + rng.below(0x7f0)) * 0x20_0000;
        let region = |index: u64| 0xffff_0000_0000_0000 | index << 39;
        let first = 0x140 + rng.below(0x18);
        let (system, pool, stacks) = (region(first), region(first + 0x20), region(first + 0x50));
        let pte_base = region(0x1d0 + rng.below(0x18));
        let count = rng.pick(&[2_u64, 4, 8]).unwrap_or(4);
        let (modules, next) = scene::modules(&mut rng, &PROFILE, nt);
        let driver = Driver::new(&mut rng, next + 0x10_0000);
        let mut machine = scene::machine(&mut rng, &PROFILE, pte_base, (0, 0), modules);
        machine.arch = Arch::Arm64;
        machine.kernel = kernel();
        "Example ARM64 processor".clone_into(&mut machine.cpu.name);
        "Qualcomm Inc".clone_into(&mut machine.cpu.vendor);
        scene::processes(&mut machine, &mut rng, pool, nt, PROFILE.size);
        for number in 0..count {
            idle(&mut machine, number, system, stacks, nt);
        }
        let service = rng.coin();
        let cpu = rng.below(count) as usize;
        machine.crash_processor = cpu as u32;
        let high = stacks + 0x100_0000 + (1 + rng.below(0x40)) * STACK_ROOM;
        let setting = if service { Setting::Service } else { Setting::Worker };
        scene::run_thread(&mut machine, &mut rng, setting, cpu, high, pool);
        let pool = Page::new(pool + 0x10_0000 + rng.below(0x400) * 0x1000);
        let mut scene = Self { rng, service, nt, driver, chain: Chain::new(high), pool, machine };
        let names: &[(&str, u64)] = if service {
            &[("KiSystemServiceExit", 0), ("NtDeviceIoControlFile", 0x58), ("IofCallDriver", 0x5c)]
        } else {
            &[("KiStartSystemThread", 0x28), ("PspSystemThreadStartup", 0x54), ("ExpWorkerThread", 0x104)]
        };
        for (name, offset) in names {
            let frame = 0x20 + 0x10 * scene.rng.below(9);
            let ret = scene.nt(name, *offset);
            scene.chain.call(ret, frame);
        }
        scene
    }

    fn nt(&self, function: &str, offset: u64) -> u64 {
        self.nt + PROFILE.rva(function) + offset
    }

    /// Registers with nothing in them that tells.
    fn registers(&mut self) -> Registers {
        let mut registers = Registers::default();
        let (low, pool) = (self.chain.low, self.pool.at);
        for slot in &mut registers.x {
            *slot = Hex(match self.rng.below(4) {
                0 => low + self.rng.below(0x600) * 8,
                1 => pool + self.rng.below(0x200) * 8,
                _ => self.rng.below(0x400),
            });
        }
        registers.eflags = Hex(0x6000_0004);
        registers
    }

    /// The driver is entered: a function that is called from outside, and the one it calls, in which the instruction
    /// `faults` behind its body's start takes the fault.
    fn enter(&mut self, body: &[u32], faults: u64) -> Registers {
        let frame = 0x20 + 0x10 * self.rng.below(8);
        let inner = self.driver.function(frame, body);
        let (outer_frame, before) = (0x20 + 0x10 * self.rng.below(5), 3 + self.rng.below(40) as usize);
        let returns = self.driver.caller(outer_frame, inner, before);
        let ret = self.nt("IopfCallDriver", 0x4c);
        self.chain.call(ret, outer_frame);
        self.chain.call(returns, frame);
        let mut registers = self.registers();
        registers.rip = Hex(inner + PROLOG + faults);
        registers.rsp = Hex(self.chain.sp);
        registers.rbp = registers.rsp;
        registers.lr = Hex(returns);
        registers
    }

    /// The kernel is entered where the registers are, with the interrupt level before; gives where the trap frame lies.
    fn trap(&mut self, registers: Registers, syndrome: u64, address: u64, previous_irql: u8) -> u64 {
        let at = self.chain.trap(registers.rip.0);
        self.machine.traps.push(Trap {
            at: Hex(at),
            registers,
            error_code: Hex(syndrome),
            fault_address: Hex(address),
            previous_irql,
            user: false,
        });
        for (function, offset, frame) in
            [("KiArm64ExceptionVectors", 0x5c, 0x60), ("KzSynchronousException", 0x24, 0xf0)]
        {
            let ret = self.nt(function, offset);
            self.chain.call(ret, frame);
        }
        at
    }

    /// The fault becomes an exception that nobody handles: 0x3B in a service, else 0x7E.
    fn stop(&mut self, registers: Registers, address: u64, writes: bool) {
        self.trap(registers, data_abort(writes), address, 0);
        let ret = self.nt("KiSynchronousException", 0xc0);
        self.chain.call(ret, 0x180);
        let record_at = self.chain.sp + 0x40;
        let ret = self.nt("KiDispatchExceptionOnExceptionStack", 0xc4);
        self.chain.call(ret, 0x4a0);
        let context_at = self.chain.sp + 0x40;
        for (function, offset, frame) in [
            ("KiDispatchException", 0x5d4, 0x90),
            ("RtlDispatchException", 0x328, 0x60),
            ("RtlpExecuteHandlerForException", 0x14, 0x20),
        ] {
            let ret = self.nt(function, offset);
            self.chain.call(ret, frame);
        }
        let information = [u64::from(writes), address].map(Hex).to_vec();
        self.machine.exception = Some(Exception {
            code: Hex(ACCESS_VIOLATION),
            information,
            record_at: Hex(record_at),
            context_at: Hex(context_at),
            registers,
        });
        let pc = registers.rip.0;
        let (code, ret, arguments) = if self.service {
            (0x3b, self.nt("KiSystemServiceHandler", 0x7c), [ACCESS_VIOLATION, pc, context_at, 0])
        } else {
            let status = 0xffff_ffff_0000_0000 | ACCESS_VIOLATION;
            (0x7e, self.nt("PspSystemThreadStartup", 0x1b60), [status, pc, record_at, context_at])
        };
        self.bug_check(ret, code, arguments, registers);
    }

    /// Who returns to `ret` calls `KeBugCheckEx`.
    fn bug_check(&mut self, ret: u64, code: u64, arguments: [u64; 4], registers: Registers) {
        self.chain.call(ret, 0x50);
        let mut stopped = registers;
        for (slot, value) in stopped.x.iter_mut().zip([code].into_iter().chain(arguments)) {
            *slot = Hex(value);
        }
        stopped.rip = Hex(self.nt("KeBugCheckEx", 0x54));
        stopped.rsp = Hex(self.chain.sp);
        stopped.rbp = stopped.rsp;
        stopped.lr = Hex(ret);
        self.machine.bug_check = BugCheck { code: Hex(code), arguments: arguments.map(Hex) };
        let number = self.machine.crash_processor as usize;
        if let Some(cpu) = self.machine.processors.get_mut(number) {
            cpu.registers = stopped;
        }
    }

    fn finish(mut self) -> Machine {
        self.pool.others(&mut self.rng, 3);
        self.machine.memory.push(self.pool.finish());
        self.machine.modules.push(self.driver.finish());
        self.machine.stacks.insert(0, self.chain.stack("the crash"));
        self.machine
    }

    /// Name and pool tag of the driver.
    fn name_and_tag(&self) -> (String, [u8; 4]) {
        let name = self.driver.module.path.rsplit('\\').next().unwrap_or_default().to_owned();
        let mut letters = name.bytes().chain([b' '; 4]);
        let tag = [(); 4].map(|()| letters.next().unwrap_or(b' '));
        (name, tag)
    }
}

/// Where the kernel keeps its variables.
fn kernel() -> Kernel {
    let places = (0..).map(|n| Hex(GLOBALS + n * GLOBAL_ROOM));
    let globals = kdbg::pointer_names().map(str::to_owned).zip(places).collect();
    let debugger_data_list = Hex(DEBUGGER_DATA + 0x4_0000);
    Kernel { debugger_data: Hex(DEBUGGER_DATA), debugger_data_list, globals, encoding: None }
}

/// One processor that idles, frozen.
fn idle(machine: &mut Machine, number: u64, system: u64, stacks: u64, nt: u64) {
    let room = system + number * PROCESSOR_ROOM;
    let high = stacks + (number * 4 + 1) * STACK_ROOM;
    let thread = Hex(room + IDLE_THREAD_AT);
    let mut chain = Chain::new(high);
    chain.call(nt + PROFILE.rva("KiIdleLoop") + 0x5c, 0x30);
    chain.call(nt + PROFILE.rva("PoIdle") + 0x36c, 0x150);
    let registers = Registers {
        rip: Hex(nt + PROFILE.rva("HalProcessorIdle") + 0x1c),
        rsp: Hex(chain.sp),
        rbp: Hex(chain.sp),
        eflags: Hex(0x6000_0004),
        ..Registers::default()
    };
    machine.threads.push(Thread {
        at: thread,
        process: machine.processes.first().map_or(Hex(0), |idle| idle.at),
        id: Hex(0),
        stack_limit: Hex(chain.low),
        stack_base: Hex(high),
        initial_stack: Hex(high - 0x60),
        kernel_stack: Hex(chain.sp),
        state: 2,
        wait_reason: 0,
        priority: 0,
        start_address: Hex(nt + PROFILE.rva("KiIdleLoop")),
        teb: Hex(0),
        trap_frame: Hex(0),
    });
    machine.stacks.push(chain.stack("an idle processor"));
    machine.processors.push(Processor {
        number: number as u32,
        prcb: Hex(room + PCR_PRCB),
        context_at: Hex(room + CONTEXT_AT),
        ipi_frozen: 2,
        thread,
        idle_thread: thread,
        registers,
        dpc_stack: Hex(high + STACK_ROOM - 0x60),
        isr_stack: Hex(high + 2 * STACK_ROOM),
        ..Processor::default()
    });
}
