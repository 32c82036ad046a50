//! What the DPC watchdog wrote down: the code that processors ran while deferred procedure calls took too long.
//!
//! Kernels from build 17763 on keep it at `KPRCB.DpcWatchdogProfile`, up to `DpcWatchdogProfileCurrentEmptyCapture`: return
//! addresses of one moment after another. (Source: the field names of public symbols.)

use crate::core::Core;
use crate::processors::all;
use crate::reading::object::Object;
use stopcode_base::{Fact, VirtAddr};

/// Of a processor's history no more is read.
const MOST: u64 = 0x1_0000;

/// The history of one processor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DpcHistory {
    /// The processor's number.
    pub processor: u32,
    /// Where the history begins.
    pub start: VirtAddr,
    /// Where it ends.
    pub end: VirtAddr,
    /// The addresses of code in it, in its order.
    pub code: Vec<VirtAddr>,
}

/// Those of all processors that have one; missing with the reason of the first if none has.
pub(crate) fn histories(core: &Core) -> Fact<Vec<DpcHistory>> {
    let mut source = None;
    let mut reason = None;
    let mut found = Vec::new();
    for (prcb, number) in all::prcbs(core) {
        match history(core, prcb, number) {
            Ok((history, from)) => {
                source.get_or_insert(from);
                found.push(history);
            }
            Err(why) => {
                reason.get_or_insert(why);
            }
        }
    }
    match source {
        Some(source) => Fact::known(found, source),
        None => Fact::missing(reason.unwrap_or_else(|| "the processors are not in this dump".to_owned())),
    }
}

fn history(core: &Core, prcb: VirtAddr, processor: u32) -> Result<(DpcHistory, String), String> {
    let prcb = Object::new(core, "_KPRCB", prcb);
    let known = |field| match prcb.pointer(field) {
        Fact::Known { value, source } => Ok((value, source.as_str().to_owned())),
        Fact::Missing { reason } => Err(reason.into_owned()),
    };
    let (start, source) = known("DpcWatchdogProfile")?;
    let (end, _) = known("DpcWatchdogProfileCurrentEmptyCapture")?;
    let size = end.offset_from(start).filter(|size| core.arch.is_kernel(start) && (1..=MOST).contains(size));
    let size = size.ok_or_else(|| format!("processor {processor} has written none down"))?;
    let bytes = core.memory().read_available(start, usize::try_from(size).unwrap_or(0));
    if bytes.is_empty() {
        return Err(format!("what processor {processor} wrote down at {start:#} is not in this dump"));
    }
    let (words, _) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| VirtAddr(u64::from_le_bytes(*word)));
    let code = words.filter(|at| core.arch.is_kernel(*at) && core.place(*at).image.is_some()).collect();
    Ok((DpcHistory { processor, start, end, code }, source))
}
