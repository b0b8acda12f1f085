//! Follows a server's log as a replica would, and gives its bytes as they are in the server's file.
//!
//! # Acknowledging
//! A server in semi-synchronous replication believes an acknowledgement without a look at it: one from the future would
//! end its waiting for good. So no place is acknowledged that did not come before.
#![deny(clippy::indexing_slicing)]

use std::time::Duration;

use ballast_base::Cancel;
use bytes::Bytes;

use super::event::LOG_MAGIC;
use super::packet::{self, Packet};
use super::receiver::Receiver;
use super::session::{self, FollowOptions, LogPlace};
use crate::{Connection, MysqlError, ServerAddress};

/// A server that sends heartbeats and says nothing for this much longer is gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const DOING: &str = "following the log";

#[derive(Debug)]
pub struct LogFollower {
    connection: Connection,
    receiver: Receiver,
    /// The first packet, read when the connection was made.
    first: Option<Bytes>,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// Bytes of the file. A large event comes in several parts.
    Bytes {
        bytes: Bytes,
        last_of_event: bool,
        /// The server waits until [`LogFollower::acknowledge`] says that everything up to here is safe.
        acknowledge: bool,
    },
    /// A file begins; its four magic bytes are not sent.
    FileStart { file: String },
    /// Nothing happened; everything up to here came.
    Heartbeat { file: String, offset: u64 },
    /// The server shuts down.
    Ended,
}

impl LogFollower {
    /// From `start` on, where an event begins, or a file (offset 0 or 4).
    pub async fn connect(
        address: &ServerAddress,
        options: &FollowOptions,
        start: &LogPlace,
        cancel: &Cancel,
    ) -> Result<Self, MysqlError> {
        let file_start = LOG_MAGIC.len() as u64;
        let wanted = LogPlace {
            file: start.file.clone(),
            offset: start.offset.max(file_start),
        };
        let far = wanted.offset > options.plain_offset_max;
        let begin = LogPlace {
            file: wanted.file.clone(),
            // The rest of the way is read and not given on.
            offset: if far { file_start } else { wanted.offset },
        };
        let mut connection = session::ask_for_log(address, options, &begin, cancel).await?;
        connection.channel.read_wait_max = SILENCE_MAX + options.heartbeat;
        let first = connection.channel.receive_packet(DOING).await?;
        let semi_sync = options.semi_sync && Packet::is_semi_sync(&first);
        if let Err(error) = Packet::decode(&first, semi_sync) {
            return Err(packet::refusal(error, &wanted, false));
        }
        Ok(Self {
            connection,
            receiver: Receiver::new(begin, wanted.offset, semi_sync),
            first: Some(first),
        })
    }

    /// Whether the server takes us for a semi-synchronous replica. It need not wait for one: see `acknowledge` of the bytes.
    pub fn is_semi_sync(&self) -> bool {
        self.receiver.is_semi_sync()
    }

    /// Behind the last byte that was given.
    pub fn place(&self) -> &LogPlace {
        self.receiver.place()
    }

    /// The next thing that comes. May be dropped while it waits, and called again.
    pub async fn next(&mut self) -> Result<Followed, MysqlError> {
        loop {
            let packet = match self.first.take() {
                Some(first) => first,
                None => self.connection.channel.receive_packet(DOING).await?,
            };
            if let Some(followed) = self.receiver.take(&packet)? {
                return Ok(followed);
            }
        }
    }

    /// Everything of `file` up to `offset`, which is the end of an event, and all before it is safe. Nothing is sent where
    /// the server does not take us for a semi-synchronous replica. Not to be dropped while it waits.
    pub async fn acknowledge(&mut self, file: &str, offset: u64) -> Result<(), MysqlError> {
        if !self.receiver.has(file, offset) {
            let place = self.receiver.place();
            return Err(MysqlError::protocol(format!(
                "{file}:{offset} is to be acknowledged, and {}:{} came",
                place.file, place.offset
            )));
        }
        if !self.receiver.is_semi_sync() {
            return Ok(());
        }
        let bytes = packet::acknowledgement(file, offset);
        self.connection
            .channel
            .send_command("acknowledging the log", &[&bytes])
            .await
    }
}
