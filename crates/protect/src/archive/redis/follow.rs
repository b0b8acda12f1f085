//! While the server sends: what comes is gathered up to a border, made durable in groups beside, acknowledged when it is, and closed
//! into segments.
//!
//! The disk is waited for by nobody but the one that writes: a server at full speed drops whoever does not read for a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ballast_base::run_blocking;
use ballast_redis::{
    Border, CommandLink, CommandScanner, Facts, RedisError, ServerAddress, StreamCommand, StreamPiece,
};
use bytes::BytesMut;

use super::super::follow::{Ended, shelve};
use super::super::recover::Active;
use super::super::seal::due;
use super::super::shelf::{Shelf, Stream};
use super::super::writer::{ClosedJournal, Part, WriteError, Writer};
use super::headroom::watch_headroom;
use super::portion::{PORTION_BYTES_MAX, Portion};
use crate::context::Context;
use crate::error::{Result, chain};
use crate::settings::LogSettings;

/// So much waits for the disk before no more is read; the server's own buffer is next.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What comes within this time is one portion, and has the time of its end.
const PORTION_TIME_MAX: Duration = Duration::from_millis(10);
const PORTION_BYTES: usize = 256 * 1024;
/// More than this of one command, or one transaction, is not waited for: the portion ends within it.
const OPEN_COMMAND_BYTES_MAX: usize = 1024 * 1024;
/// While the disk takes nothing, it is tried this often.
const DISK_WAIT: Duration = Duration::from_secs(1);
/// Who waits for nothing is told this often what is durable.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(100);
/// A segment in which nothing was changed is closed this late.
const IDLE_SEAL_AFTER: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_secs(1);
const TICK_MIN: Duration = Duration::from_millis(5);

const _: () = assert!(PORTION_BYTES + OPEN_COMMAND_BYTES_MAX + 512 * 1024 < PORTION_BYTES_MAX);

#[derive(Debug)]
pub(super) struct RedisFollow<'a> {
    pub(super) context: &'a Context,
    pub(super) address: &'a ServerAddress,
    pub(super) server: &'a Facts,
    pub(super) settings: LogSettings,
    pub(super) spool_limit: u64,
    pub(super) shelf: &'a Shelf,
    /// The server is told what is durable here by a number of its own.
    pub(super) counts_durable: bool,
}

/// What writing a group came to.
#[derive(Debug)]
struct Written {
    writer: Box<Writer>,
    closed: Vec<ClosedJournal>,
    outcome: std::result::Result<(), WriteError>,
}

type Writing = std::pin::Pin<Box<dyn Future<Output = Result<Written>> + Send>>;

/// What commands were seen since the last border that was used.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    /// Up to the last border.
    commands: u32,
    selects: bool,
    /// Behind it.
    open_commands: u32,
    open_selects: bool,
}

impl Seen {
    fn note(&mut self, command: &StreamCommand<'_>) {
        if !command.is_idle() {
            self.open_commands += 1;
        }
        self.open_selects |= command.word_count == 2 && command.name() == "SELECT";
        if command.is_border {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.commands += std::mem::take(&mut self.open_commands);
        self.selects |= std::mem::take(&mut self.open_selects);
    }

    /// What is in the portion that ends here.
    fn take(&mut self) -> (u32, bool) {
        (std::mem::take(&mut self.commands), std::mem::take(&mut self.selects))
    }
}

/// The portion that is still open.
#[derive(Debug)]
struct Gathering {
    since: Duration,
    portion: Portion,
    bytes: BytesMut,
}

/// One connection's work.
struct Work<'a> {
    follow: &'a RedisFollow<'a>,
    stream: Arc<Stream>,
    ready: Vec<Part>,
    /// Of those, of the open portion and behind it.
    waiting_bytes: usize,
    gathering: Option<Gathering>,
    /// What came behind the last border.
    rest: BytesMut,
    seen: Seen,
    last_at: u64,
    /// The server waits until this is acknowledged.
    asked: Option<u64>,
    durable: u64,
    acknowledged: u64,
    acknowledged_at: Duration,
    open_since: Option<Duration>,
    received: Arc<AtomicU64>,
}

