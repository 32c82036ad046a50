//! What tells one machine from another.

use std::collections::BTreeSet;
use stopcode_analysis::Witness;
use stopcode_base::Arch;
use stopcode_knowledge as knowledge;

/// Two dumps of one machine share at least this part of their third-party drivers.
const SAME_DRIVERS: f64 = 0.5;
/// Fewer drivers than this say nothing.
const FEW_DRIVERS: usize = 5;

/// What tells one machine from another.
pub(crate) struct Identity {
    arch: Option<Arch>,
    processors: Option<u32>,
    processor: Option<String>,
    model: Option<String>,
    /// Drivers that do not come with Windows.
    drivers: BTreeSet<String>,
}

impl Identity {
    pub(crate) fn of(witness: &dyn Witness) -> Self {
        let system = witness.system();
        let third_party = |image: &str| !knowledge::driver(image).is_some_and(|driver| driver.inbox);
        Self {
            arch: system.arch,
            processors: system.processors,
            processor: system.processor_name.clone(),
            model: system.machine.clone(),
            drivers: witness
                .modules()
                .iter()
                .map(|m| m.image.clone())
                .filter(|image| third_party(image))
                .collect(),
        }
    }

    /// The part of drivers that both have, of those that either has.
    fn shared_drivers(&self, other: &Self) -> Option<f64> {
        let all = self.drivers.union(&other.drivers).count();
        let enough = self.drivers.len() >= FEW_DRIVERS && other.drivers.len() >= FEW_DRIVERS;
        enough.then(|| self.drivers.intersection(&other.drivers).count() as f64 / all as f64)
    }

    /// True if nothing speaks against one machine and enough speaks for it.
    pub(crate) fn same_machine(&self, other: &Self) -> bool {
        fn differ<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            matches!((a, b), (Some(a), Some(b)) if a != b)
        }
        fn agree<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            matches!((a, b), (Some(a), Some(b)) if a == b)
        }
        if differ(self.arch.as_ref(), other.arch.as_ref())
            || differ(self.processors.as_ref(), other.processors.as_ref())
            || differ(self.processor.as_ref(), other.processor.as_ref())
            || differ(self.model.as_ref(), other.model.as_ref())
        {
            return false;
        }
        let drivers = self.shared_drivers(other);
        let hardware = agree(self.model.as_ref(), other.model.as_ref())
            && agree(self.processor.as_ref(), other.processor.as_ref());
        // Same model and processor alone may be two machines of one make: their drivers must not differ wholly.
        drivers.is_some_and(|share| share >= SAME_DRIVERS)
            || hardware && drivers.is_none_or(|share| share >= SAME_DRIVERS / 2.0)
    }

    /// What to call the machine.
    pub(crate) fn name(&self) -> String {
        match (&self.model, &self.processor) {
            (Some(model), _) => stopcode_base::visible(model),
            (None, Some(processor)) => stopcode_base::visible(processor),
            (None, None) => "a machine".to_owned(),
        }
    }
}

/// What the members have in common, in words.
pub(crate) fn in_common(identities: &[&Identity]) -> Vec<String> {
    let [first, rest @ ..] = identities else { return Vec::new() };
    if rest.is_empty() {
        return vec!["one dump: nothing to group".to_owned()];
    }
    let mut words = Vec::new();
    if let Some(model) =
        first.model.as_ref().filter(|model| rest.iter().all(|other| other.model.as_ref() == Some(model)))
    {
        words.push(format!("maker and model {}", stopcode_base::visible(model)));
    }
    if let Some(name) = first
        .processor
        .as_ref()
        .filter(|name| rest.iter().all(|other| other.processor.as_ref() == Some(name)))
    {
        words.push(format!("processor {}", stopcode_base::visible(name)));
    }
    if let Some(count) = first.processors {
        words.push(format!("{count} processors"));
    }
    let least = rest.iter().filter_map(|other| first.shared_drivers(other)).fold(f64::INFINITY, f64::min);
    if least.is_finite() {
        words.push(format!("at least {:.0} % of the drivers that do not come with Windows", least * 100.0));
    }
    words
}
