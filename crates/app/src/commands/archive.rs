//! `archive`: follows a source's log until it is asked to end.

use std::time::Duration;

use ballast_base::{format_bytes, format_duration};
use ballast_protect::{ArchiveOutcome, ArchiveRequest, archive};

use super::{Result, Run, code_with};
use crate::cli::ArchiveArgs;

pub(super) async fn run(run: &Run, args: &ArchiveArgs) -> Result<u8> {
    let config = run.config()?;
    let source = run.secrets(config.source(&args.source)?.settings()).await?;
    let repositories = run.secrets(config.repository_settings()).await?;
    let key = run.secrets(config.key.material()).await?;
    let vault = run.open_those(&config, &repositories).await?;
    let request = ArchiveRequest {
        source: &source,
        spool: &config.spool,
        repositories: &repositories,
        key: &key,
    };
    let outcome = Box::pin(archive(&run.context, &vault, &request)).await?;
    run.tell_lost(&outcome.lost);
    show(run, &args.source, &outcome)?;
    Ok(code_with(&outcome.lost))
}

fn show(run: &Run, source: &str, outcome: &ArchiveOutcome) -> Result<()> {
    if run.output.json {
        return run.output.record("result", outcome);
    }
    let took = Duration::try_from_secs_f64(outcome.seconds).map_or_else(|_| "unknown time".to_owned(), format_duration);
    let place = match (&outcome.file, outcome.offset) {
        (Some(file), Some(offset)) => format!("up to {file}:{offset}"),
        _ => "not begun".to_owned(),
    };
    let spool = match outcome.spool_bytes {
        0 => "every repository has it".to_owned(),
        bytes => format!("{} of it wait in the spool", format_bytes(bytes)),
    };
    run.output.say(format!(
        "the log of \"{source}\" is recorded {place}, followed for {took}; {spool}"
    ));
    Ok(())
}
