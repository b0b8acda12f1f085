//! Which backup of a Redis, from which repository, to which folder: decided and shown before anything is written.

use std::path::PathBuf;

use ballast_base::format_bytes;
use ballast_redis::{DataForm, ServerBinary};
use ballast_repository::{BackupId, Manifest, Repository};

use super::commands::{RedisReplay, RedisStop, plan_commands};
use super::record::RedisRecord;
use crate::catalog::{BackupSummary, list};
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::restore_plan::choose_of;
use crate::restore_plan::target::{free_bytes, look, refuse_repository};
use crate::settings::SourceKind;
use crate::vault::Vault;

/// Beside the snapshot itself.
const HEADROOM_BYTES: u64 = 16 * 1024 * 1024;

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct RedisRestoreRequest {
    pub source: String,
    /// A folder that is empty or not there.
    pub target: PathBuf,
    /// This backup and no other.
    pub backup: Option<String>,
    /// Where to end; without it at the latest moment, or with the backup that was named.
    pub stop: Option<RedisStop>,
    /// Name and URL of every repository of the configuration: the target must not touch one.
    pub keep_off: Vec<(String, String)>,
    /// What the target holds may go.
    pub replace: bool,
    /// Server programs that may load the copy and prove it; the first that can is taken.
    pub servers: Vec<PathBuf>,
    /// Where a private server has its socket.
    pub scratch: PathBuf,
}

/// A decided restore.
#[derive(Debug, serde::Serialize)]
pub struct RedisRestorePlan {
    pub backup: BackupSummary,
    pub repository: String,
    pub target: PathBuf,
    /// What is in the target and will be removed.
    pub replaces: Vec<String>,
    pub bytes_needed: u64,
    pub bytes_free: u64,
    pub server: PathBuf,
    /// The commands that are put on top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<RedisReplay>,
    #[serde(skip)]
    pub(super) binary: ServerBinary,
    #[serde(skip)]
    pub(super) record: RedisRecord,
    #[serde(skip)]
    pub(super) manifest: Manifest,
    #[serde(skip)]
    pub(super) from: Repository,
    #[serde(skip)]
    pub(super) scratch: PathBuf,
}

impl RedisRestorePlan {
    /// How the directory will be laid out: commands go where a server with an append-only file looks.
    pub(super) fn form(&self) -> DataForm {
        match self.replay {
            Some(_) => DataForm::for_setting(&self.record.server, true),
            None => self.record.form(),
        }
    }

    /// The plan as lines for people.
    pub fn lines(&self) -> Vec<(String, String)> {
        let backup = &self.backup;
        let position = backup.position.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut lines = vec![
            (
                "backup",
                format!("{} from repository \"{}\"", backup.id, self.repository),
            ),
            (
                "holds",
                format!("{} keys, {}", backup.keys.unwrap_or_default(), backup.moment()),
            ),
            ("position", position),
            ("target", format!("dir:{}", self.target.display())),
            (
                "space",
                format!(
                    "{} needed, {} free",
                    format_bytes(self.bytes_needed),
                    format_bytes(self.bytes_free)
                ),
            ),
            (
                "proved by",
                format!("{} ({})", self.server.display(), self.binary.version),
            ),
        ];
        if let Some(replay) = &self.replay {
            let at = replay
                .at
                .map_or_else(String::new, |at| format!(", the last of which had come at {at}"));
            let size = format_bytes(replay.bytes);
            lines.push(("commands", format!("{size} up to {}{at}", replay.to)));
        }
        if !self.replaces.is_empty() {
            lines.push(("removes", self.replaces.join(", ")));
        }
        lines
            .into_iter()
            .map(|(label, value)| (label.to_owned(), value))
            .collect()
    }
}

