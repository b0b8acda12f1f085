//! One connection to a Redis, from looking at the server to the end.

use std::time::Duration;

use ballast_base::Cancel;
use ballast_redis::{
    Attached, CommandLink, CommandScanner, Connection, Facts, Flavour, Position, RefusingListener, ServerAddress,
    Severity, Snapshot, SyncOptions, log_requirements, snapshot_requirements,
};
use ballast_repository::StreamId;

use super::super::facts::After;
use super::super::follow::Ended;
use super::super::kind::{Books, LogSegment, LogStream};
use super::super::latest::{Latest, latest};
use super::super::recorder::{Recorder, Tried};
use super::super::recover::{Active, recover_one};
use super::begin::{Held, Step, Why, begin};
use super::facts::{RedisKind, RedisStreamFacts};
use super::follow::RedisFollow;
use super::ledger::RedisLedger;
use crate::catalog::{BackupState, list};
use crate::error::{ProtectError, Result};
use crate::observer::LogNews;

/// A server that never had a replica keeps no backlog. It makes one as soon as somebody asks to be one, and this long is waited then;
/// who goes away before the server's `repl-diskless-sync-delay` is over costs no fork.
const BACKLOG_WAIT: Duration = Duration::from_millis(300);
/// From here on a Redis counts what is durable at its replicas.
const DURABLE_SINCE: (u16, u16, u16) = (7, 2, 0);
/// Other points of a server matter to backups, not to who follows it.
const FOLLOWING_NEEDS: [&str; 2] = ["rights of the account", "link of the replica to its primary"];

