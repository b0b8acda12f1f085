//! Per source: what there is to go back to.

use jiff::Timestamp;

use crate::catalog::{BackupState, BackupSummary, list};
use crate::context::Context;
use crate::error::Result;
use crate::settings::{SourceKind, SourceSettings};
use crate::vault::{LostRepository, Vault};

#[derive(Debug, Clone, serde::Serialize)]
pub struct SourceStatus {
    pub source: String,
    pub kind: SourceKind,
    /// Backups there are, good or not.
    pub backups: u64,
    pub last_backup: Option<BackupSummary>,
    /// The moment the last good backup holds.
    pub recovery_point: Option<Timestamp>,
    /// Repositories that lack the last good backup, or are out of reach, so that nobody can say they hold it.
    pub behind: Vec<String>,
    pub lost: Vec<LostRepository>,
}

/// The state of each of `sources`.
pub async fn status(context: &Context, vault: &Vault, sources: &[SourceSettings]) -> Result<Vec<SourceStatus>> {
    let all = list(context, vault, None).await?;
    Ok(sources
        .iter()
        .map(|source| {
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
                recovery_point: good.and_then(|backup| backup.snapshot_at),
                behind: good.map_or_else(Vec::new, |backup| {
                    let lost = vault.lost().iter().map(|lost| lost.name.clone());
                    let all = vault.names().into_iter().chain(lost);
                    all.filter(|name| !backup.repositories.contains(name)).collect()
                }),
                lost: vault.lost().to_vec(),
            }
        })
        .collect())
}
