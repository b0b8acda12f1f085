//! What can go wrong, by what the caller does next.

use ballast_base::{Cancelled, Retryable, TaskError};

use crate::{OBJECT_BYTES_MAX, ObjectName};

/// What lies under an error, as the system or the server said it.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a call on a store failed. `action` is a verb phrase with the object's name in it.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is no such object.
    #[error("object \"{name}\" is not in {location}")]
    NotFound { location: String, name: ObjectName },
    /// There is an object of that name with other bytes.
    #[error("object \"{name}\" is already in {location}")]
    AlreadyExists { location: String, name: ObjectName },
    /// The root itself is not there: create it or look elsewhere.
    #[error("there is no folder {location}")]
    NoRoot { location: String },
    /// Someone must grant something.
    #[error("{action} in {location}: access denied")]
    Denied {
        location: String,
        action: String,
        source: Cause,
    },
    /// Try again, slower.
    #[error("{action} in {location}: the server asks to slow down")]
    Throttled {
        location: String,
        action: String,
        source: Cause,
    },
    /// Try again later; the store did not answer or its disk failed.
    #[error("{action} in {location}")]
    Unavailable {
        location: String,
        action: String,
        source: Cause,
    },
    /// Someone must make room.
    #[error("{action} in {location}: no space left")]
    NoSpace {
        location: String,
        action: String,
        source: Cause,
    },
    /// What is stored is not what was written.
    #[error("{action} in {location}: damaged")]
    Corrupt {
        location: String,
        action: String,
        source: Cause,
    },
    /// Someone must change the configuration or the store; `hint` says what to type.
    #[error("{location}: {problem}; {hint}")]
    Misconfigured {
        location: String,
        problem: String,
        hint: String,
    },
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Retryable for StorageError {
    fn may_retry(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unavailable { .. })
    }
}

impl StorageError {
    pub(crate) fn corrupt(location: &str, action: String, cause: impl Into<Cause>) -> Self {
        Self::Corrupt {
            location: location.to_owned(),
            action,
            source: cause.into(),
        }
    }

    /// Refuses to store what could not be read back.
    pub(crate) fn check_size(location: &str, name: &ObjectName, body: &[u8]) -> Result<(), Self> {
        if body.len() as u64 <= OBJECT_BYTES_MAX {
            return Ok(());
        }
        Err(Self::Misconfigured {
            location: location.to_owned(),
            problem: format!(
                "object \"{name}\" would have {} bytes, more than {OBJECT_BYTES_MAX}",
                body.len()
            ),
            hint: "this is a mistake of the program: please report it".to_owned(),
        })
    }

    /// A blocking step that did not end by itself.
    pub(crate) fn from_task(location: &str, action: String, error: TaskError) -> Self {
        match error {
            TaskError::Stopped { .. } => Self::Cancelled(Cancelled),
            TaskError::Panicked { .. } => Self::Unavailable {
                location: location.to_owned(),
                action,
                source: error.into(),
            },
        }
    }
}
