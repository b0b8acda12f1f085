//! What a log says of scheduled events: whether each was switched on or off. A replica switches off all it is told of and forgets what
//! they were.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeMap;

use ballast_mysql::EventHeader;
use bytes::Buf as _;

const CHECKSUM_BYTES: usize = 4;
/// So many are kept; more are not told apart from rows by anybody.
const STATEMENTS_MAX: usize = 100_000;

/// Statements about events, in the order of the log.
#[derive(Debug, Default)]
pub(super) struct EventStatements {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    name: (String, String),
    creates: bool,
    /// Said of it, if anything is.
    state: Option<State>,
    renamed: Option<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    On,
    Off,
    /// On the source too it is another server's.
    Elsewhere,
}

impl EventStatements {
    /// Looks into the bytes of one transaction.
    pub(super) fn look(&mut self, transaction: &[u8]) {
        if self.statements.len() < STATEMENTS_MAX
            && let Some((database, text)) = statement_of(transaction)
            && let Some(statement) = parse(&database, &text)
        {
            self.statements.push(statement);
        }
    }

    /// What the source's events were in the end, from what they were before.
    pub(super) fn carry_out(&self, states: &mut BTreeMap<(String, String), bool>) {
        for statement in &self.statements {
            let before = states.remove(&statement.name);
            let state = match statement.state {
                Some(State::On) => Some(true),
                Some(State::Off) => Some(false),
                Some(State::Elsewhere) => None,
                None if statement.creates => Some(true),
                None => before,
            };
            if let Some(state) = state {
                let name = statement.renamed.as_ref().unwrap_or(&statement.name);
                states.insert(name.clone(), state);
            }
        }
    }
}

/// The database and the text of a transaction that is one statement.
fn statement_of(transaction: &[u8]) -> Option<(String, String)> {
    let first = EventHeader::decode(transaction).ok()?;
    let rest = transaction.get(usize::try_from(first.size).ok()?..)?;
    (EventHeader::decode(rest).ok()?.kind == EventHeader::QUERY).then(|| statement(rest))?
}

/// Every statement in the bytes of a transaction, with its database.
pub(super) fn statements_in(transaction: &[u8]) -> impl Iterator<Item = (String, String)> {
    let mut rest = transaction;
    let events = std::iter::from_fn(move || {
        let header = EventHeader::decode(rest).ok()?;
        let (event, behind) = rest.split_at_checked(usize::try_from(header.size).ok()?)?;
        // A size of nothing would never end.
        rest = (!event.is_empty()).then_some(behind)?;
        Some((header.kind, event))
    });
    events
        .filter(|(kind, _)| *kind == EventHeader::QUERY)
        .filter_map(|(_, event)| statement(event))
}

/// The database and the text of an event that is a statement.
fn statement(event: &[u8]) -> Option<(String, String)> {
    let header = EventHeader::decode(event).ok()?;
    let size = usize::try_from(header.size).ok()?.checked_sub(CHECKSUM_BYTES)?;
    let mut rest = event.get(EventHeader::BYTES..size)?;
    if rest.len() < 13 {
        return None;
    }
    rest.advance(8); // thread, seconds
    let database_length = usize::from(rest.get_u8());
    rest.advance(2); // error
    let session_length = usize::from(rest.get_u16_le());
    rest = rest.get(session_length..)?;
    let (database, rest) = rest.split_at_checked(database_length)?;
    let text = rest.get(1..)?;
    Some((
        String::from_utf8_lossy(database).into_owned(),
        String::from_utf8_lossy(text).into_owned(),
    ))
}

/// `CREATE [OR REPLACE] [DEFINER = …] EVENT [IF NOT EXISTS] name …`, and the same with ALTER.
fn parse(database: &str, text: &str) -> Option<Statement> {
    let mut words = words(text).into_iter().peekable();
    let creates = match words.next()? {
        Word::Plain(word) if word.eq_ignore_ascii_case("CREATE") => true,
        Word::Plain(word) if word.eq_ignore_ascii_case("ALTER") => false,
        _ => return None,
    };
    // Whose it is comes before, and nothing else.
    let mut before = 0;
    loop {
        let word = words.next()?;
        if word.is("EVENT") {
            break;
        }
        let kind = [
            "TABLE",
            "DATABASE",
            "VIEW",
            "PROCEDURE",
            "FUNCTION",
            "TRIGGER",
            "USER",
            "INDEX",
        ];
        before += 1;
        if before > 12 || kind.iter().any(|kind| word.is(kind)) {
            return None;
        }
    }
    if words.peek()?.is("IF") {
        while !words.next()?.is("EXISTS") {}
    }
    let name = name(database, &mut words)?;
    let (mut state, mut renamed, mut depth) = (None, None, 0_u32);
    while let Some(word) = words.next() {
        match &word {
            Word::Mark('(') => depth += 1,
            Word::Mark(')') => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            word if word.is("DO") => break,
            word if word.is("ENABLE") => state = Some(State::On),
            word if word.is("DISABLE") => {
                state = Some(State::Off);
                if words.peek().is_some_and(|next| next.is("ON")) {
                    state = Some(State::Elsewhere);
                }
            }
            word if word.is("RENAME") => {
                words.next(); // TO
                renamed = Some(self::name(database, &mut words)?);
            }
            _ => {}
        }
    }
    Some(Statement {
        name,
        creates,
        state,
        renamed,
    })
}

