//! A snapshot becomes commands for a running server: `RESTORE` of each key and `FUNCTION RESTORE` of each library.
//!
//! What `RESTORE` takes is what the snapshot holds: the type's number and the value's bytes as they stand there, with the format's
//! version and a checksum behind. So no value is taken apart and put together again, nothing has to be loaded into a server of our
//! own first, and what a server writes of a key is what another reads. The version behind may be a lower one than the
//! snapshot's: a type that a release knows is the same in every later one, and [`needed_version`] says which know it.
//!
//! A command says how long its value is before it, which is known only behind it. So a value is held until it has ended, unless it is
//! one of those that the caller says are large: of these the length is known from an earlier walk, and they pass as they come.
#![deny(clippy::indexing_slicing)]

use bytes::{BufMut as _, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use tokio::sync::mpsc;

use crate::rdb::text::Digits;
use crate::rdb::{KeyHead, KeySelection, Part, PartSink};
use crate::server::{Flavour, ServerVersion};
use crate::{RdbVersion, RedisError};

/// A value that is longer passes as it comes, and its length must be known.
pub const LARGE_BYTES: u64 = 1024 * 1024;
/// About so much is sent at once.
const BATCH_BYTES: usize = 512 * 1024;
/// Batches that wait to be sent; who makes them waits then.
const BATCHES_WAITING_MAX: usize = 2;
/// A library of functions is no longer than this.
const FUNCTION_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The code before a library.
const FUNCTION: u8 = 0xF5;
/// Version and checksum.
pub(crate) const FOOTER_BYTES: u64 = 10;

/// The format's version with which a type of value came.
pub fn needed_version(flavour: Flavour, code: u8) -> RdbVersion {
    let redis = |number| RdbVersion {
        flavour: Flavour::Redis,
        number,
    };
    match (flavour, code) {
        (_, ..=6 | 8..=13) => redis(6),
        (_, 7 | 14) => redis(8),
        (_, 15) => redis(9),
        (_, 16..=19) => redis(10),
        (_, 20 | 21) => redis(11),
        (Flavour::Redis, _) => redis(12),
        (Flavour::Valkey, _) => RdbVersion {
            flavour: Flavour::Valkey,
            number: 80,
        },
    }
}

/// The version to write behind values of a snapshot, so that a server takes them.
pub fn payload_version(snapshot: RdbVersion, target: &ServerVersion) -> u32 {
    if target.loads(snapshot) {
        return snapshot.number;
    }
    (1..=snapshot.number)
        .rev()
        .find(|number| {
            target.loads(RdbVersion {
                flavour: Flavour::Redis,
                number: *number,
            })
        })
        .unwrap_or(snapshot.number)
}

/// How to make the commands.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    pub payload_version: u32,
    /// A key that is there is replaced; without it, it is an error.
    pub replace: bool,
    /// Keys and functions before this byte of the snapshot are there already.
    pub from: u64,
    /// Where values of more than [`LARGE_BYTES`] begin, and how long they are, in the snapshot's order.
    pub large: Vec<(u64, u64)>,
}

/// Commands to send, and of which keys they are.
#[derive(Debug)]
pub struct CommandBatch {
    pub(crate) bytes: BytesMut,
    /// Of each command that ends in it: database and key, if it is of a key.
    pub(crate) ends: Vec<Option<(u32, Vec<u8>)>>,
    /// When all are answered, the snapshot was loaded up to here.
    pub(crate) up_to: u64,
}

/// Makes the commands while a snapshot is walked.
pub fn restore_commands(options: RestoreOptions) -> (PartSink, mpsc::Receiver<CommandBatch>) {
    let (batches, receiver) = mpsc::channel(BATCHES_WAITING_MAX);
    let mut maker = Maker {
        options,
        batches,
        out: BytesMut::with_capacity(BATCH_BYTES * 2),
        ends: Vec::new(),
        up_to: 0,
        database: None,
        next_large: 0,
        value: Vec::new(),
        sum: Digest::new(CrcAlgorithm::Crc64Redis),
        key: None,
        state: State::Passed,
    };
    (Box::new(move |part| maker.take(part)), receiver)
}

