//! The command stream: where each command begins and ends, which database it is for, and which belong together.
//!
//! The scanner keeps the first words of a command and counts the rest, so that a command of gigabytes costs nothing. A stream may
//! be cut anywhere and go on in the next piece, or on the next connection. Its bytes are never changed: they are an append-only file
//! as they are, pings and acknowledgements included, and only so do offsets stay exact.
//!
//! A **border** is an offset where the stream may be cut: behind a command that is in no transaction, or behind the `EXEC` of one.
//! Whoever starts to read at a border must first choose the database that was selected there.
#![deny(clippy::indexing_slicing)]

use std::borrow::Cow;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use crate::RedisError;
use crate::wire::resp;

/// Words of a command that are kept…
const WORDS_KEPT: usize = 3;
/// … and how much of each.
const WORD_BYTES_KEPT: usize = 64;
/// `*` or `$`, a number, and the end of the line.
const LINE_BYTES_MAX: usize = 32;
/// The server's own limit on the words of one command.
const WORDS_MAX: u64 = 0x7FFF_FFFF;
/// Far above what any server takes as one word.
const WORD_BYTES_MAX: u64 = 1 << 40;

/// Where a stream may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Border {
    /// Of the last byte before it.
    pub offset: u64,
    /// The database selected there.
    pub database: u32,
}

/// One command, when its last byte has come.
#[derive(Debug)]
pub struct StreamCommand<'a> {
    words: &'a [Vec<u8>],
    /// How many words it has.
    pub word_count: u64,
    /// The database it is for.
    pub database: u32,
    /// Offsets: of the last byte before it, and of its own last.
    pub from: u64,
    pub to: u64,
    /// Whether it is part of a transaction, `MULTI` and `EXEC` included.
    pub in_transaction: bool,
    /// Whether the stream may be cut behind it.
    pub is_border: bool,
}

impl StreamCommand<'_> {
    /// In upper case.
    pub fn name(&self) -> Cow<'_, str> {
        let name = self
            .words
            .first()
            .map_or(Cow::Borrowed(""), |word| String::from_utf8_lossy(word));
        if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Cow::Owned(name.to_ascii_uppercase());
        }
        name
    }

    /// The first words, the name included, each cut to 64 bytes.
    pub fn words(&self) -> &[Vec<u8>] {
        self.words
    }

    fn word_is(&self, at: usize, text: &str) -> bool {
        self.words
            .get(at)
            .is_some_and(|word| word.eq_ignore_ascii_case(text.as_bytes()))
    }

    /// `REPLCONF GETACK *`.
    pub(crate) fn asks_for_acknowledgement(&self) -> bool {
        self.word_is(0, "replconf") && self.word_is(1, "getack")
    }

    /// Whether it changes nothing: the server only shows that it is there.
    pub fn is_idle(&self) -> bool {
        self.word_is(0, "ping") || self.word_is(0, "replconf")
    }
}

/// Knows where a stream stands. Kept and read back, it goes on in the middle of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandScanner {
    offset: u64,
    database: u32,
    in_transaction: bool,
    border: Border,
    command_from: u64,
    state: State,
    line: Vec<u8>,
    words: Vec<Vec<u8>>,
    word_count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum State {
    /// In the line that says how many words come.
    Count,
    /// In the line that says how long the next word is.
    Length { words: u64 },
    /// In a word; `bytes` of it are missing, its line end included.
    Word { words: u64, bytes: u64 },
}

impl CommandScanner {
    /// A stream whose next byte begins a command: a border, with the database selected there.
    pub fn new(offset: u64, database: u32) -> Self {
        Self {
            offset,
            database,
            in_transaction: false,
            border: Border { offset, database },
            command_from: offset,
            state: State::Count,
            line: Vec::new(),
            words: Vec::new(),
            word_count: 0,
        }
    }

    /// Of the last byte it was given.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The last border.
    pub fn border(&self) -> Border {
        self.border
    }

    /// Whether it stands at a border.
    pub fn is_at_border(&self) -> bool {
        self.border.offset == self.offset
    }

    fn odd(&self, what: &str) -> RedisError {
        RedisError::protocol(format!("{what} at offset {} of the command stream", self.offset))
    }

