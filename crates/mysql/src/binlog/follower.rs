//! Follows a server's log as a replica would, and gives its bytes as they are in the server's file.
//!
//! # What is left out, and why nothing else can be
//! A server also sends events that no file has: where the next file begins, the format again when it starts within a
//! file, and heartbeats. They are recognised and never given on. Every other event must end, by what it says itself,
//! exactly where ours ends; so neither a hole nor anything twice gets past, and the place that is acknowledged is the
//! place of the server's own file.
//!
//! # Acknowledging
//! A server in semi-synchronous replication believes an acknowledgement without a look at it: one from the future would
//! end its waiting for good. So no place is acknowledged that did not come before.
#![deny(clippy::indexing_slicing)]

use std::time::Duration;

use ballast_base::Cancel;
use bytes::Bytes;

use super::event::{EventHeader, LOG_MAGIC};
use super::executed_set::LogFlavour;
use super::packet::{self, HeartbeatOffset, Packet};
use super::session::{self, FollowOptions, LogPlace};
use crate::wire::packet::PACKET_BYTES_FULL;
use crate::{Connection, MysqlError, ServerAddress};

/// A server that sends heartbeats and says nothing for this much longer is gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const DOING: &str = "following the log";

#[derive(Debug)]
pub struct LogFollower {
    connection: Connection,
    /// Behind the last byte that came.
    place: LogPlace,
    /// The file before, and its end.
    before: Option<LogPlace>,
    /// Events up to here are not given on: the server could not begin where we are.
    skip_until: u64,
    semi_sync: bool,
    /// The first packet, read when the connection was made.
    first: Option<Bytes>,
    /// An event of the log has come.
    began: bool,
    event: Option<Arriving>,
    /// The last packet was full, so the next one continues it.
    continued: bool,
}

