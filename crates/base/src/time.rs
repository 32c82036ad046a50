//! Windows time: 100 ns units since 1601, in UTC.

use std::fmt;

/// A `FILETIME`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct FileTime(pub u64);

const UNIX_EPOCH_SECONDS: i64 = 11_644_473_600;

impl FileTime {
    /// From seconds since 1970, as a PE header's `TimeDateStamp` counts.
    pub const fn from_unix(seconds: u32) -> Self {
        Self((seconds as u64 + UNIX_EPOCH_SECONDS as u64) * 10_000_000)
    }

    /// Whole seconds since 1970; negative before.
    pub const fn unix_seconds(self) -> i64 {
        (self.0 / 10_000_000) as i64 - UNIX_EPOCH_SECONDS
    }

    /// Year, month, day in the proleptic Gregorian calendar.
    pub const fn date(self) -> (i64, u32, u32) {
        // Howard Hinnant's days-to-civil algorithm, on days since 0000-03-01.
        let days = self.unix_seconds().div_euclid(86_400) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
        (year, month as u32, day as u32)
    }

    /// `YYYY-MM-DD`.
    pub fn date_text(self) -> String {
        let (year, month, day) = self.date();
        format!("{year:04}-{month:02}-{day:02}")
    }
}

/// RFC 3339 in UTC, with a fraction only where there is one.
impl fmt::Display for FileTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second_of_day = self.unix_seconds().rem_euclid(86_400);
        let (h, m, s) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        write!(f, "{}T{h:02}:{m:02}:{s:02}", self.date_text())?;
        match self.0 % 10_000_000 {
            0 => {}
            fraction => write!(f, ".{fraction:07}")?,
        }
        f.write_str("Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        assert_eq!(FileTime::from_unix(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(FileTime::from_unix(1_328_123_724).to_string(), "2012-02-01T19:15:24Z");
        assert_eq!(FileTime::from_unix(951_782_400).date(), (2000, 2, 29));
        assert_eq!(FileTime(0).to_string(), "1601-01-01T00:00:00Z");
        assert_eq!(FileTime(1).to_string(), "1601-01-01T00:00:00.0000001Z");
        let _ = FileTime(u64::MAX).to_string();
    }
}
