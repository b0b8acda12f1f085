//! One backup of a Redis from start to recorded end.

use ballast_redis::{Facts, ServerAddress};
use ballast_repository::{BackupId, BackupWriter};

use super::lease::RedisLease;
use super::preflight::{address, preflight};
use super::snapshot;
use crate::backup::{BackupOutcome, outcome, warn_of_space, workers, write};
use crate::catalog::BackupFacts;
use crate::context::{Context, Steps};
use crate::error::Result;
use crate::mysql::lease::Alone;
use crate::settings::SourceSettings;
use crate::vault::Vault;

pub(crate) async fn backup(context: &Context, vault: &Vault, source: &SourceSettings) -> Result<BackupOutcome> {
    let mut steps = context.steps();
    let address = address(source)?;
    let server = steps.run("preflight", preflight(context, source, &address)).await?;
    let lease = RedisLease::take(context, Alone::Backup, &source.name, &address).await?;
    let outcome = Box::pin(backup_held(context, vault, source, (&address, &server), steps)).await;
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
    (address, server): (&ServerAddress, &Facts),
    mut steps: Steps,
) -> Result<BackupOutcome> {
    warn_of_space(context, vault, server.info.number("used_memory").unwrap_or(0)).await?;
    let started_at = context.clock.now();
    let id = BackupId::new(started_at);
    context.note(format!("backup {id} of \"{}\" begins", source.name));
    let begin = BackupWriter::begin(vault.repositories().to_vec(), workers(), &context.cancel);
    let writer = steps.run("index", begin).await?;
    let take = snapshot::take(context, address, server, writer);
    let (taken, record) = steps.run("snapshot", Box::pin(take)).await?;
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
        missing: Vec::new(),
        bytes_source: taken.bytes_source,
        bytes_new: 0,
        bytes_stored: 0,
        server_version: record.server.text,
        server_uuid: server.info.text("run_id").unwrap_or_default().to_owned(),
        made_by: concat!("ballast ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let (written, facts) = steps.run("manifest", write(&id, taken, facts)).await?;
    Ok(outcome(vault, &id, facts, written, Vec::new(), steps.finish()))
}