fn name(database: &str, words: &mut std::iter::Peekable<std::vec::IntoIter<Word>>) -> Option<(String, String)> {
    let first = words.next()?.text()?;
    if words.peek() == Some(&Word::Mark('.')) {
        words.next();
        return Some((first, words.next()?.text()?));
    }
    Some((database.to_owned(), first))
}

#[derive(Debug, PartialEq, Eq)]
enum Word {
    Plain(String),
    /// Between backticks, or quoted.
    Quoted(String),
    Mark(char),
}

impl Word {
    fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Plain(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn text(self) -> Option<String> {
        match self {
            Self::Plain(text) | Self::Quoted(text) => Some(text),
            Self::Mark(_) => None,
        }
    }
}

fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.next() {
        if first.is_whitespace() {
            continue;
        }
        if matches!(first, '`' | '\'' | '"') {
            let mut quoted = String::new();
            while let Some(next) = chars.next() {
                let escaped = next == '\\' && first != '`';
                if escaped || (next == first && chars.peek() == Some(&first)) {
                    quoted.extend(chars.next());
                } else if next == first {
                    break;
                } else {
                    quoted.push(next);
                }
            }
            words.push(Word::Quoted(quoted));
        } else if first == '/' && chars.peek() == Some(&'*') {
            let mut last = ' ';
            for next in chars.by_ref() {
                if last == '*' && next == '/' {
                    break;
                }
                last = next;
            }
        } else if first.is_alphanumeric() || matches!(first, '_' | '$') || !first.is_ascii() {
            let mut word = String::from(first);
            while let Some(next) =
                chars.next_if(|next| next.is_alphanumeric() || matches!(next, '_' | '$') || !next.is_ascii())
            {
                word.push(next);
            }
            words.push(Word::Plain(word));
        } else {
            words.push(Word::Mark(first));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(statements: &[&str]) -> Vec<(String, bool)> {
        let mut states = BTreeMap::from([(("s".to_owned(), "old".to_owned()), false)]);
        let statements = EventStatements {
            statements: statements.iter().filter_map(|text| parse("s", text)).collect(),
        };
        statements.carry_out(&mut states);
        states
            .into_iter()
            .map(|((base, name), on)| (format!("{base}.{name}"), on))
            .collect()
    }

    fn known(pairs: &[(&str, bool)]) -> Vec<(String, bool)> {
        pairs.iter().map(|(name, on)| ((*name).to_owned(), *on)).collect()
    }

    #[test]
    fn events_end_as_the_source_had_them() {
        for (statements, expected) in [
            (
                &["CREATE DEFINER=`app`@`%` EVENT nightly ON SCHEDULE EVERY 1 DAY DO UPDATE t SET a = 'DISABLE'"][..],
                &[("s.nightly", true), ("s.old", false)][..],
            ),
            (
                &["CREATE EVENT IF NOT EXISTS `o'dd`.`x``y` ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1"],
                &[("o'dd.x`y", false), ("s.old", false)],
            ),
            (&["ALTER EVENT old COMMENT 'ENABLE'"], &[("s.old", false)]),
            (&["ALTER EVENT old ENABLE RENAME TO other.new"], &[("other.new", true)]),
            (&["ALTER EVENT old DISABLE ON REPLICA"], &[]),
            (
                &["CREATE TABLE t (event INT)", "ALTER TABLE event ENABLE KEYS"],
                &[("s.old", false)],
            ),
        ] {
            assert_eq!(after(statements), known(expected), "{statements:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, text: String) {
            drop((statement_of(&bytes), parse("s", &text)));
            drop(parse("s", &format!("CREATE EVENT {text}")));
        }
    }
}
