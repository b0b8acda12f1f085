//! A log served to one server of our own, as if the one that wrote it were there: the private server's replica connects, and its
//! own applier does the work.
//!
//! # Who may come
//! It listens on 127.0.0.1 only, and takes one account whose name and password are made for this one run. One replica is served;
//! when it has asked for the log nobody else is let in.
//!
//! # What the replica must never see
//! - An end without words. A closed connection makes it come again, many times a second, and what it had half is asked for anew. So
//!   the stream ends by an error packet with a text of ours, after which it stays away.
//! - An event that carries its own server id: it takes that for one of its own that went in a circle and drops it in silence (a
//!   MariaDB moves its position on all the same). It is refused here, at the last place where it can be seen.
//! - A heartbeat that names another file than the last ROTATE did.
//!
//! The conversation was recorded from real servers (MySQL 9.7, MariaDB 10.11); what is asked beyond it is answered as an unknown
//! variable, which they tolerate or say aloud.

mod conversation;
mod events;
mod framing;
mod login;

use std::time::Duration;

use ballast_base::{Cancel, Secret, Task, random_hex, spawn};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use self::conversation::{Asked, converse};
pub use self::events::{empty_query, event_checksum};
use self::framing::Framing;
use crate::wire::packet::Channel;
use crate::{Flavour, MysqlError};

/// What was given and is not sent yet, in pieces of whatever size the giver chose.
const QUEUE_PIECES_MAX: usize = 8;
/// The replica connects and asks within this time.
const REPLICA_WAIT_MAX: Duration = Duration::from_secs(120);
/// Login and each question.
const QUESTION_WAIT_MAX: Duration = Duration::from_secs(20);
/// The applier may stand for so long on one statement, such as an ALTER of a large table, while its relay log is full.
const APPLY_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long the replica may take to close after the end.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(10);
/// A replica cuts a longer password off without a word.
const PASSWORD_DIGITS: usize = 32;
/// Longest text of the end.
const END_TEXT_BYTES_MAX: usize = 400;
/// Logins that may fail before the replica's own comes.
const STRANGERS_MAX: u32 = 16;

/// As what the log is served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    pub flavour: Flavour,
    /// The version of the server that wrote it, such as `9.7.4`: by it the replica decides what it can be sent.
    pub version: String,
    /// Not the replica's.
    pub server_id: u32,
    /// Not the replica's.
    pub server_uuid: String,
    /// How often the replica hears that nothing has come.
    pub heartbeat: Duration,
}

/// What is sent, in order.
#[derive(Debug, Clone)]
pub enum Served {
    /// A file of the log begins.
    File { name: String },
    /// Events as they are in the file, cut anywhere, without the four bytes a file begins with.
    Events(Bytes),
    /// Nothing more comes; the replica reports this text as the reason.
    End { text: String },
}

/// What the replica said of itself when it asked for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaState {
    pub server_id: u32,
    /// What it has: a GTID set (MySQL), or a position by domains (MariaDB).
    pub executed: String,
}

/// A served log. Dropped, the replica loses the connection.
#[derive(Debug)]
pub struct LogServer {
    port: u16,
    user: String,
    password: Secret,
    queue: mpsc::Sender<Served>,
    asked: Option<oneshot::Receiver<ReplicaState>>,
    task: Option<Task<Result<(), MysqlError>>>,
    cancel: Cancel,
}

