//! What the program hands down from its configuration: typed, checked, with every secret already read.

use std::path::PathBuf;
use std::time::Duration;

use ballast_base::Secret;
use ballast_storage::StorageSettings;

use crate::pattern::TablePattern;

/// One `[[repository]]`.
#[derive(Debug, Clone)]
pub struct RepositorySettings {
    pub name: String,
    pub storage: StorageSettings,
}

/// What opens the repositories: the one lock of `[key]`.
#[derive(Debug, Clone)]
pub enum KeyMaterial {
    Passphrase(Secret),
    /// The content of a key file: at least 32 bytes of text, such as 64 hex digits.
    KeyFile(Secret),
}

/// One `[[source]]`.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    pub name: String,
    pub kind: SourceKind,
    /// `mysql://user@host:port?socket=…&tls=…&ca=…`; never with a password in it.
    pub url: String,
    pub password: Option<Secret>,
    /// Databases that must be in a backup; empty means all but the server's own.
    pub databases: Vec<String>,
    /// Tables that must be in a backup for it to be good.
    pub expect: Vec<TablePattern>,
    pub engine: Engine,
    /// Of the external engine.
    pub tools: ToolPlaces,
    pub limit: Limit,
    pub log: LogSettings,
}

/// How the source's log is followed.
#[derive(Debug, Clone, Copy)]
pub struct LogSettings {
    /// It is to be recorded all the time, so `doctor` says what that needs.
    pub follow: bool,
    /// Acknowledge transactions once they are durable here.
    pub semi_sync: bool,
    /// How soon a piece of it is closed and uploaded.
    pub seal_after: Duration,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            follow: false,
            semi_sync: false,
            seal_after: Duration::from_secs(1),
        }
    }
}

/// `[spool]`: where a log that is followed is kept until every repository has it.
#[derive(Debug, Clone, Default)]
pub struct SpoolSettings {
    pub path: PathBuf,
    /// Of each source.
    pub limit: u64,
}

impl SpoolSettings {
    /// Two segments that are open or on their way, and room to go on meanwhile.
    pub const LIMIT_MIN: u64 = 64 * 1024 * 1024;
}

/// Where the backup tool of the external engine is looked for.
#[derive(Debug, Clone, Default)]
pub struct ToolPlaces {
    /// This one and no other.
    pub named: Option<PathBuf>,
    /// Those of `PATH`.
    pub folders: Vec<PathBuf>,
}

/// How much a backup may ask of the server; `None` is as much as it gives.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limit {
    /// Bytes a second that are read.
    pub rate: Option<u64>,
    /// Reading of rows pauses while more threads of others run.
    pub threads_running: Option<u64>,
    /// Reading of rows pauses while the server is further behind its source.
    pub lag: Option<Duration>,
}

impl Limit {
    /// Slower, and the server could take the connections for dead.
    pub const RATE_MIN: u64 = 1024 * 1024;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    Mysql,
    Redis,
}

/// How a backup is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    #[default]
    Auto,
    Physical,
    Logical,
    External,
    /// Of a Redis, the only one.
    Snapshot,
}
