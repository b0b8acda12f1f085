//! `copy`: brings one repository up to another.

use ballast_base::format_bytes;
use ballast_protect::copy;

use super::{Result, Run};
use crate::cli::CopyArgs;
use crate::exit::{AppError, DONE};

pub(super) async fn run(run: &Run, args: &CopyArgs) -> Result<u8> {
    let config = run.config()?;
    if args.from == args.to {
        let message = format!("repository \"{}\" cannot be copied to itself", args.from);
        return Err(AppError::Usage { message, hint: None });
    }
    let vault = run.open_pair(&config, &args.from, &args.to, !args.dry_run).await?;
    let outcome = copy(&run.context, &vault, &args.from, &args.to, args.dry_run).await?;
    if run.output.json {
        run.output
            .record(if args.dry_run { "plan" } else { "result" }, &outcome)?;
        return Ok(DONE);
    }
    for backup in &outcome.backups_copied {
        run.output.line(backup)?;
    }
    if outcome.objects_replaced > 0 {
        run.output.say(format!(
            "{} {} damaged objects",
            if args.dry_run { "would replace" } else { "replaced" },
            outcome.objects_replaced
        ));
    }
    run.output.say(format!(
        "{} {} backups and {} logs in {} objects, {}; {} objects are there already",
        if args.dry_run { "would copy" } else { "copied" },
        outcome.backups_copied.len(),
        outcome.streams_copied.len(),
        outcome.objects_copied,
        format_bytes(outcome.bytes_copied),
        outcome.objects_present,
    ));
    Ok(DONE)
}
