//! What backups there are: the facts of every manifest in every repository at hand.

use std::collections::BTreeMap;

use ballast_repository::{BackupId, Repository};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::Result;
use crate::position::Position;
use crate::settings::{Engine, SourceKind};
use crate::vault::Vault;

/// What a manifest says of its backup, small enough to list. Stored; fields are added, never changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BackupFacts {
    pub(crate) source: String,
    pub(crate) kind: SourceKind,
    pub(crate) engine: Engine,
    pub(crate) started_at: Timestamp,
    pub(crate) finished_at: Timestamp,
    /// The moment whose data it holds, by this machine's clock, no later than the snapshot itself.
    pub(crate) snapshot_at: Timestamp,
    pub(crate) position: Position,
    pub(crate) tables: u64,
    /// Of a Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keys: Option<u64>,
    /// `false` of keys that were read one by one: they are of moments between the begin and the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) point_in_time: Option<bool>,
    /// Expected tables that were not there: with one, the backup is incomplete.
    pub(crate) missing: Vec<String>,
    pub(crate) bytes_source: u64,
    pub(crate) bytes_new: u64,
    pub(crate) bytes_stored: u64,
    /// The server's own version text, such as `9.7.4`.
    pub(crate) server_version: String,
    pub(crate) server_uuid: String,
    pub(crate) made_by: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupState {
    Good,
    /// An expected table is not in it.
    Incomplete,
    /// Its manifest cannot be read.
    Damaged,
}

/// One backup as `list` shows it. Absent values are those of a manifest that cannot be read.
#[derive(Debug, Clone, Serialize)]
pub struct BackupSummary {
    pub id: String,
    pub source: Option<String>,
    pub kind: Option<SourceKind>,
    pub engine: Option<Engine>,
    pub state: BackupState,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// The moment whose data it holds.
    pub snapshot_at: Option<Timestamp>,
    pub position: Option<Position>,
    /// Of a MySQL: whose log the position is in.
    #[serde(skip)]
    pub server_uuid: Option<String>,
    pub tables: Option<u64>,
    /// Of a Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// `false` where what it holds is not of one moment, but of moments between its begin and its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point_in_time: Option<bool>,
    /// Expected tables that it lacks.
    pub missing: Vec<String>,
    pub bytes_source: Option<u64>,
    pub bytes_new: Option<u64>,
    pub bytes_stored: Option<u64>,
    pub repositories: Vec<String>,
    /// Set by retention, which comes with the daemon.
    pub expires_at: Option<Timestamp>,
    pub holds: Vec<String>,
}

impl BackupSummary {
    /// Which moment its data is of, for people.
    pub(crate) fn moment(&self) -> String {
        let text = |at: Option<Timestamp>| at.map_or_else(|| "?".to_owned(), |at| at.to_string());
        if self.point_in_time == Some(false) {
            let (from, to) = (text(self.snapshot_at), text(self.finished_at));
            return format!("each as it was at some moment between {from} and {to}: not a point in time");
        }
        format!("as of {}", text(self.snapshot_at))
    }

    pub(crate) fn new(id: &BackupId, facts: Option<BackupFacts>, repositories: Vec<String>) -> Self {
        let state = match &facts {
            None => BackupState::Damaged,
            Some(facts) if facts.missing.is_empty() => BackupState::Good,
            Some(_) => BackupState::Incomplete,
        };
        let missing = facts.as_ref().map(|facts| facts.missing.clone()).unwrap_or_default();
        let of = facts.as_ref();
        Self {
            id: id.to_string(),
            source: of.map(|facts| facts.source.clone()),
            kind: of.map(|facts| facts.kind),
            engine: of.map(|facts| facts.engine),
            state,
            started_at: of.map(|facts| facts.started_at),
            finished_at: of.map(|facts| facts.finished_at),
            snapshot_at: of.map(|facts| facts.snapshot_at),
            position: of
                .filter(|facts| facts.point_in_time != Some(false))
                .map(|facts| facts.position.clone()),
            server_uuid: of
                .map(|facts| facts.server_uuid.clone())
                .filter(|uuid| !uuid.is_empty()),
            tables: of.map(|facts| facts.tables),
            keys: of.and_then(|facts| facts.keys),
            point_in_time: of.and_then(|facts| facts.point_in_time),
            missing,
            bytes_source: of.map(|facts| facts.bytes_source),
            bytes_new: of.map(|facts| facts.bytes_new),
            bytes_stored: of.map(|facts| facts.bytes_stored),
            repositories,
            expires_at: None,
            holds: Vec::new(),
        }
    }
}

