//! What every piece of work carries: time, the way to stop it, and whom to tell.

use std::sync::Arc;
use std::time::Duration;

use ballast_base::{Cancel, Clock};

use crate::observer::{Event, LogNews, Observer, Progress};

#[derive(Debug, Clone)]
pub struct Context {
    pub clock: Arc<dyn Clock>,
    pub cancel: Cancel,
    pub observer: Arc<dyn Observer>,
}

/// One finished step of a job and how long it took.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StepTime {
    pub name: String,
    pub seconds: f64,
}

/// Times the steps of one job and tells the observer of each.
#[derive(Debug)]
pub(crate) struct Steps {
    context: Context,
    started: Duration,
    done: Vec<StepTime>,
}

impl Context {
    pub(crate) fn warn(&self, message: impl Into<String>, hint: Option<String>) {
        self.observer.event(&Event::Warning {
            message: message.into(),
            hint,
        });
    }

    pub(crate) fn note(&self, message: impl Into<String>) {
        self.observer.event(&Event::Note {
            message: message.into(),
        });
    }

    pub(crate) fn news(&self, news: LogNews) {
        self.observer.event(&Event::Log(news));
    }

    pub(crate) fn progress(&self, step: &'static str, done_bytes: u64, total_bytes: Option<u64>) {
        self.observer
            .progress(&Progress::of_bytes(step, done_bytes, total_bytes));
    }

    pub(crate) fn steps(&self) -> Steps {
        Steps {
            context: self.clone(),
            started: self.clock.elapsed(),
            done: Vec::new(),
        }
    }
}

impl Steps {
    /// Runs one step and records its time, also when it fails.
    pub(crate) async fn run<T>(&mut self, step: &'static str, work: impl Future<Output = T>) -> T {
        self.context.observer.event(&Event::StepStarted { step });
        let from = self.context.clock.elapsed();
        let outcome = work.await;
        let seconds = (self.context.clock.elapsed().saturating_sub(from)).as_secs_f64();
        self.context.observer.event(&Event::StepFinished { step, seconds });
        self.done.push(StepTime {
            name: step.to_owned(),
            seconds,
        });
        outcome
    }

    /// The steps so far and the seconds since the first.
    pub(crate) fn finish(self) -> (Vec<StepTime>, f64) {
        let seconds = self.context.clock.elapsed().saturating_sub(self.started).as_secs_f64();
        (self.done, seconds)
    }
}
