//! Reads TOML tables by the list of keys and collects every mistake instead of stopping at the first.
//!
//! What a mistake says never holds a value that could be a secret: only keys, names and words from our own lists.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use ballast_base::{SecretRef, parse_duration};
use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Key, Kind, keys_in};

/// Something wrong in the file, where it is, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Mistake {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// One effective value and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Effective {
    pub(crate) key: String,
    pub(crate) value: Value,
    /// The line in the file; `None` is the default.
    pub(crate) line: Option<usize>,
}

/// A value with its place in the file. A default has the place of its table.
#[derive(Debug, Clone)]
pub(crate) struct Found<T> {
    pub(crate) value: T,
    pub(crate) at: usize,
}

/// What reading one file found out.
#[derive(Debug)]
pub(crate) struct Report<'t> {
    text: &'t str,
    mistakes: RefCell<Vec<Mistake>>,
    values: RefCell<Vec<Effective>>,
}

impl<'t> Report<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self {
            text,
            mistakes: RefCell::default(),
            values: RefCell::default(),
        }
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }

    pub(crate) fn mistake(&self, at: usize, message: impl Into<String>, hint: Option<String>) {
        let (line, column) = self.place(at);
        self.mistakes.borrow_mut().push(Mistake {
            line,
            column,
            message: message.into(),
            hint,
        });
    }

    /// The mistakes in the order of the file, or the effective values if there is none.
    pub(crate) fn finish(self) -> Result<Vec<Effective>, Vec<Mistake>> {
        let mut mistakes = self.mistakes.into_inner();
        if mistakes.is_empty() {
            return Ok(self.values.into_inner());
        }
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        Err(mistakes)
    }
}

/// One table of the file, read key by key.
#[derive(Debug)]
pub(crate) struct Section<'r> {
    report: &'r Report<'r>,
    /// The table's path in the list of keys.
    path: &'static str,
    /// The same with names instead of places, such as `source.orders`.
    label: String,
    /// `None` for a table that is absent.
    table: Option<&'r DeTable<'r>>,
    at: usize,
    read: RefCell<BTreeSet<&'static str>>,
}

impl<'r> Section<'r> {
    pub(crate) fn top(report: &'r Report<'r>, table: &'r DeTable<'r>) -> Self {
        Self {
            report,
            path: "",
            label: String::new(),
            table: Some(table),
            at: 0,
            read: RefCell::default(),
        }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn mistake(&self, at: usize, message: impl Into<String>, hint: Option<String>) {
        self.report.mistake(at, message, hint);
    }

    /// Whether the file itself gives `name` (a default does not count), and where.
    pub(crate) fn given(&self, name: &str) -> Option<usize> {
        self.table?.get_key_value(name).map(|(key, _)| key.span().start)
    }

    fn key(&self, name: &str) -> &'static Key {
        let key = keys_in(self.path)
            .find(|key| key.split().1 == name)
            .expect("the reader asks for listed keys only");
        self.read.borrow_mut().insert(key.split().1);
        key
    }

