//! Not faster than the configuration allows: who takes bytes from a server waits until they are due, and the server waits for
//! who takes them.
//!
//! All engines read more than they have at hand only up to a few MiB, so the network is as slow as the taking. The waits are
//! short ones between pieces, see `Limit::RATE_MIN`: no server takes such a connection for dead.

use std::time::Duration;

use crate::context::Context;
use crate::error::Result;

/// What was not used of the rate can be made up for as long, not longer.
const CREDIT_MAX: Duration = Duration::from_secs(1);
/// Shorter waits are left to come together.
const WAIT_MIN: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(crate) struct Pace {
    /// Bytes a second.
    rate: Option<u64>,
    /// When all bytes so far are due.
    due: Duration,
}

impl Pace {
    pub(crate) fn new(context: &Context, rate: Option<u64>) -> Self {
        Self {
            rate,
            due: context.clock.elapsed(),
        }
    }

    /// Waits until bytes that were taken are due.
    pub(crate) async fn taken(&mut self, context: &Context, bytes: u64) -> Result<()> {
        let Some(rate) = self.rate else { return Ok(()) };
        let now = context.clock.elapsed();
        let takes = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate.max(1));
        self.due = self.due.max(now.saturating_sub(CREDIT_MAX)) + takes;
        let wait = self.due.saturating_sub(now);
        if wait >= WAIT_MIN {
            context.cancel.race(context.clock.sleep(wait)).await?;
        }
        Ok(())
    }
}
