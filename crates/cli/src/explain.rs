//! `stopcode explain`: what the tables know of a stop code, a status, a driver, a function or a matter.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use stopcode_base::visible;
use stopcode_knowledge as knowledge;
use stopcode_report::{Article, Section, Style, article};

/// Say what is known of a stop code, an NTSTATUS, a driver, a function, or of double faults.
///
/// Numbers are hexadecimal, with or without 0x. Nothing is fetched: the facts are those under knowledge/ in the sources.
#[derive(Args)]
#[command(after_help = "\
Examples:
  stopcode explain 7F
  stopcode explain UNEXPECTED_KERNEL_MODE_TRAP
  stopcode explain c0000005
  stopcode explain iaStor.sys
  stopcode explain nt!KiIpiSendRequest
  stopcode explain double-fault
  stopcode explain 9f --format json | jq '.[].arguments'

JSON is an array with one object for each thing of that name; its field `kind` is one of stop_code, status,
driver, function, topic.

Exit status: 0 something is known, 2 nothing is.")]
pub(crate) struct Arguments {
    /// A code, a name, an image, a function or a matter.
    #[arg(required = true, value_name = "WHAT")]
    what: Vec<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Shape::Text)]
    format: Shape,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shape {
    /// For a terminal.
    Text,
    /// For programs.
    Json,
}

/// Exit code where nothing is known.
const NOTHING: u8 = 2;
/// Subcodes shown in text.
const SHOWN: usize = 24;
/// Names suggested where nothing is known.
const SUGGESTED: usize = 5;

/// One thing that has the name: for readers and for programs.
struct Known {
    article: Article,
    plain: Option<&'static str>,
    json: Value,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let what = arguments.what.join(" ");
    let known = look_up(&what);
    if known.is_empty() {
        crate::analyze::say(&format!("error: nothing is known of {}", visible(&what)));
        let names = knowledge::names_with(&what, SUGGESTED);
        let hint = if names.is_empty() {
            let topics: Vec<&str> = knowledge::topics().collect();
            format!(
                "a stop code (7f), a status (c0000005), a name of one, an image (iaStor.sys), a function \
                 (nt!KiPageFault), or: {}",
                topics.join(", ")
            )
        } else {
            format!("perhaps {}", names.join(", "))
        };
        crate::analyze::say(&format!("hint: {hint}"));
    }
    match print(arguments.format, &known) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            crate::analyze::say(&format!("error: {error}"));
            ExitCode::from(NOTHING)
        }
        _ if known.is_empty() => ExitCode::from(NOTHING),
        _ => ExitCode::SUCCESS,
    }
}

fn print(shape: Shape, known: &[Known]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if let Shape::Json = shape {
        let all: Vec<&Value> = known.iter().map(|known| &known.json).collect();
        serde_json::to_writer_pretty(&mut out, &all)?;
        return writeln!(out);
    }
    let colour =
        io::stdout().is_terminal() && anstream::AutoStream::choice(&out) != anstream::ColorChoice::Never;
    for (index, known) in known.iter().enumerate() {
        let text =
            known.plain.map_or_else(|| article(&known.article, Style::for_terminal(colour)), str::to_owned);
        let before = if index > 0 { "\n" } else { "" };
        write!(out, "{before}{text}")?;
    }
    out.flush()
}

/// Everything of that name: a number may be a stop code and a status.
fn look_up(what: &str) -> Vec<Known> {
    let what = what.trim();
    let mut known = Vec::new();
    if let Some(text) = knowledge::topic(what) {
        known.push(topic(what, text));
    }
    if let Some(code) = number(what) {
        let base = knowledge::base_code(code).base;
        known.extend(knowledge::bug_check(base).map(|bug_check| stop_code(code, &bug_check)));
        known.extend(
            knowledge::ntstatus(code).filter(|_| code > 0xffff || known.is_empty()).map(|s| status(code, s)),
        );
    }
    known.extend(knowledge::bug_check_named(what).map(|bug_check| stop_code(bug_check.code, &bug_check)));
    known.extend(knowledge::ntstatus_named(what).map(|(code, found)| status(code, found)));
    known.extend(knowledge::functions_named(what).iter().map(function));
    let image = if what.contains('.') { what.to_owned() } else { format!("{what}.sys") };
    if number(what).is_none() || what.contains('.') {
        known.extend(knowledge::driver(&image).map(|found| driver(&image, &found)));
    }
    known
}

