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
    /// Of a log that is followed.
    Log(LogNews),
}

/// What happens to a log that is followed.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum LogNews {
    /// The server sends its log, from here on.
    Connected {
        server: String,
        version: String,
        stream: String,
        file: String,
        offset: u64,
        semi_sync: bool,
    },
    /// It does not any more; it is tried again.
    Disconnected {
        cause: String,
        wait_seconds: f64,
    },
    /// A stream begins; after another one with what is in neither.
    StreamBegun {
        stream: String,
        first_file: String,
        after: Option<String>,
        cause: Option<&'static str>,
        missing: Option<String>,
    },
    /// A segment was closed. `lag_seconds`: from the commit of its last transaction to when that was durable here.
    Sealed {
        stream: String,
        start: u64,
        end: u64,
        transactions: u64,
        file: String,
        offset: u64,
        last_commit_at: Option<jiff::Timestamp>,
        lag_seconds: Option<f64>,
    },
    /// A repository has it.
    Uploaded {
        repository: String,
        stream: String,
        start: u64,
        end: u64,
        bytes_stored: u64,
        seconds: f64,
    },
    /// How much of the log waits for a repository.
    Spool {
        bytes: u64,
        limit: u64,
        full: bool,
    },
    RepositoryLost {
        repository: String,
        message: String,
    },
    RepositoryBack {
        repository: String,
    },
}

impl LogNews {
    /// Its `type` in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connected { .. } => "connected",
            Self::Disconnected { .. } => "disconnected",
            Self::StreamBegun { .. } => "stream-begun",
            Self::Sealed { .. } => "sealed",
            Self::Uploaded { .. } => "uploaded",
            Self::Spool { .. } => "spool",
            Self::RepositoryLost { .. } => "repository-lost",
            Self::RepositoryBack { .. } => "repository-back",
        }
    }
}

/// Told of progress and events, from any task, often: must not block.
pub trait Observer: Send + Sync + std::fmt::Debug {
    fn progress(&self, progress: &Progress);
    fn event(&self, event: &Event);
}
