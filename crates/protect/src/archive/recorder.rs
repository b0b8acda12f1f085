//! One connection after the other, for as long as nobody asks to end.

use std::sync::Arc;
use std::time::Duration;

use ballast_base::{Cancel, Retryable as _, random_unit, run_blocking};
use ballast_mysql::{
    Connection, ExecutedSet, FollowOptions, LogFollower, LogPlace, MysqlError, ServerAddress, read_log_head,
};
use ballast_redis::RefusingListener;
use ballast_repository::{Repository, StreamId};
use tokio::sync::watch;

use super::begin::{Head, Heads, Held, Identity, Step, Wanted, Why, begin};
use super::facts::{After, StreamFacts};
use super::follow::{Ended, Follow, shelve};
use super::is_interrupted;
use super::kind::{Books, LogStream};
use super::latest::{Latest, latest};
use super::ledger::Ledger;
use super::recover::{Active, recover_one};
use super::server::{Server, look};
use super::shelf::{Shelf, Stream};
use super::spool::{Spool, State};
use super::upload::Seen;
use super::writer::{WriteError, Writer};
use crate::catalog::{BackupState, list};
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result, chain};
use crate::mysql::lease::{Alone, Lease};
use crate::observer::LogNews;
use crate::settings::SourceSettings;
use crate::vault::Vault;

/// After a connection that ended the first wait; it doubles from there.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(15);
/// A connection that lasted so long was a good one: the next failure is the first again.
const GOOD_AFTER: Duration = Duration::from_secs(30);
/// After a cut our own lock may be held by a connection whose end the server has not noticed.
const HELD_WAIT_MAX: Duration = Duration::from_secs(120);
/// The server says at least this often that it is there.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// A full spool is looked at this often; reading goes on when this share of it is free.
const FULL_WAIT: Duration = Duration::from_millis(500);
const FREE_SHARE: u64 = 10;

/// Whose log it is.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    Mysql(ServerAddress),
    Redis(ballast_redis::ServerAddress),
}

#[derive(Debug)]
pub(super) struct Recorder<'a> {
    pub(super) context: &'a Context,
    pub(super) vault: &'a Vault,
    pub(super) source: &'a SourceSettings,
    pub(super) origin: Origin,
    /// Its keys are those of all.
    pub(super) repository: Repository,
    pub(super) spool: Spool,
    pub(super) spool_limit: u64,
    pub(super) shelf: Arc<Shelf>,
    pub(super) seen: watch::Sender<Option<Seen>>,
    pub(super) active: Option<Active>,
    /// The stream that is written, also when its writer is not to be trusted any more.
    pub(super) current: Option<StreamId>,
    /// The server was followed once: from then on no failure is for good.
    pub(super) worked: bool,
    /// Of a Redis: where it is refused to be promoted, and the stream that a new one would follow on.
    pub(super) refusing: Option<RefusingListener>,
    pub(super) before: Option<(StreamId, super::redis::Held)>,
}

/// Why a connection did not get as far as following.
#[derive(Debug)]
pub(super) struct Failure {
    error: ProtectError,
    /// It may go better the next time, without anybody doing anything.
    retry: bool,
}

impl From<ballast_redis::RedisError> for Failure {
    fn from(error: ballast_redis::RedisError) -> Self {
        Self {
            retry: error.may_retry(),
            error: error.into(),
        }
    }
}

impl From<MysqlError> for Failure {
    fn from(error: MysqlError) -> Self {
        Self {
            retry: error.may_retry(),
            error: error.into(),
        }
    }
}

impl From<ProtectError> for Failure {
    fn from(error: ProtectError) -> Self {
        Self { error, retry: false }
    }
}

impl From<ballast_base::Cancelled> for Failure {
    fn from(cancelled: ballast_base::Cancelled) -> Self {
        ProtectError::from(cancelled).into()
    }
}

pub(super) type Tried<T> = std::result::Result<T, Failure>;

