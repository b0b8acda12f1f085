//! The one door to the environment.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where servers lie that ordinary users have no `PATH` to.
const SERVER_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// A variable; one that is empty counts as not set.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A program by its name: in `PATH`, then where servers lie.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let mut files = program_folders().into_iter().map(|folder| folder.join(name));
    files.find(|file| file.is_file())
}

/// Where programs are looked for, in this order.
pub(crate) fn program_folders() -> Vec<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SERVER_FOLDERS.map(PathBuf::from));
    folders.collect()
}
