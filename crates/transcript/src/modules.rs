//! Module lists: `lm`, `lmt`, `lmvm`, the list of unloaded modules, and what messages on symbols tell of images.

use crate::draft::{Draft, RawModule};
use crate::names::Names;
use crate::reader::{Mode, Reader};
use crate::scan::{Column, after, column, contains_ci, date, number, prompt, strip_prefix_ci};
use crate::site::is_user;
use stopcode_base::{Fact, FileTime, VirtAddr, file_name};
use stopcode_kernel::{Module, System, UnloadedModule};

/// More unloaded modules than a kernel keeps (50) are a repetition.
const MOST_UNLOADED: usize = 1024;

/// Reads a line of a module list; 0 if line `at` is none.
pub(crate) fn read(reader: &mut Reader<'_>, at: usize) -> usize {
    let line = reader.lines.trimmed(at);
    if symbol_message(reader, line) {
        return 1;
    }
    if is_heading(line) {
        reader.mode = Mode::Modules;
        return 1;
    }
    if strip_prefix_ci(line, "Unloaded modules:").is_some() {
        reader.mode = Mode::Unloaded;
        reader.module = None;
        return 1;
    }
    if reader.mode == Mode::Unloaded {
        return unloaded(reader, line);
    }
    let taken = entry(reader, at, line);
    if taken == 0 && detail(reader, line) { 1 } else { taken }
}

/// `start             end                 module name`
fn is_heading(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next() == Some("start") && words.next() == Some("end") && words.next() == Some("module")
}

fn unloaded(reader: &mut Reader<'_>, line: &str) -> usize {
    let mut words = line.split_whitespace();
    let (Some(start), Some(end)) = (words.next().and_then(column), words.next().and_then(column)) else {
        // Details of the module before: `Timestamp: unavailable (00000000)`.
        let is_detail = ["Timestamp:", "Checksum:", "ImageSize:"]
            .iter()
            .any(|label| strip_prefix_ci(line, label).is_some());
        return usize::from(is_detail);
    };
    let name = words.next().unwrap_or_default();
    if !name.is_empty() && start.value < end.value && reader.draft.unloaded.len() < MOST_UNLOADED {
        let module =
            UnloadedModule { name: name.to_owned(), start: VirtAddr(start.value), end: VirtAddr(end.value) };
        reader.draft.unloaded.push(module);
    }
    1
}

/// `fffff880`0181f000 fffff880`01bc3000   iaStor   (no symbols)   …`
fn entry(reader: &mut Reader<'_>, at: usize, line: &str) -> usize {
    let listed = reader.mode == Mode::Modules;
    let mut rest = line;
    let mut columns: Vec<Column> = Vec::new();
    while let Some((token, behind)) = rest.split_once(char::is_whitespace) {
        let Some(found) = column(token).filter(|_| columns.len() < 2) else { break };
        columns.push(found);
        rest = behind.trim_start();
    }
    let mut words = rest.split_whitespace();
    let (Some(name), marker) = (words.next(), words.next().unwrap_or_default()) else { return 0 };
    let marked = marker.starts_with('(') || matches!(marker, "#" | "T" | "M" | "C");
    let (start, end) = match *columns.as_slice() {
        [start, end] if start.value < end.value && (listed || marked) => (start, Some(end)),
        [start] if listed => (start, None),
        _ => return 0,
    };
    if !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '?' | '$' | '+'))
        || name.contains("+0x")
    {
        return 0;
    }
    let details = rest.get(name.len()..).unwrap_or_default();
    let wrapped = continuation(reader, at + 1);
    let joined = wrapped.as_ref().map(|more| format!("{details} {more}"));
    let mut module = describe(joined.as_deref().unwrap_or(details));
    name.clone_into(&mut module.display);
    module.start = Some(start.value);
    module.end = end.map(|end| end.value);
    if let Some(image) = module.image.clone() {
        reader.draft.image_name(&image);
    }
    reader.draft.width(start.wide);
    reader.module = Some(reader.draft.module(module));
    1 + usize::from(wrapped.is_some())
}

