//! Kernel builds by the identity in their PE header, and the products that builds stand for.

use crate::table::{Table, hex, table};

pub(crate) const BUILDS: Table = table!("builds.tsv");

/// A kernel of Windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelBuild {
    /// The file version, such as "10.0.19041.804".
    pub version: &'static str,
    /// The build, such as 19041.
    pub build: u32,
    /// The revision within the build, such as 804.
    pub revision: u32,
}

/// The kernel whose PE header holds this TimeDateStamp and SizeOfImage, on `arch` "x64" or "arm64".
///
/// Known are x64 and ARM64 kernels of Windows 10 and 11 (builds 9926 to 29648) and their servers; not all of them.
/// One pair of revisions (22621.1483 and 22621.1485, x64) shares one identity: the older is given.
pub fn kernel_build(arch: &str, time_date_stamp: u32, size_of_image: u32) -> Option<KernelBuild> {
    let wanted = (arch, Some(u64::from(time_date_stamp)), Some(u64::from(size_of_image)));
    let line = BUILDS.line(|line| {
        let mut columns = line.split('\t');
        let key =
            (columns.next().unwrap_or_default(), columns.next().and_then(hex), columns.next().and_then(hex));
        key.cmp(&wanted)
    })?;
    parse_version(line.split('\t').nth(3)?)
}

pub(crate) fn parse_version(version: &'static str) -> Option<KernelBuild> {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    let (_major, _minor) = (numbers.next()??, numbers.next()??);
    let (build, revision) = (numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(KernelBuild { version, build, revision })
}

/// Build, client and server name. Where an update only switches features on, the kernel keeps the number it was
/// built with, so that one number stands for several releases.
const PRODUCTS: [(u32, Option<&str>, Option<&str>); 31] = [
    (2600, Some("Windows XP"), None),
    (3790, Some("Windows XP x64 Edition"), Some("Windows Server 2003")),
    (6000, Some("Windows Vista"), None),
    (6001, Some("Windows Vista SP1"), Some("Windows Server 2008")),
    (6002, Some("Windows Vista SP2"), Some("Windows Server 2008 SP2")),
    (6003, None, Some("Windows Server 2008 SP2")),
    (7600, Some("Windows 7"), Some("Windows Server 2008 R2")),
    (7601, Some("Windows 7 SP1"), Some("Windows Server 2008 R2 SP1")),
    (9200, Some("Windows 8"), Some("Windows Server 2012")),
    (9600, Some("Windows 8.1"), Some("Windows Server 2012 R2")),
    (10240, Some("Windows 10 version 1507"), None),
    (10586, Some("Windows 10 version 1511"), None),
    (14393, Some("Windows 10 version 1607"), Some("Windows Server 2016")),
    (15063, Some("Windows 10 version 1703"), None),
    (16299, Some("Windows 10 version 1709"), Some("Windows Server version 1709")),
    (17134, Some("Windows 10 version 1803"), Some("Windows Server version 1803")),
    (17763, Some("Windows 10 version 1809"), Some("Windows Server 2019")),
    (18362, Some("Windows 10 version 1903 or 1909"), Some("Windows Server version 1903 or 1909")),
    (18363, Some("Windows 10 version 1909"), Some("Windows Server version 1909")),
    (19041, Some("Windows 10 version 2004 to 22H2"), Some("Windows Server version 2004 or 20H2")),
    (19042, Some("Windows 10 version 20H2"), Some("Windows Server version 20H2")),
    (19043, Some("Windows 10 version 21H1"), None),
    (19044, Some("Windows 10 version 21H2"), None),
    (19045, Some("Windows 10 version 22H2"), None),
    (20348, None, Some("Windows Server 2022")),
    (22000, Some("Windows 11 version 21H2"), None),
    (22621, Some("Windows 11 version 22H2 or 23H2"), None),
    (22631, Some("Windows 11 version 23H2"), None),
    (25398, None, Some("Windows Server version 23H2")),
    (26100, Some("Windows 11 version 24H2 or 25H2"), Some("Windows Server 2025")),
    (26200, Some("Windows 11 version 25H2"), None),
];

/// The first two numbers of a build's version: `10.0` of 19041.
pub const fn nt_version(build: u32) -> &'static str {
    match build {
        0..=2599 => "5.0",
        2600..=3789 => "5.1",
        3790..=5999 => "5.2",
        6000..=7599 => "6.0",
        7600..=9199 => "6.1",
        9200..=9599 => "6.2",
        9600..=9999 => "6.3",
        _ => "10.0",
    }
}

/// What a build is sold as; `None` for previews and for what we are not certain of.
pub fn product_name(build: u32, is_server: bool) -> Option<&'static str> {
    let index = PRODUCTS.binary_search_by(|(number, ..)| number.cmp(&build)).ok()?;
    let (_, client, server) = PRODUCTS.get(index)?;
    if is_server { *server } else { *client }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    #[test]
    fn kernels_of_real_dumps_are_identified() {
        // Identities read out of dumps; the headers' builds agree.
        for (stamp, size, version) in [
            (0x0d8333e6, 0x1046000, "10.0.19041.804"),
            (0xbf639dc3, 0x1046000, "10.0.19041.2193"),
            (0xa03d2496, 0x1046000, "10.0.19041.4522"),
            (0xf5e79fc4, 0x1046000, "10.0.19041.5129"),
            (0x3c5028de, 0x144f000, "10.0.26100.2314"),
        ] {
            assert_eq!(kernel_build("x64", stamp, size).unwrap().version, version);
        }
        let build = kernel_build("x64", 0x3c5028de, 0x144f000).unwrap();
        assert_eq!((build.build, build.revision), (26100, 2314));
    }

    #[test]
    fn nothing_is_guessed() {
        // Windows 8.1, and an ARM64 kernel that the list does not hold; then half an identity.
        assert_eq!(kernel_build("x64", 0x59ba8548, 0x78b000), None);
        assert_eq!(kernel_build("arm64", 0xdf291b09, 0x103e000), None);
        assert_eq!(kernel_build("x64", 0x3c5028de, 0x144f001), None);
        assert_eq!(kernel_build("arm64", 0x3c5028de, 0x144f000), None);
        assert_eq!(product_name(22500, false), None);
        assert_eq!(product_name(20348, false), None);
    }

    #[test]
    fn products_are_sorted_and_named() {
        assert!(PRODUCTS.is_sorted_by(|left, right| left.0.cmp(&right.0) == Ordering::Less));
        assert_eq!(product_name(9600, false), Some("Windows 8.1"));
        assert_eq!(product_name(26100, true), Some("Windows Server 2025"));
        assert_eq!(product_name(19041, false), Some("Windows 10 version 2004 to 22H2"));
    }
}
