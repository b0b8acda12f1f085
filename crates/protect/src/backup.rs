//! One backup from start to recorded end.

use ballast_base::format_bytes;
use ballast_mysql::{Facts, ServerAddress};
use ballast_repository::{BackupId, BackupWriter, WrittenBackup};

use crate::catalog::{BackupFacts, BackupSummary};
use crate::context::{Context, StepTime, Steps};
use crate::error::{Result, chain};
use crate::mysql::lease::{Alone, Lease};
use crate::mysql::pieces::PIECE_BYTES;
use crate::mysql::preflight::{address, preflight};
use crate::mysql::taken::Taken;
use crate::mysql::{external, logical, physical};
use crate::settings::{Engine, SourceKind, SourceSettings};
use crate::vault::{LostRepository, Vault};

/// What a backup came to.
#[derive(Debug, serde::Serialize)]
pub struct BackupOutcome {
    pub backup: BackupSummary,
    /// Expected tables that are not in it: it is incomplete.
    pub missing: Vec<String>,
    /// Repositories that do not hold it.
    pub lost: Vec<LostRepository>,
    /// Why it is not of one moment, where that was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weaker_because: Option<String>,
    /// Bytes of the source that were stored already.
    pub bytes_reused: u64,
    pub steps: Vec<StepTime>,
    pub seconds: f64,
}

impl BackupOutcome {
    /// Whether something that should be there is not.
    pub fn partial(&self) -> bool {
        !self.missing.is_empty() || !self.lost.is_empty() || self.weaker_because.is_some()
    }
}

/// Takes one backup now, into every repository at hand.
pub async fn backup(context: &Context, vault: &Vault, source: &SourceSettings) -> Result<BackupOutcome> {
    if source.kind == SourceKind::Redis {
        return Box::pin(crate::redis::backup::backup(context, vault, source)).await;
    }
    Box::pin(backup_in_pieces(context, vault, source, PIECE_BYTES)).await
}

/// The same with another size of pieces, for measuring. A size once used should stay: pieces of another size share nothing.
pub async fn backup_in_pieces(
    context: &Context,
    vault: &Vault,
    source: &SourceSettings,
    piece_bytes: usize,
) -> Result<BackupOutcome> {
    let mut steps = context.steps();
    let address = address(source)?;
    let (facts, engine) = steps.run("preflight", preflight(context, source, &address)).await?;
    let lease = Lease::take(context, Alone::Backup, &source.name, &address).await?;
    let outcome = Box::pin(backup_held(
        context,
        vault,
        source,
        piece_bytes,
        (&address, &facts, engine),
        steps,
    ))
    .await;
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
    piece_bytes: usize,
    (address, facts, engine): (&ServerAddress, &Facts, Engine),
    mut steps: Steps,
) -> Result<BackupOutcome> {
    warn_of_space(context, vault, facts.data_bytes()).await?;
    let started_at = context.clock.now();
    let id = BackupId::new(started_at);
    context.note(format!("backup {id} of \"{}\" begins", source.name));
    let begin = BackupWriter::begin(vault.repositories().to_vec(), workers(), &context.cancel);
    let writer = steps.run("index", begin).await?;
    let taken = match engine {
        Engine::Logical => {
            let take = logical::take(context, source, address, facts, writer);
            steps.run("rows", Box::pin(take)).await?
        }
        Engine::External => {
            let take = external::take(context, source, address, facts, writer, piece_bytes);
            steps.run("copy", Box::pin(take)).await?
        }
        _ => {
            let take = physical::take(context, source, address, facts, writer, piece_bytes);
            steps.run("copy", Box::pin(take)).await?
        }
    };
    let missing = missing(source, &taken);
    let facts = BackupFacts {
        source: source.name.clone(),
        kind: source.kind,
        engine: taken.engine,
        started_at,
        finished_at: context.clock.now(),
        snapshot_at: taken.snapshot_at,
        position: taken.position.clone(),
        tables: taken.tables.len() as u64,
        keys: None,
        point_in_time: None,
        missing: missing.clone(),
        bytes_source: taken.bytes_source,
        bytes_new: 0,
        bytes_stored: 0,
        server_version: facts.version.text.clone(),
        server_uuid: facts.variable("server_uuid").unwrap_or_default().to_owned(),
        made_by: concat!("ballast ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let (written, facts) = steps.run("manifest", write(&id, taken, facts)).await?;
    Ok(outcome(vault, &id, facts, written, missing, steps.finish()))
}

/// A first backup takes about a third of the data; with less room than a quarter of it, it is likely to fail.
pub(crate) async fn warn_of_space(context: &Context, vault: &Vault, data_bytes: u64) -> Result<()> {
    const LIKELY_SHARE: u64 = 4;
    for repository in vault.repositories() {
        // A store that cannot tell, or does not answer now, is not a reason to stop here.
        let Ok(Some(space)) = context.cancel.race(repository.storage().space()).await? else {
            continue;
        };
        if space.free_bytes < data_bytes / LIKELY_SHARE {
            let (free, data) = (format_bytes(space.free_bytes), format_bytes(data_bytes));
            let message = format!(
                "repository \"{}\" has {free} free, and the source holds {data}",
                repository.name()
            );
            context.warn(
                message,
                Some("what did not change is not stored again; make room if this is a first backup".to_owned()),
            );
        }
    }
    Ok(())
}

/// Threads that compress: as many as there are cores, within reason.
pub(crate) fn workers() -> usize {
    const WORKERS_MAX: usize = 8;
    std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(WORKERS_MAX)
}

/// What the configuration demands and the copy lacks: expected tables, and databases without any table; and what could not be read.
fn missing(source: &SourceSettings, taken: &Taken) -> Vec<String> {
    let tables = &taken.tables;
    let absent = source.expect.iter().flat_map(|pattern| pattern.missing(tables));
    let empty = source
        .databases
        .iter()
        .filter(|name| !tables.iter().any(|(database, _)| database == *name));
    let empty = empty.map(|name| format!("{name}.*"));
    let mut missing: Vec<_> = absent.chain(empty).chain(taken.missing.iter().cloned()).collect();
    missing.sort();
    missing.dedup();
    missing
}

pub(crate) async fn write(id: &BackupId, taken: Taken, mut facts: BackupFacts) -> Result<(WrittenBackup, BackupFacts)> {
    let mut noted = facts.clone();
    let written = taken
        .writer
        .finish(id.clone(), taken.files, taken.annex, move |written| {
            noted.bytes_new = written.bytes_new;
            noted.bytes_stored = written.bytes_stored;
            serde_json::to_value(&noted).unwrap_or_default()
        })
        .await?;
    facts.bytes_new = written.written.bytes_new;
    facts.bytes_stored = written.written.bytes_stored + written.manifest_bytes;
    Ok((written, facts))
}

pub(crate) fn outcome(
    vault: &Vault,
    id: &BackupId,
    facts: BackupFacts,
    written: WrittenBackup,
    missing: Vec<String>,
    (steps, seconds): (Vec<StepTime>, f64),
) -> BackupOutcome {
    let failed = written.lost.into_iter().map(|lost| LostRepository {
        name: lost.name,
        message: chain(&lost.error),
        hint: Some("when it is back, bring it up to date with: ballast copy --from NAME --to NAME".to_owned()),
        damaged: false,
    });
    BackupOutcome {
        backup: BackupSummary::new(id, Some(facts), written.repositories),
        missing,
        lost: vault.lost().iter().cloned().chain(failed).collect(),
        weaker_because: None,
        bytes_reused: written.written.bytes_reused,
        steps,
        seconds,
    }
}
