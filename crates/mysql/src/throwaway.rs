//! A private server on a data directory: to let it recover, to look into it, to shut it down cleanly.
//!
//! # Who may talk to it
//! The accounts in the data directory are the donor's, and their passwords are not known here. An account of our own,
//! made by an `init-file`, would stay behind in the data and in `gtid_executed`. So the server runs with
//! `--skip-grant-tables`, which changes nothing on disk, and the only way in is a Unix socket in a folder of mode 0700
//! that is made for this server: no network, no X plugin. Whoever can enter that folder could read the data directory
//! as well. With the grant tables the server skips what is installed in tables too (plugins, loadable functions, the
//! event scheduler), so nothing of the donor's runs.
//!
//! # What it must not change
//! No binary log is written and no replication starts by itself, so `gtid_executed` stays what recovery found. One that is
//! started to take in a log ([`ReplayOptions`]) has what belongs to that in its own folder.
//!
//! # What it does not do
//! It does not make durable what it writes. Who keeps the directory syncs it after [`ThrowawayServer::stop`]; after anything else
//! than an orderly stop it is thrown away.
//!
//! Dropped, the server is killed and its folder removed; what a killed process could not take away, the next start does.
//! `stop` is the way to a directory another server may use.

mod initialise;
mod replay;
pub(crate) mod scratch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ballast_base::{Cancel, Clock as _, Scratch, SystemClock};
use tokio::process::{Child, Command};

pub use self::scratch::processes_with;
use crate::{Connection, Flavour, MysqlError, ServerAddress, ServerVersion};

/// `mysqld --version` answers within this time.
const VERSION_WAIT_MAX: Duration = Duration::from_secs(30);
/// How often a starting server is asked whether it is ready.
const READY_EVERY: Duration = Duration::from_millis(20);
const NO_KEYS: [&str; 3] = [
    "--loose-auto-generate-certs=OFF",
    "--loose-sha256-password-auto-generate-rsa-keys=OFF",
    "--loose-caching-sha2-password-auto-generate-rsa-keys=OFF",
];
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A server program and what it says it is.
#[derive(Debug, Clone)]
pub struct ServerBinary {
    pub path: PathBuf,
    pub version: ServerVersion,
}

