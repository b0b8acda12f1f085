//! Which backup, from which repository, to where: decided and shown before anything is written.

mod programs;
pub(crate) mod target;

use std::path::PathBuf;
use std::str::FromStr;

use ballast_base::Secret;
use ballast_mysql::{BackupTool, Gtid, ServerAddress, ServerBinary};
use ballast_repository::{BackupId, Repository};
use jiff::Timestamp;

pub use self::programs::probe_early;
use self::programs::{binary, donor, tool};
use self::target::{free_bytes, look, refuse_repository};
use crate::catalog::{BackupState, BackupSummary, list};
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::load_plan::Rename;
use crate::log_plan::plan_log;
use crate::mysql::logical::record::LogicalRecord;
use crate::pattern::TablePattern;
use crate::position::Position;
use crate::replay::ReplayPlan;
use crate::restore::private;
use crate::settings::{Engine, SourceKind, ToolPlaces};
use crate::stop::Stop;
use crate::vault::Vault;

/// A restore keeps what is not finished in a folder of this name in its target. Not a hidden one: the server does not look for
/// tablespaces in a path with such a folder in it.
pub(crate) const UNFINISHED: &str = "ballast-unfinished";
/// Room a private server needs beside the files: its temporary tablespace, redo and undo.
const HEADROOM_BYTES: u64 = 256 * 1024 * 1024;

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    pub source: String,
    pub target: RestoreTarget,
    /// Of the account on a running server.
    pub target_password: Option<Secret>,
    /// This backup and no other; without a stop, it alone.
    pub backup: Option<String>,
    /// Where to end; absent: as late as possible.
    pub stop: Option<Stop>,
    /// Transactions to leave out.
    pub skip: Vec<Gtid>,
    /// Name and URL of every repository of the configuration, also of those that are not opened: the target must not touch one.
    pub keep_off: Vec<(String, String)>,
    /// What the target holds may go.
    pub replace: bool,
    /// A running server's binary log does not hear of the load.
    pub no_binlog: bool,
    /// The server program that recovers the copy and proves it.
    pub mysqld: Option<PathBuf>,
    /// The same for a copy of MariaDB.
    pub mariadbd: Option<PathBuf>,
    /// A server program that was asked already.
    pub probed: Option<ServerBinary>,
    /// The tool that unpacks what a tool has backed up.
    pub tools: ToolPlaces,
    /// These tables and no others; empty means all.
    pub only: Vec<TablePattern>,
    pub rename: Vec<Rename>,
    /// Where the files of a physical backup are laid out for as long as rows are read from them.
    pub scratch: PathBuf,
}

impl RestoreRequest {
    /// Everything that is in the backup, under its own name.
    pub(crate) fn is_whole(&self) -> bool {
        self.only.is_empty() && self.rename.is_empty()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreTarget {
    DataDir(PathBuf),
    /// A running server, as an address without a password.
    Server(String),
}

impl FromStr for RestoreTarget {
    type Err = ProtectError;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some(("datadir", path)) if !path.is_empty() => Ok(Self::DataDir(PathBuf::from(path))),
            Some(("mysql", _)) => {
                text.parse::<ServerAddress>().map_err(ProtectError::usage_of)?;
                Ok(Self::Server(text.to_owned()))
            }
            _ => Err(
                ProtectError::usage(format!("target \"{text}\" is not one this version restores to")).hint(
                    "write datadir:PATH, a folder that is empty or not there, mysql://USER@HOST:PORT, a running server, or for a Redis dir:PATH or redis://HOST:PORT",
                ),
            ),
        }
    }
}

/// A decided restore.
#[derive(Debug, serde::Serialize)]
pub struct RestorePlan {
    pub backup: BackupSummary,
    pub repository: String,
    pub target: PathBuf,
    /// What is in the target and will be removed.
    pub replaces: Vec<String>,
    pub bytes_needed: u64,
    pub bytes_free: u64,
    pub mysqld: PathBuf,
    /// A fresh directory is made, and rows are loaded into it.
    #[serde(skip)]
    pub(crate) rows: bool,
    #[serde(skip)]
    pub(crate) binary: ServerBinary,
    /// Of a backup by the external engine.
    #[serde(skip)]
    pub(crate) tool: Option<BackupTool>,
    #[serde(skip)]
    pub(crate) from: Repository,
    /// What of the log is replayed on top of the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayPlan>,
}

