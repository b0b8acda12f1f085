//! A private server on a directory: to let it load what was restored, and to look into it.
//!
//! # Who may talk to it
//! The only way in is a Unix socket in a folder of mode 0700 that is made for this server: no network, no password. Whoever can
//! enter that folder could read the data as well.
//!
//! # What it must not change
//! It saves nothing by itself and rewrites no log, but a primary deletes keys whose time has come, and writes that into the last
//! file of its log. With [`ThrowawayOptions::keeps_expired`] it stands as a replica of nobody: nothing expires and nothing is
//! written. A log whose end is not whole is cut in place by any server that loads it.
//!
//! Dropped, the server is killed and its folder removed; what a killed process of ours could not take away, the next start does.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ballast_base::{Cancel, Clock as _, Scratch, SystemClock, processes_where, socket_in, sweep};
use rustix::process::Pid;
use tokio::process::{Child, Command};

use crate::aof::DataForm;
use crate::server::{Flavour, Info, ServerVersion};
use crate::{Connection, RedisError, ServerAddress};

/// `redis-server --version` answers within this time.
const VERSION_WAIT_MAX: Duration = Duration::from_secs(30);
/// How often a starting server is asked whether it is ready.
const READY_EVERY: Duration = Duration::from_millis(20);
const SCRATCH_PREFIX: &str = "ballast-redis-";
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A server program and what it says it is.
#[derive(Debug, Clone)]
pub struct ServerBinary {
    pub path: PathBuf,
    pub version: ServerVersion,
}

impl ServerBinary {
    /// Asks the program for its version.
    pub async fn probe(path: &Path, cancel: &Cancel) -> Result<Self, RedisError> {
        let asked = clean_command(path)
            .arg("--version")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = cancel
            .race(tokio::time::timeout(VERSION_WAIT_MAX, asked))
            .await?
            .map_err(|_| RedisError::Timeout {
                doing: "asking a server program for its version",
                after: VERSION_WAIT_MAX,
            })?
            .map_err(|source| RedisError::File {
                step: "run server program",
                path: path.to_owned(),
                source,
            })?;
        let text = String::from_utf8_lossy(&output.stdout);
        match version_in(&text) {
            Some(version) => Ok(Self {
                path: path.to_owned(),
                version,
            }),
            None => Err(RedisError::Process {
                what: format!("\"{}\" --version does not answer like Redis or Valkey", path.display()),
                log: format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
            }),
        }
    }
}

/// `7.0.15` out of `Redis server v=7.0.15 sha=…`.
fn version_in(text: &str) -> Option<ServerVersion> {
    let flavour = match text.split(' ').next()? {
        "Redis" => Flavour::Redis,
        "Valkey" => Flavour::Valkey,
        _ => return None,
    };
    let text = text.split(' ').find_map(|word| word.strip_prefix("v="))?.to_owned();
    Some(ServerVersion { flavour, text })
}

/// How to start it.
#[derive(Debug, Clone)]
pub struct ThrowawayOptions {
    pub data_directory: PathBuf,
    /// How that is laid out.
    pub form: DataForm,
    /// Databases it has; a key of one it has not would end its start.
    pub databases: u32,
    /// Nothing expires and nothing is written.
    pub keeps_expired: bool,
    /// Where its own folder is made: a short path, since a socket's is limited.
    pub scratch: PathBuf,
    /// How long loading may take.
    pub start_wait: Duration,
    /// How long an orderly end may take.
    pub stop_wait: Duration,
}

impl ThrowawayOptions {
    pub fn new(data_directory: PathBuf, form: DataForm) -> Self {
        Self {
            data_directory,
            form,
            databases: 16,
            keeps_expired: false,
            scratch: PathBuf::from("/tmp"),
            start_wait: Duration::from_secs(3600),
            stop_wait: Duration::from_secs(600),
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
    /// Starts it and waits until it has loaded everything.
    pub async fn start(binary: &ServerBinary, options: ThrowawayOptions, cancel: &Cancel) -> Result<Self, RedisError> {
        sweep(&options.scratch, SCRATCH_PREFIX, servers_of, cancel).await?;
        let scratch = Scratch::create(&options.scratch, SCRATCH_PREFIX)?;
        let address = ServerAddress::local(scratch.socket());
        let child = clean_command(&binary.path)
            .args(arguments(&binary.version, &options, &scratch)?)
            .current_dir(&scratch.path)
            .stdin(Stdio::null())
            .stdout(scratch.create_log()?)
            .stderr(Stdio::null())
            // An interrupt typed at our terminal is ours to handle.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| RedisError::File {
                step: "run server program",
                path: binary.path.clone(),
                source,
            })?;
        let mut server = Self {
            child,
            scratch,
            address,
            stop_wait: options.stop_wait,
            cancel: cancel.clone(),
        };
        let ready = tokio::time::timeout(options.start_wait, server.wait_ready());
        let ready = cancel.race(ready).await?;
        let seconds = options.start_wait.as_secs();
        ready.map_err(|_| server.failed(format!("the server did not load its data within {seconds} s")))??;
        Ok(server)
    }