impl ServerBinary {
    /// Asks the program for its version.
    pub async fn probe(path: &Path, cancel: &Cancel) -> Result<Self, MysqlError> {
        let asked = clean_command(path)
            .args(["--no-defaults", "--version"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = cancel
            .race(tokio::time::timeout(VERSION_WAIT_MAX, asked))
            .await?
            .map_err(|_| MysqlError::Timeout {
                doing: "asking a server program for its version",
                after: VERSION_WAIT_MAX,
            })?
            .map_err(|source| MysqlError::File {
                step: "run server program",
                path: path.to_owned(),
                source,
            })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.split_once("Ver ").and_then(|(_, rest)| {
            let (version, comment) = rest.split_once(' ')?;
            ServerVersion::parse(version, comment)
        });
        match version {
            Some(version) => Ok(Self {
                path: path.to_owned(),
                version,
            }),
            None => Err(MysqlError::Process {
                what: format!("\"{}\" --version does not answer like a MySQL server", path.display()),
                log: format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
            }),
        }
    }
}

/// How to start it.
#[derive(Debug, Clone)]
pub struct ThrowawayOptions {
    pub data_directory: PathBuf,
    /// Options by name, from what the donor recorded (`innodb_page_size`, `lower_case_table_names`,
    /// `innodb_data_file_path`, `innodb_directories`…). They come last, so they win.
    pub settings: BTreeMap<String, String>,
    /// The system account to run as; only root can choose another.
    pub run_as: Option<String>,
    /// Where its own folder is made: a short path, since a socket's is limited.
    pub scratch: PathBuf,
    /// How long recovery may take.
    pub start_wait: Duration,
    /// How long a clean shutdown may take.
    pub stop_wait: Duration,
    /// It will take in a log as a replica.
    pub replay: Option<ReplayOptions>,
    /// MySQL makes the keys and certificates that are not in the directory, as any server does at its first start there; else
    /// nothing is made.
    pub make_keys: bool,
}

/// What a server needs that takes in a log, and only as long as it does.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// No server that wrote the log may have it: what comes under its own id a replica drops in silence.
    pub server_id: u32,
    /// Transactions applied at once; a MariaDB applies them one by one.
    pub workers: u32,
    pub buffer_pool_bytes: u64,
}

impl ThrowawayOptions {
    pub fn new(data_directory: PathBuf) -> Self {
        Self {
            data_directory,
            settings: BTreeMap::new(),
            run_as: None,
            scratch: PathBuf::from("/tmp"),
            start_wait: Duration::from_secs(3600),
            stop_wait: Duration::from_secs(600),
            replay: None,
            make_keys: false,
        }
    }
}

/// A running server. Dropped, it is killed.
#[derive(Debug)]
pub struct ThrowawayServer {
    // Dropped in this order: the server goes before its folder.
    child: Child,
    scratch: Scratch,
    address: ServerAddress,
    stop_wait: Duration,
    cancel: Cancel,
}

impl ThrowawayServer {
    /// Starts it and waits until it answers, recovery included.
    pub async fn start(binary: &ServerBinary, options: ThrowawayOptions, cancel: &Cancel) -> Result<Self, MysqlError> {
        scratch::sweep(&options.scratch, cancel).await?;
        let scratch = scratch::create(&options.scratch, options.run_as.as_deref())?;
        let address = ServerAddress::local(scratch.socket(), "root");
        let child = clean_command(&binary.path)
            .args(arguments(binary, &options, &scratch)?)
            .current_dir(&scratch.path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // What it says before it can open a log of its own counts as well.
            .stderr(scratch.create_log()?)
            // An interrupt typed at our terminal is ours to handle.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| MysqlError::File { step: "run server program", path: binary.path.clone(), source })?;
        let mut server = Self {
            child,
            scratch,
            address,
            stop_wait: options.stop_wait,
            cancel: cancel.clone(),
        };
        cancel
            .race(tokio::time::timeout(options.start_wait, server.wait_ready()))
            .await?
            .map_err(|_| {
                server.failed(format!(
                    "the server did not start within {} s",
                    options.start_wait.as_secs()
                ))
            })??;
        Ok(server)
    }

    async fn wait_ready(&mut self) -> Result<(), MysqlError> {
        let clock = SystemClock::new();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(format!("the server ended while it started ({status})")));
            }
            match Connection::open(&self.address, &self.cancel).await {
                Ok(connection) => {
                    connection.close().await;
                    return Ok(());
                }
                Err(MysqlError::Cancelled(cancelled)) => return Err(cancelled.into()),
                Err(_) => clock.sleep(READY_EVERY).await,
            }
        }
    }

    /// Its socket; no password is asked for.
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// The end of its error log.
    pub fn log_tail(&self) -> String {
        self.scratch.log_tail()
    }

    /// Shuts it down cleanly: what it leaves is whole and needs no recovery. An error if that did not work in time.
    pub async fn stop(mut self) -> Result<(), MysqlError> {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw);
        let Some(pid) = pid else {
            return Err(self.failed("the server had ended by itself".to_owned()));
        };
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(|error| self.failed(format!("the server could not be told to stop ({error})")))?;
        let ended = self
            .cancel
            .race(tokio::time::timeout(self.stop_wait, self.child.wait()))
            .await?;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.failed(format!("the server did not end in order ({status})"))),
            Ok(Err(error)) => Err(self.failed(format!("the server could not be waited for ({error})"))),
            Err(_) => Err(self.failed(format!("the server did not stop within {} s", self.stop_wait.as_secs()))),
        }
    }

    /// Ends it without a shutdown, for a directory that nobody will use; its files are its no more afterwards.
    pub async fn discard(mut self) -> Result<(), MysqlError> {
        let killed = self.child.kill().await;
        killed.map_err(|error| self.failed(format!("the server could not be ended ({error})")))
    }

    fn failed(&self, what: String) -> MysqlError {
        MysqlError::Process {
            what,
            log: self.scratch.log_tail(),
        }
    }
}

