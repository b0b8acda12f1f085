//! Proves a restored directory: a private server recovers it, and must be at the recorded position, with every recorded table there and readable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ballast_base::TaskSet;
use ballast_mysql::{
    Connection, GtidSet, MysqlError, RecoveryStatus, ServerAddress, ThrowawayOptions, ThrowawayServer, quote_table,
};

use super::commit_pause::read_tables;
use super::record::PhysicalRecord;
use crate::context::Context;
use crate::error::{ProtectError, Result};
use crate::load::{Stay, put_back};
use crate::position::Position;
use crate::replay::{Replayed, replay_options, take_on};
use crate::restore_plan::RestorePlan;

/// Recovery reads the redo log, which is bounded; a slow disk may need its time.
const START_WAIT_MAX: Duration = Duration::from_secs(3600);
/// A clean shutdown writes every dirty page.
const STOP_WAIT_MAX: Duration = Duration::from_secs(1800);
/// Counting the rows of one large table takes its time.
const COUNT_WAIT_MAX: Duration = Duration::from_secs(4 * 3600);
const REDO_CAPACITY: &str = "innodb_redo_log_capacity";
const REDO_CAPACITY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Connections that count.
const COUNTERS: usize = 4;

/// What was compared on the restored server.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Proof {
    /// The server reached the recorded position: the very one, or, where only bounds are known, one within them. `None` where
    /// rows went into a running server, which has a position of its own, and where it is the word of an external tool.
    pub position_equal: Option<bool>,
    pub tables_expected: u64,
    pub tables_found: u64,
    /// Tables that are missing or cannot be read, and why.
    pub tables_differing: Vec<String>,
    /// Rows counted in all tables.
    pub rows: u64,
}

impl Proof {
    pub(crate) fn holds(&self) -> bool {
        self.position_equal != Some(false) && self.tables_differing.is_empty()
    }
}

#[derive(Debug)]
pub(crate) struct Proved {
    pub(crate) proof: Proof,
    /// Where the recovered copy stands, by its own word.
    pub(crate) position: Position,
    pub(crate) replayed: Option<Replayed>,
}

/// A private server that recovered a directory, and what it says of itself.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) server: ThrowawayServer,
    pub(crate) position: Position,
    /// It is where the backup says.
    pub(crate) position_equal: bool,
    pub(crate) tables: BTreeSet<(String, String)>,
}

pub(crate) async fn prove(
    context: &Context,
    plan: &RestorePlan,
    record: &PhysicalRecord,
    directory: &Path,
    outside: &Path,
) -> Result<Proved> {
    let Recovered {
        mut server,
        mut position,
        mut position_equal,
        tables: mut found,
    } = recover(context, plan, record, directory, outside, Stay::Kept).await?;
    let tables_found = record.tables.intersection(&found).count() as u64;
    let mut differing: Vec<String> = record
        .tables
        .difference(&found)
        .map(|(schema, table)| format!("table {schema}.{table} is missing"))
        .collect();
    if record.tables_exact {
        differing.extend(
            found
                .difference(&record.tables)
                .map(|(schema, table)| format!("table {schema}.{table} was not there")),
        );
    }
    let mut replayed = None;
    // Nothing is built on what is not what was backed up.
    if let Some(replay) = plan.replay.as_ref().filter(|_| position_equal && differing.is_empty()) {
        let again = options(directory, settings(record, outside));
        let (taken_on, what) = take_on(context, plan, replay, server, again).await?;
        (server, replayed) = (taken_on, Some(what));
        position = reached(context, server.address(), directory).await?;
        (position.file, position.offset) = (None, None);
        position_equal = agree(&replay.position(), &position);
        found = tables_of(context, &server).await?;
    }
    let (rows, unreadable) = count(context, server.address(), &found).await?;
    differing.extend(unreadable);
    server.stop().await?;
    forget_recovery(directory)?;
    let proof = Proof {
        position_equal: Some(position_equal),
        tables_expected: record.tables.len() as u64,
        tables_found,
        tables_differing: differing,
        rows,
    };
    Ok(Proved {
        proof,
        position,
        replayed,
    })
}

