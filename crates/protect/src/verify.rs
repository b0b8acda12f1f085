//! Proves the stored bytes without restoring: every object of every repository at hand is read back and opened.
//!
//! A damaged pack or segment is marked in its repository, so that later backups do not use it; each finding says what to type next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ballast_repository::{BackupId, CheckFinding, CheckReport, CheckScope, FindingKind, Repository, StreamId};

use crate::catalog::{BackupFacts, list};
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
    /// Captured logs.
    pub streams: u64,
    pub findings: Vec<VerifyFinding>,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct VerifyFinding {
    pub object: String,
    pub severity: Severity,
    pub message: String,
    /// What to type next, where something can be done.
    pub remedy: Option<String>,
    /// Backups that cannot be restored from this repository because of it.
    pub backups: Vec<String>,
    /// The captured log it is of: moments that need it cannot be restored from this repository.
    pub stream: Option<String>,
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
    let mut checked = Vec::new();
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
                let streams = match (&scope.source, &scope.backup) {
                    (Some(source), None) => streams_of(context, repository, source).await?,
                    _ => Vec::new(),
                };
                let scope = CheckScope::Chosen {
                    backups: &held,
                    streams: &streams,
                };
                check(context, repository, scope).await?
            }
        };
        checked.push((repository, report));
    }
    let mut repositories = Vec::new();
    for (repository, report) in &checked {
        repositories.push(told(context, repository, report, &checked).await?);
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
    if ids.is_empty() && !has_streams(context, vault, scope).await? {
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

/// Whether there is a log to verify where there is no backup.
async fn has_streams(context: &Context, vault: &Vault, scope: &VerifyScope) -> Result<bool> {
    let (Some(source), None) = (&scope.source, &scope.backup) else {
        return Ok(false);
    };
    for repository in vault.repositories() {
        if !streams_of(context, repository, source).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The streams of a source, and those whose source nobody can tell any more.
async fn streams_of(context: &Context, repository: &Repository, source: &str) -> Result<Vec<StreamId>> {
    let mut streams = Vec::new();
    for id in repository.streams(&context.cancel).await? {
        let facts = repository.stream_facts(id, &context.cancel).await;
        context.cancel.check()?;
        if facts.is_ok_and(|facts| facts.get("source").is_some_and(|name| name != source)) {
            continue;
        }
        streams.push(id);
    }
    Ok(streams)
}

async fn check(context: &Context, repository: &Repository, scope: CheckScope<'_>) -> Result<CheckReport> {
    let observer = Arc::clone(&context.observer);
    let progress = move |done, total| {
        observer.progress(&crate::Progress::of_bytes("verify", done, Some(total)));
    };
    Ok(repository.check(scope, Arc::new(progress), &context.cancel).await?)
}

async fn told(
    context: &Context,
    repository: &Repository,
    report: &CheckReport,
    all: &[(&Repository, CheckReport)],
) -> Result<RepositoryReport> {
    let mut sources = BTreeMap::new();
    let mut findings = Vec::new();
    for finding in &report.findings {
        let (severity, word) = match finding.kind {
            FindingKind::Damaged => (Severity::Error, "damaged"),
            FindingKind::Missing => (Severity::Error, "missing"),
            FindingKind::Unknown => (Severity::Warning, "unknown"),
            FindingKind::Unused => (Severity::Ok, "unused"),
        };
        findings.push(VerifyFinding {
            object: finding.object.clone(),
            severity,
            message: format!("{word}: {}", finding.message),
            remedy: match whole_elsewhere(repository, finding, all) {
                Some(from) => Some(format!(
                    "ballast copy --from {} --to {}",
                    from.name(),
                    repository.name()
                )),
                None => back_up_again(context, repository, finding, &mut sources).await?,
            },
            backups: finding.backups.iter().map(ToString::to_string).collect(),
            stream: finding.stream.map(|id| id.to_string()),
        });
    }
    Ok(RepositoryReport {
        name: repository.name().to_owned(),
        objects: report.objects,
        bytes: report.bytes,
        backups: report.backups.len() as u64,
        streams: report.streams.len() as u64,
        findings,
    })
}

/// A repository that has a backup or a stream the finding harms, and nothing wrong with the object: it was read there just now.
fn whole_elsewhere<'a>(
    own: &Repository,
    finding: &CheckFinding,
    all: &[(&'a Repository, CheckReport)],
) -> Option<&'a Repository> {
    let whole = all.iter().find(|(other, report)| {
        other.name() != own.name()
            && (finding.backups.iter().any(|id| report.backups.contains(id))
                || finding.stream.is_some_and(|id| report.streams.contains(&id)))
            && report.findings.iter().all(|there| there.object != finding.object)
    });
    whole.map(|(other, _)| *other)
}

/// The backups harmed stay so, but a new one of each source that lost something stores it again.
async fn back_up_again(
    context: &Context,
    repository: &Repository,
    finding: &CheckFinding,
    sources: &mut BTreeMap<BackupId, Option<String>>,
) -> Result<Option<String>> {
    let mut lost = BTreeSet::new();
    for id in &finding.backups {
        if !sources.contains_key(id) {
            let facts = repository.facts(id, &context.cancel).await;
            context.cancel.check()?;
            let facts = facts.ok().and_then(|facts| serde_json::from_value(facts.facts).ok());
            sources.insert(id.clone(), facts.map(|facts: BackupFacts| facts.source));
        }
        lost.extend(sources.get(id).cloned());
    }
    // Of a manifest that cannot be read, nobody knows the source.
    let commands: Vec<_> = lost
        .into_iter()
        .map(|source| format!("ballast backup {}", source.as_deref().unwrap_or("SOURCE")))
        .collect();
    Ok((!commands.is_empty()).then(|| commands.join("; ")))
}
