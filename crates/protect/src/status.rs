//! Per source: what there is to go back to.

use jiff::Timestamp;

use crate::archive::{LogStatus, log_status};
use crate::catalog::{BackupState, BackupSummary, list};
use crate::context::Context;
use crate::error::Result;
use crate::settings::{SourceKind, SourceSettings, SpoolSettings};
use crate::timeline::timeline;
use crate::vault::{LostRepository, Vault};

#[derive(Debug, Clone, serde::Serialize)]
pub struct SourceStatus {
    pub source: String,
    pub kind: SourceKind,
    /// Backups there are, good or not.
    pub backups: u64,
    pub last_backup: Option<BackupSummary>,
    /// The latest moment that can be restored: of the last good backup, or of the log that leads on from it.
    pub recovery_point: Option<Timestamp>,
    /// Repositories that lack the last good backup, or are out of reach, so that nobody can say they hold it.
    pub behind: Vec<String>,
    /// Of the recorded log; nothing if none was ever recorded.
    pub log: Option<LogStatus>,
    pub lost: Vec<LostRepository>,
}

/// The state of each of `sources`.
pub async fn status(
    context: &Context,
    vault: &Vault,
    sources: &[SourceSettings],
    spool: &SpoolSettings,
) -> Result<Vec<SourceStatus>> {
    let all = list(context, vault, None).await?;
    let mut logs = Vec::new();
    for source in sources {
        let log = log_status(context, vault, &source.name, spool).await?;
        let leads_to = match &log {
            Some(_) => timeline(context, vault, &source.name).await?.latest,
            None => None,
        };
        logs.push((log, leads_to));
    }
    Ok(sources
        .iter()
        .zip(logs)
        .map(|(source, (log, leads_to))| {
            let own: Vec<_> = all
                .iter()
                .filter(|backup| backup.source.as_deref() == Some(&source.name))
                .collect();
            let good = own.iter().find(|backup| backup.state == BackupState::Good);
            SourceStatus {
                source: source.name.clone(),
                kind: source.kind,
                backups: own.len() as u64,
                last_backup: own.first().map(|backup| (*backup).clone()),
                recovery_point: good.and_then(|backup| backup.snapshot_at).max(leads_to),
                behind: good.map_or_else(Vec::new, |backup| {
                    let lost = vault.lost().iter().map(|lost| lost.name.clone());
                    let all = vault.names().into_iter().chain(lost);
                    all.filter(|name| !backup.repositories.contains(name)).collect()
                }),
                log,
                lost: vault.lost().to_vec(),
            }
        })
        .collect())
}
