//! Watches how far the recorder is behind, against what the server holds for it: said before the server drops it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ballast_base::{Task, format_bytes, spawn};
use ballast_redis::{Connection, Facts, Info, RedisError, ServerAddress};

use crate::context::Context;

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What a stock server has, where the account may not read its settings.
const OUTPUT_BYTES: u64 = 256 * 1024 * 1024;
const BACKLOG_BYTES: u64 = 1024 * 1024;
/// It is said from this share of the room on…
const SHARE: u64 = 2;
/// … and again only after it was less than this.
const SHARE_AGAIN: u64 = 4;

pub(super) fn watch_headroom(
    context: &Context,
    address: &ServerAddress,
    server: &Facts,
    received: Arc<AtomicU64>,
) -> Task<()> {
    let (context, address, room) = (context.clone(), address.clone(), Room::of(server));
    spawn("headroom", async move {
        let (mut connection, mut told) = (None, false);
        while context.cancel.race(context.clock.sleep(LOOK_EVERY)).await.is_ok() {
            // Taken before the question: what comes meanwhile makes it look like more.
            let here = received.load(Ordering::Relaxed);
            let Ok(there) = look(&context, &address, &mut connection).await else {
                connection = None;
                continue;
            };
            let behind = there.saturating_sub(here);
            if behind > room.output / SHARE && !told {
                told = true;
                let message = format!(
                    "the recorder is {} behind the server, which drops it at {}",
                    format_bytes(behind),
                    format_bytes(room.output)
                );
                let hint = format!(
                    "CONFIG SET client-output-buffer-limit \"replica {} 0 0\" gives it more room; from {} on a connection that is cut costs \
                     the commands in between, unless repl-backlog-size is larger",
                    room.output.saturating_mul(4),
                    format_bytes(room.backlog)
                );
                context.warn(message, Some(hint));
            } else if behind < room.output / SHARE_AGAIN {
                told = false;
            }
        }
    })
}

/// How much the server holds for who is behind.
struct Room {
    /// Larger than this, and the connection is closed.
    output: u64,
    /// As much can be had again after a cut.
    backlog: u64,
}

impl Room {
    fn of(server: &Facts) -> Self {
        let limits = server.setting("client-output-buffer-limit").unwrap_or_default();
        let words: Vec<&str> = limits.split(' ').collect();
        let class = words.iter().position(|word| matches!(*word, "slave" | "replica"));
        let numbers = class.and_then(|at| words.get(at + 1..at + 3)).unwrap_or_default();
        let limits = numbers
            .iter()
            .filter_map(|word| word.parse().ok())
            .filter(|limit| *limit > 0);
        Self {
            output: limits.min().unwrap_or(OUTPUT_BYTES),
            backlog: server.setting_number("repl-backlog-size").unwrap_or(BACKLOG_BYTES),
        }
    }
}

async fn look(
    context: &Context,
    address: &ServerAddress,
    connection: &mut Option<Connection>,
) -> Result<u64, RedisError> {
    let connection = match connection {
        Some(connection) => connection,
        none => none.insert(Connection::open(address, &context.cancel).await?),
    };
    let position = Info::read(connection).await?.position();
    position.map(|position| position.offset).ok_or(RedisError::Protocol {
        what: "INFO names no offset".to_owned(),
    })
}
