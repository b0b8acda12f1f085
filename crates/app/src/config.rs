//! `ballast.toml`: found, read, checked as a whole, and turned into the settings of the floors below.
//!
//! Secrets are only named in the file. They are read when a verb needs them, and only those it needs.

pub(crate) mod environment;
pub(crate) mod schema;
pub(crate) mod settings;

mod address;
mod cron;
mod keys;
mod reader;
mod sections;
#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ballast_base::SecretRef;
use ballast_protect::{Engine, Limit, LogSettings, SourceKind, SpoolSettings, TablePattern};

pub(crate) use keys::ENGINES;
pub(crate) use reader::{Effective, Mistake};
pub(crate) use sections::engine_of;

/// A configuration may be this large.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Where it is looked for when nobody names it.
const PLACES: [&str; 2] = ["ballast.toml", "/etc/ballast/ballast.toml"];

/// A configuration without mistakes.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) file: PathBuf,
    pub(crate) repositories: Vec<Repository>,
    pub(crate) key: KeyRef,
    pub(crate) objectives: Objectives,
    pub(crate) spool: SpoolSettings,
    pub(crate) sources: Vec<Source>,
    /// Every value that holds, for `config show`.
    pub(crate) values: Vec<Effective>,
}

/// One `[[repository]]`.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) access_key: Option<SecretRef>,
    pub(crate) secret_key: Option<SecretRef>,
    pub(crate) session_token: Option<SecretRef>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) insecure: bool,
}

/// `[key]`.
#[derive(Debug)]
pub(crate) enum KeyRef {
    Passphrase(SecretRef),
    KeyFile(SecretRef),
}

/// `[objectives]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Objectives {
    pub(crate) rpo: Duration,
    pub(crate) rto: Duration,
}

/// One `[[source]]`.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) kind: SourceKind,
    pub(crate) url: String,
    pub(crate) password: Option<SecretRef>,
    pub(crate) databases: Vec<String>,
    pub(crate) expect: Vec<TablePattern>,
    pub(crate) engine: Engine,
    pub(crate) tool: Option<PathBuf>,
    pub(crate) limit: Limit,
    pub(crate) log: LogSettings,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("no configuration found (looked for {})", searched.join(", "))]
    Absent { searched: Vec<String> },
    #[error("read configuration \"{}\"", file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("configuration \"{}\" has {}", file.display(), counted(mistakes.len()))]
    Mistakes { file: PathBuf, mistakes: Vec<Mistake> },
}

fn counted(mistakes: usize) -> String {
    if mistakes == 1 {
        "1 mistake".to_owned()
    } else {
        format!("{mistakes} mistakes")
    }
}

impl Config {
    /// Finds and reads the configuration; `named` is what `--config` says.
    pub(crate) fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        let file = find(named)?;
        let text = read_text(&file).map_err(|source| ConfigError::Unreadable {
            file: file.clone(),
            source,
        })?;
        sections::read(&file, &text).map_err(|mistakes| ConfigError::Mistakes { file, mistakes })
    }
}

/// A file that was named must be there; the usual places are tried in order.
fn find(named: Option<&Path>) -> Result<PathBuf, ConfigError> {
    if let Some(file) = named {
        return Ok(file.to_owned());
    }
    if let Some(file) = environment::variable("BALLAST_CONFIG") {
        return Ok(file.into());
    }
    PLACES
        .iter()
        .map(PathBuf::from)
        .find(|place| place.exists())
        .ok_or_else(|| ConfigError::Absent {
            searched: std::iter::once("$BALLAST_CONFIG")
                .chain(PLACES)
                .map(str::to_owned)
                .collect(),
        })
}

fn read_text(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "it is larger than {FILE_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}
