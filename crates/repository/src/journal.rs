//! Journals: local files that are appended to, encrypted, and whole up to their last `sync` whatever kills the program or the machine.
//!
//! What a crash leaves behind the last sync may be anything: cut, zeroes, even a later record without the one before it. Each record says
//! how much of the file was synced when it was written. So a bad record ends the journal where nothing behind it was ever promised, and is
//! an error where a whole record later on proves that it was.
#![deny(clippy::indexing_slicing)]

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ballast_base::{DurableError, create_durable, fill_random};
use serde_json::Value;

use crate::bytes::{Cursor, Malformed};
use crate::cipher::{Key, Keys, TAG_BYTES, nonce};
use crate::error::{RepositoryError, Result};
use crate::format::{read_head, write_head};
use crate::repository::Repository;

/// Plain bytes one journal takes: a reader holds it in memory.
pub const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Of one record; longer appends become several records.
const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// What records add, if they are small, comes on top of it, within limits.
const FILE_BYTES_MAX: u64 = 2 * JOURNAL_BYTES_MAX;
/// A reader leaves room for the heads of many openings.
const READ_BYTES_MAX: u64 = 3 * JOURNAL_BYTES_MAX;
const ABOUT_BYTES_MAX: usize = 1024 * 1024;
const MAGIC: &[u8; 8] = b"BLSTJRNL";
/// What its key is derived for; no object has this name.
const KEY_NAME: &str = "journal";
const HEAD_BYTES: usize = 8 + 2 + 2 + 4 + 32 + 32;
const RECORD_MARK: &[u8; 4] = b"BLJR";
const RECORD_HEAD_BYTES: usize = 4 + 4 + 8;

/// A local append-only file under a key of the repository. It blocks: use it from `run_blocking`.
pub struct Journal {
    keys: Arc<Keys>,
    path: PathBuf,
    about: Value,
    file: File,
    key: Key,
    /// Where the file ends, as far as it was written.
    end: u64,
    plain: u64,
    /// `end` and `plain` as the last sync made them durable.
    synced: u64,
    synced_plain: u64,
    /// Something failed half-way: what comes next goes under a new key, as the same place may be written twice.
    broken: bool,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Journal({}, {} bytes)", self.path.display(), self.plain)
    }
}

impl Journal {
    /// A new one at `path`, where nothing may be. `about` says what it is for. Its name and head are durable when it returns.
    pub fn create(repository: &Repository, path: &Path, about: &Value) -> Result<Self> {
        let keys = Arc::clone(repository.keys());
        let (head, key) = head(&keys, about)?;
        let file = create_durable(path, &head)?;
        let end = head.len() as u64;
        Ok(Self {
            keys,
            path: path.to_owned(),
            about: about.clone(),
            file,
            key,
            end,
            plain: 0,
            synced: end,
            synced_plain: 0,
            broken: false,
        })
    }

    /// Opens one for reading.
    pub fn open(repository: &Repository, path: &Path) -> Result<JournalReader> {
        JournalReader::open(Arc::clone(repository.keys()), path)
    }

    /// Opens one to go on with it: a torn tail is cut off. Gives what it holds, to be read first.
    pub fn reopen(repository: &Repository, path: &Path) -> Result<(Self, Vec<Vec<u8>>)> {
        let keys = Arc::clone(repository.keys());
        let mut reader = JournalReader::open(Arc::clone(&keys), path)?;
        let mut records = Vec::new();
        while let Some(record) = reader.next_record()? {
            records.push(record);
        }
        let file = OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(DurableError::at("open journal", path))?;
        let end = reader.at as u64;
        let mut journal = Self {
            about: reader.about,
            key: reader.key,
            keys,
            path: path.to_owned(),
            file,
            end,
            plain: records.iter().map(|record| record.len() as u64).sum(),
            synced: 0,
            synced_plain: 0,
            broken: false,
        };
        journal.cut()?;
        // Even a tail without a tear may be followed by what a crash took away: the places behind it get a new key.
        journal.new_head()?;
        journal.sync()?;
        Ok((journal, records))
    }

    /// What it is for.
    pub fn about(&self) -> &Value {
        &self.about
    }

