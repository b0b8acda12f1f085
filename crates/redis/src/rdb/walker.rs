//! The walk itself: codes between the keys, the keys, the end.
#![deny(clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use super::digest::{ContentDigest, Hash, Sum};
use super::input::Input;
use super::parts::{KeyHead, Part, PartSink};
use super::selection::KeySelection;
use super::summary::{RdbSummary, RdbVersion};
use super::values::{KeyKind, ValueReader};
use crate::{Position, RedisError};

/// Facts about itself that a snapshot carries, and of which some are kept, are names of this length at most…
const FACT_NAME_BYTES_MAX: u64 = 64 * 1024;
/// … and of their values this much is kept.
const FACT_BYTES_KEPT: usize = 256;
/// Names of modules that are kept.
const MODULES_MAX: usize = 256;
/// Servers number their databases with less; one of damaged bytes would be anything.
const DATABASE_MAX: u64 = 1 << 31;

const SLOT_IMPORT: u8 = 0xF3;
const SLOT_INFO: u8 = 0xF4;
const FUNCTION: u8 = 0xF5;
const MODULE_FACTS: u8 = 0xF7;
const IDLE: u8 = 0xF8;
const FREQUENCY: u8 = 0xF9;
const FACT: u8 = 0xFA;
const SIZES: u8 = 0xFB;
const EXPIRY_MILLISECONDS: u8 = 0xFC;
const EXPIRY_SECONDS: u8 = 0xFD;
const DATABASE: u8 = 0xFE;
const END: u8 = 0xFF;

/// One key, when its value was read.
#[derive(Debug)]
pub struct KeyFact<'a> {
    pub database: u32,
    pub name: &'a [u8],
    pub kind: KeyKind,
    /// Milliseconds since 1970.
    pub expires_at: Option<i64>,
    pub elements: u64,
    pub digest: ContentDigest,
    /// Where it begins, its expiry included, and where it ends.
    pub from: u64,
    pub to: u64,
}

/// How to walk.
#[derive(Debug, Clone, Default)]
pub struct WalkOptions {
    /// Leaves out of counts and digests what expires at or before this moment (milliseconds since 1970): a server that was
    /// started later holds it no more.
    pub gone_until: Option<i64>,
    /// Leaves out of counts, digests and parts what is not of these keys, and then the functions too.
    pub only: KeySelection,
}

