//! `backup`: one backup now.

use std::time::Duration;

use ballast_base::{format_bytes, format_duration};
use ballast_protect::{BackupOutcome, backup};

use super::{Result, Run};
use crate::cli::BackupArgs;
use crate::config::engine_of;
use crate::exit::{DONE, PARTIAL};

pub(super) async fn run(run: &Run, args: &BackupArgs) -> Result<u8> {
    let config = run.config()?;
    let mut source = run.secrets(config.source(&args.source)?.settings()).await?;
    if let Some(word) = &args.engine {
        source.engine = engine_of(word);
    }
    let vault = run.open(&config).await?;
    let outcome = backup(&run.context, &vault, &source).await?;
    // Those that could not be opened were told of before the work began.
    let later = outcome.lost.iter().filter(|lost| !vault.lost().contains(lost));
    run.tell_lost(later);
    show(run, &args.source, &outcome)?;
    Ok(if outcome.partial() { PARTIAL } else { DONE })
}

fn show(run: &Run, source: &str, outcome: &BackupOutcome) -> Result<()> {
    if run.output.json {
        return run.output.record("result", outcome);
    }
    for name in &outcome.missing {
        run.output
            .warn(&format!("\"{name}\" is expected and is not in the backup"), None);
    }
    let backup = &outcome.backup;
    let took = Duration::try_from_secs_f64(outcome.seconds).map_or_else(|_| "unknown time".to_owned(), format_duration);
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), format_bytes);
    let each = if backup.repositories.len() > 1 { "each of " } else { "" };
    run.output.say(format!(
        "{} of \"{source}\" in {took}: {} new, stored as {} in {each}{}",
        bytes(backup.bytes_source),
        bytes(backup.bytes_new),
        bytes(backup.bytes_stored),
        backup.repositories.join(", "),
    ));
    run.output.line(&backup.id)
}
