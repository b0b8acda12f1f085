//! A recorder while it runs, clients that know what was committed, and what the repository has of a log: read by the vault, not by the program.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ballast_base::{Cancel, Secret};
use ballast_repository::{Lock, Repository, StreamId, StreamReader};
use ballast_storage::{Presence, StorageSettings};
use ballast_testkit::program::Running;
use ballast_testkit::servers::{Flavour, MysqlOptions, MysqlServer};
use serde_json::Value;

use crate::site::{PASSPHRASE, PASSWORD, Site, USER, server};

/// One stream as a repository has it.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) facts: Value,
    /// The server's files, as far as they are in it.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) raw: Vec<u8>,
    /// What has been executed at its end.
    pub(crate) through: String,
    pub(crate) segments: usize,
}

/// All streams of a repository in a folder, the oldest first; their links are checked on the way.
pub(crate) fn recorded(folder: &Path) -> Vec<Recorded> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut streams = runtime.block_on(async {
        let repository = open(folder).await;
        let mut streams = Vec::new();
        for id in repository.streams(&Cancel::new()).await.unwrap() {
            streams.push(read(&repository, id).await);
        }
        streams
    });
    streams.sort_by_key(|stream| stream.facts["started_at"].as_str().unwrap().to_owned());
    streams
}

pub(crate) async fn open(folder: &Path) -> Repository {
    let settings = StorageSettings {
        url: format!("file://{}", folder.display()),
        ..StorageSettings::default()
    };
    let store = ballast_storage::open(&settings, Presence::MustExist).await.unwrap();
    let lock = Lock::Passphrase(Secret::new(PASSPHRASE.to_owned()));
    Repository::open("test", store, &lock, &Cancel::new()).await.unwrap()
}

async fn read(repository: &Repository, id: StreamId) -> Recorded {
    let cancel = Cancel::new();
    let listing = repository.stream(id, &cancel).await.unwrap();
    let mut recorded = Recorded {
        facts: listing.facts.clone(),
        files: BTreeMap::new(),
        raw: Vec::new(),
        through: listing.facts["before"].as_str().unwrap().to_owned(),
        segments: listing.segments.len(),
    };
    let places = listing.segments.clone();
    let mut reader = StreamReader::new(repository.clone(), listing, 0, cancel.clone());
    while let Some((at, bytes)) = reader.next().await.unwrap() {
        assert_eq!(at, recorded.raw.len() as u64, "bytes follow one another");
        recorded.raw.extend_from_slice(&bytes);
    }
    for place in places {
        let facts = repository.segment_facts(id, &place, &cancel).await.unwrap().facts;
        assert_eq!(
            facts["before"].as_str().unwrap(),
            recorded.through,
            "segment at {}",
            place.start
        );
        recorded.through = facts["through"].as_str().unwrap().to_owned();
        let number = |value: &Value| value.as_u64().unwrap();
        let at = |log_offset: u64| usize::try_from(log_offset).unwrap();
        let files = facts["files"].as_array().unwrap();
        for (which, file) in files.iter().enumerate() {
            let end = files.get(which + 1).map_or(place.end, |next| number(&next["at"]));
            let bytes = &recorded.raw[at(number(&file["at"]))..at(end)];
            let there = recorded
                .files
                .entry(file["name"].as_str().unwrap().to_owned())
                .or_default();
            assert_eq!(
                there.len() as u64,
                number(&file["offset"]),
                "bytes of a file follow one another"
            );
            there.extend_from_slice(bytes);
        }
    }
    recorded
}

/// How often each token is in the bytes. A token is `tk-` and 24 characters.
pub(crate) fn tokens(raw: &[u8]) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for at in memmem(raw, b"tk-") {
        if let Some(token) = raw.get(at..at + 27).and_then(|token| std::str::from_utf8(token).ok()) {
            *found.entry(token.to_owned()).or_default() += 1;
        }
    }
    found
}

fn memmem<'a>(raw: &'a [u8], wanted: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    raw.windows(wanted.len())
        .enumerate()
        .filter(move |(_, window)| *window == wanted)
        .map(|(at, _)| at)
}

/// Clients that insert tokens, one in each transaction, and note those that the server said were committed.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(Vec<String>, Vec<Duration>)>>,
}

impl Clients {
    pub(crate) fn start(server: &MysqlServer, count: usize, pause: Duration) -> Self {
        server.sql(
            "CREATE DATABASE IF NOT EXISTS kept;
             CREATE TABLE IF NOT EXISTS kept.tokens (token CHAR(27) PRIMARY KEY, filler VARCHAR(200)) CHARACTER SET ascii",
        );
        let stop = Arc::new(AtomicBool::new(false));
        let run = ballast_base::random_hex(4);
        let thread = |number| {
            let mut client = client(server);
            let (stop, run) = (Arc::clone(&stop), run.clone());
            std::thread::spawn(move || {
                let mut child = client.spawn().unwrap();
                let mut stdin = child.stdin.take().unwrap();
                let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
                let (mut committed, mut took) = (Vec::new(), Vec::new());
                for round in 0u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let token = format!("tk-{run}-{number:02}-{round:012}");
                    let began = Instant::now();
                    let sql = format!("INSERT INTO kept.tokens VALUES ('{token}', REPEAT('x', 150));\nSELECT 'ok';\n");
                    let sent = stdin.write_all(sql.as_bytes()).and_then(|()| stdin.flush());
                    // Without --force the client ends at the first error, and answers nothing more.
                    match (sent, answers.next()) {
                        (Ok(()), Some(Ok(answer))) if answer == "ok" => committed.push(token),
                        _ => break,
                    }
                    took.push(began.elapsed());
                    std::thread::sleep(pause);
                }
                child.kill().ok();
                child.wait().unwrap();
                (committed, took)
            })
        };
        let threads = (0..count).map(thread).collect();
        Self { stop, threads }
    }

    /// Ends them, and gives what was committed.
    pub(crate) fn stop(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap().0)
            .collect()
    }
}