/// The next line, if it is the wrapped rest of a line of `lmt`: a path or a date and nothing else.
fn continuation(reader: &Reader<'_>, at: usize) -> Option<String> {
    let line = reader.lines.trimmed(at);
    let first = line.split_whitespace().next()?;
    let whole = prompt(line).is_none() && column(first).is_none() && !line.contains(": ");
    let is_rest = first.contains('\\') || date(line).is_some_and(|_| line.split_whitespace().count() <= 7);
    (whole && is_rest).then(|| line.to_owned())
}

/// Image, path, date and stamp from the right-hand side of a line of `lm`.
fn describe(details: &str) -> RawModule {
    const KINDS: [&str; 6] = [".sys", ".exe", ".dll", ".drv", ".efi", ".mui"];
    let mut module = RawModule { exports_only: details.contains("(export symbols)"), ..RawModule::default() };
    // `(pdb symbols)  c:\symbols\iaStor.pdb` is where symbols lie, not the image.
    let image = details.split_whitespace().find(|word| {
        let lower = word.to_ascii_lowercase();
        KINDS.iter().any(|kind| lower.ends_with(kind))
    });
    if let Some(image) = image {
        module.image = Some(file_name(image).to_owned());
        module.path = image.contains('\\').then(|| image.to_owned());
    }
    stamp(details, &mut module);
    module
}

/// The date and the stamp in `Wed Feb 01 19:15:24 2012 (4F299E0C)`.
fn stamp(text: &str, module: &mut RawModule) {
    module.hashed = text.contains("reproducible");
    module.date = date(text).map(|(date, _)| date).filter(|_| !module.hashed);
    let bracketed =
        text.split(['(', ')']).map(str::trim).find(|part| part.len() == 8 && number(part).is_some());
    let leading = text.split_whitespace().next().filter(|word| word.len() == 8 && module.date.is_none());
    let digits = bracketed.or(leading);
    module.stamp = digits.and_then(number).and_then(|stamp| u32::try_from(stamp).ok());
}

/// A detail of `lmv` (`Image path: …`) of the module before; any `Name: value` below a module is one.
fn detail(reader: &mut Reader<'_>, line: &str) -> bool {
    let Some(index) = reader.module else { return false };
    let mut more = RawModule::default();
    if let Some(image) = after(line, "Loaded symbol image file").or_else(|| after(line, "Image name")) {
        let image = file_name(image);
        reader.draft.image_name(image);
        more.image = Some(image.to_owned()).filter(|image| image.contains('.'));
    } else if let Some(path) = after(line, "Image path") {
        more.path = Some(path.to_owned());
    } else if let Some(text) = after(line, "Timestamp") {
        stamp(text, &mut more);
    } else if let Some(text) = after(line, "CheckSum") {
        more.checksum = number(text).and_then(|sum| u32::try_from(sum).ok());
    } else if let Some(text) = after(line, "ImageSize") {
        more.size = number(text);
    } else if let Some(version) = after(line, "File version") {
        more.version = Some(version.to_owned());
    } else {
        const OTHERS: [&str; 20] = [
            "Product version",
            "File flags",
            "File OS",
            "File type",
            "File date",
            "Translations",
            "CompanyName",
            "ProductName",
            "InternalName",
            "OriginalFilename",
            "ProductVersion",
            "FileVersion",
            "FileDescription",
            "LegalCopyright",
            "LegalTrademarks",
            "Comments",
            "Mapped memory image file",
            "Information from resource tables",
            "Symbol file",
            "PrivateBuild",
        ];
        let plain =
            line.starts_with("Browse all") || line.starts_with("Image was built") || line.starts_with("Has ");
        return plain || OTHERS.iter().any(|label| after(line, label).is_some());
    }
    if let Some(module) = reader.draft.modules.get_mut(index) {
        module.complete(more);
    }
    true
}

