//! What a running server holds is compared with what was captured, key by key.
//!
//! The stored snapshot is walked again, and each key it holds is asked for (`DUMP`) and walked as well; names, types, expiries and
//! digests of the content must be equal. So it needs no fork of the server, is right beside keys that are none of ours, and can say
//! which key differs. On a server that was empty before, there must be no other keys in the end.
//!
//! Keys and fields whose time comes before the proof ends are left out on both sides, by one moment that lies ahead; if the proof is
//! slower than that, it begins anew with a later one.

use std::sync::mpsc as threads;
use std::sync::{Arc, Mutex, PoisonError};

use ballast_redis::{
    Connection, ContentDigest, Dumps, Info, KeyFact, KeyKind, RdbFeed, RdbSummary, WalkOptions, shown_key,
};
use tokio::sync::mpsc;

use super::load::pass;
use super::load_plan::RedisLoadPlan;
use super::proof::RedisProof;
use crate::context::Context;
use crate::error::{ProtectError, Result};

/// The first proof has this long, and twice as long each time it was slower.
const PROOF_WAIT_MS: i64 = 60_000;
const TRIES_MAX: u32 = 8;
/// Keys that are known and not yet asked for.
const KEYS_WAITING_MAX: usize = 4096;
/// Keys asked for at once, while no more than this many are on their way …
const KEYS_TOGETHER: usize = 512;
const KEYS_ON_THE_WAY: usize = 256;
/// … or of so many bytes: the server holds its answers in memory.
const BYTES_TOGETHER: u64 = 4 * 1024 * 1024;
/// Keys that differ and are named.
const NAMED_MAX: usize = 10;

/// A key to ask for.
struct Wanted {
    database: u32,
    name: Vec<u8>,
    bytes: u64,
}

/// What must come back.
#[derive(PartialEq, Eq)]
struct Expected {
    database: u32,
    name: Vec<u8>,
    kind: KeyKind,
    expires_at: Option<i64>,
    digest: ContentDigest,
}

impl Expected {
    fn new(fact: &KeyFact<'_>) -> Self {
        Self {
            database: fact.database,
            name: fact.name.to_vec(),
            kind: fact.kind,
            expires_at: fact.expires_at,
            digest: fact.digest,
        }
    }

    fn is_key(&self, other: &Self) -> bool {
        self.database == other.database && self.name == other.name
    }

    fn says(&self, what: &str) -> String {
        format!("key \"{}\" of database {} {what}", shown_key(&self.name), self.database)
    }
}

/// Keys that differ, as they are found.
#[derive(Default)]
struct Differing {
    named: Vec<String>,
    more: u64,
}

impl Differing {
    fn add(&mut self, text: String) {
        if self.named.len() < NAMED_MAX {
            self.named.push(text);
        } else {
            self.more += 1;
        }
    }
}

pub(super) async fn prove(context: &Context, plan: &RedisLoadPlan) -> Result<RedisProof> {
    let mut wait = PROOF_WAIT_MS;
    for _ in 0..TRIES_MAX {
        let gone_until = context.clock.now().as_millisecond().saturating_add(wait);
        let (captured, found, differing) = Box::pin(compare(context, plan, gone_until)).await?;
        if context.clock.now().as_millisecond() >= gone_until {
            wait = wait.saturating_mul(2);
            continue;
        }
        let gone = captured.databases.values().map(|database| database.gone).sum();
        let mut told = differing.named;
        if differing.more > 0 {
            told.push(format!("{} more keys", differing.more));
        }
        told.extend(captured.differences(&found));
        if plan.selection.is_all() {
            told.extend(strangers(context, plan, &captured).await?);
        }
        return Ok(RedisProof {
            keys_expected: captured.keys(),
            keys_found: found.keys(),
            keys_expired: gone,
            keys_with_expiry: found.expiring(),
            digest: captured.digest().to_string(),
            position_equal: None,
            digest_equal: captured.digest() == found.digest(),
            differing: told,
        });
    }
    Err(ProtectError::failed(format!(
        "the keys on the target could not be read within {} s",
        wait / 1000
    )))
}

