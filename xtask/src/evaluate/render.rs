//! A case as the text that somebody would have pasted.

use super::cases::{Case, CaseFrame};
use stopcode_knowledge as knowledge;

/// How the stack is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layout {
    /// `STACK_TEXT` of `!analyze -v`.
    Analyze,
    /// `k`.
    K,
    /// `kn`.
    Kn,
    /// `kv`.
    Kv,
}

/// What a forum or a mail program did to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Damage {
    /// Nothing.
    None,
    /// Quoted as in a reply.
    Quoted,
    /// Every run of blanks is one tab.
    Tabs,
}

/// What is left of the case's facts: for the ablation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    /// All of them.
    All,
    /// All but the stack and what else names the code.
    NoStack,
    /// All but the module list.
    NoModules,
    /// The code and its arguments.
    Arguments,
}

impl Kept {
    const fn stack(self) -> bool {
        matches!(self, Self::All | Self::NoModules)
    }

    const fn modules(self) -> bool {
        matches!(self, Self::All | Self::NoStack)
    }

    const fn rest(self) -> bool {
        !matches!(self, Self::Arguments)
    }
}

/// The layouts and kinds of damage that every case is shown in.
pub(super) const SHAPES: [(Layout, Damage); 6] = [
    (Layout::Analyze, Damage::None),
    (Layout::Analyze, Damage::Quoted),
    (Layout::K, Damage::None),
    (Layout::Kn, Damage::Tabs),
    (Layout::Kv, Damage::None),
    (Layout::Kv, Damage::Quoted),
];

/// The text.
pub(super) fn render(case: &Case, layout: Layout, damage: Damage, kept: Kept) -> String {
    let mut out = Vec::new();
    let narrow = case.arch.as_deref() == Some("x86");
    head(case, narrow, &mut out);
    if kept.rest() {
        fields(case, kept, &mut out);
    }
    if kept.stack() {
        stack(case, layout, narrow, &mut out);
    }
    if kept.rest() {
        further(case, kept, &mut out);
    }
    if kept.modules() {
        modules(case, narrow, &mut out);
    }
    let text = out.join("\n") + "\n";
    match damage {
        Damage::None => text,
        Damage::Quoted => text.lines().flat_map(|line| ["> ", line, "\n"]).collect(),
        Damage::Tabs => text.replace("  ", "\t"),
    }
}

fn number(text: &str) -> u64 {
    let digits = text.replace('`', "");
    u64::from_str_radix(digits.trim_start_matches("0x"), 16).unwrap_or(0)
}

fn plain(text: &str, narrow: bool) -> String {
    let value = number(text);
    if narrow { format!("{:08x}", value & 0xffff_ffff) } else { format!("{value:016x}") }
}

fn address(text: &str, narrow: bool) -> String {
    if narrow { plain(text, true) } else { stopcode_base::VirtAddr(number(text)).windbg() }
}

fn head(case: &Case, narrow: bool, out: &mut Vec<String>) {
    if let Some(build) = &case.windows_build {
        out.push(format!("Windows Kernel Version {build} Free {}", case.arch.as_deref().unwrap_or("x64")));
    }
    let code = number(&case.bugcheck_code) as u32;
    let base = knowledge::base_code(code);
    let name = knowledge::bug_check(base.base).map(|known| known.name);
    let name = name.unwrap_or_else(|| "Unknown bugcheck code".to_owned());
    let suffix = if base.minidump_bit { "_M" } else { "" };
    out.extend([format!("{name}{suffix} ({code:x})"), "Arguments:".to_owned()]);
    for (argument, index) in case.bugcheck_args.iter().zip(1..) {
        if let Some(argument) = argument {
            out.push(format!("Arg{index}: {}", plain(argument, narrow)));
        }
    }
    out.extend(["", "Debugging Details:", "------------------", ""].map(str::to_owned));
}