impl Recorder<'_> {
    /// Follows until the work is asked to end. An error only if the server can never be followed as things are.
    pub(super) async fn run(&mut self) -> Result<()> {
        let clock = &self.context.clock;
        let (mut wait, mut contradicted) = (FIRST_WAIT, false);
        let mut held_since: Option<Duration> = None;
        loop {
            let from = clock.elapsed();
            let ended = Box::pin(self.session(std::mem::take(&mut contradicted))).await;
            let held = matches!(&ended, Err(failure) if failure.error.kind() == ErrorKind::Held);
            held_since = held_since.filter(|_| held).or(held.then_some(from));
            let held_too_long = held_since.is_some_and(|since| clock.elapsed().saturating_sub(since) > HELD_WAIT_MAX);
            if ended.is_ok() && clock.elapsed().saturating_sub(from) >= GOOD_AFTER {
                wait = FIRST_WAIT;
            }
            let cause = match ended {
                Ok(Ended::Stopped) => return Ok(()),
                Ok(Ended::Unwritten(error)) => return Err(self.unwritten(error)),
                Ok(Ended::Contradicted) => {
                    contradicted = true;
                    "the last event that is held is not what the server has in its place".to_owned()
                }
                Ok(Ended::Full) => {
                    if self.wait_for_room().await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
                Ok(Ended::Lost(error)) => chain(&error),
                Ok(Ended::ShutDown) => "the server shuts down".to_owned(),
                Ok(Ended::Broken(error)) => {
                    self.context.warn(chain(&error), None);
                    chain(&error)
                }
                Err(Failure { error, .. }) if is_interrupted(&error) => return Ok(()),
                Err(Failure { error, retry }) if (!retry && !self.worked) || held_too_long => return Err(error),
                Err(Failure { error, .. }) => chain(&error),
            };
            let pause = wait.mul_f64(0.5 + random_unit() / 2.0);
            self.context.news(LogNews::Disconnected {
                cause,
                wait_seconds: pause.as_secs_f64(),
            });
            if self.context.cancel.race(clock.sleep(pause)).await.is_err() {
                return Ok(());
            }
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    fn unwritten(&self, error: ProtectError) -> ProtectError {
        let source = &self.source.name;
        let message = "what came last of the log may be in no repository: it could not be written to the spool";
        ProtectError::failed(message).because(error).hint(format!(
            "it is on the server: look after the spool, then go on before the server removes it: ballast archive {source}"
        ))
    }

    /// One connection, from looking at the server to the end.
    async fn session(&mut self, contradicted: bool) -> Tried<Ended> {
        match self.origin.clone() {
            Origin::Mysql(address) => self.mysql_session(&address, contradicted).await,
            Origin::Redis(address) => self.redis_session(&address).await,
        }
    }

    async fn mysql_session(&mut self, address: &ServerAddress, contradicted: bool) -> Tried<Ended> {
        let lease = Lease::take(self.context, Alone::Archive, &self.source.name, address).await?;
        let ended = Box::pin(self.held(address, contradicted)).await;
        if let Some(lease) = lease {
            lease.release().await?;
        }
        ended
    }

    async fn held(&mut self, address: &ServerAddress, contradicted: bool) -> Tried<Ended> {
        let cancel = &self.context.cancel;
        let mut connection = Connection::open(address, cancel).await?;
        let server = look(self.source, address, &mut connection).await?;
        connection.close().await;
        let active = self.place(&server, contradicted).await?;
        let tail = active.writer.books().mysql()?.tail();
        let place = LogPlace {
            file: tail.file.clone(),
            offset: tail.ask_from(),
        };
        // Not the run's own: an interrupted run still has something to say to the source.
        let wire = Cancel::new();
        let options = self.options(&server);
        let connected = LogFollower::connect(address, &options, &place, &wire);
        let follower = match cancel.race(connected).await {
            Ok(Ok(follower)) => follower,
            Ok(Err(error)) => {
                self.active = Some(active);
                return Err(error.into());
            }
            Err(cancelled) => {
                self.active = Some(active);
                return Err(cancelled.into());
            }
        };
        if !self.worked {
            self.worked = true;
            self.say_what_it_lacks(&server);
        }
        self.context.news(LogNews::Connected {
            server: address.place(),
            version: server.version.clone(),
            stream: active.stream.id.to_string(),
            file: tail.file.clone(),
            offset: tail.file_offset,
            semi_sync: follower.is_semi_sync(),
        });
        let follow = Follow {
            context: self.context,
            address,
            settings: self.source.log,
            spool_limit: self.spool_limit,
            shelf: &self.shelf,
            seen: &self.seen,
        };
        let (left, ended) = Box::pin(follow.run(follower, active)).await?;
        self.active = left;
        Ok(ended)
    }

    fn options(&self, server: &Server) -> FollowOptions {
        // The same for every run of this source, and for nothing else: a second one is noticed by the server itself.
        let mut name = blake3::Hasher::new();
        name.update(self.repository.id().to_string().as_bytes());
        name.update(self.source.name.as_bytes());
        let digest = name.finalize().to_hex();
        let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digest.get(part).unwrap_or_default());
        let mut options = FollowOptions::new(server.flavour, &format!("{a}-{b}-{c}-{d}-{e}"));
        if options.server_id == server.log.identity.id {
            options.server_id ^= 1;
        }
        options.heartbeat = HEARTBEAT;
        options.semi_sync = self.source.log.semi_sync;
        options
    }

    fn say_what_it_lacks(&self, server: &Server) {
        for lacking in &server.lacking {
            self.context.warn(
                format!(
                    "{}: expected {}, found {}",
                    lacking.name, lacking.expected, lacking.actual
                ),
                Some(lacking.remedy.clone()),
            );
        }
    }

    /// The stream to write, and where: the one that is there, or a new one.
    async fn place(&mut self, server: &Server, contradicted: bool) -> Tried<Active> {
        if self.active.is_none()
            && let Some(id) = self.current
        {
            self.active = recover_one(self.context, &self.repository, &self.spool, &self.shelf, id).await?;
        }
        let mut heads = Heads::new();
        if let Some(active) = &self.active {
            let held = held(active, contradicted)?;
            match self.decide(Some(&held), &[], server, &mut heads).await? {
                Step::GoOn => {
                    if let Some(mut active) = self.active.take() {
                        if let Some(head) = heads.get(&held.file) {
                            active.writer.learn_head(&head.digest);
                        }
                        self.current = Some(active.stream.id);
                        return Ok(active);
                    }
                }
                Step::New { file, why } => {
                    let before = (active.stream.id, held.executed.to_string());
                    let begun = self.begin_stream(server, &file, &mut heads, Some(before), why).await?;
                    return Ok(begun);
                }
                _ => return Err(no_log(self.source).into()),
            }
        }
        // Another recorder's, or ours whose spool is lost.
        let elsewhere = latest(self.context, self.vault, &self.source.name).await?;
        let wanted = match &elsewhere {
            Some(_) => Vec::new(),
            None => self.wanted(server).await?,
        };
        let held = elsewhere.as_ref().map(Latest::held).transpose()?;
        match self.decide(held.as_ref(), &wanted, server, &mut heads).await? {
            Step::New { file, why } => {
                let before = elsewhere
                    .zip(held)
                    .map(|(latest, held)| (latest.id, held.executed.to_string()));
                self.begin_stream(server, &file, &mut heads, before, why).await
            }
            _ => Err(no_log(self.source).into()),
        }
    }

    /// Reads the heads that decide, one by one.
    async fn decide(&self, held: Option<&Held>, wanted: &[Wanted], server: &Server, heads: &mut Heads) -> Tried<Step> {
        loop {
            match begin(held, wanted, &server.log, heads) {
                Step::Ask(file) => self.read_head(server, &file, heads).await?,
                step => return Ok(step),
            }
        }
    }

    async fn read_head(&self, server: &Server, file: &str, heads: &mut Heads) -> Tried<()> {
        let read = read_log_head(&server.address, server.flavour, file, &self.context.cancel).await?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&read.format).update(&read.previous);
        // A server that was made of a backup has executed what its own files do not speak of.
        let mut before = read.set;
        before.union(&server.purged)?;
        let head = Head {
            digest: hasher.finalize().to_hex().to_string(),
            before,
        };
        heads.insert(file.to_owned(), head);
        Ok(())
    }

    async fn begin_stream(
        &mut self,
        server: &Server,
        file: &str,
        heads: &mut Heads,
        before: Option<(StreamId, String)>,
        why: Option<Why>,
    ) -> Tried<Active> {
        if !heads.contains_key(file) {
            self.read_head(server, file, heads).await?;
        }
        let Some(head) = heads.get(file) else {
            return Err(no_log(self.source).into());
        };
        self.retire().await?;
        let after = before.zip(why).map(|((stream, held), why)| After {
            stream: stream.to_string(),
            held,
            cause: why.cause,
            missing: why.missing.to_string(),
        });
        let facts = StreamFacts {
            source: self.source.name.clone(),
            flavour: server.flavour,
            server_uuid: server.log.identity.uuid.clone(),
            server_id: server.log.identity.id,
            server_version: server.version.clone(),
            started_at: self.context.clock.now(),
            first_file: file.to_owned(),
            before: head.before.to_string(),
            head: head.digest.clone(),
            after,
        };
        let id = StreamId::new_random();
        let books = Books::Mysql(Box::new(Ledger::new(server.flavour, file, head.before.clone())));
        self.tell(id, facts.after.as_ref(), file);
        Ok(self.open_stream(id, LogStream::Mysql(facts), books).await?)
    }

    /// From here on it is a stream of the spool.
    pub(super) async fn open_stream(&mut self, id: StreamId, facts: LogStream, books: Books) -> Result<Active> {
        let state = State::new(id, facts);
        let folder = self.spool.begin(&state)?;
        let (repository, place) = (self.repository.clone(), folder.clone());
        let begun = run_blocking("begin a journal", move || Writer::begin(&repository, place, books)).await;
        let writer = begun??;
        let stream = Stream {
            id,
            facts: serde_json::to_value(&state.facts).unwrap_or_default(),
            folder,
            state,
        };
        self.current = Some(id);
        Ok(Active {
            stream: Arc::new(stream),
            writer: Box::new(writer),
        })
    }

    /// What is open is closed, so that it is stored: the end may have come while no server was followed.
    pub(super) async fn close(&mut self) -> Result<()> {
        let Some(Active { stream, mut writer }) = self.active.take() else {
            return Ok(());
        };
        let now = self.context.clock.now();
        let (writer, closed, outcome) = run_blocking("close the journal", move || {
            let mut closed = Vec::new();
            let outcome = writer.write(Vec::new(), true, now, &mut closed);
            (writer, closed, outcome)
        })
        .await?;
        shelve(self.context, &self.shelf, &stream, closed, None);
        self.active = Some(Active { stream, writer });
        match outcome {
            Ok(()) => Ok(()),
            Err(WriteError::Disk(error) | WriteError::Log(error)) => Err(error),
        }
    }

    /// What is open of a stream that is not gone on with is stored, too.
    pub(super) async fn retire(&mut self) -> Result<()> {
        let Some(Active { stream, mut writer }) = self.active.take() else {
            return Ok(());
        };
        let now = self.context.clock.now();
        let closed = run_blocking("close the journal", move || writer.finish(now)).await??;
        shelve(self.context, &self.shelf, &stream, closed, None);
        Ok(())
    }

    pub(super) fn tell(&self, id: StreamId, after: Option<&After>, first: &str) {
        let source = &self.source.name;
        if let Some(after) = after {
            let missing = if after.missing.is_empty() {
                "nothing is missing as far as the server tells".to_owned()
            } else {
                format!("missing in between: {}", after.missing)
            };
            let message = format!(
                "the log of \"{}\" is recorded anew: {}; {missing}",
                source,
                after.cause.words()
            );
            let hint = "a backup now makes every later moment restorable: ballast backup ".to_owned() + source;
            self.context.warn(message, Some(hint));
        }
        self.context.news(LogNews::StreamBegun {
            stream: id.to_string(),
            first_file: first.to_owned(),
            after: after.map(|after| after.stream.clone()),
            cause: after.map(|after| after.cause.name()),
            missing: after.map(|after| after.missing.clone()),
        });
    }

    /// Where good backups of this server stand in its log.
    async fn wanted(&self, server: &Server) -> Result<Vec<Wanted>> {
        let backups = list(self.context, self.vault, Some(&self.source.name)).await?;
        let good = backups.into_iter().filter(|backup| backup.state == BackupState::Good);
        let mut wanted = Vec::new();
        for position in good.filter_map(|backup| backup.position) {
            if let (Some(file), Some(offset)) = (position.file, position.offset) {
                // Of another flavour, it is of another server.
                if let Ok(executed) = ExecutedSet::parse(server.flavour, &position.gtid_executed) {
                    wanted.push(Wanted { file, offset, executed });
                }
            }
        }
        Ok(wanted)
    }

    /// Waits until there is room in the spool.
    async fn wait_for_room(&self) -> std::result::Result<(), ballast_base::Cancelled> {
        let limit = self.spool_limit;
        let spool = |full| LogNews::Spool {
            bytes: self.shelf.bytes(),
            limit,
            full,
        };
        self.context.news(spool(true));
        let message = format!(
            "the spool is full ({}): the log of \"{}\" is read no further until a repository takes what is there",
            ballast_base::format_bytes(self.shelf.bytes()),
            self.source.name
        );
        let hint = "bring the repositories back, or give it more room with limit in [spool]; the server keeps its log only so long";
        self.context.warn(message, Some(hint.to_owned()));
        while self.shelf.bytes() > limit - limit / FREE_SHARE {
            self.context.cancel.race(self.context.clock.sleep(FULL_WAIT)).await?;
        }
        self.context.news(spool(false));
        self.context.note("there is room in the spool again");
        Ok(())
    }
}

fn held(active: &Active, contradicted: bool) -> Result<Held> {
    let ledger = active.writer.books().mysql()?;
    let tail = ledger.tail();
    let facts = active.stream.state.facts.mysql()?;
    Ok(Held {
        server: Identity {
            uuid: facts.server_uuid.clone(),
            id: facts.server_id,
        },
        file: tail.file,
        offset: tail.file_offset,
        head: tail.head,
        executed: ledger.executed().clone(),
        ours: true,
        contradicted,
    })
}

fn no_log(source: &SourceSettings) -> ProtectError {
    ProtectError::failed(format!("source \"{}\" has no binary log", source.name))
        .hint("in my.cnf: log-bin=binlog, then restart the server")
}
