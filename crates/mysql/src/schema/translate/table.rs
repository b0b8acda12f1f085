//! One table: its columns, keys and constraints in the target's words, and what that costs.
#![deny(clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use super::super::TableSchema;
use super::super::abilities::{Abilities, Ability};
use super::super::sql_text::{Kind, Token};
use super::super::table_text::{Class, Definition, TableText};
use super::collations::nearest;
use super::column::{self, Became};
use super::words::{calls, plain, replaced};
use super::{Change, Loss, options};
use crate::quote_name;

/// InnoDB's longest key.
const KEY_BYTES_MAX: u64 = 3072;

/// A table on its way.
pub(super) struct Table<'a> {
    pub(super) schema: &'a TableSchema,
    pub(super) create: &'a str,
    pub(super) to: &'a Abilities,
    /// From one flavour to the other; else another version of the same.
    pub(super) crosses: bool,
    /// The table's own in the target.
    pub(super) collation: Option<String>,
    /// Columns whose texts the new collation may find equal where the old one did not.
    pub(super) collide: BTreeSet<String>,
    /// The storage engine, where it becomes another.
    pub(super) engine: Option<&'static str>,
    /// Columns that hold the bytes of a text.
    bytes: BTreeSet<String>,
    gone: BTreeSet<String>,
    recollated: BTreeMap<String, String>,
    unique_on_text: Vec<String>,
    changes: Vec<String>,
    losses: Vec<(String, String)>,
}

impl Table<'_> {
    pub(super) fn change(&mut self, what: &str) {
        self.changes.push(what.to_owned());
    }

    pub(super) fn lose(&mut self, what: &str, why: &str) {
        self.losses.push((what.to_owned(), why.to_owned()));
    }

    pub(super) fn recollate(&mut self, old: &str, new: &str) {
        self.recollated.insert(old.to_owned(), new.to_owned());
    }

    /// The text of an expression, with collations the target has.
    pub(super) fn collated(&self, tokens: &[Token<'_>]) -> String {
        collated(self.create, tokens, self.to)
    }
}

/// Names of collations behind COLLATE become those the target has.
pub(super) fn collated(source: &str, tokens: &[Token<'_>], to: &Abilities) -> String {
    replaced(source, tokens, |at, token| {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        if !before.is_some_and(|before| before.is_word("COLLATE")) {
            return None;
        }
        let name = token.name()?;
        let charset = name.split('_').next()?;
        nearest(&name, charset, to).filter(|new| *new != name)
    })
}

/// What a table becomes: its text, or why it cannot be carried.
pub(super) fn translate(
    schema: &TableSchema,
    to: &Abilities,
    crosses: bool,
    names: &mut BTreeSet<(String, String)>,
    changes: &mut Vec<Change>,
    losses: &mut Vec<Loss>,
) -> Result<String, String> {
    let text = TableText::parse(&schema.create).map_err(|error| error.to_string())?;
    let charset = schema.collation.split('_').next().unwrap_or_default();
    let mut table = Table {
        schema,
        create: &schema.create,
        to,
        crosses,
        collation: nearest(&schema.collation, charset, to),
        collide: BTreeSet::new(),
        engine: None,
        bytes: BTreeSet::new(),
        gone: BTreeSet::new(),
        recollated: BTreeMap::new(),
        unique_on_text: Vec::new(),
        changes: Vec::new(),
        losses: Vec::new(),
    };
    let tail = options::translate(text.options, &mut table);
    let mut lines = Vec::new();
    for definition in text.definitions.iter().filter(|each| each.class == Class::Column) {
        let name = definition.tokens.first().and_then(Token::name).unwrap_or_default();
        let Some(column) = schema.column(&name) else {
            return Err(format!(
                "its column {} is not among those that were read",
                quote_name(&name)
            ));
        };
        match column::translate(definition, column, &mut table) {
            Became::Column { text, bytes } => {
                lines.push(text);
                if bytes {
                    table.bytes.insert(name);
                }
            }
            Became::Gone => drop(table.gone.insert(name)),
            Became::Impossible(why) => return Err(why),
        }
    }
    for definition in text.definitions.iter().filter(|each| each.class != Class::Column) {
        let line = match definition.class {
            Class::Column => None,
            Class::Check | Class::ForeignKey => constraint(definition, &mut table, names),
            Class::Other => other(definition, &mut table),
            _ => key(definition, &mut table),
        };
        lines.extend(line);
    }
    table.say(changes, losses);
    let name = quote_name(&schema.name);
    Ok(format!("CREATE TABLE {name} (\n  {}\n){tail}", lines.join(",\n  ")))
}

impl Table<'_> {
    fn say(self, changes: &mut Vec<Change>, losses: &mut Vec<Loss>) {
        let place = format!("{}.{}", self.schema.database, self.schema.name);
        let object = format!("table {place}");
        let keys = if self.unique_on_text.is_empty() {
            String::new()
        } else {
            format!(
                ", and two texts may count as equal in {}, in which case the load fails and names the table",
                self.unique_on_text.join(" and ")
            )
        };
        let recollated = self
            .recollated
            .into_iter()
            .map(|(old, new)| format!("collation {old} becomes {new}: the order of texts may differ{keys}"));
        changes.extend(recollated.chain(self.changes).map(|what| Change {
            object: object.clone(),
            what,
        }));
        losses.extend(self.losses.into_iter().map(|(what, why)| Loss {
            object: format!("{what} of {place}"),
            why,
        }));
    }
}