fn fields(case: &Case, kept: Kept, out: &mut Vec<String>) {
    if let Some(uptime) = &case.uptime {
        out.push(format!("System Uptime: {uptime}"));
    }
    if let Some(code) = &case.exception_code {
        out.push(format!("EXCEPTION_CODE: (NTSTATUS) {code}"));
    }
    if let Some(symbol) = case.faulting_ip_symbol.as_ref().filter(|_| kept.stack()) {
        out.extend(["FAULTING_IP: ".to_owned(), symbol.clone(), String::new()]);
    }
    if let Some(tag) = case.extra("freed_pool_tag") {
        out.push(format!("FREED_POOL_TAG:  {tag}"));
    }
    if let Some(process) = &case.process_name {
        out.push(format!("PROCESS_NAME:  {process}"));
    }
    if let Some(irql) = &case.current_irql {
        out.push(format!("CURRENT_IRQL:  {irql}"));
    }
    if let Some(registers) = case.trap_frame_registers.as_ref().filter(|_| kept.stack()) {
        out.push("TRAP_FRAME:".to_owned());
        let shown: Vec<String> = registers
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
            .collect();
        out.extend(shown.chunks(3).map(|chunk| chunk.join(" ")));
    }
    out.push(String::new());
}

fn stack(case: &Case, layout: Layout, narrow: bool, out: &mut Vec<String>) {
    let frames = case.stack.as_deref().unwrap_or_default();
    if frames.is_empty() {
        return;
    }
    out.push(
        match layout {
            Layout::Analyze => "STACK_TEXT:  ",
            Layout::K => "Child-SP          RetAddr           Call Site",
            Layout::Kn => " # Child-SP          RetAddr           Call Site",
            Layout::Kv => "Child-SP          RetAddr           : Args to Child                                                           : Call Site",
        }
        .to_owned(),
    );
    for (frame, index) in frames.iter().zip(0..) {
        out.push(line(frame, index, layout, narrow));
    }
    out.push(String::new());
}

fn line(frame: &CaseFrame, index: usize, layout: Layout, narrow: bool) -> String {
    let symbol = &frame.symbol;
    if frame.inline {
        return format!("(Inline Function) --------`-------- : {symbol}");
    }
    let or_blank = |value: &Option<String>| {
        value
            .as_deref()
            .map_or_else(|| " ".repeat(if narrow { 8 } else { 17 }), |value| address(value, narrow))
    };
    let (pointer, back) = (or_blank(&frame.child_sp), or_blank(&frame.ret_addr));
    let arguments: Vec<String> = frame.args.iter().flatten().map(|value| address(value, narrow)).collect();
    match layout {
        Layout::K => format!("{pointer} {back} {symbol}"),
        Layout::Kn => format!("{index:02x} {pointer} {back} {symbol}"),
        _ if arguments.is_empty() => format!("{pointer} {back} : {symbol}"),
        _ => format!("{pointer} {back} : {} : {symbol}", arguments.join(" ")),
    }
}

fn further(case: &Case, kept: Kept, out: &mut Vec<String>) {
    if let Some(status) = case.extra("mci_status") {
        out.extend([
            case.extra("errrec").unwrap_or_default(),
            format!("  Status        : 0x{status}"),
            String::new(),
        ]);
    }
    if let Some(limits) = case.extra("stack_limits").filter(|_| kept.stack()) {
        out.extend(["kd> !thread".to_owned(), limits.replace("Base", "Stack Base"), String::new()]);
    }
}

fn modules(case: &Case, narrow: bool, out: &mut Vec<String>) {
    let modules = case.modules.as_deref().unwrap_or_default();
    if modules.len() < 5 {
        return; // a list of two names the culprit by itself
    }
    out.extend(["kd> lmt", "start             end                 module name"].map(str::to_owned));
    for module in modules {
        let shown = |value: &Option<String>| {
            value.as_deref().map_or_else(|| " ".repeat(17), |value| address(value, narrow))
        };
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let line = format!(
            "{} {}   {}   {}   {}",
            shown(&module.start),
            shown(&module.end),
            text(&module.name),
            text(&module.image_path),
            text(&module.timestamp_iso),
        );
        out.push(line.trim_end().to_owned());
    }
}
