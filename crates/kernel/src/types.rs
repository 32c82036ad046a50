//! The types of a module: out of the file its names came from, else, for the kernel, the built-in layouts.

use crate::core::Core;
use crate::module::Module;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use stopcode_symbols::{BuiltinTypes, IsfTypes, PdbTypes, Types, unpack_xz};

/// A larger file is not read.
const LARGEST: u64 = 1 << 30;

/// A module's types, or why there are none.
pub(crate) fn types(core: &Core, module: &Module) -> Result<Rc<dyn Types>, String> {
    let kernel = module.base == core.build.kernel_base;
    let file =
        if kernel { core.build.names.as_ref().map(PathBuf::from) } else { core.code.symbol_file(module) };
    let none = || format!("no PDB that is provably that of {} was given", module.display);
    let from_file = file.ok_or_else(none).and_then(|path| read(&path));
    let layout = || core.layout().map(|layout| Rc::new(BuiltinTypes::new(layout)) as Rc<dyn Types>);
    match from_file {
        Err(_) if kernel => layout().map_err(ToString::to_string),
        other => other,
    }
}

fn read(path: &Path) -> Result<Rc<dyn Types>, String> {
    let place = path.display();
    let told = |error: &dyn std::fmt::Display| format!("{place}: {error}");
    let size = std::fs::metadata(path).map_err(|error| told(&error))?.len();
    if size > LARGEST {
        return Err(told(&"too large"));
    }
    let bytes = std::fs::read(path).map_err(|error| told(&error))?;
    if bytes.starts_with(b"Microsoft C/C++ MSF") {
        return Ok(Rc::new(PdbTypes::parse(&bytes).map_err(|error| told(&error))?));
    }
    let bytes = if bytes.starts_with(b"\xfd7zXZ\0") {
        unpack_xz(&bytes, LARGEST).map_err(|error| told(&error))?.0
    } else {
        bytes
    };
    Ok(Rc::new(IsfTypes::parse(&bytes).map_err(|error| told(&error))?))
}
