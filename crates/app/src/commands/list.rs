//! `list`: the backups there are.

use ballast_base::format_bytes;
use ballast_protect::{BackupSummary, list};
use serde_json::json;

use super::{Result, Run, code_with, moment, state_word};
use crate::cli::ListArgs;

pub(super) async fn run(run: &Run, args: &ListArgs) -> Result<u8> {
    let config = run.config()?;
    let vault = run.open(&config).await?;
    let backups = list(&run.context, &vault, args.source.as_deref()).await?;
    // Backups of a source that the configuration no longer has can still be listed; a misspelt name has none.
    if let (true, Some(name)) = (backups.is_empty(), &args.source) {
        config.source(name)?;
    }
    if run.output.json {
        run.output.object(&json!({ "backups": backups }))?;
    } else if backups.is_empty() {
        run.output.say("there are no backups yet");
    } else {
        let rows: Vec<Vec<String>> = backups.iter().map(row).collect();
        run.output.table(
            &[
                "id",
                "source",
                "state",
                "finished",
                "tables",
                "size",
                "new",
                "repositories",
            ],
            &[4, 5, 6],
            &rows,
        )?;
    }
    Ok(code_with(vault.lost()))
}

/// What a damaged backup no longer tells is left open.
fn row(backup: &BackupSummary) -> Vec<String> {
    let unknown = || "?".to_owned();
    let bytes = |bytes: Option<u64>| bytes.map_or_else(unknown, format_bytes);
    vec![
        backup.id.clone(),
        backup.source.clone().unwrap_or_else(unknown),
        state_word(backup.state).to_owned(),
        moment(backup.finished_at),
        match (backup.keys, backup.tables) {
            (Some(keys), _) if backup.point_in_time == Some(false) => format!("{keys} keys, not of one moment"),
            (Some(keys), _) => format!("{keys} keys"),
            (None, tables) => tables.map_or_else(unknown, |tables| tables.to_string()),
        },
        bytes(backup.bytes_source),
        bytes(backup.bytes_new),
        backup.repositories.join(","),
    ]
}
