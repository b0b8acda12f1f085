//! Following the command stream.
//!
//! The one who reads must never wait for a disk or an upload: a server drops whoever is slow, after a second at full speed.
//!
//! # Acknowledging
//! After a snapshot from memory the server sends nothing until an acknowledgement arrives, and one that comes before it has
//! reaped its child is lost: [`CommandLink::acknowledge_every`] says how often it takes. Later each second will do; a server that
//! hears nothing for its `repl-timeout` closes, and one that shuts down waits for replicas that have not acknowledged all.
//! What is durable is a second number, which `WAITAOF` counts.

use std::time::Duration;

use ballast_base::Cancel;
use bytes::Bytes;

use super::handshake::{self, Answer, SyncOptions};
use super::snapshot::Snapshot;
use crate::command::{CommandScanner, StreamCommand};
use crate::wire::channel::{Channel, closed};
use crate::wire::resp;
use crate::{Connection, Position, RedisError, ServerAddress};

const DOING: &str = "following the commands";
/// Until the first byte has come.
const FIRST_ACKNOWLEDGE_EVERY: Duration = Duration::from_millis(100);
const ACKNOWLEDGE_EVERY: Duration = Duration::from_secs(1);

/// How an attempt to follow from a position ended.
#[derive(Debug)]
pub enum Attached {
    /// The next byte is the one after what we have. The history may be another one now: see [`CommandLink::history`].
    Following(Box<CommandLink>),
    /// The server cannot go on from there and sends all its data. What lies between is in no stream.
    Restarted(Box<Snapshot>),
}

/// Some of the stream.
#[derive(Debug, Clone)]
pub struct StreamPiece {
    pub bytes: Bytes,
    /// The offset before its first byte, and of its last.
    pub from: u64,
    pub to: u64,
    /// The server asks for an acknowledgement now: somebody there waits for it.
    pub wants_answer: bool,
}

/// A connection on which commands arrive.
#[derive(Debug)]
pub struct CommandLink {
    channel: Channel,
    history: String,
    scanner: CommandScanner,
    has_begun: bool,
}

impl CommandLink {
    /// Goes on where `scanner` stands in `history`: after the last byte it was given.
    pub async fn attach(
        address: &ServerAddress,
        options: &SyncOptions,
        history: &str,
        scanner: CommandScanner,
        cancel: &Cancel,
    ) -> Result<Attached, RedisError> {
        let from = Position::new(history, scanner.offset());
        let from = from.ok_or_else(|| RedisError::protocol(format!("\"{history}\" is no replication id")))?;
        let connection = Connection::open(address, cancel).await?;
        let (channel, answer) = handshake::ask(connection, options, false, Some(&from)).await?;
        match answer {
            Answer::Continue { history } => {
                let history = history.map_or(from.history, |history| history.to_ascii_lowercase());
                let link = Self::new(channel, history, scanner);
                Ok(Attached::Following(Box::new(link)))
            }
            Answer::Full(position) => {
                let snapshot = Snapshot::begin(channel, position, options, false).await?;
                Ok(Attached::Restarted(Box::new(snapshot)))
            }
        }
    }

    pub(crate) fn new(channel: Channel, history: String, scanner: CommandScanner) -> Self {
        Self {
            channel,
            history,
            scanner,
            has_begun: false,
        }
    }

    /// The history the offsets count in, as the server calls it now.
    pub fn history(&self) -> &str {
        &self.history
    }

    /// What is known of the commands so far.
    pub fn scanner(&self) -> &CommandScanner {
        &self.scanner
    }

    /// Takes what is known away, to go on with another connection.
    pub fn into_scanner(self) -> CommandScanner {
        self.scanner
    }

    /// How often to acknowledge.
    pub fn acknowledge_every(&self) -> Duration {
        if self.has_begun {
            ACKNOWLEDGE_EVERY
        } else {
            FIRST_ACKNOWLEDGE_EVERY
        }
    }

    /// The next bytes, whatever has come; `on_command` sees each command that ends in them. May be dropped and called again.
    pub async fn next(
        &mut self,
        on_command: &mut (dyn FnMut(&StreamCommand<'_>) + Send),
    ) -> Result<StreamPiece, RedisError> {
        let bytes = self.channel.receive(DOING).await?.ok_or_else(|| closed(DOING))?;
        self.has_begun = true;
        let from = self.scanner.offset();
        let mut wants_answer = false;
        self.scanner.feed(&bytes, &mut |command| {
            wants_answer |= command.asks_for_acknowledgement();
            on_command(command);
        })?;
        Ok(StreamPiece {
            to: from + bytes.len() as u64,
            bytes,
            from,
            wants_answer,
        })
    }

    /// Tells the server how far we have received, and how far it is durable here.
    pub async fn acknowledge(&mut self, received: u64, durable: Option<u64>) -> Result<(), RedisError> {
        let (received, durable) = (received.to_string(), durable.map(|offset| offset.to_string()));
        let mut words: Vec<&[u8]> = vec![b"REPLCONF", b"ACK", received.as_bytes()];
        if let Some(durable) = &durable {
            words.extend([b"FACK".as_slice(), durable.as_bytes()]);
        }
        self.channel.send("acknowledging", resp::encode(&words)).await
    }
}
