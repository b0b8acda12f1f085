//! Where a server gives no snapshot (an account without `PSYNC`, a managed service): all keys one by one, by `SCAN` and `DUMP`.
//!
//! What comes of it is put together to a snapshot and kept, walked and restored like one. But it is not of one moment: each key is as it
//! was when it was read, between the begin and the end, and what belongs together may have been read on both sides of a change.
//! A key that is there all the time is in it; one that was made or removed meanwhile may be. So it says of itself that it is no point
//! in time, has no position that a log could lead on from, and is taken unasked only with a result that says so (exit 3).

use std::collections::BTreeSet;

use ballast_redis::{Connection, Dumps, Facts, KeyScan, RdbFeed, RedisError, ServerAddress, WalkOptions};
use ballast_repository::BackupWriter;

use super::cutter::Cutter;
use super::record::RedisRecord;
use super::snapshot::{Storing, file_name, not_whole};
use crate::context::Context;
use crate::error::{ProtectError, Result};
use crate::mysql::taken::Taken;
use crate::position::Position;
use crate::settings::Engine;

/// The first release that says when a key ends.
const RELEASE_MIN: (u16, u16, u16) = (7, 0, 0);
/// Keys asked for while no more than this many are on their way …
const KEYS_ON_THE_WAY: usize = 256;
/// … and no more at once than are taken to be of so many bytes: the server holds its answers in memory.
const BYTES_TOGETHER: u64 = 4 * 1024 * 1024;

/// Why the server would not let its keys be read either; `None` if it would. Only reads.
pub(super) async fn obstacle(context: &Context, address: &ServerAddress, facts: &Facts) -> Result<Option<String>> {
    if facts.version.numeric() < RELEASE_MIN {
        return Ok(Some(format!("{} does not say when a key ends", facts.version)));
    }
    let mut connection = Connection::open(address, &context.cancel).await?;
    const QUESTIONS: [&[&[u8]]; 5] = [
        &[b"SELECT", b"0"],
        &[b"SCAN", b"0", b"COUNT", b"1"],
        &[b"PEXPIRETIME", b"x"],
        &[b"DUMP", b"x"],
        &[b"FUNCTION", b"DUMP"],
    ];
    for words in QUESTIONS {
        match connection.command(words).await {
            Ok(_) => {}
            Err(RedisError::Server { message }) => {
                connection.close().await;
                return Ok(Some(message));
            }
            Err(error) => return Err(error.into()),
        }
    }
    connection.close().await;
    Ok(None)
}

/// The line that lets an account read keys one by one.
pub(super) fn rights_line(account: &str) -> String {
    format!(
        "ACL SETUSER {account} ~* +info +select +scan +dump +pexpiretime +function|dump +acl|whoami +config|get +client|setname +client|list"
    )
}

pub(super) async fn take(
    context: &Context,
    address: &ServerAddress,
    facts: &Facts,
    writer: BackupWriter,
) -> Result<(Taken, RedisRecord)> {
    let snapshot_at = context.clock.now();
    let open = || Connection::open(address, &context.cancel);
    let mut scan = KeyScan::begin(open().await?).await?;
    let mut dumps = Dumps::begin(open().await?, &facts.version, true).await?;
    let feed = RdbFeed::start(WalkOptions::default());
    let mut storing = Storing::new(writer);
    let (mut cutter, mut pieces) = (Cutter::default(), Vec::new());
    let mut held: Option<(u32, Vec<Vec<u8>>)> = None;
    let (mut is_open, mut keys_read) = (true, 0_u64);
    loop {
        while is_open && dumps.waiting() <= KEYS_ON_THE_WAY {
            let Some((database, mut names)) = held.take() else {
                held = scan.next().await?;
                is_open = held.is_some();
                continue;
            };
            let average = (storing.bytes / keys_read.max(1)).max(1);
            let room = usize::try_from((BYTES_TOGETHER / average).max(1)).unwrap_or(usize::MAX);
            if dumps.waiting() > room {
                held = Some((database, names));
                break;
            }
            let later = names.split_off(names.len().min(room));
            keys_read += names.len() as u64;
            dumps.ask(database, names).await?;
            if !later.is_empty() {
                held = Some((database, later));
            }
        }
        let Some(portion) = dumps.next().await? else {
            if is_open {
                continue;
            }
            break;
        };
        cutter.take(&portion, &mut pieces);
        if !feed.push(portion).await {
            break;
        }
        for piece in pieces.drain(..) {
            storing.store(piece).await?;
        }
        context.progress("keys", storing.bytes, None);
    }
    scan.end().await;
    let end = dumps.end().await;
    cutter.take(&end, &mut pieces);
    feed.push(end).await;
    let walked = feed.finish().await.map_err(|error| not_whole(error.into()))?;
    pieces.extend(cutter.finish());
    for piece in pieces {
        storing.store(piece).await?;
    }
    if walked.bytes != storing.bytes {
        let message = format!("{} bytes were stored of {}", storing.bytes, walked.bytes);
        return Err(not_whole(ProtectError::failed(message)));
    }
    let record = RedisRecord {
        snapshot: walked,
        server: facts.version.clone(),
        append_only: facts.info.is_on("aof_enabled"),
    };
    let taken = Taken {
        files: vec![(file_name(), storing.bytes, storing.content)],
        writer: storing.writer,
        engine: Engine::Logical,
        annex: record.to_json()?,
        tables: BTreeSet::new(),
        missing: Vec::new(),
        position: Position::default(),
        snapshot_at,
        bytes_source: storing.bytes,
    };
    Ok((taken, record))
}
