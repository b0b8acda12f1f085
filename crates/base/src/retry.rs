//! Backoff with jitter and a limit. Only the error knows whether another try can help.

use std::time::Duration;

use crate::{Cancel, Cancelled, Clock, random_unit};

/// Says whether the same call may succeed later.
pub trait Retryable {
    fn may_retry(&self) -> bool;
}

/// How often and how long.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Tries in all, the first included.
    pub tries_max: u32,
    /// The wait after the first failure; it doubles from there.
    pub first_wait: Duration,
    /// No wait is longer than this.
    pub wait_max: Duration,
}

impl RetryPolicy {
    /// The wait before try number `next` (2 is the second), between half of and all of the doubled wait.
    fn wait(&self, next: u32) -> Duration {
        let doubled = self
            .first_wait
            .saturating_mul(1u32.checked_shl(next.saturating_sub(2)).unwrap_or(u32::MAX));
        doubled.min(self.wait_max).mul_f64(0.5 + random_unit() / 2.0)
    }
}

/// Calls `op` until it succeeds, its error says that no retry can help, the tries are used up or `cancel` fires.
pub async fn retry<T, E, F>(
    what: &str,
    policy: RetryPolicy,
    clock: &dyn Clock,
    cancel: &Cancel,
    mut op: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Retryable + std::fmt::Display + From<Cancelled>,
    F: Future<Output = Result<T, E>>,
{
    let mut tried = 1;
    loop {
        cancel.check()?;
        match cancel.race(op()).await? {
            Ok(value) => return Ok(value),
            Err(error) if tried < policy.tries_max && error.may_retry() => {
                tried += 1;
                let wait = policy.wait(tried);
                tracing::info!(%error, tried, wait_ms = wait.as_millis(), "{what}: trying again");
                cancel.race(clock.sleep(wait)).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::ManualClock;

    #[derive(Debug, PartialEq, thiserror::Error)]
    enum Failure {
        #[error("later")]
        Later,
        #[error("never")]
        Never,
        #[error(transparent)]
        Cancelled(#[from] Cancelled),
    }

    impl Retryable for Failure {
        fn may_retry(&self) -> bool {
            *self == Self::Later
        }
    }

    const POLICY: RetryPolicy = RetryPolicy {
        tries_max: 4,
        first_wait: Duration::from_secs(1),
        wait_max: Duration::from_secs(3),
    };

    async fn run(cancel: &Cancel, answers: &[Result<u8, Failure>]) -> (Result<u8, Failure>, usize, Duration) {
        let clock = ManualClock::at(jiff::Timestamp::UNIX_EPOCH);
        let calls = Cell::new(0);
        let outcome = retry("test", POLICY, &clock, cancel, || {
            let answer = match &answers[calls.get()] {
                Ok(value) => Ok(*value),
                Err(Failure::Later) => Err(Failure::Later),
                Err(_) => Err(Failure::Never),
            };
            calls.set(calls.get() + 1);
            async move { answer }
        })
        .await;
        (outcome, calls.get(), clock.elapsed())
    }

    #[tokio::test]
    async fn tries_again_until_it_works_and_waits_longer_each_time() {
        let (outcome, calls, waited) = run(&Cancel::new(), &[Err(Failure::Later), Err(Failure::Later), Ok(7)]).await;
        assert_eq!((outcome, calls), (Ok(7), 3));
        assert!(
            waited >= Duration::from_millis(1500) && waited <= Duration::from_secs(3),
            "{waited:?}"
        );
    }

    #[tokio::test]
    async fn stops_at_what_a_retry_cannot_mend_at_the_limit_and_when_cancelled() {
        assert_eq!(run(&Cancel::new(), &[Err(Failure::Never)]).await.1, 1);
        let later = || Err(Failure::Later);
        assert_eq!(
            run(&Cancel::new(), &[later(), later(), later(), later(), Ok(1)])
                .await
                .1,
            4
        );
        let cancel = Cancel::new();
        cancel.cancel();
        assert_eq!(
            run(&cancel, &[Ok(1)]).await,
            (Err(Failure::Cancelled(Cancelled)), 0, Duration::ZERO)
        );
    }
}
