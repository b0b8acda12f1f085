//! What can go wrong with a server or its data, by what the caller can do next.

use std::path::PathBuf;
use std::time::Duration;

use ballast_base::{Cancelled, Retryable, ScratchError, TlsError};

use crate::ServerAddress;

/// Answers by which the server says that it cannot now: loading its data, a script that runs on, a replica that waits for its
/// own primary.
const PASSING_CODES: [&str; 6] = [
    "LOADING",
    "BUSY",
    "TRYAGAIN",
    "NOMASTERLINK",
    "MASTERDOWN",
    "NOREPLICAS",
];

/// What to do about an error answer, by its first word.
fn answer_hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "NOAUTH" => "the server wants a password: give it with password = { env = \"NAME\" } or { file = \"PATH\" }",
        "WRONGPASS" => "check the user name in the url and the password; as an administrator: ACL GETUSER NAME",
        "NOPERM" => {
            "give the account its rights, as an administrator: ACL SETUSER NAME on +ping +psync +replconf +info"
        }
        "DENIED" => {
            "the server is in protected mode: set a password (CONFIG SET requirepass …), or connect by its Unix socket"
        }
        "LOADING" => "the server is loading its data; try again when it has ended",
        "NOMASTERLINK" | "MASTERDOWN" => {
            "this replica has lost its primary: mend that (INFO replication shows it), or name the primary as the source"
        }
        "BUSYKEY" => "somebody else made this key meanwhile: see to it that nobody writes there, or add --replace",
        "MISCONF" => "the server cannot save to its own disk: look at its log and at INFO persistence",
        "READONLY" => "this server is a replica; name its primary",
        "OOM" => {
            "the server is at its maxmemory: free some, or as an administrator: CONFIG SET maxmemory N with a larger N"
        }
        _ => return None,
    })
}

#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The server said no, in its own words.
    #[error("the server says: {message}")]
    Server { message: String },

    /// The server said no to one key, in its own words.
    #[error("database {database}, key \"{name}\": the server says: {message}")]
    Key {
        database: u32,
        name: String,
        message: String,
    },

    /// The server refused the login, in its own words.
    #[error("login as \"{user}\" to {address} refused: {message}")]
    Login {
        user: String,
        address: String,
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

    /// Bytes that were written by a server and are not what it wrote: changed, or cut short.
    #[error("snapshot damaged at byte {offset}: {what}")]
    Damaged { offset: u64, what: String },

    /// Understood, and not possible with this server, account or data.
    #[error("{what}")]
    Unsupported { what: String, hint: String },

    /// Something else on the server stood in the way: another try may get through.
    #[error("{what}")]
    Disturbed { what: String, hint: String },

    /// The address itself is wrong.
    #[error("server address: {detail}")]
    Address { detail: String, hint: String },

    /// Where the bytes came from something failed.
    #[error("read the snapshot")]
    Source { source: std::io::Error },

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

impl RedisError {
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

    /// The first word of the server's answer (`NOPERM`, `LOADING`, `ERR`), if it was the server that said no.
    pub fn server_code(&self) -> Option<&str> {
        match self {
            Self::Server { message } | Self::Login { message, .. } | Self::Key { message, .. } => {
                message.split(' ').next()
            }
            _ => None,
        }
    }

    /// What to type or change, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unsupported { hint, .. } | Self::Disturbed { hint, .. } | Self::Address { hint, .. } => {
                Some(hint.clone())
            }
            Self::Server { .. } | Self::Login { .. } | Self::Key { .. } => self.server_code().and_then(answer_hint).map(str::to_owned),
            Self::Tls { .. } => Some(
                "give the authority's certificate with ?ca=PATH, choose ?tls=required (no check of the name), or ?tls=off where the port \
                 does not speak TLS and the network is trusted"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl From<ScratchError> for RedisError {
    fn from(error: ScratchError) -> Self {
        let (what, hint) = (error.to_string(), error.hint().to_owned());
        match error {
            ScratchError::File { step, path, source } => Self::File { step, path, source },
            ScratchError::TooLong { .. } => Self::Unsupported { what, hint },
        }
    }
}

impl Retryable for RedisError {
    fn may_retry(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Gone { .. } | Self::Timeout { .. } | Self::Disturbed { .. } => true,
            Self::Server { message } => {
                message.contains("max number of clients")
                    || self.server_code().is_some_and(|code| PASSING_CODES.contains(&code))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_let_in_is_told_what_to_type() {
        for (message, what, again) in [
            ("NOAUTH Authentication required.", "password = {", false),
            ("WRONGPASS invalid username-password pair", "ACL GETUSER", false),
            (
                "NOPERM this user has no permissions to run the 'psync' command",
                "+psync",
                false,
            ),
            ("DENIED Redis is running in protected mode", "requirepass", false),
            ("LOADING Redis is loading the dataset in memory", "try again", true),
            ("NOMASTERLINK Can't SYNC while not connected", "primary", true),
        ] {
            let error = RedisError::Server {
                message: message.to_owned(),
            };
            assert!(error.hint().unwrap().contains(what), "{message}");
            assert_eq!(error.may_retry(), again, "{message}");
        }
    }
}
