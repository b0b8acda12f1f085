//! What stands behind a table's columns: options and partitions.
#![deny(clippy::indexing_slicing)]

use std::ops::Range;

use super::super::abilities::Ability;
use super::super::sql_text::{Kind, Token, tokens};
use super::collations::nearest;
use super::table::Table;
use super::words::{plain, replaced};

/// Those that both flavours know.
const SHARED: [&str; 19] = [
    "AUTO_INCREMENT",
    "AVG_ROW_LENGTH",
    "CHARACTER SET",
    "CHECKSUM",
    "COMMENT",
    "CONNECTION",
    "DATA DIRECTORY",
    "INDEX DIRECTORY",
    "DELAY_KEY_WRITE",
    "INSERT_METHOD",
    "KEY_BLOCK_SIZE",
    "MAX_ROWS",
    "MIN_ROWS",
    "PACK_KEYS",
    "STATS_AUTO_RECALC",
    "STATS_PERSISTENT",
    "STATS_SAMPLE_PAGES",
    "UNION",
    "PASSWORD",
];
/// What every server has.
const USUAL_ENGINE: &str = "InnoDB";

struct Choice {
    /// In upper case; that of a character set and a collation without DEFAULT.
    name: String,
    value: String,
    at: Range<usize>,
}

/// The options of the target; the table is told its engine.
pub(super) fn translate(text: &str, table: &mut Table<'_>) -> String {
    let all = tokens(text);
    let partition = (0..all.len()).find(|at| {
        let word = |at: usize, word: &str| all.get(at).is_some_and(|token| token.is_word(word));
        word(*at, "PARTITION") && word(at + 1, "BY")
    });
    let (options, partitions) = all.split_at(partition.unwrap_or(all.len()));
    let mut result = Vec::new();
    let choices = choices(options);
    for choice in &choices {
        if choice.name == "ENGINE" {
            let known = table.to.engines.contains(&choice.value.to_ascii_lowercase());
            // MySQL divides tables only where the engine itself does.
            let divides = partitions.is_empty() || table.to.mariadb || choice.value.eq_ignore_ascii_case(USUAL_ENGINE);
            if !known || !divides {
                table.engine = Some(USUAL_ENGINE);
                let why = if known {
                    "has no partitions with it"
                } else {
                    "does not have it"
                };
                table.change(&format!(
                    "engine {} becomes {USUAL_ENGINE}: the target {why}",
                    choice.value
                ));
            }
        }
    }
    for choice in choices {
        let as_it_is = plain(text, options.get(choice.at.clone()).unwrap_or_default());
        if let Some(kept) = option(&choice, as_it_is, table) {
            result.push(kept);
        }
    }
    let mut tail = String::new();
    for option in result.into_iter().filter(|option| !option.is_empty()) {
        tail.push(' ');
        tail.push_str(&option);
    }
    if let Some(partitions) = divided(text, partitions, table) {
        tail.push('\n');
        tail.push_str(&partitions);
    }
    tail
}

fn option(choice: &Choice, as_it_is: String, table: &mut Table<'_>) -> Option<String> {
    match choice.name.as_str() {
        "ENGINE" => Some(table.engine.map_or(as_it_is, |engine| format!("ENGINE={engine}"))),
        "COLLATE" => {
            let charset = choice.value.split('_').next().unwrap_or_default();
            let new = nearest(&choice.value, charset, table.to)?;
            if new != choice.value {
                table.recollate(&choice.value, &new);
            }
            Some(format!("COLLATE={new}"))
        }
        "CHARACTER SET" if !table.to.has_charset(&choice.value) => {
            table.change(&format!(
                "character set {} becomes utf8mb4: the target does not have it",
                choice.value
            ));
            Some("DEFAULT CHARSET=utf8mb4".to_owned())
        }
        "SYSTEM VERSIONING" => {
            if table.to.has(Ability::SystemVersioning) {
                return Some(as_it_is);
            }
            table.lose("system versioning", "the target keeps no history of rows");
            None
        }
        "ROW_FORMAT" => (table.engine.is_none() && !choice.value.eq_ignore_ascii_case("PAGE")).then_some(as_it_is),
        "ENCRYPTION" | "ENCRYPTED" if table.crosses => {
            if choice.value.eq_ignore_ascii_case("Y") || choice.value.eq_ignore_ascii_case("YES") {
                table.lose(
                    "encryption",
                    "the target encrypts in another way: see its documentation, and encrypt it there",
                );
            }
            None
        }
        _ if !table.crosses || SHARED.contains(&choice.name.as_str()) => Some(as_it_is),
        // Where a table lies is the target's affair.
        "TABLESPACE" | "STORAGE" | "ENCRYPTION_KEY_ID" => None,
        name => {
            table.change(&format!("option {name}={} is left out", choice.value));
            None
        }
    }
}

