//! A debugging session: the crashed machine, and what was selected.

use crate::answer::Stop;
use crate::scope::Scope;
use crate::symbols;
use crate::view::{Usual, View};
use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stopcode_analysis::{MachineWitness, Verdict, judge};
use stopcode_base::{Fact, Memory, PhysAddr, Problem, VirtAddr};
use stopcode_dump::paging::AddressSpace;
use stopcode_kernel::{Machine, Module, Processor};

/// Pseudo-registers `$t0` to `$t19`.
const TEMPORARIES: usize = 20;

/// Opens the dump of a session anew, with the symbols of a path; besides the machine it gives what is wrong with the path.
pub type Open = Box<dyn Fn(&str) -> Result<(Machine, Vec<Problem>), String>>;

/// A session with one dump.
pub struct Session {
    machine: Rc<Machine>,
    symbol_path: String,
    open: Option<Open>,
    cancel: Arc<AtomicBool>,
    verdict: OnceCell<Rc<Verdict>>,
    radix: u32,
    temporaries: [u64; TEMPORARIES],
    last: u64,
    home: Option<Scope>,
    scope: Option<Scope>,
    frame: usize,
    thread: Option<VirtAddr>,
    process: Option<VirtAddr>,
    /// The page tables that addresses of user mode go through; none for those of the crash.
    user_space: Option<PhysAddr>,
    next_data: Option<VirtAddr>,
    next_code: Option<VirtAddr>,
    lines: bool,
    quit: bool,
}

impl Session {
    /// A session with `machine`, standing at its bug check. `symbol_path` says where symbols were looked for.
    pub fn new(machine: Machine, symbol_path: impl Into<String>) -> Self {
        let home = home(&machine);
        Self {
            machine: Rc::new(machine),
            symbol_path: symbol_path.into(),
            open: None,
            cancel: Arc::default(),
            verdict: OnceCell::new(),
            radix: 16,
            temporaries: [0; TEMPORARIES],
            last: 0,
            scope: home.clone(),
            home,
            frame: 0,
            thread: None,
            process: None,
            user_space: None,
            next_data: None,
            next_code: None,
            lines: true,
            quit: false,
        }
    }

    /// The same, with a way to open its dump anew: `.sympath` and `.reload` need it.
    #[must_use]
    pub fn opened_by(mut self, open: Open) -> Self {
        self.open = Some(open);
        self
    }

    /// Looks for symbols along `path` from now on, and at the bug check again; says what is wrong with the path. `None` if
    /// the host gave no way to open the dump anew.
    pub(crate) fn reopen(&mut self, path: String) -> Option<Result<Vec<Problem>, String>> {
        let (machine, problems) = match self.open.as_ref()?(&path) {
            Ok(opened) => opened,
            Err(why) => return Some(Err(why)),
        };
        self.home = home(&machine);
        self.machine = Rc::new(machine);
        self.symbol_path = path;
        self.verdict = OnceCell::new();
        self.select_home();
        Some(Ok(problems))
    }

