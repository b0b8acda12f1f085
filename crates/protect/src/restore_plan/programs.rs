//! The programs of the source's maker that a restore runs: the server that recovers and proves, and the backup tool's own.

use std::path::Path;

use ballast_base::Cancel;
use ballast_mysql::{BackupTool, Flavour, ServerBinary, ServerVersion};
use ballast_repository::{BackupId, Repository};

use super::RestoreRequest;
use crate::catalog::BackupSummary;
use crate::context::Context;
use crate::error::{ProtectError, Result};
use crate::mysql::external::tools;

/// What the backup was taken of.
pub(super) async fn donor(context: &Context, from: &Repository, backup: &BackupSummary) -> Result<ServerVersion> {
    let id =
        BackupId::parse(&backup.id).ok_or_else(|| ProtectError::usage(format!("\"{}\" is no backup id", backup.id)))?;
    let facts = from.facts(&id, &context.cancel).await?.facts;
    let text = facts.get("server_version").and_then(serde_json::Value::as_str);
    ServerVersion::parse(text.unwrap_or_default(), "").ok_or_else(|| {
        ProtectError::failed(format!("backup \"{id}\" does not say of what server it is"))
            .hint("use the version of ballast that wrote it, or a later one")
    })
}

/// Asks a server program what it is, while something else is waited for. What goes wrong is told when the plan asks again.
pub async fn probe_early(path: Option<&Path>, cancel: &Cancel) -> Option<ServerBinary> {
    ServerBinary::probe(path?, cancel).await.ok()
}

/// The server program; for files it must be of the donor's release series, for rows any MySQL will do.
pub(super) async fn binary(
    context: &Context,
    request: &RestoreRequest,
    donor: &ServerVersion,
    rows: bool,
) -> Result<ServerBinary> {
    let (named, name, variable) = match donor.flavour {
        Flavour::MariaDb => (&request.mariadbd, "mariadbd", "BALLAST_MARIADBD"),
        Flavour::Mysql | Flavour::Percona => (&request.mysqld, "mysqld", "BALLAST_MYSQLD"),
    };
    let Some(path) = named else {
        let message = format!("a restore boots a private {name} on the copy, and none was found");
        return Err(ProtectError::usage(message).hint(format!(
            "install the server in the source's series, or name one with --mysqld PATH or {variable}"
        )));
    };
    let binary = match request.probed.as_ref().filter(|probed| probed.path == *path) {
        Some(probed) => probed.clone(),
        None => ServerBinary::probe(path, &context.cancel).await?,
    };
    if rows && binary.version.flavour != Flavour::MariaDb {
        return Ok(binary);
    }
    if !donor.same_series(&binary.version) {
        return Err(ProtectError::usage(format!(
            "the backup is of {donor} and \"{}\" is {}",
            path.display(),
            binary.version.text
        ))
        .hint(format!("name a {name} of the same release series with --mysqld PATH")));
    }
    Ok(binary)
}

/// The tool that unpacks and prepares; it must be of the donor's release series too.
pub(super) async fn tool(context: &Context, request: &RestoreRequest, donor: &ServerVersion) -> Result<BackupTool> {
    let tool = tools::find(context, &request.tools, donor.flavour).await?;
    if !donor.same_series(&tool.version) {
        let message = format!(
            "the backup is of {donor} and \"{}\" is of {}",
            tool.path.display(),
            tool.version
        );
        return Err(ProtectError::usage(message)
            .hint("install the tool of the same release series, or name it in the source with: tool = \"PATH\""));
    }
    Ok(tool)
}
