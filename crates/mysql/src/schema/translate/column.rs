//! One column's definition, clause by clause, in the target's words.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeSet;

use super::super::ColumnSchema;
use super::super::abilities::Ability;
use super::super::sql_text::{Kind, Token};
use super::super::table_text::Definition;
use super::collations::{keeps_apart, nearest};
use super::table::Table;
use super::words::{calls, plain};
use crate::quote_name;

/// Bytes of a value up to which a vector is kept in the row.
const ROW_BYTES_MAX: u64 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clause {
    Type,
    Charset,
    Collate,
    NotNull,
    Null,
    Default,
    Generated,
    /// MariaDB's beginning or end of a row version.
    RowPeriod,
    Invisible,
    SpatialReference,
    /// Where a storage engine keeps it.
    Storage,
    Attribute,
    Check,
    Versioning,
    Compressed,
    Other,
}

/// What a column becomes.
pub(super) enum Became {
    Column {
        text: String,
        /// It holds the bytes of text of a character set that the target does not have.
        bytes: bool,
    },
    /// It is none of the table's own, and its rows have no value for it.
    Gone,
    /// The table cannot be without it, and it cannot be made.
    Impossible(String),
}

/// The clauses in order, the type first; the name is not among them.
fn clauses<'t, 'a>(tokens: &'t [Token<'a>]) -> Vec<(Clause, &'t [Token<'a>])> {
    let mut starts: Vec<(Clause, usize)> = vec![(Clause::Type, 1)];
    let mut depth = 0_usize;
    let word = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is_word(word));
    for (at, token) in tokens.iter().enumerate().skip(2) {
        match token.kind {
            Kind::Symbol('(') => depth += 1,
            Kind::Symbol(')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        let Some((last, from)) = starts.last().copied() else {
            break;
        };
        // What follows DEFAULT is a value, whatever word it is.
        if depth > 0 || token.kind != Kind::Word || last == Clause::Default && at == from + 1 {
            continue;
        }
        let clause = match token.text.to_ascii_uppercase().as_str() {
            "CHARACTER" | "CHARSET" => Clause::Charset,
            "COLLATE" => Clause::Collate,
            "NOT" if word(at + 1, "NULL") => Clause::NotNull,
            "NULL" if last != Clause::NotNull => Clause::Null,
            "DEFAULT" => Clause::Default,
            "GENERATED" if word(at + 3, "ROW") => Clause::RowPeriod,
            "GENERATED" => Clause::Generated,
            "AS" if !matches!(last, Clause::Generated | Clause::RowPeriod) => Clause::Generated,
            "INVISIBLE" => Clause::Invisible,
            "SRID" | "REF_SYSTEM_ID" => Clause::SpatialReference,
            "COLUMN_FORMAT" | "STORAGE" => Clause::Storage,
            "ENGINE_ATTRIBUTE" | "SECONDARY_ENGINE_ATTRIBUTE" => Clause::Attribute,
            "CHECK" => Clause::Check,
            "WITHOUT" | "WITH" if word(at + 1, "SYSTEM") => Clause::Versioning,
            "COMPRESSED" => Clause::Compressed,
            "ON" | "AUTO_INCREMENT" | "COMMENT" | "VISIBLE" | "UNIQUE" => Clause::Other,
            _ => continue,
        };
        starts.push((clause, at));
    }
    let ends = starts.iter().skip(1).map(|(_, at)| *at).chain([tokens.len()]);
    let parts = starts.iter().zip(ends);
    parts
        .filter_map(|((clause, from), to)| Some((*clause, tokens.get(*from..to)?)))
        .collect()
}

/// The functions that its expressions call.
pub(super) fn functions(definition: &Definition<'_>, found: &mut BTreeSet<String>) {
    for (clause, tokens) in clauses(&definition.tokens) {
        if matches!(clause, Clause::Default | Clause::Generated | Clause::Check) {
            found.extend(calls(tokens));
        }
    }
}

