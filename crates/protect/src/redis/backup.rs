//! One backup of a Redis from start to recorded end.

use ballast_redis::{Facts, RedisError, ServerAddress, recorder_rights};
use ballast_repository::{BackupId, BackupWriter};

use super::lease::RedisLease;
use super::preflight::{address, preflight, read};
use super::{keys, snapshot};
use crate::backup::{BackupOutcome, outcome, warn_of_space, workers, write};
use crate::catalog::BackupFacts;
use crate::context::{Context, Steps};
use crate::error::{ProtectError, Result};
use crate::mysql::lease::Alone;
use crate::settings::{Engine, SourceSettings};
use crate::vault::Vault;

pub(crate) async fn backup(context: &Context, vault: &Vault, source: &SourceSettings) -> Result<BackupOutcome> {
    let mut steps = context.steps();
    let address = address(source)?;
    let (server, way) = steps.run("preflight", way(context, source, &address)).await?;
    let lease = RedisLease::take(context, Alone::Backup, &source.name, &address).await?;
    let outcome = Box::pin(backup_held(context, vault, source, (&address, &server, way), steps)).await;
    if let Some(lease) = lease {
        lease.release().await?;
    }
    outcome
}

/// The backup itself, of a server that nobody else backs up meanwhile.
async fn backup_held(
    context: &Context,
    vault: &Vault,
    source: &SourceSettings,
    (address, server, mut way): (&ServerAddress, &Facts, Way),
    mut steps: Steps,
) -> Result<BackupOutcome> {
    warn_of_space(context, vault, server.info.number("used_memory").unwrap_or(0)).await?;
    let started_at = context.clock.now();
    let id = BackupId::new(started_at);
    context.note(format!("backup {id} of \"{}\" begins", source.name));
    let begin = BackupWriter::begin(vault.repositories().to_vec(), workers(), &context.cancel);
    let writer = steps.run("index", begin).await?;
    let begun = match &way {
        Way::Keys(_) => None,
        Way::Snapshot => match snapshot::start(context, address, server).await {
            Ok(begun) => Some(begun),
            // A managed server may not know the command, or tell of its rights by refusing only.
            Err(error) if source.engine == Engine::Auto && is_refused(&error) => {
                let reason = one_by_one(context, address, server, &error.to_string()).await?;
                way = Way::Keys(Some(reason.ok_or(error)?));
                None
            }
            Err(error) => return Err(error.into()),
        },
    };
    let (taken, record) = match begun {
        Some(begun) => {
            let take = snapshot::take(context, begun, server, writer);
            steps.run("snapshot", Box::pin(take)).await?
        }
        None => {
            if let Way::Keys(Some(reason)) = &way {
                context.warn(
                    format!("the server gives no snapshot ({reason}): its keys are read one by one, and are not of one moment"),
                    Some(format!(
                        "let the account take snapshots, as an administrator: {}; or ask for this with engine = \"logical\"",
                        recorder_rights(&server.account)
                    )),
                );
            }
            let take = keys::take(context, address, server, writer);
            steps.run("keys", Box::pin(take)).await?
        }
    };
    let is_snapshot = matches!(way, Way::Snapshot);
    let facts = BackupFacts {
        source: source.name.clone(),
        kind: source.kind,
        engine: taken.engine,
        started_at,
        finished_at: context.clock.now(),
        snapshot_at: taken.snapshot_at,
        position: taken.position.clone(),
        tables: 0,
        keys: Some(record.snapshot.keys()),
        point_in_time: (!is_snapshot).then_some(false),
        missing: Vec::new(),
        bytes_source: taken.bytes_source,
        bytes_new: 0,
        bytes_stored: 0,
        server_version: record.server.text,
        server_uuid: server.info.text("run_id").unwrap_or_default().to_owned(),
        made_by: concat!("ballast ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let (written, facts) = steps.run("manifest", write(&id, taken, facts)).await?;
    let mut outcome = outcome(vault, &id, facts, written, Vec::new(), steps.finish());
    if let Way::Keys(reason) = way {
        outcome.weaker_because = reason;
    }
    Ok(outcome)
}

/// How the data is read.
enum Way {
    Snapshot,
    /// One by one; unless that was asked for, because of this.
    Keys(Option<String>),
}

async fn way(context: &Context, source: &SourceSettings, address: &ServerAddress) -> Result<(Facts, Way)> {
    let about = format!("source \"{}\"", source.name);
    match source.engine {
        Engine::Auto | Engine::Snapshot => {}
        Engine::Logical => {
            let facts = read(context, address).await?;
            if let Some(message) = keys::obstacle(context, address, &facts).await? {
                let message = format!("{about}: its keys cannot be read one by one: {message}");
                let hint = format!("as an administrator: {}", keys::rights_line(&facts.account));
                return Err(ProtectError::failed(message).hint(hint));
            }
            return Ok((facts, Way::Keys(None)));
        }
        Engine::Physical | Engine::External => {
            return Err(
                ProtectError::usage(format!("{about} is a Redis, which has no such engine"))
                    .hint("leave engine out (a snapshot), or logical (keys one by one, not of one moment)"),
            );
        }
    }
    let facts = read(context, address).await?;
    if source.engine == Engine::Auto && facts.denied.iter().any(|command| SNAPSHOT_COMMANDS.contains(command)) {
        let reason = format!("the account may not {}", facts.denied.join(", ").to_uppercase());
        if let Some(reason) = one_by_one(context, address, &facts, &reason).await? {
            return Ok((facts, Way::Keys(Some(reason))));
        }
    }
    Ok((preflight(context, source, address).await?, Way::Snapshot))
}

/// Without these there is no snapshot.
const SNAPSHOT_COMMANDS: [&str; 2] = ["psync", "replconf"];

/// The reason given on, if keys can be read one by one instead.
async fn one_by_one(context: &Context, address: &ServerAddress, facts: &Facts, reason: &str) -> Result<Option<String>> {
    let obstacle = keys::obstacle(context, address, facts).await?;
    Ok(obstacle.is_none().then(|| reason.to_owned()))
}

fn is_refused(error: &RedisError) -> bool {
    error.server_code() == Some("NOPERM") || error.to_string().contains("unknown command")
}