fn choices(tokens: &[Token<'_>]) -> Vec<Choice> {
    let mut list = Vec::new();
    let mut at = 0;
    let word = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is_word(word));
    while let Some(token) = tokens.get(at) {
        let start = at;
        if word(at, "DEFAULT") {
            at += 1;
        }
        let mut name = tokens
            .get(at)
            .and_then(Token::name)
            .unwrap_or_default()
            .to_ascii_uppercase();
        let double = [
            ("CHARACTER", "SET"),
            ("DATA", "DIRECTORY"),
            ("INDEX", "DIRECTORY"),
            ("START", "TRANSACTION"),
        ];
        if let Some((first, second)) = double
            .iter()
            .find(|(first, second)| name == *first && word(at + 1, second))
        {
            name = format!("{first} {second}");
            at += 1;
        }
        if name == "WITH" && word(at + 1, "SYSTEM") {
            at += 3;
            let name = "SYSTEM VERSIONING".to_owned();
            list.push(Choice {
                name,
                value: String::new(),
                at: start..at,
            });
            continue;
        }
        if name == "CHARSET" {
            "CHARACTER SET".clone_into(&mut name);
        }
        at += 1;
        if name == "START TRANSACTION" || name.is_empty() || token.is_symbol(',') {
            continue;
        }
        if tokens.get(at).is_some_and(|token| token.is_symbol('=')) {
            at += 1;
        }
        let mut value = String::new();
        if let Some(first) = tokens.get(at) {
            value = first.name().unwrap_or_else(|| first.text.trim_matches('\'').to_owned());
            at += 1;
            if first.is_symbol('(') {
                while tokens.get(at).is_some_and(|token| !token.is_symbol(')')) {
                    at += 1;
                }
                at += 1;
            }
        }
        list.push(Choice {
            name,
            value,
            at: start..at.min(tokens.len()),
        });
    }
    list
}

/// The partitions, where the target can divide the table so.
fn divided(text: &str, tokens: &[Token<'_>], table: &mut Table<'_>) -> Option<String> {
    tokens.first()?;
    let word = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is_word(word));
    if word(2, "SYSTEM_TIME") {
        if table.to.has(Ability::SystemVersioning) {
            return Some(plain(text, tokens));
        }
        table.change("it is not divided: its partitions are of the history that the target does not keep");
        return None;
    }
    let rest = (0..tokens.len()).any(|at| {
        word(at, "PARTITION") && word(at + 2, "DEFAULT") && tokens.get(at + 1).is_some_and(|name| name.name().is_some())
    });
    if rest && !table.to.has(Ability::DefaultPartition) {
        table.change("it is not divided: the target has no partition for all other values");
        return None;
    }
    let mut skip = std::collections::BTreeSet::new();
    for at in 0..tokens.len() {
        let equals = tokens.get(at + 1).is_some_and(|token| token.is_symbol('='));
        let algorithm = word(at, "ALGORITHM") && table.crosses;
        let place = word(at, "TABLESPACE") && table.crosses;
        if algorithm || place {
            skip.extend(at..at + if equals { 3 } else { 2 });
        }
    }
    let engine = table.engine;
    Some(replaced(text, tokens, |at, token| {
        if skip.contains(&at) {
            return Some(String::new());
        }
        let engine = engine?;
        let behind = |back: usize, word: &str| {
            let token = at.checked_sub(back).and_then(|at| tokens.get(at));
            token.is_some_and(|token| token.is_word(word))
        };
        let equals = at
            .checked_sub(1)
            .and_then(|at| tokens.get(at))
            .is_some_and(|token| token.is_symbol('='));
        let names_engine = behind(1, "ENGINE") && token.kind != Kind::Symbol('=') || equals && behind(2, "ENGINE");
        names_engine.then(|| engine.to_owned())
    }))
}
