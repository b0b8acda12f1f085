//! Why a promise could not be kept, by what the caller does next. The program turns each kind into its exit code.

use ballast_base::Cancelled;

pub(crate) type Result<T> = std::result::Result<T, ProtectError>;

/// What kind of failure it is; the exit codes of the contract follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The work failed (exit 1).
    Failed,
    /// The request or the configuration is wrong (exit 2).
    Usage,
    /// Stored bytes are damaged or missing, or a proof found a difference (exit 4).
    Damaged,
    /// What was asked for cannot be restored (exit 5).
    NotRestorable,
    /// There is no repository (exit 10).
    NoRepository,
    /// Another writer holds it (exit 11).
    Held,
    /// The key opens nothing (exit 12).
    WrongKey,
    /// Stopped in order (exit 130).
    Interrupted,
}

/// A failure with its object, its causes and what to type next.
#[derive(Debug)]
pub struct ProtectError {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ProtectError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            source: None,
        }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// A mistake in what the configuration says of a server.
    pub(crate) fn usage_of(error: ballast_mysql::MysqlError) -> Self {
        Self {
            kind: ErrorKind::Usage,
            ..error.into()
        }
    }

    pub(crate) fn of_kind(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts what the error is about before its message.
    pub(crate) fn about(mut self, object: &str) -> Self {
        self.message = format!("{object}: {}", self.message);
        self
    }

    /// Appends what else failed.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.message = format!("{}; {more}", self.message);
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to type next, where that is known.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl std::fmt::Display for ProtectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ProtectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

impl From<Cancelled> for ProtectError {
    fn from(cancelled: Cancelled) -> Self {
        Self::new(ErrorKind::Interrupted, cancelled.to_string())
    }
}

impl From<ballast_repository::RepositoryError> for ProtectError {
    fn from(error: ballast_repository::RepositoryError) -> Self {
        use ballast_repository::RepositoryError as R;
        let message = error.to_string();
        if let R::Local(local) = error {
            return Self::failed(message).because(local.source);
        }
        match &error {
            R::NoRepository { .. } => {
                Self::new(ErrorKind::NoRepository, message).hint("check the url, or create it with: ballast init")
            }
            R::Headless { .. } => Self::new(ErrorKind::Damaged, message).hint(
                "bring it back from another repository of the configuration: ballast copy --from NAME --to NAME; \
                 or put the object back from a copy of the storage",
            ),
            R::WrongKey { .. } => Self::new(ErrorKind::WrongKey, message)
                .hint("use the passphrase or key file the repository was created with; see [key] in the configuration"),
            R::Foreign { .. } => Self::usage(message).hint("choose an empty place for a new repository"),
            R::Different { .. } => Self::usage(message).hint(
                "give each set of repositories a configuration of its own; to restore from one of these: --from-repository NAME",
            ),
            R::TooNew { .. } => Self::failed(message).hint("use the version of ballast that wrote it, or a later one"),
            R::Damaged { .. } | R::Missing { .. } => Self::new(ErrorKind::Damaged, message)
                .hint("see all that is damaged with: ballast verify; restore from another repository with --from-repository NAME"),
            R::NoBackup { .. } => Self::new(ErrorKind::NotRestorable, message).hint("see what there is with: ballast list"),
            R::Cancelled(cancelled) => Self::from(*cancelled),
            R::Storage(storage) => Self::from_storage(storage),
            R::NoneLeft { .. } | R::Task(_) | R::TooLarge { .. } | R::Needed { .. } | R::NotMergeable(_) | R::Local(_) => {
                Self::failed(message)
            }
            R::Sink(_) => Self::failed(message).because(error),
        }
    }
}

impl From<ballast_storage::StorageError> for ProtectError {
    fn from(error: ballast_storage::StorageError) -> Self {
        Self::from_storage(&error)
    }
}

impl From<ballast_mysql::MysqlError> for ProtectError {
    fn from(error: ballast_mysql::MysqlError) -> Self {
        if let ballast_mysql::MysqlError::Cancelled(cancelled) = error {
            return cancelled.into();
        }
        let hint = error.hint();
        const CLONE_RUNS: u16 = 3634;
        let kind = if error.server_code() == Some(CLONE_RUNS) {
            ErrorKind::Held
        } else {
            ErrorKind::Failed
        };
        let made = Self::new(kind, chain(&error));
        match hint {
            Some(hint) => made.hint(hint),
            None => made,
        }
    }
}

impl From<ballast_redis::RedisError> for ProtectError {
    fn from(error: ballast_redis::RedisError) -> Self {
        let kind = match &error {
            ballast_redis::RedisError::Cancelled(cancelled) => return (*cancelled).into(),
            ballast_redis::RedisError::Damaged { .. } => ErrorKind::Damaged,
            _ => ErrorKind::Failed,
        };
        let made = Self::new(kind, chain(&error));
        match error.hint() {
            Some(hint) => made.hint(hint),
            None => made,
        }
    }
}

impl From<ballast_base::TaskError> for ProtectError {
    fn from(error: ballast_base::TaskError) -> Self {
        Self::failed(error.to_string())
    }
}

impl ProtectError {
    fn from_storage(error: &ballast_storage::StorageError) -> Self {
        use ballast_storage::StorageError as S;
        let message = chain(error);
        match error {
            S::Cancelled(cancelled) => Self::from(*cancelled),
            S::Corrupt { .. } => {
                Self::new(ErrorKind::Damaged, message).hint("see all that is damaged with: ballast verify")
            }
            S::Misconfigured { .. } => Self::usage(message),
            _ => Self::failed(message),
        }
    }
}

/// An error and its causes as one sentence; a cause that its error spelled out already is not said twice.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
