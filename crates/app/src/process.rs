//! What the process owes its surroundings: no secret in a core file, an orderly end on a signal, a panic told as an error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ballast_base::{Cancel, Task, spawn};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{AppError, INTERRUPTED};
use crate::output::Output;

/// The runtime has this many threads at least: one that computes must not keep the network waiting.
const WORKERS_MIN: usize = 2;
/// Work that does not end by itself is left behind after this time.
const RUNTIME_WAIT_MAX: Duration = Duration::from_secs(5);

/// Forbids core files of this process. The limit alone would not do: a core pattern that is a pipe ignores it.
pub(crate) fn refuse_core_dumps() -> Result<(), AppError> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| AppError::System {
            step: "forbid core files",
            source: error.into(),
        })
}

/// Runs `work`; a panic in it is an error like any other, its place goes to the messages.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, AppError>) -> Result<T, AppError> {
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = text
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Err(AppError::Panicked { message })
    })
}

/// Runs `work` on a runtime of its own. The first SIGINT or SIGTERM cancels it in order, the second ends the process.
pub(crate) fn run_to_end<F>(output: &Output, work: impl FnOnce(Cancel) -> F) -> Result<u8, AppError>
where
    F: Future<Output = Result<u8, AppError>>,
{
    let failed = |source| AppError::System {
        step: "start the runtime",
        source,
    };
    let workers = std::thread::available_parallelism().map_or(WORKERS_MIN, |cores| cores.get().max(WORKERS_MIN));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(failed)?;
    let outcome = runtime.block_on(async {
        let cancel = Cancel::new();
        let _signals = watch_signals(cancel.clone(), output.clone()).map_err(failed)?;
        work(cancel).await
    });
    output.set_bar(None);
    runtime.shutdown_timeout(RUNTIME_WAIT_MAX);
    outcome
}

fn watch_signals(cancel: Cancel, output: Output) -> std::io::Result<Task<()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(spawn("signals", async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cancel.is_cancelled() {
                #[expect(
                    clippy::disallowed_methods,
                    clippy::exit,
                    reason = "asked twice: the work is not waited for"
                )]
                std::process::exit(INTERRUPTED.into());
            }
            output.say("stopping in order; once more to stop at once");
            cancel.cancel();
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        let error = guarded::<()>(|| panic!("tide {}", 1)).unwrap_err();
        assert_eq!(error.to_string(), "internal error: tide 1");
        assert_eq!(error.code(), crate::exit::FAILED);
    }

    #[test]
    fn no_core_file_is_written() {
        refuse_core_dumps().unwrap();
        let limit = rustix::process::getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        assert_eq!(
            rustix::process::dumpable_behavior().unwrap(),
            DumpableBehavior::NotDumpable
        );
    }
}