impl LogServer {
    /// Opens the door; the replica is waited for from here on.
    pub async fn start(options: ServeOptions, cancel: &Cancel) -> Result<Self, MysqlError> {
        let failed = |source| MysqlError::Unreachable {
            address: "127.0.0.1".to_owned(),
            source,
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let (user, password) = (
            format!("replay_{}", random_hex(4)),
            Secret::new(random_hex(PASSWORD_DIGITS / 2)),
        );
        let (queue, given) = mpsc::channel(QUEUE_PIECES_MAX);
        let (tell, asked) = oneshot::channel();
        let serving = Serving {
            options,
            user: user.clone(),
            password: password.clone(),
            given,
            cancel: cancel.clone(),
        };
        Ok(Self {
            port,
            user,
            password,
            queue,
            asked: Some(asked),
            task: Some(spawn("serve log", serving.run(listener, tell))),
            cancel: cancel.clone(),
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn password(&self) -> &Secret {
        &self.password
    }

    /// Waits until the replica has asked for the log; to be called once.
    pub async fn replica(&mut self) -> Result<ReplicaState, MysqlError> {
        let Some(asked) = self.asked.take() else {
            return Err(MysqlError::protocol("the replica was waited for twice"));
        };
        let waited = tokio::time::timeout(REPLICA_WAIT_MAX, asked);
        match self.cancel.race(waited).await? {
            Ok(Ok(state)) => Ok(state),
            Ok(Err(_)) => Err(self.failure().await),
            Err(_) => Err(MysqlError::Timeout {
                doing: "waiting for the replica to ask for the log",
                after: REPLICA_WAIT_MAX,
            }),
        }
    }

    /// Whether it still serves: it does until the end was sent, or something failed.
    pub fn is_serving(&self) -> bool {
        self.task.as_ref().is_some_and(|task| !task.is_finished())
    }

    /// Gives the next piece; waits while enough is underway.
    pub async fn send(&mut self, served: Served) -> Result<(), MysqlError> {
        if self.cancel.race(self.queue.send(served)).await?.is_ok() {
            return Ok(());
        }
        Err(self.failure().await)
    }

    /// Says why nothing more comes, and waits until the replica knows.
    pub async fn end(mut self, text: &str) -> Result<(), MysqlError> {
        self.send(Served::End { text: text.to_owned() }).await?;
        match self.task.take() {
            Some(task) => task
                .join()
                .await
                .map_err(|error| MysqlError::protocol(error.to_string()))?,
            None => Ok(()),
        }
    }

    /// Why it serves no more.
    async fn failure(&mut self) -> MysqlError {
        let ended = match self.task.take() {
            Some(task) => task.join().await,
            None => return MysqlError::protocol("the log is served no more"),
        };
        match ended {
            Ok(Err(error)) => error,
            Ok(Ok(())) => MysqlError::protocol("the log was served to its end already"),
            Err(error) => MysqlError::protocol(error.to_string()),
        }
    }
}

struct Serving {
    options: ServeOptions,
    user: String,
    password: Secret,
    given: mpsc::Receiver<Served>,
    cancel: Cancel,
}

impl Serving {
    async fn run(mut self, listener: TcpListener, tell: oneshot::Sender<ReplicaState>) -> Result<(), MysqlError> {
        let (mut channel, asked) = self.admit(&listener).await?;
        // From here on there is one replica, and no door.
        drop(listener);
        let mut framing = Framing::new(channel.sequence(), self.options.server_id, asked.server_id);
        framing.long_heartbeats = asked.long_heartbeats;
        let state = ReplicaState {
            server_id: asked.server_id,
            executed: asked.executed,
        };
        if tell.send(state).is_err() {
            return Err(MysqlError::protocol("nobody gives the log"));
        }
        channel.write_wait_max = APPLY_WAIT_MAX;
        let served = self.stream(&mut channel, &mut framing).await;
        let text = match &served {
            Ok(text) => text.clone(),
            Err(MysqlError::Cancelled(_) | MysqlError::Gone { .. }) => return served.map(drop),
            Err(error) => error.to_string(),
        };
        framing.end(&text);
        channel.send_packets("ending the log", &framing.take()).await?;
        self.see_off(&mut channel).await;
        served.map(drop)
    }

    /// The first that proves to be the private server's replica, and asks for the log.
    async fn admit(&self, listener: &TcpListener) -> Result<(Channel, Asked), MysqlError> {
        let mut last = MysqlError::protocol("no replica came");
        for _ in 0..STRANGERS_MAX {
            let accepted = tokio::time::timeout(REPLICA_WAIT_MAX, listener.accept());
            let (stream, _) = self
                .cancel
                .race(accepted)
                .await?
                .map_err(|_| MysqlError::Timeout {
                    doing: "waiting for the replica",
                    after: REPLICA_WAIT_MAX,
                })?
                .map_err(|error| MysqlError::Gone {
                    doing: "waiting for the replica",
                    detail: error.to_string(),
                })?;
            // Small answers must not wait for each other; a socket that cannot be told works all the same.
            drop(stream.set_nodelay(true));
            let mut channel = Channel::new(Box::new(stream), self.cancel.clone(), QUESTION_WAIT_MAX);
            let admitted = async {
                login::admit(&mut channel, &self.options, &self.user, &self.password).await?;
                converse(&mut channel, &self.options).await
            };
            match admitted.await {
                Ok(asked) => return Ok((channel, asked)),
                Err(MysqlError::Cancelled(cancelled)) => return Err(cancelled.into()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Sends what is given, and heartbeats while nothing is; gives the text of the end.
    async fn stream(&mut self, channel: &mut Channel, framing: &mut Framing) -> Result<String, MysqlError> {
        const DOING: &str = "sending the log to the replica";
        loop {
            let served = match self.given.try_recv() {
                Ok(served) => Some(served),
                Err(mpsc::error::TryRecvError::Disconnected) => None,
                Err(mpsc::error::TryRecvError::Empty) => {
                    channel.send_packets(DOING, &framing.take()).await?;
                    let next = tokio::time::timeout(self.options.heartbeat, self.given.recv());
                    match self.cancel.race(next).await? {
                        Ok(served) => served,
                        Err(_) => {
                            framing.heartbeat();
                            continue;
                        }
                    }
                }
            };
            match served {
                Some(Served::File { name }) => framing.file(&name)?,
                Some(Served::Events(mut bytes)) => {
                    while !bytes.is_empty() {
                        framing.push(&mut bytes)?;
                        if framing.is_full() {
                            channel.send_packets(DOING, &framing.take()).await?;
                        }
                    }
                }
                Some(Served::End { text }) if framing.between_events() => {
                    let text: String = text.chars().filter(|c| !c.is_control()).collect();
                    return Ok(cut(&text, END_TEXT_BYTES_MAX).to_owned());
                }
                Some(Served::End { .. }) => return Err(MysqlError::protocol("the log ends within an event")),
                None => return Err(MysqlError::protocol("the one who gives the log went away")),
            }
        }
    }

    /// Waits for the replica to close, so that what was sent last is not lost with the connection.
    async fn see_off(&self, channel: &mut Channel) {
        channel.read_wait_max = CLOSE_WAIT_MAX;
        // It sends nothing; what comes instead of an end does not matter any more.
        drop(channel.receive_any("waiting for the replica to close").await);
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
