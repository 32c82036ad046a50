//! Driver images: whose they are, what they do, and what is known to be wrong with them.

use std::sync::OnceLock;

use serde::Deserialize;

use crate::table::{Table, compare_ignoring_case, data_lines, leading_text, table};

pub(crate) const DRIVERS: Table = table!("drivers.jsonl");

words! {
    /// What a driver is for, as the table says it.
    Category {
        /// Guards a game against cheating.
        Anticheat = "anticheat",
        /// A security product.
        Antivirus = "antivirus",
        /// Sound.
        Audio = "audio",
        /// Backup and snapshots.
        Backup = "backup/snapshot",
        /// Bluetooth.
        Bluetooth = "bluetooth",
        /// A bus.
        Bus = "bus",
        /// A chipset part.
        Chipset = "chipset",
        /// A file system or a filter of one.
        Filesystem = "filesystem",
        /// Graphics.
        Gpu = "gpu",
        /// Keyboards, mice and the like.
        Hid = "hid",
        /// Gaming input and lighting.
        InputRgb = "input/rgb",
        /// Reads sensors, changes clocks, or gives programs access to hardware.
        Monitoring = "monitoring/overclock",
        /// Network.
        Network = "network",
        /// Windows itself.
        OsCore = "os_core",
        /// Power and processor management.
        Power = "power",
        /// Security functions that are no antivirus.
        Security = "security",
        /// Disks and their controllers.
        Storage = "storage",
        /// USB.
        Usb = "usb",
        /// Driver Verifier.
        Verifier = "verifier",
        /// Hypervisors and guests.
        Virtualization = "virtualization",
        /// Tunnels and packet filters.
        VpnFilter = "vpn/filter",
    }
}

words! {
    /// What a driver is for, in one plain word, as reports say it.
    Role {
        /// Guards a game against cheating.
        Anticheat = "anticheat",
        /// A security product.
        Antivirus = "antivirus",
        /// Sound.
        Audio = "audio",
        /// Backup and snapshots.
        Backup = "backup",
        /// Bluetooth.
        Bluetooth = "bluetooth",
        /// A bus.
        Bus = "bus",
        /// A chipset part.
        Chipset = "chipset",
        /// A file system or a filter of one.
        Filesystem = "filesystem",
        /// Graphics.
        Gpu = "gpu",
        /// Keyboards, mice, lighting.
        Input = "input",
        /// Reads sensors or changes clocks.
        Monitoring = "monitoring",
        /// Network.
        Network = "network",
        /// Windows itself.
        Os = "os",
        /// Power and processor management.
        Power = "power",
        /// Security functions that are no antivirus.
        Security = "security",
        /// Disks and their controllers.
        Storage = "storage",
        /// Not in the table.
        Unknown = "unknown",
        /// USB.
        Usb = "usb",
        /// Driver Verifier.
        Verifier = "verifier",
        /// Hypervisors and guests.
        Virtualization = "virtualization",
        /// Tunnels and packet filters.
        Vpn = "vpn",
    }
}

impl Category {
    /// The word for reports.
    pub fn role(self) -> Role {
        match self {
            Self::Anticheat => Role::Anticheat,
            Self::Antivirus => Role::Antivirus,
            Self::Audio => Role::Audio,
            Self::Backup => Role::Backup,
            Self::Bluetooth => Role::Bluetooth,
            Self::Bus => Role::Bus,
            Self::Chipset => Role::Chipset,
            Self::Filesystem => Role::Filesystem,
            Self::Gpu => Role::Gpu,
            Self::Hid | Self::InputRgb => Role::Input,
            Self::Monitoring => Role::Monitoring,
            Self::Network => Role::Network,
            Self::OsCore => Role::Os,
            Self::Power => Role::Power,
            Self::Security => Role::Security,
            Self::Storage => Role::Storage,
            Self::Usb => Role::Usb,
            Self::Verifier => Role::Verifier,
            Self::Virtualization => Role::Virtualization,
            Self::VpnFilter => Role::Vpn,
        }
    }
}

words! {
    /// How we know of a driver.
    Confidence {
        /// Public lists, named in `sources`, hold it.
        Corroborated = "corroborated",
        /// It comes with Windows, and every kernel engineer has met it.
        InboxWellKnown = "inbox_well_known",
    }
}

/// A driver that comes with Windows and can take another's place.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InboxAlternative {
    /// Its image.
    pub driver: String,
    /// When it can, such as "unless you use RAID".
    pub condition: String,
    /// What to take care of when switching.
    #[serde(default)]
    pub note: Option<String>,
}

/// A driver image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// The image's name, or a pattern with asterisks.
    pub image: String,
    /// Who makes it.
    pub vendor: String,
    /// What product or part it is.
    pub product: String,
    /// What it is for, as the table says it.
    pub category: Category,
    /// Whether it comes with Windows.
    #[serde(default)]
    pub inbox: bool,
    /// What is known to be wrong with it, or with old releases.
    #[serde(default)]
    pub known_problem: Option<String>,
    /// The version that cured it.
    #[serde(default)]
    pub known_fixed_version: Option<String>,
    /// How the problem is known.
    #[serde(default)]
    pub problem_basis: Option<String>,
    /// Whether LOLDrivers lists it: attackers use it to reach the kernel.
    #[serde(default)]
    pub vulnerable: bool,
    /// What comes with Windows and can take its place.
    #[serde(default)]
    pub inbox_alternative: Option<InboxAlternative>,
    /// How we know of it.
    pub confidence: Confidence,
    /// The public lists and dumps that hold it.
    #[serde(default)]
    pub sources: Vec<String>,
}

impl Driver {
    /// What it is for, in one plain word.
    pub fn role(&self) -> Role {
        self.category.role()
    }
}

