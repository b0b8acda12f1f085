//! Takes a backup on to a later transaction: the log's segments, straight from the repository, through the applier of a private
//! server that runs on the restored directory.
//!
//! What is sent is decided transaction by transaction (`replay/selection.rs`): those the server has are left out, those that are to be
//! skipped are replaced by empty ones of their name, and nothing is sent behind the plan's end. A server is never sent half a
//! transaction.
//!
//! # What proves it
//! The plan says beforehand what the server will have executed in the end. On MySQL that is compared with the server's own set, both
//! ways. On MariaDB a position hides holes and moves on over what was dropped; so there the transactions that the applier counted
//! must be as many as were sent, beside the position.

mod event_statements;
mod feed;
mod plan;
mod replica;
mod selection;
mod take_on;
mod unsafe_statements;

#[cfg(test)]
mod tests;

use std::time::Duration;

use ballast_base::random_hex;
use ballast_mysql::{ApplierState, ExecutedSet, LogFlavour, LogServer, ServeOptions};
use ballast_repository::Repository;
use jiff::Timestamp;

use self::feed::{Fed, Progressing};
pub(crate) use self::plan::resolve;
pub use self::plan::{ReplayPlan, Seam, StreamPart, TransactionLine};
pub(crate) use self::replica::{Replica, replay_options};
pub(crate) use self::take_on::take_on;
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};

/// How often the applier is asked where it stands.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Nothing new from the applier for so long is a fault, however large the statement it is at.
const STANDSTILL_MAX: Duration = Duration::from_secs(24 * 3600);
/// The applier runs within this time.
const BEGIN_WAIT_MAX: Duration = Duration::from_secs(30);
/// A MariaDB that stands at the end, and has counted other than was sent, is given this time.
const COUNT_WAIT_MAX: Duration = Duration::from_secs(30);
/// While the next segment is not here yet.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(3);
/// What the replica reports as the end of its source.
const END_TEXT: &str = "the log was replayed to where it was to end";

/// What a replay came to.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Replayed {
    /// That were applied; on MySQL also those that were skipped, which count as executed.
    pub transactions: u64,
    pub bytes: u64,
    pub skipped: u64,
    /// Of those, that were logged as statements which may come to other values when they are run again.
    pub may_differ: u64,
    /// What the server has executed now.
    pub executed: ExecutedSet,
    /// When the last one was committed on the source.
    pub last_committed_at: Option<Timestamp>,
    /// From the first byte to the last transaction applied.
    pub seconds: f64,
}

/// Replays on a server that waits for it. In the end the server knows nothing of it any more.
pub(crate) async fn replay(
    context: &Context,
    repository: &Repository,
    plan: &ReplayPlan,
    replica: &Replica<'_>,
) -> Result<Replayed> {
    // A MariaDB's files do not say where they stand; the backup does.
    let from = match plan.flavour {
        LogFlavour::Mysql => replica.executed().await?,
        LogFlavour::MariaDb => plan.from.clone(),
    };
    if !from.contains(&plan.from) || !plan.expected.contains(&from) {
        let message = format!(
            "the restored copy stands at {from}, and the log would be replayed from {} to {}",
            plan.from, plan.expected
        );
        return Err(ProtectError::new(ErrorKind::Damaged, message).hint("restore another backup with --backup ID"));
    }
    let options = ServeOptions {
        flavour: replica.flavour(),
        version: plan.server_version.clone(),
        server_id: replica.server_id().wrapping_add(1).max(1),
        server_uuid: random_uuid(),
        heartbeat: HEARTBEAT_EVERY,
    };
    let events = replica.events().await?;
    let begun = context.clock.elapsed();
    let mut log = LogServer::start(options, &context.cancel).await?;
    replica.start(&log, &from).await?;
    let asked = watching(context, async { Ok(log.replica().await?) }, || replica.has_come()).await;
    let asked = asked.map_err(|error| refused(error, replica))?;
    let claimed = ExecutedSet::parse(plan.flavour, &asked.executed)?;
    if claimed != from || asked.server_id != replica.server_id() {
        let message = format!("the private server asks for what follows {claimed}, and it has {from}");
        return Err(ProtectError::failed(message));
    }
    let progressing = Progressing::of(plan);
    let mut applier_seen_at = begun;
    let fed = watching(
        context,
        feed::feed(context, repository, plan, from, &mut log, &progressing),
        async || look_for_errors(context, replica, &progressing, &mut applier_seen_at).await,
    )
    .await;
    let fed = match fed {
        Ok(fed) => fed,
        Err(error) => return Err(replica.with_its_words(error).await),
    };
    if fed.executed != plan.expected {
        let message = format!("the log led to {}, and {} was planned", fed.executed, plan.expected);
        return Err(ProtectError::new(ErrorKind::Damaged, message).hint("check the stored bytes with: ballast verify"));
    }
    log.end(END_TEXT).await?;
    await_applied(context, replica, &fed, &progressing).await?;
    let seconds = context.clock.elapsed().saturating_sub(begun).as_secs_f64();
    replica.put_events_back(context, events, &fed.events).await?;
    replica.forget().await?;
    let may_differ = &fed.unsafe_statements;
    if let Some(first) = &may_differ.first {
        let message = format!(
            "{} transactions were logged as statements that may come to other values when they are run again, such as UUID(): the first is {first}",
            may_differ.transactions
        );
        let hint = "compare what they wrote with the source; set binlog_format = ROW there".to_owned();
        context.warn(message, Some(hint));
    }
    Ok(Replayed {
        may_differ: fed.unsafe_statements.transactions,
        transactions: fed.transactions,
        bytes: fed.bytes,
        skipped: fed.skipped,
        executed: fed.executed,
        last_committed_at: fed.last.map(|last| last.committed_at),
        seconds,
    })
}

