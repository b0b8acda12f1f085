//! The folder a private server or a backup tool has for itself, and how what was left behind in one is known.

use std::path::Path;

use ballast_base::{Cancel, Scratch, processes_where, socket_in};
use rustix::process::Pid;

use crate::MysqlError;

const PREFIX: &str = "ballast-";

/// Makes one that belongs to the account `owner`.
pub(crate) fn create(parent: &Path, owner: Option<&str>) -> Result<Scratch, MysqlError> {
    let scratch = Scratch::create(parent, PREFIX)?;
    if let Some(name) = owner {
        let (user, group) = find_account(name)?;
        let given = std::os::unix::fs::chown(&scratch.path, Some(user), Some(group));
        given.map_err(|source| MysqlError::File {
            step: "give away folder",
            path: scratch.path.clone(),
            source,
        })?;
    }
    Ok(scratch)
}

/// Takes away what those left that were killed.
pub(crate) async fn sweep(parent: &Path, cancel: &Cancel) -> Result<(), MysqlError> {
    Ok(ballast_base::sweep(parent, PREFIX, servers_of, cancel).await?)
}

/// Servers that were started with the socket in this folder, and tools that were started with the folder as their target.
fn servers_of(folder: &Path) -> Vec<Pid> {
    let mut found = processes_with(&format!("--socket={}", socket_in(folder).display()));
    found.extend(processes_with(&tool_argument(folder)));
    found
}

/// The argument by which a backup tool that was left behind is known.
pub(crate) fn tool_argument(folder: &Path) -> String {
    format!("--target-dir={}", folder.display())
}

/// Processes that have exactly this among their arguments.
pub fn processes_with(argument: &str) -> Vec<Pid> {
    processes_where(|command| command.split(|byte| *byte == 0).any(|part| part == argument.as_bytes()))
}

/// The numbers of a system account.
fn find_account(name: &str) -> Result<(u32, u32), MysqlError> {
    const ACCOUNTS: &str = "/etc/passwd";
    let accounts = std::fs::read_to_string(ACCOUNTS).map_err(|source| MysqlError::File {
        step: "read accounts",
        path: ACCOUNTS.into(),
        source,
    })?;
    let numbers = |line: &str| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    accounts
        .lines()
        .find_map(numbers)
        .ok_or_else(|| MysqlError::Unsupported {
            what: format!("there is no system account \"{name}\""),
            hint: "name the account that the server is to run as, often mysql".to_owned(),
        })
}
