//! The only place that prints: data to standard output, everything for people to standard error.
//!
//! A reader that goes away ends the output, not the program in a panic. Colour is for terminals without `NO_COLOR`.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::config::environment::variable;
use crate::exit::AppError;
use crate::live::Live;

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const CYAN: &str = "\x1b[1;36m";
const RESET: &str = "\x1b[0m";

/// How this run prints. Clones print to the same places.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    /// Standard error is a terminal.
    pub(crate) terminal: bool,
    pub(crate) color: bool,
    /// The bar that is drawn now; lines are written above it.
    bar: Arc<Mutex<Option<ProgressBar>>>,
    /// What is printed while work runs.
    live: Arc<Live>,
}

/// A body with its type, for verbs that print one object a line.
#[derive(Serialize)]
struct Record<'a, T> {
    r#type: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

impl Output {
    /// Decides before the arguments are parsed, so that what is wrong with them is told in the right form.
    pub(crate) fn from_arguments(arguments: impl Iterator<Item = OsString>) -> Self {
        let flags: Vec<OsString> = arguments.skip(1).take_while(|argument| argument != "--").collect();
        let given = |names: &[&str]| flags.iter().any(|flag| names.iter().any(|name| flag == name));
        let terminal = std::io::stderr().is_terminal();
        Self {
            json: given(&["--json"]),
            quiet: given(&["--quiet", "-q"]),
            terminal,
            color: terminal && variable("NO_COLOR").is_none(),
            bar: Arc::default(),
            live: Arc::default(),
        }
    }

    /// One line of data.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> Result<(), AppError> {
        let mut line = text.as_ref().to_owned();
        line.push('\n');
        self.data(&line)
    }

    /// Data that ends as it ends.
    pub(crate) fn data(&self, text: &str) -> Result<(), AppError> {
        self.live.finish();
        self.above_bar(|| {
            let mut stdout = std::io::stdout().lock();
            stdout
                .write_all(text.as_bytes())
                .and_then(|()| stdout.flush())
                .map_err(AppError::Output)
        })
    }

    /// One JSON object on one line.
    pub(crate) fn object(&self, body: &impl Serialize) -> Result<(), AppError> {
        let text = serde_json::to_string(body).map_err(|error| AppError::Output(error.into()))?;
        self.line(text)
    }

    /// One JSON object with its `type`, on one line.
    pub(crate) fn record(&self, kind: &str, body: &impl Serialize) -> Result<(), AppError> {
        self.object(&Record { r#type: kind, body })
    }

    /// The same while work runs: never waits for the reader, who misses lines when too many wait.
    pub(crate) fn live_record(&self, kind: &str, body: &impl Serialize) {
        if let Ok(line) = serde_json::to_string(&Record { r#type: kind, body }) {
            self.live.send(line);
        }
    }

    /// Columns for people, as data. `right` are the columns that hold numbers.
    pub(crate) fn table(&self, header: &[&str], right: &[usize], rows: &[Vec<String>]) -> Result<(), AppError> {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_header(header.iter().map(|name| name.to_uppercase()));
        table.add_rows(rows);
        for (number, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if right.contains(&number) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let text = table
            .lines()
            .fold(String::new(), |text, line| text + line.trim_end() + "\n");
        self.data(&text)
    }

    /// Labels and values for people, as data.
    pub(crate) fn pairs(&self, pairs: &[(String, String)]) -> Result<(), AppError> {
        let width = pairs.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        let text = pairs.iter().fold(String::new(), |text, (label, value)| {
            text + &format!("{label:width$}  {value}\n")
        });
        self.data(&text)
    }

    /// News for people.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.message(text.as_ref());
        }
    }

    /// The work went on with less.
    pub(crate) fn warn(&self, message: &str, hint: Option<&str>) {
        self.message(&format!("{} {message}", self.paint(YELLOW, "warning:")));
        self.hint(hint);
    }

    /// The work failed.
    pub(crate) fn error(&self, message: &str, details: &[String], hint: Option<&str>) {
        self.message(&format!("{} {message}", self.paint(RED, "error:")));
        for detail in details {
            self.message(&format!("  {detail}"));
        }
        self.hint(hint);
    }

    fn hint(&self, hint: Option<&str>) {
        if let Some(hint) = hint {
            self.message(&format!("{} {hint}", self.paint(CYAN, "hint:")));
        }
    }

    fn paint(&self, color: &str, text: &str) -> String {
        if self.color {
            format!("{color}{text}{RESET}")
        } else {
            text.to_owned()
        }
    }

    /// A line on standard error. One that cannot be written is lost: there is nowhere to say so.
    pub(crate) fn message(&self, text: &str) {
        self.write_message(format!("{text}\n").as_bytes());
    }

    /// Bytes on standard error, above the bar.
    pub(crate) fn write_message(&self, bytes: &[u8]) {
        self.above_bar(|| std::io::stderr().lock().write_all(bytes).ok());
    }

    /// Draws `bar` from now on, or none.
    pub(crate) fn set_bar(&self, bar: Option<ProgressBar>) {
        let old = std::mem::replace(&mut *self.bar.lock().unwrap_or_else(PoisonError::into_inner), bar);
        if let Some(old) = old {
            old.finish_and_clear();
        }
    }

    fn above_bar<T>(&self, write: impl FnOnce() -> T) -> T {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}
