//! The types of a module: out of the file its names came from, else, for the kernel, the built-in layouts.

use crate::core::Core;
use crate::modules::module::Module;
use crate::reading::own_types::{OwnTypes, read};
use std::rc::Rc;
use stopcode_symbols::{BuiltinTypes, Types};

/// A module's types, or why there are none.
pub(crate) fn types(core: &Core, module: &Module) -> Result<Rc<dyn Types>, String> {
    let kernel = module.base == core.build.kernel_base;
    let none = || format!("no PDB that is provably that of {} was given", module.display);
    // A PDB that was stripped has names and no types.
    let has_types = |types: &Rc<dyn Types>| types.find("_KPRCB").is_some();
    let from_file = if kernel {
        core.own_types().map(OwnTypes::types).filter(has_types).ok_or_else(none)
    } else {
        core.code.symbol_file(module).ok_or_else(none).and_then(|path| read(&path))
    };
    let layout = || core.layout().map(|layout| Rc::new(BuiltinTypes::new(layout)) as Rc<dyn Types>);
    match from_file {
        Err(_) if kernel => layout().map_err(ToString::to_string),
        other => other,
    }
}
