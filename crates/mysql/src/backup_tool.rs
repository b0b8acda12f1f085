//! The backup tools of the servers' vendors (`mariadb-backup`, `xtrabackup`) and what unpacks their streams (`mbstream`, `xbstream`), as
//! child processes.
//!
//! # What a child is given
//! An empty environment, and its options by a file that is never in any folder: it lies in memory, is the child's standard input, and is read by
//! the name `/dev/stdin`. So no password is in a process list, in the environment or on a disk, and nothing is left of it after a kill.
//!
//! # How it ends
//! In a process group of its own, so that an interrupt typed at our terminal reaches it through us only. What it says is drained all the time, and its last
//! lines are kept. A tool that was told to end and does not is killed. If we are killed, the pipe it writes to breaks, and it ends by
//! itself; one that waits for a lock at that moment is ended by the next run, which finds its folder without an owner.
//!
//! # What counts as success
//! The exit status, and the tool's own last word. What came on its standard output is judged by whoever takes it.

mod log;
mod options;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ballast_base::{Cancel, Scratch, Task, spawn};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use self::log::ToolLog;
use crate::throwaway::clean_command;
use crate::throwaway::scratch::{self, tool_argument};
use crate::{Flavour, MysqlError, ServerAddress, ServerVersion};

/// A tool says its version within this time.
const VERSION_WAIT_MAX: Duration = Duration::from_secs(30);
/// A tool that gives nothing for this long, while it is waited for, is stuck: it may wait for a lock of the server without an end.
const SILENCE_MAX: Duration = Duration::from_secs(3600);
/// The tool waits this long for those who hold tables locked, and gives up then.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(600);
/// Recovery of what was copied reads the redo log that was written meanwhile.
const PREPARE_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// What a tool may do between its last byte and its end.
const END_WAIT_MAX: Duration = Duration::from_secs(600);
/// A tool that was told to end is killed after this time.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);
/// Taken from a pipe at once.
const READ_BYTES: usize = 256 * 1024;
/// The tool's own word that all went well.
const COMPLETED: &str = "completed OK!";
/// Where a tool's folder is made.
const SCRATCH: &str = "/tmp";

/// A tool, the program that unpacks its stream, and the server they were built from.
#[derive(Debug, Clone)]
pub struct BackupTool {
    pub path: PathBuf,
    pub unpacker: PathBuf,
    pub version: ServerVersion,
}

impl BackupTool {
    /// Asks the tool what it is.
    pub async fn probe(path: &Path, unpacker: &Path, cancel: &Cancel) -> Result<Self, MysqlError> {
        let asked = clean_command(path)
            .arg("--version")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = cancel
            .race(tokio::time::timeout(VERSION_WAIT_MAX, asked))
            .await?
            .map_err(|_| MysqlError::Timeout {
                doing: "asking a backup tool for its version",
                after: VERSION_WAIT_MAX,
            })?
            .map_err(|source| not_run(path, source))?;
        // One says it on its standard output, the other does not.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        match based_on(&text) {
            Some(version) => Ok(Self {
                path: path.to_owned(),
                unpacker: unpacker.to_owned(),
                version,
            }),
            None => Err(MysqlError::Process {
                what: format!(
                    "\"{}\" --version does not answer like mariadb-backup or xtrabackup",
                    path.display()
                ),
                log: text.chars().take(1000).collect(),
            }),
        }
    }

    /// The tool's name without its folder.
    pub fn name(&self) -> String {
        file_name(&self.path)
    }

    /// Starts a backup, whose stream comes from [`ToolRun::read`]. `on_line` is told every line the tool says.
    pub async fn backup(
        &self,
        address: &ServerAddress,
        on_line: impl FnMut(&str) + Send + 'static,
        cancel: &Cancel,
    ) -> Result<ToolRun, MysqlError> {
        scratch::sweep(Path::new(SCRATCH), cancel).await?;
        let folder = scratch::create(Path::new(SCRATCH), None)?;
        let is_mariadb = self.version.flavour == Flavour::MariaDb;
        let format = if is_mariadb { "mbstream" } else { "xbstream" };
        let mut command = clean_command(&self.path);
        command
            .arg("--defaults-file=/dev/stdin")
            .arg("--backup")
            .arg(format!("--stream={format}"))
            .arg(format!("--ftwrl-wait-timeout={}", LOCK_WAIT_MAX.as_secs()))
            .arg(tool_argument(&folder.path))
            .current_dir(&folder.path)
            .stdin(options::in_memory(&options::of(address, is_mariadb))?)
            .stdout(Stdio::piped());
        ToolRun::start(command, &self.path, Some(folder), on_line, cancel)
    }

    /// Starts what unpacks a stream, given by [`ToolRun::write`], into `directory`.
    pub fn unpack(&self, directory: &Path, cancel: &Cancel) -> Result<ToolRun, MysqlError> {
        let mut command = clean_command(&self.unpacker);
        command
            .arg("-x")
            .arg("-C")
            .arg(directory)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        ToolRun::start(command, &self.unpacker, None, |_| {}, cancel)
    }

    /// Lets the tool recover what was unpacked: then it is a data directory.
    pub async fn prepare(&self, directory: &Path, cancel: &Cancel) -> Result<(), MysqlError> {
        let mut defaults = std::ffi::OsString::from("--defaults-file=");
        defaults.push(directory.join("backup-my.cnf"));
        let mut target = std::ffi::OsString::from("--target-dir=");
        target.push(directory);
        let mut command = clean_command(&self.path);
        command
            .arg(defaults)
            .arg("--prepare")
            .arg(target)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let run = ToolRun::start(command, &self.path, None, |_| {}, cancel)?;
        run.finish_within(PREPARE_WAIT_MAX, true).await
    }
}

