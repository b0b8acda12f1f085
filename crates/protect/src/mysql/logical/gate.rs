//! Lets the server rest: while it has much to do, or, being a replica, is behind, no further statement of ours begins.
//!
//! One connection beside the readers looks every second. Our own readers are not counted. The pauses of one backup are limited
//! together, because a snapshot that stays open costs the server, too: after that it is read as if there were no limit, and said.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ballast_base::{Cancel, Task};
use ballast_mysql::{Connection, Facts, Flavour, MysqlError, ServerAddress};
use tokio::sync::watch;

use crate::context::Context;
use crate::error::Result;
use crate::settings::Limit;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// All pauses of one backup together.
const PAUSES_MAX: Duration = Duration::from_secs(1800);
/// Since then a replica is not a slave.
const REPLICA_SINCE: (u16, u16, u16) = (8, 0, 22);

/// Open, unless somebody watches and has closed it.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    open: watch::Receiver<bool>,
    /// Statements of ours that run.
    ours: Arc<AtomicU64>,
}

/// Who opens and closes the gate. Dropped, it stops.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Cancel,
    task: Option<Task<Result<()>>>,
}

impl Gate {
    /// One that nobody closes.
    pub(crate) fn open() -> Self {
        let (_, open) = watch::channel(true);
        Self {
            open,
            ours: Arc::default(),
        }
    }

    /// A gate, and who watches it where there is a limit.
    pub(crate) async fn begin(
        context: &Context,
        address: &ServerAddress,
        facts: &Facts,
        limit: Limit,
    ) -> Result<(Self, Watch)> {
        let (closer, open) = watch::channel(true);
        let gate = Self {
            open,
            ours: Arc::default(),
        };
        let stop = Cancel::new();
        let mut task = None;
        if limit.threads_running.is_some() || limit.lag.is_some() {
            let connection = Connection::open(address, &context.cancel).await?;
            let mut load = Load::new(connection, facts, limit, Arc::clone(&gate.ours));
            // Now rather than later: an account may not be allowed to see it.
            let too_much = load.too_much().await?;
            if let Some(why) = &too_much {
                context.note(format!("reading pauses: {why}"));
            }
            closer.send_replace(too_much.is_none());
            task = Some(ballast_base::spawn(
                "load watch",
                watch(context.clone(), load, closer, stop.clone()),
            ));
        }
        Ok((gate, Watch { stop, task }))
    }

    /// Waits until a statement may begin; it has ended when what this gives is dropped.
    pub(crate) async fn pass(&self, cancel: &Cancel) -> Result<Passed> {
        let mut open = self.open.clone();
        // Without anybody who watches it is open.
        drop(cancel.race(open.wait_for(|open| *open)).await?);
        self.ours.fetch_add(1, Ordering::AcqRel);
        Ok(Passed(Arc::clone(&self.ours)))
    }
}

impl Watch {
    /// A backup is as good without it: that the server could not be looked at to the end is only told.
    pub(crate) async fn end(mut self, context: &Context) -> Result<()> {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.join().await?
        {
            context.cancel.check()?;
            context.warn(format!("the limits of reading were not kept to the end: {error}"), None);
        }
        Ok(())
    }
}

/// A statement that runs.
#[derive(Debug)]
pub(crate) struct Passed(Arc<AtomicU64>);

impl Drop for Passed {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn watch(context: Context, mut load: Load, gate: watch::Sender<bool>, stop: Cancel) -> Result<()> {
    let mut paused = Duration::ZERO;
    while stop.race(context.clock.sleep(LOOK_EVERY)).await.is_ok() {
        let too_much = load.too_much().await?;
        if paused >= PAUSES_MAX {
            let message = format!(
                "reading paused for {} s and goes on now in spite of the limit",
                paused.as_secs()
            );
            context.warn(
                message,
                Some("take backups at a quieter time, or of a replica".to_owned()),
            );
            break;
        }
        if !*gate.borrow() {
            paused += LOOK_EVERY;
        }
        if let Some(why) = &too_much
            && *gate.borrow()
        {
            context.note(format!("reading pauses: {why}"));
        }
        gate.send_replace(too_much.is_none());
    }
    if !paused.is_zero() {
        context.note(format!("reading paused for {} s in all", paused.as_secs()));
    }
    load.connection.close().await;
    Ok(())
}

/// What the server has to do.
struct Load {
    connection: Connection,
    limit: Limit,
    ours: Arc<AtomicU64>,
    replica: &'static str,
    behind: [&'static str; 2],
}

impl Load {
    fn new(connection: Connection, facts: &Facts, limit: Limit, ours: Arc<AtomicU64>) -> Self {
        let old = facts.version.flavour == Flavour::MariaDb || facts.version.numeric() < REPLICA_SINCE;
        let replica = match (facts.version.flavour, old) {
            (Flavour::MariaDb, _) => "SHOW ALL SLAVES STATUS",
            (_, true) => "SHOW SLAVE STATUS",
            (_, false) => "SHOW REPLICA STATUS",
        };
        Self {
            connection,
            limit,
            ours,
            replica,
            behind: ["Seconds_Behind_Source", "Seconds_Behind_Master"],
        }
    }

    /// What there is too much of, if there is.
    async fn too_much(&mut self) -> std::result::Result<Option<String>, MysqlError> {
        if let Some(most) = self.limit.threads_running {
            let answer = self
                .connection
                .query("SHOW GLOBAL STATUS LIKE 'Threads_running'")
                .await?;
            let running = answer.rows.first().and_then(|row| row.number(1)).unwrap_or(0);
            // This one runs, too.
            let others = running.saturating_sub(self.ours.load(Ordering::Acquire) + 1);
            if others > most {
                return Ok(Some(format!("{others} threads run on the server (limit: {most})")));
            }
        }
        if let Some(most) = self.limit.lag {
            let answer = self.connection.query(self.replica).await?;
            let column = answer
                .columns
                .iter()
                .position(|name| self.behind.contains(&name.as_str()));
            // A replica that was stopped says NULL: it will not catch up while it is waited for.
            let lags = answer.rows.iter().filter_map(|row| row.number(column?));
            let lag = Duration::from_secs(lags.max().unwrap_or(0));
            if lag > most {
                return Ok(Some(format!(
                    "the replica is {} s behind (limit: {} s)",
                    lag.as_secs(),
                    most.as_secs()
                )));
            }
        }
        Ok(None)
    }
}
