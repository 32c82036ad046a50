//! Driver Verifier's options by bit and by rule class.
//!
//! Source: windows-driver-docs, devtest/verifier-command-line.md.

/// The options that `verifier /standard` switches on.
pub const STANDARD: u32 = 0x0002_09bb;

/// Options that take effect without a restart.
pub const VOLATILE: u32 = 0x0000_06a4;

/// Option bits (MmVerifierData.Level, the number of `verifier /flags`), ascending, with their names.
pub const FLAGS: [(u32, &str); 23] = [
    (0x0000_0001, "special pool"),
    (0x0000_0002, "force IRQL checking"),
    (0x0000_0004, "randomized low resources simulation"),
    (0x0000_0008, "pool tracking"),
    (0x0000_0010, "I/O verification"),
    (0x0000_0020, "deadlock detection"),
    (0x0000_0040, "enhanced I/O verification"),
    (0x0000_0080, "DMA verification"),
    (0x0000_0100, "security checks"),
    (0x0000_0200, "force pending I/O requests"),
    (0x0000_0400, "IRP logging"),
    (0x0000_0800, "miscellaneous checks"),
    (0x0000_2000, "invariant MDL checking for stack"),
    (0x0000_4000, "invariant MDL checking for driver"),
    (0x0000_8000, "power framework delay fuzzing"),
    (0x0001_0000, "port/miniport interface checking"),
    (0x0002_0000, "DDI compliance checking"),
    (0x0004_0000, "systematic low resources simulation"),
    (0x0008_0000, "additional DDI compliance checking"),
    (0x0020_0000, "NDIS/WIFI verification"),
    (0x0080_0000, "kernel synchronization delay fuzzing"),
    (0x0100_0000, "VM switch verification"),
    (0x0200_0000, "code integrity checks"),
];

/// Rule classes of Windows 10 1803 and later that have no option bit, by number.
const CLASSES_WITHOUT_BIT: [(u32, &str); 4] =
    [(33, "driver isolation"), (34, "WDF"), (36, "DIF mode"), (37, "file-system filter")];

/// The names of the options set in `level`, lowest bit first.
pub fn names(level: u32) -> impl Iterator<Item = &'static str> {
    FLAGS.iter().filter(move |(bit, _)| level & bit != 0).map(|(_, name)| *name)
}

/// The first build of Windows that has the option of a bit: 7600 stands for Windows 7 and everything before it.
pub const fn since(bit: u32) -> u32 {
    match bit {
        0x2000 | 0x4000 | 0x8000 | 0x0002_0000 => 9200,
        0x0004_0000 | 0x0008_0000 | 0x0020_0000 | 0x0080_0000 => 9600,
        0x0001_0000 | 0x0100_0000 | 0x0200_0000 => 10_240,
        _ => 7600,
    }
}

/// The bits of `level` that have no name here.
pub fn unnamed(level: u32) -> u32 {
    FLAGS.iter().fold(level, |rest, (bit, _)| rest & !bit)
}

/// The name of rule class `number` as `verifier /ruleclasses` counts them (from 1; 1803 and later). The classes up
/// to 26 are the option bits in their order.
pub fn rule_class(number: u32) -> Option<&'static str> {
    let bit = number.checked_sub(1).filter(|bit| *bit < 26).map(|bit| 1_u32 << bit);
    let by_bit = FLAGS.iter().find(|(flag, _)| Some(*flag) == bit);
    by_bit.or_else(|| CLASSES_WITHOUT_BIT.iter().find(|(class, _)| *class == number)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_options_are_these() {
        let standard: Vec<_> = names(STANDARD).collect();
        assert_eq!(
            standard,
            [
                "special pool",
                "force IRQL checking",
                "pool tracking",
                "I/O verification",
                "deadlock detection",
                "DMA verification",
                "security checks",
                "miscellaneous checks",
                "DDI compliance checking",
            ]
        );
        assert_eq!(unnamed(STANDARD | VOLATILE), 0);
        assert_eq!(unnamed(0x8000_1001), 0x8000_1000);
    }

    #[test]
    fn options_came_with_builds() {
        let windows_7: u32 =
            FLAGS.iter().filter(|(bit, _)| since(*bit) <= 7601).fold(0, |all, (bit, _)| all | bit);
        assert_eq!(windows_7, 0xfff);
        assert!(FLAGS.iter().all(|(bit, _)| since(*bit) <= 10_240));
    }

    #[test]
    fn rule_classes_follow_the_bits() {
        assert_eq!(rule_class(1), Some("special pool"));
        assert_eq!(rule_class(18), Some("DDI compliance checking"));
        assert_eq!(rule_class(26), Some("code integrity checks"));
        assert_eq!(rule_class(34), Some("WDF"));
        for unknown in [0, 13, 27, 35, u32::MAX] {
            assert_eq!(rule_class(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn bits_are_single_and_ascending() {
        assert!(FLAGS.is_sorted_by(|left, right| left.0 < right.0));
        assert!(FLAGS.iter().all(|(bit, _)| bit.is_power_of_two()));
    }
}