    /// Takes the next bytes.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        on_command: &mut (dyn FnMut(&StreamCommand<'_>) + Send),
    ) -> Result<(), RedisError> {
        while !bytes.is_empty() {
            match self.state {
                State::Word { words, bytes: missing } => {
                    let now = bytes.len().min(usize::try_from(missing).unwrap_or(usize::MAX));
                    let (word, rest) = bytes.split_at(now);
                    self.in_word(word, missing)?;
                    bytes = rest;
                    let missing = missing - now as u64;
                    if missing > 0 {
                        self.state = State::Word { words, bytes: missing };
                    } else if words > 1 {
                        self.state = State::Length { words: words - 1 };
                    } else {
                        self.end_command(on_command)?;
                    }
                }
                State::Count | State::Length { .. } => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
                    bytes = rest;
                    if self.line.len() + line.len() > LINE_BYTES_MAX {
                        return Err(self.odd("a line that is too long"));
                    }
                    self.line.extend_from_slice(line);
                    self.offset += line.len() as u64;
                    if end.is_some() {
                        self.end_line()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), RedisError> {
        let number = |kind: &[u8]| -> Option<u64> {
            let digits = self.line.strip_prefix(kind)?.strip_suffix(b"\r\n")?;
            std::str::from_utf8(digits).ok()?.parse().ok()
        };
        self.state = match self.state {
            State::Count => {
                let words = number(b"*").filter(|words| (1..=WORDS_MAX).contains(words));
                let words = words.ok_or_else(|| self.odd("no command begins"))?;
                self.words.clear();
                self.word_count = words;
                State::Length { words }
            }
            State::Length { words } => {
                let bytes = number(b"$").filter(|bytes| *bytes <= WORD_BYTES_MAX);
                let bytes = bytes.ok_or_else(|| self.odd("no word of a command begins"))?;
                if self.words.len() < WORDS_KEPT {
                    self.words.push(Vec::new());
                }
                State::Word {
                    words,
                    bytes: bytes + 2,
                }
            }
            word @ State::Word { .. } => word,
        };
        self.line.clear();
        Ok(())
    }

    /// Some of a word of which `missing` bytes are missing, the two of its line end included.
    fn in_word(&mut self, bytes: &[u8], missing: u64) -> Result<(), RedisError> {
        let content = bytes
            .len()
            .min(usize::try_from(missing.saturating_sub(2)).unwrap_or(usize::MAX));
        let (content, end) = bytes.split_at(content);
        let State::Word { words, .. } = self.state else {
            return Ok(());
        };
        let number = usize::try_from(self.word_count - words).unwrap_or(usize::MAX);
        if let Some(word) = self.words.get_mut(number) {
            let room = WORD_BYTES_KEPT.saturating_sub(word.len());
            word.extend(content.iter().take(room));
        }
        let end_begins = (missing - content.len() as u64).min(2);
        let expected: &[u8] = if end_begins == 2 { b"\r\n" } else { b"\n" };
        self.offset += bytes.len() as u64;
        if !expected.starts_with(end) {
            return Err(self.odd("a word of a command does not end as one"));
        }
        Ok(())
    }

    fn end_command(&mut self, on_command: &mut (dyn FnMut(&StreamCommand<'_>) + Send)) -> Result<(), RedisError> {
        let is = |text: &str| {
            self.words
                .first()
                .is_some_and(|word| word.eq_ignore_ascii_case(text.as_bytes()))
        };
        let (begins, ends) = (is("multi"), is("exec"));
        if begins && self.in_transaction || ends && !self.in_transaction {
            return Err(self.odd("MULTI and EXEC that do not belong together"));
        }
        if is("select") {
            let number = self
                .words
                .get(1)
                .and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
            self.database = number.ok_or_else(|| self.odd("SELECT of what is no database"))?;
        }
        let in_transaction = self.in_transaction || begins;
        self.in_transaction = in_transaction && !ends;
        let is_border = !self.in_transaction;
        on_command(&StreamCommand {
            words: &self.words,
            word_count: self.word_count,
            database: self.database,
            from: self.command_from,
            to: self.offset,
            in_transaction,
            is_border,
        });
        self.command_from = self.offset;
        self.state = State::Count;
        if is_border {
            self.border = Border {
                offset: self.offset,
                database: self.database,
            };
        }
        Ok(())
    }
}

/// The command that chooses a database, as a stream holds it.
pub fn select_command(database: u32) -> Vec<u8> {
    let bytes: BytesMut = resp::encode(&[b"SELECT", database.to_string().as_bytes()]);
    bytes.to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(commands: &[&str]) -> Vec<u8> {
        let encode = |command: &&str| {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            resp::encode(&words).to_vec()
        };
        commands.iter().flat_map(encode).collect()
    }

    const COMMANDS: [&str; 11] = [
        "SELECT 3",
        "SET a 1",
        "multi",
        "SET b 2",
        "select 5",
        "SET c 3",
        "exec",
        "ping",
        "REPLCONF GETACK *",
        "MULTI",
        "DEL a",
    ];

    #[test]
    fn borders_databases_and_offsets() {
        let bytes = stream(&COMMANDS);
        let mut scanner = CommandScanner::new(1000, 0);
        let mut seen = Vec::new();
        let mut asked = 0;
        scanner
            .feed(&bytes, &mut |command| {
                asked += u32::from(command.asks_for_acknowledgement());
                seen.push((
                    command.name().into_owned(),
                    command.database,
                    command.in_transaction,
                    command.is_border,
                ));
            })
            .unwrap();
        let seen: Vec<(&str, u32, bool, bool)> =
            seen.iter().map(|(name, a, b, c)| (name.as_str(), *a, *b, *c)).collect();
        assert_eq!(
            seen,
            [
                ("SELECT", 3, false, true),
                ("SET", 3, false, true),
                ("MULTI", 3, true, false),
                ("SET", 3, true, false),
                ("SELECT", 5, true, false),
                ("SET", 5, true, false),
                ("EXEC", 5, true, true),
                ("PING", 5, false, true),
                ("REPLCONF", 5, false, true),
                ("MULTI", 5, true, false),
                ("DEL", 5, true, false),
            ]
        );
        assert_eq!((asked, scanner.offset()), (1, 1000 + bytes.len() as u64));
        let whole = stream(&COMMANDS[..9]).len() as u64;
        assert_eq!(
            scanner.border(),
            Border {
                offset: 1000 + whole,
                database: 5
            }
        );
        assert!(!scanner.is_at_border());
        // What servers send when nothing happens, to the byte.
        assert_eq!(stream(&["ping"]), b"*1\r\n$4\r\nping\r\n");
        assert_eq!(select_command(12), b"*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n");
    }

    #[test]
    fn what_is_no_stream_is_named() {
        for (bytes, named) in [
            (b"PING\r\n".as_slice(), "no command begins at offset 13"),
            (b"*0\r\n", "no command begins"),
            (b"*1\n", "no command begins"),
            (b"*1\r\n+4\r\n", "no word of a command begins"),
            (b"*1\r\n$-1\r\n", "no word of a command begins"),
            (b"*1\r\n$4\r\nPINGxx", "does not end as one"),
            (b"*1\r\n$4\r\nPING\rx", "does not end as one"),
            (b"*1111111111111111111111111111111111", "too long"),
            (b"*1\r\n$4\r\nEXEC\r\n", "do not belong together"),
            (b"*2\r\n$6\r\nSELECT\r\n$1\r\nx\r\n", "no database"),
        ] {
            let error = CommandScanner::new(7, 0)
                .feed(bytes, &mut |_| {})
                .unwrap_err()
                .to_string();
            assert!(error.contains(named), "{}: {error}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        #[test]
        fn cuts_anywhere_change_nothing(sizes in proptest::collection::vec(1_usize..30, 1..8)) {
            let bytes = stream(&COMMANDS);
            let all = |sizes: &[usize]| {
                let mut scanner = CommandScanner::new(0, 0);
                let mut seen = Vec::new();
                let (mut rest, mut turn) = (bytes.as_slice(), 0);
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(sizes[turn % sizes.len()].min(rest.len()));
                    scanner.feed(now, &mut |command| seen.push((command.from, command.to, command.words().to_vec(), command.database))).unwrap();
                    (rest, turn) = (later, turn + 1);
                }
                (seen, scanner.border(), scanner.offset())
            };
            prop_assert_eq!(all(&sizes), all(&[bytes.len()]));
        }

        #[test]
        fn what_is_kept_of_a_scanner_goes_on_the_same(cut in 0_usize..200) {
            let bytes = stream(&COMMANDS);
            let (before, after) = bytes.split_at(cut.min(bytes.len()));
            let mut scanner = CommandScanner::new(7, 2);
            scanner.feed(before, &mut |_| {}).unwrap();
            let kept = serde_json::to_string(&scanner).unwrap();
            let mut again: CommandScanner = serde_json::from_str(&kept).unwrap();
            scanner.feed(after, &mut |_| {}).unwrap();
            again.feed(after, &mut |_| {}).unwrap();
            prop_assert_eq!(again, scanner);
        }

        #[test]
        fn random_bytes_are_a_stream_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[*$0-9a-z\r\n]{0,100}") {
            drop(CommandScanner::new(0, 0).feed(&bytes, &mut |_| {}));
            drop(CommandScanner::new(0, 0).feed(text.as_bytes(), &mut |_| {}));
        }
    }
}