    /// Writes `bytes` behind what is there; safe from a crash only after [`Journal::sync`]. After an error nothing of `bytes` counts, and
    /// [`Journal::len`] tells what is still there; it can be tried again.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.broken {
            self.cut()?;
            self.new_head()?;
            self.broken = false;
        }
        let mut out = Vec::with_capacity(bytes.len() + 64);
        for piece in bytes.chunks(RECORD_BYTES_MAX) {
            self.seal_record(piece, &mut out);
        }
        let plain = self.plain.saturating_add(bytes.len() as u64);
        if plain > JOURNAL_BYTES_MAX || self.end + out.len() as u64 > FILE_BYTES_MAX {
            return Err(RepositoryError::TooLarge {
                what: "a journal",
                max: JOURNAL_BYTES_MAX,
            });
        }
        self.write(&out)?;
        self.plain = plain;
        Ok(())
    }

    /// All that was appended is durable when it returns. After an error, what was appended since the last sync is gone, and
    /// [`Journal::len`] tells what is left: what the system could not write once it may never write.
    pub fn sync(&mut self) -> Result<()> {
        let outcome = self.file.sync_data();
        self.settle("sync journal", outcome)
    }

    fn settle(&mut self, step: &'static str, outcome: std::io::Result<()>) -> Result<()> {
        if let Err(error) = outcome {
            (self.end, self.plain, self.broken) = (self.synced, self.synced_plain, true);
            // Tried again before anything is appended.
            drop(self.file.set_len(self.end));
            return Err(DurableError::at(step, &self.path)(error).into());
        }
        (self.synced, self.synced_plain) = (self.end, self.plain);
        Ok(())
    }

    /// Plain bytes in it.
    pub fn len(&self) -> u64 {
        self.plain
    }

    pub fn is_empty(&self) -> bool {
        self.plain == 0
    }

    fn seal_record(&self, piece: &[u8], out: &mut Vec<u8>) {
        let at = self.end + out.len() as u64;
        let mut sealed = piece.to_vec();
        let begin = out.len();
        out.extend_from_slice(RECORD_MARK);
        let stored = u32::try_from(sealed.len() + TAG_BYTES).expect("a record is at most 1 MiB");
        out.extend_from_slice(&stored.to_le_bytes());
        out.extend_from_slice(&self.synced.to_le_bytes());
        self.key
            .seal(nonce(at), out.get(begin..).unwrap_or_default(), &mut sealed, 0);
        out.extend_from_slice(&sealed);
    }

    fn new_head(&mut self) -> Result<()> {
        let (head, key) = head(&self.keys, &self.about)?;
        self.write(&head)?;
        self.key = key;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            self.broken = true;
            return Err(DurableError::at("write journal", &self.path)(error).into());
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Cuts off what lies behind the last whole record, and syncs what is before it.
    fn cut(&mut self) -> Result<()> {
        let end = self.end;
        let cut = self
            .file
            .set_len(end)
            .and_then(|()| self.file.seek(SeekFrom::Start(end)));
        cut.map_err(DurableError::at("cut journal", &self.path))?;
        let outcome = self.file.sync_all();
        self.settle("sync journal", outcome)
    }
}

/// A head and the key of the records behind it.
fn head(keys: &Keys, about: &Value) -> Result<(Vec<u8>, Key)> {
    let mut sealed = serde_json::to_vec(about).expect("JSON values always print");
    if sealed.len() > ABOUT_BYTES_MAX {
        return Err(RepositoryError::TooLarge {
            what: "what a journal says of itself",
            max: ABOUT_BYTES_MAX as u64,
        });
    }
    let mut salt = [0; 32];
    fill_random(&mut salt);
    let key = keys.key_for(KEY_NAME, &salt);
    let mut out = Vec::with_capacity(HEAD_BYTES + sealed.len() + TAG_BYTES);
    write_head(&mut out, MAGIC);
    out.extend_from_slice(&[0; 2]);
    let stored = u32::try_from(sealed.len() + TAG_BYTES).expect("bounded above");
    out.extend_from_slice(&stored.to_le_bytes());
    out.extend_from_slice(&salt);
    out.extend_from_slice(&key.commitment);
    // Records have their place in the file as nonce, and none lies at 0.
    key.key.seal(nonce(0), &out, &mut sealed, 0);
    out.extend_from_slice(&sealed);
    Ok((out, key.key))
}

/// Reads a journal from its beginning.
pub struct JournalReader {
    keys: Arc<Keys>,
    path: PathBuf,
    bytes: Vec<u8>,
    about: Value,
    key: Key,
    at: usize,
    torn: u64,
}

impl std::fmt::Debug for JournalReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JournalReader({}, at {})", self.path.display(), self.at)
    }
}

/// What stands at a place in the file.
enum Found {
    Record { plain: Vec<u8>, synced: u64, end: usize },
    Head { about: Value, key: Key, end: usize },
}