struct Maker {
    options: RestoreOptions,
    batches: mpsc::Sender<CommandBatch>,
    out: BytesMut,
    ends: Vec<Option<(u32, Vec<u8>)>>,
    up_to: u64,
    /// That is chosen on the server.
    database: Option<u32>,
    next_large: usize,
    value: Vec<u8>,
    /// Of a value that passes.
    sum: Digest,
    key: Option<OwnHead>,
    state: State,
}

struct OwnHead {
    database: u32,
    name: Vec<u8>,
    expires_at: Option<i64>,
    idle: Option<u64>,
    frequency: Option<u8>,
}

enum State {
    /// Left out.
    Passed,
    Held,
    Passing {
        left: u64,
    },
}

impl Maker {
    fn take(&mut self, part: Part<'_>) -> Result<(), RedisError> {
        match part {
            Part::Fact { .. } => Ok(()),
            Part::Key(head) => self.begin_key(&head),
            Part::Bytes(bytes) => self.bytes(bytes),
            Part::KeyEnd { to } => {
                self.end_key()?;
                self.end_part(to)
            }
            Part::Function => {
                self.value.clear();
                self.value.push(FUNCTION);
                self.state = State::Held;
                Ok(())
            }
            Part::FunctionEnd { to } => {
                if to > self.options.from {
                    self.function();
                }
                self.end_part(to)
            }
            Part::End => self.flush(),
        }
    }