/// An event of which parts are to come.
#[derive(Debug)]
struct Arriving {
    left: usize,
    waits: bool,
    given: bool,
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
        Self::connect_with(address, options, start, u64::from(u32::MAX), cancel).await
    }

    /// `plain_offset_max`: the common command names no offset above it.
    async fn connect_with(
        address: &ServerAddress,
        options: &FollowOptions,
        start: &LogPlace,
        plain_offset_max: u64,
        cancel: &Cancel,
    ) -> Result<Self, MysqlError> {
        let file_start = LOG_MAGIC.len() as u64;
        let wanted = LogPlace {
            file: start.file.clone(),
            offset: start.offset.max(file_start),
        };
        let far = wanted.offset > plain_offset_max;
        let by_gtid_command = far && has_gtids(address, options.flavour, cancel).await?;
        let begin = LogPlace {
            file: wanted.file.clone(),
            // The rest of the way is read and not given on.
            offset: if far && !by_gtid_command {
                file_start
            } else {
                wanted.offset
            },
        };
        let mut connection = session::ask_for_log(address, options, &begin, by_gtid_command, cancel).await?;
        connection.channel.read_wait_max = SILENCE_MAX + options.heartbeat;
        let mut follower = Self {
            connection,
            place: begin,
            before: None,
            skip_until: wanted.offset,
            semi_sync: false,
            first: None,
            began: false,
            event: None,
            continued: false,
        };
        let first = follower.receive().await?;
        follower.semi_sync = options.semi_sync && Packet::is_semi_sync(&first);
        if let Err(error) = Packet::decode(&first, follower.semi_sync) {
            return Err(packet::refusal(error, &wanted, false));
        }
        follower.first = Some(first);
        Ok(follower)
    }

    /// Whether the server takes us for a semi-synchronous replica. It need not wait for one: see `acknowledge` of the bytes.
    pub fn is_semi_sync(&self) -> bool {
        self.semi_sync
    }

    /// Behind the last byte that was given.
    pub fn place(&self) -> &LogPlace {
        &self.place
    }

    /// The next thing that comes. May be dropped while it waits, and called again.
    pub async fn next(&mut self) -> Result<Followed, MysqlError> {
        loop {
            let packet = match self.first.take() {
                Some(first) => first,
                None => self.receive().await?,
            };
            if let Some(followed) = self.take(&packet)? {
                return Ok(followed);
            }
        }
    }

    async fn receive(&mut self) -> Result<Bytes, MysqlError> {
        self.connection.channel.receive_packet(DOING).await
    }

    fn take(&mut self, packet: &Bytes) -> Result<Option<Followed>, MysqlError> {
        let continues = std::mem::replace(&mut self.continued, packet.len() == PACKET_BYTES_FULL);
        if continues {
            return self.take_part(packet.clone());
        }
        if self.event.is_some() {
            return Err(MysqlError::protocol("binlog: an event that has no end"));
        }
        match Packet::decode(packet, self.semi_sync) {
            Ok(Packet::End) => Ok(Some(Followed::Ended)),
            Ok(Packet::Event { event, waits }) => self.take_event(event, waits),
            Err(error) => Err(packet::refusal(error, &self.place, self.began)),
        }
    }

    fn take_event(&mut self, event: Bytes, waits: bool) -> Result<Option<Followed>, MysqlError> {
        let header = EventHeader::decode(&event)?;
        let size = usize::try_from(header.size).unwrap_or(usize::MAX);
        if event.len() > size || (event.len() < size && !self.continued) {
            return Err(MysqlError::protocol(format!(
                "binlog: an event of {size} bytes came in {}",
                event.len()
            )));
        }
        let artificial = header.flags & EventHeader::FLAG_ARTIFICIAL != 0;
        match header.kind {
            EventHeader::HEARTBEAT | EventHeader::HEARTBEAT_V2 => {
                return self.take_heartbeat(&header, &event).map(Some);
            }
            EventHeader::ROTATE if artificial || header.end_position == 0 => return self.take_rotate(&event),
            // Told again by a server that starts within a file; and what else is made for us.
            EventHeader::FORMAT_DESCRIPTION if header.end_position == 0 => return Ok(None),
            _ if artificial => return Ok(None),
            _ => {}
        }
        let end = self.place.offset + u64::from(header.size);
        let says_nothing = header.end_position == 0 && header.kind != EventHeader::FORMAT_DESCRIPTION;
        if !says_nothing && u64::from(header.end_position) != end & u64::from(u32::MAX) {
            return Err(MysqlError::protocol(format!(
                "binlog: bytes are missing or come twice in {}: an event that ends at {end} says it ends at {}",
                self.place.file, header.end_position
            )));
        }
        self.began = true;
        self.event = Some(Arriving {
            left: size,
            waits,
            given: end > self.skip_until,
        });
        if end > self.skip_until && self.place.offset < self.skip_until {
            return Err(MysqlError::LogRefused {
                file: self.place.file.clone(),
                offset: self.skip_until,
                cause: crate::error::LogRefusal::NoBorder,
                message: "no event begins there".to_owned(),
            });
        }
        self.take_part(event)
    }

    /// The first or a further part of the event.
    fn take_part(&mut self, part: Bytes) -> Result<Option<Followed>, MysqlError> {
        let Some(event) = &mut self.event else {
            // The empty packet behind one that was full and the last.
            return if part.is_empty() {
                Ok(None)
            } else {
                Err(MysqlError::protocol("binlog: bytes behind the end of an event"))
            };
        };
        let Some(left) = event.left.checked_sub(part.len()) else {
            return Err(MysqlError::protocol("binlog: bytes behind the end of an event"));
        };
        if left > 0 && !self.continued {
            return Err(MysqlError::protocol(format!(
                "binlog: an event that ends {left} bytes too early"
            )));
        }
        event.left = left;
        self.place.offset += part.len() as u64;
        let followed = event.given.then_some(Followed::Bytes {
            bytes: part,
            last_of_event: left == 0,
            acknowledge: left == 0 && event.waits,
        });
        if left == 0 {
            self.event = None;
        }
        Ok(followed)
    }

    fn take_rotate(&mut self, event: &[u8]) -> Result<Option<Followed>, MysqlError> {
        let next = packet::decode_rotate(event)?;
        let file_start = LOG_MAGIC.len() as u64;
        if next.file == self.place.file {
            if next.offset.max(file_start) != self.place.offset {
                return Err(MysqlError::protocol(format!(
                    "binlog: the server goes on at {}:{} where {} is expected",
                    next.file, next.offset, self.place.offset
                )));
            }
            let is_new = self.place.offset == file_start && self.skip_until <= file_start && !self.began;
            return Ok(is_new.then(|| Followed::FileStart { file: next.file }));
        }
        if !self.began && self.place.offset != self.skip_until.max(file_start) || next.offset != file_start {
            return Err(MysqlError::protocol(format!(
                "binlog: the server goes on at {}:{} instead of {}:{}",
                next.file, next.offset, self.place.file, self.place.offset
            )));
        }
        self.skip_until = file_start;
        let file = next.file.clone();
        self.before = Some(std::mem::replace(&mut self.place, next));
        Ok(Some(Followed::FileStart { file }))
    }

    fn take_heartbeat(&mut self, header: &EventHeader, event: &[u8]) -> Result<Followed, MysqlError> {
        let heartbeat = packet::decode_heartbeat(header, event)?;
        let ours = self.place.offset;
        let fits = match heartbeat.offset {
            HeartbeatOffset::Whole(offset) => offset == ours,
            HeartbeatOffset::LowHalf(low) => u64::from(low) == ours & u64::from(u32::MAX),
        };
        if !fits || heartbeat.file != self.place.file {
            let theirs = match heartbeat.offset {
                HeartbeatOffset::Whole(offset) => offset,
                HeartbeatOffset::LowHalf(low) => u64::from(low),
            };
            return Err(MysqlError::protocol(format!(
                "binlog: the server sent up to {}:{theirs}, and {}:{ours} came",
                heartbeat.file, self.place.file
            )));
        }
        Ok(Followed::Heartbeat {
            file: heartbeat.file,
            offset: ours,
        })
    }

    /// Everything of `file` up to `offset`, which is the end of an event, and all before it is safe. Nothing is sent where
    /// the server does not take us for a semi-synchronous replica. Not to be dropped while it waits.
    pub async fn acknowledge(&mut self, file: &str, offset: u64) -> Result<(), MysqlError> {
        let came = std::iter::once(&self.place)
            .chain(&self.before)
            .find(|place| place.file == file)
            .is_some_and(|place| offset <= place.offset);
        if !came {
            return Err(MysqlError::protocol(format!(
                "{file}:{offset} is to be acknowledged, and {}:{} came",
                self.place.file, self.place.offset
            )));
        }
        if !self.semi_sync {
            return Ok(());
        }
        let bytes = packet::acknowledgement(file, offset);
        self.connection
            .channel
            .send_command("acknowledging the log", &[&bytes])
            .await
    }
}

/// Whether the command by which MySQL names any offset is allowed.
async fn has_gtids(address: &ServerAddress, flavour: LogFlavour, cancel: &Cancel) -> Result<bool, MysqlError> {
    if flavour == LogFlavour::MariaDb {
        return Ok(false);
    }
    let mut connection = Connection::open(address, cancel).await?;
    let mode = connection.value("SELECT @@GLOBAL.gtid_mode").await?;
    connection.close().await;
    Ok(mode.as_deref() == Some("ON"))
}
