//! A CREATE TABLE as SHOW CREATE TABLE prints it, taken apart: so that rows can be loaded before the keys they do not need,
//! under another name where that is wanted.
//!
//! Nothing of the text is changed but names of tables, a column's collation that is the table's anyway and, unless they are
//! to be kept, the places of files: else each definition is the server's own words, only its place differs.
#![deny(clippy::indexing_slicing)]

mod definition;

use definition::replace_table;
pub(super) use definition::{Class, Definition};

use super::sql_text::{Kind, Token, tokens};
use super::{KeyPart, Naming};
use crate::{MysqlError, quote_name, quote_table};

/// Tablespaces every server has.
const OWN_TABLESPACES: [&str; 3] = ["innodb_system", "innodb_file_per_table", "innodb_temporary"];

/// One table's statements, to run in this order: `create`, the rows, `keys`, and when all tables have come so far
/// `foreign_keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableStatements {
    /// With the primary key, and the keys that AUTO_INCREMENT, partitions and finding a row need.
    pub create: String,
    /// ALTER TABLE with the other keys. More than one statement where one would make the server copy the table.
    pub keys: Vec<String>,
    pub foreign_keys: Option<String>,
}

/// The parts of the text.
#[derive(Debug, Clone)]
pub(super) struct TableText<'a> {
    pub(super) definitions: Vec<Definition<'a>>,
    /// All after the closing parenthesis.
    pub(super) options: &'a str,
}

impl<'a> TableText<'a> {
    pub(super) fn parse(create: &'a str) -> Result<Self, MysqlError> {
        let broken = || MysqlError::protocol(format!("the text of a table: {create:.200}"));
        let all = tokens(create);
        let open = all
            .iter()
            .position(|token| token.is_symbol('('))
            .filter(|_| all.first().is_some_and(|token| token.is_word("CREATE")))
            .ok_or_else(broken)?;
        let (mut definitions, mut depth, mut part) = (Vec::new(), 0_usize, Vec::new());
        for token in all.into_iter().skip(open) {
            match token.kind {
                Kind::Symbol('(') => {
                    depth += 1;
                    if depth == 1 {
                        continue;
                    }
                }
                Kind::Symbol(')') => {
                    // It began at an opening one, so it is not zero.
                    depth -= 1;
                    if depth == 0 {
                        definitions.push(Definition::new(create, part, token.at.start).ok_or_else(broken)?);
                        let options = create.get(token.at.end..).ok_or_else(broken)?;
                        return Ok(Self { definitions, options });
                    }
                }
                Kind::Symbol(',') if depth == 1 => {
                    definitions
                        .push(Definition::new(create, std::mem::take(&mut part), token.at.start).ok_or_else(broken)?);
                    continue;
                }
                _ => {}
            }
            part.push(token);
        }
        Err(broken())
    }

    pub(super) fn primary_key(&self) -> Vec<KeyPart> {
        let key = self.of(Class::Primary).next();
        key.and_then(Definition::parts).unwrap_or_default()
    }

    /// Unique keys by name; those with an expression are not among them.
    pub(super) fn unique_keys(&self) -> impl Iterator<Item = (String, Vec<KeyPart>)> {
        let key = |key: &Definition<'_>| Some((key.tokens.get(2)?.name()?, key.parts()?));
        self.of(Class::Unique).filter_map(key)
    }

