//! Servers that run where a restore wants to work: private ones that outlived their restore, because one that is killed cannot end its
//! own, and those of others.

use std::path::Path;
use std::time::Duration;

use ballast_mysql::processes_with;
use rustix::process::{Signal, kill_process, test_kill_process};

use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};

/// A killed server gives its files back within this time.
const END_WAIT_MAX: Duration = Duration::from_secs(10);
const END_LOOK_EVERY: Duration = Duration::from_millis(50);

/// Ends every server and every backup tool that was started on `directory`, which is a restore's own unfinished folder. A process
/// counts only if one of its arguments is exactly this directory.
pub(crate) async fn end_servers(context: &Context, directory: &Path) -> Result<()> {
    let arguments = ["--datadir=", "--target-dir="].map(|option| format!("{option}{}", directory.display()));
    for pid in arguments.iter().flat_map(|argument| processes_with(argument)) {
        context.warn(
            format!(
                "ending the private server (pid {}) that an interrupted restore left",
                pid.as_raw_nonzero()
            ),
            None,
        );
        let failed = |what: &str| {
            let message = format!(
                "the private server of an interrupted restore (pid {}) {what}",
                pid.as_raw_nonzero()
            );
            ProtectError::new(ErrorKind::Held, message).hint("end it, and restore again")
        };
        kill_process(pid, Signal::KILL)
            .map_err(|error| failed("could not be ended").because(std::io::Error::from(error)))?;
        let deadline = context.clock.elapsed() + END_WAIT_MAX;
        while test_kill_process(pid).is_ok() {
            if context.clock.elapsed() > deadline {
                return Err(failed("does not end"));
            }
            context.cancel.race(context.clock.sleep(END_LOOK_EVERY)).await?;
        }
    }
    Ok(())
}

/// A process that has a file under `directory` open. Lock files would not do: a server that was cloned has lost its locks, because
/// closing any handle on a file gives up a process's lock on it. Others' processes are seen only by root.
pub(crate) fn user_of(directory: &Path) -> Option<u32> {
    let real = directory.canonicalize().ok()?;
    let own = std::process::id();
    let entries = std::fs::read_dir("/proc").ok()?;
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .find(|pid| {
            let Ok(handles) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
                return false;
            };
            handles
                .flatten()
                .any(|handle| std::fs::read_link(handle.path()).is_ok_and(|file| file.starts_with(&real)))
        })
}