    fn begin_key(&mut self, head: &KeyHead<'_>) -> Result<(), RedisError> {
        if head.value_from < self.options.from {
            self.state = State::Passed;
            return Ok(());
        }
        if self.database != Some(head.database) {
            let number = Digits::new(i64::from(head.database));
            put_words(&mut self.out, &[b"SELECT", number.as_bytes()]);
            self.ends.push(None);
            self.database = Some(head.database);
        }
        self.key = Some(OwnHead {
            database: head.database,
            name: head.name.to_vec(),
            expires_at: head.expires_at,
            idle: head.idle,
            frequency: head.frequency,
        });
        let large = self.options.large.iter().skip(self.next_large);
        let before = large.clone().take_while(|(from, _)| *from < head.value_from).count();
        self.next_large += before;
        match self.options.large.get(self.next_large).copied() {
            Some((from, length)) if from == head.value_from => {
                self.begin_command(length + 1 + FOOTER_BYTES);
                self.out.put_u8(head.code);
                self.sum = Digest::new(CrcAlgorithm::Crc64Redis);
                self.sum.update(&[head.code]);
                self.state = State::Passing { left: length };
                self.flush_when_full()
            }
            _ => {
                self.value.clear();
                self.value.push(head.code);
                self.state = State::Held;
                Ok(())
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), RedisError> {
        match &mut self.state {
            State::Passed => Ok(()),
            State::Held => {
                let max = if self.key.is_some() {
                    usize::try_from(LARGE_BYTES).unwrap_or(usize::MAX)
                } else {
                    FUNCTION_BYTES_MAX
                };
                if self.value.len() + bytes.len() > max + 1 {
                    return Err(RedisError::protocol(
                        "a value is larger than it was when it was walked before",
                    ));
                }
                self.value.extend_from_slice(bytes);
                Ok(())
            }
            State::Passing { left } => {
                let rest = left.checked_sub(bytes.len() as u64);
                *left = rest
                    .ok_or_else(|| RedisError::protocol("a value is longer than it was when it was walked before"))?;
                self.sum.update(bytes);
                self.out.put_slice(bytes);
                self.flush_when_full()
            }
        }
    }

    /// Up to the value.
    fn begin_command(&mut self, value_bytes: u64) {
        let Some(key) = &self.key else { return };
        let words = 5
            + if self.options.replace { 1 } else { 0 }
            + if key.idle.is_some() || key.frequency.is_some() {
                2
            } else {
                0
            };
        put_number(&mut self.out, b'*', words);
        put_word(&mut self.out, b"RESTORE");
        put_word(&mut self.out, &key.name);
        put_word(&mut self.out, Digits::new(key.expires_at.unwrap_or(0)).as_bytes());
        put_number(&mut self.out, b'$', i64::try_from(value_bytes).unwrap_or(i64::MAX));
    }

    /// From the version on.
    fn end_command(&mut self, mut sum: Digest) {
        let version = u16::try_from(self.options.payload_version)
            .unwrap_or(u16::MAX)
            .to_le_bytes();
        sum.update(&version);
        self.out.put_slice(&version);
        self.out.put_u64_le(sum.finalize());
        self.out.put_slice(b"\r\n");
    }

    fn end_key(&mut self) -> Result<(), RedisError> {
        let sum = match std::mem::replace(&mut self.state, State::Passed) {
            State::Passed => return Ok(()),
            State::Held => {
                self.begin_command(self.value.len() as u64 + FOOTER_BYTES);
                self.out.put_slice(&self.value);
                let mut sum = Digest::new(CrcAlgorithm::Crc64Redis);
                sum.update(&self.value);
                sum
            }
            State::Passing { left: 0 } => std::mem::replace(&mut self.sum, Digest::new(CrcAlgorithm::Crc64Redis)),
            State::Passing { .. } => {
                return Err(RedisError::protocol(
                    "a value is shorter than it was when it was walked before",
                ));
            }
        };
        self.end_command(sum);
        let Some(key) = self.key.take() else { return Ok(()) };
        put_word(&mut self.out, b"ABSTTL");
        if self.options.replace {
            put_word(&mut self.out, b"REPLACE");
        }
        if let Some(idle) = key.idle {
            put_word(&mut self.out, b"IDLETIME");
            put_word(&mut self.out, Digits::new(i64::try_from(idle).unwrap_or(0)).as_bytes());
        } else if let Some(frequency) = key.frequency {
            put_word(&mut self.out, b"FREQ");
            put_word(&mut self.out, Digits::new(i64::from(frequency)).as_bytes());
        }
        self.ends.push(Some((key.database, key.name)));
        Ok(())
    }

    fn function(&mut self) {
        put_number(&mut self.out, b'*', if self.options.replace { 4 } else { 3 });
        put_word(&mut self.out, b"FUNCTION");
        put_word(&mut self.out, b"RESTORE");
        let bytes = self.value.len() as u64 + FOOTER_BYTES;
        put_number(&mut self.out, b'$', i64::try_from(bytes).unwrap_or(i64::MAX));
        self.out.put_slice(&self.value);
        let mut sum = Digest::new(CrcAlgorithm::Crc64Redis);
        sum.update(&self.value);
        self.end_command(sum);
        if self.options.replace {
            put_word(&mut self.out, b"REPLACE");
        }
        self.ends.push(None);
    }

    fn end_part(&mut self, to: u64) -> Result<(), RedisError> {
        self.state = State::Passed;
        self.up_to = to;
        self.flush_when_full()
    }

    fn flush_when_full(&mut self) -> Result<(), RedisError> {
        if self.out.len() >= BATCH_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), RedisError> {
        let batch = CommandBatch {
            bytes: std::mem::replace(&mut self.out, BytesMut::with_capacity(BATCH_BYTES * 2)),
            ends: std::mem::take(&mut self.ends),
            up_to: self.up_to,
        };
        self.batches.blocking_send(batch).map_err(|_| RedisError::Source {
            source: std::io::Error::other("nobody sends any more"),
        })
    }
}

fn put_number(out: &mut BytesMut, kind: u8, number: i64) {
    out.put_u8(kind);
    out.put_slice(Digits::new(number).as_bytes());
    out.put_slice(b"\r\n");
}

fn put_word(out: &mut BytesMut, word: &[u8]) {
    put_number(out, b'$', i64::try_from(word.len()).unwrap_or(i64::MAX));
    out.put_slice(word);
    out.put_slice(b"\r\n");
}

pub(crate) fn put_words(out: &mut BytesMut, words: &[&[u8]]) {
    put_number(out, b'*', i64::try_from(words.len()).unwrap_or(i64::MAX));
    words.iter().for_each(|word| put_word(out, word));
}

/// What must be known of a snapshot before it is loaded into a running server.
#[derive(Debug, Clone, Default)]
pub struct LoadNeeds {
    pub keys: u64,
    pub functions: u64,
    /// How many of each type.
    pub codes: std::collections::BTreeMap<u8, u64>,
    /// Of [`RestoreOptions::large`].
    pub large: Vec<(u64, u64)>,
    /// The longest value, and whose it is.
    pub longest: Option<(u64, u32, Vec<u8>)>,
    /// Of all values that are chosen.
    pub bytes: u64,
    /// Of all there are.
    pub all_bytes: u64,
    pub highest_database: u32,
    /// What the server took for all of its data, by its own word.
    pub used_memory: Option<u64>,
}

/// Some names of one database.
pub type Names = (u32, Vec<Vec<u8>>);

/// Gathers that while a snapshot is walked whole; names of chosen keys go out as they pass.
pub fn load_needs(
    only: KeySelection,
    names: Option<mpsc::Sender<Names>>,
) -> (PartSink, std::sync::mpsc::Receiver<LoadNeeds>) {
    const NAMES_TOGETHER: usize = 512;
    let (done, receiver) = std::sync::mpsc::channel();
    let mut needs = LoadNeeds::default();
    let mut open: Option<(u32, Vec<u8>, u64)> = None;
    let mut held: Names = (0, Vec::new());
    let sink: PartSink = Box::new(move |part| {
        match part {
            Part::Fact { name, value } if name == b"used-mem" => {
                needs.used_memory = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            }
            Part::Key(head) if only.takes(head.database, head.name) => {
                needs.keys += 1;
                *needs.codes.entry(head.code).or_default() += 1;
                needs.highest_database = needs.highest_database.max(head.database);
                open = Some((head.database, head.name.to_vec(), head.value_from));
            }
            Part::KeyEnd { to } => {
                let Some((database, name, from)) = open.take() else {
                    return Ok(());
                };
                let bytes = to - from;
                needs.bytes += bytes;
                if bytes > LARGE_BYTES {
                    needs.large.push((from, bytes));
                }
                let is_longest = needs.longest.as_ref().is_none_or(|(longest, ..)| bytes > *longest);
                if let Some(names) = &names {
                    if (held.0 != database && !held.1.is_empty()) || held.1.len() >= NAMES_TOGETHER {
                        let full = std::mem::take(&mut held);
                        names.blocking_send(full).map_err(|_| stopped())?;
                    }
                    held.0 = database;
                    held.1.push(name.clone());
                }
                if is_longest {
                    needs.longest = Some((bytes, database, name));
                }
            }
            Part::Bytes(bytes) => needs.all_bytes += bytes.len() as u64,
            Part::Function | Part::Key(_) | Part::Fact { .. } => {}
            Part::FunctionEnd { .. } if only.is_all() => needs.functions += 1,
            Part::FunctionEnd { .. } => {}
            Part::End => {
                if let Some(names) = names.as_ref().filter(|_| !held.1.is_empty()) {
                    names.blocking_send(std::mem::take(&mut held)).map_err(|_| stopped())?;
                }
                done.send(std::mem::take(&mut needs)).map_err(|_| stopped())?;
            }
        }
        Ok(())
    });
    (sink, receiver)
}

fn stopped() -> RedisError {
    RedisError::Source {
        source: std::io::Error::other("nobody listens any more"),
    }
}
