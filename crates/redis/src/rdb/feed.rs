//! A walk beside the work: bytes are handed in as they come, a thread of its own walks them.

use std::io::Read;

use ballast_base::{Task, run_blocking, spawn};
use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

use super::summary::RdbSummary;
use super::walker::{WalkOptions, walk};
use crate::RedisError;

/// Portions that wait to be walked; who hands them in waits then.
const WAITING_MAX: usize = 16;

/// A snapshot that is walked while it passes. Dropped, the walk ends.
#[derive(Debug)]
pub struct RdbFeed {
    portions: mpsc::Sender<Bytes>,
    walk: Task<Result<RdbSummary, RedisError>>,
}

impl RdbFeed {
    pub fn start(options: WalkOptions) -> Self {
        let (portions, waiting) = mpsc::channel(WAITING_MAX);
        let portions_read = Portions {
            waiting,
            now: Bytes::new(),
        };
        let walk = spawn("walk snapshot", async move {
            let walked = run_blocking("walk snapshot", move || walk(portions_read, options, &mut |_| {})).await;
            walked.unwrap_or_else(|error| Err(stopped(&error)))
        });
        Self { portions, walk }
    }

    /// Hands in what comes next. `false` when the walk has ended early: [`RdbFeed::finish`] says why.
    pub async fn push(&self, portion: Bytes) -> bool {
        portion.is_empty() || self.portions.send(portion).await.is_ok()
    }

    /// Ends it: all was handed in.
    pub async fn finish(self) -> Result<RdbSummary, RedisError> {
        drop(self.portions);
        self.walk.join().await.unwrap_or_else(|error| Err(stopped(&error)))
    }
}

fn stopped(error: &dyn std::error::Error) -> RedisError {
    RedisError::Source {
        source: std::io::Error::other(error.to_string()),
    }
}

/// The other end. When nobody hands in any more, it ends.
struct Portions {
    waiting: mpsc::Receiver<Bytes>,
    now: Bytes,
}

impl Read for Portions {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.now.is_empty() {
            match self.waiting.blocking_recv() {
                Some(portion) => self.now = portion,
                None => return Ok(0),
            }
        }
        let count = self.now.len().min(to.len());
        let (filled, _) = to.split_at_mut(count);
        self.now.copy_to_slice(filled);
        Ok(count)
    }
}
