//! Sends commands to a running server while the answers to earlier ones come, and no further ahead than a batch.

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::restore_commands::CommandBatch;
use crate::wire::resp::Reply;
use crate::{Connection, RedisError};

const DOING: &str = "loading keys";
/// Batches that were sent and are not answered.
const BATCHES_AHEAD: usize = 1;

/// One connection that loads.
#[derive(Debug)]
pub struct Loader {
    connection: Connection,
    unanswered: VecDeque<CommandBatch>,
    up_to: u64,
}

impl Loader {
    pub fn new(connection: Connection) -> Self {
        Self {
            connection,
            unanswered: VecDeque::new(),
            up_to: 0,
        }
    }

    /// Sends it. What is then known to be loaded: the snapshot up to this byte.
    pub async fn send(&mut self, mut batch: CommandBatch) -> Result<u64, RedisError> {
        let bytes = std::mem::replace(&mut batch.bytes, BytesMut::new());
        self.connection.channel.send(DOING, bytes).await?;
        self.unanswered.push_back(batch);
        while self.unanswered.len() > BATCHES_AHEAD {
            self.answers().await?;
        }
        Ok(self.up_to)
    }

    async fn answers(&mut self) -> Result<(), RedisError> {
        let Some(batch) = self.unanswered.pop_front() else {
            return Ok(());
        };
        for end in batch.ends {
            if let Reply::Error(message) = self.connection.answer(DOING).await? {
                return Err(match end {
                    Some((database, name)) => RedisError::Key {
                        database,
                        name: shown_key(&name),
                        message,
                    },
                    None => RedisError::Server { message },
                });
            }
        }
        self.up_to = batch.up_to;
        Ok(())
    }

    /// Waits for the last answer.
    pub async fn finish(mut self) -> Result<Connection, RedisError> {
        while !self.unanswered.is_empty() {
            self.answers().await?;
        }
        Ok(self.connection)
    }
}

/// A key's name as it can be shown.
pub fn shown_key(name: &[u8]) -> String {
    const SHOWN_BYTES: usize = 120;
    let mut shown = name.iter().take(SHOWN_BYTES).fold(String::new(), |mut out, byte| {
        out.extend(std::ascii::escape_default(*byte).map(char::from));
        out
    });
    if let Ok(text) = std::str::from_utf8(name)
        && name.len() <= SHOWN_BYTES
        && !text.contains(char::is_control)
    {
        text.clone_into(&mut shown);
    }
    if name.len() > SHOWN_BYTES {
        shown.push('…');
    }
    shown
}