enum Happened {
    Written(Result<Written>),
    Came(std::result::Result<StreamPiece, RedisError>),
    Tick,
}

impl RedisFollow<'_> {
    /// Follows until something ends it. The writer comes back unless its books are not to be trusted, or its disk failed.
    pub(super) async fn run(&self, mut link: CommandLink, active: Active) -> Result<(Option<Active>, Ended)> {
        let Active { stream, writer } = active;
        let ledger = writer.books().redis()?;
        let received = Arc::new(AtomicU64::new(link.scanner().offset()));
        let _watch = watch_headroom(self.context, self.address, self.server, Arc::clone(&received));
        let mut work = Work {
            follow: self,
            stream: Arc::clone(&stream),
            ready: Vec::new(),
            waiting_bytes: 0,
            gathering: None,
            rest: BytesMut::new(),
            seen: Seen::default(),
            last_at: ledger.until(),
            asked: None,
            durable: ledger.scanner().offset(),
            acknowledged: 0,
            acknowledged_at: Duration::ZERO,
            open_since: (ledger.open_bytes() > 0).then(|| self.context.clock.elapsed()),
            received,
        };
        if ledger.place().0 != link.history() {
            work.ready.push(Part::History(link.history().to_owned()));
        }
        let (writer, ended) = Box::pin(work.run(&mut link, writer)).await?;
        Ok((writer.map(|writer| Active { stream, writer }), ended))
    }
}

