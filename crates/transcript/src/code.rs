//! Bytes of the crashed machine that a text shows: disassembly (`u`, `ub`, the line below `r`), memory (`db` to
//! `dq`), and pointers with their names (`dps`).

use crate::reader::{Mode, Reader};
use crate::scan::{column, number};
use crate::site::{self, Site};
use stopcode_base::VirtAddr;

/// Reads a line of a memory display; 0 if line `at` is none. Only below the command that asked for it: a row of
/// numbers tells nothing of its unit.
pub(crate) fn memory(reader: &mut Reader<'_>, at: usize) -> usize {
    let line = reader.lines.trimmed(at);
    let Some((address, rest)) = line.split_once(char::is_whitespace) else { return 0 };
    let Some(address) = column(address) else { return 0 };
    match reader.mode {
        Mode::Pointers => {
            let (value, name) =
                rest.trim_start().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
            let Some(value) = column(value) else { return 0 };
            let bytes = value.value.to_le_bytes();
            let width = if value.wide { 8 } else { 4 };
            reader.draft.bytes(VirtAddr(address.value), bytes.get(..width).unwrap_or_default().to_vec());
            if let Some(parsed) = site::parse(name) {
                reader.draft.name(value.value, &parsed.site);
            }
            1
        }
        Mode::Units(unit) => {
            let most = 16 / unit;
            let tokens = rest.split([' ', '-']).filter(|token| !token.is_empty());
            let values = tokens.take(most).map_while(|token| {
                let digits = token.bytes().filter(|byte| *byte != b'`').count();
                number(token).filter(|_| digits == unit * 2)
            });
            let bytes: Vec<u8> =
                values.flat_map(|value| value.to_le_bytes().into_iter().take(unit)).collect();
            let taken = usize::from(!bytes.is_empty());
            reader.draft.bytes(VirtAddr(address.value), bytes);
            taken
        }
        _ => 0,
    }
}

/// Reads a line of code (`fffff800`032aa85b 5e   pop   rsi`) or the name above it (`nt!Foo+0x2eb:`).
pub(crate) fn code(reader: &mut Reader<'_>, at: usize) -> usize {
    let line = reader.lines.trimmed(at);
    if let Some(site) = label(line) {
        reader.label = Some(site);
        return 1;
    }
    let Some((address, bytes)) = instruction(line) else { return 0 };
    reader.draft.bytes(VirtAddr(address), bytes);
    if let Some(site) = reader.label.take() {
        reader.draft.name(address, &site);
    }
    1
}

/// `nt!KiIpiSendRequest+0x2eb:`, also with `[source @ line]` before the colon.
fn label(line: &str) -> Option<Site> {
    let name = line.strip_suffix(':')?;
    let parsed = site::parse(name).filter(|parsed| !parsed.open)?;
    let rest = parsed.rest.trim();
    (rest.is_empty() || rest.starts_with('[')).then_some(parsed.site)
}

/// The address and the bytes of a line of disassembly.
fn instruction(line: &str) -> Option<(u64, Vec<u8>)> {
    const LONGEST: usize = 15; // bytes, by the processor's manual
    let mut words = line.split_whitespace();
    let address = column(words.next()?)?;
    let digits = words.next()?;
    let mnemonic = words.next()?;
    let even = digits.len() % 2 == 0 && (2..=LONGEST * 2).contains(&digits.len());
    let hex = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let plausible = (2..=12).contains(&mnemonic.len())
        && mnemonic.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.')
        && mnemonic.starts_with(|c: char| c.is_ascii_lowercase());
    // Two addresses and a word are a module in a list.
    let module = digits.len() == if address.wide { 16 } else { 8 }
        && words.next().is_some_and(|next| next.starts_with('('));
    if !even || !hex || !plausible || module {
        return None;
    }
    let (pairs, _) = digits.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    Some((address.value, pairs.iter().filter_map(byte).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_lines() {
        let of = |line| instruction(line).map(|(address, bytes)| (address, bytes.len()));
        assert_eq!(of("fffff800`032aa85b 5e       pop   rsi"), Some((0xffff_f800_032a_a85b, 1)));
        assert_eq!(of("fffff800`032aa85d c3       ret"), Some((0xffff_f800_032a_a85d, 1)));
        assert_eq!(of("8046a86c 8b442404  mov eax,dword ptr [esp+4]"), Some((0x8046_a86c, 4)));
        assert_eq!(of("fffff800`1 5e pop rsi"), None);
        assert_eq!(of("fffff880`0181f000 fffff880`01bc3000   iaStor   (no symbols)"), None);
        assert_eq!(of("80400000 80600000 nt (pdb symbols)"), None);
        assert_eq!(of("00000020 ?? ???"), None);
        assert_eq!(label("nt!KiIpiSendRequest+0x2eb:").map(|site| site.offset), Some(0x2eb));
        assert_eq!(label("Arguments:"), None);
    }
}
