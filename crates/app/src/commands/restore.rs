//! `restore`: the plan, and unless that is all that was asked for, the restore and its proof.

use std::path::PathBuf;
use std::time::Duration;

use ballast_base::{Secret, format_duration, spawn};
use ballast_protect::{
    Gtid, LoadOutcome, RestoreOutcome, RestoreRequest, RestoreTarget, Stop, TablePattern, ToolPlaces, Vault, load,
    plan_load, plan_restore, probe_early, restore,
};

use super::{Result, Run};
use crate::cli::RestoreArgs;
use crate::config::Config;
use crate::config::environment::{find_program, program_folders, variable};
use crate::exit::{AppError, DONE, PARTIAL};
use crate::moment;

pub(super) async fn run(run: &Run, args: RestoreArgs) -> Result<u8> {
    let config = run.config()?;
    if let Some(name) = &args.from_repository {
        config.repository(name)?;
    }
    if let Some(folder) = args.to.strip_prefix("dir:").filter(|folder| !folder.is_empty()) {
        return super::restore_redis::run(run, &config, &args, folder.into()).await;
    }
    if args.to.starts_with("redis://") || args.to.starts_with("rediss://") {
        return Box::pin(super::load_redis::run(run, &config, &args)).await;
    }
    let target: RestoreTarget = args.to.parse()?;
    let mut request = RestoreRequest {
        target_password: target_password(run, &config, &args).await?,
        only: patterns(&args.only)?,
        rename: args
            .rename
            .iter()
            .map(|text| text.parse())
            .collect::<std::result::Result<_, _>>()?,
        // The source may be gone from the configuration; its backups are not.
        tools: match config.source(&args.source) {
            Ok(source) => source.described().tools,
            Err(_) => ToolPlaces {
                named: None,
                folders: program_folders(),
            },
        },
        stop: stop(&config, &args)?,
        skip: args.skip.iter().map(|text| transaction(text)).collect::<Result<_>>()?,
        source: args.source,
        target,
        backup: args.backup,
        keep_off: config
            .repositories
            .iter()
            .map(|repository| (repository.name.clone(), repository.url.clone()))
            .collect(),
        replace: args.replace,
        no_binlog: args.no_binlog,
        mariadbd: mariadb(args.mysqld.clone())?,
        mysqld: server(args.mysqld)?,
        probed: None,
        scratch: scratch(args.scratch),
    };
    // A passphrase takes its time, and so does a server program that says what it is.
    let (program, cancel) = (request.mysqld.clone(), run.context.cancel.clone());
    let probe = spawn("ask server program", async move {
        probe_early(program.as_deref(), &cancel).await
    });
    let vault = match &args.from_repository {
        Some(name) => run.open_only(&config, name).await?,
        None => run.open_some(&config).await?,
    };
    if matches!(request.target, RestoreTarget::Server(_)) {
        return load_rows(run, &vault, &request, args.dry_run).await;
    }
    request.probed = probe.join().await.unwrap_or_default();
    let plan = plan_restore(&run.context, &vault, &request).await?;
    tell(run, &plan, &plan.lines(), args.dry_run)?;
    if args.dry_run {
        return Ok(DONE);
    }
    let outcome = Box::pin(restore(&run.context, plan)).await?;
    show(run, &outcome)?;
    Ok(if outcome.partial() { PARTIAL } else { DONE })
}

/// Into a running server.
async fn load_rows(run: &Run, vault: &Vault, request: &RestoreRequest, dry_run: bool) -> Result<u8> {
    let plan = plan_load(&run.context, vault, request).await?;
    tell(run, &plan, &plan.lines(), dry_run)?;
    if dry_run {
        return Ok(DONE);
    }
    let outcome = Box::pin(load(&run.context, plan)).await?;
    show_load(run, &outcome)?;
    Ok(if outcome.partial() { PARTIAL } else { DONE })
}

/// Where to end, if that was said.
fn stop(config: &Config, args: &RestoreArgs) -> Result<Option<Stop>> {
    if let Some(text) = &args.at {
        let at = moment::parse(text, &moment::time_zone(config))
            .map_err(|message| AppError::Usage { message, hint: None })?;
        return Ok(Some(Stop::At(at)));
    }
    if let Some(text) = &args.position {
        return Ok(Some(Stop::Position(text.parse()?)));
    }
    args.before
        .as_deref()
        .map(|text| transaction(text).map(Stop::Before))
        .transpose()
}