/// Hexadecimal, with or without `0x`; WinDbg's back quote is allowed.
fn number(what: &str) -> Option<u32> {
    let digits = what.strip_prefix("0x").or_else(|| what.strip_prefix("0X")).unwrap_or(what).replace('`', "");
    u32::from_str_radix(&digits, 16).ok()
}

fn item(mark: impl Into<String>, text: impl Into<String>) -> (String, String) {
    (mark.into(), text.into())
}

fn section(heading: &str, items: Vec<(String, String)>) -> Section {
    Section { heading: heading.to_owned(), items }
}

fn topic(name: &str, text: &'static str) -> Known {
    Known {
        article: Article::default(),
        plain: Some(text),
        json: json!({"kind": "topic", "name": name, "text": text}),
    }
}

fn stop_code(code: u32, known: &knowledge::BugCheck) -> Known {
    let mut lead = vec![known.summary.clone()];
    if code != known.code {
        lead.push(format!(
            "{code:x} is {:x} as small dumps record it: bit 28 only says that the code comes from one.",
            known.code
        ));
    }
    if known.live_dump {
        lead.push("Windows can write this report and go on: not every such dump is of a crash.".to_owned());
    }
    if !known.documented {
        lead.push(
            "Microsoft does not document this code; what is said here is read off its name.".to_owned(),
        );
    }
    let subcodes = knowledge::subcodes(known);
    let arguments =
        known.params.iter().zip(1..).map(|(param, n)| item(format!("Arg{n}  "), param.text.clone()));
    let mut values: Vec<(String, String)> =
        subcodes.iter().map(|subcode| item(format!("{:#x}: ", subcode.value), meaning(subcode))).collect();
    if values.len() > SHOWN {
        let rest = values.len() - SHOWN;
        values.truncate(SHOWN);
        values.push(item("", format!("… and {rest} more (--format json shows all)")));
    }
    let selector = known.subcode_param.map_or_else(String::new, |n| format!("What Arg{n} can be"));
    let causes: Vec<String> =
        known.typical_causes.iter().map(|cause| cause.as_str().replace('_', " ")).collect();
    let causes = if causes.is_empty() { Vec::new() } else { vec![item("", causes.join(", "))] };
    Known {
        article: Article {
            title: format!("{} ({:x})", known.name, known.code),
            lead,
            sections: vec![
                section("Arguments", arguments.collect()),
                section(&selector, values),
                section("Usually behind it, most often first", causes),
                section("Source", vec![item("", known.source.clone())]),
            ],
        },
        plain: None,
        json: json!({
            "kind": "stop_code",
            "code": format!("{:#x}", known.code),
            "name": known.name,
            "aliases": known.aliases,
            "summary": known.summary,
            "arguments": known.params.iter().map(|param| param.text.clone()).collect::<Vec<_>>(),
            "selected_by": known.subcode_param,
            "subcodes": subcodes.iter().map(|subcode| json!({
                "value": format!("{:#x}", subcode.value),
                "meaning": subcode.meaning,
                "rule": subcode.rule,
                "arguments": (1..=4).map(|n| subcode.param(n).map(|param| param.text.clone())).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "typical_causes": known.typical_causes.iter().map(|cause| cause.as_str()).collect::<Vec<_>>(),
            "live_dump": known.live_dump,
            "documented": known.documented,
            "source": known.source,
        }),
    }
}

/// What a subcode says, with the name of the rule and what the other arguments then are.
fn meaning(subcode: &knowledge::Subcode) -> String {
    let rule = subcode.rule.as_ref().map(|rule| format!(" (rule {rule})")).unwrap_or_default();
    let others: Vec<String> =
        (1..=4).filter_map(|n| Some(format!("Arg{n} {}", subcode.param(n)?.text))).collect();
    let others = if others.is_empty() { String::new() } else { format!(". {}", others.join("; ")) };
    format!("{}{rule}{others}", subcode.meaning)
}

fn status(code: u32, known: knowledge::NtStatus) -> Known {
    let meaning = known.meaning.unwrap_or("Its name says all that is known of it here.");
    Known {
        article: Article {
            title: format!("{} ({code:08x})", known.name),
            lead: vec![meaning.to_owned()],
            sections: Vec::new(),
        },
        plain: None,
        json: json!({"kind": "status", "code": format!("{code:#x}"), "name": known.name, "meaning": known.meaning}),
    }
}

fn driver(image: &str, known: &knowledge::Driver) -> Known {
    let origin = if known.inbox { "It comes with Windows." } else { "It does not come with Windows." };
    let mut facts = vec![item("Maker: ", known.vendor.clone())];
    if !known.product.is_empty() {
        facts.push(item("What it is: ", known.product.clone()));
    }
    facts.push(item("Role: ", known.role().as_str().replace('_', " ")));
    let mut problems = Vec::new();
    if let Some(problem) = &known.known_problem {
        problems.push(item("", problem.clone()));
        problems
            .extend(known.known_fixed_version.as_ref().map(|version| item("Mended in: ", version.clone())));
        problems.extend(known.problem_basis.as_ref().map(|basis| item("How this is known: ", basis.clone())));
    }
    if known.vulnerable {
        problems.push(item("", "Some of its versions are on the list of drivers that attackers use to reach the kernel (LOLDrivers). That says nothing about crashes."));
    }
    let alternative = known.inbox_alternative.iter().map(|other| {
        let note = other.note.as_ref().map(|note| format!(" {note}")).unwrap_or_default();
        item("", format!("Microsoft's {}, {}.{note}", other.driver, other.condition))
    });
    Known {
        article: Article {
            title: image.to_owned(),
            lead: vec![format!("{origin} This goes by its file name alone.")],
            sections: vec![
                section("Facts", facts),
                section("Worth knowing", problems),
                section("What can take its place", alternative.collect()),
                section("Confirmed by", vec![item("", known.sources.join(", "))]),
            ],
        },
        plain: None,
        json: json!({
            "kind": "driver",
            "image": known.image,
            "vendor": known.vendor,
            "product": known.product,
            "role": known.role().as_str(),
            "inbox": known.inbox,
            "known_problem": known.known_problem,
            "known_fixed_version": known.known_fixed_version,
            "problem_basis": known.problem_basis,
            "vulnerable": known.vulnerable,
            "inbox_alternative": known.inbox_alternative.as_ref().map(|other| json!({
                "driver": other.driver, "condition": other.condition, "note": other.note,
            })),
            "sources": known.sources,
        }),
    }
}

fn function(known: &knowledge::Function) -> Known {
    let blame = if known.blame_skip {
        "On a stack it is seldom the cause: look further down."
    } else {
        "On a stack it is worth stopping at."
    };
    let mut facts = vec![item("Part of: ", known.role.as_str().replace('_', " ")), item("", blame)];
    facts.extend(known.note.as_ref().map(|note| item("", note.clone())));
    facts.extend(known.verified.as_ref().map(|seen| item("Name confirmed by: ", seen.clone())));
    Known {
        article: Article {
            title: known.symbol.clone(),
            lead: vec![known.what.clone()],
            sections: vec![section("Facts", facts)],
        },
        plain: None,
        json: json!({
            "kind": "function",
            "symbol": known.symbol,
            "what": known.what,
            "role": known.role.as_str(),
            "blame_skip": known.blame_skip,
            "note": known.note,
            "verified": known.verified,
        }),
    }
}