/// Walks a whole snapshot and calls `on_key` for each key that counts.
pub fn walk(
    source: impl Read,
    options: WalkOptions,
    on_key: &mut dyn FnMut(&KeyFact<'_>),
) -> Result<RdbSummary, RedisError> {
    walk_input(Input::new(source), options, on_key)
}

/// Walks a whole snapshot and gives its parts away as they pass.
pub fn walk_parts(source: impl Read, options: WalkOptions, sink: PartSink) -> Result<RdbSummary, RedisError> {
    let mut input = Input::new(source);
    input.sink = Some(sink);
    walk_input(input, options, &mut |_| {})
}

fn walk_input<R: Read>(
    mut input: Input<R>,
    options: WalkOptions,
    on_key: &mut dyn FnMut(&KeyFact<'_>),
) -> Result<RdbSummary, RedisError> {
    let version = RdbVersion::parse(input.array("the head")?)?;
    let walk = Walk {
        values: ValueReader::new(version.flavour, options.gone_until.unwrap_or(i64::MIN)),
        input,
        options,
        facts: BTreeMap::new(),
        hash: Hash::default(),
        functions: Sum::default(),
        sums: BTreeMap::new(),
        database: 0,
        expected: None,
        summary: RdbSummary {
            version,
            written_by: None,
            bytes: 0,
            checksum: None,
            position: None,
            databases: BTreeMap::new(),
            expiring_fields: 0,
            functions: 0,
            functions_digest: ContentDigest::default(),
            modules: BTreeSet::new(),
            largest_elements: 0,
        },
    };
    walk.run(on_key)
}

struct Walk<R> {
    input: Input<R>,
    options: WalkOptions,
    values: ValueReader,
    hash: Hash,
    facts: BTreeMap<&'static str, Vec<u8>>,
    functions: Sum,
    /// Of each database's keys.
    sums: BTreeMap<u32, Sum>,
    database: u32,
    /// Keys and expiring keys the server says the database has, less those that have come.
    expected: Option<(i64, i64)>,
    summary: RdbSummary,
}

/// Facts that are kept.
const KEPT_FACTS: [&str; 5] = ["redis-ver", "valkey-ver", "repl-id", "repl-offset", "repl-stream-db"];

impl<R: Read> Walk<R> {
    fn run(mut self, on_key: &mut dyn FnMut(&KeyFact<'_>)) -> Result<RdbSummary, RedisError> {
        match self.parts(on_key) {
            Ok(()) => self.end(),
            Err(unknown @ RedisError::Unsupported { .. }) => Err(self.judge(unknown)),
            Err(error) => Err(error),
        }
    }

    /// Up to the end mark.
    fn parts(&mut self, on_key: &mut dyn FnMut(&KeyFact<'_>)) -> Result<(), RedisError> {
        let mut expires_at = None;
        let (mut idle, mut frequency) = (None, None);
        let mut from = self.input.offset();
        loop {
            let code = self.input.byte("the next key")?;
            match code {
                EXPIRY_MILLISECONDS => {
                    expires_at = Some(i64::from_le_bytes(self.input.array("an expiry")?));
                    continue;
                }
                EXPIRY_SECONDS => {
                    expires_at = Some(i64::from(i32::from_le_bytes(self.input.array("an expiry")?)) * 1000);
                    continue;
                }
                IDLE => {
                    idle = Some(self.input.length("when a key was used")?);
                    continue;
                }
                FREQUENCY => {
                    frequency = Some(self.input.byte("how often a key was used")?);
                    continue;
                }
                END => break,
                SLOT_IMPORT..=END => self.between_keys(code)?,
                code => {
                    let head = KeyHead {
                        database: self.database,
                        name: &[],
                        code,
                        expires_at,
                        idle,
                        frequency,
                        value_from: 0,
                    };
                    self.key(head, from, on_key)?;
                }
            }
            (expires_at, idle, frequency) = (None, None, None);
            from = self.input.offset();
        }
        if expires_at.is_some() {
            return Err(self.input.damaged("it ends with an expiry that belongs to no key"));
        }
        Ok(())
    }

    /// What is unknown here may be new, or may have been changed on its way: the checksum at the end tells.
    fn judge(&mut self, unknown: RedisError) -> RedisError {
        let offset = self.input.offset();
        if !self.summary.version.has_checksum() {
            return unknown;
        }
        match self.input.drain() {
            Ok((_, 0)) => unknown,
            Ok((found, stored)) if found == stored => unknown,
            Ok((found, stored)) => RedisError::Damaged {
                offset,
                what: format!("{unknown}; and its checksum is {found:016x}, and {stored:016x} was stored"),
            },
            Err(error) => error,
        }
    }

    fn between_keys(&mut self, code: u8) -> Result<(), RedisError> {
        let input = &mut self.input;
        match code {
            FACT => self.fact()?,
            DATABASE => {
                self.check_sizes()?;
                let number = self.input.length("a database's number")?;
                let number = u32::try_from(number).ok().filter(|_| number < DATABASE_MAX);
                self.database = number.ok_or_else(|| self.input.damaged("a database's number is too large"))?;
            }
            SIZES => {
                let mut size = || -> Result<i64, RedisError> {
                    let size = input.length("a database's size")?;
                    i64::try_from(size).map_err(|_| input.damaged("a database's size is too large"))
                };
                self.expected = Some((size()?, size()?));
            }
            SLOT_INFO => {
                for _ in 0..3 {
                    input.length("the size of a slot")?;
                }
            }
            SLOT_IMPORT => {
                let form = input.form("a slot import")?;
                input.string(form, "a slot import", |_| {})?;
                for _ in 0..input.length("a slot import")? {
                    input.length("a slot import")?;
                    input.length("a slot import")?;
                }
            }
            FUNCTION => {
                let counts = self.options.only.has_functions();
                if counts {
                    input.give(Part::Function)?;
                    input.begin_copy();
                }
                let form = input.form("a library of functions")?;
                self.hash.number(form.length());
                input.string(form, "a library of functions", |portion| self.hash.portion(portion))?;
                input.end_copy()?;
                let digest = self.hash.finish();
                if counts {
                    input.give(Part::FunctionEnd { to: input.offset() })?;
                    self.functions.add(&digest);
                    self.summary.functions += 1;
                }
            }
            MODULE_FACTS => {
                let id = input.length("a module's number")?;
                // A code and a number: whether this stands before or behind the keys.
                input.length("a module's facts")?;
                input.length("a module's facts")?;
                self.values.module_parts(&mut self.input)?;
                self.values.ordered.finish();
                self.note_module(id);
            }
            _ => {
                return Err(RedisError::Unsupported {
                    what: format!(
                        "a part of a kind that is unknown here ({code:#04x}) at byte {}",
                        input.offset()
                    ),
                    hint: "the server may be newer than this program: look for a newer release of it".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn note_module(&mut self, id: u64) {
        if self.summary.modules.len() < MODULES_MAX {
            self.summary.modules.insert(module_name(id));
        }
    }

    fn fact(&mut self) -> Result<(), RedisError> {
        const READING: &str = "a fact of the snapshot";
        let form = self.input.form(READING)?;
        if form.length() > FACT_NAME_BYTES_MAX {
            return Err(self.input.damaged("the name of a fact is too long"));
        }
        let mut name = Vec::new();
        self.input
            .string(form, READING, |portion| name.extend_from_slice(portion))?;
        let form = self.input.form(READING)?;
        let mut value = Vec::new();
        self.input.string(form, READING, |portion| {
            let room = FACT_BYTES_KEPT - value.len();
            value.extend(portion.iter().take(room));
        })?;
        self.input.give(Part::Fact {
            name: &name,
            value: &value,
        })?;
        if let Some(kept) = KEPT_FACTS.iter().find(|kept| kept.as_bytes() == name) {
            self.facts.insert(kept, value);
        }
        Ok(())
    }

    fn key(&mut self, head: KeyHead<'_>, from: u64, on_key: &mut dyn FnMut(&KeyFact<'_>)) -> Result<(), RedisError> {
        let expires_at = head.expires_at;
        let mut name = std::mem::take(&mut self.values.name);
        self.input.whole(&mut name, "a key's name")?;
        let is_chosen = self.options.only.takes(self.database, &name);
        if is_chosen && self.input.sink.is_some() {
            let value_from = self.input.offset();
            self.input.give(Part::Key(KeyHead {
                name: &name,
                value_from,
                ..head
            }))?;
            self.input.begin_copy();
        }
        let value = self.values.read(head.code, &mut self.input)?;
        self.input.end_copy()?;
        if let Some(id) = value.module {
            self.note_module(id);
        }
        if let Some((keys, expiring)) = &mut self.expected {
            *keys -= 1;
            *expiring -= i64::from(expires_at.is_some());
        }
        if !is_chosen {
            self.values.name = name;
            return Ok(());
        }
        let to = self.input.offset();
        self.input.give(Part::KeyEnd { to })?;
        let database = self.summary.databases.entry(self.database).or_default();
        let gone_until = self.options.gone_until.unwrap_or(i64::MIN);
        let has_no_field = value.kind == KeyKind::Hash && value.elements == 0;
        if expires_at.is_some_and(|at| at <= gone_until) || has_no_field {
            database.gone += 1;
        } else {
            let hash = &mut self.hash;
            hash.text(&name);
            hash.number(value.kind as u64);
            hash.signed(expires_at.unwrap_or(-1));
            hash.digest(&value.digest);
            let sum = self.sums.entry(self.database).or_default();
            sum.add(&hash.finish());
            database.keys += 1;
            database.expiring += u64::from(expires_at.is_some());
            *database.kinds.entry(value.kind).or_default() += 1;
            self.summary.expiring_fields += value.expiring_fields;
            self.summary.largest_elements = self.summary.largest_elements.max(value.elements);
            on_key(&KeyFact {
                database: self.database,
                name: &name,
                kind: value.kind,
                expires_at,
                elements: value.elements,
                digest: value.digest,
                from,
                to: self.input.offset(),
            });
        }
        self.values.name = name;
        Ok(())
    }

    /// What the server said of the database that ends here.
    fn check_sizes(&mut self) -> Result<(), RedisError> {
        match self.expected.take() {
            None | Some((0, 0)) => Ok(()),
            Some((keys, expiring)) => Err(self.input.damaged(format!(
                "database {} lacks {keys} keys and {expiring} expiries of those it says it has",
                self.database
            ))),
        }
    }

    fn end(mut self) -> Result<RdbSummary, RedisError> {
        self.check_sizes()?;
        if self.summary.version.has_checksum() {
            let found = self.input.checksum();
            let stored = u64::from_le_bytes(self.input.array("the checksum")?);
            if stored != 0 && stored != found {
                return Err(self
                    .input
                    .damaged(format!("its checksum is {found:016x}, and {stored:016x} was stored")));
            }
            self.summary.checksum = (stored != 0).then_some(stored);
        }
        self.summary.bytes = self.input.offset();
        if !self.input.is_at_end()? {
            return Err(self.input.damaged("something follows its end"));
        }
        let mut text = |name| {
            let value = self.facts.remove(name)?;
            String::from_utf8(value).ok()
        };
        let (valkey, redis) = (text("valkey-ver"), text("redis-ver"));
        self.summary.written_by = match (valkey, redis) {
            (Some(version), _) => Some(format!("Valkey {version}")),
            (None, Some(version)) => Some(format!("Redis {version}")),
            (None, None) => None,
        };
        if let (Some(history), Some(offset)) = (text("repl-id"), text("repl-offset").and_then(|text| text.parse().ok()))
        {
            self.summary.position = Position::new(&history, offset);
        }
        for (number, database) in &mut self.summary.databases {
            database.digest = self.sums.remove(number).unwrap_or_default().digest();
        }
        self.summary.functions_digest = self.functions.digest();
        self.input.give(Part::End)?;
        Ok(self.summary)
    }
}

/// A module's number holds its name: nine characters of six bits, and a version.
fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9)
        .rev()
        .filter_map(|place| {
            let letter = usize::try_from(id >> (10 + place * 6) & 63).ok()?;
            LETTERS.get(letter).copied().map(char::from)
        })
        .collect()
}
