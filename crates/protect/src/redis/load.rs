//! Loads a backup of a Redis into a running server, and proves it there.
//!
//! # Why straight from the snapshot
//! A value of a snapshot is, byte for byte, what `RESTORE` takes (`redis/restore_commands.rs`). A private server in between would need room
//! for all of it, a program that fits, and the time of one more load, and its `DUMP` would give the same bytes. So the stored
//! snapshot is walked and each key sent on as it passes; nothing is staged, and memory does not depend on how large a key is.
//!
//! # In this order
//! 1. The lock, so that no other load of ours is at it.
//! 2. The whole backup is read and walked once: damage, a type or a size the server does not take, a key that is there already,
//!    too little memory and a right that lacks are found now, while nothing has been written.
//! 3. With `--replace` the server is emptied: the first step that cannot be taken back.
//! 4. What is being loaded is written down on the server (`load_book.rs`), so that a load that dies goes on.
//! 5. Keys. 6. The proof (`load_proof.rs`). 7. What was written down is removed.

use ballast_redis::{
    Connection, LoadNeeds, Loader, Names, RdbFeed, Reply, RestoreOptions, WalkOptions, load_needs, payload_version,
    refuse_load, restore_commands, shown_key,
};
use ballast_repository::BackupReader;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;

use super::lease::RedisLease;
use super::load_book::Book;
use super::load_plan::{RedisLoadPlan, refuse_key};
use super::load_proof::prove;
use super::proof::RedisProof;
use super::restore::{RedisExpected, RedisReached};
use crate::context::{Context, StepTime, Steps};
use crate::error::{ErrorKind, ProtectError, Result};
use crate::mysql::lease::Alone;
use crate::position::Position;

/// How often it is written down how far the load is.
const NOTED_EVERY_BYTES: u64 = 16 * 1024 * 1024;
/// Batches of names that wait to be looked up.
const NAMES_WAITING_MAX: usize = 4;
/// Keys in the way that are named.
const NAMED_MAX: usize = 5;

/// What a load came to.
#[derive(Debug, serde::Serialize)]
pub struct RedisLoadOutcome {
    pub backup: String,
    pub repository: String,
    pub target: String,
    pub only: Vec<String>,
    pub reached: RedisReached,
    pub expected: RedisExpected,
    pub proof: RedisProof,
    /// Keys that were there and were replaced, of those that were chosen.
    pub keys_replaced: u64,
    /// Bytes of the snapshot that an earlier load had loaded.
    pub went_on_from: Option<u64>,
    pub steps: Vec<StepTime>,
    pub seconds: f64,
}

/// Loads and proves. What it is refused for, it is refused before anything is written.
pub async fn load_redis(context: &Context, plan: RedisLoadPlan) -> Result<RedisLoadOutcome> {
    let place = plan.address.place();
    let lease = RedisLease::take(context, Alone::Load, &place, &plan.address).await?;
    let outcome = Box::pin(load_held(context, &plan)).await;
    if let Some(lease) = lease {
        lease.release().await?;
    }
    outcome
}

async fn load_held(context: &Context, plan: &RedisLoadPlan) -> Result<RedisLoadOutcome> {
    let mut steps = context.steps();
    let (needs, in_the_way) = steps.run("check", Box::pin(check(context, plan))).await?;
    let proof = Box::pin(write(context, plan, needs, &mut steps)).await?;
    let (steps, seconds) = steps.finish();
    Ok(RedisLoadOutcome {
        backup: plan.backup.id.clone(),
        repository: plan.repository.clone(),
        target: plan.target.clone(),
        only: plan.only.clone(),
        reached: RedisReached {
            position: plan.record.snapshot.position.as_ref().map(Position::of_redis),
            at: plan.backup.snapshot_at,
            point_in_time: plan.backup.point_in_time != Some(false),
        },
        expected: RedisExpected {
            position: plan.backup.position.clone(),
        },
        proof,
        keys_replaced: in_the_way,
        went_on_from: plan.goes_on_from,
        steps,
        seconds,
    })
}