/// `… based on MariaDB server 10.11.6-MariaDB …`, `… based on MySQL server 8.0.35 …`.
fn based_on(text: &str) -> Option<ServerVersion> {
    let (_, rest) = text.split_once("based on ")?;
    let (flavour, rest) = rest.split_once(" server ")?;
    ServerVersion::parse(rest.split_whitespace().next()?, flavour)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn not_run(path: &Path, source: std::io::Error) -> MysqlError {
    MysqlError::File {
        step: "run backup tool",
        path: path.to_owned(),
        source,
    }
}

/// A tool that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct ToolRun {
    // The child goes before its folder.
    child: Child,
    name: String,
    stdout: Option<ChildStdout>,
    stdin: Option<ChildStdin>,
    buffer: BytesMut,
    log: Arc<Mutex<ToolLog>>,
    drain: Option<Task<()>>,
    cancel: Cancel,
    _folder: Option<Scratch>,
}

impl ToolRun {
    fn start(
        mut command: Command,
        path: &Path,
        folder: Option<Scratch>,
        mut on_line: impl FnMut(&str) + Send + 'static,
        cancel: &Cancel,
    ) -> Result<Self, MysqlError> {
        let mut child = command
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| not_run(path, source))?;
        let log = Arc::new(Mutex::new(ToolLog::default()));
        let (stderr, shared) = (child.stderr.take(), Arc::clone(&log));
        let drain = spawn("drain a tool's messages", async move {
            let Some(mut stderr) = stderr else { return };
            let mut bytes = BytesMut::new();
            while matches!(stderr.read_buf(&mut bytes).await, Ok(some) if some > 0) {
                lock(&shared).take(&bytes, &mut on_line);
                bytes.clear();
            }
            lock(&shared).end(&mut on_line);
        });
        Ok(Self {
            name: file_name(path),
            stdout: child.stdout.take(),
            stdin: child.stdin.take(),
            child,
            buffer: BytesMut::new(),
            log,
            drain: Some(drain),
            cancel: cancel.clone(),
            _folder: folder,
        })
    }

    /// The next bytes of its standard output; `None` at the end, which says nothing of how it went.
    pub async fn read(&mut self) -> Result<Option<Bytes>, MysqlError> {
        let Some(stdout) = &mut self.stdout else {
            return Ok(None);
        };
        self.buffer.reserve(READ_BYTES);
        let read = tokio::time::timeout(SILENCE_MAX, stdout.read_buf(&mut self.buffer));
        match self.cancel.race(read).await? {
            Ok(Ok(0)) => Ok(None),
            Ok(Ok(_)) => Ok(Some(self.buffer.split().freeze())),
            Ok(Err(error)) => Err(self.failed(format!("{} could not be read from ({error})", self.name))),
            Err(_) => Err(self.failed(format!("{} gave nothing for {} s", self.name, SILENCE_MAX.as_secs()))),
        }
    }

    /// Gives bytes to its standard input.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), MysqlError> {
        let Some(stdin) = &mut self.stdin else {
            return Err(self.failed(format!("{} takes nothing", self.name)));
        };
        let write = tokio::time::timeout(SILENCE_MAX, stdin.write_all(bytes));
        match self.cancel.race(write).await? {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                // It has ended, or is about to: its last lines say why.
                drop(
                    self.cancel
                        .race(tokio::time::timeout(STOP_WAIT_MAX, self.child.wait()))
                        .await?,
                );
                self.drained().await?;
                Err(self.failed(format!("{} takes no more ({error})", self.name)))
            }
            Err(_) => Err(self.failed(format!("{} took nothing for {} s", self.name, SILENCE_MAX.as_secs()))),
        }
    }

    /// Waits for the end of a backup. An error unless it went well by the tool's status and by its own word.
    pub async fn finish(self) -> Result<(), MysqlError> {
        self.finish_within(END_WAIT_MAX, true).await
    }

    /// The same for what unpacks, which has no last word.
    pub async fn finish_unpacking(self) -> Result<(), MysqlError> {
        self.finish_within(END_WAIT_MAX, false).await
    }

    async fn finish_within(mut self, wait: Duration, says_so: bool) -> Result<(), MysqlError> {
        // Without its input it comes to an end; what it still writes nobody reads.
        drop(self.stdin.take());
        drop(self.stdout.take());
        let ended = self.cancel.race(tokio::time::timeout(wait, self.child.wait())).await;
        let status = match ended {
            Ok(Ok(Ok(status))) => status,
            Ok(Ok(Err(error))) => return Err(self.failed(format!("{} could not be waited for ({error})", self.name))),
            Ok(Err(_)) => return Err(self.failed(format!("{} did not end within {} s", self.name, wait.as_secs()))),
            Err(cancelled) => {
                self.stop().await;
                return Err(cancelled.into());
            }
        };
        self.drained().await?;
        if !status.success() {
            return Err(self.failed(format!("{} failed ({status})", self.name)));
        }
        if says_so && !lock(&self.log).ends_with(COMPLETED) {
            return Err(self.failed(format!("{} ended without \"{COMPLETED}\"", self.name)));
        }
        Ok(())
    }

    /// Ends it, in order if it can.
    pub async fn stop(mut self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(rustix::process::Pid::from_raw) {
            // One that ended meanwhile is what was wanted.
            _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        drop(self.stdin.take());
        if tokio::time::timeout(STOP_WAIT_MAX, self.child.wait()).await.is_err() {
            // Nobody can be told, and what is dropped is killed once more.
            drop(self.child.kill().await);
        }
    }

    /// Why a backup came to nothing, when its output was wrong: what the tool says of its own end, or `error`.
    pub async fn explain(mut self, error: MysqlError) -> MysqlError {
        drop(self.stdout.take());
        let ended = tokio::time::timeout(STOP_WAIT_MAX, self.child.wait()).await;
        if let Ok(Ok(status)) = ended
            && !status.success()
            && self.drained().await.is_ok()
        {
            return self.failed(format!("{} failed ({status}), and {error}", self.name));
        }
        self.failed(error.to_string())
    }

    /// Waits until all it said is in the log. A child of its own may hold the pipe; it is not waited for.
    async fn drained(&mut self) -> Result<(), MysqlError> {
        if let Some(drain) = self.drain.take() {
            let all = tokio::time::timeout(STOP_WAIT_MAX, drain.join());
            drop(self.cancel.race(all).await?);
        }
        Ok(())
    }

    fn failed(&self, what: String) -> MysqlError {
        MysqlError::Process {
            what,
            log: lock(&self.log).tail(),
        }
    }
}

