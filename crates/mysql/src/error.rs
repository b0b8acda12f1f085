//! What can go wrong with a server, by what the caller can do next.

use std::path::PathBuf;
use std::time::Duration;

use ballast_base::{Cancelled, Retryable, ScratchError, TlsError};

use crate::ServerAddress;

/// Errors of the server that another try of the same call may get past.
const PASSING_SERVER_ERRORS: [u16; 8] = [
    1040, // too many connections
    1053, // server shutdown in progress
    1203, // the user has too many connections
    1205, // lock wait timeout
    1213, // deadlock
    3634, // too many concurrent clones: one runs, or the donor still waits for one that was cut
    3857, // a clone is refused while another server operation runs
    3024, // query execution was interrupted by its time limit
];

pub(crate) const PACKET_HINT: &str =
    "as an administrator of that server: SET GLOBAL max_allowed_packet = 1073741824; then start again";

/// What to do about a server that refuses somebody who comes in, by its error number.
fn refusal_hint(code: u16) -> Option<&'static str> {
    Some(match code {
        // All connections are taken.
        1040 => {
            "end connections that nobody needs (SHOW PROCESSLIST), or as an administrator: SET PERSIST max_connections = N; with a larger N"
        }
        // After too many failed connections.
        1129 => {
            "unblock this host as an administrator: TRUNCATE TABLE performance_schema.host_cache; (MariaDB: FLUSH HOSTS;), then look for what failed so often"
        }
        1130 => {
            "no account is for this host: see SELECT user, host FROM mysql.user; and make one with CREATE USER 'NAME'@'HOST' for the address this program comes from"
        }
        // This account's connections are all taken, by the server's limit and by its own.
        1203 => "end other connections of this account, or as an administrator: SET PERSIST max_user_connections = 0;",
        1226 => {
            "the account has a limit of its own: wait, end its other connections, or as an administrator: ALTER USER 'NAME'@'HOST' WITH MAX_USER_CONNECTIONS 0 MAX_CONNECTIONS_PER_HOUR 0 MAX_QUERIES_PER_HOUR 0;"
        }
        1021 | 1114 => "free space on the target's disk (also in its tmpdir), then start again",
        // LOAD DATA LOCAL: any older server, MySQL 8.0 and later, MariaDB 10.6 and later.
        1148 | 3948 | 4166 => crate::load_data::LOCAL_INFILE_HINT,
        // The packet was larger than the server takes, or a value than it makes.
        1153 | 1301 => PACKET_HINT,
        // The password must be changed first, told after and at login.
        1820 | 1862 => {
            "the password has expired, as an administrator: ALTER USER 'NAME'@'HOST' IDENTIFIED BY '…' PASSWORD EXPIRE NEVER; and put the new one where the configuration says"
        }
        3032 => "the server lets administrators in only, as one of them: SET PERSIST offline_mode = OFF;",
        // MySQL's and MariaDB's.
        3118 | 4151 => "as an administrator: ALTER USER 'NAME'@'HOST' ACCOUNT UNLOCK;",
        3159 => {
            "the server demands encrypted connections: write ?tls=required, or ?tls=verify, at the end of the server's url"
        }
        3634 => "another clone of this server runs; one that was cut off is given up by the server within a minute",
        _ => return None,
    })
}

/// Why a server does not send its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRefusal {
    /// Another connection came with our identity.
    Replaced,
    /// The file is not there: purged, or of another server.
    FileGone,
    /// The file is shorter.
    BeyondEnd,
    /// No event begins there: it is another file of the same name.
    NoBorder,
    Other,
}

#[derive(Debug, thiserror::Error)]
pub enum MysqlError {
    /// The server said no, in its own words.
    #[error("the server says: {message} (error {code}, state {state})")]
    Server { code: u16, state: String, message: String },

    /// The server refused the login, in its own words.
    #[error("login as \"{user}\" to {address} refused: {message} (error {code})")]
    Login {
        user: String,
        address: String,
        code: u16,
        message: String,
    },

    #[error("connect to {address}")]
    Unreachable { address: String, source: std::io::Error },