impl Work<'_> {
    async fn run(&mut self, link: &mut CommandLink, writer: Box<Writer>) -> Result<(Option<Box<Writer>>, Ended)> {
        let context = self.follow.context;
        let (mut resting, mut writing): (Option<Box<Writer>>, Option<Writing>) = (Some(writer), None);
        let ended = loop {
            if let Some(writer) = resting.take() {
                let close = self.is_due(&writer)?;
                self.end_portion();
                if close || !self.ready.is_empty() {
                    writing = Some(self.write(writer, close));
                } else {
                    resting = Some(writer);
                }
            }
            if let Err(error) = self.acknowledge(link).await {
                break Ended::Lost(error.into());
            }
            let tick = self.tick(link, resting.as_deref());
            let seen = &mut self.seen;
            let mut on_command = |command: &StreamCommand<'_>| seen.note(command);
            let happened = tokio::select! {
                biased;
                () = context.cancel.cancelled() => break Ended::Stopped,
                written = at_end_of(&mut writing) => {
                    writing = None;
                    Happened::Written(written)
                }
                came = link.next(&mut on_command), if self.waiting_bytes < WAITING_BYTES_MAX => Happened::Came(came),
                () = context.clock.sleep(tick) => Happened::Tick,
            };
            match happened {
                Happened::Written(written) => {
                    let written = written?;
                    self.shelve(written.closed);
                    match written.outcome {
                        Ok(()) => {}
                        Err(WriteError::Disk(_)) => return Ok((None, Ended::Stopped)),
                        Err(WriteError::Log(error)) => return Ok((None, Ended::Broken(error))),
                    }
                    self.settle(&written.writer)?;
                    resting = Some(written.writer);
                    if self.follow.shelf.bytes() >= self.follow.spool_limit {
                        break Ended::Full;
                    }
                }
                Happened::Came(Ok(piece)) => self.take(&piece, link.scanner()),
                Happened::Came(Err(error)) => break Ended::Lost(error.into()),
                Happened::Tick => {}
            }
        };
        self.finish(link, resting, writing, ended).await
    }

    /// What came before the end, up to the last border, is made durable, too, and acknowledged if somebody still listens.
    async fn finish(
        &mut self,
        link: &mut CommandLink,
        resting: Option<Box<Writer>>,
        writing: Option<Writing>,
        ended: Ended,
    ) -> Result<(Option<Box<Writer>>, Ended)> {
        let close = matches!(ended, Ended::Stopped);
        self.end_portion();
        let mut next = match (resting, writing) {
            (Some(writer), _) => self.write(writer, close),
            (None, Some(writing)) => writing,
            (None, None) => return Ok((None, ended)),
        };
        loop {
            let written = next.await?;
            self.shelve(written.closed);
            match written.outcome {
                Ok(()) => {}
                // What is durable is found by the next start.
                Err(WriteError::Disk(error)) => {
                    self.follow.context.warn(chain(&error), None);
                    return Ok((None, ended));
                }
                Err(WriteError::Log(error)) => return Ok((None, Ended::Broken(error))),
            }
            self.settle(&written.writer)?;
            if self.ready.is_empty() && !(close && written.writer.books().open_bytes() > 0) {
                let durable = self.follow.counts_durable.then_some(self.durable);
                if let Err(error) = link.acknowledge(self.durable, durable).await {
                    tracing::debug!(%error, "the last acknowledgement is not sent");
                }
                return Ok((Some(written.writer), ended));
            }
            next = self.write(written.writer, close);
        }
    }

    /// Makes all that is ready durable. While the disk takes nothing it is tried again, and the rest of the work goes on.
    fn write(&mut self, writer: Box<Writer>, close: bool) -> Writing {
        let mut parts = std::mem::take(&mut self.ready);
        self.waiting_bytes = self.rest.len();
        let context = self.follow.context.clone();
        if close {
            self.open_since = None;
        }
        Box::pin(async move {
            let (mut writer, mut closed, mut told) = (writer, Vec::new(), false);
            loop {
                let now = context.clock.now();
                let written = run_blocking("write the log", move || {
                    let outcome = writer.write(parts, close, now, &mut closed);
                    Written {
                        writer,
                        closed,
                        outcome,
                    }
                })
                .await?;
                let Err(WriteError::Disk(error)) = &written.outcome else {
                    if told {
                        context.note("the log is written to the spool again");
                    }
                    return Ok(written);
                };
                if !told {
                    told = true;
                    let hint = "make room on the disk of the spool; the log is read only so far until then".to_owned();
                    let message = format!("the log cannot be written to the spool: {}", chain(error));
                    context.warn(message, Some(hint));
                }
                if context.cancel.race(context.clock.sleep(DISK_WAIT)).await.is_err() {
                    return Ok(written);
                }
                (writer, closed, parts) = (written.writer, written.closed, Vec::new());
            }
        })
    }

    /// Takes note of what is durable now.
    fn settle(&mut self, writer: &Writer) -> Result<()> {
        self.follow.context.progress("archive", writer.durable(), None);
        let ledger = writer.books().redis()?;
        self.durable = ledger.scanner().offset();
        if ledger.open_bytes() == 0 {
            self.open_since = None;
        } else if self.open_since.is_none() {
            self.open_since = Some(self.follow.context.clock.elapsed());
        }
        Ok(())
    }

    /// Tells the server what is durable: at once if it asks, and often enough that it never waits for us.
    async fn acknowledge(&mut self, link: &mut CommandLink) -> std::result::Result<(), RedisError> {
        let now = self.follow.context.clock.elapsed();
        let since = now.saturating_sub(self.acknowledged_at);
        let is_answer = self.asked.is_some_and(|asked| self.durable >= asked);
        let is_news = self.durable > self.acknowledged && since >= ACKNOWLEDGE_AFTER;
        if !is_answer && !is_news && since < link.acknowledge_every() {
            return Ok(());
        }
        if is_answer {
            self.asked = None;
        }
        let durable = self.follow.counts_durable.then_some(self.durable);
        link.acknowledge(self.durable, durable).await?;
        (self.acknowledged, self.acknowledged_at) = (self.durable, now);
        Ok(())
    }

    fn take(&mut self, piece: &StreamPiece, scanner: &CommandScanner) {
        self.received.store(piece.to, Ordering::Relaxed);
        self.waiting_bytes += piece.bytes.len();
        let border = scanner.border();
        if piece.wants_answer {
            self.asked = Some(border.offset);
        }
        if border.offset > piece.from {
            let cut = usize::try_from(border.offset - piece.from).unwrap_or(usize::MAX);
            let (head, rest) = piece.bytes.split_at(cut.min(piece.bytes.len()));
            let mut bytes = std::mem::take(&mut self.rest);
            bytes.extend_from_slice(head);
            self.gather(bytes, at_border(border));
            self.rest.extend_from_slice(rest);
        } else {
            self.rest.extend_from_slice(&piece.bytes);
        }
        if self.rest.len() > OPEN_COMMAND_BYTES_MAX {
            let bytes = std::mem::take(&mut self.rest);
            self.seen.settle();
            self.gather(bytes, scanner.clone());
            self.end_portion();
        }
    }

    /// Puts bytes into the open portion, whose time is now.
    fn gather(&mut self, bytes: BytesMut, after: CommandScanner) {
        let (now, clock) = (self.follow.context.clock.elapsed(), self.follow.context.clock.now());
        // A clock that is set back does not take portions back.
        let at = u64::try_from(clock.as_microsecond()).unwrap_or(0).max(self.last_at);
        self.last_at = at;
        let (commands, selects) = self.seen.take();
        let gathering = self.gathering.get_or_insert_with(|| Gathering {
            since: now,
            portion: Portion {
                at,
                bytes: bytes::Bytes::new(),
                commands: 0,
                selects: false,
                after: after.clone(),
            },
            bytes: BytesMut::new(),
        });
        gathering.portion.at = at;
        gathering.portion.commands += commands;
        gathering.portion.selects |= selects;
        gathering.portion.after = after;
        if gathering.bytes.is_empty() {
            gathering.bytes = bytes;
        } else {
            gathering.bytes.extend_from_slice(&bytes);
        }
        if gathering.bytes.len() >= PORTION_BYTES || now.saturating_sub(gathering.since) >= PORTION_TIME_MAX {
            self.end_portion();
        }
    }

    fn end_portion(&mut self) {
        if let Some(mut gathering) = self.gathering.take() {
            gathering.portion.bytes = gathering.bytes.freeze();
            self.ready.push(Part::Commands(gathering.portion));
        }
    }

    /// Whether the open segment is closed now; only where a command ends.
    fn is_due(&self, writer: &Writer) -> Result<bool> {
        let ledger = writer.books().redis()?;
        let Some(since) = self.open_since.filter(|_| ledger.scanner().is_at_border()) else {
            return Ok(false);
        };
        let age = self.follow.context.clock.elapsed().saturating_sub(since);
        let after = self.seal_after(ledger.has_commands());
        Ok(due(age, after, self.follow.shelf.waiting()))
    }

    fn seal_after(&self, has_commands: bool) -> Duration {
        if has_commands {
            self.follow.settings.seal_after
        } else {
            self.follow.settings.seal_after.max(IDLE_SEAL_AFTER)
        }
    }

    fn tick(&self, link: &CommandLink, resting: Option<&Writer>) -> Duration {
        let now = self.follow.context.clock.elapsed();
        let age = self.open_since.map(|since| now.saturating_sub(since));
        let has_commands = resting
            .and_then(|writer| writer.books().redis().ok())
            .is_none_or(super::ledger::RedisLedger::has_commands);
        let seal = age.map_or(TICK, |age| self.seal_after(has_commands).saturating_sub(age));
        let every = if self.durable > self.acknowledged {
            ACKNOWLEDGE_AFTER
        } else {
            link.acknowledge_every()
        };
        let acknowledge = every.saturating_sub(now.saturating_sub(self.acknowledged_at));
        seal.min(acknowledge).clamp(TICK_MIN, TICK)
    }

    fn shelve(&self, closed: Vec<ClosedJournal>) {
        let now = u64::try_from(self.follow.context.clock.now().as_microsecond()).unwrap_or(0);
        for journal in closed {
            let lag = Duration::from_micros(now.saturating_sub(journal.closed.place.last_at));
            shelve(
                self.follow.context,
                self.follow.shelf,
                &self.stream,
                vec![journal],
                Some(lag),
            );
        }
    }
}

/// At a border nothing more is known than where it is.
fn at_border(border: Border) -> CommandScanner {
    CommandScanner::new(border.offset, border.database)
}

async fn at_end_of(writing: &mut Option<Writing>) -> Result<Written> {
    match writing {
        Some(writing) => writing.await,
        None => std::future::pending().await,
    }
}