impl RestorePlan {
    /// The plan as lines for people.
    pub fn lines(&self) -> Vec<(String, String)> {
        let backup = &self.backup;
        let moment = backup.snapshot_at.map_or_else(String::new, |at| at.to_string());
        let mut lines = vec![
            (
                "backup".to_owned(),
                format!("{} from repository \"{}\"", backup.id, self.repository),
            ),
            (
                "holds".to_owned(),
                format!("{} tables as of {moment}", backup.tables.unwrap_or_default()),
            ),
            (
                "position".to_owned(),
                backup.position.as_ref().map(ToString::to_string).unwrap_or_default(),
            ),
            ("target".to_owned(), format!("datadir:{}", self.target.display())),
            (
                "space".to_owned(),
                format!(
                    "{} needed, {} free",
                    ballast_base::format_bytes(self.bytes_needed),
                    ballast_base::format_bytes(self.bytes_free)
                ),
            ),
            (
                "proved by".to_owned(),
                format!("{} ({})", self.mysqld.display(), self.binary.version.text),
            ),
        ];
        if let Some(tool) = &self.tool {
            let text = format!("{} ({})", tool.path.display(), tool.version);
            lines.push(("prepared by".to_owned(), text));
        }
        if let Some(replay) = &self.replay {
            lines.extend(replay.lines());
        }
        if !self.replaces.is_empty() {
            lines.push(("removes".to_owned(), self.replaces.join(", ")));
        }
        lines
    }
}

impl RestorePlan {
    /// Where the copy is to stand in the end.
    pub(crate) fn expected(&self) -> Option<Position> {
        let replay = self.replay.as_ref().map(ReplayPlan::position);
        replay.or_else(|| self.backup.position.clone())
    }

    /// The moment that is restored: of the last transaction, if the log is replayed.
    pub(crate) fn moment(&self) -> Option<Timestamp> {
        let last = self.replay.as_ref().and_then(|replay| replay.last_kept.as_ref());
        last.map(|last| last.committed_at).or(self.backup.snapshot_at)
    }
}

impl RestorePlan {
    /// Where the files of rows come to lie for a while, as lines for people.
    pub(crate) fn private_lines(&self) -> [(String, String); 2] {
        let folder = self.target.ancestors().nth(2).unwrap_or(&self.target);
        [
            (
                "read from".to_owned(),
                format!(
                    "the backup's files, by {} ({})",
                    self.mysqld.display(),
                    self.binary.version.text
                ),
            ),
            (
                "scratch".to_owned(),
                format!(
                    "{}: {} needed for a while, {} free",
                    folder.display(),
                    ballast_base::format_bytes(self.bytes_needed),
                    ballast_base::format_bytes(self.bytes_free)
                ),
            ),
        ]
    }
}

