//! Win32 error codes.

use crate::table::{Table, hex, table};

pub(crate) const ERRORS: Table = table!("win32.tsv");

/// The symbolic name of the Win32 error `code`. Small NTSTATUS values are other codes: what a number is has to be known.
pub fn win32_error(code: u32) -> Option<&'static str> {
    let line =
        ERRORS.line(|line| hex(line.split('\t').next().unwrap_or_default()).cmp(&Some(u64::from(code))))?;
    line.split('\t').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_sdk() {
        assert_eq!(win32_error(0), Some("ERROR_SUCCESS"));
        assert_eq!(win32_error(5), Some("ERROR_ACCESS_DENIED"));
        assert_eq!(win32_error(10054), Some("WSAECONNRESET"));
        assert_eq!(win32_error(0xffff), None);
        assert_eq!(win32_error(0xc000_0005), None);
    }
}
