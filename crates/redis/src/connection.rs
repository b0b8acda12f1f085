//! One logged-in connection and commands on it.
//!
//! Every wait has a limit and races the cancel handle given when it was opened. A call that failed in the middle of an
//! answer, or was dropped there, leaves the connection unusable: later calls say so instead of reading another command's
//! answer.

use std::time::Duration;

use ballast_base::Cancel;
use bytes::Buf as _;

use crate::wire::channel::{Channel, closed};
use crate::wire::resp::{self, Reply, TEXT_BYTES_MAX};
use crate::{RedisError, ServerAddress, TlsMode};

/// A port that does not speak TLS often says nothing at all.
const TLS_WAIT_MAX: Duration = Duration::from_secs(10);
/// Logging in may take this long.
const LOGIN_WAIT_MAX: Duration = Duration::from_secs(20);
/// A command is answered within this time unless the caller says otherwise.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);
/// An answer as a whole is no larger than this.
const ANSWER_BYTES_MAX: usize = TEXT_BYTES_MAX + 64 * 1024 * 1024;
/// How the server refuses the person, not the command.
const LOGIN_CODES: [&str; 4] = ["NOAUTH", "WRONGPASS", "DENIED", "NOPERM"];

#[derive(Debug)]
pub struct Connection {
    pub(crate) channel: Channel,
    place: String,
}

impl Connection {
    /// Connects, encrypts, logs in, chooses the address's database.
    pub async fn open(address: &ServerAddress, cancel: &Cancel) -> Result<Self, RedisError> {
        let opened = Self::log_in(address, cancel).await;
        opened.map_err(|error| named(address, error))
    }

    async fn log_in(address: &ServerAddress, cancel: &Cancel) -> Result<Self, RedisError> {
        let mut transport = cancel.race(address.connect()).await??;
        if address.tls != TlsMode::Off && address.socket.is_none() {
            let encrypt = tokio::time::timeout(TLS_WAIT_MAX, address.encrypt(transport));
            transport = cancel.race(encrypt).await?.map_err(|_| RedisError::Tls {
                address: address.place(),
                detail: format!("no answer to the handshake within {} s", TLS_WAIT_MAX.as_secs()),
            })??;
        }
        let mut connection = Self {
            channel: Channel::new(transport, cancel.clone(), LOGIN_WAIT_MAX),
            place: address.place(),
        };
        if let Some(password) = &address.password {
            let mut words: Vec<&[u8]> = vec![b"AUTH"];
            words.extend(address.user.as_deref().map(str::as_bytes));
            words.push(password.expose().as_bytes());
            connection
                .run("logging in", &words)
                .await
                .map_err(|error| refusal(address, error))?;
        }
        if address.database != 0 {
            let number = address.database.to_string();
            connection
                .run("choosing the database", &[b"SELECT", number.as_bytes()])
                .await?;
        }
        connection.channel.read_wait_max = ANSWER_WAIT_MAX;
        Ok(connection)
    }

    /// Where the server is, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// How long an answer may take to come.
    pub fn set_read_timeout(&mut self, wait_max: Duration) {
        self.channel.read_wait_max = wait_max;
    }

    /// Runs one command. An error answer is an error.
    pub async fn command(&mut self, words: &[&[u8]]) -> Result<Reply, RedisError> {
        self.run("running a command", words).await
    }

    pub(crate) async fn run(&mut self, doing: &'static str, words: &[&[u8]]) -> Result<Reply, RedisError> {
        self.channel.send(doing, resp::encode(words)).await?;
        match self.answer(doing).await? {
            Reply::Error(message) => Err(RedisError::Server { message }),
            reply => Ok(reply),
        }
    }

    pub(crate) async fn answer(&mut self, doing: &'static str) -> Result<Reply, RedisError> {
        loop {
            match resp::take_reply(&mut self.channel.buffer) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) if self.channel.buffer.len() > ANSWER_BYTES_MAX => {
                    self.channel.mark_broken();
                    return Err(RedisError::protocol(format!(
                        "an answer of more than {ANSWER_BYTES_MAX} bytes"
                    )));
                }
                Ok(None) => {}
                Err(error) => {
                    self.channel.mark_broken();
                    return Err(error);
                }
            }
            self.more(doing).await?;
        }
    }

    async fn more(&mut self, doing: &'static str) -> Result<(), RedisError> {
        let mut whole = Whole(&mut self.channel, false);
        let more = whole.0.fill(doing).await;
        whole.1 = matches!(more, Ok(true));
        drop(whole);
        if more? { Ok(()) } else { Err(closed(doing)) }
    }

    /// Waits until so many bytes have come and nobody took them.
    pub(crate) async fn need(&mut self, doing: &'static str, bytes: usize) -> Result<(), RedisError> {
        while self.channel.buffer.len() < bytes {
            self.more(doing).await?;
        }
        Ok(())
    }

    /// The begin of an answer that is one text, of which no more is taken than how long it is: the bytes, and a line's end,
    /// follow. `None` is no text; an error answer is given as it is.
    pub(crate) async fn text_begins(
        &mut self,
        doing: &'static str,
    ) -> Result<std::result::Result<Option<u64>, String>, RedisError> {
        loop {
            if let Some((line, next)) = resp::line_at(&self.channel.buffer, 0)? {
                let found = match line.split_first() {
                    Some((b'$', digits)) => Ok(u64::try_from(resp::number(digits)?).ok()),
                    Some((b'-', message)) => Err(String::from_utf8_lossy(message).into_owned()),
                    _ => return Err(RedisError::protocol("an answer that is no text")),
                };
                self.channel.buffer.advance(next);
                return Ok(found);
            }
            self.more(doing).await?;
        }
    }

    /// Says goodbye and closes.
    pub async fn close(mut self) {
        self.channel.shutdown().await;
    }
}

/// A wait for an answer that did not end well, or was dropped, breaks the channel.
struct Whole<'a>(&'a mut Channel, bool);

impl Drop for Whole<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.mark_broken();
        }
    }
}

/// A connection that ends before it was of use says whose it was to be.
fn named(address: &ServerAddress, error: RedisError) -> RedisError {
    match error {
        RedisError::Gone { .. } | RedisError::Timeout { .. } => RedisError::Unreachable {
            address: address.place(),
            source: std::io::Error::other(error.to_string()),
        },
        other => other,
    }
}

fn refusal(address: &ServerAddress, error: RedisError) -> RedisError {
    match error {
        RedisError::Server { message }
            if LOGIN_CODES.contains(&message.split(' ').next().unwrap_or_default())
                || message.contains("without any password") =>
        {
            RedisError::Login {
                user: address.user.clone().unwrap_or_else(|| "default".to_owned()),
                address: address.place(),
                message,
            }
        }
        other => other,
    }
}
