//! The one door to time. Whatever decides by time takes a [`Clock`], so that tests can set it.
#![allow(clippy::disallowed_methods, reason = "this is the door the lint points to")]

use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use jiff::Timestamp;

/// Wall-clock time, elapsed time and waiting.
pub trait Clock: Send + Sync + Debug {
    /// The moment it is now, to the microsecond (UTC, may jump when the machine's clock is set).
    fn now(&self) -> Timestamp;

    /// Time since some fixed point of this process; never goes back.
    fn elapsed(&self) -> Duration;

    /// Waits. Callers race it against their [`crate::Cancel`].
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's clock.
#[derive(Debug, Clone)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        now.round(jiff::Unit::Microsecond).unwrap_or(now)
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that moves only when it is told to; sleeping advances it at once.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug, Clone)]
pub struct ManualClock {
    start: Timestamp,
    elapsed: std::sync::Arc<std::sync::Mutex<Duration>>,
}

#[cfg(any(test, feature = "testing"))]
impl ManualClock {
    pub fn at(start: Timestamp) -> Self {
        Self {
            start,
            elapsed: std::sync::Arc::default(),
        }
    }

    pub fn advance(&self, by: Duration) {
        *self.elapsed.lock().expect("no test panics while holding the clock") += by;
    }
}

#[cfg(any(test, feature = "testing"))]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.start + self.elapsed()
    }

    fn elapsed(&self) -> Duration {
        *self.elapsed.lock().expect("no test panics while holding the clock")
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.advance(duration);
        Box::pin(tokio::task::yield_now())
    }
}