/// A message on symbols or images: it names an image whatever else it says. True if `line` is one.
pub(crate) fn symbol_message(reader: &mut Reader<'_>, line: &str) -> bool {
    const WORDS: [&str; 4] = [
        "symbols could not be loaded for ",
        "Unable to verify timestamp for ",
        "Unable to verify checksum for ",
        "export symbols for ",
    ];
    if let Some(rest) = strip_prefix_ci(line, "Unable to load image ") {
        if let Some(path) = rest.split(',').next() {
            reader.draft.image_name(path);
        }
        return true;
    }
    // WinDbg's line, and that of a program that many ask instead.
    if strip_prefix_ci(line, "Probably caused by").is_some()
        || contains_ci(line, "probably caused by the following module:")
    {
        let culprit =
            line.split_once(':').map_or("", |(_, rest)| rest).split_whitespace().next().unwrap_or_default();
        if !culprit.is_empty() {
            reader.draft.image_name(culprit);
            reader.draft.blamed_image.get_or_insert_with(|| culprit.to_owned());
        }
        return true;
    }
    if !line.starts_with("***") {
        return false;
    }
    for (index, word) in WORDS.iter().enumerate() {
        let Some((_, rest)) = line.split_once(word) else { continue };
        let image = rest.split_whitespace().next().unwrap_or_default();
        reader.draft.image_name(image);
        if index == 3 {
            let display = stopcode_kernel::display_name(image);
            reader.draft.exports_only.insert(display.to_ascii_lowercase());
        }
    }
    true
}

/// Modules as the kernel's plain data, with the image that the debugger blames added where its stamp is told.
pub(crate) fn settle(draft: &Draft, names: &Names<'_>, system: &System) -> Vec<Module> {
    let mut all = draft.modules.clone();
    let blamed = draft.blamed_image.as_deref().filter(|image| image.contains('.'));
    if let Some(image) = blamed.filter(|_| draft.blamed_stamp.is_some() || draft.blamed_version.is_some()) {
        let more = RawModule {
            display: stopcode_kernel::display_name(image),
            image: Some(image.to_owned()),
            stamp: draft.blamed_stamp,
            version: draft.blamed_version.clone(),
            ..RawModule::default()
        };
        let known =
            draft.module_index.get(&more.display.to_ascii_lowercase()).and_then(|index| all.get_mut(*index));
        match known {
            Some(module) => module.complete(more),
            None => all.push(more),
        }
    }
    all.into_iter().map(|module| finished(module, names, system)).collect()
}

fn finished(raw: RawModule, names: &Names<'_>, system: &System) -> Module {
    let user_mode = raw.start.is_some_and(is_user);
    let told =
        raw.image.as_deref().or(raw.path.as_deref()).map(|image| file_name(image).to_ascii_lowercase());
    let image = match raw.display.as_str() {
        "nt" => Some("ntoskrnl.exe".to_owned()),
        _ => told.filter(|image| image.contains('.')).or_else(|| names.image(&raw.display, user_mode)),
    };
    let image = image.unwrap_or_else(|| raw.display.to_ascii_lowercase());
    let inbox = stopcode_knowledge::driver(&image).is_some_and(|driver| driver.inbox);
    let size = raw.start.zip(raw.end).map(|(start, end)| end.wrapping_sub(start)).or(raw.size).unwrap_or(0);
    Module {
        link_date: linked(&raw, inbox, system),
        image,
        display: raw.display,
        path: raw.path.unwrap_or_default(),
        base: VirtAddr(raw.start.unwrap_or(0)),
        size,
        time_date_stamp: raw.stamp,
        checksum: raw.checksum,
        version: raw.version,
    }
}

/// When the image was linked: by its stamp, else by the printed date, which the debugger shows in its own time zone.
fn linked(raw: &RawModule, inbox: bool, system: &System) -> Fact<FileTime> {
    if raw.hashed {
        return Fact::missing("the debugger says that the stamp is a hash of the image, not a date");
    }
    let crash = system.crash_time.get();
    if raw.stamp.is_some() {
        return stopcode_kernel::link_date(raw.stamp, inbox, system.build, crash);
    }
    let Some(date) = raw.date else {
        return Fact::missing("the text shows no time stamp of this module");
    };
    let stamp = u32::try_from(date.unix_seconds()).ok();
    match stopcode_kernel::link_date(stamp, inbox, system.build, crash) {
        Fact::Known { .. } => Fact::known(date, "date printed by lm, in the debugger's time zone"),
        missing @ Fact::Missing { .. } => missing,
    }
}
