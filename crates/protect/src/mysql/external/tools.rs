//! Where the tool is, and whether it fits.

use std::path::PathBuf;

use ballast_mysql::{BackupTool, Flavour};

use crate::context::Context;
use crate::error::{ProtectError, Result};
use crate::settings::ToolPlaces;

/// Names of the tool, newest first, and of what unpacks its stream.
fn names(flavour: Flavour) -> (&'static [&'static str], &'static str) {
    match flavour {
        Flavour::MariaDb => (&["mariadb-backup", "mariabackup"], "mbstream"),
        Flavour::Mysql | Flavour::Percona => (&["xtrabackup"], "xbstream"),
    }
}

/// Finds the tool and what unpacks its stream: they come together, so one that is named says where the other is.
pub(crate) async fn find(context: &Context, places: &ToolPlaces, flavour: Flavour) -> Result<BackupTool> {
    let (tools, unpacker) = names(flavour);
    let first = tools.first().copied().unwrap_or_default();
    let in_folders = |name: &str| {
        places
            .folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
    };
    let absent = |message: String| {
        ProtectError::usage(message).hint(format!(
            "install the package that brings {first} and {unpacker}, of the server's series, or name it in the source with: tool = \"PATH\""
        ))
    };
    let path: PathBuf = match &places.named {
        Some(path) if path.is_file() => path.clone(),
        Some(path) => return Err(absent(format!("there is no backup tool \"{}\"", path.display()))),
        None => tools
            .iter()
            .find_map(|name| in_folders(name))
            .ok_or_else(|| absent(format!("the external engine runs {first}, which is not in PATH")))?,
    };
    let beside = path.with_file_name(unpacker);
    let unpacker = if beside.is_file() {
        Some(beside)
    } else {
        in_folders(unpacker)
    };
    let unpacker = unpacker.ok_or_else(|| {
        absent(format!(
            "what \"{}\" writes is unpacked by {}, which is neither beside it nor in PATH",
            path.display(),
            names(flavour).1
        ))
    })?;
    Ok(BackupTool::probe(&path, &unpacker, &context.cancel).await?)
}
