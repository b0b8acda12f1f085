//! Bytes to and from a server. Every wait is limited and races the cancel handle.
//!
//! A write that failed or was dropped half-way leaves the stream at an unknown place, so the channel then refuses to be used
//! again. A read can be dropped at any wait: what has come stays in the buffer.

use std::time::Duration;

use ballast_base::{Cancel, Transport};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::RedisError;

/// How much is asked of the transport at once.
const READ_BYTES: usize = 256 * 1024;
/// What a buffer has left is read into, down to this; so that small pieces do not each hold a buffer.
const READ_BYTES_MIN: usize = 16 * 1024;
/// Sending waits this long for the other side to take it.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Channel {
    transport: Box<dyn Transport>,
    /// What has come and nobody took.
    pub(crate) buffer: BytesMut,
    cancel: Cancel,
    pub(crate) read_wait_max: Duration,
    broken: bool,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("buffered", &self.buffer.len())
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

impl Channel {
    pub(crate) fn new(transport: Box<dyn Transport>, cancel: Cancel, read_wait_max: Duration) -> Self {
        Self {
            transport,
            buffer: BytesMut::new(),
            cancel,
            read_wait_max,
            broken: false,
        }
    }

    pub(crate) fn mark_broken(&mut self) {
        self.broken = true;
    }

    fn usable(&self, doing: &'static str) -> Result<(), RedisError> {
        if self.broken {
            let detail = "an earlier exchange on it was cut short".to_owned();
            return Err(RedisError::Gone { doing, detail });
        }
        Ok(())
    }

    /// Sends `bytes`, which may hold a password, and overwrites them.
    pub(crate) async fn send(&mut self, doing: &'static str, mut bytes: BytesMut) -> Result<(), RedisError> {
        self.usable(doing)?;
        self.broken = true;
        let write = async {
            self.transport.write_all(&bytes).await?;
            self.transport.flush().await
        };
        let written = self.cancel.race(tokio::time::timeout(WRITE_WAIT_MAX, write)).await;
        bytes.fill(0);
        match written? {
            Ok(Ok(())) => self.broken = false,
            Ok(Err(error)) => return Err(gone(doing, &error)),
            Err(_) => {
                return Err(RedisError::Timeout {
                    doing,
                    after: WRITE_WAIT_MAX,
                });
            }
        }
        Ok(())
    }

    /// Waits until more has come into the buffer; `false` when the server has closed. May be dropped and called again.
    pub(crate) async fn fill(&mut self, doing: &'static str) -> Result<bool, RedisError> {
        self.usable(doing)?;
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES_MIN {
            self.buffer.reserve(READ_BYTES);
        }
        let after = self.read_wait_max;
        let read = self.transport.read_buf(&mut self.buffer);
        match self.cancel.race(tokio::time::timeout(after, read)).await? {
            Ok(Ok(count)) => Ok(count > 0),
            // A server that closes with unread bytes of ours in its socket resets the connection.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(false),
            // So does one that ends TLS without saying so.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Ok(Err(error)) => Err(gone(doing, &error)),
            Err(_) => Err(RedisError::Timeout { doing, after }),
        }
    }

    /// All that is in the buffer, or what comes next; `None` when the server has closed. May be dropped and called again.
    pub(crate) async fn receive(&mut self, doing: &'static str) -> Result<Option<Bytes>, RedisError> {
        if self.buffer.is_empty() && !self.fill(doing).await? {
            return Ok(None);
        }
        Ok(Some(self.buffer.split().freeze()))
    }

    pub(crate) async fn shutdown(&mut self) {
        self.broken = true;
        // It is over either way.
        drop(tokio::time::timeout(WRITE_WAIT_MAX, self.transport.shutdown()).await);
    }
}

pub(crate) fn gone(doing: &'static str, error: &std::io::Error) -> RedisError {
    RedisError::Gone {
        doing,
        detail: error.to_string(),
    }
}

pub(crate) fn closed(doing: &'static str) -> RedisError {
    RedisError::Gone {
        doing,
        detail: "the server closed it".to_owned(),
    }
}
