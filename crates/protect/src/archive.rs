//! Follows a server's log and keeps it: `docs/mysql-log.md` is the argument why nothing is lost on the way.
//!
//! Here is the story; each step has a file. [`recover`] what the last run left → [`begin`] (pure) decides where to go on → [`follow`] the
//! server: [`ledger`] books, [`writer`] makes durable, the source is told, [`seal`] (pure) says when a segment is closed → the
//! [`shelf`] hands it to each repository's [`upload`], which [`merge`]s small ones. What lies where in between is [`spool`].
//!
//! So it is for MySQL. For a Redis the middle is [`redis`]; what both are to the rest is [`kind`].

mod begin;
mod facts;
mod follow;
mod kind;
mod latest;
mod ledger;
mod merge;
mod recorder;
mod recover;
mod redis;
mod seal;
mod server;
mod shelf;
mod spool;
mod tail;
mod upload;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use ballast_base::{Cancel, TaskSet};
use tokio::sync::watch;

pub(crate) use self::kind::{LogSegment, LogStream, is_of_redis};
pub use self::latest::LogStatus;
pub(crate) use self::latest::log_status;
use self::recorder::{Origin, Recorder};
pub(crate) use self::redis::{RedisSegmentFacts, take_portion};
use self::shelf::Shelf;
use self::spool::Spool;
use self::upload::{Away, Uploader};
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::mysql::preflight::address;
use crate::redis::preflight::address as redis_address;
use crate::settings::{KeyMaterial, RepositorySettings, SourceKind, SourceSettings, SpoolSettings};
use crate::vault::{LostRepository, Vault};

/// When it ends, what is in the spool gets this long to reach the repositories.
const LAST_UPLOADS_WAIT: Duration = Duration::from_secs(20);

/// Why a stream is not a part of the one before, with what is in neither.
pub(crate) fn cause_words(after: &facts::After) -> String {
    if after.missing.is_empty() {
        after.cause.words().to_owned()
    } else {
        format!("{}; not captured: {}", after.cause.words(), after.missing)
    }
}

/// What is followed, and what it takes.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveRequest<'a> {
    pub source: &'a SourceSettings,
    pub spool: &'a SpoolSettings,
    /// All of the configuration: those that are away now may come back.
    pub repositories: &'a [RepositorySettings],
    pub key: &'a KeyMaterial,
}

/// How it ended.
#[derive(Debug, serde::Serialize)]
pub struct ArchiveOutcome {
    /// The stream that was written last.
    pub stream: Option<String>,
    pub file: Option<String>,
    pub offset: Option<u64>,
    /// Bytes of the log that are in the spool and not in every repository.
    pub spool_bytes: u64,
    /// Repositories that lack some of it.
    pub lost: Vec<LostRepository>,
    pub seconds: f64,
}

/// Follows the log of one source until `context` is cancelled, which is its ordinary end.
pub async fn archive(context: &Context, vault: &Vault, request: &ArchiveRequest<'_>) -> Result<ArchiveOutcome> {
    let source = request.source;
    let origin = match source.kind {
        SourceKind::Mysql => Origin::Mysql(address(source)?),
        SourceKind::Redis => Origin::Redis(redis_address(source)?),
    };
    let Some(repository) = vault.repositories().first() else {
        return Err(ProtectError::usage("the configuration names no repository").hint("add a [[repository]]"));
    };
    let from = context.clock.elapsed();
    let spool = Spool::open(&request.spool.path, &source.name)?;
    let shelf = Arc::new(Shelf::new(request.repositories.len()));
    let active = recover::recover(context, repository, &spool, &shelf).await?;
    let (seen, _) = watch::channel(None);
    let stop = Cancel::new();
    let (mut uploads, losses) = start_uploads(context, vault, request, &shelf, &seen, &stop);

    let mut recorder = Recorder {
        context,
        vault,
        source,
        origin,
        repository: repository.clone(),
        spool,
        spool_limit: request.spool.limit,
        shelf: Arc::clone(&shelf),
        seen,
        current: active.as_ref().map(|active| active.stream.id),
        active,
        worked: false,
        refusing: None,
        before: None,
    };
    let recorded = recorder.run().await;
    let closed = recorder.close().await;

    shelf.close();
    let waited = tokio::select! {
        ended = all_ended(&mut uploads) => ended,
        () = context.clock.sleep(LAST_UPLOADS_WAIT) => {
            stop.cancel();
            Ok(())
        }
    };
    recorded?;
    closed?;
    waited?;
    let tail = recorder
        .active
        .as_ref()
        .map(|active| (active.stream.id, active.writer.books().place()));
    Ok(ArchiveOutcome {
        stream: tail.as_ref().map(|(id, _)| id.to_string()),
        file: tail.as_ref().map(|(_, (file, _))| file.clone()),
        offset: tail.map(|(_, (_, offset))| offset),
        spool_bytes: shelf.bytes(),
        lost: lost(request, &shelf, &losses),
        seconds: context.clock.elapsed().saturating_sub(from).as_secs_f64(),
    })
}

async fn all_ended(uploads: &mut TaskSet<()>) -> Result<()> {
    let mut outcome = Ok(());
    while let Some(ended) = uploads.join_next().await {
        outcome = outcome.and(ended.map_err(ProtectError::from));
    }
    outcome
}

type Losses = Vec<watch::Receiver<Option<String>>>;

fn start_uploads(
    context: &Context,
    vault: &Vault,
    request: &ArchiveRequest<'_>,
    shelf: &Arc<Shelf>,
    seen: &watch::Sender<Option<upload::Seen>>,
    stop: &Cancel,
) -> (TaskSet<()>, Losses) {
    let (mut uploads, mut losses) = (TaskSet::new("upload"), Losses::new());
    for (who, settings) in request.repositories.iter().enumerate() {
        let opened = vault.repositories();
        let repository = opened.iter().find(|repository| repository.name() == settings.name);
        let away = opened.first().filter(|_| repository.is_none()).map(|other| Away {
            settings: settings.clone(),
            key: request.key.clone(),
            other: other.clone(),
        });
        let (lost, loss) = watch::channel(None);
        losses.push(loss);
        let uploader = Uploader {
            // Interrupted, it goes on for a while: what is in the spool is to be stored.
            context: Context {
                cancel: stop.clone(),
                ..context.clone()
            },
            who,
            name: settings.name.clone(),
            shelf: Arc::clone(shelf),
            seen: seen.subscribe(),
            stop: stop.clone(),
            repository: repository.cloned(),
            away,
            lost,
        };
        uploads.spawn(uploader.run());
    }
    (uploads, losses)
}

/// Repositories that lack something of what is in the spool.
fn lost(request: &ArchiveRequest<'_>, shelf: &Shelf, losses: &Losses) -> Vec<LostRepository> {
    let named = request.repositories.iter().zip(losses).enumerate();
    named
        .filter(|(who, _)| shelf.lacking(*who) > 0)
        .map(|(who, (settings, loss))| {
            let lacking = shelf.lacking(who);
            let why = loss.borrow().clone();
            LostRepository {
                name: settings.name.clone(),
                message: why.unwrap_or_else(|| "it is slower than the log".to_owned()),
                hint: Some(format!(
                    "{lacking} segments for it are in the spool; the next run stores them: ballast archive {}",
                    request.source.name
                )),
                damaged: false,
            }
        })
        .collect()
}

/// Whether the work was asked to end.
fn is_interrupted(error: &ProtectError) -> bool {
    error.kind() == ErrorKind::Interrupted
}
