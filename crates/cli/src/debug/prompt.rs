//! The prompt: history, completion, Ctrl-C, a pager.

use super::write;
use anstyle::{AnsiColor, Style};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use stopcode_commands::{Answer, Session, Status, complete, run as run_line};

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
    while !session.borrow().is_over() {
        let prompt = format!("{} ", session.borrow().prompt());
        let line = match editor.readline(&prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.to_string()),
        };
        session.borrow().resume();
        let answers = run_line(&mut session.borrow_mut(), &line);
        for answer in &answers {
            if show(answer, colour).is_err() {
                return Ok(()); // the terminal went away
            }
        }
    }
    Ok(())
}

/// Prints an answer, page by page where it is longer than the screen.
fn show(answer: &Answer, colour: bool) -> io::Result<()> {
    let mut text = Vec::new();
    write(answer, &mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let style = match answer.status {
        Status::Answer => Style::new(),
        Status::Unknown => UNKNOWN,
        Status::Failed => FAILED,
    };
    let (columns, rows) = screen();
    let mut used = 0;
    let mut out = io::stdout().lock();
    let body = answer.text.lines().count();
    for (number, line) in text.lines().enumerate() {
        let takes = line.chars().count().div_ceil(columns).max(1);
        if used + takes >= rows {
            if !more(&mut out)? {
                break;
            }
            used = 0;
        }
        used += takes;
        if colour && number >= body {
            writeln!(out, "{style}{line}{style:#}")?;
        } else {
            writeln!(out, "{line}")?;
        }
    }
    out.flush()
}

/// Columns and rows of the terminal.
fn screen() -> (usize, usize) {
    let size = terminal_size::terminal_size();
    let (columns, rows) = size.map_or((80, 24), |(width, height)| (width.0, height.0));
    (usize::from(columns).max(20), usize::from(rows).max(5))
}

/// Waits at the end of a page; false if the reader wants no more.
fn more(out: &mut impl Write) -> io::Result<bool> {
    write!(out, "-- more: Return; q ends --")?;
    out.flush()?;
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer)?;
    Ok(read > 0 && !answer.trim().eq_ignore_ascii_case("q"))
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