/// What is before a key's parentheses, between its commas, and behind.
type Parts<'t, 'a> = (&'t [Token<'a>], Vec<&'t [Token<'a>]>, &'t [Token<'a>]);

/// A key's columns and expressions, between the parentheses.
fn parts<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<Parts<'t, 'a>> {
    let open = tokens.iter().position(|token| token.is_symbol('('))?;
    let (mut depth, mut start, mut list) = (0_usize, open + 1, Vec::new());
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Symbol('(') => depth += 1,
            Kind::Symbol(')') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    list.push(tokens.get(start..at)?);
                    return Some((tokens.get(..open)?, list, tokens.get(at + 1..)?));
                }
            }
            Kind::Symbol(',') if depth == 1 => {
                list.push(tokens.get(start..at)?);
                start = at + 1;
            }
            _ => {}
        }
    }
    None
}

fn key(definition: &Definition<'_>, table: &mut Table<'_>) -> Option<String> {
    let Some((head, parts, tail)) = parts(&definition.tokens) else {
        return Some(plain(table.create, &definition.tokens));
    };
    let named = head.iter().find(|token| token.kind == Kind::Name);
    let label = match named.and_then(Token::name) {
        Some(name) => format!("key {}", quote_name(&name)),
        None => "primary key".to_owned(),
    };
    let unique =
        matches!(definition.class, Class::Primary) || head.first().is_some_and(|token| token.is_word("UNIQUE"));
    let unenforced = if unique {
        ", and nothing keeps its values apart"
    } else {
        ""
    };
    if head.first().is_some_and(|token| token.is_word("VECTOR")) && table.crosses {
        table.lose(&label, "keys on vectors are made in another way by the target");
        return None;
    }
    let mut head = plain(table.create, head);
    let overlaps = |part: &[Token<'_>]| part.iter().any(|token| token.is_word("OVERLAPS"));
    let mut texts = Vec::new();
    let mut octets = 0_u64;
    let mut large = false;
    for part in &parts {
        let Some(first) = part.first() else { continue };
        if overlaps(part) && !table.to.has(Ability::Periods) {
            let why =
                "the target has no periods, so nothing keeps those that overlap apart; it becomes an ordinary key";
            table.lose(&format!("WITHOUT OVERLAPS of {label}"), why);
            head = named.map_or_else(|| "KEY".to_owned(), |name| format!("KEY {}", name.text));
            continue;
        }
        if first.is_symbol('(') {
            if !table.to.has(Ability::FunctionalKeys) {
                table.lose(&label, &format!("the target has no keys on expressions{unenforced}"));
                return None;
            }
            if let Some(function) = calls(part).find(|function| table.to.missing_functions.contains(function)) {
                table.lose(&label, &format!("the target has no {function}(){unenforced}"));
                return None;
            }
            texts.push(table.collated(part));
            continue;
        }
        let name = first.name().unwrap_or_default();
        if table.gone.contains(&name) {
            continue;
        }
        let prefix = part.get(1).filter(|token| token.is_symbol('(')).and(part.get(2));
        if let Some(column) = table.schema.column(&name) {
            let kind = column.data_type.as_str();
            large |= prefix.is_none() && (kind.ends_with("text") || kind.ends_with("blob"));
            octets = octets.saturating_add(column.octet_length.filter(|_| prefix.is_none()).unwrap_or_default());
        }
        let in_bytes = table.bytes.contains(&name);
        if in_bytes && definition.class == Class::FullText {
            table.lose(&label, &format!("{} holds bytes now", first.text));
            return None;
        }
        let text = replaced(table.create, part, |at, token| {
            let characters = token.text.parse::<u64>().ok().filter(|_| at == 2 && in_bytes)?;
            Some(characters.saturating_mul(4).to_string())
        });
        if unique && table.collide.contains(&name) {
            table.unique_on_text.push(label.clone());
        }
        texts.push(text);
    }
    if texts.is_empty() {
        return None;
    }
    if unique && table.crosses && !table.to.mariadb && (large || octets > KEY_BYTES_MAX) {
        table.lose(
            &label,
            &format!("it is longer than the target's keys can be{unenforced}"),
        );
        return None;
    }
    table.unique_on_text.dedup();
    let mut text = format!("{head} ({})", texts.join(","));
    for word in key_options(tail, &label, table) {
        text.push(' ');
        text.push_str(&word);
    }
    Some(text)
}

/// What stands behind a key's columns.
fn key_options(tail: &[Token<'_>], label: &str, table: &mut Table<'_>) -> Vec<String> {
    let mut words = Vec::new();
    let mut kept: &[Token<'_>] = tail;
    let word = |at: usize, word: &str| tail.get(at).is_some_and(|token| token.is_word(word));
    for at in 0..tail.len() {
        let hidden = word(at, "INVISIBLE") || word(at, "IGNORED") && !(at > 0 && word(at - 1, "NOT"));
        let parser = word(at, "WITH") && word(at + 1, "PARSER");
        if !hidden && !parser {
            continue;
        }
        // Both are printed last.
        if kept.len() == tail.len() {
            kept = tail.get(..at).unwrap_or_default();
        }
        if hidden {
            let (ability, new) = if table.to.mariadb {
                (Ability::IgnoredKeys, "IGNORED")
            } else {
                (Ability::InvisibleKeys, "INVISIBLE")
            };
            if table.to.has(ability) {
                words.push(new.to_owned());
            } else {
                table.change(&format!("{label} is used by queries again: the target hides none"));
            }
        } else if let Some(name) = tail.get(at + 2).and_then(Token::name) {
            if table.to.text_parsers.contains(&name.to_ascii_lowercase()) {
                words.push(format!("WITH PARSER {}", quote_name(&name)));
            } else {
                let why = "the target does not have it, and finds words its own way";
                table.lose(&format!("parser {name} of {label}"), why);
            }
        }
    }
    let kept = plain(table.create, kept);
    if !kept.is_empty() {
        words.insert(0, kept);
    }
    words
}

fn constraint(
    definition: &Definition<'_>,
    table: &mut Table<'_>,
    names: &mut BTreeSet<(String, String)>,
) -> Option<String> {
    let tokens = &definition.tokens;
    let named = tokens.first().is_some_and(|token| token.is_word("CONSTRAINT"));
    let name = tokens.get(1).filter(|_| named).and_then(Token::name);
    let label = name
        .as_deref()
        .map_or_else(String::new, |name| format!(" {}", quote_name(name)));
    if definition.class == Class::Check {
        let ends_with = |count: usize, word: &str| {
            let at = tokens.len().checked_sub(count);
            at.and_then(|at| tokens.get(at))
                .is_some_and(|token| token.is_word(word))
        };
        if ends_with(1, "ENFORCED") && ends_with(2, "NOT") && !table.to.has(Ability::UnenforcedChecks) {
            table.lose(
                &format!("check{label}"),
                "it is not enforced, and the target enforces all",
            );
            return None;
        }
        if let Some(function) = calls(tokens).find(|function| table.to.missing_functions.contains(function)) {
            table.lose(&format!("check{label}"), &format!("the target has no {function}()"));
            return None;
        }
    }
    let text = table.collated(tokens);
    // MariaDB's names of checks are a table's own, MySQL's a database's.
    let Some(name) = name.filter(|_| table.crosses && !table.to.mariadb) else {
        return Some(text);
    };
    let made_by_server = definition.class == Class::Check && name.starts_with("CONSTRAINT_");
    let lower = format!("{:?} {}", definition.class, name.to_lowercase());
    let free = !made_by_server && names.insert((table.schema.database.clone(), lower));
    if free {
        return Some(text);
    }
    if !made_by_server {
        table.change(&format!(
            "constraint{label} gets another name: another table of the database has it"
        ));
    }
    Some(plain(table.create, tokens.get(2..).unwrap_or_default()))
}

/// Periods, and what is not known here.
fn other(definition: &Definition<'_>, table: &mut Table<'_>) -> Option<String> {
    let word = |at: usize, word: &str| definition.tokens.get(at).is_some_and(|token| token.is_word(word));
    if word(0, "PERIOD") && word(2, "SYSTEM_TIME") && !table.to.has(Ability::SystemVersioning) {
        return None;
    }
    if word(0, "PERIOD") && !table.to.has(Ability::Periods) {
        let name = definition.tokens.get(2).and_then(Token::name).unwrap_or_default();
        let why = "the target has none; its two columns stay";
        table.lose(&format!("period {}", quote_name(&name)), why);
        return None;
    }
    Some(plain(table.create, &definition.tokens))
}

/// The functions that the table's definition calls.
pub(super) fn functions(create: &str, found: &mut BTreeSet<String>) {
    let Ok(text) = TableText::parse(create) else { return };
    for definition in &text.definitions {
        match definition.class {
            Class::Column => column::functions(definition, found),
            Class::Check => found.extend(calls(&definition.tokens)),
            Class::Functional => {
                let parts = parts(&definition.tokens).map(|(_, parts, _)| parts).unwrap_or_default();
                parts.into_iter().for_each(|part| found.extend(calls(part)));
            }
            _ => {}
        }
    }
}

/// The text without foreign keys to these tables, and the names of those that were in it.
pub(super) fn without_references(
    schema: &TableSchema,
    gone: &dyn Fn(&str, &str) -> bool,
) -> Option<(String, Vec<String>)> {
    let text = TableText::parse(&schema.create).ok()?;
    let (mut names, mut lines) = (Vec::new(), Vec::new());
    for definition in &text.definitions {
        let at = definition.tokens.iter().position(|token| token.is_word("REFERENCES"));
        let name = |at: usize| definition.tokens.get(at).and_then(Token::name);
        if definition.class == Class::ForeignKey
            && let Some(at) = at
        {
            let far = definition.tokens.get(at + 2).is_some_and(|token| token.is_symbol('.'));
            let (database, table) = if far {
                (name(at + 1), name(at + 3))
            } else {
                (Some(schema.database.clone()), name(at + 1))
            };
            if gone(&database.unwrap_or_default(), &table.unwrap_or_default()) {
                names.push(name(1).unwrap_or_default());
                continue;
            }
        }
        lines.push(definition.text);
    }
    if names.is_empty() {
        return None;
    }
    let table = quote_name(&schema.name);
    Some((
        format!("CREATE TABLE {table} (\n  {}\n){}", lines.join(",\n  "), text.options),
        names,
    ))
}
