//! How likely a frame of a given size is, in tenths of a bit.
//!
//! Measured on the unwind data of 1,202 functions of compiled x64 drivers and a DLL (System Informer, WinDivert,
//! WinPmem, winpty) whose frames can hold a call. Size is counted from the stack pointer while a callee runs up to
//! and including the function's own return address. A function counts in a row as far as it reaches into that
//! row's span of return offsets (at most 0x400 bytes of it), because a longer function holds more calls. 3 % are
//! spread evenly, so that nothing is impossible.

/// Home space for the callee's four register arguments, the return address, and 8 bytes to keep RSP a multiple of
/// 16: less cannot be between two return addresses (Microsoft, x64 stack usage).
pub(crate) const SMALLEST: u64 = 0x30;

/// Above this almost no frame is: 2 % of those measured were larger than half of it.
pub(crate) const SUSPICIOUS: u64 = 0x800;

/// A larger frame is possible but costs [`HUGE_COST`], however large.
pub(crate) const LARGEST: u64 = 0x2000;

/// The cost of a frame of [`LARGEST`] bytes or more.
pub(crate) const HUGE_COST: i32 = 200;

/// First size that belongs to the next column.
const SIZE_ENDS: [u64; 9] = [0x40, 0x50, 0x60, 0x80, 0xa0, 0xe0, 0x160, 0x400, LARGEST];

/// First return offset that belongs to the next row, and minus log2 of the density per 16 bytes of size.
const BY_OFFSET: [(u64, [i32; 9]); 6] = [
    (0x40, [14, 29, 36, 38, 48, 56, 75, 102, 146]),
    (0x80, [20, 29, 35, 35, 43, 51, 70, 97, 142]),
    (0x100, [28, 31, 34, 34, 41, 47, 66, 92, 139]),
    (0x200, [42, 36, 37, 33, 38, 45, 61, 86, 140]),
    (0x400, [52, 54, 45, 41, 39, 40, 55, 77, 140]),
    (u64::MAX, [82, 82, 60, 59, 42, 42, 54, 68, 127]),
];

/// The same over all functions, for a return address whose function is not known.
const ANY_OFFSET: [i32; 9] = [25, 33, 36, 36, 41, 47, 64, 88, 141];

/// What a frame of `size` bytes costs, for a return address `offset` bytes into its function.
pub(crate) fn cost(size: u64, offset: Option<u64>) -> i32 {
    let row = offset
        .and_then(|offset| BY_OFFSET.iter().find(|(end, _)| offset < *end))
        .map_or(&ANY_OFFSET, |(_, row)| row);
    SIZE_ENDS.iter().zip(row).find(|(end, _)| size < **end).map_or(HUGE_COST, |(_, cost)| *cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_functions_have_small_frames() {
        assert!(cost(0x30, Some(0x20)) < cost(0x30, Some(0x300)));
        assert!(cost(0x200, Some(0x20)) > cost(0x200, Some(0x800)));
        assert_eq!(cost(0x30, None), 25);
        assert_eq!(cost(LARGEST, None), HUGE_COST);
        assert_eq!(cost(u64::MAX, Some(u64::MAX)), HUGE_COST);
    }

    #[test]
    fn each_row_is_a_distribution() {
        for row in BY_OFFSET.iter().map(|(_, row)| row).chain([&ANY_OFFSET]) {
            let mut start = SMALLEST;
            let mut sum = 0.0;
            for (end, cost) in SIZE_ENDS.iter().zip(row) {
                sum += ((end - start) / 16) as f64 * 2f64.powf(-f64::from(*cost) / 10.0);
                start = *end;
            }
            assert!((sum - 1.0).abs() < 0.03, "{sum} {row:?}");
        }
    }
}
