//! What can go wrong in the vault, by what the caller does next.

use ballast_base::{Cancelled, DurableError, TaskError};
use ballast_storage::StorageError;

pub(crate) type Result<T> = std::result::Result<T, RepositoryError>;

#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Nothing of ours lies there: `init` comes first.
    #[error("there is no repository at {location}")]
    NoRepository { location: String },
    /// There is a repository, and what opens it is missing or damaged: its stamp, or every key slot. It can be brought back
    /// from another copy.
    #[error("the repository at {location} cannot be opened: object \"{object}\" {state}")]
    Headless {
        location: String,
        object: String,
        state: String,
    },
    /// The lock opens none of the key slots.
    #[error("the key opens no lock of the repository at {location}")]
    WrongKey { location: String },
    /// There is a repository, but not the one that belongs here.
    #[error("the repository at {location} is another one: its id is {found}, the others have {expected}")]
    Different {
        location: String,
        found: String,
        expected: String,
    },
    /// Something else lies where a repository should be made.
    #[error("{location} is not empty: it holds \"{object}\" and no repository")]
    Foreign { location: String, object: String },
    /// Written by a later version of this program.
    #[error("object \"{object}\" at {location} has format version {found}, and this program reads up to {supported}")]
    TooNew {
        location: String,
        object: String,
        found: u16,
        supported: u16,
    },
    /// Stored bytes are not what was written.
    #[error("object \"{object}\" at {location} is damaged: {cause}")]
    Damaged {
        location: String,
        object: String,
        cause: String,
    },
    /// A stored object is gone that another one names.
    #[error("object \"{object}\" is missing at {location}")]
    Missing { location: String, object: String },
    #[error("there is no backup \"{id}\" at {location}")]
    NoBackup { location: String, id: String },
    /// It is asked to remove something that is not superseded.
    #[error("object \"{object}\" at {location} is not removed: nothing else holds its bytes")]
    Needed { location: String, object: String },
    #[error("{0} cannot become one")]
    NotMergeable(&'static str),
    /// A file of this machine.
    #[error(transparent)]
    Local(#[from] DurableError),
    /// The storage did not do what it was asked.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No repository of several is left to write to.
    #[error("no repository is left to write to: {causes}")]
    NoneLeft { causes: String },
    /// The one who asked for the bytes could not take them.
    #[error("write restored bytes")]
    Sink(#[source] std::io::Error),
    #[error(transparent)]
    Task(#[from] TaskError),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A limit of the format was met.
    #[error("{what} is larger than the format allows ({max})")]
    TooLarge { what: &'static str, max: u64 },
}

impl RepositoryError {
    pub(crate) fn damaged(location: &str, object: impl ToString, cause: impl ToString) -> Self {
        Self::Damaged {
            location: location.to_owned(),
            object: object.to_string(),
            cause: cause.to_string(),
        }
    }

    pub(crate) fn headless(location: &str, object: impl ToString, state: impl Into<String>) -> Self {
        Self::Headless {
            location: location.to_owned(),
            object: object.to_string(),
            state: state.into(),
        }
    }

    /// Turns "not found" of the storage into the vault's own word for an object that must be there.
    pub(crate) fn must_exist(location: &str, error: StorageError) -> Self {
        match error {
            StorageError::NotFound { name, .. } => Self::Missing {
                location: location.to_owned(),
                object: name.to_string(),
            },
            other => Self::Storage(other),
        }
    }
}