/// Reads all of the backup, and asks the server for what it will be asked for. How many of the keys are there already.
async fn check(context: &Context, plan: &RedisLoadPlan) -> Result<(LoadNeeds, u64)> {
    let about = format!("target {}", plan.address.place());
    let mut connection = Connection::open(&plan.address, &context.cancel).await?;
    let looks_up = !plan.selection.is_all() && plan.goes_on_from.is_none();
    let (sender, mut names) = mpsc::channel::<Names>(NAMES_WAITING_MAX);
    let (sink, needs) = load_needs(plan.selection.clone(), looks_up.then_some(sender));
    let feed = RdbFeed::of_parts(WalkOptions::default(), sink);
    let walk = pass(context, plan, feed, "check");
    let look = async {
        let mut found = Found::default();
        while let Some((database, names)) = names.recv().await {
            found.look(&mut connection, database, &names).await?;
        }
        Ok::<_, ProtectError>(found)
    };
    let (walked, found) = tokio::try_join!(walk, look)?;
    if walked != plan.record.snapshot {
        let problems = plan.record.snapshot.differences(&walked);
        let message = format!("the stored snapshot is not what was captured: {}", problems.join("; "));
        return Err(ProtectError::new(ErrorKind::Damaged, message));
    }
    let needs = needs
        .recv()
        .map_err(|error| ProtectError::failed("check the backup").because(error))?;
    if needs.keys == 0 && !plan.selection.is_all() {
        return Err(ProtectError::usage(format!(
            "no key of backup {} matches {}",
            plan.backup.id,
            plan.only.join(", ")
        ))
        .hint("patterns are those of KEYS and SCAN, such as 'session:*' or '3/session:*' for database 3"));
    }
    found.refuse(plan, &about)?;
    let flavour = plan.record.server.flavour;
    refuse_load(
        &plan.facts,
        flavour,
        &needs,
        plan.clears() || plan.goes_on_from.is_some(),
    )
    .map_err(|error| ProtectError::from(error).about(&about))?;
    let modules = &plan.record.snapshot.modules;
    if needs.codes.contains_key(&7) {
        let loaded = connection.command(&[b"MODULE", b"LIST"]).await;
        if loaded.is_ok_and(|reply| reply.list().is_empty()) {
            let names: Vec<&str> = modules.iter().map(String::as_str).collect();
            return Err(ProtectError::failed(format!(
                "{about} has no modules, and there are values of modules: {}",
                names.join(", ")
            ))
            .hint("load the modules there first: MODULE LOAD, or loadmodule in its configuration"));
        }
    }
    if needs.highest_database > 0 {
        let number = needs.highest_database.to_string();
        connection
            .command(&[b"SELECT", number.as_bytes()])
            .await
            .map_err(|error| {
                ProtectError::from(error).about(&about).hint(format!(
                    "there are keys in database {number}: start the server with --databases {} or more",
                    needs.highest_database + 1
                ))
            })?;
    }
    if let Some((_, database, name)) = &needs.longest {
        let number = database.to_string();
        connection.command(&[b"SELECT", number.as_bytes()]).await?;
        refuse_key(&mut connection, plan, name).await?;
    }
    connection.close().await;
    Ok((needs, found.count))
}

/// Keys of the backup that the server has already.
#[derive(Default)]
struct Found {
    chosen: Option<u32>,
    count: u64,
    named: Vec<String>,
}

impl Found {
    async fn look(&mut self, connection: &mut Connection, database: u32, names: &[Vec<u8>]) -> Result<()> {
        if self.chosen != Some(database) {
            let number = database.to_string();
            connection.command(&[b"SELECT", number.as_bytes()]).await?;
            self.chosen = Some(database);
        }
        let mut words: Vec<&[u8]> = vec![b"EXISTS"];
        words.extend(names.iter().map(Vec::as_slice));
        let Reply::Integer(there) = connection.command(&words).await? else {
            return Err(ProtectError::failed("EXISTS gave no number"));
        };
        self.count += u64::try_from(there).unwrap_or_default();
        if there == 0 {
            return Ok(());
        }
        for name in names {
            if self.named.len() >= NAMED_MAX {
                break;
            }
            if connection.command(&[b"EXISTS", name]).await? == Reply::Integer(1) {
                self.named
                    .push(format!("\"{}\" of database {database}", shown_key(name)));
            }
        }
        Ok(())
    }

