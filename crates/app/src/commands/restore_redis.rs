//! `restore` of a Redis into a directory.

use std::path::PathBuf;
use std::time::Duration;

use ballast_base::format_duration;
use ballast_protect::{RedisRestoreOutcome, RedisRestoreRequest, RedisStop, plan_redis_restore, restore_redis};

use super::restore::{scratch, tell};
use super::{Result, Run};
use crate::cli::RestoreArgs;
use crate::config::Config;
use crate::config::environment::{find_program, variable};
use crate::exit::{AppError, DONE};
use crate::moment;

/// Of a backup whose keys were read one by one.
pub(super) const NOT_ONE_MOMENT: &str =
    "the keys are not of one moment: they were read one by one while the server went on (engine logical)";

pub(super) async fn run(run: &Run, config: &Config, args: &RestoreArgs, target: PathBuf) -> Result<u8> {
    if !args.only.is_empty() || !args.rename.is_empty() {
        return Err(AppError::Usage {
            message: "into a directory a Redis is restored whole, without --only and --rename".to_owned(),
            hint: Some(
                "restore the whole of it to --to dir:PATH, or some keys into a running server: --to redis://HOST:PORT --only 'session:*'"
                    .to_owned(),
            ),
        });
    }
    if args.before.is_some() || !args.skip.is_empty() || args.no_binlog {
        return Err(AppError::Usage {
            message: "--before, --skip and --no-binlog are for transactions of a MySQL".to_owned(),
            hint: Some("choose with --at MOMENT, --position ID:OFFSET or --backup ID".to_owned()),
        });
    }
    let request = RedisRestoreRequest {
        source: args.source.clone(),
        target,
        backup: args.backup.clone(),
        stop: stop(config, args)?,
        keep_off: config
            .repositories
            .iter()
            .map(|repository| (repository.name.clone(), repository.url.clone()))
            .collect(),
        replace: args.replace,
        servers: servers(args.server.clone())?,
        scratch: scratch(args.scratch.clone()),
    };
    let vault = match &args.from_repository {
        Some(name) => run.open_only(config, name).await?,
        None => run.open_some(config).await?,
    };
    let plan = plan_redis_restore(&run.context, &vault, &request).await?;
    tell(run, &plan, &plan.lines(), args.dry_run)?;
    if args.dry_run {
        return Ok(DONE);
    }
    let outcome = Box::pin(restore_redis(&run.context, plan)).await?;
    show(run, &outcome)?;
    Ok(DONE)
}

/// A moment that could not be reached is not passed over in silence.
pub(super) fn refuse_stops(args: &RestoreArgs) -> Result<()> {
    let stops = [&args.at, &args.position, &args.before];
    if stops.iter().any(|stop| stop.is_some()) || !args.skip.is_empty() || args.no_binlog {
        return Err(AppError::Usage {
            message: "into a running server a Redis is restored as of a backup, without the commands after it".to_owned(),
            hint: Some(
                "leave out --at, --position, --before, --skip and --no-binlog, and choose with --backup ID; or restore to --to dir:PATH"
                    .to_owned(),
            ),
        });
    }
    Ok(())
}

/// Where to end, if that was said.
fn stop(config: &Config, args: &RestoreArgs) -> Result<Option<RedisStop>> {
    if let Some(text) = &args.at {
        let at = moment::parse(text, &moment::time_zone(config))
            .map_err(|message| AppError::Usage { message, hint: None })?;
        return Ok(Some(RedisStop::At(at)));
    }
    Ok(args.position.as_deref().map(RedisStop::at_position).transpose()?)
}

/// Programs that may prove the restore. One that was named must be there.
fn servers(named: Option<PathBuf>) -> Result<Vec<PathBuf>> {
    if let Some(file) = named {
        return there(file).map(|file| vec![file]);
    }
    let mut found = Vec::new();
    for (name, program) in [
        ("BALLAST_REDIS_SERVER", "redis-server"),
        ("BALLAST_VALKEY_SERVER", "valkey-server"),
    ] {
        match variable(name).map(PathBuf::from) {
            Some(file) => found.push(there(file)?),
            None => found.extend(find_program(program)),
        }
    }
    Ok(found)
}

fn there(file: PathBuf) -> Result<PathBuf> {
    if file.is_file() {
        return Ok(file);
    }
    Err(AppError::Usage {
        message: format!("there is no server \"{}\"", file.display()),
        hint: Some(
            "--server PATH, BALLAST_REDIS_SERVER or BALLAST_VALKEY_SERVER must be the path of a server program"
                .to_owned(),
        ),
    })
}

fn show(run: &Run, outcome: &RedisRestoreOutcome) -> Result<()> {
    if run.output.json {
        return run.output.record("result", outcome);
    }
    if !outcome.reached.point_in_time {
        run.output.warn(NOT_ONE_MOMENT, None);
    }
    let took = Duration::try_from_secs_f64(outcome.seconds).map_or_else(|_| "unknown time".to_owned(), format_duration);
    let proof = &outcome.proof;
    let expired = match proof.keys_expired {
        0 => String::new(),
        count => format!("; the time of {count} more has come since"),
    };
    let position = outcome
        .reached
        .position
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    run.output.say(format!("restored and proven in {took}"));
    run.output.pairs(&[
        (
            "backup".to_owned(),
            format!("{} from repository \"{}\"", outcome.backup, outcome.repository),
        ),
        ("position".to_owned(), position),
        (
            "keys".to_owned(),
            match proof.position_equal {
                Some(_) => format!("{}, with all recorded commands up to there{expired}", proof.keys_found),
                None => format!(
                    "{} of {} expected, types, expiries and content as backed up{expired}",
                    proof.keys_found, proof.keys_expected
                ),
            },
        ),
        ("ownership".to_owned(), outcome.ownership.clone()),
        ("start it".to_owned(), outcome.start_command.clone()),
    ])
}
