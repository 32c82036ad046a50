//! The prompt: history, completion, Ctrl-C, a pager.

use super::write;
use anstyle::{AnsiColor, Style};
use console::Key;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use stopcode_commands::{Answer, Invocation, Kind, Session, Status, complete, parse_line, run as run_line};

const PROMPT: Style = Style::new().bold();
const UNKNOWN: Style = AnsiColor::Yellow.on_default();
const FAILED: Style = AnsiColor::Red.on_default();

/// Asks for lines and runs them until `q`, Ctrl-D or the end of the input.
pub(super) fn run(session: Session, colour: bool) -> Result<(), String> {
    let cancel = session.cancel_flag();
    // Without a handler Ctrl-C ends the program, which is no reason not to start.
    let _ = ctrlc::set_handler(move || cancel.store(true, Ordering::Relaxed));
    let session = Rc::new(RefCell::new(session));
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(true).build();
    let mut editor: Editor<Prompt, DefaultHistory> =
        Editor::with_config(config).map_err(|error| error.to_string())?;
    editor.set_helper(Some(Prompt { session: Rc::clone(&session), colour }));
    let history = history();
    if let Some(path) = &history {
        // None yet, most of the time.
        let _ = editor.load_history(path);
    }
    let ended = ask(&mut editor, &session, colour);
    if let Some(path) = history {
        let saved = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        // A history that cannot be kept is no loss to this session.
        let _ = saved.map_err(ReadlineError::from).and_then(|()| editor.save_history(&path));
    }
    ended
}

fn ask(
    editor: &mut Editor<Prompt, DefaultHistory>,
    session: &RefCell<Session>,
    colour: bool,
) -> Result<(), String> {
    let mut last = String::new();
    while !session.borrow().is_over() {
        let prompt = format!("{} ", session.borrow().prompt());
        let line = match editor.readline(&prompt) {
            // As in WinDbg: an empty line does the last one again.
            Ok(line) if line.trim().is_empty() => last.clone(),
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.to_string()),
        };
        session.borrow().resume();
        let answers = run_line(&mut session.borrow_mut(), &line);
        last = again(&line);
        let mut page = Page::new();
        for answer in &answers {
            match page.show(answer, colour) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return Ok(()), // the terminal went away
            }
        }
    }
    Ok(())
}

/// What an empty line after `line` does: the same, but that `u` and those of `d` go on behind what they showed.
fn again(line: &str) -> String {
    match parse_line(line).as_deref() {
        Ok([Invocation { command, processor: None, .. }])
            if command.name.starts_with(['u', 'd'])
                && command
                    .parameters
                    .iter()
                    .all(|parameter| matches!(parameter.kind, Kind::Range { .. }))
                && command.name != "ub" =>
        {
            command.name.to_owned()
        }
        _ => line.to_owned(),
    }
}

/// What a line shows, page by page where that is longer than the screen.
struct Page {
    columns: usize,
    rows: usize,
    used: usize,
}

impl Page {
    fn new() -> Self {
        let size = terminal_size::terminal_size();
        let (columns, rows) = size.map_or((80, 24), |(width, height)| (width.0, height.0));
        Self { columns: usize::from(columns).max(20), rows: usize::from(rows).max(5), used: 0 }
    }

    /// Prints an answer; false if the reader wants no more.
    fn show(&mut self, answer: &Answer, colour: bool) -> io::Result<bool> {
        let mut text = Vec::new();
        write(answer, &mut text)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let style = match answer.status {
            Status::Answer => Style::new(),
            Status::Unknown => UNKNOWN,
            Status::Failed => FAILED,
        };
        let mut out = io::stdout().lock();
        let body = answer.text.lines().count();
        for (number, line) in text.lines().enumerate() {
            let takes = line.chars().count().div_ceil(self.columns).max(1);
            if self.used + takes >= self.rows {
                if !more(&mut out)? {
                    return Ok(false);
                }
                self.used = 0;
            }
            self.used += takes;
            if colour && number >= body {
                writeln!(out, "{style}{line}{style:#}")?;
            } else {
                writeln!(out, "{line}")?;
            }
        }
        out.flush()?;
        Ok(true)
    }
}

const MORE: &str = "-- more: any key; q ends --";

/// Waits for a key at the end of a page; false if the reader wants no more.
fn more(out: &mut impl Write) -> io::Result<bool> {
    write!(out, "{MORE}")?;
    out.flush()?;
    let key = console::Term::stdout().read_key_raw();
    write!(out, "\r{:width$}\r", "", width = MORE.len())?;
    out.flush()?;
    Ok(!matches!(key?, Key::Char('q' | 'Q') | Key::CtrlC | Key::Escape | Key::Unknown))
}

/// Where lines are kept between sessions: the user's state folder, as each system has it.
fn history() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = folder("XDG_STATE_HOME")
        .or_else(|| folder("LOCALAPPDATA"))
        .or_else(|| folder("HOME").map(|home| home.join(".local").join("state")))?;
    Some(base.join("stopcode").join("history"))
}

/// What the line editor asks.
struct Prompt {
    session: Rc<RefCell<Session>>,
    colour: bool,
}

impl Completer for Prompt {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(complete(&self.session.borrow(), line.get(..position).unwrap_or(line)))
    }
}

impl Highlighter for Prompt {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _default: bool) -> Cow<'b, str> {
        if self.colour { Cow::Owned(format!("{PROMPT}{prompt}{PROMPT:#}")) } else { Cow::Borrowed(prompt) }
    }
}

impl Hinter for Prompt {
    type Hint = String;
}

impl Validator for Prompt {}

impl Helper for Prompt {}