async fn compare(
    context: &Context,
    plan: &RedisLoadPlan,
    gone_until: i64,
) -> Result<(RdbSummary, RdbSummary, Differing)> {
    let (wanted, mut waiting) = mpsc::channel(KEYS_WAITING_MAX);
    let (expected, to_come) = threads::channel();
    let options = WalkOptions {
        gone_until: Some(gone_until),
        only: plan.selection.clone(),
    };
    let captured = RdbFeed::of_keys(options.clone(), move |fact| {
        // Who no longer listens has failed, and says so.
        drop(expected.send(Expected::new(fact)));
        drop(wanted.blocking_send(Wanted {
            database: fact.database,
            name: fact.name.to_vec(),
            bytes: fact.to - fact.from,
        }));
    });
    let differing = Arc::new(Mutex::new(Differing::default()));
    let to_come = Arc::new(Mutex::new(to_come));
    let (noting, coming) = (Arc::clone(&differing), Arc::clone(&to_come));
    let found = RdbFeed::of_keys(options, move |fact| {
        let mut differing = noting.lock().unwrap_or_else(PoisonError::into_inner);
        let coming = coming.lock().unwrap_or_else(PoisonError::into_inner);
        let there = Expected::new(fact);
        while let Ok(wanted) = coming.recv() {
            if !wanted.is_key(&there) {
                differing.add(wanted.says("is not there"));
                continue;
            }
            if wanted.kind != there.kind {
                differing.add(wanted.says("is of another type"));
            } else if wanted.expires_at != there.expires_at {
                differing.add(wanted.says("ends at another moment"));
            } else if wanted.digest != there.digest {
                differing.add(wanted.says("has another content"));
            }
            break;
        }
    });
    let connection = Connection::open(&plan.address, &context.cancel).await?;
    let functions = plan.selection.is_all();
    let mut dumps = Dumps::begin(connection, &plan.facts.version, functions).await?;
    let read = async {
        let mut held: Vec<Wanted> = Vec::new();
        let mut is_open = true;
        loop {
            while is_open && dumps.waiting() <= KEYS_ON_THE_WAY {
                if held.is_empty() {
                    is_open = waiting.recv_many(&mut held, KEYS_TOGETHER).await > 0;
                    continue;
                }
                let (database, names) = together(&mut held);
                let bytes_are_many = held.first().is_some_and(|next| next.database == database);
                dumps.ask(database, names).await?;
                if bytes_are_many {
                    break;
                }
            }
            match dumps.next().await? {
                Some(portion) => {
                    if !found.push(portion).await {
                        break;
                    }
                }
                None if is_open || !held.is_empty() => {
                    if !held.is_empty() {
                        let (database, names) = together(&mut held);
                        dumps.ask(database, names).await?;
                    }
                }
                None => break,
            }
        }
        found.push(dumps.end().await).await;
        Ok::<_, ProtectError>(found.finish().await?)
    };
    // The first that fails ends both.
    let (captured, found) = tokio::try_join!(pass(context, plan, captured, "prove"), read)?;
    let mut differing = std::mem::take(&mut *differing.lock().unwrap_or_else(PoisonError::into_inner));
    let coming = to_come.lock().unwrap_or_else(PoisonError::into_inner);
    while let Ok(missing) = coming.try_recv() {
        differing.add(missing.says("is not there"));
    }
    Ok((captured, found, differing))
}

/// The next keys of one database, as many as go together.
fn together(held: &mut Vec<Wanted>) -> (u32, Vec<Vec<u8>>) {
    let database = held.first().map_or(0, |wanted| wanted.database);
    let mut bytes = 0;
    let count = held
        .iter()
        .take_while(|wanted| {
            let goes = wanted.database == database && bytes < BYTES_TOGETHER;
            bytes += wanted.bytes;
            goes
        })
        .count();
    (database, held.drain(..count).map(|wanted| wanted.name).collect())
}

/// Keys that are none of the backup's, on a server that had none.
async fn strangers(context: &Context, plan: &RedisLoadPlan, captured: &RdbSummary) -> Result<Vec<String>> {
    let mut connection = Connection::open(&plan.address, &context.cancel).await?;
    let there = Info::read(&mut connection).await?.databases();
    connection.close().await;
    let mut found = Vec::new();
    for (number, (keys, _)) in there {
        let expected = captured.databases.get(&number);
        // One whose time has come may still be counted; ours is what the load remembers.
        let most = expected.map_or(0, |database| database.keys + database.gone) + u64::from(number == 0);
        if keys > most {
            found.push(format!(
                "database {number} has {} keys that are not in the backup",
                keys - most
            ));
        }
    }
    Ok(found)
}
