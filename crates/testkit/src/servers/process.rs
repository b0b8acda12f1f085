//! One server process: started into its own folder, waited for, stopped or killed, never left behind.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a server may take to answer; recovery of a large copy on a busy machine counts too.
const START_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);
/// How much of its log a server shows when a test fails.
const LOG_LINES: usize = 60;
/// A unix socket's path may not be longer than 107 bytes.
const LONGEST_FOLDER: usize = 60;

/// A child process with its log. `Drop` kills it, and shows the end of the log when the test is failing.
pub(crate) struct ServerProcess {
    name: &'static str,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl ServerProcess {
    pub(crate) fn new(name: &'static str, log: PathBuf) -> Self {
        Self {
            name,
            log,
            child: Mutex::new(None),
        }
    }

    /// Starts `command` and waits until `answers` says so. Panics with the log when it ends or takes too long.
    pub(crate) fn start(&self, mut command: Command, answers: impl Fn() -> bool) {
        let mut slot = self.child.lock().unwrap();
        assert!(slot.is_none(), "{} runs already", self.name);
        let output = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.name));
        let begin = Instant::now();
        while !answers() {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("{} ended at its start ({status}):\n{}", self.name, self.log_tail());
            }
            if begin.elapsed() > START_LIMIT {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!(
                    "{} did not answer within {START_LIMIT:?}:\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            thread::sleep(POLL);
        }
        *slot = Some(child);
    }

    /// The process id while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.lock().unwrap().as_ref().map(Child::id)
    }

    /// Whether the process is there; notices one that ended by itself.
    pub(crate) fn is_running(&self) -> bool {
        self.child
            .lock()
            .unwrap()
            .as_mut()
            .is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Asks the server to end (SIGTERM) and waits. Nothing to do when it is not running.
    pub(crate) fn stop(&self) {
        let Some(mut child) = self.child.lock().unwrap().take() else {
            return;
        };
        let begin = Instant::now();
        let pid = Pid::from_child(&child);
        // Fails only when the process has ended already, which the wait below sees.
        kill_process(pid, Signal::TERM).ok();
        loop {
            if child.try_wait().unwrap().is_some() {
                return;
            }
            if begin.elapsed() > STOP_LIMIT {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{} did not stop within {STOP_LIMIT:?}:\n{}", self.name, self.log_tail());
            }
            thread::sleep(POLL);
        }
    }

    /// SIGKILL and wait: as in a power cut, but for what the kernel has.
    pub(crate) fn kill(&self) {
        let child = self
            .child
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some(mut child) = child {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// The last lines the server wrote.
    pub(crate) fn log_tail(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = fs::File::open(&self.log) {
            file.read_to_end(&mut text).ok();
        }
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!(
                "---- the last lines of {}'s log ----\n{}\n----",
                self.name,
                self.log_tail()
            );
        }
    }
}

/// A private folder whose path is short enough for a unix socket in it.
pub(crate) fn private_folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("bl-").tempdir().unwrap();
    if folder.path().as_os_str().len() <= LONGEST_FOLDER {
        return folder;
    }
    tempfile::Builder::new().prefix("bl-").tempdir_in("/tmp").unwrap()
}

/// A port nobody listens on, below the range the kernel gives to outgoing connections: such a port would be free
/// now and could be taken by any client before the server gets to it.
pub(crate) fn free_port() -> u16 {
    let mut random = [0; 2];
    loop {
        ballast_base::fill_random(&mut random);
        let port = 20_000 + u16::from_le_bytes(random) % 12_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Connects and reads the first bytes of a MySQL greeting; `false` while there is none.
pub(crate) fn greets(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return false;
    };
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).is_ok() && greeting[4] == 10
}

/// Copies a folder with all in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_folder(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Servers refuse to run as root unless told by name.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
