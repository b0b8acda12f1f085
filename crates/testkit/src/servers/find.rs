//! Where the real servers are: the `BALLAST_*` variable, then `PATH`, then what `./dev servers` put into the cache.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest MySQL that has the clone plugin.
const OLDEST_MYSQL: (u32, u32, u32) = (8, 0, 17);

/// One server program and how to recognise it.
pub(crate) struct Wanted {
    pub(crate) variable: &'static str,
    pub(crate) program: &'static str,
    /// The folder of `./dev servers` in the cache.
    pub(crate) prefix: &'static str,
    /// Whether the output of `--version` is that of the wanted server.
    pub(crate) is_it: fn(&str) -> bool,
}

pub(crate) const MYSQL: Wanted = Wanted {
    variable: "BALLAST_MYSQLD",
    program: "mysqld",
    prefix: "mysql",
    is_it: is_new_mysql,
};
pub(crate) const MARIADB: Wanted = Wanted {
    variable: "BALLAST_MARIADBD",
    program: "mariadbd",
    prefix: "mariadb",
    is_it: |version| version.contains("MariaDB"),
};
pub(crate) const REDIS: Wanted = Wanted {
    variable: "BALLAST_REDIS_SERVER",
    program: "redis-server",
    prefix: "redis",
    is_it: |version| version.starts_with("Redis server"),
};
pub(crate) const VALKEY: Wanted = Wanted {
    variable: "BALLAST_VALKEY_SERVER",
    program: "valkey-server",
    prefix: "valkey",
    is_it: |version| version.contains("alkey"),
};

/// Panics with what to type when the server is nowhere: a missing server never skips a test.
pub(crate) fn find(wanted: &Wanted) -> PathBuf {
    if let Some(path) = env::var_os(wanted.variable).filter(|value| !value.is_empty()) {
        let path = PathBuf::from(path);
        assert!(
            path.is_file(),
            "{} names {}, which is not there",
            wanted.variable,
            path.display()
        );
        return path;
    }
    if let Some(path) = in_path(wanted.program)
        && (wanted.is_it)(&version_of(&path))
    {
        return path;
    }
    let path = cache_dir()
        .join("servers")
        .join(wanted.prefix)
        .join("bin")
        .join(wanted.program);
    assert!(path.is_file(), "there is no {}; run ./dev servers", wanted.program);
    path
}

/// The client program of the same series: beside the server, or in `PATH` where the server is in an `sbin`.
pub(crate) fn client_beside(server: &Path, client: &str) -> PathBuf {
    let beside = server.with_file_name(client);
    if beside.is_file() {
        return beside;
    }
    in_path(client).unwrap_or_else(|| panic!("there is no {client} for {}; run ./dev servers", server.display()))
}

/// Where `./dev servers` puts servers, and where the kit keeps initialised data directories.
pub(crate) fn cache_dir() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(cache) = set("BALLAST_CACHE") {
        return cache;
    }
    if let Some(cache) = set("XDG_CACHE_HOME") {
        return cache.join("ballast");
    }
    set("HOME").expect("HOME is set").join(".cache/ballast")
}

fn in_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

pub(crate) fn version_of(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}

/// `8.0.36` out of `mysqld  Ver 8.0.36 for Linux …`.
pub(crate) fn number_in(version: &str) -> Option<(u32, u32, u32)> {
    let text = version.split("Ver ").nth(1)?;
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let mut parts = text[..end].split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

fn is_new_mysql(version: &str) -> bool {
    !version.contains("MariaDB") && number_in(version).is_some_and(|number| number >= OLDEST_MYSQL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mysql_with_the_clone_plugin_is_taken_from_path() {
        assert!(is_new_mysql(
            "/usr/sbin/mysqld  Ver 8.0.36-0ubuntu0.22.04.1 for Linux on x86_64 ((Ubuntu))"
        ));
        assert!(is_new_mysql("mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))"));
        assert!(!is_new_mysql(
            "mysqld  Ver 8.0.16 for Linux on x86_64 (MySQL Community Server - GPL)"
        ));
        assert!(!is_new_mysql(
            "mysqld  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)"
        ));
        assert!(!is_new_mysql("garbage"));
    }
}
