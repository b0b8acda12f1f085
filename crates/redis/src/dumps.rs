//! Keys of a running server, read one by one by `DUMP` and put together to a snapshot: what a server gives of a key is its
//! type and value as they stand in a snapshot, with the format's version and a checksum behind.
//!
//! It is no view of one moment: each key is as it was when it was asked for. A large value passes as it comes.
#![deny(clippy::indexing_slicing)]

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

use crate::rdb::{RdbComposer, key_head, select};
use crate::restore_commands::{FOOTER_BYTES, LARGE_BYTES, put_words};
use crate::wire::resp::Reply;
use crate::{Connection, RedisError, ServerVersion};

const DOING: &str = "reading keys";
/// About so much is given at once.
const PORTION_BYTES: usize = 256 * 1024;
/// What has come is given when no more than so many are left of those asked for: time to ask for more.
const KEYS_LEFT: usize = 256;
/// The answer of a key that is not there.
const NO_KEY: i64 = -2;

/// Reads keys. Ask for some, take what comes; ask for the next before the last has come, so that the server is never idle.
#[derive(Debug)]
pub struct Dumps {
    connection: Connection,
    composer: RdbComposer,
    version: u16,
    /// That is chosen on the server.
    chosen: Option<u32>,
    /// That the composed snapshot is at.
    written: Option<u32>,
    asked: VecDeque<Asked>,
    out: BytesMut,
    large: Option<Large>,
}

#[derive(Debug)]
enum Asked {
    Choice,
    Key { database: u32, name: Vec<u8> },
}

/// A value that is passing.
#[derive(Debug)]
struct Large {
    /// Without the version and the checksum.
    left: u64,
    sum: Digest,
    is_left_out: bool,
}

fn odd(what: &str) -> RedisError {
    RedisError::protocol(format!("DUMP: {what}"))
}

impl Dumps {
    /// Begins a snapshot with the server's functions, if they are wanted.
    pub async fn begin(
        mut connection: Connection,
        server: &ServerVersion,
        functions: bool,
    ) -> Result<Self, RedisError> {
        // Of a server without functions it is the footer alone, so the version is known before the first key.
        let reply = connection.command(&[b"FUNCTION", b"DUMP"]).await?;
        let Reply::Bytes(dump) = reply else {
            return Err(odd("no bytes"));
        };
        let footer = usize::try_from(FOOTER_BYTES).unwrap_or_default();
        let length = dump.len().checked_sub(footer).ok_or_else(|| odd("too short"))?;
        let libraries = dump.slice(..length);
        let mut sum = Digest::new(CrcAlgorithm::Crc64Redis);
        sum.update(&libraries);
        let version = checked_footer(&dump.slice(length..), sum)?;
        let (composer, mut out) = RdbComposer::begin(version, server);
        if functions {
            out.extend_from_slice(&libraries);
        }
        Ok(Self {
            connection,
            composer,
            version,
            chosen: None,
            written: None,
            asked: VecDeque::new(),
            out,
            large: None,
        })
    }

    /// Asks for keys of a database.
    pub async fn ask(&mut self, database: u32, names: Vec<Vec<u8>>) -> Result<(), RedisError> {
        let mut commands = BytesMut::new();
        if self.chosen != Some(database) {
            put_words(&mut commands, &[b"SELECT", database.to_string().as_bytes()]);
            self.asked.push_back(Asked::Choice);
            self.chosen = Some(database);
        }
        for name in names {
            put_words(&mut commands, &[b"PEXPIRETIME", &name]);
            put_words(&mut commands, &[b"DUMP", &name]);
            self.asked.push_back(Asked::Key { database, name });
        }
        self.connection.channel.send(DOING, commands).await
    }

    /// Keys that were asked for and have not come.
    pub fn waiting(&self) -> usize {
        self.asked.len()
    }

