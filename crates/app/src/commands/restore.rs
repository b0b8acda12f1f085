//! `restore`: the plan, and unless that is all that was asked for, the restore and its proof.

use std::path::PathBuf;
use std::time::Duration;

use ballast_base::format_duration;
use ballast_protect::{RestoreOutcome, RestoreRequest, RestoreTarget, plan_restore, restore};

use super::{Result, Run};
use crate::cli::RestoreArgs;
use crate::config::environment::{find_program, variable};
use crate::exit::{AppError, DONE};

pub(super) async fn run(run: &Run, args: RestoreArgs) -> Result<u8> {
    let config = run.config()?;
    if let Some(name) = &args.from_repository {
        config.repository(name)?;
    }
    let target: RestoreTarget = args.to.parse()?;
    let request = RestoreRequest {
        source: args.source,
        target,
        backup: args.backup,
        keep_off: config
            .repositories
            .iter()
            .map(|repository| (repository.name.clone(), repository.url.clone()))
            .collect(),
        replace: args.replace,
        mysqld: server(args.mysqld)?,
    };
    let vault = match &args.from_repository {
        Some(name) => run.open_only(&config, name).await?,
        None => run.open_some(&config).await?,
    };
    let plan = plan_restore(&run.context, &vault, &request).await?;
    if args.dry_run {
        if run.output.json {
            run.output.record("plan", &plan)?;
        } else {
            run.output.pairs(&plan.lines())?;
        }
        return Ok(DONE);
    }
    for (label, value) in plan.lines() {
        run.output.say(format!("{label}: {value}"));
    }
    let outcome = Box::pin(restore(&run.context, plan)).await?;
    show(run, &outcome)?;
    Ok(DONE)
}

/// The server that proves the restore. One that was named must be there; none at all is for the plan to refuse.
fn server(named: Option<PathBuf>) -> Result<Option<PathBuf>> {
    let Some(file) = named.or_else(|| variable("BALLAST_MYSQLD").map(PathBuf::from)) else {
        return Ok(find_program("mysqld"));
    };
    if file.is_file() {
        return Ok(Some(file));
    }
    let message = format!("there is no server \"{}\"", file.display());
    Err(AppError::Usage {
        message,
        hint: Some("--mysqld PATH, or BALLAST_MYSQLD, must be the path of a mysqld".to_owned()),
    })
}

fn show(run: &Run, outcome: &RestoreOutcome) -> Result<()> {
    if run.output.json {
        return run.output.record("result", outcome);
    }
    let took = Duration::try_from_secs_f64(outcome.seconds).map_or_else(|_| "unknown time".to_owned(), format_duration);
    let proof = &outcome.proof;
    run.output.say(format!("restored and proven in {took}"));
    run.output.pairs(&[
        (
            "backup".to_owned(),
            format!("{} from repository \"{}\"", outcome.backup, outcome.repository),
        ),
        ("position".to_owned(), outcome.reached.position.to_string()),
        (
            "tables".to_owned(),
            format!(
                "{} of {} expected, {} rows",
                proof.tables_found, proof.tables_expected, proof.rows
            ),
        ),
        ("ownership".to_owned(), outcome.ownership.clone()),
        ("start it".to_owned(), outcome.start_command.clone()),
    ])
}