/// Translates one column; what it costs is noted at the table.
pub(super) fn translate(definition: &Definition<'_>, column: &ColumnSchema, table: &mut Table<'_>) -> Became {
    let clauses = clauses(&definition.tokens);
    if clauses.iter().any(|(clause, _)| *clause == Clause::RowPeriod) && !table.to.has(Ability::SystemVersioning) {
        return Became::Gone;
    }
    let generated = clauses.iter().any(|(clause, _)| *clause == Clause::Generated);
    let name = quote_name(&column.name);
    let declared = clauses.first().map(|(_, tokens)| plain(table.create, tokens));
    let mut kind = declared.unwrap_or_default();
    let mut charset = characters(column, table);
    let mut bytes = false;
    if let Some(lacking) = column.charset.as_deref().filter(|_| charset.is_none()) {
        let lacking = lacking.to_owned();
        if matches!(column.data_type.as_str(), "enum" | "set") || generated {
            // Members go by number, and what is computed has no bytes of its own.
            table.change(&format!(
                "character set {lacking} of {name} becomes utf8mb4: the target does not have it"
            ));
            charset = Some("CHARACTER SET utf8mb4".to_owned());
        } else {
            kind = byte_type(column);
            bytes = true;
            table.change(&format!(
                "{name} becomes {kind}, and keeps the bytes its text has in {lacking}: the target does not have this character set"
            ));
        }
    } else {
        kind = match other_type(&kind, column, table) {
            Some(other) => other,
            None => return Became::Impossible(format!("no type of the target holds a {kind}, as {name} is")),
        };
    }
    let mut text = format!("{name} {kind}");
    if let Some(charset) = charset.filter(|charset| !charset.is_empty()) {
        text.push(' ');
        text.push_str(&charset);
    }
    let required = clauses.iter().any(|(clause, _)| *clause == Clause::NotNull);
    for (clause, tokens) in clauses.iter().skip(1) {
        let same = || plain(table.create, tokens);
        let new = match clause {
            Clause::Type | Clause::Charset | Clause::Collate => None,
            Clause::NotNull | Clause::Null if generated && table.to.mariadb => {
                if *clause == Clause::NotNull {
                    table.lose(
                        &format!("NOT NULL of {name}"),
                        "the target has none for computed columns",
                    );
                }
                None
            }
            Clause::Default => default(tokens, column, bytes, table),
            Clause::Generated => match missing(tokens, table) {
                Some(function) => {
                    return Became::Impossible(format!(
                        "{name} is computed by {function}(), which the target does not have"
                    ));
                }
                None => Some(table.collated(tokens)),
            },
            Clause::Invisible => invisible(&clauses, required, &name, table),
            Clause::SpatialReference if !table.to.has(Ability::SpatialReference) => {
                table.change(&format!(
                    "the spatial reference system of {name} is not declared; its values keep theirs, and their x and y"
                ));
                None
            }
            Clause::Storage | Clause::Attribute if table.crosses => None,
            Clause::Compressed if !table.to.has(Ability::CompressedColumns) => {
                table.change(&format!("{name} is not compressed by the target"));
                None
            }
            Clause::Versioning if !table.to.has(Ability::SystemVersioning) => None,
            Clause::Check => match missing(tokens, table) {
                Some(function) => {
                    table.lose(&format!("check of {name}"), &format!("the target has no {function}()"));
                    None
                }
                None => Some(table.collated(tokens)),
            },
            _ => Some(same()),
        };
        if let Some(new) = new {
            text.push(' ');
            text.push_str(&new);
        }
    }
    Became::Column { text, bytes }
}

/// Character set and collation, where they are not the table's; `None` where the target does not have the character set.
fn characters(column: &ColumnSchema, table: &mut Table<'_>) -> Option<String> {
    let (Some(charset), Some(collation)) = (&column.charset, &column.collation) else {
        return Some(String::new());
    };
    let new = nearest(collation, charset, table.to).filter(|_| table.to.has_charset(charset))?;
    // MySQL has no character set for a document, and MariaDB's checked text is one of letters.
    if *collation != table.schema.collation && new != *collation {
        table.recollate(collation, &new);
    }
    if new != *collation && !keeps_apart(collation, &new) {
        table.collide.insert(column.name.clone());
    }
    let inherited = table.collation.as_deref() == Some(new.as_str());
    Some(if inherited {
        String::new()
    } else {
        format!("CHARACTER SET {charset} COLLATE {new}")
    })
}

