//! How addresses, places and times are written.

use serde_json::Value;
use stopcode_base::{Arch, FileTime, VirtAddr};
use stopcode_kernel::Place;

/// A number as data: `0x` and lower-case hex.
pub(crate) fn hex(value: impl Into<u64>) -> Value {
    Value::String(format!("{:#x}", value.into()))
}

/// An address as data.
pub(crate) fn address(at: VirtAddr) -> Value {
    hex(at.0)
}

/// A word as wide as a register, in as many digits and without the back quote.
pub(crate) fn word(arch: Arch, value: u64) -> String {
    format!("{value:0width$x}", width = arch.pointer_size() as usize * 2)
}

/// A 64-bit value in WinDbg's form.
pub(crate) fn quad(value: u64) -> String {
    VirtAddr(value).windbg()
}

/// `nt!KeBugCheckEx+0x3`; a name that is only the nearest one below has a question mark behind it; a part that lies apart from
/// its function has WinDbg's name for it behind. `None` outside all modules.
pub(crate) fn site(place: &Place) -> Option<String> {
    let label = place.label()?;
    if let Some(windbg) = place.windbg_label() {
        return Some(format!("{label} [{windbg}]"));
    }
    let Some(symbol) = place.symbol.as_deref().filter(|_| place.uncertain && place.offset != 0) else {
        return Some(label);
    };
    let module = place.display.as_deref().unwrap_or_default();
    Some(format!("{module}!{symbol}?+{:#x}", place.offset))
}

/// The same with a capital first.
pub(crate) fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `Wed Feb 01 19:15:24 2012` in UTC; with thousandths of a second if `fine`.
pub(crate) fn date(time: FileTime, fine: bool) -> String {
    let seconds = time.0 / 10_000_000;
    // 1 January 1601 was a Monday.
    let weekday = DAYS.get((seconds / 86_400 % 7) as usize).copied().unwrap_or_default();
    let (year, month, day) = time.date();
    let month = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let fraction = if fine { format!(".{:03}", time.0 / 10_000 % 1000) } else { String::new() };
    format!("{weekday} {month} {day:02} {hour:02}:{minute:02}:{second:02}{fraction} {year}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_windbg_writes_them() {
        assert_eq!(date(FileTime::from_unix(1_328_123_724), false), "Wed Feb 01 19:15:24 2012");
        assert_eq!(date(FileTime(123_4567), true), "Mon Jan 01 00:00:00.123 1601");
        let _ = date(FileTime(u64::MAX), true);
    }
}
