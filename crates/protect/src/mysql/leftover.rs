//! Private servers that outlived their restore: a restore that is killed cannot end its own.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};

/// A killed server gives its files back within this time.
const END_WAIT_MAX: Duration = Duration::from_secs(10);
const END_LOOK_EVERY: Duration = Duration::from_millis(50);

/// Ends every server that was started on `directory`, which is a restore's own unfinished folder. A process counts only if one
/// of its arguments is exactly this data directory.
pub(crate) async fn end_servers(context: &Context, directory: &Path) -> Result<()> {
    let argument = format!("--datadir={}", directory.display());
    for pid in started_with(&argument) {
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

fn started_with(argument: &str) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            command
                .split(|byte| *byte == 0)
                .any(|part| part == argument.as_bytes())
                .then_some(pid)
        })
        .collect()
}
