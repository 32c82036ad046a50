//! Modules of the crashed machine: what is loaded, what was unloaded, and what their stamps tell.

use stopcode_base::{Fact, FileTime, VirtAddr, file_name};

/// A loaded image. Plain data: a pasted `lm` fills it as well as a dump.
#[derive(Clone, PartialEq, Debug)]
pub struct Module {
    /// Lower-case image file name with extension: `ntoskrnl.exe`, `iastor.sys`.
    pub image: String,
    /// The name WinDbg gives the module: `nt`, `hal`, `iaStor`.
    pub display: String,
    /// Full path as Windows recorded it; empty if not known.
    pub path: String,
    /// Where it is loaded.
    pub base: VirtAddr,
    /// Size of the image in bytes; 0 if not known.
    pub size: u64,
    /// `TimeDateStamp` of the PE header, as recorded by the loader.
    pub time_date_stamp: Option<u32>,
    /// `CheckSum` of the PE header.
    pub checksum: Option<u32>,
    /// When it was linked; missing, with the reason, where the stamp is no date.
    pub link_date: Fact<FileTime>,
    /// File version, where the dump or its kernel's identity tells it.
    pub version: Option<String>,
}

impl Module {
    /// True if `address` lies inside the image.
    pub fn contains(&self, address: VirtAddr) -> bool {
        address.offset_from(self.base).is_some_and(|offset| offset < self.size)
    }

    /// The first address past the image.
    pub fn end(&self) -> VirtAddr {
        self.base.plus(self.size)
    }
}

/// A driver that was unloaded before the crash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnloadedModule {
    /// Its name as Windows kept it (a minidump keeps 12 characters).
    pub name: String,
    /// Where it was loaded.
    pub start: VirtAddr,
    /// The first address past it.
    pub end: VirtAddr,
}

/// The name WinDbg gives the module of an image: the kernel is `nt`, the HAL `hal`, others lose their extension
/// and have characters that symbols cannot hold replaced.
pub fn display_name(path: &str) -> String {
    let file = file_name(path);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    match stem.to_ascii_lowercase().as_str() {
        "ntoskrnl" | "ntkrnlmp" | "ntkrnlpa" | "ntkrpamp" | "ntkrla57" => "nt".to_owned(),
        _ => stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect(),
    }
}

/// The first build whose own images carry a hash of their content in place of a link date.
///
/// Measured on the public list of kernels: every stamp up to 17134 is a date near the build's; from 17682 on
/// they are spread over all 32 bits, as reproducible builds (`/Brepro`) write them.
const FIRST_REPRODUCIBLE_BUILD: u32 = 17_600;

/// When an image was linked, or why its stamp does not tell.
///
/// `inbox` says that the image comes with Windows. The rules, in order: no stamp; a stamp after the crash or before
/// Windows NT 4.0 is no date; from build 17763 on Windows' own images carry a hash. What is left is taken as
/// a date, although a third party may also build reproducibly (its hash falls in that range about one time in four).
pub fn link_date(
    stamp: Option<u32>,
    inbox: bool,
    build: Option<u32>,
    crash: Option<FileTime>,
) -> Fact<FileTime> {
    const NT4: u32 = 838_857_600; // 1 August 1996
    const DAY: u64 = 864_000_000_000;
    let Some(stamp) = stamp.filter(|stamp| *stamp != 0 && *stamp != u32::MAX) else {
        return Fact::missing("the image has no time stamp");
    };
    let date = FileTime::from_unix(stamp);
    if stamp < NT4 {
        return Fact::missing(format!(
            "stamp {stamp:08X} lies before any 64-bit Windows: a hash of the image, not a date"
        ));
    }
    if crash.is_some_and(|crash| date.0 > crash.0.saturating_add(2 * DAY)) {
        return Fact::missing(format!(
            "stamp {stamp:08X} lies after the crash: a hash of the image, not a date"
        ));
    }
    if inbox && build.is_some_and(|build| build >= FIRST_REPRODUCIBLE_BUILD) {
        return Fact::missing(format!(
            "stamp {stamp:08X} of a Windows image: from 17763 on these are hashes, not dates"
        ));
    }
    Fact::known(date, format!("TimeDateStamp {stamp:08X}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_windbg_gives_them() {
        assert_eq!(display_name(r"\SystemRoot\system32\ntoskrnl.exe"), "nt");
        assert_eq!(display_name(r"\SystemRoot\system32\DRIVERS\iaStor.sys"), "iaStor");
        assert_eq!(display_name(r"C:\x\a-b c.sys"), "a_b_c");
        assert_eq!(display_name("noext"), "noext");
    }

    #[test]
    fn hashes_are_not_dates() {
        let crash = Some(FileTime::from_unix(1_613_871_502)); // February 2021
        let iastor = Some(1_328_123_724);
        assert_eq!(
            link_date(iastor, false, Some(7601), None).get(),
            Some(FileTime::from_unix(1_328_123_724))
        );
        assert_eq!(link_date(Some(0x0d83_33e6), true, Some(19041), crash).get(), None);
        assert_eq!(link_date(iastor, true, Some(19041), crash).get(), None);
        assert!(link_date(iastor, true, Some(9600), crash).get().is_some());
        assert_eq!(link_date(Some(0x7000_0000), false, Some(19041), crash).get(), None);
        assert_eq!(link_date(Some(0), false, None, None).get(), None);
    }
}
