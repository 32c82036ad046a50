//! `.formats`

use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::{date, hex};
use serde_json::json;
use std::fmt::LowerExp;
use stopcode_base::FileTime;
use stopcode_base::VirtAddr;

/// FILETIMEs before 1980 or after 2200 are no dates that anybody meant.
const DATES: std::ops::Range<u64> = 119_600_064_000_000_000..189_025_920_000_000_000;

/// `0`, `6.3690817e-22`.
fn float<T: LowerExp>(value: T) -> String {
    let shown = format!("{value:e}");
    shown.strip_suffix("e0").map_or(shown.clone(), str::to_owned)
}

pub(super) const COMMAND: Command = Command {
    name: ".formats",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::required("EXPRESSION", Kind::Expression)],
    what: "a value in every notation",
    details: "",
    examples: &[(".formats 4f298fcc", "a time stamp as a date")],
    run: |session, arguments, output| {
        let value = arguments.number("EXPRESSION").unwrap_or_default();
        session.set_last(value);
        output.line("Evaluate expression:")?;
        output.line(format!("  Hex:     {}", output.at(VirtAddr(value))))?;
        output.line(format!("  Decimal: {}", value as i64))?;
        if value as i64 != value.cast_signed().abs() {
            output.line(format!("  Decimal (unsigned) : {value}"))?;
        }
        output.line(format!("  Octal:   {value:022o}"))?;
        let bytes = value.to_be_bytes();
        output.line(format!("  Binary:  {}", bytes.map(|byte| format!("{byte:08b}")).join(" ")))?;
        let letters: String =
            bytes.iter().map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '.' }).collect();
        output.line(format!("  Chars:   {letters}"))?;
        let time = match u32::try_from(value) {
            Ok(seconds) => Some(FileTime::from_unix(seconds)),
            Err(_) => DATES.contains(&value).then_some(FileTime(value)),
        };
        let shown =
            time.map_or_else(|| "***** no date".to_owned(), |time| format!("{} (UTC)", date(time, false)));
        output.line(format!("  Time:    {shown}"))?;
        let (low, high) = (f32::from_bits(value as u32), f32::from_bits((value >> 32) as u32));
        output.line(format!("  Float:   low {} high {}", float(low), float(high)))?;
        output.line(format!("  Double:  {}", float(f64::from_bits(value))))?;
        Ok(json!({
            "value": hex(value), "decimal": (value as i64).to_string(), "chars": letters,
            "time": time.map(|time| time.to_string()),
        }))
    },
};
