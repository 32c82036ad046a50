//! Source lines of code, out of the PDBs that names came from.

use crate::core::Core;
use crate::modules::module::Module;
use std::cell::RefCell;
use std::fs::File;
use std::rc::Rc;
use stopcode_base::VirtAddr;
use stopcode_symbols::{PdbFile, SourceLine};

/// A module's PDB, where one is at hand.
type Opened = Option<Rc<PdbFile<File>>>;

/// PDBs by their modules' bases, each opened when a line of its module is first asked for; what is asked of them they read themselves.
#[derive(Default)]
pub(crate) struct Lines(RefCell<Vec<(VirtAddr, Opened)>>);

impl Lines {
    /// The line that the code at an address was written in; `None` where no PDB tells.
    pub(crate) fn at(&self, core: &Core, address: VirtAddr) -> Option<SourceLine> {
        let module = core.modules.iter().find(|module| module.contains(address))?;
        let rva = u32::try_from(address.offset_from(module.base)?).ok()?;
        self.of(core, module)?.line(rva)
    }

    fn of(&self, core: &Core, module: &Module) -> Opened {
        let mut known = self.0.borrow_mut();
        if let Some((_, found)) = known.iter().find(|(base, _)| *base == module.base) {
            return found.clone();
        }
        let path = core.code.symbol_file(module);
        let found = path.and_then(|path| PdbFile::open(File::open(path).ok()?).ok()).map(Rc::new);
        known.push((module.base, found.clone()));
        found
    }
}
