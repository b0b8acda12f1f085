//! While the server sends: what comes is made durable in groups, acknowledged when it is, and closed into segments.

use std::sync::Arc;
use std::time::Duration;

use ballast_base::{Task, run_blocking, spawn};
use ballast_mysql::{Followed, LogFollower, MysqlError, ServerAddress};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use super::recover::Active;
use super::seal::due;
use super::server::{LogEnd, server_time};
use super::shelf::{NewItem, Shelf, Stream};
use super::spool::remedy;
use super::tail::Rehearsal;
use super::upload::Seen;
use super::writer::{ClosedJournal, Part, WriteError, Writer};
use crate::context::Context;
use crate::error::{ProtectError, Result, chain};
use crate::observer::LogNews;
use crate::settings::LogSettings;

/// So much waits for the disk before no more is read.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// While the disk takes nothing, it is tried this often.
const DISK_WAIT: Duration = Duration::from_secs(1);
/// How often time is looked at while nothing comes.
const TICK: Duration = Duration::from_secs(1);
/// How often the server's clock, and the end of its log, is asked for.
const CLOCK_EVERY: Duration = Duration::from_secs(10);
/// A transaction's time is noted at most so long before it is in the log.
const COMMIT_TAKES_MAX: Duration = Duration::from_millis(1500);

/// Why the server is not followed any more on this connection.
#[derive(Debug)]
pub(super) enum Ended {
    /// Asked to.
    Stopped,
    Lost(ProtectError),
    /// The server shuts down.
    ShutDown,
    /// Our last event is not at its place.
    Contradicted,
    /// The spool is full.
    Full,
    /// What came cannot be right, and the books are not to be trusted; the journals are.
    Broken(ProtectError),
    /// Asked to, and what came last could not be written to the spool.
    Unwritten(ProtectError),
}

/// A place in the server's log, and in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    file: String,
    file_offset: u64,
    offset: u64,
}

/// What came and is not given to the disk yet.
#[derive(Debug, Default)]
struct Group {
    parts: Vec<Part>,
    bytes: usize,
    /// The last place the source waits for.
    acknowledge: Option<Place>,
}

impl Group {
    fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.acknowledge.is_none()
    }
}

/// What writing a group came to.
#[derive(Debug)]
struct Written {
    writer: Box<Writer>,
    closed: Vec<ClosedJournal>,
    acknowledge: Option<Place>,
    outcome: std::result::Result<(), WriteError>,
}

/// The server's clock: its time and ours when it was asked, and where its log ended after that.
#[derive(Debug, Clone)]
struct ServerClock {
    micros: u64,
    asked: Duration,
    elapsed: Duration,
    end: Option<LogEnd>,
}

#[derive(Debug)]
pub(super) struct Follow<'a> {
    pub(super) context: &'a Context,
    pub(super) address: &'a ServerAddress,
    pub(super) settings: LogSettings,
    pub(super) spool_limit: u64,
    pub(super) shelf: &'a Shelf,
    pub(super) seen: &'a watch::Sender<Option<Seen>>,
}

/// One connection's work.
struct Work<'a> {
    follow: &'a Follow<'a>,
    stream: Arc<Stream>,
    /// The end of what came.
    at: Place,
    rehearsal: Rehearsal,
    group: Group,
    /// When the first byte of the open journal came.
    open_since: Option<Duration>,
    clock: watch::Receiver<Option<ServerClock>>,
    /// What had come when the clock was looked at last.
    looked_at: Option<(Place, Duration)>,
    /// Of the last transaction that was made durable: when it was committed, and how long before.
    last_at: u64,
    lag: Option<Duration>,
}

impl Follow<'_> {
    /// Follows until something ends it. The writer comes back unless its books are not to be trusted, or its disk failed.
    pub(super) async fn run(&self, mut follower: LogFollower, active: Active) -> Result<(Option<Active>, Ended)> {
        let Active { stream, writer } = active;
        let tail = writer.books().mysql()?.tail();
        let (asked, clock) = watch::channel(None);
        let _clock = self.keep_clock(asked);
        let mut work = Work {
            follow: self,
            stream: Arc::clone(&stream),
            at: Place {
                file: tail.file.clone(),
                file_offset: tail.file_offset,
                offset: tail.offset,
            },
            rehearsal: tail.rehearsal(),
            group: Group::default(),
            open_since: None,
            clock,
            looked_at: None,
            last_at: tail.last_at,
            lag: None,
        };
        let (writer, ended) = Box::pin(work.run(&mut follower, writer)).await?;
        Ok((writer.map(|writer| Active { stream, writer }), ended))
    }

    fn keep_clock(&self, asked: watch::Sender<Option<ServerClock>>) -> Task<()> {
        let (context, address) = (self.context.clone(), self.address.clone());
        spawn("server's clock", async move {
            loop {
                // Taken before the question: so no transaction can be later than it is thought to be.
                let begun = context.clock.elapsed();
                match server_time(&address, &context.cancel).await {
                    Ok((micros, end)) => drop(asked.send_replace(Some(ServerClock {
                        micros,
                        asked: begun,
                        elapsed: context.clock.elapsed(),
                        end,
                    }))),
                    Err(error) => tracing::debug!(%error, "the server's clock is not known"),
                }
                if context.cancel.race(context.clock.sleep(CLOCK_EVERY)).await.is_err() {
                    return;
                }
            }
        })
    }
}

