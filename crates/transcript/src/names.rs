//! WinDbg's module names → image file names.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use stopcode_kernel::Place;
use stopcode_knowledge as knowledge;

use crate::site::Site;

/// Windows' own kernel-mode and common user-mode images that do not end in `.sys`.
const LIBRARIES: [&str; 23] = [
    "bootvid",
    "cdd",
    "ci",
    "clfsw32",
    "framebuf",
    "hal",
    "hvloader",
    "kd",
    "kdcom",
    "kdnet",
    "kernel32",
    "kernelbase",
    "mcupdate_authenticamd",
    "mcupdate_genuineintel",
    "msvcrt",
    "ntdll",
    "pshed",
    "rdpdd",
    "symcryptk",
    "tsddd",
    "ucrtbase",
    "user32",
    "win32u",
];

/// Resolves module names of one text.
pub(crate) struct Names<'a> {
    /// Stem → image, as the text tells.
    told: &'a BTreeMap<String, String>,
    exports_only: &'a BTreeSet<String>,
    cache: RefCell<BTreeMap<String, Option<String>>>,
}

impl<'a> Names<'a> {
    pub(crate) fn new(told: &'a BTreeMap<String, String>, exports_only: &'a BTreeSet<String>) -> Self {
        Self { told, exports_only, cache: RefCell::default() }
    }

    /// The image of the module `display`, in lower case.
    ///
    /// What the text says is certain; then what the field knows under that stem; else `.sys`, which all but a few
    /// kernel modules end in. Of unknown modules in user mode nothing can be said.
    pub(crate) fn image(&self, display: &str, user_mode: bool) -> Option<String> {
        let stem = display.to_ascii_lowercase();
        if let Some(known) = self.cache.borrow().get(&stem) {
            return known.clone().or_else(|| (!user_mode).then(|| format!("{stem}.sys")));
        }
        let certain = self.certain(&stem);
        self.cache.borrow_mut().insert(stem.clone(), certain.clone());
        certain.or_else(|| (!user_mode).then(|| format!("{stem}.sys")))
    }

    fn certain(&self, stem: &str) -> Option<String> {
        if matches!(stem, "nt" | "ntoskrnl" | "ntkrnlmp" | "ntkrnlpa" | "ntkrpamp") {
            return Some("ntoskrnl.exe".to_owned());
        }
        if [".sys", ".exe", ".dll"].iter().any(|kind| stem.ends_with(kind)) {
            return Some(stem.to_owned());
        }
        if let Some(told) = self.told.get(stem) {
            return Some(told.clone());
        }
        if LIBRARIES.contains(&stem) {
            return Some(format!("{stem}.dll"));
        }
        [".sys", ".dll", ".exe"]
            .iter()
            .map(|kind| format!("{stem}{kind}"))
            .find(|image| knowledge::driver(image).is_some())
    }

    /// What a named address belongs to. A bare address belongs to nothing.
    pub(crate) fn place(&self, site: &Site, user_mode: bool) -> Place {
        if site.module.is_empty() {
            return Place::default();
        }
        Place {
            image: self.image(&site.module, user_mode),
            display: Some(site.module.clone()),
            symbol: site.symbol.clone(),
            offset: site.offset,
            uncertain: site.symbol.is_some() && self.exports_only.contains(&site.module.to_ascii_lowercase()),
            unloaded: site.unloaded,
            literal: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        let told = BTreeMap::from([("gpu".to_owned(), "gpu.exe".to_owned())]);
        let none = BTreeSet::new();
        let names = Names::new(&told, &none);
        let image = |display: &str| names.image(display, false).unwrap();
        assert_eq!(image("nt"), "ntoskrnl.exe");
        assert_eq!(image("hal"), "hal.dll");
        assert_eq!(image("cdd"), "cdd.dll");
        assert_eq!(image("GPU"), "gpu.exe");
        assert_eq!(image("win32kfull"), "win32kfull.sys");
        assert_eq!(image("Nobody99"), "nobody99.sys");
        assert_eq!(names.image("Nobody99", true), None);
        assert_eq!(names.image("ntdll", true).as_deref(), Some("ntdll.dll"));
    }
}