    fn full(&self, name: &str) -> String {
        if self.label.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.label)
        }
    }

    /// The value of `key` if it is there; a mistake if it is required and is not.
    fn find(&self, key: &'static Key) -> Option<&'r Spanned<DeValue<'r>>> {
        let name = key.split().1;
        let found = self.table.and_then(|table| table.get(name));
        if found.is_none() && key.required {
            let place = if self.label.is_empty() {
                String::new()
            } else {
                format!(" in \"{}\"", self.label)
            };
            self.mistake(
                self.at,
                format!("\"{name}\" is missing{place}"),
                Some(format!("{name}: {}", key.about)),
            );
        }
        found
    }

    fn record(&self, name: &str, value: Value, at: Option<usize>) {
        let line = at.map(|at| self.report.place(at).0);
        self.report.values.borrow_mut().push(Effective {
            key: self.full(name),
            value,
            line,
        });
    }

    fn wrong(&self, key: &Key, found: &Spanned<DeValue<'_>>, wanted: &str) {
        let name = key.split().1;
        self.mistake(
            found.span().start,
            format!("\"{name}\" must be {wanted}, not {}", kind_of(found.as_ref())),
            None,
        );
    }

    /// Reads a text, or what is written as one, and takes `parse`'s answer. The default goes the same way.
    fn parsed<T>(&self, name: &str, wanted: &str, parse: impl Fn(&str) -> Result<T, Problem>) -> Option<Found<T>> {
        let key = self.key(name);
        let Some(found) = self.find(key) else {
            let text = key.default?;
            self.record(name, json!(text), None);
            return parse(text).ok().map(|value| Found { value, at: self.at });
        };
        let at = found.span().start;
        let DeValue::String(text) = found.as_ref() else {
            self.wrong(key, found, wanted);
            return None;
        };
        match parse(text) {
            Ok(value) => {
                self.record(name, json!(text), Some(at));
                Some(Found { value, at })
            }
            Err(problem) => {
                self.mistake(at, format!("\"{name}\" {}", problem.message), problem.hint);
                None
            }
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<Found<String>> {
        self.parsed(name, "a text", |text| match text.trim() {
            "" => Err(Problem::new("is empty")),
            _ => Ok(text.to_owned()),
        })
    }

    /// A text that `check` must accept.
    pub(crate) fn checked(&self, name: &str, check: impl Fn(&str) -> Result<(), Problem>) -> Option<Found<String>> {
        self.parsed(name, "a text", |text| check(text).map(|()| text.to_owned()))
    }

    pub(crate) fn duration(&self, name: &str) -> Option<Found<Duration>> {
        self.parsed(name, "a duration such as \"30d\"", |text| {
            parse_duration(text).ok_or_else(|| {
                Problem::new("is not a duration")
                    .hint("a number and one of ms, s, m, h, d, w: \"90s\", \"1.5h\", \"30d\"")
            })
        })
    }

    pub(crate) fn choice(&self, name: &str) -> Option<Found<&'static str>> {
        let Kind::Choice(words) = self.key(name).kind else {
            return None;
        };
        self.parsed(name, "one of the words it knows", |text| {
            words.iter().find(|word| **word == text).copied().ok_or_else(|| {
                let hint = nearest(text, words.iter().copied()).map_or_else(
                    || format!("one of {}", words.join(", ")),
                    |word| format!("did you mean \"{word}\"?"),
                );
                Problem::new("is none of the words it knows").hint(hint)
            })
        })
    }

    pub(crate) fn flag(&self, name: &str) -> Option<Found<bool>> {
        let key = self.key(name);
        let Some(found) = self.find(key) else {
            let value = key.default? == "true";
            self.record(name, json!(value), None);
            return Some(Found { value, at: self.at });
        };
        let DeValue::Boolean(value) = found.as_ref() else {
            self.wrong(key, found, "true or false");
            return None;
        };
        let at = found.span().start;
        self.record(name, json!(value), Some(at));
        Some(Found { value: *value, at })
    }

    /// A whole number above zero.
    pub(crate) fn number(&self, name: &str) -> Option<Found<u64>> {
        let key = self.key(name);
        let found = self.find(key)?;
        let at = found.span().start;
        let value = match found.as_ref() {
            DeValue::Integer(number) => number.as_str().parse::<u64>().ok().filter(|number| *number > 0),
            _ => None,
        };
        if value.is_none() {
            self.mistake(at, format!("\"{name}\" must be a whole number above zero"), None);
        }
        let value = value?;
        self.record(name, json!(value), Some(at));
        Some(Found { value, at })
    }

    /// A list of texts; none if it is absent.
    pub(crate) fn texts(&self, name: &str) -> Vec<Found<String>> {
        let key = self.key(name);
        let Some(found) = self.find(key) else { return Vec::new() };
        let DeValue::Array(items) = found.as_ref() else {
            self.wrong(key, found, "a list of texts");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items {
            match item.as_ref() {
                DeValue::String(text) if !text.trim().is_empty() => {
                    texts.push(Found {
                        value: text.clone().into_owned(),
                        at: item.span().start,
                    });
                }
                DeValue::String(_) => self.mistake(item.span().start, format!("\"{name}\" holds an empty text"), None),
                _ => self.wrong(key, item, "a list of texts"),
            }
        }
        let shown: Vec<&str> = texts.iter().map(|text| text.value.as_str()).collect();
        self.record(name, json!(shown), Some(found.span().start));
        texts
    }

    pub(crate) fn secret(&self, name: &str) -> Option<Found<SecretRef>> {
        let key = self.key(name);
        let found = self.find(key)?;
        let at = found.span().start;
        let forms = || {
            Some(format!(
                "{name} = {{ env = \"NAME\" }}, {name} = {{ file = \"PATH\" }} (mode 0600) or \
                 {name} = {{ command = [\"PROGRAM\", \"ARGUMENT\"] }}"
            ))
        };
        let DeValue::Table(table) = found.as_ref() else {
            self.mistake(
                at,
                format!("\"{name}\" is a secret and must not be written here: say where it is kept"),
                forms(),
            );
            return None;
        };
        let mut entries = table.iter();
        let (Some((form, value)), None) = (entries.next(), entries.next()) else {
            self.mistake(
                at,
                format!("\"{name}\" needs exactly one of env, file and command"),
                forms(),
            );
            return None;
        };
        let secret = match (form.as_ref().as_ref(), value.as_ref()) {
            ("env", DeValue::String(text)) if !text.is_empty() => SecretRef::Env(text.clone().into_owned()),
            ("file", DeValue::String(text)) if !text.is_empty() => SecretRef::File(text.as_ref().into()),
            ("command", DeValue::Array(words)) if !words.is_empty() => {
                let argv: Option<Vec<String>> = words
                    .iter()
                    .map(|word| Some(word.as_ref().as_str()?.to_owned()))
                    .collect();
                let Some(argv) = argv else {
                    self.mistake(
                        value.span().start,
                        format!("\"{name}\": command must be a list of texts"),
                        forms(),
                    );
                    return None;
                };
                SecretRef::Command(argv)
            }
            ("env" | "file" | "command", _) => {
                self.mistake(
                    value.span().start,
                    format!("\"{name}\": {} is not written like this", form.as_ref()),
                    forms(),
                );
                return None;
            }
            _ => {
                self.mistake(
                    form.span().start,
                    format!("\"{name}\" needs exactly one of env, file and command"),
                    forms(),
                );
                return None;
            }
        };
        self.record(name, json!(secret), Some(at));
        Some(Found { value: secret, at })
    }

    /// A table of further keys; a missing one that is not required reads as an empty one, so that its defaults show.
    pub(crate) fn section(&self, name: &str, read: impl FnOnce(&Self)) {
        let key = self.key(name);
        let (table, at) = match self.find(key) {
            None if key.required => return,
            None => (None, self.at),
            Some(found) => match found.as_ref() {
                DeValue::Table(table) => (Some(table), self.header(name, found.span())),
                _ => return self.wrong(key, found, "a table"),
            },
        };
        let section = Section {
            report: self.report,
            path: key.path,
            label: self.full(name),
            table,
            at,
            read: RefCell::default(),
        };
        read(&section);
        section.finish();
    }

    /// Tables of further keys, `[[name]]`.
    pub(crate) fn sections(&self, name: &str, mut read: impl FnMut(&Self)) {
        let key = self.key(name);
        let Some(found) = self.find(key) else { return };
        let DeValue::Array(items) = found.as_ref() else {
            let at = self.header(name, found.span());
            let hint = Some(format!("write the header as [[{name}]]"));
            return self.mistake(at, format!("\"{name}\" can be there several times"), hint);
        };
        for (number, item) in items.iter().enumerate() {
            let DeValue::Table(table) = item.as_ref() else {
                self.wrong(key, item, "a list of tables");
                continue;
            };
            let named = table
                .get("name")
                .and_then(|name| name.as_ref().as_str())
                .filter(|name| !name.is_empty());
            let label = named.map_or_else(|| format!("{name}[{number}]"), |named| format!("{name}.{named}"));
            let at = item.span().start;
            let table = Some(table);
            let section = Section {
                report: self.report,
                path: key.path,
                label,
                table,
                at,
                read: RefCell::default(),
            };
            read(&section);
            section.finish();
        }
    }

    /// Passes over keys that only mean something elsewhere; one that is there all the same is a mistake.
    pub(crate) fn foreign(&self, names: &[&str], why: &str) {
        for name in names {
            self.key(name);
            if let Some(at) = self.given(name) {
                self.mistake(at, format!("\"{name}\" {why}"), None);
            }
        }
    }

    /// Where a table begins for people: its key if it has one at hand, else its own first byte.
    fn header(&self, name: &str, span: Range<usize>) -> usize {
        self.given(name).unwrap_or(span.start)
    }

    /// Names every key of the table that nobody knows.
    pub(crate) fn finish(&self) {
        debug_assert_eq!(
            keys_in(self.path).map(|key| key.split().1).collect::<BTreeSet<_>>(),
            *self.read.borrow(),
            "every listed key of \"{}\" is read",
            self.path
        );
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            let name = key.as_ref().as_ref();
            if keys_in(self.path).any(|known| known.split().1 == name) {
                continue;
            }
            let place = if self.label.is_empty() {
                String::new()
            } else {
                format!(" in \"{}\"", self.label)
            };
            let hint = nearest(name, keys_in(self.path).map(|key| key.split().1))
                .map(|known| format!("did you mean \"{known}\"?"))
                .or_else(|| {
                    Some(format!(
                        "it knows {}",
                        keys_in(self.path).map(|k| k.split().1).collect::<Vec<_>>().join(", ")
                    ))
                });
            self.mistake(key.span().start, format!("unknown key \"{name}\"{place}"), hint);
        }
    }
}

/// What is wrong with a value, without the value.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The known word that `text` was probably meant to be.
pub(crate) fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance_max = (text.chars().count() / 3).max(1);
    known
        .map(|word| (strsim::damerau_levenshtein(text, word), word))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