enum Happened {
    Written(Result<Written>),
    Followed(std::result::Result<Followed, MysqlError>),
    Tick,
}

type Writing = std::pin::Pin<Box<dyn Future<Output = Result<Written>> + Send>>;

impl Work<'_> {
    async fn run(&mut self, follower: &mut LogFollower, writer: Box<Writer>) -> Result<(Option<Box<Writer>>, Ended)> {
        let context = self.follow.context;
        let (mut resting, mut writing): (Option<Box<Writer>>, Option<Writing>) = (Some(writer), None);
        let ended = loop {
            if self.is_begun_anew() {
                break Ended::Contradicted;
            }
            if let Some(writer) = resting.take() {
                let close = self.is_due();
                if close || !self.group.is_empty() {
                    writing = Some(self.write(writer, close));
                } else {
                    resting = Some(writer);
                }
            }
            let happened = tokio::select! {
                biased;
                () = context.cancel.cancelled() => break Ended::Stopped,
                written = at_end_of(&mut writing) => {
                    writing = None;
                    Happened::Written(written)
                }
                followed = follower.next(), if self.group.bytes < GROUP_BYTES_MAX => Happened::Followed(followed),
                () = context.clock.sleep(self.tick()) => Happened::Tick,
            };
            match happened {
                Happened::Written(written) => {
                    let written = self.persist(written?).await?;
                    match written.outcome {
                        Ok(()) => {}
                        Err(WriteError::Disk(error)) => {
                            self.shelve(written.closed);
                            return Ok((None, Ended::Unwritten(error)));
                        }
                        Err(WriteError::Log(error)) => {
                            self.shelve(written.closed);
                            return Ok((None, Ended::Broken(error)));
                        }
                    }
                    if let Err(error) = self.settle(follower, &written.writer, written.acknowledge).await {
                        self.shelve(written.closed);
                        resting = Some(written.writer);
                        break Ended::Lost(error.into());
                    }
                    self.shelve(written.closed);
                    resting = Some(written.writer);
                    if self.follow.shelf.bytes() >= self.follow.spool_limit {
                        break Ended::Full;
                    }
                }
                Happened::Followed(Ok(Followed::Ended)) => break Ended::ShutDown,
                Happened::Followed(Ok(followed)) => {
                    let durable = resting.as_deref().map(Writer::durable);
                    if let Err(ended) = self.take(followed, durable) {
                        break ended;
                    }
                }
                Happened::Followed(Err(error)) => break Ended::Lost(error.into()),
                Happened::Tick => {}
            }
        };
        self.finish(follower, resting, writing, ended).await
    }

    /// What came before the end is made durable, too, and acknowledged if somebody still waits for it.
    async fn finish(
        &mut self,
        follower: &mut LogFollower,
        resting: Option<Box<Writer>>,
        writing: Option<Writing>,
        ended: Ended,
    ) -> Result<(Option<Box<Writer>>, Ended)> {
        let mut written = match (resting, writing) {
            (Some(writer), _) => self.write(writer, false).await?,
            (None, Some(writing)) => writing.await?,
            (None, None) => return Ok((None, ended)),
        };
        let close = matches!(ended, Ended::Stopped);
        loop {
            match written.outcome {
                Ok(()) => {}
                // What is durable is found by the next start.
                Err(WriteError::Disk(error)) => {
                    self.shelve(written.closed);
                    if close {
                        return Ok((None, Ended::Unwritten(error)));
                    }
                    self.follow.context.warn(chain(&error), Some(remedy(&error).to_owned()));
                    return Ok((None, ended));
                }
                Err(WriteError::Log(error)) => {
                    self.shelve(written.closed);
                    return Ok((None, Ended::Broken(error)));
                }
            }
            let settled = self.settle(follower, &written.writer, written.acknowledge).await;
            if let Err(error) = settled {
                tracing::debug!(%error, "the last acknowledgement is not sent");
            }
            self.shelve(written.closed);
            if self.group.is_empty() && !(close && written.writer.books().open_bytes() > 0) {
                return Ok((Some(written.writer), ended));
            }
            written = self.write(written.writer, close).await?;
        }
    }

    fn write(&mut self, mut writer: Box<Writer>, close: bool) -> Writing {
        let Group { parts, acknowledge, .. } = std::mem::take(&mut self.group);
        let now = self.follow.context.clock.now();
        if close {
            self.open_since = None;
        }
        Box::pin(async move {
            let written = run_blocking("write the log", move || {
                let mut closed = Vec::new();
                let outcome = writer.write(parts, close, now, &mut closed);
                Written {
                    writer,
                    closed,
                    acknowledge,
                    outcome,
                }
            });
            Ok(written.await?)
        })
    }

    /// Waits until the disk takes what it refused. Nothing is read meanwhile, and nothing said to the source.
    async fn persist(&mut self, mut written: Written) -> Result<Written> {
        let context = self.follow.context;
        let mut told = false;
        while let Err(WriteError::Disk(error)) = &written.outcome {
            if !told {
                told = true;
                context.warn(
                    format!("the log cannot be written to the spool: {}", chain(error)),
                    Some(remedy(error).to_owned()),
                );
            }
            if context.cancel.race(context.clock.sleep(DISK_WAIT)).await.is_err() {
                return Ok(written);
            }
            let Written {
                mut writer,
                mut closed,
                acknowledge,
                ..
            } = written;
            let now = context.clock.now();
            written = run_blocking("write the log", move || {
                let outcome = writer.write(Vec::new(), false, now, &mut closed);
                Written {
                    writer,
                    closed,
                    acknowledge,
                    outcome,
                }
            })
            .await?;
        }
        if told {
            context.note("the log is written to the spool again");
        }
        Ok(written)
    }

    /// Tells the source what it waits for, and takes note of how far behind this is.
    async fn settle(
        &mut self,
        follower: &mut LogFollower,
        writer: &Writer,
        acknowledge: Option<Place>,
    ) -> std::result::Result<(), MysqlError> {
        self.follow.context.progress("archive", writer.durable(), None);
        let last_at = writer.books().last_at();
        // Of each transaction once: when it is closed later on, it is no further behind.
        if last_at > self.last_at {
            self.last_at = last_at;
            let behind = self.server_now().map(|now| now.saturating_sub(last_at));
            self.lag = behind.map(Duration::from_micros);
        }
        if writer.books().open_bytes() == 0 {
            self.open_since = None;
        } else if self.open_since.is_none() {
            self.open_since = Some(self.follow.context.clock.elapsed());
        }
        let Some(place) = acknowledge else { return Ok(()) };
        // The source believes it unseen, and gives a client its word on it.
        assert!(
            place.offset <= writer.durable(),
            "log offset {} is acknowledged, and durable is {}",
            place.offset,
            writer.durable()
        );
        follower.acknowledge(&place.file, place.file_offset).await
    }

    fn take(&mut self, followed: Followed, durable: Option<u64>) -> std::result::Result<(), Ended> {
        match followed {
            Followed::FileStart { file } => self.begin_file(file),
            Followed::Bytes {
                bytes,
                last_of_event,
                acknowledge,
            } => {
                self.begin_stream();
                let new = self.rehearsal.compare(&bytes).map_err(|_| Ended::Contradicted)?.len();
                if new > 0 {
                    let from = bytes.len() - new;
                    self.add(bytes.slice(from..));
                }
                if acknowledge && last_of_event && self.rehearsal.is_over() {
                    self.group.acknowledge = Some(self.at.clone());
                }
                Ok(())
            }
            Followed::Heartbeat { file, offset } => self.heartbeat(&file, offset, durable),
            Followed::Ended => Ok(()),
        }
    }

    fn add(&mut self, bytes: Bytes) {
        let length = bytes.len() as u64;
        self.at.offset += length;
        self.at.file_offset += length;
        self.group.bytes += bytes.len();
        self.group.parts.push(Part::Bytes(bytes));
    }

    /// The first file of a stream begins before its first event.
    fn begin_stream(&mut self) {
        if self.at.file_offset == 0 {
            self.enter(self.at.file.clone());
        }
    }

    fn begin_file(&mut self, file: String) -> std::result::Result<(), Ended> {
        if file == self.at.file {
            self.begin_stream();
        } else if self.rehearsal.is_over() {
            self.enter(file);
        } else {
            // The file ends before our last event does.
            return Err(Ended::Contradicted);
        }
        Ok(())
    }

    fn enter(&mut self, file: String) {
        self.at.file.clone_from(&file);
        self.at.file_offset = super::ledger::FILE_MAGIC.len() as u64;
        self.at.offset += self.at.file_offset;
        self.group.parts.push(Part::File(file));
    }

    /// The server says where it is, because it has nothing to send.
    fn heartbeat(&mut self, file: &str, offset: u64, durable: Option<u64>) -> std::result::Result<(), Ended> {
        if !self.rehearsal.is_over() {
            return Err(Ended::Contradicted);
        }
        debug_assert!(
            file == self.at.file && offset == self.at.file_offset,
            "the follower compares it"
        );
        let asked = self.clock.borrow().clone();
        let now = self.follow.context.clock.elapsed();
        let here = |end: &LogEnd| end.file == self.at.file && end.offset == self.at.file_offset;
        if let Some(clock) = asked.filter(|clock| now.saturating_sub(clock.elapsed) >= COMMIT_TAKES_MAX)
            // A server that began its log anew goes on saying that there is nothing more of the old one.
            && clock.end.as_ref().is_some_and(here)
            && durable == Some(self.at.offset)
            && self.group.is_empty()
        {
            self.follow.seen.send_replace(Some(Seen {
                stream: self.stream.id,
                end: self.at.offset,
                until: clock.micros,
            }));
        }
        Ok(())
    }

    /// Whether the server's log ends before what came of it: it was begun anew, and the connection hangs on what was thrown away.
    fn is_begun_anew(&mut self) -> bool {
        if !self.clock.has_changed().unwrap_or(false) {
            return false;
        }
        let clock = self.clock.borrow_and_update().clone();
        let now = self.follow.context.clock.elapsed();
        let before = self.looked_at.replace((self.at.clone(), now));
        match (clock, before) {
            // What had come before the question was in the log when it was answered.
            (
                Some(ServerClock {
                    asked, end: Some(end), ..
                }),
                Some((place, at)),
            ) if asked > at => end.is_before(&place.file, place.file_offset),
            _ => false,
        }
    }

    fn server_now(&self) -> Option<u64> {
        let clock = self.clock.borrow().clone()?;
        let since = self.follow.context.clock.elapsed().saturating_sub(clock.elapsed);
        Some(clock.micros + u64::try_from(since.as_micros()).ok()?)
    }

    fn age(&self) -> Option<Duration> {
        let since = self.open_since?;
        Some(self.follow.context.clock.elapsed().saturating_sub(since))
    }

    fn is_due(&self) -> bool {
        let waiting = self.follow.shelf.waiting();
        self.age()
            .is_some_and(|age| due(age, self.follow.settings.seal_after, waiting))
    }

    fn tick(&self) -> Duration {
        const LEAST: Duration = Duration::from_millis(5);
        let left = self
            .age()
            .map_or(TICK, |age| self.follow.settings.seal_after.saturating_sub(age));
        left.clamp(LEAST, TICK)
    }

    fn shelve(&self, closed: Vec<ClosedJournal>) {
        shelve(self.follow.context, self.follow.shelf, &self.stream, closed, self.lag);
    }
}

