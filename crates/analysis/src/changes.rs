//! Drivers that came, went or changed between the dumps of one machine.

use crate::facts::{Standing, standing};
use crate::witness::{Witness, WitnessKind};
use std::collections::BTreeMap;
use stopcode_base::FileTime;

/// The drivers of one dump that do not come with Windows.
#[derive(Clone, Debug, Default)]
pub struct Drivers {
    /// Loaded when it was written, by image name.
    loaded: BTreeMap<String, Loaded>,
    /// Unloaded before; Windows keeps twelve characters of the names.
    unloaded: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Loaded {
    stamp: Option<u32>,
    date: Option<FileTime>,
}

/// Names of unloaded drivers are cut to so many characters.
const KEPT: usize = 12;

impl Drivers {
    /// Those of a dump; `None` for a text, which shows the modules that somebody chose.
    pub fn of(witness: &dyn Witness) -> Option<Self> {
        if witness.kind() != WitnessKind::Dump || witness.modules().is_empty() {
            return None;
        }
        let foreign = witness.modules().iter().filter(|module| {
            // Copies of the disk's drivers, which write the dump or the hibernation file.
            let copy = module.image.starts_with("dump_") || module.image.starts_with("hiber_");
            standing(&module.image) == Standing::ThirdParty && !copy
        });
        let loaded = foreign.map(|module| {
            let loaded = Loaded { stamp: module.time_date_stamp, date: module.link_date.get() };
            (module.image.clone(), loaded)
        });
        Some(Self {
            loaded: loaded.collect(),
            unloaded: witness.unloaded().iter().map(|driver| driver.name.to_ascii_lowercase()).collect(),
        })
    }

    /// True if a driver is loaded, or was.
    pub(crate) fn has(&self, image: &str) -> bool {
        let is = |name: &String| name == image || name.len() == KEPT && image.starts_with(name.as_str());
        self.loaded.contains_key(image) || self.unloaded.iter().any(is)
    }
}

/// What became of a driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ChangeKind {
    /// Another file of the same name.
    Changed,
    /// Loaded from some dump on.
    Came,
    /// Loaded up to some dump.
    Went,
    /// Now loaded, now not.
    AtTimes,
}

/// A change, between two dumps that follow one another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DriverChange {
    /// The driver.
    pub image: String,
    /// What became of it.
    pub kind: ChangeKind,
    /// The last dump before it; its place among those given. The first of all for [`ChangeKind::AtTimes`].
    pub before: usize,
    /// The first dump after it. The last of all for [`ChangeKind::AtTimes`].
    pub after: usize,
    /// When the file before was linked, where its stamp is a date.
    pub linked_before: Option<FileTime>,
    /// When the file after was.
    pub linked_after: Option<FileTime>,
    /// In how many dumps it is loaded.
    pub loaded_in: usize,
}

/// The changes between dumps given in the order of time; those without drivers are passed over.
pub fn driver_changes(dumps: &[Option<&Drivers>]) -> Vec<DriverChange> {
    let known: Vec<(usize, &Drivers)> =
        (0..).zip(dumps).filter_map(|(place, drivers)| Some((place, (*drivers)?))).collect();
    let mut images: Vec<&String> = known.iter().flat_map(|(_, drivers)| drivers.loaded.keys()).collect();
    images.sort_unstable();
    images.dedup();
    let mut changes: Vec<DriverChange> = images.into_iter().flat_map(|image| of_one(image, &known)).collect();
    changes.sort_by_key(|change| (change.kind == ChangeKind::AtTimes, change.after, change.kind));
    changes
}

/// What became of one driver.
fn of_one(image: &str, dumps: &[(usize, &Drivers)]) -> Vec<DriverChange> {
    let files: Vec<(usize, Option<&Loaded>)> =
        dumps.iter().map(|(place, drivers)| (*place, drivers.loaded.get(image))).collect();
    let loaded_in = files.iter().filter(|(_, file)| file.is_some()).count();
    let change = |kind, (before, old): (usize, Option<&Loaded>), (after, new): (usize, Option<&Loaded>)| {
        let date = |file: Option<&Loaded>| file.and_then(|file| file.date);
        let (linked_before, linked_after) = (date(old), date(new));
        DriverChange { image: image.to_owned(), kind, before, after, linked_before, linked_after, loaded_in }
    };
    let mut changes = Vec::new();
    for pair in files.windows(2) {
        let [old, new] = pair else { continue };
        let kind = match (old.1, new.1) {
            (None, Some(_)) => ChangeKind::Came,
            (Some(_), None) => ChangeKind::Went,
            (Some(one), Some(other))
                if one.stamp.is_some() && other.stamp.is_some() && one.stamp != other.stamp =>
            {
                ChangeKind::Changed
            }
            _ => continue,
        };
        changes.push(change(kind, *old, *new));
    }
    let moves = changes.iter().filter(|change| change.kind != ChangeKind::Changed).count();
    if moves > 1
        && let (Some(first), Some(last)) = (files.first(), files.last())
    {
        changes.retain(|change| change.kind == ChangeKind::Changed);
        changes.push(change(ChangeKind::AtTimes, *first, *last));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn drivers(of: &[&str]) -> Drivers {
        let fake = of.iter().fold(Fake::new(0xd1, [0; 4]), |fake, image| fake.module(image));
        Drivers::of(&fake).unwrap()
    }

    fn changes(dumps: &[Drivers]) -> Vec<(String, ChangeKind, usize, usize)> {
        let dumps: Vec<Option<&Drivers>> = dumps.iter().map(Some).collect();
        driver_changes(&dumps).into_iter().map(|c| (c.image, c.kind, c.before, c.after)).collect()
    }

    #[test]
    fn drivers_come_go_and_change() {
        let mut newer = drivers(&["stays.sys", "comes.sys"]);
        newer.loaded.get_mut("stays.sys").unwrap().stamp = Some(2);
        let mut first = drivers(&["stays.sys", "goes.sys", "disk.sys"]);
        first.loaded.get_mut("stays.sys").unwrap().stamp = Some(1);
        assert_eq!(
            changes(&[first.clone(), newer.clone(), newer.clone()]),
            [
                ("stays.sys".to_owned(), ChangeKind::Changed, 0, 1),
                ("comes.sys".to_owned(), ChangeKind::Came, 0, 1),
                ("goes.sys".to_owned(), ChangeKind::Went, 0, 1),
            ]
        );
        assert_eq!(changes(&[newer.clone(), newer]), []);
    }

    #[test]
    fn what_comes_and_goes_is_said_once_and_texts_are_passed_over() {
        let (with, without) = (drivers(&["tool.sys"]), drivers(&["x.sys"]));
        let list = [Some(&with), Some(&without), None, Some(&with)];
        let tool = driver_changes(&list).into_iter().find(|change| change.image == "tool.sys").unwrap();
        assert_eq!((tool.kind, tool.loaded_in, tool.before, tool.after), (ChangeKind::AtTimes, 2, 0, 3));
        assert!(Drivers::of(&Fake::new(0xd1, [0; 4]).text().module("x.sys")).is_none());
    }

    #[test]
    fn an_unloaded_driver_was_there() {
        let drivers =
            Drivers { unloaded: vec!["verylongname".into(), "gone.sys".into()], ..Drivers::default() };
        assert!(drivers.has("verylongname.sys") && drivers.has("gone.sys"));
        assert!(!drivers.has("verylong.sys") && !drivers.has("other.sys"));
    }
}