impl Recorder<'_> {
    pub(in super::super) async fn redis_session(&mut self, address: &ServerAddress) -> Tried<Ended> {
        let context = self.context;
        let cancel = &context.cancel;
        let mut connection = Connection::open(address, cancel).await?;
        let mut server = Facts::read(&mut connection, false).await?;
        self.refuse(&server)?;
        if self.refusing.is_none() {
            // It outlives the connection: a server that chose us comes when it has closed all of them.
            self.refusing = RefusingListener::start(address, cancel).await?;
        }
        let options = SyncOptions {
            announced_port: self.refusing.as_ref().map(RefusingListener::port),
            server_version: Some(server.version.text.clone()),
            ..SyncOptions::default()
        };
        if !server.info.is_on("repl_backlog_active") {
            let asked = tokio::time::timeout(BACKLOG_WAIT, Snapshot::start(address, &options, cancel));
            // Nobody wants the snapshot.
            drop(cancel.race(asked).await?);
            server = Facts::read(&mut connection, false).await?;
        }
        connection.close().await;
        let step = self.decide_redis(&server).await?;
        let (history, scanner) = match (&step, &self.active) {
            (Step::New { from, .. }, _) => (from.history.clone(), CommandScanner::new(from.offset, 0)),
            (Step::GoOn, Some(active)) => {
                let ledger = active.writer.books().redis()?;
                (ledger.place().0, ledger.scanner().clone())
            }
            (Step::GoOn, None) => return Err(ProtectError::failed("nothing is there to go on with").into()),
        };
        // Not the run's own: an interrupted run still has something to say to the source.
        let wire = Cancel::new();
        let attached = CommandLink::attach(address, &options, &history, scanner, &wire);
        let link = match cancel.race(attached).await?? {
            Attached::Following(link) => *link,
            Attached::Restarted(snapshot) => {
                // It forgot meanwhile what it had: look again.
                drop(snapshot);
                let message = format!("{} does not go on from where it said it would", address.place());
                return Err(ballast_redis::RedisError::Disturbed {
                    what: message,
                    hint: "it is looked at again".to_owned(),
                }
                .into());
            }
        };
        if let Step::New { from, why } = step {
            self.begin_redis_stream(&server, &from, why).await?;
        }
        let Some(active) = self.active.take() else {
            return Err(ProtectError::failed("there is no stream").into());
        };
        self.current = Some(active.stream.id);
        if !self.worked {
            self.worked = true;
            self.say_what_a_redis_lacks(&server);
        }
        let counts_durable = server.version.flavour == Flavour::Valkey || server.version.numeric() >= DURABLE_SINCE;
        let (file, offset) = active.writer.books().place();
        context.news(LogNews::Connected {
            server: address.place(),
            version: server.version.to_string(),
            stream: active.stream.id.to_string(),
            file,
            offset,
            semi_sync: counts_durable,
        });
        let follow = RedisFollow {
            context,
            address,
            server: &server,
            settings: self.source.log,
            spool_limit: self.spool_limit,
            shelf: &self.shelf,
            counts_durable,
        };
        let (left, ended) = Box::pin(follow.run(link, active)).await?;
        self.active = left;
        Ok(ended)
    }

    /// A server that cannot be followed as it is.
    fn refuse(&self, server: &Facts) -> Result<()> {
        let points = snapshot_requirements(server);
        let missing = points
            .iter()
            .find(|point| !point.ok && point.severity == Severity::Must && FOLLOWING_NEEDS.contains(&point.name));
        match missing {
            Some(point) => Err(ProtectError::failed(format!(
                "the commands of source \"{}\" cannot be followed: {}: expected {}, found {}",
                self.source.name, point.name, point.expected, point.actual
            ))
            .hint(point.remedy.clone())),
            None => Ok(()),
        }
    }

    fn say_what_a_redis_lacks(&self, server: &Facts) {
        for point in log_requirements(server).iter().filter(|point| !point.ok) {
            let message = format!("{}: expected {}, found {}", point.name, point.expected, point.actual);
            self.context.warn(message, Some(point.remedy.clone()));
        }
        if self.refusing.is_none() {
            let message =
                "the server is spoken to by a Unix socket, so it cannot ask whether this recorder may be promoted";
            let hint =
                "FAILOVER without TO would leave it read-only until FAILOVER ABORT: name it as redis://127.0.0.1:PORT";
            self.context.warn(message, Some(hint.to_owned()));
        }
    }

    /// The stream to write, and where.
    async fn decide_redis(&mut self, server: &Facts) -> Tried<Step> {
        if self.active.is_none()
            && let Some(id) = self.current
        {
            self.active = recover_one(self.context, &self.repository, &self.spool, &self.shelf, id).await?;
        }
        self.before = match &self.active {
            Some(active) => Some((active.stream.id, held(active)?)),
            // Another recorder's, or ours whose spool is lost.
            None => {
                let elsewhere = latest(self.context, self.vault, &self.source.name).await?;
                elsewhere.as_ref().and_then(held_elsewhere)
            }
        };
        let wanted = match &self.active {
            Some(_)
                if self
                    .before
                    .as_ref()
                    .is_some_and(|(_, held)| server.info.continues(&held.position)) =>
            {
                Vec::new()
            }
            _ => self.wanted_of_redis().await?,
        };
        let held = self.before.as_ref().map(|(_, held)| held);
        begin(held, &wanted, &server.info).ok_or_else(|| {
            ProtectError::failed("the server does not say where its stream of commands is")
                .hint("INFO replication must show master_replid and master_repl_offset")
                .into()
        })
    }

    async fn begin_redis_stream(&mut self, server: &Facts, from: &Position, why: Option<Why>) -> Tried<()> {
        self.retire().await?;
        let after = self.before.take().zip(why).map(|((stream, held), why)| After {
            stream: stream.to_string(),
            held: held.position.to_string(),
            cause: why.cause,
            missing: why.missing,
        });
        let facts = RedisStreamFacts {
            kind: RedisKind::Redis,
            source: self.source.name.clone(),
            server: server.version.flavour,
            server_version: server.version.text.clone(),
            started_at: self.context.clock.now(),
            history: from.history.clone(),
            from: from.offset,
            after,
        };
        let id = StreamId::new_random();
        self.tell(id, facts.after.as_ref(), &from.to_string());
        let books = Books::Redis(Box::new(RedisLedger::new(from)));
        let begun = self.open_stream(id, LogStream::Redis(facts), books).await?;
        self.active = Some(begun);
        Ok(())
    }

    /// Where good backups of this server stand, the newest first.
    async fn wanted_of_redis(&self) -> Result<Vec<Position>> {
        let backups = list(self.context, self.vault, Some(&self.source.name)).await?;
        let good = backups.into_iter().filter(|backup| backup.state == BackupState::Good);
        let position =
            |position: crate::position::Position| Position::new(position.replication_id.as_deref()?, position.offset?);
        Ok(good.filter_map(|backup| position(backup.position?)).collect())
    }
}

fn held(active: &Active) -> Result<Held> {
    let (history, offset) = active.writer.books().redis()?.place();
    let position = Position::new(&history, offset);
    let position = position.ok_or_else(|| ProtectError::failed(format!("\"{history}\" is no replication id")))?;
    Ok(Held { position, ours: true })
}

/// The end of what the repositories have, as far as a new stream can begin there.
fn held_elsewhere(latest: &Latest) -> Option<(StreamId, Held)> {
    let LogStream::Redis(facts) = &latest.facts else {
        return None;
    };
    let position = match &latest.last {
        Some((_, LogSegment::Redis(last))) => Position::new(&last.histories.last()?.id, last.border),
        _ => Position::new(&facts.history, facts.from),
    };
    let position = position?;
    Some((latest.id, Held { position, ours: false }))
}