/// Puts what was closed on the shelf.
pub(super) fn shelve(
    context: &Context,
    shelf: &Shelf,
    stream: &Arc<Stream>,
    closed: Vec<ClosedJournal>,
    lag: Option<Duration>,
) {
    for ClosedJournal { path, closed, raw } in closed {
        let (place, facts) = (closed.place, closed.facts);
        let told = facts.told(&place);
        context.news(LogNews::Sealed {
            stream: stream.id.to_string(),
            start: place.start,
            end: place.end,
            transactions: told.transactions,
            file: told.file,
            offset: told.offset,
            last_commit_at: moment(place.last_at),
            lag_seconds: lag.filter(|_| place.last_at > 0).map(|lag| lag.as_secs_f64()),
        });
        shelf.put(NewItem {
            stream: Arc::clone(stream),
            previous: (place.start == stream.state.end).then_some(stream.state.link),
            place,
            facts,
            path,
            raw: Some(raw),
            last: false,
        });
    }
}

pub(super) fn moment(micros: u64) -> Option<Timestamp> {
    let micros = i64::try_from(micros).ok().filter(|micros| *micros > 0)?;
    Timestamp::from_microsecond(micros).ok()
}

async fn at_end_of(writing: &mut Option<Writing>) -> Result<Written> {
    match writing {
        Some(writing) => writing.await,
        None => std::future::pending().await,
    }
}
