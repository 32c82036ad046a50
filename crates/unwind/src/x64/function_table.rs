//! The function table: which unwind data belongs to an address. (Microsoft, "x64 exception handling", RUNTIME_FUNCTION.)

use super::function::{Function, LONGEST_CHAIN, SIZE, resolve};
use super::unwind_info::{self, UnwindInfo};
use crate::{ImageView, Refusal};

/// So many entries are read at once at the end of a search.
const AT_ONCE: u32 = 8;

/// The entry that covers `rva`, by bisection: the table is sorted. Of one that is not, an entry may be missed, but
/// none is found that does not cover the address.
pub(crate) fn find(image: &ImageView<'_>, rva: u32) -> Result<Option<Function>, Refusal> {
    let (table, size) = image.pdata;
    let (mut low, mut high) = (0, size / SIZE);
    if high == 0 {
        return Err(Refusal::NoFunctionTable);
    }
    let place = |index: u32| {
        index.checked_mul(SIZE).and_then(|offset| table.checked_add(offset)).ok_or(Refusal::Malformed)
    };
    while low < high {
        if high - low <= AT_ONCE && place(high).is_ok() {
            return among(image, place(low)?, high - low, rva);
        }
        let middle = low + (high - low) / 2;
        let function = Function::read(image, place(middle)?)?;
        if function.contains(rva) {
            return resolve(image, function).map(Some);
        }
        if function.begin <= rva {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(None)
}

/// The one of `count` entries from `at` on that covers `rva`.
fn among(image: &ImageView<'_>, at: u32, count: u32, rva: u32) -> Result<Option<Function>, Refusal> {
    let mut bytes = [0; (AT_ONCE * SIZE) as usize];
    let bytes = bytes.get_mut(..(count * SIZE) as usize).ok_or(Refusal::Malformed)?;
    image.read(at, bytes).map_err(Refusal::DataMissing)?;
    let (entries, _) = bytes.as_chunks::<{ SIZE as usize }>();
    let covering = entries.iter().map(|entry| Function::of_bytes(*entry)).find(|entry| entry.contains(rva));
    covering.map(|function| resolve(image, function)).transpose()
}

/// The entry a chained one belongs to: the function's own.
pub(crate) fn primary(image: &ImageView<'_>, mut function: Function) -> Result<Function, Refusal> {
    for _ in 0..LONGEST_CHAIN {
        let info = UnwindInfo::read(image, function.info)?;
        match unwind_info::parent(image, &info)? {
            Some(parent) => function = parent,
            None => return Ok(function),
        }
    }
    Err(Refusal::ChainTooLong)
}
