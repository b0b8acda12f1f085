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
    /// Of `done_bytes`, those that were there when the step began: they say nothing of its speed.
    #[serde(skip)]
    pub before_bytes: u64,
    /// Of a step that counts rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_rows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_rows: Option<u64>,
}

impl Progress {
    /// Of a step that counts bytes and nothing else.
    pub fn of_bytes(step: &'static str, done_bytes: u64, total_bytes: Option<u64>) -> Self {
        Self {
            step,
            done_bytes,
            total_bytes,
            before_bytes: 0,
            done_rows: None,
            total_rows: None,
        }
    }
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
