//! The cancel tree. Whoever waits races the wait against a [`Cancel`]; cancelling a parent cancels its children.

use tokio_util::sync::CancellationToken;

/// The work was asked to stop, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

/// A handle on one branch of the cancel tree. Clones are the same branch.
#[derive(Debug, Clone, Default)]
pub struct Cancel(CancellationToken);

impl Cancel {
    pub fn new() -> Self {
        Self::default()
    }

    /// A branch that can be cancelled alone and is cancelled with this one.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    pub fn cancel(&self) {
        self.0.cancel();
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Resolves when this branch is cancelled.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// For loops without a wait in them.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    /// Runs `work` unless this branch is cancelled first; `work` is dropped then.
    pub async fn race<T>(&self, work: impl Future<Output = T>) -> Result<T, Cancelled> {
        tokio::select! {
            biased;
            () = self.0.cancelled() => Err(Cancelled),
            done = work => Ok(done),
        }
    }
}