/// Decides; writes nothing.
pub async fn plan_redis_restore(
    context: &Context,
    vault: &Vault,
    request: &RedisRestoreRequest,
) -> Result<RedisRestorePlan> {
    let backups = list(context, vault, Some(&request.source)).await?;
    let (backup, replay) = choose(context, vault, request, backups).await?;
    let (from, manifest, record) = read_backup(context, vault, &request.source, &backup).await?;
    let target = std::path::absolute(&request.target)
        .map_err(|error| ProtectError::usage(format!("target \"{}\"", request.target.display())).because(error))?;
    refuse_repository(&request.keep_off, &target)?;
    let replaces = look(&target, request.replace)?;
    let (bytes_needed, bytes_free) = (
        record.snapshot.bytes + replay.as_ref().map_or(0, |replay| replay.bytes) + HEADROOM_BYTES,
        free_bytes(&target)?,
    );
    if bytes_needed > bytes_free {
        return Err(ProtectError::failed(format!(
            "target \"{}\" has {} free and the restore needs {}",
            target.display(),
            format_bytes(bytes_free),
            format_bytes(bytes_needed)
        ))
        .hint("make room, or restore to another volume"));
    }
    let binary = binary(context, request, &record).await?;
    Ok(RedisRestorePlan {
        backup,
        repository: from.name().to_owned(),
        target,
        replaces,
        bytes_needed,
        bytes_free,
        server: binary.path.clone(),
        replay,
        binary,
        record,
        manifest,
        from,
        scratch: request.scratch.clone(),
    })
}

/// The one snapshot of a backup, and what is known of it.
pub(super) async fn read_backup(
    context: &Context,
    vault: &Vault,
    source: &str,
    backup: &BackupSummary,
) -> Result<(Repository, Manifest, RedisRecord)> {
    if backup.kind != Some(SourceKind::Redis) {
        let message = format!("source \"{source}\" is a MySQL, and dir:PATH and redis:// are for Redis");
        return Err(ProtectError::usage(message).hint("restore to --to datadir:PATH or --to mysql://USER@HOST:PORT"));
    }
    let from = vault
        .named(backup.repositories.first().map_or("", String::as_str))?
        .clone();
    let id =
        BackupId::parse(&backup.id).ok_or_else(|| ProtectError::usage(format!("\"{}\" is no backup id", backup.id)))?;
    let manifest = from.manifest(&id, &context.cancel).await?;
    let record = RedisRecord::read(&manifest.annex)?;
    if manifest.files.len() != 1 {
        let message = format!("backup \"{id}\" does not hold one snapshot");
        return Err(ProtectError::new(ErrorKind::Damaged, message));
    }
    Ok((from, manifest, record))
}

/// The backup, and what of the recorded commands follows.
async fn choose(
    context: &Context,
    vault: &Vault,
    request: &RedisRestoreRequest,
    backups: Vec<BackupSummary>,
) -> Result<(BackupSummary, Option<RedisReplay>)> {
    let named = request.backup.as_deref();
    let asked = backups.iter().filter(|backup| named.is_none_or(|id| id == backup.id));
    let usable: Vec<_> = asked.cloned().collect();
    if let Some(RedisStop::At(at)) = &request.stop
        && let Some(backup) = usable.iter().find(|backup| backup.snapshot_at == Some(*at))
    {
        let id = backup.id.clone();
        return Ok((choose_of(context, &request.source, Some(&id), backups)?, None));
    }
    if let Some(stop) = &request.stop {
        let found = Box::pin(plan_commands(context, vault, &request.source, &usable, Some(stop))).await?;
        if let Some((backup, replay)) = found {
            return Ok((backup, Some(replay)));
        }
    }
    let chosen = choose_of(context, &request.source, named, backups)?;
    if named.is_some() {
        return Ok((chosen, None));
    }
    match Box::pin(plan_commands(context, vault, &request.source, &usable, None)).await? {
        // A newer backup may stand where nothing was recorded.
        Some((backup, replay)) if backup.id == chosen.id || replay.at > chosen.snapshot_at => {
            Ok((backup, Some(replay)))
        }
        _ => Ok((chosen, None)),
    }
}

/// The first program that loads such a snapshot, one of the source's own flavour before others.
async fn binary(context: &Context, request: &RedisRestoreRequest, record: &RedisRecord) -> Result<ServerBinary> {
    let mut found = Vec::new();
    for path in &request.servers {
        found.push(ServerBinary::probe(path, &context.cancel).await?);
    }
    let version = record.snapshot.version;
    let seen: Vec<String> = found
        .iter()
        .map(|binary| format!("{} ({})", binary.path.display(), binary.version))
        .collect();
    found.retain(|binary| binary.version.loads(version));
    found.sort_by_key(|binary| binary.version.flavour != record.server.flavour);
    found.into_iter().next().ok_or_else(|| {
        let seen = if seen.is_empty() {
            "none".to_owned()
        } else {
            seen.join(", ")
        };
        ProtectError::usage(format!(
            "a server is needed that loads a snapshot of version {version}, to prove the restore; found: {seen}"
        ))
        .hint(format!(
            "install {} or a later release, or name its program: --server PATH",
            record.server
        ))
    })
}
