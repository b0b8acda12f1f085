//! What can go wrong with a server, by what the caller can do next.

use std::path::PathBuf;
use std::time::Duration;

use ballast_base::{Cancelled, Retryable};

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

    /// The address itself is wrong.
    #[error("server address: {detail}")]
    Address { detail: String, hint: String },

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

    /// What to type or change, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unsupported { hint, .. } | Self::Address { hint, .. } => Some(hint.clone()),
            Self::Login { .. } => Some("check the user name, the password and the host the account is for".to_owned()),
            Self::Tls { .. } => Some(
                "give the authority's certificate with ?ca=PATH, or choose ?tls=required (no check of the name) or ?tls=off"
                    .to_owned(),
            ),
            Self::Server { code: 3634, .. } => Some(
                "another clone of this server runs; one that was cut off is given up by the server within a minute"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl Retryable for MysqlError {
    fn may_retry(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Gone { .. } | Self::Timeout { .. } => true,
            Self::Server { code, .. } => PASSING_SERVER_ERRORS.contains(code),
            _ => false,
        }
    }
}