    fn of(&self, class: Class) -> impl Iterator<Item = &Definition<'a>> {
        self.definitions
            .iter()
            .filter(move |definition| definition.class == class)
    }

    pub(super) fn statements(&self, database: &str, table: &str, naming: &Naming<'_>) -> TableStatements {
        let (new_database, new_table) = (naming.table)(database, table);
        let place = quote_table(&new_database, &new_table);
        let constraints = Constraints {
            old: table,
            new: &new_table,
            same_database: new_database == database,
        };
        let kept = self.keys_kept();
        let collation = self.collation();
        let (mut create, mut keys, mut foreign) = (Vec::new(), Vec::<(Class, Vec<&str>)>::new(), Vec::new());
        let mut seen = 0;
        for definition in &self.definitions {
            match definition.class {
                Class::Unique | Class::Key | Class::Functional | Class::FullText => {
                    seen += 1;
                    if seen <= kept {
                        create.push(definition.text.to_owned());
                        continue;
                    }
                    let class = match definition.class {
                        Class::Unique => Class::Key,
                        other => other,
                    };
                    match keys.last_mut() {
                        Some((last, texts)) if *last == class && class != Class::FullText => {
                            texts.push(definition.text);
                        }
                        _ => keys.push((class, vec![definition.text])),
                    }
                }
                Class::ForeignKey => {
                    let text = definition.foreign_key(database, naming);
                    foreign.push(format!("ADD {}", constraints.rename(definition, &text)));
                }
                Class::Check => create.push(constraints.rename(definition, definition.text)),
                Class::Column => create.push(definition.column(collation.as_deref(), database, naming)),
                Class::Primary | Class::Other => create.push(definition.text.to_owned()),
            }
        }
        let alter = |parts: Vec<String>| format!("ALTER TABLE {place}\n  {}", parts.join(",\n  "));
        TableStatements {
            create: format!(
                "CREATE TABLE {place} (\n  {}\n){}",
                create.join(",\n  "),
                options(self.options, database, naming)
            ),
            keys: keys
                .into_iter()
                .map(|(_, texts)| alter(texts.into_iter().map(|text| format!("ADD {text}")).collect()))
                .collect(),
            foreign_keys: (!foreign.is_empty()).then(|| alter(foreign)),
        }
    }

    /// The table's own.
    fn collation(&self) -> Option<String> {
        let all = tokens(self.options);
        let at = all.iter().position(|token| token.is_word("COLLATE"))?;
        let equals = all.get(at + 1).is_some_and(|token| token.is_symbol('='));
        all.get(if equals { at + 2 } else { at + 1 }).and_then(Token::name)
    }

    /// How many of the keys stay in the CREATE. The first ones, so that the order of all stays: the server sorts new ones
    /// behind those that are there, within the kinds it keeps apart by itself.
    fn keys_kept(&self) -> usize {
        let keys: Vec<_> = self
            .definitions
            .iter()
            .filter(|definition| definition.is_key())
            .collect();
        let primary = self.of(Class::Primary).next();
        let last =
            |wanted: &dyn Fn(&Definition<'_>) -> bool| keys.iter().rposition(|key| wanted(key)).map_or(0, |at| at + 1);
        let mut kept = 0;
        if let Some(counter) = self.of(Class::Column).find(|column| column.has_word("AUTO_INCREMENT")) {
            let name = counter.tokens.first().and_then(Token::name);
            let leads = |key: &Definition<'_>| key.first_column().is_some() && key.first_column() == name;
            if !primary.is_some_and(leads) {
                // MyISAM counts per prefix of a key too; then each key that has the column is kept.
                let first = keys.iter().position(|key| leads(key)).map(|at| at + 1);
                kept = first.unwrap_or_else(|| {
                    last(&|key| {
                        key.tokens
                            .iter()
                            .any(|token| token.kind == Kind::Name && token.name() == name)
                    })
                });
            }
        }
        if primary.is_none() {
            // Rows are found, and of partitions and InnoDB stored, by a unique key then.
            let partitioned = tokens(self.options).iter().any(|token| token.is_word("PARTITION"));
            let nullable = |name: &str| {
                let column =
                    |column: &&Definition<'_>| column.tokens.first().and_then(Token::name).as_deref() == Some(name);
                self.of(Class::Column)
                    .find(column)
                    .is_none_or(|column| !column.is_not_null())
            };
            kept = kept.max(last(&|key| {
                key.class == Class::Unique
                    && (partitioned
                        || key
                            .parts()
                            .is_some_and(|parts| !parts.iter().any(|part| nullable(&part.column))))
            }));
        }
        kept
    }
}

/// Names of constraints are the database's: beside the table it came from, a copy cannot have the same.
struct Constraints<'a> {
    old: &'a str,
    new: &'a str,
    same_database: bool,
}

impl Constraints<'_> {
    fn rename(&self, definition: &Definition<'_>, text: &str) -> String {
        let named = definition
            .tokens
            .first()
            .is_some_and(|token| token.is_word("CONSTRAINT"));
        let (Some(first), Some(name)) = (definition.tokens.first(), definition.tokens.get(1)) else {
            return text.to_owned();
        };
        if self.old == self.new || !named {
            return text.to_owned();
        }
        let rest = text.get(name.at.end - first.at.start..).unwrap_or_default();
        let old = name.name().unwrap_or_default();
        let made_by_server = old
            .strip_prefix(self.old)
            .filter(|rest| rest.starts_with("_ibfk_") || rest.starts_with("_chk_"));
        match made_by_server {
            // The server numbers them by itself then; names given here could meet the numbers it gives to others.
            _ if self.same_database => rest.trim_start().to_owned(),
            Some(end) => format!("CONSTRAINT {}{rest}", quote_name(&format!("{}{end}", self.new))),
            None => text.to_owned(),
        }
    }
}

/// The options with other names in UNION, and without places of files where they are not to be kept.
fn options(text: &str, database: &str, naming: &Naming<'_>) -> String {
    let all = tokens(text);
    let mut edits: Vec<(std::ops::Range<usize>, String)> = Vec::new();
    let word = |at: usize, word: &str| all.get(at).is_some_and(|token| token.is_word(word));
    for (at, token) in all.iter().enumerate() {
        let directory = (token.is_word("DATA") || token.is_word("INDEX")) && word(at + 1, "DIRECTORY");
        if !naming.keep_places && (directory || token.is_word("TABLESPACE")) {
            let mut value = at + if directory { 2 } else { 1 };
            if all.get(value).is_some_and(|token| token.is_symbol('=')) {
                value += 1;
            }
            if let Some(value) = all.get(value)
                && !value
                    .name()
                    .is_some_and(|name| OWN_TABLESPACES.contains(&name.as_str()))
                && (value.kind == Kind::Text) == directory
            {
                edits.push((token.at.start..value.at.end, String::new()));
            }
        } else if token.is_word("UNION") {
            let mut at = at + 1;
            while all.get(at).is_some_and(|token| !token.is_symbol(')')) {
                if all.get(at).is_some_and(|token| token.kind == Kind::Name)
                    && let Some((_, count)) = replace_table(text, 0, all.iter().skip(at), database, naming)
                    && let (Some(first), Some(last)) = (all.get(at), all.get(at + count - 1))
                {
                    let old = match count {
                        3 => (first.name().unwrap_or_default(), last.name().unwrap_or_default()),
                        _ => (database.to_owned(), first.name().unwrap_or_default()),
                    };
                    let (database, table) = (naming.table)(&old.0, &old.1);
                    edits.push((first.at.start..last.at.end, quote_table(&database, &table)));
                    at += count;
                } else {
                    at += 1;
                }
            }
        }
    }
    let mut result = text.to_owned();
    for (range, new) in edits.into_iter().rev() {
        result.replace_range(range, &new);
    }
    result
}

#[cfg(test)]
mod tests;
