//! A data directory out of rows: a fresh one, made by the server program that will use it, on which a private server takes
//! everything in. It is given to the target as one of files is: only after every table's fingerprint was compared.
//!
//! The redo log is off while rows are loaded: a crash costs the whole directory then, and it is not finished anyhow. What the
//! source had executed is noted as executed, so that the new server can follow it from there.

use std::collections::BTreeMap;
use std::time::Duration;

use ballast_mysql::{
    Account, AccountKind, Connection, Facts, MysqlError, SecretSql, ThrowawayOptions, ThrowawayServer, quote_text,
};
use ballast_repository::BackupId;

use super::place::{Place, failed, move_in_place};
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::load::{LoadOutcome, carry_out};
use crate::load_plan::LoadPlan;
use crate::load_plan::carry::{self, carry};
use crate::mysql::logical::record::LogicalRecord;
use crate::replay::{Replayed, Replica, replay_options};
use crate::restore_plan::RestorePlan;

/// In the unfinished folder while it is made: the server wants an empty one.
const FRESH: &str = "fresh";
/// Of an account that is there.
const ALTER: &str = "ALTER USER ";
/// What a fresh `root` is, too.
const NO_PASSWORD: &str = " IDENTIFIED WITH 'caching_sha2_password' REQUIRE NONE";
/// A clean shutdown writes every dirty page.
const STOP_WAIT_MAX: Duration = Duration::from_secs(1800);

/// What came of it, and the settings a server needs to open it.
pub(super) struct Filled {
    pub(super) load: LoadOutcome,
    pub(super) replayed: Option<Replayed>,
    pub(super) settings: BTreeMap<String, String>,
}

/// Makes the directory and fills it.
pub(super) async fn fill(context: &Context, plan: &RestorePlan, place: &Place) -> Result<Filled> {
    let id = BackupId::parse(&plan.backup.id)
        .ok_or_else(|| ProtectError::usage(format!("\"{}\" is no backup id", plan.backup.id)))?;
    let manifest = plan.from.manifest(&id, &context.cancel).await?;
    let mut record = LogicalRecord::read(&manifest.annex)?;
    // It cannot be changed afterwards.
    let settings = BTreeMap::from([(
        "lower_case_table_names".to_owned(),
        record.schema.lower_case_table_names.to_string(),
    )]);
    let fresh = place.unfinished.join(FRESH);
    plan.binary.initialise(&fresh, &settings, &context.cancel).await?;
    for entry in std::fs::read_dir(&fresh).map_err(failed("read", &fresh))? {
        let entry = entry.map_err(failed("read", &fresh))?;
        move_in_place(&entry.path(), &place.unfinished.join(entry.file_name()))?;
    }
    std::fs::remove_dir(&fresh).map_err(failed("remove", &fresh))?;
    // The server makes an identity of its own at its first start.
    let identity = place.unfinished.join("auto.cnf");
    if identity.exists() {
        std::fs::remove_file(&identity).map_err(failed("remove", &identity))?;
    }

    let options = ThrowawayOptions {
        settings: settings.clone(),
        run_as: rustix::process::geteuid().is_root().then(|| "root".to_owned()),
        stop_wait: STOP_WAIT_MAX,
        replay: plan.replay.as_ref().map(|_| replay_options()),
        ..ThrowawayOptions::new(place.unfinished.clone())
    };
    let server = ThrowawayServer::start(&plan.binary, options, &context.cancel).await?;
    let mut control = Connection::open(server.address(), &context.cancel).await?;
    control.execute("ALTER INSTANCE DISABLE INNODB REDO_LOG").await?;
    // Accounts can be made only where grant tables are in use; root has no password yet.
    control.execute("FLUSH PRIVILEGES").await?;
    let mut root = Connection::open(server.address(), &context.cancel).await?;
    let facts = Facts::read(&mut control).await?;
    let carried = carry(&mut control, &facts, &[], &[], &mut record).await?;
    for (label, what) in carry::lines(&carried.changes, &carried.left_out) {
        context.note(format!("{label}: {what}"));
    }
    let mut load = LoadPlan {
        databases_new: record.schema.databases.iter().map(|each| each.name.clone()).collect(),
        ..LoadPlan::private(plan, server.address(), record, manifest)
    };
    load.take_over(carried)?;
    let administrators = administrators(&load.record);
    let loaded = Box::pin(carry_out(context, load, context.steps())).await;
    let mut load = loaded.map_err(|error| match error.kind() {
        ErrorKind::Interrupted => error,
        _ => error.hint("nothing is left of it; restore again, or another backup with --backup ID"),
    })?;
    // As long as root has no password.
    let replica = match &plan.replay {
        Some(replay) => Some((replay, Replica::open(context, &server, &plan.binary.version).await?)),
        None => None,
    };
    make_root(&mut root, &mut control, &administrators, &mut load.left_out).await?;
    load.proof.position_equal = reach(&mut control, plan).await?;
    let mut replayed = None;
    if let Some((replay, replica)) = replica {
        replayed = Some(Box::pin(crate::replay::replay(context, &plan.from, replay, &replica)).await?);
        replica.close().await;
        load.reached.position = replay.position();
        load.reached.at = plan.moment();
        load.expected.position = plan.expected();
    }
    control.execute("ALTER INSTANCE ENABLE INNODB REDO_LOG").await?;
    for connection in [control, root] {
        connection.close().await;
    }
    server.stop().await?;
    Ok(Filled {
        load,
        replayed,
        settings,
    })
}