    /// The connection ended where it must not.
    #[error("connection to the server lost while {doing}: {detail}")]
    Gone { doing: &'static str, detail: String },

    #[error("no answer from the server while {doing}, waited {} s", after.as_secs())]
    Timeout { doing: &'static str, after: Duration },

    /// The server sent what this client does not understand.
    #[error("not understood: {what}")]
    Protocol { what: String },

    #[error("no encrypted connection to {address}: {detail}")]
    Tls { address: String, detail: String },

    /// Understood, and not possible with this server, account or data.
    #[error("{what}")]
    Unsupported { what: String, hint: String },

    /// Others on the server stood in the way: another try, at a quieter time, may get through.
    #[error("{what}")]
    Disturbed { what: String, hint: String },

    /// The address itself is wrong.
    #[error("server address: {detail}")]
    Address { detail: String, hint: String },

    /// The server said at the login that it takes no rows from us.
    #[error("the server does not allow LOAD DATA LOCAL")]
    LocalLoad,

    /// The server took another number of rows than it was given; none of them stays.
    #[error("the server took {loaded} rows of {expected}; its first warnings: {}", if warnings.is_empty() { "none" } else { warnings })]
    Rows {
        expected: u64,
        loaded: u64,
        warnings: String,
    },

    /// Where the rows to load came from something failed.
    #[error("read the rows to load")]
    Source {
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// Bytes of a log that are not as a server writes them.
    #[error("the binlog is damaged at offset {offset} of its stream: {detail}")]
    DamagedLog { offset: u64, detail: String },

    /// The server does not send its log, or no more of it.
    #[error("the server does not send {file} from {offset} on: {message}")]
    LogRefused {
        file: String,
        offset: u64,
        cause: LogRefusal,
        message: String,
    },

    /// A server process of our own did not do what it was started for.
    #[error("{what}; its last lines:\n{log}")]
    Process { what: String, log: String },

    #[error("{step} \"{}\"", path.display())]
    File {
        step: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },

    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl MysqlError {
    pub(crate) fn tls(address: &ServerAddress, error: TlsError) -> Self {
        match error {
            TlsError::Refused(detail) => Self::Tls {
                address: address.place(),
                detail,
            },
            TlsError::Lost(error) => Self::Gone {
                doing: "starting TLS",
                detail: error.to_string(),
            },
        }
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol { what: what.into() }
    }

    /// The server's error number, if it was the server that said no.
    pub fn server_code(&self) -> Option<u16> {
        match self {
            Self::Server { code, .. } | Self::Login { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the server forbids LOAD DATA LOCAL; INSERT statements work there.
    pub fn forbids_load(&self) -> bool {
        matches!(self, Self::LocalLoad) || matches!(self.server_code(), Some(1148 | 3948 | 4166))
    }

    /// What to type or change, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unsupported { hint, .. } | Self::Disturbed { hint, .. } | Self::Address { hint, .. } => {
                Some(hint.clone())
            }
            Self::Server { code, .. } | Self::Login { code, .. } if refusal_hint(*code).is_some() => {
                refusal_hint(*code).map(str::to_owned)
            }
            Self::LocalLoad => Some(crate::load_data::LOCAL_INFILE_HINT.to_owned()),
            Self::Rows { .. } => Some(
                "rows that are there already are not loaded again: choose an empty target, or drop the table there"
                    .to_owned(),
            ),
            Self::LogRefused {
                cause: LogRefusal::Replaced,
                ..
            } => Some(
                "another recorder follows this server under the same identity: SHOW REPLICAS names it (MariaDB: SHOW SLAVE HOSTS); stop one of the two"
                    .to_owned(),
            ),
            Self::Login { .. } => Some("check the user name, the password and the host the account is for".to_owned()),
            Self::Tls { .. } => Some(
                "give the authority's certificate with ?ca=PATH, or choose ?tls=required (no check of the name) or ?tls=off"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl From<ScratchError> for MysqlError {
    fn from(error: ScratchError) -> Self {
        let (what, hint) = (error.to_string(), error.hint().to_owned());
        match error {
            ScratchError::File { step, path, source } => Self::File { step, path, source },
            ScratchError::TooLong { .. } => Self::Unsupported { what, hint },
        }
    }
}

impl Retryable for MysqlError {
    fn may_retry(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Gone { .. } | Self::Timeout { .. } | Self::Disturbed { .. } => true,
            Self::Server { code, .. } => PASSING_SERVER_ERRORS.contains(code),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_let_in_is_told_what_to_type() {
        for (code, what) in [
            (1040, "max_connections"),
            (1129, "host_cache"),
            (1130, "CREATE USER"),
            (1203, "max_user_connections"),
            (1226, "MAX_USER_CONNECTIONS"),
            (1820, "PASSWORD EXPIRE"),
            (1862, "PASSWORD EXPIRE"),
            (3032, "offline_mode"),
            (3118, "ACCOUNT UNLOCK"),
            (3159, "?tls=required"),
            (3634, "another clone"),
        ] {
            let (message, state) = (String::new(), "HY000".to_owned());
            let server = MysqlError::Server {
                code,
                state,
                message: message.clone(),
            };
            let (user, address) = ("backup".to_owned(), "db:3306".to_owned());
            let login = MysqlError::Login {
                user,
                address,
                code,
                message,
            };
            for error in [server, login] {
                let hint = error.hint().unwrap_or_default();
                assert!(hint.contains(what), "{code}: {hint}");
            }
        }
    }
}
