//! How likely a frame of a given size is, in tenths of a bit.
//!
//! Measured on the unwind data of 1,202 functions of compiled x64 drivers and a DLL (System Informer, WinDivert,
//! WinPmem, winpty) whose frames can hold a call. Size is counted from the stack pointer while a callee runs up to
//! and including the function's own return address. Where a function's length is known it says most. Else the return
//! offset does: there a function counts in a row as far as it reaches into that row's span (at most 0x400 bytes of
//! it), because a longer function holds more calls. A few per cent are spread evenly, so that nothing is impossible.

/// Home space for the callee's four register arguments, the return address, and 8 bytes to keep RSP a multiple of
/// 16: less cannot be between two return addresses (Microsoft, x64 stack usage).
pub(crate) const SMALLEST: u64 = 0x30;

/// A larger frame is possible but costs [`HUGE_COST`], however large.
pub(crate) const LARGEST: u64 = 0x2000;

/// The cost of a frame of [`LARGEST`] bytes or more.
pub(crate) const HUGE_COST: i32 = 200;

/// First size that belongs to the next column.
const SIZE_ENDS: [u64; 10] = [0x40, 0x50, 0x60, 0x80, 0xa0, 0xe0, 0x160, 0x400, 0x800, LARGEST];

/// First function length that belongs to the next row, and minus log2 of the density per 16 bytes of size.
const BY_LENGTH: [(u64, [i32; 10]); 7] = [
    (0x40, [5, 28, 41, 62, 79, 76, 106, 130, 136, 162]),
    (0x80, [7, 31, 38, 43, 62, 79, 86, 122, 136, 162]),
    (0x100, [15, 24, 34, 36, 46, 59, 98, 122, 118, 162]),
    (0x200, [27, 27, 28, 34, 45, 49, 70, 102, 112, 144]),
    (0x400, [43, 35, 47, 29, 36, 46, 60, 91, 118, 150]),
    (0x800, [76, 76, 41, 51, 38, 39, 55, 74, 115, 162]),
    (u64::MAX, [76, 76, 76, 86, 86, 46, 56, 65, 136, 112]),
];

/// First return offset that belongs to the next row, and the same.
const BY_OFFSET: [(u64, [i32; 10]); 6] = [
    (0x40, [14, 29, 36, 38, 48, 56, 75, 102, 123, 156]),
    (0x80, [20, 29, 35, 35, 43, 52, 70, 97, 119, 153]),
    (0x100, [28, 31, 34, 34, 41, 47, 66, 92, 116, 149]),
    (0x200, [43, 36, 37, 33, 38, 45, 61, 86, 117, 150]),
    (0x400, [52, 54, 45, 41, 39, 40, 55, 77, 120, 147]),
    (u64::MAX, [84, 84, 61, 59, 42, 42, 54, 68, 112, 131]),
];

/// The same over all functions, for a return address whose function is not known.
const ANY_OFFSET: [i32; 10] = [25, 33, 37, 36, 41, 47, 64, 88, 119, 151];

/// What a frame of `size` bytes costs, for a return address `offset` bytes into a function of `length`.
pub(crate) fn cost(size: u64, offset: Option<u64>, length: Option<u64>) -> i32 {
    let row = row(&BY_LENGTH, length).or_else(|| row(&BY_OFFSET, offset)).unwrap_or(&ANY_OFFSET);
    SIZE_ENDS.iter().zip(row).find(|(end, _)| size < **end).map_or(HUGE_COST, |(_, cost)| *cost)
}

fn row(table: &[(u64, [i32; 10])], value: Option<u64>) -> Option<&[i32; 10]> {
    let value = value?;
    table.iter().find(|(end, _)| value < *end).map(|(_, row)| row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_functions_have_small_frames() {
        assert!(cost(0x30, Some(0x20), None) < cost(0x30, Some(0x300), None));
        assert!(cost(0x200, Some(0x20), None) > cost(0x200, Some(0x800), None));
        assert!(cost(0x30, Some(0x20), Some(0x30)) < cost(0x30, Some(0x20), Some(0x900)));
        assert_eq!(cost(0x30, None, None), 25);
        assert_eq!(cost(LARGEST, None, None), HUGE_COST);
        assert_eq!(cost(u64::MAX, Some(u64::MAX), Some(u64::MAX)), HUGE_COST);
    }

    #[test]
    fn each_row_is_a_distribution() {
        for row in BY_LENGTH.iter().chain(&BY_OFFSET).map(|(_, row)| row).chain([&ANY_OFFSET]) {
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
