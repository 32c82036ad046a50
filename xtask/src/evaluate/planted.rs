//! Planted faults, hardware and software twins with the same stop code: which of them does the analyst tell apart?

use anyhow::{Context, anyhow};
use std::fmt;
use stopcode_analysis::{Class, Hypothesis, MachineWitness, judge};
use stopcode_dump::Dump;
use stopcode_kernel::Machine;
use stopcode_symbols::SymbolSource;
use stopcode_synth::plant::{self, Culprit, Truth, plant};
use stopcode_synth::triage;

/// A driver that is held for likelier than this is blamed.
const BLAMED: f64 = 0.5;

/// One planted machine, and what was said of it.
pub(super) struct Verdict {
    pub(super) truth: Truth,
    hypotheses: Vec<Hypothesis>,
}

impl Verdict {
    /// Plants, writes a small dump, reads it and judges it, with the driver's file at hand as its owner has it.
    pub(super) fn of(seed: u64, class: plant::Class) -> anyhow::Result<Self> {
        let (machine, truth) = plant(seed, class)?;
        let files = tempfile::tempdir()?;
        if let Some((name, bytes)) = truth.file_of_driver(&machine) {
            std::fs::write(files.path().join(name), bytes)?;
        }
        let dump = Dump::from_bytes(triage::write(&machine)?).map_err(|problem| anyhow!("{problem:?}"))?;
        let machine = Machine::new(dump, &SymbolSource::new([files.path().to_path_buf()]));
        Ok(Self { truth, hypotheses: judge(&MachineWitness::new(&machine)).hypotheses })
    }

    /// The lead is of the truth's kind, and if it names a driver, it is the right one.
    pub(super) fn is_right(&self) -> bool {
        let Some(lead) = self.hypotheses.first() else { return false };
        match &self.truth.culprit {
            Culprit::Driver(image) => {
                let named = module(lead).is_none_or(|module| image.eq_ignore_ascii_case(module));
                !is_hardware(lead.class) && lead.class != Class::Unknown && named
            }
            _ => is_hardware(lead.class),
        }
    }

    /// A driver is blamed for what the hardware did.
    pub(super) fn blames_a_victim(&self) -> bool {
        let blamed = |h: &Hypothesis| !is_hardware(h.class) && h.confidence >= BLAMED && module(h).is_some();
        self.truth.hardware && self.hypotheses.iter().any(blamed)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of seed {} ({})", self.truth.class.name(), self.truth.seed, self.truth.story)?;
        for h in self.hypotheses.iter().take(3) {
            let ground = h.supports.first().map_or("nothing", |item| item.text.as_str());
            write!(
                f,
                "\n    {:.2} {} {} for: {ground}",
                h.confidence,
                h.class.id(),
                module(h).unwrap_or("-")
            )?;
        }
        Ok(())
    }
}

fn module(hypothesis: &Hypothesis) -> Option<&str> {
    hypothesis.suspect.as_ref()?.module.as_deref()
}

const fn is_hardware(class: Class) -> bool {
    matches!(
        class,
        Class::MemoryHardware
            | Class::ProcessorHardware
            | Class::FirmwareBios
            | Class::StorageHardware
            | Class::OverheatingOrPower
    )
}

/// What became of the machines of one class.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) all: usize,
    pub(super) right: usize,
    pub(super) blamed: usize,
}

impl Tally {
    fn add(&mut self, verdict: &Verdict) {
        self.all += 1;
        self.right += usize::from(verdict.is_right());
        self.blamed += usize::from(verdict.blames_a_victim());
    }
}

/// Judges a machine of every class for each seed; `tell` hears of each verdict that is wrong.
pub(super) fn run(
    seeds: std::ops::Range<u64>,
    mut tell: impl FnMut(&Verdict),
) -> anyhow::Result<Vec<(plant::Class, Tally)>> {
    let mut table = Vec::new();
    for class in plant::Class::ALL {
        let mut tally = Tally::default();
        for seed in seeds.clone() {
            let verdict = Verdict::of(seed, class).with_context(|| format!("{class:?} of seed {seed}"))?;
            if !verdict.is_right() || verdict.blames_a_victim() {
                tell(&verdict);
            }
            tally.add(&verdict);
        }
        table.push((class, tally));
    }
    Ok(table)
}

/// The sum of all rows.
pub(super) fn total(table: &[(plant::Class, Tally)]) -> Tally {
    table.iter().fold(Tally::default(), |sum, (_, tally)| Tally {
        all: sum.all + tally.all,
        right: sum.right + tally.right,
        blamed: sum.blamed + tally.blamed,
    })
}

/// A row a pair, in Markdown.
pub(super) fn markdown(table: &[(plant::Class, Tally)]) -> String {
    let mut text =
        "| hardware | right | a driver blamed | its twin | right |\n|---|---|---|---|---|\n".to_owned();
    for pair in table.chunks(2) {
        let [(hardware, h), (driver, d)] = pair else { continue };
        text.push_str(&format!(
            "| {} | {} of {} | {} | {} | {} of {} |\n",
            hardware.name(),
            h.right,
            h.all,
            h.blamed,
            driver.name(),
            d.right,
            d.all
        ));
    }
    text
}
