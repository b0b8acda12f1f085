//! Carries out a restore plan of a Redis. What is not finished lies in a folder of its own inside the target; it moves to its place
//! only after the proof, and it is taken away when anything fails.

use std::fs::File;
use std::path::PathBuf;

use ballast_base::{run_blocking, sync_dir};
use ballast_redis::{DataForm, DataWriter, Flavour, RdbFeed, WalkOptions};
use ballast_repository::BackupReader;
use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;

use super::proof::{RedisProof, prove};
use super::restore_plan::RedisRestorePlan;
use crate::context::{Context, StepTime};
use crate::error::{ErrorKind, ProtectError, Result};
use crate::position::Position;
use crate::restore::place::{LOCK, failed, lock, move_in_place, private_dir};
use crate::restore::shell_word;
use crate::restore_plan::UNFINISHED;

/// What a restore came to.
#[derive(Debug, serde::Serialize)]
pub struct RedisRestoreOutcome {
    pub backup: String,
    pub repository: String,
    pub target: PathBuf,
    pub reached: RedisReached,
    pub expected: RedisExpected,
    pub proof: RedisProof,
    /// Starts a server on it.
    pub start_command: String,
    /// Gives it to the user that server runs as.
    pub ownership: String,
    pub steps: Vec<StepTime>,
    pub seconds: f64,
}

#[derive(Debug, serde::Serialize)]
pub struct RedisReached {
    pub position: Option<Position>,
    pub at: Option<Timestamp>,
    /// Whether everything is of that moment, or of it and later ones until the backup ended.
    pub point_in_time: bool,
}

#[derive(Debug, serde::Serialize)]
pub struct RedisExpected {
    pub position: Option<Position>,
}

/// Restores, proves, and only then puts the files in their place.
pub async fn restore_redis(context: &Context, plan: RedisRestorePlan) -> Result<RedisRestoreOutcome> {
    let place = Place::prepare(&plan)?;
    match Box::pin(carry_out(context, &plan, &place)).await {
        Ok(outcome) => Ok(outcome),
        Err(error) => {
            place.clear(context);
            Err(error)
        }
    }
}

async fn carry_out(context: &Context, plan: &RedisRestorePlan, place: &Place) -> Result<RedisRestoreOutcome> {
    let mut steps = context.steps();
    let databases = steps.run("download", Box::pin(download(context, plan, place))).await?;
    let proof = steps
        .run("prove", Box::pin(prove(context, plan, &place.unfinished, databases)))
        .await?;
    if !proof.holds() {
        let message = format!(
            "the restored copy is not what was backed up: {}",
            proof.differing.join("; ")
        );
        return Err(ProtectError::new(ErrorKind::Damaged, message)
            .hint("restore another backup with --backup ID, and check the stored bytes with: ballast verify"));
    }
    steps.run("finish", place.finish(context)).await?;
    let (steps, seconds) = steps.finish();
    let (server, user) = match plan.record.server.flavour {
        Flavour::Redis => ("redis-server", "redis"),
        Flavour::Valkey => ("valkey-server", "valkey"),
    };
    let target = shell_word(&plan.target);
    let [option, value] = plan.form().arguments();
    let mut start_command = format!("{server} --dir {target} {option} {value}");
    let databases = plan.record.databases().max(databases);
    if databases > 16 {
        start_command.push_str(&format!(" --databases {databases}"));
    }
    let replayed = plan.replay.as_ref().map(|replay| Position::of_redis(&replay.to));
    Ok(RedisRestoreOutcome {
        backup: plan.backup.id.clone(),
        repository: plan.repository.clone(),
        target: plan.target.clone(),
        reached: RedisReached {
            position: replayed
                .clone()
                .or_else(|| plan.record.snapshot.position.as_ref().map(Position::of_redis)),
            at: plan.replay.as_ref().map_or(plan.backup.snapshot_at, |replay| replay.at),
            point_in_time: plan.backup.point_in_time != Some(false),
        },
        expected: RedisExpected {
            position: replayed.or_else(|| plan.backup.position.clone()),
        },
        proof,
        start_command,
        ownership: format!("chown -R {user}:{user} {target}"),
        steps,
        seconds,
    })
}

