//! One definition of a table: a column, a key, a constraint.
#![deny(clippy::indexing_slicing)]

use super::super::sql_text::{Kind, Token};
use super::super::{KeyPart, Naming};
use crate::quote_table;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::schema) enum Class {
    Column,
    Primary,
    Unique,
    Key,
    /// With a part that is an expression.
    Functional,
    /// The server builds one at a time.
    FullText,
    ForeignKey,
    Check,
    Other,
}

#[derive(Debug, Clone)]
pub(in crate::schema) struct Definition<'a> {
    pub(in crate::schema) class: Class,
    pub(in crate::schema) text: &'a str,
    pub(in crate::schema) tokens: Vec<Token<'a>>,
}

impl<'a> Definition<'a> {
    pub(super) fn new(create: &'a str, tokens: Vec<Token<'a>>, end: usize) -> Option<Self> {
        let start = tokens.first()?.at.start;
        // The rest up to the comma: the mark that ends a conditional comment is no token.
        let text = create.get(start..end)?.trim_end();
        let word = |at: usize, word: &str| tokens.get(at).is_some_and(|token: &Token<'_>| token.is_word(word));
        let functional = || {
            let opened = tokens.iter().position(|token| token.is_symbol('('));
            let mut depth = 0;
            opened.is_some_and(|at| {
                tokens.iter().skip(at).any(|token| {
                    match token.kind {
                        Kind::Symbol('(') => depth += 1,
                        Kind::Symbol(')') => depth -= 1,
                        _ => {}
                    }
                    // A prefix is a number in parentheses behind a name; an expression begins with one.
                    depth == 2 && token.is_symbol('(') && begins_part(&tokens, token)
                })
            })
        };
        let class = match tokens.first()? {
            first if first.kind == Kind::Name => Class::Column,
            _ if word(0, "PRIMARY") => Class::Primary,
            _ if word(0, "FULLTEXT") => Class::FullText,
            _ if (word(0, "UNIQUE") || word(0, "KEY") || word(0, "SPATIAL")) && functional() => Class::Functional,
            _ if word(0, "UNIQUE") => Class::Unique,
            _ if word(0, "KEY") || word(0, "SPATIAL") || word(0, "VECTOR") => Class::Key,
            _ if word(0, "FOREIGN") || word(2, "FOREIGN") => Class::ForeignKey,
            _ if word(0, "CHECK") || word(2, "CHECK") => Class::Check,
            _ => Class::Other,
        };
        Some(Self { class, text, tokens })
    }

    pub(super) fn is_key(&self) -> bool {
        matches!(
            self.class,
            Class::Unique | Class::Key | Class::Functional | Class::FullText
        )
    }

    /// A word outside parentheses.
    pub(super) fn has_word(&self, word: &str) -> bool {
        self.outside().any(|token| token.is_word(word))
    }

    pub(super) fn is_not_null(&self) -> bool {
        let words: Vec<_> = self.outside().collect();
        words
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if a.is_word("NOT") && b.is_word("NULL")))
    }

    fn outside(&self) -> impl Iterator<Item = &Token<'a>> {
        let mut depth = 0_i32;
        self.tokens.iter().filter(move |token| {
            match token.kind {
                Kind::Symbol('(') => depth += 1,
                Kind::Symbol(')') => depth -= 1,
                _ => {}
            }
            depth == 0
        })
    }

    pub(super) fn first_column(&self) -> Option<String> {
        let open = self.tokens.iter().position(|token| token.is_symbol('('))?;
        self.tokens.get(open + 1)?.name()
    }

    /// `None` where one is not a plain column.
    pub(super) fn parts(&self) -> Option<Vec<KeyPart>> {
        let open = self.tokens.iter().position(|token| token.is_symbol('('))?;
        let mut tokens = self.tokens.iter().skip(open + 1);
        let mut parts = Vec::new();
        loop {
            let column = tokens.next().filter(|token| token.kind == Kind::Name)?.name()?;
            let mut part = KeyPart {
                column,
                prefix: None,
                descending: false,
            };
            loop {
                match tokens.next()? {
                    token if token.is_symbol(')') => {
                        parts.push(part);
                        return Some(parts);
                    }
                    token if token.is_symbol(',') => break,
                    token if token.is_symbol('(') => {
                        part.prefix = Some(tokens.next()?.text.parse().ok()?);
                        tokens.next().filter(|token| token.is_symbol(')'))?;
                    }
                    token if token.is_word("DESC") => part.descending = true,
                    token if token.is_word("ASC") => {}
                    _ => return None,
                }
            }
            parts.push(part);
        }
    }

    /// A column that has the table's collation because it was given none of its own is printed with the collation alone; were
    /// it created so, the server would take it for its own and print its character set as well from then on.
    ///
    /// A default of MariaDB's names its sequence.
    pub(super) fn column(&self, table_collation: Option<&str>, database: &str, naming: &Naming<'_>) -> String {
        let all: Vec<_> = self.outside().collect();
        let own_charset = all
            .iter()
            .any(|token| token.is_word("CHARACTER") || token.is_word("CHARSET"));
        let inherited = all.windows(2).find_map(|pair| match pair {
            [word, collation] if word.is_word("COLLATE") && collation.name().as_deref() == table_collation => {
                Some((word.at.start, collation.at.end))
            }
            _ => None,
        });
        let base = self.tokens.first().map_or(0, |token| token.at.start);
        let of_sequence = self.tokens.windows(3).position(|three| {
            matches!(three, [function, open, name] if open.is_symbol('(') && name.kind == Kind::Name
                && ["NEXTVAL", "LASTVAL", "SETVAL"].iter().any(|word| function.is_word(word)))
        });
        if let Some(at) = of_sequence
            && let Some((text, _)) = replace_table(self.text, base, self.tokens.iter().skip(at + 2), database, naming)
        {
            return text;
        }
        match inherited.filter(|_| !own_charset) {
            Some((start, end)) => {
                let before = self.text.get(..start - base).unwrap_or_default();
                let after = self.text.get(end - base..).unwrap_or_default();
                format!("{}{after}", before.trim_end())
            }
            None => self.text.to_owned(),
        }
    }

    /// The text with the parent table's name as it is to be.
    pub(super) fn foreign_key(&self, database: &str, naming: &Naming<'_>) -> String {
        let Some(at) = self.tokens.iter().position(|token| token.is_word("REFERENCES")) else {
            return self.text.to_owned();
        };
        let base = self.tokens.first().map_or(0, |token| token.at.start);
        replace_table(self.text, base, self.tokens.iter().skip(at + 1), database, naming)
            .map_or_else(|| self.text.to_owned(), |(text, _)| text)
    }
}

fn begins_part(tokens: &[Token<'_>], open: &Token<'_>) -> bool {
    let before = tokens.iter().rev().find(|token| token.at.end <= open.at.start);
    before.is_some_and(|token| token.is_symbol('(') || token.is_symbol(','))
}

/// Replaces one table's name, with or without its database, at the beginning of the tokens; gives how many tokens it was.
pub(super) fn replace_table<'t>(
    text: &str,
    base: usize,
    mut tokens: impl Iterator<Item = &'t Token<'t>>,
    database: &str,
    naming: &Naming<'_>,
) -> Option<(String, usize)> {
    let first = tokens.next()?;
    let (old, last, count) = match tokens.next() {
        Some(dot) if dot.is_symbol('.') => {
            let second = tokens.next()?;
            ((first.name()?, second.name()?), second, 3)
        }
        _ => ((database.to_owned(), first.name()?), first, 1),
    };
    let (new_database, new_table) = (naming.table)(&old.0, &old.1);
    let before = text.get(..first.at.start.checked_sub(base)?)?;
    let after = text.get(last.at.end.checked_sub(base)?..)?;
    Some((
        format!("{before}{}{after}", quote_table(&new_database, &new_table)),
        count,
    ))
}
