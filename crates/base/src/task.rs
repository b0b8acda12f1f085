//! Named tasks with an owner. A panic becomes an error of the owner, never silence; dropping the handle stops the task.
#![allow(clippy::disallowed_methods, reason = "this is the door the lint points to")]

use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// The task did not end by itself.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error("task \"{name}\" panicked: {message}")]
    Panicked { name: &'static str, message: String },
    #[error("task \"{name}\" was stopped")]
    Stopped { name: &'static str },
}

impl TaskError {
    fn from_join(name: &'static str, error: tokio::task::JoinError) -> Self {
        match error.try_into_panic() {
            Ok(payload) => {
                let message = payload
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| payload.downcast_ref::<String>().cloned())
                    .unwrap_or_else(|| "no message".to_owned());
                Self::Panicked { name, message }
            }
            Err(_) => Self::Stopped { name },
        }
    }
}

/// A running task. Dropped, it is aborted at its next wait.
#[derive(Debug)]
pub struct Task<T> {
    name: &'static str,
    handle: JoinHandle<T>,
}

/// Starts `work` on the runtime under `name`.
pub fn spawn<T: Send + 'static>(name: &'static str, work: impl Future<Output = T> + Send + 'static) -> Task<T> {
    Task {
        name,
        handle: tokio::spawn(work.instrument(tracing::debug_span!("task", name))),
    }
}

/// Runs `work`, which computes or blocks, away from the runtime's own threads.
pub async fn run_blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TaskError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| TaskError::from_join(name, error))
}

impl<T> Task<T> {
    /// Waits for the task's own end.
    pub async fn join(mut self) -> Result<T, TaskError> {
        (&mut self.handle)
            .await
            .map_err(|error| TaskError::from_join(self.name, error))
    }

    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Several tasks of one kind, joined in the order they end. Dropped, all are aborted.
#[derive(Debug)]
pub struct TaskSet<T> {
    name: &'static str,
    set: tokio::task::JoinSet<T>,
}

impl<T: Send + 'static> TaskSet<T> {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            set: tokio::task::JoinSet::new(),
        }
    }

    pub fn spawn(&mut self, work: impl Future<Output = T> + Send + 'static) {
        self.set
            .spawn(work.instrument(tracing::debug_span!("task", name = self.name)));
    }

    pub fn len(&self) -> usize {
        self.set.len()
    }

    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// The next one to end; `None` when none is left.
    pub async fn join_next(&mut self) -> Option<Result<T, TaskError>> {
        let joined = self.set.join_next().await?;
        Some(joined.map_err(|error| TaskError::from_join(self.name, error)))
    }
}