    /// The next bytes of the snapshot; `None` when all that was asked for has come.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RedisError> {
        loop {
            if self.out.len() >= PORTION_BYTES || self.asked.len() == KEYS_LEFT && !self.out.is_empty() {
                return Ok(Some(self.composer.give(&mut self.out)));
            }
            if let Some(large) = self.large.take() {
                self.large = self.pass(large).await?;
                continue;
            }
            match self.asked.pop_front() {
                Some(Asked::Choice) => {
                    if let Reply::Error(message) = self.connection.answer(DOING).await? {
                        return Err(RedisError::Server { message });
                    }
                }
                Some(Asked::Key { database, name }) => self.key(database, &name).await?,
                None if self.out.is_empty() => return Ok(None),
                None => return Ok(Some(self.composer.give(&mut self.out))),
            }
        }
    }

    async fn key(&mut self, database: u32, name: &[u8]) -> Result<(), RedisError> {
        let refused = |message| RedisError::Key {
            database,
            name: crate::loader::shown_key(name),
            message,
        };
        let expires_at = match self.connection.answer(DOING).await? {
            Reply::Integer(at) => at,
            Reply::Error(message) => return Err(refused(message)),
            _ => return Err(odd("an expiry that is no number")),
        };
        let length = match self.connection.text_begins(DOING).await? {
            Ok(Some(length)) => length,
            Ok(None) => return Ok(()),
            Err(message) => return Err(refused(message)),
        };
        if length <= FOOTER_BYTES {
            return Err(odd("too short"));
        }
        // It came into being between the two questions: nobody can say when it ends.
        let is_left_out = expires_at == NO_KEY;
        self.connection.need(DOING, 1).await?;
        let code = self.connection.channel.buffer.get_u8();
        if !is_left_out {
            if self.written != Some(database) {
                select(&mut self.out, database);
                self.written = Some(database);
            }
            key_head(&mut self.out, name, code, (expires_at >= 0).then_some(expires_at));
        }
        let mut sum = Digest::new(CrcAlgorithm::Crc64Redis);
        sum.update(&[code]);
        let left = length - FOOTER_BYTES - 1;
        let large = Large { left, sum, is_left_out };
        if left > LARGE_BYTES {
            self.large = Some(large);
            return Ok(());
        }
        self.connection
            .need(DOING, usize::try_from(left).unwrap_or(usize::MAX))
            .await?;
        self.pass(large).await?;
        Ok(())
    }

    /// Takes what has come of a value, or waits for more of it.
    async fn pass(&mut self, mut large: Large) -> Result<Option<Large>, RedisError> {
        if large.left > 0 {
            self.connection.need(DOING, 1).await?;
            let buffer = &mut self.connection.channel.buffer;
            let now = buffer
                .len()
                .min(usize::try_from(large.left).unwrap_or(usize::MAX))
                .min(4 * PORTION_BYTES);
            let now_bytes = usize::try_from(LARGE_BYTES).unwrap_or(usize::MAX).min(now);
            let taken = buffer.split_to(now_bytes);
            large.sum.update(&taken);
            if !large.is_left_out {
                self.out.extend_from_slice(&taken);
            }
            large.left -= now_bytes as u64;
            if large.left > 0 {
                return Ok(Some(large));
            }
        }
        let footer = usize::try_from(FOOTER_BYTES).unwrap_or_default();
        self.connection.need(DOING, footer + 2).await?;
        let buffer = &mut self.connection.channel.buffer;
        let version = checked_footer(&buffer.split_to(footer), large.sum)?;
        if version != self.version {
            return Err(odd("another version than before"));
        }
        if buffer.split_to(2) != b"\r\n".as_slice() {
            return Err(odd("it does not end where it should"));
        }
        Ok(None)
    }

    /// The end of the snapshot, when all has come.
    pub async fn end(mut self) -> Bytes {
        let end = self.composer.end();
        self.connection.close().await;
        end
    }
}

fn checked_footer(footer: &[u8], mut sum: Digest) -> Result<u16, RedisError> {
    let (version, stored) = footer.split_first_chunk::<2>().ok_or_else(|| odd("too short"))?;
    let stored = stored.first_chunk::<8>().ok_or_else(|| odd("too short"))?;
    sum.update(version);
    let (found, stored) = (sum.finalize(), u64::from_le_bytes(*stored));
    if stored != 0 && found != stored {
        return Err(odd("its checksum is wrong"));
    }
    Ok(u16::from_le_bytes(*version))
}
