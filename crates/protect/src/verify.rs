//! Proves the stored bytes without restoring: every object of every repository at hand is read back and opened.

use std::sync::Arc;

use ballast_repository::{BackupId, CheckReport, CheckScope, FindingKind, Repository};

use crate::catalog::list;
use crate::context::Context;
use crate::doctor::Severity;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::vault::{LostRepository, Vault};

/// What to verify; nothing named means everything.
#[derive(Debug, Clone, Default)]
pub struct VerifyScope {
    pub source: Option<String>,
    pub backup: Option<String>,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct VerifyReport {
    pub repositories: Vec<RepositoryReport>,
    pub lost: Vec<LostRepository>,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct RepositoryReport {
    pub name: String,
    pub objects: u64,
    /// Bytes read and found to be what was written.
    pub bytes: u64,
    pub backups: u64,
    pub findings: Vec<VerifyFinding>,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct VerifyFinding {
    pub object: String,
    pub severity: Severity,
    pub message: String,
    /// Backups that cannot be restored from this repository because of it.
    pub backups: Vec<String>,
}

impl VerifyReport {
    /// Whether anything is damaged or missing.
    pub fn damaged(&self) -> bool {
        self.lost.iter().any(|lost| lost.damaged)
            || self
                .repositories
                .iter()
                .flat_map(|repository| &repository.findings)
                .any(|f| f.severity == Severity::Error)
    }
}

/// Reads back what is in scope, in every repository at hand.
pub async fn verify(context: &Context, vault: &Vault, scope: &VerifyScope) -> Result<VerifyReport> {
    let wanted = wanted(context, vault, scope).await?;
    let mut repositories = Vec::new();
    for repository in vault.repositories() {
        let report = match &wanted {
            None => check(context, repository, CheckScope::Everything).await?,
            Some(ids) => {
                let mut held = Vec::new();
                for id in ids {
                    if repository.has_backup(id, &context.cancel).await? {
                        held.push(id.clone());
                    }
                }
                check(context, repository, CheckScope::Backups(&held)).await?
            }
        };
        repositories.push(told(repository, report));
    }
    Ok(VerifyReport {
        repositories,
        lost: vault.lost().to_vec(),
    })
}

/// The backups in scope; `None` for all objects there are.
async fn wanted(context: &Context, vault: &Vault, scope: &VerifyScope) -> Result<Option<Vec<BackupId>>> {
    if scope.source.is_none() && scope.backup.is_none() {
        return Ok(None);
    }
    let ids: Vec<BackupId> = list(context, vault, scope.source.as_deref())
        .await?
        .into_iter()
        .filter(|summary| scope.backup.as_ref().is_none_or(|id| *id == summary.id))
        .filter_map(|summary| BackupId::parse(&summary.id))
        .collect();
    if ids.is_empty() {
        let what = scope.backup.as_ref().map_or_else(
            || {
                format!(
                    "source \"{}\" has no backup",
                    scope.source.as_deref().unwrap_or_default()
                )
            },
            |id| format!("there is no backup \"{id}\""),
        );
        return Err(ProtectError::new(ErrorKind::NotRestorable, what).hint("see what there is with: ballast list"));
    }
    Ok(Some(ids))
}

async fn check(context: &Context, repository: &Repository, scope: CheckScope<'_>) -> Result<CheckReport> {
    let observer = Arc::clone(&context.observer);
    let progress = move |done, total| {
        observer.progress(&crate::Progress {
            step: "verify",
            done_bytes: done,
            total_bytes: Some(total),
        });
    };
    Ok(repository.check(scope, Arc::new(progress), &context.cancel).await?)
}

fn told(repository: &Repository, report: CheckReport) -> RepositoryReport {
    let findings = report.findings.into_iter().map(|finding| VerifyFinding {
        object: finding.object,
        severity: match finding.kind {
            FindingKind::Damaged | FindingKind::Missing => Severity::Error,
            FindingKind::Unknown => Severity::Warning,
            FindingKind::Unused => Severity::Ok,
        },
        message: match finding.kind {
            FindingKind::Damaged => format!("damaged: {}; nothing mends it in place: move it away, then copy it from another repository (ballast copy) or back up again, which stores what is missing", finding.message),
            FindingKind::Missing => format!("missing: {}", finding.message),
            FindingKind::Unknown => format!("unknown: {}", finding.message),
            FindingKind::Unused => format!("unused: {}", finding.message),
        },
        backups: finding.backups.iter().map(ToString::to_string).collect(),
    });
    RepositoryReport {
        name: repository.name().to_owned(),
        objects: report.objects,
        bytes: report.bytes,
        backups: report.backups.len() as u64,
        findings: findings.collect(),
    }
}
