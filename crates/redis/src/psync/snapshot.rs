//! One snapshot over the network.

use std::collections::VecDeque;

use ballast_base::Cancel;
use bytes::Bytes;

use super::handshake::{self, Answer, SILENCE_MAX, SyncOptions};
use super::link::CommandLink;
use super::payload::{Envelope, Payload};
use crate::command::CommandScanner;
use crate::wire::channel::Channel;
use crate::{Connection, Position, RedisError, ServerAddress};

const DOING: &str = "reading a snapshot";

/// How the server makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotForm {
    /// Its child process sends it while it makes it.
    FromMemory,
    /// It stands in a file of the server's, of this length.
    FromFile { bytes: u64 },
}

/// A snapshot that is coming. Dropped, the connection ends, and the server ends its child.
#[derive(Debug)]
pub struct Snapshot {
    channel: Channel,
    position: Position,
    form: SnapshotForm,
    payload: Payload,
    waiting: VecDeque<Bytes>,
    /// What followed the end.
    rest: Bytes,
    is_alone: bool,
}

impl Snapshot {
    /// Asks for all data and nothing after it, and waits until the first byte is about to come.
    pub async fn start(address: &ServerAddress, options: &SyncOptions, cancel: &Cancel) -> Result<Self, RedisError> {
        let connection = Connection::open(address, cancel).await?;
        let (channel, answer) = handshake::ask(connection, options, true, None).await?;
        match answer {
            Answer::Full(position) => Self::begin(channel, position, options, true).await,
            Answer::Continue { .. } => Err(RedisError::protocol("+CONTINUE to who has nothing")),
        }
    }

    /// The server has said that it will send one.
    pub(crate) async fn begin(
        mut channel: Channel,
        position: Position,
        options: &SyncOptions,
        is_alone: bool,
    ) -> Result<Self, RedisError> {
        let line = handshake::next_line(&mut channel, options.start_wait).await;
        let line = line.map_err(|error| cut_short(error, 0))?;
        let envelope = Envelope::parse(&line)?;
        channel.read_wait_max = SILENCE_MAX;
        Ok(Self {
            channel,
            position,
            form: match envelope {
                Envelope::Mark(_) => SnapshotForm::FromMemory,
                Envelope::Length(bytes) => SnapshotForm::FromFile { bytes },
            },
            payload: Payload::new(envelope),
            waiting: VecDeque::new(),
            rest: Bytes::new(),
            is_alone,
        })
    }

    /// Up to where in the stream it holds everything. The next command's first byte has the next offset.
    pub fn position(&self) -> &Position {
        &self.position
    }

    pub fn form(&self) -> SnapshotForm {
        self.form
    }

    /// Bytes given so far, and those that wait to be.
    pub fn bytes(&self) -> u64 {
        self.payload.given
    }

    /// The next bytes of it; `None` at its end. May be dropped and called again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RedisError> {
        loop {
            if let Some(bytes) = self.waiting.pop_front() {
                return Ok(Some(bytes));
            }
            if self.payload.has_ended() {
                return Ok(None);
            }
            let received = self.channel.receive(DOING).await;
            let Some(portion) = received.map_err(|error| cut_short(error, self.payload.given))? else {
                let closed = crate::wire::channel::closed(DOING);
                return Err(cut_short(closed, self.payload.given));
            };
            let split = self.payload.split(portion);
            self.waiting.extend(split.snapshot);
            if let Some(rest) = split.rest {
                self.rest = rest;
            }
        }
    }

    /// Goes on with the commands after it. Only for a snapshot that was not asked for alone, and after its end.
    pub fn into_link(mut self) -> Result<CommandLink, RedisError> {
        if self.is_alone || !self.payload.has_ended() || !self.waiting.is_empty() {
            return Err(RedisError::protocol("commands were asked for where none follow"));
        }
        let mut buffer = bytes::BytesMut::from(self.rest.as_ref());
        buffer.extend_from_slice(&self.channel.buffer);
        self.channel.buffer = buffer;
        // The server chooses a database before the first command after a snapshot.
        let scanner = CommandScanner::new(self.position.offset, 0);
        Ok(CommandLink::new(self.channel, self.position.history, scanner))
    }
}

/// A server closes when its child fails: only its own log says why.
fn cut_short(error: RedisError, after: u64) -> RedisError {
    match error {
        RedisError::Gone { detail, .. } => RedisError::Disturbed {
            what: format!("the server ended its snapshot after {after} bytes: {detail}"),
            hint: "its log says why: often no memory for its child process, or another save that was running"
                .to_owned(),
        },
        other => other,
    }
}
