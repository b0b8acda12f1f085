//! A walk beside the work: bytes are handed in as they come, a thread of its own walks them.

use std::io::Read;

use ballast_base::{Task, run_blocking, spawn};
use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

use super::parts::PartSink;
use super::summary::RdbSummary;
use super::walker::{KeyFact, WalkOptions, walk, walk_parts};
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
        Self::of_keys(options, |_| {})
    }

    /// `on_key` is called for each key that counts.
    pub fn of_keys(options: WalkOptions, mut on_key: impl FnMut(&KeyFact<'_>) + Send + 'static) -> Self {
        Self::run(move |portions| walk(portions, options, &mut on_key))
    }

    /// The parts are given away as they pass.
    pub fn of_parts(options: WalkOptions, sink: PartSink) -> Self {
        Self::run(move |portions| walk_parts(portions, options, sink))
    }

    fn run(work: impl FnOnce(Portions) -> Result<RdbSummary, RedisError> + Send + 'static) -> Self {
        let (portions, waiting) = mpsc::channel(WAITING_MAX);
        let portions_read = Portions {
            waiting,
            now: Bytes::new(),
        };
        let walk = spawn("walk snapshot", async move {
            let walked = run_blocking("walk snapshot", move || work(portions_read)).await;
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
