//! One backup of a server at a time, whoever starts it and from wherever.
//!
//! A donor serves one clone, and a second one that begins at a bad moment takes it from the first. So a backup holds a named
//! lock of the donor itself (`GET_LOCK`) on a connection of its own: the lock lies where the conflict is, needs no privilege, is the
//! same for every host and for every name a configuration gives the server, and dies with the connection.
//!
//! A process that ends, also by `kill -9`, closes its connection, and the lock is free at once. A machine that vanishes
//! closes nothing; the server ends a connection that was silent for [`SILENCE_MAX`], which a living holder never is.
//! The lock keeps others from starting; it does not guard data: a backup that lost it, because somebody ended its
//! connection, fails or is whole as any other.
//!
//! A load into a server holds a lock of that server in the same way, by another name; so does whoever follows its log.

use std::time::Duration;

use ballast_base::{Cancel, Task, spawn};
use ballast_mysql::{
    Connection, HOST_ATTRIBUTE, MysqlError, PID_ATTRIBUTE, SINCE_ATTRIBUTE, ServerAddress, quote_text,
};

use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};

/// What is done to the server one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alone {
    Backup,
    Load,
    Archive,
}

impl Alone {
    /// The lock's name on the server.
    pub(crate) fn lock(self) -> &'static str {
        match self {
            Self::Backup => "ballast backup",
            Self::Load => "ballast load",
            Self::Archive => "ballast archive",
        }
    }

    pub(crate) fn others(self) -> &'static str {
        match self {
            Self::Backup => "other backups of this server",
            Self::Load => "other loads into this server",
            Self::Archive => "other archives of this server's log",
        }
    }

    /// Of `subject`, a source or the place of a target.
    pub(crate) fn held(self, subject: &str, holder: &str) -> ProtectError {
        let (message, hint) = match self {
            Self::Backup => (
                format!("source \"{subject}\" is being backed up by {holder}"),
                "one backup of a server runs at a time: wait for that one to end, then try again",
            ),
            Self::Load => (
                format!("a backup is being loaded into {subject} by {holder}"),
                "one load into a server runs at a time: wait for that one to end, then try again",
            ),
            Self::Archive => (
                format!("the log of source \"{subject}\" is followed by {holder}"),
                "one archive of a server's log runs at a time: end that one first",
            ),
        };
        ProtectError::new(ErrorKind::Held, message).hint(hint)
    }
}

/// A holder that just ended is given this long to be noticed.
const WAIT_MAX: Duration = Duration::from_millis(500);
const ASK_EVERY: Duration = Duration::from_millis(50);
/// A holder whose machine vanished holds for this long at most.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How often a holder shows that it lives.
const SIGN_EVERY: Duration = Duration::from_secs(15);
/// An answer to such a sign comes within this time, or the connection is lost.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);

/// The lock, held until it is released or dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    done: Cancel,
    keeper: Task<()>,
}

impl Lease {
    /// Takes it, or says who holds it. `None` where the server has no such locks for us: the work goes on without, and a warning says so.
    pub(crate) async fn take(
        context: &Context,
        alone: Alone,
        subject: &str,
        address: &ServerAddress,
    ) -> Result<Option<Self>> {
        // Not the run's own: an interrupted backup holds the lock until the donor was told of the end.
        let open = async { Connection::open(address, &Cancel::new()).await };
        let mut connection = context.cancel.race(open).await??;
        connection.set_read_timeout(ANSWER_WAIT_MAX);
        match context.cancel.race(lock(context, alone, &mut connection)).await? {
            Ok(true) => {}
            Ok(false) => {
                let holder = context.cancel.race(holder(alone, &mut connection)).await??;
                connection.close().await;
                return Err(alone.held(subject, &holder));
            }
            Err(error @ MysqlError::Server { .. }) => {
                let message = format!("{} cannot be kept away while this one runs: {error}", alone.others());
                context.warn(message, Some("see to it that no other one is started".to_owned()));
                connection.close().await;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        let done = Cancel::new();
        let keeper = spawn(
            "hold the server",
            keep(context.clone(), alone, connection, done.clone()),
        );
        Ok(Some(Self { done, keeper }))
    }

    pub(crate) async fn release(self) -> Result<()> {
        self.done.cancel();
        Ok(self.keeper.join().await?)
    }
}

async fn lock(context: &Context, alone: Alone, connection: &mut Connection) -> std::result::Result<bool, MysqlError> {
    let silence = SILENCE_MAX.as_secs();
    connection
        .execute(&format!("SET SESSION wait_timeout = {silence}"))
        .await?;
    let give_up_at = context.clock.elapsed() + WAIT_MAX;
    // Asked again and again instead of waited for: a holder takes a waiting statement for a long one and does not hold commits.
    let ask = format!("SELECT GET_LOCK({}, 0)", quote_text(alone.lock()));
    while connection.value(&ask).await?.as_deref() != Some("1") {
        if context.clock.elapsed() > give_up_at {
            return Ok(false);
        }
        context.clock.sleep(ASK_EVERY).await;
    }
    Ok(true)
}

/// Shows the server now and then that we live.
async fn keep(context: Context, alone: Alone, mut connection: Connection, done: Cancel) {
    while done.race(context.clock.sleep(SIGN_EVERY)).await.is_ok() {
        match done.race(connection.execute("DO 0")).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let message = format!("the lock that keeps {} away is lost: {error}", alone.others());
                context.warn(message, Some("see to it that no other one is started".to_owned()));
                return;
            }
            // Released while the server is slow to answer: closing the connection is enough.
            Err(_) => return,
        }
    }
    connection.close().await;
}

/// Who holds the lock, as exactly as this account may see.
async fn holder(alone: Alone, connection: &mut Connection) -> std::result::Result<String, MysqlError> {
    let lock = quote_text(alone.lock());
    let id = connection.value(&format!("SELECT IS_USED_LOCK({lock})")).await?;
    let Some(id) = id.and_then(|id| id.parse::<u64>().ok()) else {
        return Ok("another run, which has just ended".to_owned());
    };
    let mut said = [None, None, None];
    for (name, value) in [PID_ATTRIBUTE, HOST_ATTRIBUTE, SINCE_ATTRIBUTE].iter().zip(&mut said) {
        let attribute = format!(
            "SELECT ATTR_VALUE FROM performance_schema.session_account_connect_attrs \
             WHERE PROCESSLIST_ID = {id} AND ATTR_NAME = {}",
            quote_text(name)
        );
        *value = optional(connection, &attribute).await?;
    }
    if let [Some(pid), Some(host), Some(since)] = said {
        return Ok(format!("process {pid} on host \"{host}\" since {since}"));
    }
    // An account of another name shows this much, to those with the privilege PROCESS.
    let place = format!("SELECT CONCAT(USER, '@', HOST) FROM information_schema.PROCESSLIST WHERE ID = {id}");
    Ok(match optional(connection, &place).await? {
        Some(place) => format!("connection {id} of {place}"),
        None => format!("connection {id} of another account"),
    })
}

/// What was found and can be shown; nothing where this account may not look.
async fn optional(connection: &mut Connection, sql: &str) -> std::result::Result<Option<String>, MysqlError> {
    match connection.value(sql).await {
        Ok(found) => Ok(found.map(|text| text.chars().filter(|c| !c.is_control()).collect())),
        Err(MysqlError::Server { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
