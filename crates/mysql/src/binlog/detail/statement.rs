//! What a statement of a log is: its kind and the tables or the database it names. Reads its first words only.
#![deny(clippy::indexing_slicing)]

use serde::{Deserialize, Serialize};

/// The kinds that matter to who looks for what went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatementKind {
    CreateTable,
    AlterTable,
    RenameTable,
    DropTable,
    TruncateTable,
    CreateDatabase,
    AlterDatabase,
    DropDatabase,
    /// Views, triggers, routines, events, indexes and the like.
    CreateOther,
    AlterOther,
    DropOther,
    /// Accounts and privileges.
    Account,
    /// Rows, logged as the statement that changed them.
    Insert,
    Update,
    Delete,
    Other,
}

/// A name as a statement gives it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatementName {
    /// `None`: in the statement's database.
    pub schema: Option<String>,
    pub name: String,
}

/// A statement names at most this many that are kept.
const NAMES_MAX: usize = 256;

/// A word, a quoted name, or a sign.
#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Name(String),
    Sign(char),
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn skip_blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix("/*") {
                // What servers of some version do is part of the statement.
                if let Some(inside) = rest.strip_prefix('!').or_else(|| rest.strip_prefix("M!")) {
                    self.rest = inside.trim_start_matches(|c: char| c.is_ascii_digit());
                    continue;
                }
                self.rest = rest.split_once("*/").map_or("", |(_, rest)| rest);
            } else if let Some(rest) = self.rest.strip_prefix("*/") {
                self.rest = rest;
            } else if self.rest.starts_with("-- ") || self.rest.starts_with('#') {
                self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
            } else {
                return;
            }
        }
    }

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks();
        let first = self.rest.chars().next()?;
        if first == '`' || first == '"' {
            return Some(Token::Name(self.quoted(first)));
        }
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
        let length = self.rest.find(|c: char| !is_word(c)).unwrap_or(self.rest.len());
        let length = if length == 0 { first.len_utf8() } else { length };
        let (word, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(if is_word(first) {
            Token::Word(word)
        } else {
            Token::Sign(first)
        })
    }

    /// A quote within is written twice.
    fn quoted(&mut self, quote: char) -> String {
        let mut name = String::new();
        let mut chars = self.rest.chars();
        chars.next();
        while let Some(c) = chars.next() {
            if c == quote {
                match chars.as_str().strip_prefix(quote) {
                    Some(rest) => chars = rest.chars(),
                    None => break,
                }
            }
            name.push(c);
        }
        self.rest = chars.as_str();
        name
    }

    /// Takes the words if they are next.
    fn eat(&mut self, words: &[&str]) -> bool {
        let before = self.rest;
        for word in words {
            match self.next() {
                Some(Token::Word(found)) if found.eq_ignore_ascii_case(word) => {}
                _ => {
                    self.rest = before;
                    return false;
                }
            }
        }
        true
    }

    fn eat_sign(&mut self, sign: char) -> bool {
        let before = self.rest;
        let found = self.next() == Some(Token::Sign(sign));
        if !found {
            self.rest = before;
        }
        found
    }

    fn part(&mut self) -> Option<String> {
        match self.next()? {
            Token::Word(word) => Some(word.to_owned()),
            Token::Name(name) => Some(name),
            Token::Sign(_) => None,
        }
    }

    fn name(&mut self) -> Option<StatementName> {
        let first = self.part()?;
        if self.eat_sign('.') {
            let name = self.part()?;
            return Some(StatementName {
                schema: Some(first),
                name,
            });
        }
        Some(StatementName {
            schema: None,
            name: first,
        })
    }

    /// Names with commas between them.
    fn names(&mut self) -> Vec<StatementName> {
        let mut names = Vec::new();
        while names.len() < NAMES_MAX {
            names.extend(self.name());
            if !self.eat_sign(',') {
                break;
            }
        }
        names
    }
}

/// The kind, and the tables (or, alone, the database) it is about.
pub(super) fn read(statement: &str) -> (StatementKind, Vec<StatementName>) {
    use StatementKind as Kind;
    let mut tokens = Tokens { rest: statement };
    let Some(Token::Word(verb)) = tokens.next() else {
        return (Kind::Other, Vec::new());
    };
    let verb = verb.to_ascii_uppercase();
    match verb.as_str() {
        "CREATE" => {
            tokens.eat(&["OR", "REPLACE"]);
            object(
                &mut tokens,
                [Kind::CreateTable, Kind::CreateDatabase, Kind::CreateOther],
                false,
            )
        }
        "ALTER" => {
            while tokens.eat(&["ONLINE"]) || tokens.eat(&["IGNORE"]) {}
            object(
                &mut tokens,
                [Kind::AlterTable, Kind::AlterDatabase, Kind::AlterOther],
                false,
            )
        }
        "DROP" => object(
            &mut tokens,
            [Kind::DropTable, Kind::DropDatabase, Kind::DropOther],
            true,
        ),
        "TRUNCATE" => {
            tokens.eat(&["TABLE"]);
            (Kind::TruncateTable, tokens.name().into_iter().collect())
        }
        "RENAME" if tokens.eat(&["TABLE"]) || tokens.eat(&["TABLES"]) => (Kind::RenameTable, renamed(&mut tokens)),
        "RENAME" | "GRANT" | "REVOKE" => (Kind::Account, Vec::new()),
        "SET" if tokens.eat(&["PASSWORD"]) || tokens.eat(&["DEFAULT", "ROLE"]) => (Kind::Account, Vec::new()),
        "INSERT" | "REPLACE" => {
            while ["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO"]
                .iter()
                .any(|word| tokens.eat(&[word]))
            {}
            (Kind::Insert, tokens.name().into_iter().collect())
        }
        "LOAD" => (Kind::Insert, Vec::new()),
        "UPDATE" => {
            while tokens.eat(&["LOW_PRIORITY"]) || tokens.eat(&["IGNORE"]) {}
            (Kind::Update, tokens.names())
        }
        "DELETE" => {
            while ["LOW_PRIORITY", "QUICK", "IGNORE", "FROM"]
                .iter()
                .any(|word| tokens.eat(&[word]))
            {}
            (Kind::Delete, tokens.names())
        }
        _ => (Kind::Other, Vec::new()),
    }
}

