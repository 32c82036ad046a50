//! Many machines out of one, for benches and for tests that must not lean on one set of addresses.

use crate::machine::Machine;
use crate::{Error, Hex, number};
use serde_json::Value;

impl Machine {
    /// The same machine as another start of Windows would have it: kernel addresses slid as a whole, other times,
    /// and other time stamps of all modules but the kernel. The same seed gives the same machine; seed 0 slides by
    /// nothing but still changes the rest.
    ///
    /// # Errors
    /// [`Error::Json`] if the description cannot be taken apart and put together again, [`Error::Contradiction`] if it
    /// names files: what was recorded on a stack stays at its addresses.
    pub fn vary(&self, seed: u64) -> Result<Self, Error> {
        if self.modules.iter().any(|module| !module.file.is_empty()) {
            return Err(Error::Contradiction("other addresses than those of the recorded stacks".to_owned()));
        }
        // Steps of what one page directory covers keep apart what had page-table entries of its own.
        let slide = (mix(seed) % 32) * 0x4000_0000 * u64::from(seed != 0);
        let mut value = serde_json::to_value(self)?;
        shift(&mut value, slide, self.pte_base.0);
        let mut varied: Self = serde_json::from_value(value)?;
        varied.crash_time = self.crash_time.wrapping_add((mix(seed ^ 1) % 10_000_000) as u32);
        varied.uptime_seconds = (mix(seed ^ 2) % 1_000_000) as u32;
        for (n, module) in varied.modules.iter_mut().enumerate().skip(1) {
            module.time_stamp = Hex(mix(seed ^ n as u64) & 0xffff_ffff);
        }
        Ok(varied)
    }
}

/// Slides every kernel address in a description, but not the page tables: they move by their own index.
fn shift(value: &mut Value, slide: u64, pte_base: u64) {
    match value {
        Value::String(text) => {
            // The topmost 4 GiB are status codes with their sign extended, never addresses of anything described.
            let address = number::parse(text).filter(|n| n >> 47 == 0x1_ffff && n >> 32 != 0xffff_ffff);
            let table = |n: u64| n.wrapping_sub(pte_base) < 1 << 39;
            if let Some(address) = address.filter(|n| !table(*n)) {
                *text = format!("{:#x}", address.wrapping_add(slide));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| shift(item, slide, pte_base)),
        Value::Object(fields) => fields.values_mut().for_each(|field| shift(field, slide, pte_base)),
        _ => {}
    }
}

/// SplitMix64, the public-domain mixer: any seed gives a well-spread word.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