/// Every backup in the repositories at hand, newest first; of one source if it is named. One whose manifest no repository can
/// read is listed as damaged, whatever source is asked for: it may be of that one.
pub async fn list(context: &Context, vault: &Vault, source: Option<&str>) -> Result<Vec<BackupSummary>> {
    let mut found: BTreeMap<BackupId, (Option<BackupFacts>, Vec<String>)> = BTreeMap::new();
    for repository in vault.repositories() {
        for id in repository.backups(&context.cancel).await? {
            let (facts, names) = found.entry(id.clone()).or_default();
            if facts.is_none() {
                *facts = read_facts(context, repository, &id).await?;
            }
            names.push(repository.name().to_owned());
        }
    }
    let wanted = |facts: &Option<BackupFacts>| match (source, facts) {
        (Some(source), Some(facts)) => facts.source == source,
        _ => true,
    };
    let mut backups: Vec<_> = found
        .into_iter()
        .filter(|(_, (facts, _))| wanted(facts))
        .map(|(id, (facts, names))| BackupSummary::new(&id, facts, names))
        .collect();
    newest_first(&mut backups);
    Ok(backups)
}

/// By when they began. An id tells it to the second and goes on by chance, so within a second the facts decide; a backup that lost
/// them counts as the newest: it must not hide behind an older one.
fn newest_first(backups: &mut [BackupSummary]) {
    let second = |backup: &BackupSummary| backup.id.split('-').next().map(str::to_owned);
    let began = |backup: &BackupSummary| backup.started_at.unwrap_or(Timestamp::MAX);
    backups.sort_by(|a, b| (second(b), began(b), &b.id).cmp(&(second(a), began(a), &a.id)));
}

async fn read_facts(context: &Context, repository: &Repository, id: &BackupId) -> Result<Option<BackupFacts>> {
    use ballast_repository::RepositoryError as R;
    match repository.facts(id, &context.cancel).await {
        Ok(facts) => match serde_json::from_value(facts.facts) {
            Ok(facts) => Ok(Some(facts)),
            Err(error) => {
                context.warn(
                    format!(
                        "backup \"{id}\" in \"{}\" has facts that are not understood: {error}",
                        repository.name()
                    ),
                    None,
                );
                Ok(None)
            }
        },
        Err(error @ (R::Damaged { .. } | R::TooNew { .. } | R::Missing { .. } | R::NoBackup { .. })) => {
            context.warn(
                error.to_string(),
                Some("see all that is damaged with: ballast verify".to_owned()),
            );
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_of_one_second_are_in_the_order_they_began() {
        let backup = |id: &str, started_at: Option<&str>| BackupSummary {
            started_at: started_at.map(|text| text.parse().unwrap()),
            ..BackupSummary::new(&BackupId::parse(id).unwrap(), None, Vec::new())
        };
        let order = [
            backup("20261123T053301Z-00000000", Some("2026-11-23T05:33:01Z")),
            backup("20261123T053300Z-33333333", None),
            backup("20261123T053300Z-11111111", Some("2026-11-23T05:33:00.7Z")),
            backup("20261123T053300Z-ffffffff", Some("2026-11-23T05:33:00.2Z")),
            backup("20261123T053259Z-eeeeeeee", Some("2026-11-23T05:32:59.9Z")),
        ];
        let ids = |backups: &[BackupSummary]| backups.iter().map(|backup| backup.id.clone()).collect::<Vec<_>>();
        let mut mixed = [3, 0, 4, 2, 1].map(|number: usize| order[number].clone());
        newest_first(&mut mixed);
        assert_eq!(ids(&mixed), ids(&order));
    }
}
