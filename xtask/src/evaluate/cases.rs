//! Real crashes as facts, with the cause that became known.

use anyhow::Context;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// One crash.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Case {
    pub(super) id: String,
    source_url: String,
    pub(super) bugcheck_code: String,
    pub(super) bugcheck_args: Vec<Option<String>>,
    pub(super) windows_build: Option<String>,
    pub(super) arch: Option<String>,
    pub(super) uptime: Option<String>,
    pub(super) process_name: Option<String>,
    pub(super) current_irql: Option<serde_json::Value>,
    pub(super) exception_code: Option<String>,
    pub(super) faulting_ip_symbol: Option<String>,
    pub(super) trap_frame_registers: Option<BTreeMap<String, serde_json::Value>>,
    pub(super) stack: Option<Vec<CaseFrame>>,
    pub(super) modules: Option<Vec<CaseModule>>,
    pub(super) extra: Option<BTreeMap<String, serde_json::Value>>,
    pub(super) truth: Truth,
}

/// A frame of its stack.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CaseFrame {
    pub(super) symbol: String,
    pub(super) child_sp: Option<String>,
    pub(super) ret_addr: Option<String>,
    pub(super) args: Option<Vec<String>>,
    pub(super) inline: bool,
}

/// A module of its list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CaseModule {
    pub(super) name: Option<String>,
    pub(super) start: Option<String>,
    pub(super) end: Option<String>,
    pub(super) image_path: Option<String>,
    pub(super) timestamp_iso: Option<String>,
}

/// What it was in the end.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Truth {
    pub(super) class: String,
    pub(super) culprit_image: Option<String>,
    pub(super) culprit_alternatives: Vec<serde_json::Value>,
    pub(super) confidence: String,
}

impl Truth {
    /// The images that are rightly named, without extension and in lower case.
    pub(super) fn culprits(&self) -> Vec<String> {
        let others = self.culprit_alternatives.iter().filter_map(|other| other.as_str());
        self.culprit_image
            .as_deref()
            .into_iter()
            .chain(others)
            .map(stem)
            .filter(|stem| !stem.is_empty())
            .collect()
    }
}

impl Case {
    /// Who published it: cases of one source resemble each other, and are left out together.
    pub(super) fn project(&self) -> String {
        let mut parts = self.source_url.split('/').filter(|part| !part.is_empty()).skip(1);
        let host = parts.next().unwrap_or_default();
        let owner = parts.next().filter(|_| host == "github.com").unwrap_or_default();
        format!("{host}/{owner}").to_lowercase()
    }

    /// Its frames without the bug check itself.
    pub(super) fn frames(&self) -> impl Iterator<Item = &CaseFrame> {
        let reporters = ["nt!KeBugCheck", "nt!KiBugCheckDispatch"];
        let stack = self.stack.iter().flatten();
        stack.filter(move |frame| !reporters.iter().any(|reporter| frame.symbol.starts_with(reporter)))
    }

    /// Nothing but a code and its arguments: no verdict can follow, and only claiming too much counts.
    pub(super) fn is_bare(&self) -> bool {
        self.frames().next().is_none()
            && self.faulting_ip_symbol.is_none()
            && self.trap_frame_registers.as_ref().is_none_or(BTreeMap::is_empty)
            && self.extra.as_ref().is_none_or(BTreeMap::is_empty)
            && self.modules.as_ref().map_or(0, Vec::len) < 5
    }

    /// A further fact by name, as text.
    pub(super) fn extra(&self, name: &str) -> Option<String> {
        let value = self.extra.as_ref()?.get(name)?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }
}

/// File name without path and extension, lower case; every kernel image is `nt`.
pub(super) fn stem(name: &str) -> String {
    let lower = name.replace('\\', "/").rsplit('/').next().unwrap_or_default().to_lowercase();
    let stem = lower.rsplit_once('.').map_or(lower.as_str(), |(stem, _)| stem);
    match stem {
        "ntoskrnl" | "ntkrnlmp" | "ntkrnlpa" => "nt".to_owned(),
        other => other.to_owned(),
    }
}

/// Every case of a folder whose truth is sure enough to be held against anybody, by name.
pub(super) fn load(folder: &Path) -> anyhow::Result<Vec<Case>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<_> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path)?;
        let case: Case = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        if case.truth.confidence != "low" {
            cases.push(case);
        }
    }
    Ok(cases)
}