fn object(
    tokens: &mut Tokens<'_>,
    [table, database, other]: [StatementKind; 3],
    many: bool,
) -> (StatementKind, Vec<StatementName>) {
    if tokens.eat(&["USER"]) || tokens.eat(&["ROLE"]) {
        return (StatementKind::Account, Vec::new());
    }
    tokens.eat(&["TEMPORARY"]);
    if tokens.eat(&["TABLE"]) || tokens.eat(&["TABLES"]) {
        let _ = tokens.eat(&["IF", "NOT", "EXISTS"]) || tokens.eat(&["IF", "EXISTS"]);
        let names = if many {
            tokens.names()
        } else {
            tokens.name().into_iter().collect()
        };
        return (table, names);
    }
    if tokens.eat(&["DATABASE"]) || tokens.eat(&["SCHEMA"]) {
        let _ = tokens.eat(&["IF", "NOT", "EXISTS"]) || tokens.eat(&["IF", "EXISTS"]);
        return (database, tokens.name().into_iter().collect());
    }
    (other, Vec::new())
}

/// `a TO b, c TO d`: all of them.
fn renamed(tokens: &mut Tokens<'_>) -> Vec<StatementName> {
    let mut names = Vec::new();
    tokens.eat(&["IF", "EXISTS"]);
    while names.len() < NAMES_MAX {
        let Some(from) = tokens.name() else { break };
        names.push(from);
        if !tokens.eat(&["TO"]) {
            break;
        }
        names.extend(tokens.name());
        if !tokens.eat_sign(',') {
            break;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_text(statement: &str) -> (StatementKind, String) {
        let (kind, names) = read(statement);
        let names: Vec<String> = names
            .into_iter()
            .map(|name| match name.schema {
                Some(schema) => format!("{schema}/{}", name.name),
                None => name.name,
            })
            .collect();
        (kind, names.join(","))
    }

    #[test]
    fn statements_are_told_apart_and_their_names_read() {
        use StatementKind as Kind;
        for (statement, kind, names) in [
            ("DROP TABLE `s`.`t` /* generated by server */", Kind::DropTable, "s/t"),
            (
                "drop temporary table if exists a, `b``c`.d,e",
                Kind::DropTable,
                "a,b`c/d,e",
            ),
            ("DROP DATABASE `balance`", Kind::DropDatabase, "balance"),
            ("/* who */ -- why\n DROP SCHEMA IF EXISTS x", Kind::DropDatabase, "x"),
            ("TRUNCATE u", Kind::TruncateTable, "u"),
            ("truncate table s . u", Kind::TruncateTable, "s/u"),
            ("ALTER TABLE orders_7 DROP COLUMN a", Kind::AlterTable, "orders_7"),
            ("CREATE OR REPLACE TABLE t (a INT)", Kind::CreateTable, "t"),
            (
                "CREATE TABLE IF NOT EXISTS `ü ber`.t (a INT)",
                Kind::CreateTable,
                "ü ber/t",
            ),
            ("CREATE DEFINER=`a`@`b` VIEW v AS SELECT 1", Kind::CreateOther, ""),
            ("RENAME TABLE a TO b, s.c TO s.d", Kind::RenameTable, "a,b,s/c,s/d"),
            ("RENAME USER a TO b", Kind::Account, ""),
            ("DROP USER 'a'@'b'", Kind::Account, ""),
            ("DROP VIEW v", Kind::DropOther, ""),
            ("/*!40000 DROP TABLE x */", Kind::DropTable, "x"),
            ("INSERT IGNORE INTO s.t VALUES (1)", Kind::Insert, "s/t"),
            ("DELETE FROM t WHERE 1", Kind::Delete, "t"),
            ("UPDATE t, u SET a = 1", Kind::Update, "t,u"),
            ("GRANT ALL ON *.* TO x", Kind::Account, ""),
            ("", Kind::Other, ""),
            ("BEGIN", Kind::Other, ""),
        ] {
            assert_eq!(read_text(statement), (kind, names.to_owned()), "{statement}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(verb in "(DROP TABLE|RENAME TABLE|CREATE|UPDATE|/\\*!5)?", rest in "[`\"a.,é/*! #\n-]{0,40}|\\PC{0,40}") {
            drop(read(&format!("{verb} {rest}")));
        }
    }
}
