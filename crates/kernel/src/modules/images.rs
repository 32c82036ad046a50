//! The images of loaded modules, as unwinding needs them: what memory holds of them, and behind it their files.
//!
//! A file is taken where its time stamp and size are the module's. Memory comes first: it is what ran.

use crate::modules::code::{names_for, names_of};
use crate::modules::module::Module;
use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;
use stopcode_base::{Memory, MissReason, VirtAddr, file_name};
use stopcode_image::{CodeView, Headers, Image};
use stopcode_symbols::{StackFrames, SymbolSource};
use stopcode_unwind::{FrameData, ImageView, Images, X64Rules};

/// Files of images, read when first asked for: one per module, none where none fits.
pub(crate) struct ImageFiles {
    symbols: SymbolSource,
    files: Vec<OnceCell<Option<ImageFile>>>,
}

impl ImageFiles {
    pub(crate) fn new(modules: &[Module], symbols: &SymbolSource) -> Self {
        let files = modules.iter().map(|_| OnceCell::new()).collect();
        Self { symbols: symbols.clone(), files }
    }

    fn get(&self, index: usize, module: &Module) -> Option<&ImageFile> {
        let find = || {
            let (_, bytes) = self.find(module)?;
            ImageFile::new(bytes)
        };
        self.files.get(index)?.get_or_init(find).as_ref()
    }

    /// The file of a module's image, and where it lies. Where file systems tell case, it may be spelled as the path is.
    pub(crate) fn find(&self, module: &Module) -> Option<(PathBuf, Vec<u8>)> {
        let size = u32::try_from(module.size).ok()?;
        let stamp = module.time_date_stamp.filter(|_| self.symbols.has_paths())?;
        let mut names = names_for(&module.image);
        let spelled = file_name(&module.path);
        if !spelled.is_empty() && !names.contains(&spelled) {
            names.push(spelled);
        }
        names.into_iter().find_map(|name| self.symbols.find_image(name, stamp, size))
    }
}

/// An image's file, read as a loader would lay it out.
struct ImageFile {
    bytes: Vec<u8>,
    headers: Headers,
    function_table: Option<(u32, u32)>,
}

impl ImageFile {
    fn new(bytes: Vec<u8>) -> Option<Self> {
        let image = Image::of_file(&bytes).ok()?;
        let function_table = image.function_table();
        let headers = image.headers().clone();
        Some(Self { bytes, headers, function_table })
    }

    /// Bytes from an RVA on, as [`Memory::read_some`] gives them.
    fn read_some(&self, rva: u32, buffer: &mut [u8]) -> Option<usize> {
        let headers = &self.headers;
        let section = headers.sections.iter().find(|section| section.contains(rva));
        let (at, stored, mapped) = if let Some(section) = section {
            let offset = rva - section.rva;
            let stored = section.file_size.min(section.virtual_size.max(1));
            let mapped = section.virtual_size.saturating_sub(offset);
            (section.file_offset.checked_add(offset)?, stored.saturating_sub(offset), mapped)
        } else {
            let left = headers.size_of_headers.checked_sub(rva)?;
            (rva, left, left)
        };
        if stored == 0 {
            // What a section has beyond its bytes in the file is zero.
            let count = buffer.len().min(mapped as usize);
            buffer.get_mut(..count)?.fill(0);
            return (count > 0).then_some(count);
        }
        let rest = self.bytes.get(at as usize..)?;
        let count = buffer.len().min(stored as usize).min(rest.len());
        buffer.get_mut(..count)?.copy_from_slice(rest.get(..count)?);
        (count > 0).then_some(count)
    }
}

/// The images of one machine, for one walk or several.
pub(crate) struct LoadedImages<'a> {
    modules: &'a [Module],
    memory: &'a dyn Memory,
    files: &'a ImageFiles,
    found: Vec<OnceCell<Option<Loaded<'a>>>>,
    /// What PDBs tell of the stacks of x86 functions.
    frames: Vec<OnceCell<Option<Arc<StackFrames>>>>,
    /// Indices of modules, by base.
    by_base: Vec<usize>,
    rules: X64Rules,
}

impl<'a> LoadedImages<'a> {
    pub(crate) fn new(modules: &'a [Module], memory: &'a dyn Memory, files: &'a ImageFiles) -> Self {
        let mut by_base: Vec<usize> = (0..modules.len()).collect();
        by_base.sort_by_key(|index| modules.get(*index).map(|module| module.base));
        let found = modules.iter().map(|_| OnceCell::new()).collect();
        let frames = modules.iter().map(|_| OnceCell::new()).collect();
        Self { modules, memory, files, found, frames, by_base, rules: X64Rules::new() }
    }