fn transaction(text: &str) -> Result<Gtid> {
    text.parse().map_err(|_| AppError::Usage {
        message: format!("\"{text}\" is no GTID of one transaction"),
        hint: Some(
            "write it as the server does: 3e11fa47-71ca-11e1-9e33-c80aa9429562:4711, or 0-1-4711 on MariaDB".to_owned(),
        ),
    })
}

/// The plan: what was asked for, or what is about to be done.
pub(super) fn tell(run: &Run, plan: &impl serde::Serialize, lines: &[(String, String)], dry_run: bool) -> Result<()> {
    if dry_run && run.output.json {
        return run.output.record("plan", plan);
    }
    if dry_run {
        return run.output.pairs(lines);
    }
    for (label, value) in lines {
        run.output.say(format!("{label}: {value}"));
    }
    Ok(())
}

fn patterns(texts: &[String]) -> Result<Vec<TablePattern>> {
    let parsed = texts.iter().map(|text| {
        TablePattern::parse(text).map_err(|error| AppError::Usage {
            message: error.to_string(),
            hint: Some("write --only 'DATABASE.TABLE', such as 'balance.orders_{0..9}'".to_owned()),
        })
    });
    parsed.collect()
}

/// The password of the account on a running server: the source's own where the target is the source.
pub(super) async fn target_password(run: &Run, config: &Config, args: &RestoreArgs) -> Result<Option<Secret>> {
    if let Some(password) = variable("BALLAST_TARGET_PASSWORD") {
        let password = password.into_string().map_err(|_| AppError::Usage {
            message: "BALLAST_TARGET_PASSWORD is not UTF-8".to_owned(),
            hint: None,
        })?;
        return Ok(Some(Secret::new(password)));
    }
    match config.source(&args.source) {
        Ok(source) if source.url == args.to => Ok(run.secrets(source.settings()).await?.password),
        _ => Ok(None),
    }
}

pub(super) fn scratch(named: Option<PathBuf>) -> PathBuf {
    named
        .or_else(|| variable("TMPDIR").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// The server that proves the restore. One that was named must be there; none at all is for the plan to refuse.
fn server(named: Option<PathBuf>) -> Result<Option<PathBuf>> {
    match named.or_else(|| variable("BALLAST_MYSQLD").map(PathBuf::from)) {
        Some(file) => there(file),
        None => Ok(find_program("mysqld")),
    }
}

/// The same for a copy of MariaDB, which some installations know by the other's name.
fn mariadb(named: Option<PathBuf>) -> Result<Option<PathBuf>> {
    match named.or_else(|| variable("BALLAST_MARIADBD").map(PathBuf::from)) {
        Some(file) => there(file),
        None => Ok(find_program("mariadbd").or_else(|| find_program("mysqld"))),
    }
}

fn there(file: PathBuf) -> Result<Option<PathBuf>> {
    if file.is_file() {
        return Ok(Some(file));
    }
    let message = format!("there is no server \"{}\"", file.display());
    Err(AppError::Usage {
        message,
        hint: Some("--mysqld PATH, BALLAST_MYSQLD or BALLAST_MARIADBD must be the path of a server program".to_owned()),
    })
}

fn show(run: &Run, outcome: &RestoreOutcome) -> Result<()> {
    if run.output.json {
        return run.output.record("result", outcome);
    }
    for what in &outcome.left_out {
        run.output.warn(&format!("left out: {what}"), None);
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

fn show_load(run: &Run, outcome: &LoadOutcome) -> Result<()> {
    if run.output.json {
        return run.output.record("result", outcome);
    }
    for what in &outcome.left_out {
        run.output.warn(&format!("left out: {what}"), None);
    }
    let took = Duration::try_from_secs_f64(outcome.seconds).map_or_else(|_| "unknown time".to_owned(), format_duration);
    let proof = &outcome.proof;
    let read_back = match outcome.tables_read_back {
        0 => String::new(),
        1 => " (1 table read back and compared by value)".to_owned(),
        count => format!(" ({count} tables read back and compared by value)"),
    };
    run.output.say(format!("loaded and proven in {took}"));
    let kept = match outcome.rows_kept {
        0 => String::new(),
        kept => format!(" ({kept} of them loaded before)"),
    };
    run.output.pairs(&[
        (
            "backup".to_owned(),
            format!("{} from repository \"{}\"", outcome.backup, outcome.repository),
        ),
        ("target".to_owned(), outcome.target.clone()),
        ("position".to_owned(), outcome.reached.position.to_string()),
        (
            "tables".to_owned(),
            format!(
                "{} of {} expected, {} rows{kept}, every fingerprint as backed up{read_back}",
                proof.tables_found, proof.tables_expected, proof.rows
            ),
        ),
    ])
}