    fn refuse(&self, plan: &RedisLoadPlan, about: &str) -> Result<()> {
        if self.count == 0 || plan.replace {
            return Ok(());
        }
        let message = format!(
            "{about} has {} of these keys already, such as {}",
            self.count,
            self.named.join(", ")
        );
        Err(ProtectError::usage(message).hint("add --replace to replace them; the other keys there stay as they are"))
    }
}

/// Takes the stored snapshot through a walk.
pub(super) async fn pass(
    context: &Context,
    plan: &RedisLoadPlan,
    feed: RdbFeed,
    step: &'static str,
) -> Result<ballast_redis::RdbSummary> {
    let mut stream = BackupReader::new(&plan.from, &plan.manifest)
        .stream(0, 0, &context.cancel)
        .boxed();
    let mut done = 0;
    while let Some(bytes) = stream.try_next().await? {
        done += bytes.len() as u64;
        if !feed.push(bytes).await {
            break;
        }
        context.progress(step, done, Some(plan.record.snapshot.bytes));
    }
    Ok(feed.finish().await?)
}

/// From the first step that cannot be taken back.
async fn write(context: &Context, plan: &RedisLoadPlan, needs: LoadNeeds, steps: &mut Steps) -> Result<RedisProof> {
    let mut connection = Connection::open(&plan.address, &context.cancel).await?;
    let mut book = plan.book.clone();
    if plan.clears() {
        let clear = async {
            connection.command(&[b"FLUSHALL"]).await?;
            if !plan.facts.functions.is_empty() {
                connection.command(&[b"FUNCTION", b"FLUSH"]).await?;
            }
            Ok::<_, ProtectError>(())
        };
        steps.run("clear", clear).await?;
    }
    book.write(&mut connection).await?;
    let loaded = async {
        if !book.loaded {
            let load = load(context, plan, needs, &mut book, &mut connection);
            steps.run("load", Box::pin(load)).await?;
            book.loaded = true;
            book.write(&mut connection).await?;
        }
        steps.run("prove", Box::pin(prove(context, plan))).await
    };
    let proof = loaded.await.map_err(|error: ProtectError| {
        error.and("what was loaded stays on the target; the same command goes on from there")
    })?;
    if !proof.holds() {
        let message = format!(
            "what is on the target is not what was backed up: {}",
            proof.differing.join("; ")
        );
        return Err(ProtectError::new(ErrorKind::Damaged, message).hint(
            "see to it that nobody else writes there and nothing is evicted (maxmemory), then load it anew with --replace",
        ));
    }
    Book::remove(&mut connection).await?;
    connection.close().await;
    Ok(proof)
}

async fn load(
    context: &Context,
    plan: &RedisLoadPlan,
    needs: LoadNeeds,
    book: &mut Book,
    noting: &mut Connection,
) -> Result<()> {
    let (sink, mut batches) = restore_commands(RestoreOptions {
        payload_version: payload_version(plan.record.snapshot.version, &plan.facts.version),
        // What went in and was not noted is loaded again.
        replace: plan.replace || plan.goes_on_from.is_some(),
        from: book.up_to,
        large: needs.large,
    });
    let options = WalkOptions {
        only: plan.selection.clone(),
        ..WalkOptions::default()
    };
    let feed = RdbFeed::of_parts(options, sink);
    let mut loader = Loader::new(Connection::open(&plan.address, &context.cancel).await?);
    let walk = pass(context, plan, feed, "load");
    let send = async {
        while let Some(batch) = batches.recv().await {
            let up_to = loader.send(batch).await?;
            if up_to >= book.up_to + NOTED_EVERY_BYTES {
                book.up_to = up_to;
                book.write(noting).await?;
            }
        }
        loader.finish().await?.close().await;
        Ok::<_, ProtectError>(())
    };
    // The first that fails ends both: one that waits for the other would wait for ever.
    tokio::try_join!(walk, send)?;
    Ok(())
}