fn client(server: &MysqlServer) -> Command {
    let name = match server.flavour() {
        Flavour::Mysql => "mysql",
        Flavour::Mariadb => "mariadb",
    };
    let mut command = Command::new(server.client_program(name));
    command
        .args([
            "--no-defaults",
            "--protocol=socket",
            "--user=root",
            "--batch",
            "--skip-column-names",
        ])
        .args(["--unbuffered", "--skip-reconnect"])
        .arg(format!("--socket={}", server.socket().display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// A source whose log can be followed.
pub(crate) fn source(options: MysqlOptions) -> MysqlServer {
    if options.flavour == Flavour::Mariadb {
        let server = MysqlServer::start(options);
        let password = PASSWORD.replace('\\', "\\\\").replace('\'', "\'\'");
        server.sql(&format!(
            "CREATE USER {USER} IDENTIFIED BY '{password}'; \
             GRANT REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR, PROCESS, SELECT ON *.* TO {USER}"
        ));
        return server;
    }
    let server = server(options.arg("--plugin-load-add=semisync_source.so"));
    server.sql(&format!("GRANT REPLICATION SLAVE ON *.* TO {USER}"));
    server
}

/// From now on commits wait for the recorder, which is there.
pub(crate) fn make_semi_sync(source: &MysqlServer) {
    let (role, status) = match source.flavour() {
        Flavour::Mysql => ("source", "performance_schema.global_status"),
        Flavour::Mariadb => ("master", "information_schema.GLOBAL_STATUS"),
    };
    source.sql(&format!(
        "SET GLOBAL rpl_semi_sync_{role}_timeout = 120000; SET GLOBAL rpl_semi_sync_{role}_enabled = 1"
    ));
    let ask = format!("SELECT VARIABLE_VALUE FROM {status} WHERE VARIABLE_NAME = 'Rpl_semi_sync_{role}_status'");
    wait_until("the source waits for the recorder", || {
        source.sql("CREATE DATABASE IF NOT EXISTS kept");
        source.value(&ask) == "ON"
    });
}

/// The site of a recorder: `log` goes into the source's `[source.log]`.
pub(crate) fn site(source: &MysqlServer, url: &str, log: &str) -> Site {
    let mut site = Site::through(source, url, &format!("log = {{ follow = true, {log} }}"));
    let spool = format!("[spool]\npath = \"{}\"\n\n[[repository]]", spool(&site).display());
    site.change("[[repository]]", &spool);
    site
}

pub(crate) fn spool(site: &Site) -> PathBuf {
    site.program.dir().join("spool")
}

/// Starts the recorder, and waits until the server sends it its log.
pub(crate) fn record(site: &Site, source: &MysqlServer) -> Running {
    let running = start(site);
    wait_until("the server sends its log", || is_followed(source));
    running
}

pub(crate) fn start(site: &Site) -> Running {
    site.program.spawn(["archive", "orders", "--json", "--no-progress"])
}

pub(crate) fn is_followed(source: &MysqlServer) -> bool {
    let asked = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'";
    source.value(asked) != "0"
}

/// Ends the recorder as a service manager does.
pub(crate) fn end(running: Running, code: i32) -> Vec<Value> {
    running.interrupt();
    let output = running.wait().expect(code);
    lines(&output.stdout)
}

pub(crate) fn lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came to this: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until all that the server has executed is in the newest stream of the repository in `folder`.
#[track_caller]
pub(crate) fn wait_until_recorded(folder: &Path, source: &MysqlServer) {
    let executed = executed(source);
    wait_until(&format!("{executed} is recorded"), || {
        // Listed while it is written: a look may come between two steps.
        let look = std::panic::catch_unwind(|| recorded(folder));
        look.is_ok_and(|streams| streams.last().is_some_and(|stream| stream.through == executed))
    });
}

pub(crate) fn executed(source: &MysqlServer) -> String {
    match source.flavour() {
        Flavour::Mysql => source.gtid_executed(),
        Flavour::Mariadb => source.value("SELECT @@GLOBAL.gtid_binlog_pos"),
    }
}

/// The server's own files, but the one it writes to.
pub(crate) fn closed_files(source: &MysqlServer) -> BTreeMap<String, Vec<u8>> {
    let names = source.sql("SHOW BINARY LOGS");
    let closed = names.iter().rev().skip(1).map(|row| row[0].clone().unwrap());
    closed
        .map(|name| {
            let bytes = std::fs::read(source.datadir().join(&name)).unwrap();
            (name, bytes)
        })
        .collect()
}