/// What is known of a driver by its image's name, in any case, with or without its folder.
///
/// The full name is sought first, then the patterns, the most literal one before the others. The copies that
/// Windows loads to write a dump or to hibernate (`dump_x.sys`, `hiber_x.sys`) are known by what they copy, unless
/// the table holds them under their own name.
pub fn driver(image: &str) -> Option<Driver> {
    let name = image.rsplit(['\\', '/']).next()?;
    let original = || strip_copy_prefix(name).and_then(named);
    named(name).or_else(original)
}

fn named(name: &str) -> Option<Driver> {
    // No file on Windows has an asterisk in its name: it would find a pattern's line as if it were one.
    if name.contains('*') {
        return None;
    }
    record(name).or_else(|| record(best_pattern(name)?))
}

fn record(key: &str) -> Option<Driver> {
    DRIVERS.record(|line| compare_ignoring_case(leading_text(line, 0), key))
}

fn strip_copy_prefix(name: &str) -> Option<&str> {
    ["dump_", "hiber_"].iter().find_map(|prefix| {
        let (head, tail) = name.split_at_checked(prefix.len())?;
        head.eq_ignore_ascii_case(prefix).then_some(tail)
    })
}

fn best_pattern(name: &str) -> Option<&'static str> {
    static PATTERNS: OnceLock<Vec<&'static str>> = OnceLock::new();
    let patterns = PATTERNS.get_or_init(|| {
        let lines = data_lines(DRIVERS.edits).chain(data_lines(DRIVERS.generated));
        lines.map(|line| leading_text(line, 0)).filter(|key| key.contains('*')).collect()
    });
    let matching = patterns.iter().copied().filter(|pattern| matches(pattern, name));
    matching.max_by_key(|pattern| pattern.bytes().filter(|byte| *byte != b'*').count())
}

/// Whether `name` is of the form `pattern`, where an asterisk stands for anything, in any case.
fn matches(pattern: &str, name: &str) -> bool {
    let same = |left: &str, right: &str| left.eq_ignore_ascii_case(right);
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some((head, mut rest)) = name.split_at_checked(first.len()) else { return false };
    let Some(last) = pieces.next_back() else { return same(pattern, name) };
    if !same(head, first) {
        return false;
    }
    for piece in pieces {
        let found = (0..=rest.len()).find_map(|start| {
            let end = start + piece.len();
            same(rest.get(start..end)?, piece).then_some(end)
        });
        let Some(end) = found else { return false };
        rest = rest.get(end..).unwrap_or_default();
    }
    let tail = rest.len().checked_sub(last.len()).and_then(|start| rest.get(start..));
    tail.is_some_and(|tail| same(tail, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_any_case_and_with_its_folder() {
        let expected = driver("csagent.sys").unwrap();
        assert_eq!((expected.vendor.as_str(), expected.role()), ("CrowdStrike", Role::Antivirus));
        assert!(expected.known_problem.is_some() && !expected.inbox);
        assert_eq!(driver("CSAgent.SYS").unwrap(), expected);
        assert_eq!(driver(r"\SystemRoot\System32\drivers\CrowdStrike\csagent.sys").unwrap(), expected);
        assert_eq!(driver("ntoskrnl.exe").unwrap().role(), Role::Os);
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        for name in
            ["", "*", "*.sys", "cpuz*.sys", r"\", "csagent", "csagent.sys.sys", "dump_", "ﬃ", "dumpﬃ.sys"]
        {
            assert_eq!(driver(name), None, "{name}");
        }
    }

    #[test]
    fn a_full_name_goes_before_a_pattern() {
        // MpKslDrv.sys is listed; the numbered ones are known by MpKsl*.sys alone.
        assert_eq!(driver("mpksldrv.sys").unwrap().image, "MpKslDrv.sys");
        assert_eq!(driver("MpKsl1a2b3c4d.sys").unwrap().image, "MpKsl*.sys");
        assert_eq!(driver("Netwtw10.sys").unwrap().role(), Role::Network);
    }

    #[test]
    fn patterns_match_whole_names() {
        assert!(matches("cpuz*.sys", "CPUZ149_x64.SYS"));
        assert!(matches("a*b*c", "aXbXbXc"));
        assert!(matches("a*b*c", "abc"));
        for (pattern, name) in [("a*b*c", "acb"), ("ab*bc", "abc"), ("a*", "b"), ("a", "ab"), ("é*", "e")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn copies_for_dumps_and_hibernation_are_known_by_what_they_copy() {
        assert_eq!(driver("dump_iaStorAC.sys").unwrap().image, "iaStorAC.sys");
        assert_eq!(driver("hiber_storahci.sys").unwrap().image, "storahci.sys");
        assert_eq!(driver("dump_stornvme.sys").unwrap().image, "dump_stornvme.sys");
    }

    #[test]
    fn rapid_storage_has_an_alternative_in_windows() {
        let driver = driver("iaStorA.sys").unwrap();
        // The edit adds the alternative and leaves the generated facts as they are.
        assert_eq!(
            (driver.vendor.as_str(), driver.known_fixed_version.as_deref()),
            ("Intel", Some("15.5.2.1054"))
        );
        let alternative = driver.inbox_alternative.unwrap();
        assert_eq!(alternative.driver, "storahci.sys");
        assert_eq!(alternative.condition, "unless you use RAID");
        assert!(super::driver(&alternative.driver).unwrap().inbox);
        // A file filter, and the driver for disks behind the processor's own controller: AHCI takes neither's place.
        assert_eq!(super::driver("iaStorAfs.sys").unwrap().inbox_alternative, None);
        assert_eq!(super::driver("iaStorVD.sys").unwrap().inbox_alternative, None);
    }
}
