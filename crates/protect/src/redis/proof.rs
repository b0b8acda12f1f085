//! A private server loads what was restored, and what it holds is compared with what was captured: keys, types, expiries and a
//! digest of the content.
//!
//! Keys whose time has come since the backup are gone from any server that is started now. They are left out on both sides, by
//! one moment: the server is asked for its data before that moment has come, and if it was slower the moment is moved.

use std::path::Path;

use ballast_redis::{
    DataForm, RdbFeed, RdbSummary, Snapshot, SyncOptions, ThrowawayOptions, ThrowawayServer, WalkOptions, walk,
};

use super::restore_plan::RedisRestorePlan;
use crate::context::Context;
use crate::error::{ProtectError, Result};

/// The server has this long until it has forked; doubled each time it was slower.
const FORK_WAIT_MS: i64 = 10_000;
const TRIES_MAX: u32 = 6;

/// What a restored directory was found to hold.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RedisProof {
    pub keys_expected: u64,
    pub keys_found: u64,
    /// Keys whose time has come since the backup: no server holds them any more.
    pub keys_expired: u64,
    pub keys_with_expiry: u64,
    /// Over names, types, expiries and contents.
    pub digest: String,
    pub digest_equal: bool,
    /// With commands on top: whether the server took all of them, so that it stands where they end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position_equal: Option<bool>,
    pub differing: Vec<String>,
}

impl RedisProof {
    pub fn holds(&self) -> bool {
        self.digest_equal && self.differing.is_empty()
    }
}

pub(super) async fn prove(
    context: &Context,
    plan: &RedisRestorePlan,
    folder: &Path,
    databases: u32,
) -> Result<RedisProof> {
    let mut options = ThrowawayOptions::new(folder.to_owned(), plan.form());
    options.keeps_expired = true;
    options.databases = plan.record.databases().max(databases);
    options.scratch.clone_from(&plan.scratch);
    let commands = commands_bytes(plan, folder)?;
    let server = ThrowawayServer::start(&plan.binary, options, &context.cancel).await?;
    server.lead().await?;
    let (loaded, gone_until) = look_into(context, plan, &server).await?;
    server.discard().await?;
    if plan.replay.is_some() {
        // A server that does not take all of its log cuts it where it stopped, or does not start.
        let left = commands_bytes(plan, folder)?;
        return Ok(RedisProof {
            keys_expected: loaded.keys(),
            keys_found: loaded.keys(),
            keys_expired: loaded.databases.values().map(|database| database.gone).sum(),
            keys_with_expiry: loaded.expiring(),
            digest: loaded.digest().to_string(),
            // Of the snapshot below: it was walked on its way, and is as it was captured.
            digest_equal: true,
            position_equal: Some(left == commands),
            differing: if left == commands {
                Vec::new()
            } else {
                vec![format!(
                    "the server took {left} bytes of commands, and {commands} were written"
                )]
            },
        });
    }
    let captured = captured(plan, folder, gone_until).await?;
    let gone: u64 = captured.databases.values().map(|database| database.gone).sum();
    Ok(RedisProof {
        keys_expected: captured.keys(),
        keys_found: loaded.keys(),
        keys_expired: gone,
        keys_with_expiry: loaded.expiring(),
        digest: captured.digest().to_string(),
        digest_equal: captured.digest() == loaded.digest(),
        position_equal: None,
        differing: captured.differences(&loaded),
    })
}

fn commands_bytes(plan: &RedisRestorePlan, folder: &Path) -> Result<u64> {
    // A server of another form takes a single file over into its own.
    let Some(file) = plan
        .form()
        .commands_file()
        .filter(|_| plan.form() == DataForm::MultiPart)
    else {
        return Ok(0);
    };
    let path = folder.join(file);
    match path.metadata() {
        Ok(facts) => Ok(facts.len()),
        Err(error) => Err(ProtectError::failed(format!("look at \"{}\"", path.display())).because(error)),
    }
}

/// What the server holds, but for what is gone by a moment after it was asked.
async fn look_into(context: &Context, plan: &RedisRestorePlan, server: &ThrowawayServer) -> Result<(RdbSummary, i64)> {
    let options = SyncOptions {
        server_version: Some(plan.binary.version.text.clone()),
        ..SyncOptions::default()
    };
    let mut wait = FORK_WAIT_MS;
    for _ in 0..TRIES_MAX {
        let gone_until = context.clock.now().as_millisecond().saturating_add(wait);
        let mut snapshot = Snapshot::start(server.address(), &options, &context.cancel).await?;
        if context.clock.now().as_millisecond() >= gone_until {
            wait *= 2;
            continue;
        }
        let feed = RdbFeed::start(WalkOptions {
            gone_until: Some(gone_until),
            ..WalkOptions::default()
        });
        while let Some(portion) = snapshot.next().await? {
            if !feed.push(portion).await {
                break;
            }
        }
        return Ok((feed.finish().await?, gone_until));
    }
    Err(ProtectError::failed(format!(
        "the private server did not fork within {wait} ms"
    )))
}

/// The same of the bytes that were captured.
async fn captured(plan: &RedisRestorePlan, folder: &Path, gone_until: i64) -> Result<RdbSummary> {
    if plan.record.snapshot.expiring() == 0 && plan.record.snapshot.expiring_fields == 0 {
        return Ok(plan.record.snapshot.clone());
    }
    let path = folder.join(plan.record.form().snapshot_file());
    let options = WalkOptions {
        gone_until: Some(gone_until),
        ..WalkOptions::default()
    };
    let walked = ballast_base::run_blocking("walk snapshot", move || {
        let file = std::fs::File::open(&path)
            .map_err(|error| ProtectError::failed(format!("open \"{}\"", path.display())).because(error))?;
        Ok::<_, ProtectError>(walk(file, options, &mut |_| {})?)
    });
    walked.await?
}