/// Does `work`, and looks every now and then whether it makes sense to go on. A look is never cut short: the connection it asks on
/// would be lost.
async fn watching<T>(
    context: &Context,
    work: impl Future<Output = Result<T>>,
    mut look: impl AsyncFnMut() -> Result<()>,
) -> Result<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            slept = context.cancel.race(context.clock.sleep(LOOK_EVERY)) => slept?,
        }
        let mut looking = std::pin::pin!(look());
        tokio::select! {
            done = &mut work => {
                looking.await?;
                return done;
            }
            looked = &mut looking => looked?,
        }
    }
}

/// An error when the applier says that it cannot go on.
async fn look_for_errors(
    context: &Context,
    replica: &Replica<'_>,
    progressing: &Progressing,
    seen_at: &mut Duration,
) -> Result<()> {
    let state = look(context, replica, progressing).await?;
    let now = context.clock.elapsed();
    if state.applying {
        *seen_at = now;
    }
    // It may not have begun yet.
    if state.applied_error.is_some() || now.saturating_sub(*seen_at) > BEGIN_WAIT_MAX {
        return Err(cannot(&state, replica));
    }
    Ok(())
}

async fn look(context: &Context, replica: &Replica<'_>, progressing: &Progressing) -> Result<ApplierState> {
    let state = replica.state().await?;
    let (done, total) = progressing.at(&state.file, state.offset);
    context.progress("replay", done, Some(total));
    Ok(state)
}

/// Waits until everything that was sent is applied.
async fn await_applied(context: &Context, replica: &Replica<'_>, fed: &Fed, progressing: &Progressing) -> Result<()> {
    let mut moved_at = context.clock.elapsed();
    let mut last = None;
    loop {
        let state = look(context, replica, progressing).await?;
        let stands = (replica.executed().await?, state.groups, state.offset);
        if replica.is_done(fed, &stands.0, &state) {
            context.progress("replay", progressing.total, Some(progressing.total));
            return Ok(());
        }
        if !state.applying || state.applied_error.is_some() {
            return Err(cannot(&state, replica));
        }
        if stands.0 != fed.executed && !fed.executed.contains(&stands.0) {
            let message = format!("the private server went to {}, beyond {}", stands.0, fed.executed);
            return Err(ProtectError::new(ErrorKind::Damaged, message));
        }
        let now = context.clock.elapsed();
        if last.as_ref() != Some(&stands) {
            (moved_at, last) = (now, Some(stands));
        } else if let Some((_, Some(counted), _)) = &last
            && stands.0 == fed.executed
            && now.saturating_sub(moved_at) > COUNT_WAIT_MAX
        {
            let message = format!(
                "{} transactions were sent, and the private server applied {}",
                fed.transactions,
                replica.since_start(*counted)
            );
            return Err(
                ProtectError::new(ErrorKind::Damaged, message).hint("start again; if it stays so, this is a bug")
            );
        } else if now.saturating_sub(moved_at) > STANDSTILL_MAX {
            return Err(ProtectError::failed(format!(
                "the applier has not moved for {} hours",
                STANDSTILL_MAX.as_secs() / 3600
            )));
        }
        context.cancel.race(context.clock.sleep(LOOK_EVERY)).await?;
    }
}

fn cannot(state: &ApplierState, replica: &Replica<'_>) -> ProtectError {
    let words = state
        .applied_error
        .clone()
        .or_else(|| state.received_error.clone())
        .unwrap_or_else(|| format!("it stopped; its last lines:\n{}", replica.log_tail()));
    ProtectError::failed(format!("the private server could not apply the log: {words}")).hint(
        "stop before that transaction with --before GTID, or leave it out with --skip GTID; if it should have been there, restore an earlier backup with --backup ID",
    )
}

/// A replica that does not come has said why in its log.
fn refused(error: ProtectError, replica: &Replica<'_>) -> ProtectError {
    if error.kind() == ErrorKind::Interrupted {
        return error;
    }
    let tail = replica.log_tail();
    error.and(&format!("the private server's last lines:\n{tail}"))
}

fn random_uuid() -> String {
    let digits = random_hex(16);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}
