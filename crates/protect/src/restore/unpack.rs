//! From the stream of a backup tool to a data directory, by the tool's own programs.

use std::path::Path;

use ballast_mysql::BackupTool;
use ballast_repository::{BackupId, BackupReader};
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::place::{Place, failed};
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::mysql::external::record::ExternalRecord;
use crate::mysql::external::told;
use crate::restore_plan::RestorePlan;

/// Where the tool notes the place of InnoDB's last transaction.
const REACHED: [&str; 2] = ["xtrabackup_binlog_pos_innodb", "mariadb_backup_binlog_pos_innodb"];
/// The tool's own notes, which are no part of a data directory.
const NOTES: [&str; 3] = ["xtrabackup_", "mariadb_backup_", "backup-my.cnf"];
/// A file that says that a table lies outside the data directory.
const ELSEWHERE: &str = "isl";

/// Feeds the stream to what unpacks it.
pub(super) async fn unpack(
    context: &Context,
    plan: &RestorePlan,
    tool: &BackupTool,
    place: &Place,
) -> Result<ExternalRecord> {
    let id = BackupId::parse(&plan.backup.id)
        .ok_or_else(|| ProtectError::usage(format!("\"{}\" is no backup id", plan.backup.id)))?;
    let manifest = plan.from.manifest(&id, &context.cancel).await?;
    let record = ExternalRecord::read(&manifest.annex)?;
    let [file] = manifest.files.as_slice() else {
        return Err(ProtectError::new(
            ErrorKind::Damaged,
            format!("backup \"{id}\" does not hold one stream"),
        ));
    };
    let mut stream = BackupReader::new(&plan.from, &manifest)
        .stream(0, 0, &context.cancel)
        .boxed();
    let mut run = tool.unpack(&place.unfinished, &context.cancel)?;
    let mut done = 0;
    loop {
        let bytes = match stream.try_next().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break,
            Err(error) => {
                run.stop().await;
                return Err(error.into());
            }
        };
        if let Err(error) = run.write(&bytes).await {
            run.stop().await;
            return Err(told(tool, error));
        }
        done += bytes.len() as u64;
        context.progress("unpack", done, Some(file.size));
    }
    if done != file.size {
        run.stop().await;
        let message = format!("the stream of backup \"{id}\" has {done} bytes of {}", file.size);
        return Err(ProtectError::new(ErrorKind::Damaged, message));
    }
    run.finish_unpacking().await.map_err(|error| told(tool, error))?;
    refuse_elsewhere(&place.unfinished)?;
    Ok(record)
}

/// Lets the tool recover what was unpacked; gives the place of InnoDB's last transaction, by the tool's word.
pub(super) async fn prepare(context: &Context, tool: &BackupTool, place: &Place) -> Result<Option<(String, u64)>> {
    let folder = place.unfinished.as_path();
    tool.prepare(folder, &context.cancel)
        .await
        .map_err(|error| told(tool, error))?;
    let mut reached = None;
    for name in REACHED {
        let path = folder.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => reached = read_place(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read", &path)(error)),
        }
    }
    for entry in std::fs::read_dir(folder).map_err(failed("read", folder))? {
        let entry = entry.map_err(failed("read", folder))?;
        let name = entry.file_name();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && NOTES.iter().any(|note| name.to_string_lossy().starts_with(note)) {
            std::fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
        }
    }
    Ok(reached)
}

/// `./binlog.000001`, a blank, the offset.
fn read_place(text: &str) -> Option<(String, u64)> {
    let mut words = text.split_whitespace();
    let file = words.next()?.trim_start_matches("./").to_owned();
    Some((file, words.next()?.parse().ok()?))
}

/// A server that starts here would open, and change, what such a file names: the source's own. No backup of ours has one.
fn refuse_elsewhere(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(failed("read", folder))? {
        let path = entry.map_err(failed("read", folder))?.path();
        if path.is_dir() {
            refuse_elsewhere(&path)?;
        } else if path.extension().is_some_and(|end| end == ELSEWHERE) {
            let message = format!("\"{}\" leads to a table outside the directory", path.display());
            return Err(ProtectError::failed(message).hint("restore an earlier backup with --backup ID"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_and_what_leads_out_are_found() {
        assert_eq!(
            read_place("./binlog.000001\t2185\n"),
            Some(("binlog.000001".to_owned(), 2185))
        );
        assert_eq!(read_place(""), None);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        refuse_elsewhere(folder.path()).unwrap();
        std::fs::File::create(folder.path().join("a/t.isl")).unwrap();
        assert!(refuse_elsewhere(folder.path()).is_err());
    }
}