/// Decides; writes nothing.
pub async fn plan_restore(context: &Context, vault: &Vault, request: &RestoreRequest) -> Result<RestorePlan> {
    let RestoreTarget::DataDir(target) = &request.target else {
        return Err(ProtectError::usage("a running server is no folder"));
    };
    if !request.is_whole() {
        return Err(ProtectError::usage(
            "--only and --rename choose tables for a running server; a directory is restored whole",
        )
        .hint("restore to --to mysql://USER@HOST:PORT"));
    }
    if request.no_binlog {
        return Err(ProtectError::usage("--no-binlog is for a load into a running server")
            .hint("leave it out: where a directory is made nothing is logged"));
    }
    let backups = list(context, vault, Some(&request.source)).await?;
    let (backup, from, replay) = match plan_log(context, vault, request, &backups, &|_| true).await? {
        Some(chosen) => (chosen.backup, chosen.from, chosen.replay),
        None => {
            let backup = choose(context, request, backups)?;
            let from = vault.named(backup.repositories.first().map_or("", String::as_str))?;
            (backup, from.clone(), None)
        }
    };
    let (bytes, rows) = if backup.engine == Some(Engine::Logical) {
        (bytes_of_rows(context, &from, &backup).await?, true)
    } else {
        (backup.bytes_source.unwrap_or_default(), false)
    };
    let target = std::path::absolute(target)
        .map_err(|error| ProtectError::usage(format!("target \"{}\"", target.display())).because(error))?;
    refuse_repository(&request.keep_off, &target)?;
    let replaces = look(&target, request.replace)?;
    let plan = plan_files(context, request, backup, from, (target, bytes, rows)).await?;
    if plan.bytes_needed > plan.bytes_free {
        return Err(ProtectError::failed(format!(
            "target \"{}\" has {} free and the restore needs {}",
            plan.target.display(),
            ballast_base::format_bytes(plan.bytes_free),
            ballast_base::format_bytes(plan.bytes_needed)
        ))
        .hint("make room, or restore to another volume"));
    }
    Ok(RestorePlan {
        replaces,
        replay,
        ..plan
    })
}

/// What a directory with these rows will take, about.
async fn bytes_of_rows(context: &Context, from: &Repository, backup: &BackupSummary) -> Result<u64> {
    let id =
        BackupId::parse(&backup.id).ok_or_else(|| ProtectError::usage(format!("\"{}\" is no backup id", backup.id)))?;
    let schema = LogicalRecord::read(&from.manifest(&id, &context.cancel).await?.annex)?.schema;
    if schema.mariadb {
        let message = format!(
            "backup \"{}\" holds rows of a MariaDB, and this version makes data directories of MySQL only",
            backup.id
        );
        return Err(ProtectError::usage(message).hint("load it into a running server with --to mysql://USER@HOST:PORT"));
    }
    let estimates = schema.tables.iter().map(|table| table.data_bytes + table.index_bytes);
    let estimated = estimates.fold(0, u64::saturating_add);
    // Pages that are filled anew are not full, and each table has some.
    Ok(estimated.max(backup.bytes_source.unwrap_or_default()) / 4 * 5 + HEADROOM_BYTES)
}

/// Decides for a folder that none of the files lie in yet: of which path, for how many bytes, and whether rows are loaded.
async fn plan_files(
    context: &Context,
    request: &RestoreRequest,
    backup: BackupSummary,
    from: Repository,
    (target, bytes, rows): (PathBuf, u64, bool),
) -> Result<RestorePlan> {
    let (bytes_needed, bytes_free) = (bytes + HEADROOM_BYTES, free_bytes(&target)?);
    let donor = donor(context, &from, &backup).await?;
    let binary = binary(context, request, &donor, rows).await?;
    let tool = match backup.engine {
        Some(Engine::External) => Some(tool(context, request, &donor).await?),
        _ => None,
    };
    let (repository, mysqld) = (from.name().to_owned(), binary.path.clone());
    Ok(RestorePlan {
        backup,
        repository,
        target,
        replaces: Vec::new(),
        bytes_needed,
        bytes_free,
        mysqld,
        rows,
        binary,
        tool,
        from,
        replay: None,
    })
}

/// The files of a physical backup, for a private server that rows are read from.
pub(crate) async fn plan_private_files(
    context: &Context,
    request: &RestoreRequest,
    backup: BackupSummary,
    from: Repository,
) -> Result<RestorePlan> {
    let scratch = std::path::absolute(&request.scratch).map_err(|error| {
        ProtectError::usage(format!("scratch folder \"{}\"", request.scratch.display())).because(error)
    })?;
    if !scratch.is_dir() {
        let message = format!("there is no scratch folder \"{}\"", scratch.display());
        return Err(ProtectError::usage(message).hint("name one with room for the backup's files: --scratch PATH"));
    }
    let target = private::new_target(&scratch);
    refuse_repository(&request.keep_off, &target)?;
    let bytes = backup.bytes_source.unwrap_or_default();
    let plan = plan_files(context, request, backup, from, (target, bytes, false)).await?;
    if plan.bytes_needed > plan.bytes_free {
        return Err(ProtectError::failed(format!(
            "the scratch folder \"{}\" has {} free, and the files that the rows are read from need {}",
            scratch.display(),
            ballast_base::format_bytes(plan.bytes_free),
            ballast_base::format_bytes(plan.bytes_needed)
        ))
        .hint("name a folder with more room: --scratch PATH"));
    }
    Ok(plan)
}