/// The user's tables on a private server.
pub(crate) async fn tables_of(context: &Context, server: &ThrowawayServer) -> Result<BTreeSet<(String, String)>> {
    let mut connection = Connection::open(server.address(), &context.cancel).await?;
    let tables = read_tables(&mut connection).await?;
    connection.close().await;
    Ok(tables)
}

/// How a private server is started on a copy.
pub(crate) fn options(directory: &Path, settings: BTreeMap<String, String>) -> ThrowawayOptions {
    ThrowawayOptions {
        settings,
        run_as: rustix::process::geteuid().is_root().then(|| "root".to_owned()),
        start_wait: START_WAIT_MAX,
        stop_wait: STOP_WAIT_MAX,
        ..ThrowawayOptions::new(directory.to_owned())
    }
}

/// What the copy's server is started with.
pub(crate) fn settings(record: &PhysicalRecord, outside: &Path) -> BTreeMap<String, String> {
    let mut settings = record.settings.clone();
    // As the donor's, so that neither this server nor the next one has to make the log anew; but not at the price of a disk.
    settings.retain(|name, value| {
        name != REDO_CAPACITY || value.parse().is_ok_and(|bytes: u64| bytes <= REDO_CAPACITY_BYTES_MAX)
    });
    if outside.exists() {
        settings.insert("innodb_directories".to_owned(), outside.display().to_string());
    }
    settings
}

/// Starts a private server on a directory, compares its position with the record, and puts in what is not in files.
pub(crate) async fn recover(
    context: &Context,
    plan: &RestorePlan,
    record: &PhysicalRecord,
    directory: &Path,
    outside: &Path,
    stay: Stay,
) -> Result<Recovered> {
    let options = ThrowawayOptions {
        // InnoDB's master thread ends a second after it began and not before, so that a stop waits for it; what the next server
        // would do first is done meanwhile.
        make_keys: stay == Stay::Kept,
        replay: plan.replay.as_ref().map(|_| replay_options()),
        ..options(directory, settings(record, outside))
    };
    let server = ThrowawayServer::start(&plan.binary, options, &context.cancel).await?;
    let position = reached(context, server.address(), directory).await?;
    let position_equal = plan
        .backup
        .position
        .as_ref()
        .is_some_and(|recorded| agree(recorded, &position));
    if let Some(beside) = record.beside.clone().filter(|_| position_equal) {
        put_back(context, plan, beside, server.address(), stay).await?;
    }
    let tables = tables_of(context, &server).await?;
    Ok(Recovered {
        server,
        position,
        position_equal,
        tables,
    })
}