/// The binary type that has room for a text type's bytes.
fn byte_type(column: &ColumnSchema) -> String {
    let octets = column.octet_length.unwrap_or_default();
    match column.data_type.as_str() {
        "tinytext" => "tinyblob".to_owned(),
        "text" => "blob".to_owned(),
        "mediumtext" => "mediumblob".to_owned(),
        "longtext" => "longblob".to_owned(),
        _ => format!("varbinary({octets})"),
    }
}

/// The type the target has for it.
fn other_type(declared: &str, column: &ColumnSchema, table: &mut Table<'_>) -> Option<String> {
    let name = quote_name(&column.name);
    let same = Some(declared.to_owned());
    let (needed, other) = match column.data_type.as_str() {
        "uuid" => (
            Ability::Uuid,
            "char(36) CHARACTER SET ascii COLLATE ascii_general_ci".to_owned(),
        ),
        "inet6" => (
            Ability::Inet6,
            "varchar(45) CHARACTER SET ascii COLLATE ascii_general_ci".to_owned(),
        ),
        "inet4" => (
            Ability::Inet4,
            "varchar(15) CHARACTER SET ascii COLLATE ascii_general_ci".to_owned(),
        ),
        "vector" => {
            let dimensions: String = declared.chars().filter(char::is_ascii_digit).collect();
            let bytes = dimensions.parse::<u64>().unwrap_or_default().saturating_mul(4);
            let other = if bytes <= ROW_BYTES_MAX {
                format!("varbinary({bytes})")
            } else {
                "mediumblob".to_owned()
            };
            (Ability::Vector, other)
        }
        "json" if table.to.mariadb => {
            table.change(&format!(
                "{name} becomes text that is checked by json_valid, with the text MySQL shows of each document"
            ));
            return same;
        }
        "geomcollection" => return Some("geometrycollection".to_owned()),
        _ => return same,
    };
    if table.to.has(needed) {
        return same;
    }
    table.change(&format!("{name} is {declared} and becomes {other}"));
    Some(other)
}

fn missing(tokens: &[Token<'_>], table: &Table<'_>) -> Option<String> {
    let missing = |function: &String| table.to.missing_functions.contains(function);
    calls(tokens).find(missing)
}

fn default(tokens: &[Token<'_>], column: &ColumnSchema, bytes: bool, table: &mut Table<'_>) -> Option<String> {
    let name = quote_name(&column.name);
    if let Some(function) = missing(tokens, table) {
        table.lose(
            &format!("default of {name}"),
            &format!("it calls {function}(), which the target does not have"),
        );
        return None;
    }
    let value = tokens.get(1..).unwrap_or_default();
    let shown = plain(table.create, value);
    if bytes && !shown.is_ascii() {
        table.lose(
            &format!("default of {name}"),
            "its text is no longer of a character set",
        );
        return None;
    }
    let first = value.first()?;
    let in_parentheses = first.is_symbol('(');
    let literal = first.kind == Kind::Text
        || first.text.starts_with(|c: char| c.is_ascii_digit())
        || first.is_symbol('-')
        || first.is_word("NULL")
        || first.is_word("TRUE")
        || first.is_word("FALSE")
        || value.get(1).is_some_and(|token| token.kind == Kind::Text);
    let now = first.is_word("current_timestamp") || first.is_word("now");
    let large = column.data_type.ends_with("text")
        || column.data_type.ends_with("blob")
        || matches!(
            column.data_type.as_str(),
            "json" | "geometry" | "point" | "linestring" | "polygon"
        );
    let plainly = in_parentheses || now || literal && (!large || first.is_word("NULL"));
    let text = table.collated(value);
    Some(if plainly || table.to.mariadb || !table.crosses {
        format!("DEFAULT {text}")
    } else {
        format!("DEFAULT ({text})")
    })
}

fn invisible(clauses: &[(Clause, &[Token<'_>])], required: bool, name: &str, table: &mut Table<'_>) -> Option<String> {
    let filled = clauses.iter().any(|(clause, tokens)| {
        matches!(clause, Clause::Default | Clause::Generated)
            || tokens.first().is_some_and(|token| token.is_word("AUTO_INCREMENT"))
    });
    // MariaDB hides none that must be given a value.
    if table.to.has(Ability::InvisibleColumns) && (!table.to.mariadb || filled || !required) {
        return Some("INVISIBLE".to_owned());
    }
    table.change(&format!("{name} becomes visible"));
    None
}
