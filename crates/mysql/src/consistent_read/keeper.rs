//! Keeps the connection that holds locks alive while others read: routers drop what is silent, and so does the server,
//! by our own wish (see [`super::session::SILENCE_MAX`]). A lock that is lost is an error when the connection is asked for.

use std::time::Duration;

use ballast_base::{Cancel, Clock as _, SystemClock, Task};

use super::session::SILENCE_MAX;
use crate::{Connection, MysqlError};

const PING_EVERY: Duration = Duration::from_secs(15);
const _: () = assert!(PING_EVERY.as_secs() * 2 < SILENCE_MAX.as_secs(), "one ping may be late");

/// Dropped, it drops the connection, and the server releases what it held.
#[derive(Debug)]
pub(super) struct Keeper {
    stop: Cancel,
    task: Task<Result<Connection, MysqlError>>,
}

impl Keeper {
    /// Lets go by itself after `hold_max`, if there is one.
    pub(super) fn start(connection: Connection, hold_max: Option<Duration>) -> Self {
        let stop = Cancel::new();
        let task = ballast_base::spawn("lock keeper", keep(connection, stop.clone(), hold_max));
        Self { stop, task }
    }

    /// The connection, heard of just now: what it held, it holds.
    pub(super) async fn stop(self) -> Result<Connection, MysqlError> {
        self.stop.cancel();
        self.task.join().await.map_err(|error| MysqlError::Disturbed {
            what: format!("keep the lock: {error}"),
            hint: "try again".to_owned(),
        })?
    }
}

async fn keep(mut connection: Connection, stop: Cancel, hold_max: Option<Duration>) -> Result<Connection, MysqlError> {
    let clock = SystemClock::new();
    loop {
        let left = hold_max.map(|hold_max| hold_max.saturating_sub(clock.elapsed()));
        let wait = left.map_or(PING_EVERY, |left| left.min(PING_EVERY));
        let stopped = stop.race(clock.sleep(wait)).await.is_err();
        connection.execute("DO 1").await.map_err(lost)?;
        if stopped {
            return Ok(connection);
        }
        if let Some(hold_max) = hold_max
            && clock.elapsed() >= hold_max
        {
            connection.close().await;
            return Err(MysqlError::Disturbed {
                what: format!(
                    "the lock was let go after {} s, before it was released: tables without transactions were \
                     still to be read",
                    hold_max.as_secs()
                ),
                hint: "allow a longer hold, or convert the tables to InnoDB".to_owned(),
            });
        }
    }
}

fn lost(error: MysqlError) -> MysqlError {
    match error {
        cancelled @ MysqlError::Cancelled(_) => cancelled,
        error => MysqlError::Disturbed {
            what: format!("the connection that held the lock was lost while rows were read: {error}"),
            hint: "try again; see who ends connections (KILL, a proxy's time limit, a restart of the server)"
                .to_owned(),
        },
    }
}