fn lock(log: &Mutex<ToolLog>) -> std::sync::MutexGuard<'_, ToolLog> {
    // A log is whole between any two lines.
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tools_say_what_they_were_built_from() {
        for (text, numeric, flavour) in [
            (
                "/usr/bin/mariadb-backup based on MariaDB server 10.11.18-MariaDB debian-linux-gnu (x86_64)\n",
                (10, 11, 18),
                Flavour::MariaDb,
            ),
            (
                "xtrabackup: recognized server arguments: --datadir=/var/lib/mysql\nxtrabackup version 8.0.35-30 based on MySQL server 8.0.35 Linux (x86_64) (revision id: 6beb4b49)\n",
                (8, 0, 35),
                Flavour::Mysql,
            ),
        ] {
            let version = based_on(text).unwrap();
            assert_eq!((version.numeric(), version.flavour), (numeric, flavour));
        }
        assert!(based_on("mysqldump  Ver 8.0.36").is_none());
    }

    fn run_of(script: &str) -> ToolRun {
        let mut command = clean_command(Path::new("/bin/sh"));
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        ToolRun::start(command, Path::new("/usr/bin/tool"), None, |_| {}, &Cancel::new()).unwrap()
    }

    #[tokio::test]
    async fn only_a_good_status_and_the_last_word_are_success() {
        for (script, what) in [
            ("echo completed OK! >&2", None),
            (
                "echo '[00] 2026-11-25 completed OK!' >&2; exit 3",
                Some("exit status: 3"),
            ),
            (
                "echo completed OK! >&2; echo but not so >&2",
                Some("without \"completed OK!\""),
            ),
            ("echo gone wrong >&2; kill -9 $$", Some("gone wrong")),
            ("true", Some("without \"completed OK!\"")),
        ] {
            let ended = run_of(script).finish().await;
            match (ended, what) {
                (Ok(()), None) => {}
                (Err(error), Some(what)) => assert!(error.to_string().contains(what), "{script}: {error}"),
                (ended, _) => panic!("{script}: {ended:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_tool_that_does_not_listen_is_killed_and_its_output_is_read_to_the_end() {
        let mut run = run_of("trap '' TERM; printf abc; printf def; exec >&-; sleep 60");
        let mut read = Vec::new();
        while let Some(bytes) = run.read().await.unwrap() {
            read.extend_from_slice(&bytes);
        }
        assert_eq!(read, b"abcdef");
        let pid = run.child.id().unwrap();
        run.stop().await;
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