    async fn wait_ready(&mut self) -> Result<(), RedisError> {
        let clock = SystemClock::new();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(format!("the server ended while it loaded its data ({status})")));
            }
            match self.is_loaded().await {
                Ok(true) => return Ok(()),
                Err(RedisError::Cancelled(cancelled)) => return Err(cancelled.into()),
                Ok(false) | Err(_) => clock.sleep(READY_EVERY).await,
            }
        }
    }

    async fn is_loaded(&self) -> Result<bool, RedisError> {
        let mut connection = Connection::open(&self.address, &self.cancel).await?;
        let info = Info::read(&mut connection).await?;
        Ok(!info.is_on("loading") && !info.is_on("async_loading"))
    }

    /// Its socket; no password is asked for.
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Makes one that keeps what has expired able to give its data away. Its files stay as they are: it writes no log from
    /// here on, and then forgets what expires, in memory.
    pub async fn lead(&self) -> Result<(), RedisError> {
        let mut connection = Connection::open(&self.address, &self.cancel).await?;
        connection.command(&[b"CONFIG", b"SET", b"appendonly", b"no"]).await?;
        connection.command(&[b"REPLICAOF", b"NO", b"ONE"]).await?;
        connection.close().await;
        Ok(())
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        self.scratch.log_tail()
    }

    /// Ends it in order, nothing saved.
    pub async fn stop(mut self) -> Result<(), RedisError> {
        let mut connection = Connection::open(&self.address, &self.cancel).await?;
        // It ends without an answer.
        drop(connection.command(&[b"SHUTDOWN", b"NOSAVE"]).await);
        let ended = tokio::time::timeout(self.stop_wait, self.child.wait());
        match self.cancel.race(ended).await? {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.failed(format!("the server did not end in order ({status})"))),
            Ok(Err(error)) => Err(self.failed(format!("the server could not be waited for ({error})"))),
            Err(_) => Err(self.failed(format!("the server did not stop within {} s", self.stop_wait.as_secs()))),
        }
    }

    /// Ends it at once; its files are its no more afterwards.
    pub async fn discard(mut self) -> Result<(), RedisError> {
        let killed = self.child.kill().await;
        killed.map_err(|error| self.failed(format!("the server could not be ended ({error})")))
    }

    fn failed(&self, what: String) -> RedisError {
        RedisError::Process {
            what,
            log: self.scratch.log_tail(),
        }
    }
}

/// Servers that were started with the socket in this folder.
fn servers_of(folder: &Path) -> Vec<Pid> {
    let socket = socket_in(folder);
    processes_where(|command| {
        // A server may write its socket behind its name, in one word.
        let mut words = command.split(|byte| byte.is_ascii_whitespace() || *byte == 0);
        words.any(|word| word.strip_prefix(b"unixsocket:").unwrap_or(word) == socket.as_os_str().as_encoded_bytes())
    })
}

/// Nothing of our environment goes in: it may hold secrets.
fn clean_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", SEARCH_PATH);
    command
}

fn arguments(
    version: &ServerVersion,
    options: &ThrowawayOptions,
    scratch: &Scratch,
) -> Result<Vec<String>, RedisError> {
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).ok_or_else(|| RedisError::Unsupported {
            what: format!("path \"{}\" is not UTF-8", path.display()),
            hint: "choose another folder".to_owned(),
        })
    };
    let data = std::path::absolute(&options.data_directory).map_err(|source| RedisError::File {
        step: "find folder",
        path: options.data_directory.clone(),
        source,
    })?;
    let (data, socket) = (text(&data)?, text(&scratch.socket())?);
    let databases = options.databases.to_string();
    let mut arguments: Vec<String> = [
        ["--port", "0"],
        ["--unixsocket", &socket],
        ["--unixsocketperm", "700"],
        ["--dir", &data],
        ["--databases", &databases],
        ["--daemonize", "no"],
        ["--save", ""],
        options.form.arguments(),
        ["--auto-aof-rewrite-percentage", "0"],
        // What it is asked for comes at once and leaves no file.
        ["--repl-diskless-sync", "yes"],
        ["--repl-diskless-sync-delay", "0"],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect();
    if version.has_multi_part_log() {
        // Older ones do not know these, and would not start.
        let newer = ["--shutdown-timeout", "0", "--enable-debug-command", "local"];
        arguments.extend(newer.map(str::to_owned));
    }
    if options.keeps_expired {
        // Nobody listens there.
        arguments.extend(["--replicaof", "127.0.0.1 1"].map(str::to_owned));
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_program_says_it_is() {
        let redis = version_in("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64").unwrap();
        assert_eq!(redis.to_string(), "Redis 7.0.15");
        let valkey = version_in("Valkey server v=9.1.2 sha=00000000:0").unwrap();
        assert_eq!(valkey.to_string(), "Valkey 9.1.2");
        let snapshot = |flavour, number| crate::RdbVersion { flavour, number };
        assert!(valkey.loads(snapshot(Flavour::Valkey, 80)) && valkey.loads(snapshot(Flavour::Redis, 11)));
        assert!(redis.loads(snapshot(Flavour::Redis, 10)) && !redis.loads(snapshot(Flavour::Redis, 11)));
        assert!(!redis.loads(snapshot(Flavour::Valkey, 80)) && !valkey.loads(snapshot(Flavour::Redis, 12)));
        assert_eq!(version_in("mysqld  Ver 8.0.36"), None);
    }
}
