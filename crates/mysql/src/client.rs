//! What each connection tells the server of the one who opened it: the server shows it to other connections of the account
//! (`performance_schema.session_account_connect_attrs`), so that who holds something there can be named.

use ballast_base::{Clock as _, SystemClock};

/// Which program it is, by the name all client libraries use.
pub const PROGRAM_ATTRIBUTE: &str = "program_name";
/// The process, by the name all client libraries use.
pub const PID_ATTRIBUTE: &str = "_pid";
/// The machine the process runs on.
pub const HOST_ATTRIBUTE: &str = "host";
/// When the connection was opened, by the clock of that machine.
pub const SINCE_ATTRIBUTE: &str = "since";

pub(crate) fn attributes() -> [(String, String); 4] {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    [
        (PROGRAM_ATTRIBUTE, "ballast".to_owned()),
        (PID_ATTRIBUTE, std::process::id().to_string()),
        (HOST_ATTRIBUTE, host),
        (SINCE_ATTRIBUTE, SystemClock::new().now().to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}
