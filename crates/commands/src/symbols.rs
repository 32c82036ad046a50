//! Symbols by name, over all modules.

use stopcode_base::{VirtAddr, fits};
use stopcode_kernel::{Machine, Module};
use stopcode_symbols::demangle;

/// Modules of this name: as WinDbg calls them, or by their file's name; wild cards allowed.
pub(crate) fn modules<'m>(machine: &'m Machine, name: &str) -> impl Iterator<Item = &'m Module> {
    machine.modules().iter().filter(move |module| fits(name, &module.display) || fits(name, &module.image))
}

/// Why a module has no names.
pub(crate) fn no_symbols(module: &Module) -> String {
    format!("no symbols that are provably those of {} were given (--symbols)", module.display)
}

/// The address of `module!name`, of a name in any module, or of a module's base. `None` if there is surely none; an error if the
/// symbols at hand do not tell.
pub(crate) fn resolve(machine: &Machine, name: &str) -> Option<Result<VirtAddr, String>> {
    if let Some((module, symbol)) = name.split_once('!') {
        let mut reason = None;
        for module in modules(machine, module) {
            match in_module(machine, module, symbol) {
                Some(Ok(address)) => return Some(Ok(address)),
                Some(Err(why)) => reason = Some(why),
                None => {}
            }
        }
        return reason.map(Err);
    }
    if let Some(module) = modules(machine, name).find(|_| !name.contains(['*', '?'])) {
        return Some(Ok(module.base));
    }
    let mut reason = None;
    for module in machine.modules() {
        match in_module(machine, module, name) {
            Some(Ok(address)) => return Some(Ok(address)),
            Some(Err(why)) => _ = reason.get_or_insert(why),
            None => {}
        }
    }
    reason.map(Err)
}

fn in_module(machine: &Machine, module: &Module, symbol: &str) -> Option<Result<VirtAddr, String>> {
    let Some(table) = machine.symbols(module) else {
        // The debugger data tells of some of the kernel's globals without symbols.
        if module.base == machine.build().kernel_base
            && let Some(kdbg) = machine.dump().kdbg()
            && let Some(address) = kdbg.get(symbol).filter(|address| *address >= module.base.0)
        {
            return Some(Ok(VirtAddr(address)));
        }
        return Some(Err(no_symbols(module)));
    };
    let exact = table.address_of(symbol);
    let rva = exact.or_else(|| {
        let same = |name: &str| name.eq_ignore_ascii_case(symbol) || demangle(name) == symbol;
        table.iter().find(|found| same(found.name)).map(|found| found.rva)
    })?;
    Some(Ok(module.base.plus(rva.into())))
}