    /// Set to true by whoever wants the running command to end; a host sets it back before the next.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancel)
    }

    /// Forgets that a command was to end.
    pub fn resume(&self) {
        self.cancel.store(false, Ordering::Relaxed);
    }

    /// True after `q`.
    pub fn is_over(&self) -> bool {
        self.quit
    }

    /// Whether source lines are shown.
    pub(crate) fn lines(&self) -> bool {
        self.lines
    }

    pub(crate) fn show_lines(&mut self, shown: bool) {
        self.lines = shown;
    }

    pub(crate) fn quit(&mut self) {
        self.quit = true;
    }

    /// `4: kd>`: the processor that is selected.
    pub fn prompt(&self) -> String {
        format!("{}: kd>", self.processor_number())
    }

    /// The machine.
    pub fn machine(&self) -> Rc<Machine> {
        Rc::clone(&self.machine)
    }

    /// Where symbols were looked for, as given.
    pub fn symbol_path(&self) -> &str {
        &self.symbol_path
    }

    /// What the analysis concludes; worked out once.
    pub fn verdict(&self) -> Rc<Verdict> {
        let judged = || Rc::new(judge(&MachineWitness::new(&self.machine)));
        Rc::clone(self.verdict.get_or_init(judged))
    }

    /// The selected context, or why there is none.
    pub fn scope(&self) -> Result<&Scope, Stop> {
        self.scope.as_ref().ok_or_else(|| {
            let why = self.machine.context().reason().unwrap_or("no registers are in this dump").to_owned();
            Stop::Unknown(why)
        })
    }

    /// The selected context and frame, to come back to.
    pub(crate) fn selection(&self) -> (Option<Scope>, usize) {
        (self.scope.clone(), self.frame)
    }

    /// Comes back to what was selected.
    pub(crate) fn select_again(&mut self, (scope, frame): (Option<Scope>, usize)) {
        (self.scope, self.frame) = (scope, frame);
    }

    /// Selects a context.
    pub fn select(&mut self, scope: Scope) {
        self.scope = Some(scope);
        self.frame = 0;
    }

    /// Goes back to the bug check.
    pub fn select_home(&mut self) {
        self.scope = self.home.clone();
        self.frame = 0;
        self.thread = None;
        self.process = None;
        self.user_space = None;
    }

    /// Selects a processor's context.
    pub fn select_processor(&mut self, number: u32) -> Result<(), Stop> {
        let machine = self.machine();
        let processor = self.processor(&machine, number)?;
        if self.home.as_ref().is_some_and(|home| home.processor == Some(number)) {
            self.scope = self.home.clone();
            self.frame = 0;
            return Ok(());
        }
        let registers = processor
            .registers
            .ok_or_else(|| Stop::Unknown(format!("the context of processor {number} is not in this dump")))?;
        let scope = Scope::new(registers, format!("the context of processor {number}"));
        self.select(scope.of(processor.thread, Some(number)));
        Ok(())
    }

    /// A processor by its number.
    pub fn processor<'m>(&self, machine: &'m Machine, number: u32) -> Result<&'m Processor, Stop> {
        let found = machine.processors().iter().find(|processor| processor.number == number);
        found.ok_or_else(|| {
            let count = machine.dump().header().number_processors;
            if number < count {
                Stop::Unknown(format!("nothing of processor {number} is in this dump"))
            } else {
                Stop::Failed(format!("there is no processor {number}: the machine has {count}"))
            }
        })
    }

    /// The number of the selected processor; 0 where that is not known.
    pub fn processor_number(&self) -> u32 {
        let of = |scope: &Option<Scope>| scope.as_ref().and_then(|scope| scope.processor);
        of(&self.scope).or_else(|| of(&self.home)).unwrap_or(0)
    }

    /// The selected frame of the selected stack.
    pub fn frame(&self) -> usize {
        self.frame
    }

    pub(crate) fn select_frame(&mut self, number: usize) {
        self.frame = number;
    }

    /// The selected thread's ETHREAD.
    pub fn thread(&self) -> Result<VirtAddr, String> {
        if let Some(thread) = self.thread.or_else(|| self.scope.as_ref()?.thread) {
            return Ok(thread);
        }
        let fact = &self.machine.thread().address;
        fact.get().ok_or_else(|| fact.reason().unwrap_or_default().to_owned())
    }

    pub(crate) fn select_thread(&mut self, thread: VirtAddr) {
        self.thread = Some(thread);
    }

    /// The selected process's EPROCESS.
    pub fn process(&self) -> Result<VirtAddr, String> {
        if let Some(process) = self.process {
            return Ok(process);
        }
        let thread = self.thread()?;
        let offset = self.machine.dump().kdbg().and_then(|kdbg| kdbg.offset("OffsetKThreadApcProcess"));
        let Some(offset) = offset else {
            let told = match self.machine.thread_at(thread) {
                Fact::Known { value, .. } => value.attached_process,
                Fact::Missing { reason } => Fact::Missing { reason },
            };
            return told.get().ok_or_else(|| told.reason().unwrap_or_default().to_owned());
        };
        let width = self.machine.arch().pointer_size() as usize;
        self.value_at(thread.plus(offset as u64), width)
            .map(VirtAddr)
            .map_err(|why| format!("KTHREAD.ApcState.Process: {why}"))
    }

    pub(crate) fn select_process(&mut self, process: VirtAddr) {
        self.process = Some(process);
    }

    /// Reads addresses of user mode through the page tables at `base` from now on.
    pub(crate) fn select_user_space(&mut self, base: Option<PhysAddr>) {
        self.user_space = base;
    }

    /// Memory as the selected process sees it.
    pub(crate) fn memory<'m>(&self, machine: &'m Machine) -> View<'m> {
        View::new(machine.arch(), Usual::Held(machine.memory()), self.user(machine))
    }

    /// The same, with the files of images behind it.
    pub(crate) fn code<'m>(&self, machine: &'m Machine) -> View<'m> {
        View::new(machine.arch(), Usual::Code(machine.code()), self.user(machine))
    }

    fn user<'m>(&self, machine: &'m Machine) -> Option<AddressSpace<'m>> {
        machine.dump().address_space_at(self.user_space?)
    }

    pub(crate) fn radix(&self) -> u32 {
        self.radix
    }

    pub(crate) fn set_radix(&mut self, radix: u32) {
        self.radix = radix;
    }

    /// What the last expression came to.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// `$t0` to `$t19`; `None` if there is none of this name.
    pub(crate) fn temporary(&self, name: &str) -> Option<u64> {
        self.temporaries.get(temporary(name)?).copied()
    }

    pub(crate) fn set_last(&mut self, value: u64) {
        self.last = value;
    }

    /// Sets `$t0` to `$t19`; false if there is none of this name.
    pub(crate) fn set_temporary(&mut self, name: &str, value: u64) -> bool {
        let slot = temporary(name).and_then(|number| self.temporaries.get_mut(number));
        slot.map(|slot| *slot = value).is_some()
    }

    /// Where `d` goes on without an address.
    pub(crate) fn next_data(&self) -> Option<VirtAddr> {
        self.next_data.or_else(|| Some(self.scope.as_ref()?.registers.instruction()))
    }

    pub(crate) fn set_next_data(&mut self, at: VirtAddr) {
        self.next_data = Some(at);
    }

    /// Where `u` goes on without an address.
    pub(crate) fn next_code(&self) -> Option<VirtAddr> {
        self.next_code.or_else(|| Some(self.scope.as_ref()?.registers.instruction()))
    }

    pub(crate) fn set_next_code(&mut self, at: Option<VirtAddr>) {
        self.next_code = at;
    }

    /// The value of `size` bytes at an address, as the selected process sees it; else why there is none.
    pub(crate) fn value_at(&self, at: VirtAddr, size: usize) -> Result<u64, String> {
        let memory = self.memory(&self.machine);
        let value = match size {
            1 => memory.read_u8(at).map(u64::from),
            2 => memory.read_u16(at).map(u64::from),
            4 => memory.read_u32(at).map(u64::from),
            _ => memory.read_u64(at),
        };
        value.map_err(|miss| format!("{} is {}", at.windbg(), miss.reason))
    }

    /// `nt!KeBugCheckEx+0x3`, `iaStor+0x253f5`; `None` outside all modules.
    pub fn name(&self, address: VirtAddr) -> Option<String> {
        crate::show::site(&self.machine.place(address))
    }

    /// The same of what an instruction or a pointer refers to: a place in data is named by the variable before it, which
    /// is not called in question.
    pub fn reference(&self, address: VirtAddr) -> Option<String> {
        self.machine.place(address).label()
    }

    /// Modules of this name, wild cards allowed.
    pub fn modules<'m>(&self, machine: &'m Machine, pattern: &str) -> Vec<&'m Module> {
        symbols::modules(machine, pattern).collect()
    }
}

/// Where a session begins: at the call of KeBugCheckEx.
fn home(machine: &Machine) -> Option<Scope> {
    let crashed = machine.processors().iter().find(|processor| processor.crashed);
    let processor = crashed.map(|processor| processor.number);
    let thread = machine.thread().address.get();
    let at_stop = machine.bug_check_registers();
    let scope = if let Some(registers) = at_stop {
        Scope::new(registers, "the context at the bug check")
    } else {
        let context = machine.context().value()?;
        Scope::new(context.registers, context.origin.clone()).knowing(context.known)
    };
    Some(scope.of(thread, processor))
}

fn temporary(name: &str) -> Option<usize> {
    name.strip_prefix("$t")?.parse().ok().filter(|number| *number < TEMPORARIES)
}