/// `root` as it was. The fresh one becomes that. Its rights are given by a session of its own: only a root that is there can
/// grant that others may be taken for it; and what is said of its password by another one, last, since who changes
/// their own is asked to do it again. The rights a fresh root has it keeps.
async fn make_root(
    root: &mut Connection,
    control: &mut Connection,
    statements: &[String],
    left_out: &mut Vec<String>,
) -> Result<()> {
    let (own, others): (Vec<_>, Vec<_>) = statements.iter().partition(|sql| sql.starts_with(ALTER));
    if own.is_empty() {
        left_out.push("account root@localhost: it is not in the backup; the fresh one has no password".to_owned());
    }
    for (own, sql) in others
        .iter()
        .map(|sql| (false, sql))
        .chain(own.iter().map(|sql| (true, sql)))
    {
        let done = if own {
            control.execute(sql).await
        } else {
            root.execute(sql).await
        };
        match done {
            Err(error @ MysqlError::Server { .. }) => left_out.push(format!("account root: {error}")),
            done => drop(done?),
        }
    }
    Ok(())
}

fn administrators(record: &LogicalRecord) -> Vec<String> {
    let statements = record.schema.account_statements(&[AccountKind::Administrator]);
    let statement = |(account, sql): (&Account, SecretSql)| match sql.expose().strip_prefix("CREATE USER ") {
        // Said of an account that is there, a plugin without a password would mark the empty one as expired.
        Some(rest) if account.host == "localhost" => format!("{ALTER}{}", rest.replacen(NO_PASSWORD, "", 1)),
        _ => sql.expose().to_owned(),
    };
    statements.into_iter().map(statement).collect()
}

/// Notes what the source had executed; `None` where that is not known by transaction ids.
async fn reach(control: &mut Connection, plan: &RestorePlan) -> Result<Option<bool>> {
    let Some(position) = plan
        .backup
        .position
        .as_ref()
        .filter(|position| !position.gtid_executed.is_empty())
    else {
        return Ok(None);
    };
    let set = quote_text(&position.gtid_executed);
    control.execute(&format!("SET GLOBAL gtid_purged = {set}")).await?;
    let sql =
        format!("SELECT GTID_SUBSET({set}, @@GLOBAL.gtid_executed) AND GTID_SUBSET(@@GLOBAL.gtid_executed, {set})");
    let reached = control.value(&sql).await?;
    if reached.as_deref() != Some("1") {
        let message = format!("position {position} could not be noted on the fresh server");
        return Err(ProtectError::new(ErrorKind::Damaged, message).hint("restore again, and to another folder"));
    }
    Ok(Some(true))
}