/// The executed set, and the file and offset that the recovery found in the copy.
async fn reached(context: &Context, address: &ServerAddress, directory: &Path) -> Result<Position> {
    let mut connection = Connection::open(address, &context.cancel).await?;
    let gtids = connection
        .value("SELECT @@GLOBAL.gtid_executed")
        .await?
        .unwrap_or_default();
    connection.close().await;
    let path = directory.join(RecoveryStatus::PATH);
    let status = match std::fs::read_to_string(&path) {
        Ok(text) => Some(RecoveryStatus::parse(&text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(ProtectError::failed(format!("read \"{}\"", path.display())).because(error)),
    };
    let status = status.filter(|status| !status.binlog_file.is_empty());
    Ok(Position {
        gtid_executed: gtids.split_whitespace().collect(),
        file: status
            .as_ref()
            .map(|status| status.binlog_file.trim_start_matches("./").to_owned()),
        offset: status.as_ref().map(|status| status.binlog_offset),
        exact: true,
        at_least: None,
        replication_id: None,
    })
}

/// Whether the copy is where the record says.
fn agree(recorded: &Position, reached: &Position) -> bool {
    let set = |text: &str| text.parse::<GtidSet>().ok();
    let (Some(expected), Some(got)) = (set(&recorded.gtid_executed), set(&reached.gtid_executed)) else {
        return false;
    };
    match recorded.at_least.as_deref().map(set) {
        Some(None) => false,
        Some(Some(least)) => got.contains(&least) && expected.contains(&got),
        // Without transaction ids the end of the last transaction in the binlog is all there is to compare.
        None if expected.is_empty() && recorded.file.is_some() => {
            recorded.file == reached.file && recorded.offset == reached.offset
        }
        None => expected == got,
    }
}

/// Counts the rows of every table, a few at once. Gives the sum, and what could not be counted.
pub(crate) async fn count(
    context: &Context,
    address: &ServerAddress,
    tables: &BTreeSet<(String, String)>,
) -> Result<(u64, Vec<String>)> {
    let left: Arc<Mutex<Vec<(String, String)>>> = Arc::new(Mutex::new(tables.iter().rev().cloned().collect()));
    let mut counters = TaskSet::new("count rows");
    for _ in 0..COUNTERS.min(tables.len()) {
        let (context, address, left) = (context.clone(), address.clone(), Arc::clone(&left));
        counters.spawn(async move { count_some(&context, &address, &left).await });
    }
    let (mut rows, mut differing) = (0, Vec::new());
    while let Some(counted) = counters.join_next().await {
        let (some, failed) = counted??;
        rows += some;
        differing.extend(failed);
    }
    Ok((rows, differing))
}

async fn count_some(
    context: &Context,
    address: &ServerAddress,
    left: &Mutex<Vec<(String, String)>>,
) -> Result<(u64, Vec<String>)> {
    let mut connection = Connection::open(address, &context.cancel).await?;
    connection.set_read_timeout(COUNT_WAIT_MAX);
    let (mut rows, mut failed) = (0, Vec::new());
    loop {
        let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some((schema, table)) = next else { break };
        match connection
            .value(&format!("SELECT COUNT(*) FROM {}", quote_table(&schema, &table)))
            .await
        {
            Ok(count) => rows += count.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default(),
            Err(error @ MysqlError::Server { .. }) => failed.push(format!("table {schema}.{table}: {error}")),
            Err(error) => return Err(error.into()),
        }
    }
    connection.close().await;
    Ok((rows, failed))
}

/// Takes away the notes of the clone recovery: they are about a copy that has become a server.
fn forget_recovery(directory: &Path) -> Result<()> {
    let folder = directory.join("#clone");
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ProtectError::failed(format!("remove \"{}\"", folder.display())).because(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn at(gtids: &str, file: Option<&str>, offset: Option<u64>) -> Position {
        Position {
            gtid_executed: gtids.to_owned(),
            file: file.map(str::to_owned),
            offset,
            exact: true,
            at_least: None,
            replication_id: None,
        }
    }

    #[test]
    fn an_exact_position_must_be_met_exactly_and_bounds_must_hold_it() {
        let (ten, eleven) = (
            at(&format!("{UUID}:1-10"), None, None),
            at(&format!("{UUID}:1-11"), None, None),
        );
        assert!(agree(&ten, &ten) && !agree(&ten, &eleven) && !agree(&eleven, &ten));
        let bounds = Position {
            at_least: Some(format!("{UUID}:1-9")),
            exact: false,
            ..eleven.clone()
        };
        assert!(agree(&bounds, &ten) && agree(&bounds, &eleven));
        assert!(!agree(&bounds, &at(&format!("{UUID}:1-8"), None, None)));
        assert!(!agree(&bounds, &at(&format!("{UUID}:1-12"), None, None)));
    }

    #[test]
    fn without_transaction_ids_file_and_offset_are_compared() {
        let (here, there) = (
            at("", Some("binlog.000002"), Some(157)),
            at("", Some("binlog.000002"), Some(400)),
        );
        assert!(agree(&here, &here) && !agree(&here, &there));
        assert!(agree(&at("", None, None), &at("", None, None)));
    }
}