/// Nothing of our environment goes in: it may hold secrets, and a server reads some of it.
pub(crate) fn clean_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", SEARCH_PATH);
    command
}

fn arguments(binary: &ServerBinary, options: &ThrowawayOptions, scratch: &Scratch) -> Result<Vec<String>, MysqlError> {
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).ok_or_else(|| MysqlError::Unsupported {
            what: format!("path \"{}\" is not UTF-8", path.display()),
            hint: "choose another folder".to_owned(),
        })
    };
    let folder = text(&scratch.path)?;
    let mut arguments = vec![
        "--no-defaults".to_owned(),
        format!("--datadir={}", text(&options.data_directory)?),
        format!("--socket={}", text(&scratch.socket())?),
        format!("--pid-file={folder}/pid"),
        format!("--tmpdir={folder}"),
        "--skip-networking".to_owned(),
        "--skip-grant-tables".to_owned(),
        "--skip-log-bin".to_owned(),
        // A value that is larger would come cut off.
        "--max-allowed-packet=1073741824".to_owned(),
        "--performance-schema=OFF".to_owned(),
        "--innodb-buffer-pool-dump-at-shutdown=OFF".to_owned(),
        "--innodb-buffer-pool-load-at-startup=OFF".to_owned(),
    ];
    if binary.version.flavour == Flavour::MariaDb {
        arguments.push("--skip-slave-start".to_owned());
    } else {
        let numeric = binary.version.numeric();
        arguments.push("--mysqlx=OFF".to_owned());
        // Nobody logs in over a network: no certificate and no key are needed here.
        if !options.make_keys {
            arguments.extend(NO_KEYS.iter().map(|argument| (*argument).to_owned()));
        }
        // Its threads for native I/O notice the end only after half a second of having nothing to do.
        arguments.push("--innodb-use-native-aio=OFF".to_owned());
        // The usual one is made of 64 MiB of fresh memory. It grows where one change needs more.
        arguments.push("--innodb-log-buffer-size=4M".to_owned());
        // A copy on which this server fails is thrown away, so nothing needs to be written twice.
        arguments.push("--innodb-doublewrite=OFF".to_owned());
        arguments.push("--loose-innodb-log-writer-threads=OFF".to_owned());
        // The files were written a moment ago: read from the page cache they cost nothing. Nor does it wait for the disk:
        // whoever keeps the directory makes it durable after `stop`.
        arguments.push("--innodb-flush-method=nosync".to_owned());
        // Rows may be loaded into it; who can speak to it may do so.
        arguments.push("--local-infile=ON".to_owned());
        // No file access by statements; the built-in folder may not exist, which would stop the start.
        arguments.push("--secure-file-priv=NULL".to_owned());
        arguments.push("--gtid-mode=ON".to_owned());
        arguments.push("--enforce-gtid-consistency=ON".to_owned());
        arguments.push(
            if numeric >= (8, 0, 26) {
                "--skip-replica-start"
            } else {
                "--skip-slave-start"
            }
            .to_owned(),
        );
    }
    if let Some(replay) = &options.replay {
        arguments.extend(replay::arguments(replay, binary, &folder));
    }
    let is_root = rustix::process::geteuid().is_root();
    if let Some(user) = options.run_as.as_deref().or(is_root.then_some("root")) {
        arguments.push(format!("--user={user}"));
    }
    arguments.extend(
        options
            .settings
            .iter()
            .map(|(name, value)| format!("--{}={value}", name.replace('_', "-"))),
    );
    Ok(arguments)
}
