//! NTSTATUS values.

use crate::table::{Table, hex, table};

pub(crate) const STATUSES: Table = table!("ntstatus.tsv");

/// A status code of Windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NtStatus {
    /// Its symbolic name.
    pub name: &'static str,
    /// What it means, in a sentence, for those that crashes show often.
    pub meaning: Option<&'static str>,
}

/// The status `code`; also the codes of exceptions that are none of the system's (C++, .NET).
pub fn ntstatus(code: u32) -> Option<NtStatus> {
    let line =
        STATUSES.line(|line| hex(line.split('\t').next().unwrap_or_default()).cmp(&Some(u64::from(code))))?;
    let mut columns = line.split('\t').skip(1);
    Some(NtStatus { name: columns.next()?, meaning: columns.next() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_with_a_meaning_where_there_is_one() {
        assert_eq!(ntstatus(0).unwrap().name, "STATUS_SUCCESS");
        let violation = ntstatus(0xc0000005).unwrap();
        assert_eq!(violation.name, "STATUS_ACCESS_VIOLATION");
        assert!(violation.meaning.is_some());
        assert_eq!(ntstatus(3), Some(NtStatus { name: "STATUS_WAIT_3", meaning: None }));
        assert_eq!(ntstatus(0xe06d7363).unwrap().name, "MSVC_CPP_EXCEPTION");
        assert_eq!(ntstatus(0xffffffff), None);
    }
}
