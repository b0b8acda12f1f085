//! The seam through which work tells what happens. The library never prints: bar, message line, JSON and, later,
//! metrics, audit and alerts are observers.

/// Where a long step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// The step, such as `copy` or `restore`.
    pub step: &'static str,
    pub done_bytes: u64,
    /// Known or estimated; may grow while the step runs.
    pub total_bytes: Option<u64>,
}

/// Something happened that a person or a record may want to know.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    StepStarted {
        step: &'static str,
    },
    StepFinished {
        step: &'static str,
        seconds: f64,
    },
    /// The work goes on with less.
    Warning {
        message: String,
        hint: Option<String>,
    },
    /// Plain news, such as the id a backup will have.
    Note {
        message: String,
    },
}

/// Told of progress and events, from any task, often: must not block.
pub trait Observer: Send + Sync + std::fmt::Debug {
    fn progress(&self, progress: &Progress);
    fn event(&self, event: &Event);
}
