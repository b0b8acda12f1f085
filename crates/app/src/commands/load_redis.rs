//! `restore` of a Redis into a running server.

use std::time::Duration;

use ballast_base::format_duration;
use ballast_protect::{KeyPattern, RedisLoadOutcome, RedisLoadRequest, load_redis, plan_redis_load};

use super::restore::{target_password, tell};
use super::restore_redis::{NOT_ONE_MOMENT, refuse_stops};
use super::{Result, Run};
use crate::cli::RestoreArgs;
use crate::config::Config;
use crate::exit::{AppError, DONE};

pub(super) async fn run(run: &Run, config: &Config, args: &RestoreArgs) -> Result<u8> {
    if !args.rename.is_empty() {
        return Err(AppError::Usage {
            message: "--rename is for tables; a key is restored under its own name".to_owned(),
            hint: Some("restore it into another server, and there: RENAME KEY NEWKEY".to_owned()),
        });
    }
    refuse_stops(args)?;
    let request = RedisLoadRequest {
        source: args.source.clone(),
        target: args.to.clone(),
        target_password: target_password(run, config, args).await?,
        backup: args.backup.clone(),
        only: patterns(&args.only)?,
        replace: args.replace,
    };
    let vault = match &args.from_repository {
        Some(name) => run.open_only(config, name).await?,
        None => run.open_some(config).await?,
    };
    let plan = plan_redis_load(&run.context, &vault, &request).await?;
    tell(run, &plan, &plan.lines(), args.dry_run)?;
    if args.dry_run {
        return Ok(DONE);
    }
    let outcome = Box::pin(load_redis(&run.context, plan)).await?;
    show(run, &outcome)?;
    Ok(DONE)
}

fn patterns(texts: &[String]) -> Result<Vec<KeyPattern>> {
    let parsed = texts.iter().map(|text| {
        text.parse::<KeyPattern>().map_err(|error| AppError::Usage {
            message: format!("--only: {error}"),
            hint: error.hint(),
        })
    });
    parsed.collect()
}

fn show(run: &Run, outcome: &RedisLoadOutcome) -> Result<()> {
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
        count => format!("; the time of {count} more has come or comes within a minute"),
    };
    let replaced = match outcome.keys_replaced {
        0 => String::new(),
        count => format!("; {count} were there and were replaced"),
    };
    let position = outcome
        .reached
        .position
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    run.output.say(format!("loaded and proven in {took}"));
    run.output.pairs(&[
        (
            "backup".to_owned(),
            format!("{} from repository \"{}\"", outcome.backup, outcome.repository),
        ),
        ("target".to_owned(), outcome.target.clone()),
        ("position".to_owned(), position),
        (
            "keys".to_owned(),
            format!(
                "{} of {} expected, types, expiries and content as backed up{expired}{replaced}",
                proof.keys_found, proof.keys_expected
            ),
        ),
    ])
}