    /// An image whose headers are in memory as the loader recorded them, or whose file is at hand. What of it is in
    /// neither is missing when it is read.
    fn load(&self, index: usize, module: &Module) -> Option<Loaded<'a>> {
        let own =
            Image::mapped(self.memory, module.base).ok().filter(|image| is_modules(image.headers(), module));
        let file = self.files.get(index, module);
        if own.is_none() && file.is_none() {
            return None;
        }
        let function_table = own.and_then(|image| image.function_table()).or_else(|| file?.function_table);
        Some(Loaded { memory: self.memory, base: module.base, size: module.size, file, function_table })
    }

    /// The module that an address lies in, and its place among them.
    fn module_at(&self, address: VirtAddr) -> Option<(usize, &'a Module)> {
        let module = |index: &usize| self.modules.get(*index);
        let after = self.by_base.partition_point(|index| module(index).is_some_and(|m| m.base <= address));
        let index = *self.by_base.get(after.checked_sub(1)?)?;
        Some((index, self.modules.get(index).filter(|module| module.contains(address))?))
    }

    fn loaded(&self, address: VirtAddr) -> Option<&Loaded<'a>> {
        let (index, module) = self.module_at(address)?;
        self.found.get(index)?.get_or_init(|| self.load(index, module)).as_ref()
    }

    fn stack_frames(&self, index: usize, module: &Module) -> Option<&StackFrames> {
        let find = || {
            let symbols = Some(&self.files.symbols).filter(|symbols| symbols.has_paths())?;
            let codeview = codeview(self.memory, module);
            Some(names_of(symbols, &module.image, module.time_date_stamp, module.size, codeview)?.frames)
        };
        self.frames.get(index)?.get_or_init(find).as_deref()
    }
}

/// The PDB that a module's image names in memory, as far as memory holds it.
pub(crate) fn codeview(memory: &dyn Memory, module: &Module) -> Option<CodeView> {
    let image = Image::mapped(memory, module.base).ok()?;
    image.codeview().filter(|_| is_modules(image.headers(), module))
}

/// A damaged header, or what was loaded in its place, says something else than the loader recorded.
fn is_modules(headers: &Headers, module: &Module) -> bool {
    u64::from(headers.size_of_image) == module.size
        && module.time_date_stamp.is_none_or(|stamp| stamp == headers.time_date_stamp)
}

impl Images for LoadedImages<'_> {
    fn image_at(&self, address: VirtAddr) -> Option<ImageView<'_>> {
        let loaded = self.loaded(address)?;
        // Without a function table there is nothing to unwind by.
        Some(ImageView { base: loaded.base, pdata: loaded.function_table?, memory: loaded })
    }

    fn frame_data(&self, address: VirtAddr) -> Option<FrameData<'_>> {
        let (index, module) = self.module_at(address)?;
        let rva = u32::try_from(address.offset_from(module.base)?).ok()?;
        let frame = self.stack_frames(index, module)?.at(rva)?;
        Some(FrameData {
            start: module.base.plus(frame.start.into()),
            locals: frame.locals,
            parameters: frame.parameters,
            saved: frame.saved,
            prolog: frame.prolog,
            is_function: frame.is_function,
            keeps_ebp: frame.keeps_ebp,
            program: frame.program,
        })
    }

    fn rules(&self) -> Option<&X64Rules> {
        Some(&self.rules)
    }
}

/// Memory, and behind it the files of the images that are loaded there: what code could be read from. A file tells what was
/// linked; memory, where it is there, what ran.
pub struct CodeMemory<'a>(LoadedImages<'a>);

impl<'a> CodeMemory<'a> {
    pub(crate) fn new(images: LoadedImages<'a>) -> Self {
        Self(images)
    }
}

impl Memory for CodeMemory<'_> {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        self.0.read_some(at, buffer)
    }
}

impl Memory for LoadedImages<'_> {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        let here = self.memory.read_some(at, buffer);
        let Err(reason) = here else { return here };
        self.loaded(at).ok_or(reason)?.read_some(at, buffer)
    }
}

/// One image: memory, and its file for what memory does not hold.
struct Loaded<'a> {
    memory: &'a dyn Memory,
    base: VirtAddr,
    size: u64,
    file: Option<&'a ImageFile>,
    function_table: Option<(u32, u32)>,
}

impl Memory for Loaded<'_> {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        let here = self.memory.read_some(at, buffer);
        let Err(reason) = here else { return here };
        let rva = at.offset_from(self.base).filter(|rva| *rva < self.size);
        let mut from_file = || self.file?.read_some(u32::try_from(rva?).ok()?, buffer);
        from_file().ok_or(reason)
    }
}
