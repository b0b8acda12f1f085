//! One backup of a Redis at a time, and one load into it, as `mysql/lease.rs` says for a MySQL.
//!
//! A Redis has no named locks, and an account for backups may write no key. So whoever holds gives a connection a name
//! (`CLIENT SETNAME`) and then looks who has one like it (`CLIENT LIST`): the connection the server numbered first is the holder. A name is
//! given before anybody looks, and the server does one thing at a time, so of two at least the later one sees the other. The lock dies
//! with the connection; one whose holder was silent for [`SILENCE_MAX`] does not count.

use std::time::Duration;

use ballast_base::{Cancel, Task, random_hex, spawn};
use ballast_redis::{Connection, RedisError, ServerAddress};

use crate::context::Context;
use crate::error::Result;
use crate::mysql::lease::Alone;

/// A holder that just ended is given this long to be noticed.
const WAIT_MAX: Duration = Duration::from_millis(500);
const ASK_EVERY: Duration = Duration::from_millis(50);
/// A holder whose machine vanished holds for this long at most.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How often a holder shows that it lives.
const SIGN_EVERY: Duration = Duration::from_secs(15);

/// The lock, held until it is released or dropped.
#[derive(Debug)]
pub(crate) struct RedisLease {
    done: Cancel,
    keeper: Task<()>,
}

impl RedisLease {
    /// Takes it, or says who holds it. `None` where the account may not: the work goes on without, and a warning says so.
    pub(crate) async fn take(
        context: &Context,
        alone: Alone,
        subject: &str,
        address: &ServerAddress,
    ) -> Result<Option<Self>> {
        let open = async { Connection::open(address, &Cancel::new()).await };
        let mut connection = context.cancel.race(open).await??;
        match context.cancel.race(lock(context, alone, &mut connection)).await? {
            Ok(None) => {}
            Ok(Some(holder)) => {
                connection.close().await;
                return Err(alone.held(subject, &holder));
            }
            Err(error @ RedisError::Server { .. }) => {
                let message = format!("{} cannot be kept away while this one runs: {error}", alone.others());
                context.warn(
                    message,
                    Some(
                        "see to it that no other one is started, or as an administrator: ACL SETUSER NAME +client|setname +client|list"
                            .to_owned(),
                    ),
                );
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

/// Who holds it, if it is not us.
async fn lock(
    context: &Context,
    alone: Alone,
    connection: &mut Connection,
) -> std::result::Result<Option<String>, RedisError> {
    let kind = alone.lock().replace(' ', "-");
    let host: String = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .chars()
        .filter(|letter| letter.is_ascii_graphic() && *letter != '/')
        .collect();
    let (pid, since) = (std::process::id(), context.clock.now().strftime("%FT%TZ"));
    let name = format!("{kind}/{pid}/{host}/{since}/{}", random_hex(4));
    connection.command(&[b"CLIENT", b"SETNAME", name.as_bytes()]).await?;
    let give_up_at = context.clock.elapsed() + WAIT_MAX;
    loop {
        let list = connection.command(&[b"CLIENT", b"LIST"]).await?;
        let found = holder(&list.text().unwrap_or_default(), &kind, &name);
        if found.is_none() || context.clock.elapsed() > give_up_at {
            return Ok(found);
        }
        context.clock.sleep(ASK_EVERY).await;
    }
}

/// The first connection of this kind, if it is not `own`.
fn holder(list: &str, kind: &str, own: &str) -> Option<String> {
    let mut found: Vec<(u64, &str, &str)> = list.lines().filter_map(|line| client(line, kind)).collect();
    found.sort_unstable();
    let (_, name, place) = found.first().copied().filter(|(_, name, _)| *name != own)?;
    let mut parts = name.split('/').skip(1);
    Some(match (parts.next(), parts.next(), parts.next()) {
        (Some(pid), Some(host), Some(since)) => format!("process {pid} on host \"{host}\" since {since}"),
        _ => format!("a connection from {place}"),
    })
}

/// Number, name and address of a client of this kind that was heard of lately.
fn client<'a>(line: &'a str, kind: &str) -> Option<(u64, &'a str, &'a str)> {
    let (mut id, mut name, mut place, mut idle) = (None, None, "?", 0);
    for (field, value) in line.split(' ').filter_map(|field| field.split_once('=')) {
        match field {
            "id" => id = value.parse().ok(),
            "addr" => place = value,
            "name" => name = Some(value),
            "idle" => idle = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    let name = name.filter(|name| name.split('/').next() == Some(kind))?;
    (idle <= SILENCE_MAX.as_secs()).then_some((id?, name, place))
}

/// Shows the server now and then that we live.
async fn keep(context: Context, alone: Alone, mut connection: Connection, done: Cancel) {
    while done.race(context.clock.sleep(SIGN_EVERY)).await.is_ok() {
        match done.race(connection.command(&[b"PING"])).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let message = format!("the lock that keeps {} away is lost: {error}", alone.others());
                context.warn(message, Some("see to it that no other one is started".to_owned()));
                return;
            }
            Err(_) => return,
        }
    }
    connection.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_lives_holds_it() {
        let list = "id=9 addr=10.0.0.1:7 name=ballast-backup/7/db1/2026-11-25T10:00:00Z/aa idle=3 flags=N\n\
                    id=4 addr=10.0.0.1:6 name=ballast-backup/6/db2/2026-11-25T09:00:00Z/bb idle=61\n\
                    id=11 addr=10.0.0.1:8 name=ballast-backup/8/db3/2026-11-25T10:00:01Z/cc idle=0\n\
                    id=2 addr=10.0.0.1:9 name=ballast-load/9/db3/2026-11-25T10:00:01Z/dd idle=0\nid=1 addr=x name= idle=0\n";
        let of = |own| holder(list, "ballast-backup", own);
        let expected = "process 7 on host \"db1\" since 2026-11-25T10:00:00Z";
        assert_eq!(
            of("ballast-backup/8/db3/2026-11-25T10:00:01Z/cc").as_deref(),
            Some(expected)
        );
        assert_eq!(of("ballast-backup/7/db1/2026-11-25T10:00:00Z/aa"), None);
        assert_eq!(holder(list, "ballast-archive", "x"), None);
    }
}
