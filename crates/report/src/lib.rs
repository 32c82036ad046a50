//! A [`Report`] as text for a terminal, as Markdown for a forum, or as JSON for a program: three views of one verdict.
//!
//! *Promises*: the answer comes first and the facts behind it after; text and Markdown hold no control character and
//! no invisible mark but the line feed (and, where asked for, this crate's own colours), whatever a dump says of
//! itself; Markdown cannot be made to link, to mention, to carry HTML or to leave its fences; JSON leaves nothing out.
//! What is cut in text is counted. Nothing is said by colour alone.
//! *Must never know*: how the verdict was reached. Of the analysis it uses only the words for its classes.
//!
//! The wording follows `STYLE.md` in the root of the repository.

mod answer;
mod article;
mod escape;
mod facts;
mod json;
mod markdown;
mod modules;
mod paper;
mod series;
mod stacks;
mod table;
mod words;

pub use article::{Article, Section, article};
pub use json::schema;
pub use words::confidence_words;

use paper::Paper;
use std::io;
use std::str::FromStr;
use stopcode_case::{DumpReport, Report};

/// How a report is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Format {
    /// For a terminal.
    #[default]
    Text,
    /// For programs; [`schema`] describes it.
    Json,
    /// For a forum or an issue: a short form of less than 2,000 characters, a rule (`---`), then the details.
    Markdown,
}

impl Format {
    /// What [`Format::from_str`] takes, for the help of a host.
    pub const NAMES: [&'static str; 3] = ["text", "json", "markdown"];
}

/// The name of a format was not one of [`Format::NAMES`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a format; the formats are text, json and markdown")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "markdown" | "md" => Ok(Self::Markdown),
            other => Err(UnknownFormat(stopcode_base::visible(other))),
        }
    }
}

/// How text looks. Markdown and JSON look the same whatever is set here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    /// Use colours. The host decides: `NO_COLOR`, `--color`, whether the output is a terminal.
    pub colour: bool,
    /// Columns to wrap to; less than 80 count as 80. Call sites, paths and commands are never broken.
    pub width: usize,
}

impl Style {
    /// For files and pipes: no colour, 100 columns.
    #[must_use]
    pub const fn plain() -> Self {
        Self { colour: false, width: 100 }
    }

    /// For a terminal of unknown width; a host that knows the width sets [`Style::width`].
    #[must_use]
    pub const fn for_terminal(colour: bool) -> Self {
        Self { colour, ..Self::plain() }
    }
}

impl Default for Style {
    fn default() -> Self {
        Self::plain()
    }
}

/// Writes `report` as `format`, ending with one line feed. Fails only where `out` fails.
pub fn write(report: &Report, format: Format, style: &Style, out: &mut dyn io::Write) -> io::Result<()> {
    match format {
        Format::Text => out.write_all(text(report, *style).as_bytes()),
        Format::Json => json::write(report, out),
        Format::Markdown => out.write_all(markdown::report(report).as_bytes()),
    }
}

fn text(report: &Report, style: Style) -> String {
    let mut paper = Paper::new(style);
    match report {
        Report::One(dump) => one(dump, &mut paper),
        Report::Many(series) => series::write(series, &mut paper),
    }
    paper.finish()
}

/// One dump: the answer for the owner of the machine, why, then the facts for the analyst.
fn one(dump: &DumpReport, paper: &mut Paper) {
    answer::input(dump, paper);
    match &dump.verdict {
        Some(verdict) => {
            answer::verdict(&verdict.summary, &verdict.hypotheses, &verdict.next_steps, paper);
            answer::causes(&verdict.hypotheses, words::Addresses::of(dump), paper);
        }
        None => answer::unreadable(dump, paper),
    }
    facts::stop(dump, paper);
    facts::system(dump, paper);
    stacks::write(dump, paper);
    modules::loaded(dump, paper);
    modules::unloaded(dump, paper);
    facts::missing(dump, paper);
    facts::problems(dump, paper);
    facts::bucket(dump, paper);
}
