//! One input to one verdict: the straight path, `file → Dump → Machine → Witness → Verdict → report`.

use crate::archive::{self, Format, Member};
use crate::describe;
use crate::identity::Identity;
use crate::input::{self, Content, Input};
use crate::report::{DumpReport, InputReport};
use rayon::prelude::*;
use std::path::Path;
use stopcode_analysis::{Drivers, MachineWitness, Verdict, Witness, judge as weigh};
use stopcode_base::{FileTime, Problem, Severity};
use stopcode_dump::{Dump, OpenError};
use stopcode_kernel::Machine;
use stopcode_symbols::SymbolSource;
use stopcode_transcript as transcript;

/// One input, judged; what the joint verdict needs is kept beside its report.
pub(crate) struct Judged {
    pub(crate) report: DumpReport,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) identity: Option<Identity>,
    pub(crate) time: Option<FileTime>,
    pub(crate) drivers: Option<Drivers>,
}

/// Reads and judges one input; a text may hold several crashes.
pub(crate) fn judge(input: Input, symbols: &SymbolSource) -> Vec<Judged> {
    let name = input.name;
    match input.content {
        Content::File(path) => file(&name, &path, symbols),
        Content::Bytes(bytes) => of_bytes(&name, bytes, symbols),
        Content::Member { archive, index, size } => {
            let content = archive::unpack_zip(&archive, index, size);
            of_member(&name, size, content, symbols)
        }
        Content::Archive { path, format } => {
            let size = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            of_archive(&name, size, archive::unpack_file(format, &path), |name, member| {
                of_member(name, member.size, member.content, symbols)
            })
        }
        Content::Failed(problem) => vec![failed(&name, "unreadable", 0, problem)],
    }
}

/// Every member of an archive, or the reason why there is none.
fn of_archive(
    name: &str,
    size: u64,
    members: Result<Vec<Member>, Problem>,
    judge: impl Fn(&str, Member) -> Vec<Judged> + Sync,
) -> Vec<Judged> {
    match members {
        Ok(members) if members.is_empty() => {
            let problem = Problem::new(Severity::Error, "archive", "holds no dump and no text")
                .with_hint("members ending in .dmp, .mdmp, .hdmp, .kdmp, .txt or .log are read");
            vec![failed(name, "unreadable", size, problem)]
        }
        Ok(members) => members
            .into_par_iter()
            .flat_map_iter(|member| judge(&format!("{name}!{}", member.name), member))
            .collect(),
        Err(problem) => vec![failed(name, "unreadable", size, problem)],
    }
}

/// A member of an archive: a dump, a text, or once more an archive.
fn of_member(
    name: &str,
    size: u64,
    content: Result<Vec<u8>, Problem>,
    symbols: &SymbolSource,
) -> Vec<Judged> {
    let bytes = match content {
        Ok(bytes) => bytes,
        Err(problem) => return vec![failed(name, "unreadable", size, problem)],
    };
    let Some(format) = Format::of(&bytes) else { return of_bytes(name, bytes, symbols) };
    of_archive(name, size, archive::unpack_bytes(format, bytes, name), |name, member| match member.content {
        Ok(bytes) => of_bytes(name, bytes, symbols),
        Err(problem) => vec![failed(name, "unreadable", member.size, problem)],
    })
}

fn file(name: &str, path: &Path, symbols: &SymbolSource) -> Vec<Judged> {
    let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    match Dump::open(path) {
        Ok(dump) => vec![of_dump(name, dump, symbols)],
        Err(error @ OpenError::NotADump { .. }) => match input::read_small(path) {
            Ok(Some(bytes)) if transcript::looks_like_text(&bytes) => texts(name, &bytes),
            _ => vec![not_opened(name, size, &error)],
        },
        Err(error) => vec![not_opened(name, size, &error)],
    }
}

fn of_bytes(name: &str, bytes: Vec<u8>, symbols: &SymbolSource) -> Vec<Judged> {
    let size = bytes.len() as u64;
    if !bytes.starts_with(b"PAGE") && transcript::looks_like_text(&bytes) {
        return texts(name, &bytes);
    }
    match Dump::from_bytes(bytes) {
        Ok(dump) => vec![of_dump(name, dump, symbols)],
        Err(error) => vec![not_opened(name, size, &error)],
    }
}

fn of_dump(name: &str, dump: Dump, symbols: &SymbolSource) -> Judged {
    let input = InputReport {
        path: stopcode_base::visible(name),
        kind: dump.kind_id().to_owned(),
        size: dump.file_size(),
    };
    let machine = Machine::new(dump, symbols);
    let witness = MachineWitness::new(&machine);
    let verdict = weigh(&witness);
    let problems: Vec<Problem> =
        machine.problems().iter().cloned().chain(symbol_problems(&machine, symbols)).collect();
    let mut report = describe::dump_report(input, &witness, &verdict, &problems);
    report.secondary_data = describe::secondary_data(machine.dump());
    Judged {
        report,
        identity: Some(Identity::of(&witness)),
        time: machine.system().crash_time.get(),
        drivers: Drivers::of(&witness),
        verdict: Some(verdict),
    }
}

/// What was wrong with the symbols that were given, and whether they helped.
fn symbol_problems(machine: &Machine, symbols: &SymbolSource) -> Vec<Problem> {
    let mut problems = symbols.problems().to_vec();
    let files = symbols.candidates().len();
    if files > 0 && machine.build().names.is_none() {
        let text = format!(
            "none of the {files} symbol files is exactly this kernel's; {}",
            machine.build().fingerprint
        );
        problems.push(
            Problem::new(Severity::Note, "symbols", text)
                .with_hint("names are given from exactly matching symbols only"),
        );
    }
    problems
}

fn texts(name: &str, bytes: &[u8]) -> Vec<Judged> {
    let size = bytes.len() as u64;
    let crashes = match transcript::parse(bytes) {
        Ok(crashes) => crashes,
        Err(error) => {
            let problem = Problem::new(Severity::Error, "text", error.to_string()).with_hint(
                "paste the output of `!analyze -v`, and of `k`, `lmvm` or `!thread` where you have it",
            );
            return vec![failed(name, "text", size, problem)];
        }
    };
    let many = crashes.len() > 1;
    crashes
        .iter()
        .enumerate()
        .map(|(index, crash)| {
            let path = if many { format!("{name}#{}", index + 1) } else { name.to_owned() };
            let input = InputReport { path: stopcode_base::visible(&path), kind: "text".to_owned(), size };
            let verdict = weigh(crash);
            Judged {
                report: describe::dump_report(input, crash, &verdict, &[]),
                identity: Some(Identity::of(crash)),
                time: crash.system().crash_time.get(),
                drivers: None,
                verdict: Some(verdict),
            }
        })
        .collect()
}

fn not_opened(name: &str, size: u64, error: &OpenError) -> Judged {
    let problem = Problem::new(Severity::Error, "file", error.to_string()).with_hint(error.hint());
    failed(name, "unreadable", size, problem)
}

fn failed(name: &str, kind: &str, size: u64, problem: Problem) -> Judged {
    let input = InputReport { path: stopcode_base::visible(name), kind: kind.to_owned(), size };
    let report = describe::unreadable(input, &[problem]);
    Judged { report, verdict: None, identity: None, time: None, drivers: None }
}