impl JournalReader {
    fn open(keys: Arc<Keys>, path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(DurableError::at("open journal", path))?;
        let mut bytes = Vec::new();
        file.take(READ_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(DurableError::at("read journal", path))?;
        let damaged = |cause: Malformed| damaged(path, cause);
        if bytes.len() as u64 > READ_BYTES_MAX {
            return Err(damaged(Malformed::new("it is larger than a journal can be")));
        }
        match read_at(&keys, None, &bytes, 0) {
            Ok(Found::Head { about, key, end }) => Ok(Self {
                keys,
                path: path.to_owned(),
                bytes,
                about,
                key,
                at: end,
                torn: 0,
            }),
            Ok(Found::Record { .. }) => Err(damaged(Malformed::new("it has no head"))),
            Err(cause) => Err(damaged(cause)),
        }
    }

    /// What it is for.
    pub fn about(&self) -> &Value {
        &self.about
    }

    /// The next record; `None` at the end, be it torn or not. What was appended in one piece may come in several.
    pub fn next_record(&mut self) -> Result<Option<Vec<u8>>> {
        while self.at < self.bytes.len() {
            match read_at(&self.keys, Some(&self.key), &self.bytes, self.at) {
                Ok(Found::Record { plain, end, .. }) => {
                    self.at = end;
                    return Ok(Some(plain));
                }
                Ok(Found::Head { key, end, .. }) => {
                    self.key = key;
                    self.at = end;
                }
                Err(cause) => {
                    self.torn = (self.bytes.len() - self.at) as u64;
                    return if self.was_promised() {
                        Err(damaged(
                            &self.path,
                            Malformed::new(format!("record at offset {}: {}", self.at, cause.0)),
                        ))
                    } else {
                        // The end stays the end.
                        self.bytes.truncate(self.at);
                        Ok(None)
                    };
                }
            }
        }
        Ok(None)
    }

    /// Bytes behind the last whole record; known when the end was read.
    pub fn torn_bytes(&self) -> u64 {
        self.torn
    }

    /// Whether a whole record behind the bad one at `at` was written when that place was synced already. A new head comes only
    /// after a sync of what is before it, so it proves the same.
    fn was_promised(&self) -> bool {
        let bad = self.at as u64;
        let mut from = self.at + 1;
        while let Some(rest) = self.bytes.get(from..) {
            let marks = rest
                .windows(4)
                .position(|window| window == RECORD_MARK || window == &MAGIC[..4]);
            let Some(distance) = marks else { return false };
            let at = from + distance;
            match read_at(&self.keys, Some(&self.key), &self.bytes, at) {
                Ok(Found::Head { .. }) => return true,
                Ok(Found::Record { synced, .. }) if synced > bad => return true,
                Ok(Found::Record { end, .. }) => from = end,
                Err(_) => from = at + 1,
            }
        }
        false
    }
}

/// Reads what begins at `at`: a record under `key`, or a head.
fn read_at(keys: &Keys, key: Option<&Key>, bytes: &[u8], at: usize) -> std::result::Result<Found, Malformed> {
    let rest = bytes.get(at..).unwrap_or_default();
    let mut cursor = Cursor::new(rest);
    if rest.starts_with(MAGIC) {
        read_head(&mut cursor, MAGIC).map_err(|_| Malformed::new("it is of another version"))?;
        cursor.expect("zeroes in its header", &[0; 2])?;
        let stored = cursor.u32()? as usize;
        let (salt, commitment) = (cursor.array::<32>()?, cursor.array::<32>()?);
        if stored > ABOUT_BYTES_MAX + TAG_BYTES {
            return Err(Malformed::new("its head is larger than the format allows"));
        }
        let own = keys.key_for(KEY_NAME, &salt);
        if own.commitment != commitment {
            return Err(Malformed::new("it is of another repository, or its head is damaged"));
        }
        let mut sealed = cursor.take(stored)?.to_vec();
        let plain = own
            .key
            .open(nonce(0), Cursor::new(rest).take(HEAD_BYTES)?, &mut sealed)?;
        let about = serde_json::from_slice(plain)
            .map_err(|error| Malformed::new(format!("what it says of itself is no JSON: {error}")))?;
        return Ok(Found::Head {
            about,
            key: own.key,
            end: at + HEAD_BYTES + stored,
        });
    }
    let key = key.ok_or_else(|| Malformed::new("it does not begin as a journal does"))?;
    cursor.expect("mark of a record", RECORD_MARK)?;
    let stored = cursor.u32()? as usize;
    let synced = cursor.u64()?;
    if stored > RECORD_BYTES_MAX + TAG_BYTES {
        return Err(Malformed::new("it is longer than a record can be"));
    }
    let mut sealed = cursor.take(stored)?.to_vec();
    let plain = key.open(
        nonce(at as u64),
        Cursor::new(rest).take(RECORD_HEAD_BYTES)?,
        &mut sealed,
    )?;
    Ok(Found::Record {
        plain: plain.to_vec(),
        synced,
        end: at + RECORD_HEAD_BYTES + stored,
    })
}

fn damaged(path: &Path, cause: Malformed) -> RepositoryError {
    let folder = path.parent().unwrap_or(Path::new(".")).display().to_string();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    RepositoryError::damaged(&folder, name, cause)
}