/// Writes the snapshot and walks it once more as it passes: it must be what was captured. Then the commands; how many databases they
/// need comes back.
async fn download(context: &Context, plan: &RedisRestorePlan, place: &Place) -> Result<u32> {
    let mut stream = BackupReader::new(&plan.from, &plan.manifest)
        .stream(0, 0, &context.cancel)
        .boxed();
    let form = plan.form();
    let mut writer = DataWriter::create(&place.unfinished, form)?;
    let feed = RdbFeed::start(WalkOptions::default());
    let mut done = 0;
    while let Some(bytes) = stream.try_next().await? {
        writer.write(&bytes)?;
        done += bytes.len() as u64;
        if !feed.push(bytes).await {
            break;
        }
        context.progress("download", done, Some(plan.record.snapshot.bytes));
    }
    let walked = feed.finish().await?;
    if walked != plan.record.snapshot {
        let mut problems = plan.record.snapshot.differences(&walked);
        problems.push(format!("{} bytes of {}", walked.bytes, plan.record.snapshot.bytes));
        let message = format!("the stored snapshot is not what was captured: {}", problems.join("; "));
        return Err(ProtectError::new(ErrorKind::Damaged, message));
    }
    let mut databases = 0;
    if let Some(replay) = &plan.replay {
        databases = Box::pin(replay.write(context, &mut writer)).await?;
    } else if form == DataForm::MultiPart {
        // So that a server finds all it needs, and makes nothing while it is asked for a proof.
        writer.begin_commands(0)?;
    }
    run_blocking("finish snapshot", move || writer.finish()).await??;
    Ok(databases)
}

/// The target while it is not finished.
#[derive(Debug)]
struct Place {
    target: PathBuf,
    unfinished: PathBuf,
    /// The target itself was made by this restore.
    made: bool,
    replaces: Vec<String>,
    /// Released when it is closed.
    _lock: File,
}

impl Place {
    fn prepare(plan: &RedisRestorePlan) -> Result<Self> {
        let target = plan.target.clone();
        let unfinished = target.join(UNFINISHED);
        let made = !target.exists();
        if made {
            private_dir(&target, true)?;
        } else if unfinished.exists() {
            // What an interrupted restore left, unless it still runs. Its server ends when ours starts.
            drop(lock(&unfinished)?);
            std::fs::remove_dir_all(&unfinished).map_err(failed("remove", &unfinished))?;
        }
        private_dir(&unfinished, false)?;
        let lock = lock(&unfinished)?;
        Ok(Self {
            target,
            unfinished,
            made,
            replaces: plan.replaces.clone(),
            _lock: lock,
        })
    }

    /// Removes what is not finished. What cannot be removed is told: it must not pass for a restored directory.
    fn clear(&self, context: &Context) {
        let mut gone = std::fs::remove_dir_all(&self.unfinished);
        if self.made && gone.is_ok() {
            gone = std::fs::remove_dir(&self.target);
        }
        if let Err(error) = gone {
            let folder = self.unfinished.display();
            context.warn(
                format!("the unfinished folder \"{folder}\" could not be removed: {error}"),
                Some("it is not a restored directory; remove it by hand".to_owned()),
            );
        }
    }

    /// The snapshot is durable; it gets its place when what was there is gone.
    async fn finish(&self, context: &Context) -> Result<()> {
        let (target, unfinished, replaces) = (self.target.clone(), self.unfinished.clone(), self.replaces.clone());
        context.cancel.check()?;
        run_blocking("finish restore", move || {
            let durable = |error| ProtectError::failed("make the restored directory durable").because(error);
            for name in &replaces {
                let old = target.join(name);
                let removed = if old.is_dir() && !old.is_symlink() {
                    std::fs::remove_dir_all(&old)
                } else {
                    std::fs::remove_file(&old)
                };
                removed.map_err(failed("remove", &old))?;
            }
            let lock = unfinished.join(LOCK);
            std::fs::remove_file(&lock).map_err(failed("remove", &lock))?;
            for entry in std::fs::read_dir(&unfinished).map_err(failed("read", &unfinished))? {
                let name = entry.map_err(failed("read", &unfinished))?.file_name();
                move_in_place(&unfinished.join(&name), &target.join(&name))?;
            }
            std::fs::remove_dir(&unfinished).map_err(failed("remove", &unfinished))?;
            sync_dir(&target).map_err(durable)
        })
        .await?
    }
}