pub(crate) fn choose(
    context: &Context,
    request: &RestoreRequest,
    backups: Vec<BackupSummary>,
) -> Result<BackupSummary> {
    let chosen = choose_of(context, &request.source, request.backup.as_deref(), backups)?;
    if chosen.kind == Some(SourceKind::Redis) {
        let message = format!("source \"{}\" is a Redis", request.source);
        return Err(ProtectError::usage(message).hint("restore it to --to dir:PATH"));
    }
    Ok(chosen)
}

/// The backup that was named, or the newest good one.
pub(crate) fn choose_of(
    context: &Context,
    source: &str,
    wanted: Option<&str>,
    backups: Vec<BackupSummary>,
) -> Result<BackupSummary> {
    let none =
        |message| ProtectError::new(ErrorKind::NotRestorable, message).hint("see what there is with: ballast list");
    if let Some(id) = wanted {
        let found = backups.into_iter().find(|backup| backup.id == id);
        let found = found.ok_or_else(|| none(format!("source \"{source}\" has no backup \"{id}\"")))?;
        return match found.state {
            BackupState::Good => Ok(found),
            BackupState::Incomplete => {
                context.warn(
                    format!("backup {id} is incomplete, it lacks: {}", found.missing.join(", ")),
                    None,
                );
                Ok(found)
            }
            BackupState::Damaged => Err(ProtectError::new(
                ErrorKind::Damaged,
                format!("the manifest of backup \"{id}\" cannot be read"),
            )
            .hint("see all that is damaged with: ballast verify")),
        };
    }
    // A damaged manifest may be the newest of this source: passing it over in silence would restore older data unasked.
    let newest_damaged = backups
        .iter()
        .take_while(|backup| backup.state != BackupState::Good)
        .find(|backup| backup.state == BackupState::Damaged);
    if let Some(damaged) = newest_damaged {
        let message = format!(
            "the manifest of backup \"{}\", newer than the last good one, cannot be read",
            damaged.id
        );
        return Err(ProtectError::new(ErrorKind::Damaged, message)
            .hint("restore an older one by its name with --backup ID; see all that is damaged with: ballast verify"));
    }
    let incomplete: Vec<_> = backups
        .iter()
        .take_while(|backup| backup.state != BackupState::Good)
        .collect();
    if let Some(newest) = incomplete.first() {
        let (id, missing) = (&newest.id, newest.missing.join(", "));
        let message = format!(
            "{} newer backups are passed over: they are incomplete (\"{id}\" lacks {missing})",
            incomplete.len()
        );
        context.warn(message, Some(format!("restore the newest of them with: --backup {id}")));
    }
    backups
        .into_iter()
        .find(|backup| backup.state == BackupState::Good)
        .ok_or_else(|| none(format!("source \"{source}\" has no good backup")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_written_datadir_path_or_as_an_address() {
        assert_eq!(
            "datadir:/x".parse::<RestoreTarget>().unwrap(),
            RestoreTarget::DataDir("/x".into())
        );
        assert_eq!(
            "mysql://root@db:3307".parse::<RestoreTarget>().unwrap(),
            RestoreTarget::Server("mysql://root@db:3307".to_owned())
        );
        for text in ["/x", "datadir:", "mysql://x", "mysql://u:p@db"] {
            assert!(text.parse::<RestoreTarget>().is_err(), "{text}");
        }
    }
}
