//! What the analyst is held to, on the cases beside the repository; without them the tests say so and pass.

use super::*;
use std::io::Write as _;
use std::path::PathBuf;

fn cases() -> Vec<Case> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/cases"));
    if !folder.is_dir() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no cases at {}", folder.display());
        return Vec::new();
    }
    load(&folder).unwrap()
}

#[test]
fn known_causes_are_found_in_every_layout() {
    let cases = cases();
    if cases.is_empty() {
        return;
    }
    for (layout, damage) in SHAPES {
        let outcomes: Vec<Outcome> =
            judge_all(&cases, layout, damage, Kept::All).iter().map(Judged::outcome).collect();
        let figures = figures(&outcomes);
        let told = format!("{layout:?}/{damage:?}: {figures}");
        assert!(figures.balanced >= 0.75, "{told}");
        assert!(figures.named.0 * 10 >= figures.named.1 * 9, "{told}");
        assert!(figures.abstained * 100 <= figures.answerable * 15, "{told}");
        assert!(figures.sure * 100 >= figures.answerable * 30, "{told}");
        assert!(figures.sure_wrong * 20 <= figures.sure, "{told}");
        assert!(figures.bare_over <= 2, "{told}");
        assert!(figures.ece <= 0.12, "{told}");
    }
}

#[test]
fn weights_hold_on_projects_they_were_not_fitted_to() {
    let cases = cases();
    if cases.is_empty() {
        return;
    }
    let figures = figures(&out_of_project(&samples(&cases)));
    assert!(figures.balanced >= 0.75 && figures.ece <= 0.15, "{figures}");
    assert!(figures.sure_wrong * 20 <= figures.sure, "{figures}");
}

#[test]
fn the_weights_in_use_are_the_fitted_ones() {
    let cases = cases();
    if cases.is_empty() {
        return;
    }
    let samples: Vec<Sample> = samples(&cases).into_iter().map(|(_, sample)| sample).collect();
    let fitted = fit::fit(&samples);
    let near = |a: f64, b: f64| (a - b).abs() < 0.1;
    let used = Weights::FITTED;
    assert!(
        near(used.unknown, fitted.unknown)
            && near(used.further, fitted.further)
            && used.strengths.iter().zip(fitted.strengths).all(|(a, b)| near(*a, b))
            && used.classes.iter().zip(fitted.classes).all(|(a, b)| near(*a, b)),
        "in use {used:?}, fitted {fitted:.2?}"
    );
}

/// With less to go by, nobody may be surer on the whole, and nothing that becomes wrong may be sure.
#[test]
fn less_evidence_is_less_sure() {
    let cases = cases();
    if cases.is_empty() {
        return;
    }
    let with = |kept| -> Vec<Outcome> {
        judge_all(&cases, Layout::Kv, Damage::None, kept).iter().map(Judged::outcome).collect()
    };
    let all = with(Kept::All);
    let mean = |outcomes: &[Outcome]| {
        let answerable: Vec<f64> = outcomes.iter().filter(|o| !o.bare).map(|o| o.confidence).collect();
        answerable.iter().sum::<f64>() / answerable.len() as f64
    };
    for kept in [Kept::NoStack, Kept::NoModules, Kept::Arguments] {
        let less = with(kept);
        assert!(mean(&less) <= mean(&all) + 1e-9, "{kept:?}");
        for ((before, after), case) in all.iter().zip(&less).zip(&cases) {
            let newly = !after.right && (before.right || after.confidence > before.confidence);
            assert!(!newly || after.confidence < 0.8, "{} {kept:?}: {after:?}", case.id);
        }
    }
    assert!(mean(&with(Kept::Arguments)) < mean(&all) - 0.1);
    assert!(mean(&with(Kept::NoStack)) < mean(&all) - 0.1);
}

#[test]
fn a_case_is_read_back_from_every_layout() {
    let case: Case = serde_json::from_str(
        r#"{"id":"made-up","source_url":"https://github.com/Someone/thing/issues/1","bugcheck_code":"0xd1",
            "bugcheck_args":["0x8","0x2","0x0","0xfffff80000001000"],
            "stack":[{"symbol":"nt!KeBugCheckEx","child_sp":"fffff80000000000","ret_addr":"fffff80000000100"},
                     {"symbol":"guilty+0x10","child_sp":"fffff80000000080","ret_addr":"fffff80000000200"},
                     {"symbol":"nt!KiIdleLoop+0x5a","child_sp":"fffff80000000180","ret_addr":"0"}],
            "truth":{"class":"driver_bug","culprit_image":"guilty.sys","confidence":"high"}}"#,
    )
    .unwrap();
    assert_eq!(case.project(), "github.com/someone");
    for (layout, damage) in SHAPES {
        let judged = judge(&case, layout, damage, Kept::All);
        assert!(judged.outcome().right, "{layout:?} {damage:?}: {}", judged.reason());
        assert_eq!(judged.outcome().named, Some(true));
    }
    assert_eq!(judge(&case, Layout::K, Damage::None, Kept::NoStack).outcome().named, Some(false));
}
