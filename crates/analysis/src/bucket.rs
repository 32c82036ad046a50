//! Buckets: crashes that look alike get the same one, with and without symbols.
//!
//! Documented for users in `docs/bucket.md`. Grammar of the text, version 1: `code|status|place`, where `code` is the base stop code, `status` the exception's
//! NTSTATUS, or the first argument where the code's table says that it selects a kind, or `-`; and `place` the image and
//! offset from its base of the code that ran (`amdppm.sys+0x334c`), or `-`. Symbols never enter it.

use crate::facts::Facts;
use crate::verdict::Bucket;
use stopcode_knowledge as knowledge;

/// Raised whenever equal crashes would get another text.
const VERSION: u32 = 1;

pub(crate) fn bucket(facts: &Facts<'_>) -> Bucket {
    let code = facts.stop.as_ref().map_or_else(|| "-".to_owned(), |stop| format!("{:#x}", stop.base));
    let text = format!("{code}|{}|{}", status(facts), place(facts));
    Bucket { id: format!("{:016x}", fnv1a(format!("{VERSION}:{text}").as_bytes())), version: VERSION, text }
}

fn status(facts: &Facts<'_>) -> String {
    if let Some(exception) = facts.exception() {
        return format!("{:#010x}", exception.code);
    }
    let kind = facts.stop.as_ref().and_then(|stop| {
        let selector = knowledge::bug_check(stop.base)?.subcode_param?;
        Some(format!("{:#x}", stop.arg(usize::from(selector))))
    });
    kind.unwrap_or_else(|| "-".to_owned())
}

fn place(facts: &Facts<'_>) -> String {
    let in_module = |address| facts.witness.module_at(address).map(|module| (module, address));
    let outside_kernel = || {
        let stack = facts.judged()?;
        stack.frames.iter().map(|frame| frame.instruction).find_map(in_module)
    };
    match facts.code_address().and_then(in_module).or_else(outside_kernel) {
        Some((module, address)) => format!("{}+{:#x}", module.image, address.0.wrapping_sub(module.base.0)),
        None => "-".to_owned(),
    }
}

/// FNV-1a, 64 bits: stable over versions and platforms, and nobody's secret.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_hash_is_fnv() {
        assert_eq!(super::fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(super::fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
