//! The commands of a Redis are recorded as they are: nothing lost, nothing twice, whatever dies, and the source is not harmed by it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ballast_base::Cancel;
use ballast_repository::StreamReader;
use ballast_testkit::chaos_proxy::ChaosProxy;
use ballast_testkit::dataset::{CacheWriters, cache};
use ballast_testkit::program::{Output, Program, Running};
use ballast_testkit::servers::{RedisFlavour, RedisOptions, RedisServer};
use serde_json::Value;

use crate::recorded::{end, open, wait_until};
use crate::site::{PASSPHRASE, rounds};

const FLAVOURS: [RedisFlavour; 2] = [RedisFlavour::Redis, RedisFlavour::Valkey];

/// One stream of commands as a repository has it.
#[derive(Debug)]
struct Commands {
    facts: Value,
    /// The server's offset before the first byte.
    from: u64,
    bytes: Vec<u8>,
    /// When each portion came, and the offset of its last byte.
    marks: Vec<(u64, u64)>,
    /// The names of the history, in their order.
    histories: Vec<String>,
    segments: Vec<Value>,
}

impl Commands {
    fn to(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }

    fn between(&self, from: u64, to: u64) -> &[u8] {
        let at = |offset: u64| usize::try_from(offset - self.from).unwrap();
        &self.bytes[at(from)..at(to)]
    }
}

/// All streams of a repository in a folder, the oldest first; links and offsets are checked on the way.
fn recorded(folder: &Path) -> Vec<Commands> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut streams = runtime.block_on(async {
        let repository = open(folder).await;
        let cancel = Cancel::new();
        let mut streams = Vec::new();
        for id in repository.streams(&cancel).await.unwrap() {
            let listing = repository.stream(id, &cancel).await.unwrap();
            let from = listing.facts["from"].as_u64().unwrap();
            let mut stream = Commands {
                facts: listing.facts.clone(),
                from,
                bytes: Vec::new(),
                marks: Vec::new(),
                histories: Vec::new(),
                segments: Vec::new(),
            };
            let places = listing.segments.clone();
            let mut raw = Vec::new();
            let mut reader = StreamReader::new(repository.clone(), listing, 0, cancel.clone());
            while let Some((at, bytes)) = reader.next().await.unwrap() {
                assert_eq!(at, raw.len() as u64, "bytes follow one another");
                raw.extend_from_slice(&bytes);
            }
            let mut rest = raw.as_slice();
            while !rest.is_empty() {
                let number = |range: std::ops::Range<usize>| {
                    let mut bytes = [0; 8];
                    bytes[..range.len()].copy_from_slice(&rest[range]);
                    u64::from_le_bytes(bytes)
                };
                let (at, length) = (number(0..8), usize::try_from(number(8..12)).unwrap());
                stream.bytes.extend_from_slice(&rest[16..16 + length]);
                assert!(
                    stream.marks.last().is_none_or(|(before, _)| *before <= at),
                    "times never go back"
                );
                stream.marks.push((at, stream.to()));
                rest = &rest[16 + length..];
            }
            let mut at = from;
            for place in places {
                let facts = repository.segment_facts(id, &place, &cancel).await.unwrap().facts;
                assert_eq!(
                    facts["from"].as_u64().unwrap(),
                    at,
                    "offsets follow one another: {facts}"
                );
                at = facts["to"].as_u64().unwrap();
                for history in facts["histories"].as_array().unwrap() {
                    let id = history["id"].as_str().unwrap().to_owned();
                    if stream.histories.last() != Some(&id) {
                        stream.histories.push(id);
                    }
                }
                stream.segments.push(facts);
            }
            assert_eq!(at, stream.to(), "the facts tell where the bytes end");
            streams.push(stream);
        }
        streams
    });
    streams.sort_by_key(|stream| stream.facts["started_at"].as_str().unwrap().to_owned());
    streams
}

struct LogSite {
    program: Program,
}

impl LogSite {
    fn new(server: &RedisServer, port: u16) -> Self {
        let mut program = Program::new(env!("CARGO_BIN_EXE_ballast"));
        program.limit(Duration::from_secs(120));
        let config = format!(
            "[key]\npassphrase = {{ env = \"PASSPHRASE\" }}\n\n[spool]\npath = \"{}\"\n\n[[source]]\nname = \"cache\"\nkind = \"redis\"\n\
             url = \"redis://127.0.0.1:{port}\"\nlog = {{ follow = true, seal_after = \"200ms\" }}\n\n\
             [[repository]]\nname = \"local\"\nurl = \"file://{}\"\n",
            program.dir().join("spool").display(),
            program.dir().join("repository").display()
        );
        let variable = match server.flavour() {
            RedisFlavour::Redis => "BALLAST_REDIS_SERVER",
            RedisFlavour::Valkey => "BALLAST_VALKEY_SERVER",
        };
        program.env("PASSPHRASE", PASSPHRASE).env(variable, server.program());
        program.write("ballast.toml", &config);
        let site = Self { program };
        site.run(&["init"]).expect(0);
        site
    }

    fn run(&self, args: &[&str]) -> Output {
        self.program.run(args)
    }

    fn repository(&self) -> PathBuf {
        self.program.dir().join("repository")
    }

    fn start(&self) -> Running {
        self.program.spawn(["archive", "cache", "--json", "--no-progress"])
    }

    /// Starts the recorder, and waits until the server sends it its commands.
    fn record(&self, server: &RedisServer) -> Running {
        let running = self.start();
        wait_until("the server sends its commands", || is_followed(server));
        running
    }

    /// Waits until all that the server has executed is stored.
    #[track_caller]
    fn wait_until_recorded(&self, server: &RedisServer) {
        let wanted = offset(server);
        wait_until(&format!("{wanted} is recorded"), || {
            // Listed while it is written: a look may come between two steps.
            let look = std::panic::catch_unwind(|| recorded(&self.repository()));
            look.is_ok_and(|streams| streams.last().is_some_and(|stream| stream.to() >= wanted))
        });
    }

    /// A backup, its offset, and its snapshot as it was captured.
    fn backup(&self) -> (u64, Vec<u8>) {
        let output = self.run(&["backup", "cache", "--json"]).expect(0);
        let result: Value = serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap();
        let id = result["backup"]["id"].as_str().unwrap();
        let folder = self.program.dir().join("base");
        self.run(&[
            "restore",
            "cache",
            "--to",
            &format!("dir:{}", folder.display()),
            "--backup",
            id,
        ])
        .expect(0);
        let snapshot = std::fs::read(folder.join("dump.rdb")).unwrap();
        (result["backup"]["position"]["offset"].as_u64().unwrap(), snapshot)
    }
}

fn options(flavour: RedisFlavour) -> RedisOptions {
    RedisOptions {
        flavour,
        ..RedisOptions::default()
    }
    .arg("--repl-diskless-sync-delay", "0")
    .arg("--repl-backlog-size", "67108864")
    .arg("--enable-debug-command", "local")
}

fn info(server: &RedisServer, name: &str) -> String {
    let info = server.command(&["INFO", "replication"]);
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}

fn offset(server: &RedisServer) -> u64 {
    info(server, "master_repl_offset").parse().unwrap()
}

fn is_followed(server: &RedisServer) -> bool {
    info(server, "slave0").contains("state=online")
}

/// A digest of the data and the offset of the same instant.
fn checkpoint(server: &RedisServer) -> (String, u64) {
    let mut client = server.client();
    client.send(&[b"MULTI"]);
    client.send(&[b"DEBUG", b"DIGEST"]);
    client.send(&[b"INFO", b"replication"]);
    let answer = client.send(&[b"EXEC"]);
    let offset = answer
        .lines()
        .find_map(|line| line.strip_prefix("master_repl_offset:"))
        .unwrap();
    (
        answer.lines().next().unwrap().to_owned(),
        offset.trim().parse().unwrap(),
    )
}

/// What a stock server makes of a snapshot and commands; nothing expires on it.
fn replayed(folder: &Path, flavour: RedisFlavour, snapshot: &[u8], commands: &[u8]) -> String {
    let log = folder.join("appendonlydir");
    std::fs::create_dir_all(&log).unwrap();
    std::fs::write(log.join("appendonly.aof.1.base.rdb"), snapshot).unwrap();
    std::fs::write(log.join("appendonly.aof.1.incr.aof"), commands).unwrap();
    let manifest = "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n";
    std::fs::write(log.join("appendonly.aof.manifest"), manifest).unwrap();
    let options = RedisOptions {
        flavour,
        ..RedisOptions::default()
    }
    .arg("--appendonly", "yes")
    .arg("--enable-debug-command", "local")
    .arg("--replicaof", "127.0.0.1 1");
    RedisServer::start_on(folder, options).command(&["DEBUG", "DIGEST"])
}

/// Writers of every kind, while the line is cut and the recorder is killed; what is recorded is the source at any checkpoint.
#[test]
fn the_recorded_commands_lead_to_what_the_source_was() {
    for flavour in FLAVOURS {
        let source = RedisServer::start(options(flavour));
        cache::load(&source);
        let proxy = ChaosProxy::start(source.port());
        let site = LogSite::new(&source, proxy.port());
        let mut running = site.record(&source);
        let writers = CacheWriters::start(&source, 3);
        let (base, snapshot) = site.backup();
        let mut checkpoints = Vec::new();
        for round in 0..rounds(4) {
            std::thread::sleep(Duration::from_millis(400));
            checkpoints.push(checkpoint(&source));
            if round % 2 == 0 {
                proxy.cut();
            } else {
                let killed = running.kill_after(Duration::ZERO);
                assert_eq!(killed.signal, Some(9), "{}", killed.stderr);
                running = site.start();
            }
        }
        let commands = writers.stop();
        checkpoints.push(checkpoint(&source));
        site.wait_until_recorded(&source);
        let said = end(running, 0);
        assert_eq!(said.last().unwrap()["spool_bytes"], 0, "{said:?}");
        let streams = recorded(&site.repository());
        let facts: Vec<_> = streams.iter().map(|stream| &stream.facts).collect();
        assert_eq!(streams.len(), 1, "no cut and no kill makes a gap: {facts:?}");
        let stream = &streams[0];
        assert!(commands > 500 && stream.from <= base, "{commands} commands");
        for segment in &stream.segments {
            assert!(
                segment["starts_at_border"] == true && segment["ends_at_border"] == true,
                "{segment}"
            );
        }
        for (digest, offset) in &checkpoints {
            let found = replayed(
                &site.program.dir().join(format!("at-{offset}")),
                flavour,
                &snapshot,
                stream.between(base, *offset),
            );
            assert_eq!(&found, digest, "{flavour:?} at {offset}");
        }
        assert!(stream.marks.len() > 20, "{}", stream.marks.len());
        site.run(&["verify"]).expect(0);
    }
}

/// The server is restarted with and without what it needs to go on, and a replica becomes a primary.
#[test]
fn a_gap_in_the_commands_is_shown_where_bytes_are_missing_and_nowhere_else() {
    for flavour in FLAVOURS {
        let source = RedisServer::start(options(flavour));
        let site = LogSite::new(&source, source.port());
        let running = site.record(&source);
        source.command(&["SET", "a", "before"]);
        site.wait_until_recorded(&source);
        // Saved, it knows its history again.
        assert!(source.try_command(&["SHUTDOWN", "SAVE"]).is_err());
        source.restart();
        wait_until("the server is followed again", || is_followed(&source));
        source.command(&["SET", "a", "between"]);
        site.wait_until_recorded(&source);
        let streams = recorded(&site.repository());
        assert_eq!(streams.len(), 1, "{flavour:?}: {:?}", streams[0].facts);
        assert_eq!(streams[0].histories.len(), 2, "{:?}", streams[0].histories);
        // Not saved, it begins another one.
        std::fs::remove_file(source.data_dir().join("dump.rdb")).unwrap();
        assert!(source.try_command(&["SHUTDOWN", "NOSAVE"]).is_err());
        source.restart();
        wait_until("the server is followed again", || is_followed(&source));
        source.command(&["SET", "a", "after"]);
        wait_until("the new stream is there", || recorded(&site.repository()).len() == 2);
        site.wait_until_recorded(&source);
        end(running, 0);
        let streams = recorded(&site.repository());
        let after = &streams[1].facts["after"];
        assert_eq!(after["cause"], "reset", "{after}");
        assert!(after["missing"].as_str().unwrap().starts_with("from "), "{after}");

        let primary = RedisServer::start(options(flavour));
        let replica = RedisServer::start(options(flavour));
        replica.command(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
        wait_until("the replica has its primary", || {
            info(&replica, "master_link_status") == "up"
        });
        let site = LogSite::new(&replica, replica.port());
        let running = site.record(&replica);
        primary.command(&["SET", "b", "of the first"]);
        let wanted = offset(&primary);
        wait_until("the replica has it", || offset(&replica) >= wanted);
        primary.kill();
        replica.command(&["REPLICAOF", "NO", "ONE"]);
        replica.command(&["SET", "b", "of the second"]);
        wait_until("the server is followed again", || is_followed(&replica));
        site.wait_until_recorded(&replica);
        end(running, 0);
        let streams = recorded(&site.repository());
        assert_eq!(streams.len(), 1, "{flavour:?}: {:?}", streams.last().unwrap().facts);
        assert_eq!(streams[0].histories.len(), 2, "{:?}", streams[0].histories);
        let text = String::from_utf8_lossy(&streams[0].bytes).into_owned();
        assert!(text.contains("of the first") && text.contains("of the second"));
    }
}

/// `FAILOVER`, `SHUTDOWN`, `WAIT` and `WAITAOF` while it records.
#[test]
fn a_recorder_does_not_harm_the_redis_it_follows() {
    for flavour in FLAVOURS {
        let source = RedisServer::start(options(flavour));
        let site = LogSite::new(&source, source.port());
        let running = site.record(&source);
        let mut client = source.client();
        client.send(&[b"SET", b"a", b"1"]);
        let waited = Instant::now();
        assert_eq!(client.send(&[b"WAIT", b"1", b"10000"]), "1");
        if source.knows("WAITAOF") {
            client.send(&[b"SET", b"a", b"2"]);
            assert_eq!(client.send(&[b"WAITAOF", b"0", b"1", b"10000"]), "0\n1");
        }
        assert!(waited.elapsed() < Duration::from_secs(5), "{:?}", waited.elapsed());
        wait_until("a failover is begun", || source.try_command(&["FAILOVER"]).is_ok());
        let asked = Instant::now();
        while source.try_command(&["SET", "a", "3"]).is_err() {
            assert!(
                asked.elapsed() < Duration::from_secs(1),
                "{flavour:?}: the source is read-only"
            );
        }
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(
            (
                info(&source, "role").as_str(),
                source.command(&["SET", "a", "4"]).as_str()
            ),
            ("master", "OK")
        );
        wait_until("the server is followed again", || is_followed(&source));
        source.command(&["SET", "a", "the last"]);
        site.wait_until_recorded(&source);
        let asked = Instant::now();
        assert!(source.try_command(&["SHUTDOWN", "NOSAVE"]).is_err());
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(2), "{flavour:?}: {took:?}");
        end(running, 0);
        let streams = recorded(&site.repository());
        assert_eq!(streams.len(), 1, "{flavour:?}: {:?}", streams.last().unwrap().facts);
        assert!(streams[0].bytes.windows(8).any(|window| window == b"the last"));
    }
}

/// Clients that wait for `WAITAOF 0 1`, while source and recorder are killed together.
#[test]
fn what_waitaof_counted_is_recorded_though_source_and_recorder_are_killed() {
    let source = RedisServer::start(options(RedisFlavour::Valkey));
    let site = LogSite::new(&source, source.port());
    let mut told = Vec::new();
    for round in 0..rounds(2) {
        let running = site.record(&source);
        let mut client = source.client();
        let clients = std::thread::spawn(move || {
            let mut told = Vec::new();
            for number in 0.. {
                let token = format!("token-{round:03}-{number:09}");
                let set = client.try_send(&[b"SET", b"t", token.as_bytes()]);
                match set.and_then(|_| client.try_send(&[b"WAITAOF", b"0", b"1", b"10000"])) {
                    Ok(counted) if counted == "0\n1" => told.push(token),
                    _ => break,
                }
            }
            told
        });
        std::thread::sleep(Duration::from_millis(700));
        source.kill();
        let killed = running.kill_after(Duration::ZERO);
        assert_eq!(killed.signal, Some(9), "{}", killed.stderr);
        told.extend(clients.join().unwrap());
        source.restart();
    }
    let running = site.record(&source);
    source.command(&["SET", "t", "the end"]);
    site.wait_until_recorded(&source);
    end(running, 0);
    let streams = recorded(&site.repository());
    let text: String = streams
        .iter()
        .map(|stream| String::from_utf8_lossy(&stream.bytes))
        .collect();
    let lost: Vec<_> = told.iter().filter(|token| !text.contains(*token)).collect();
    assert!(
        lost.is_empty() && told.len() > 20,
        "{} of {}: {lost:?}",
        lost.len(),
        told.len()
    );
}

/// A server that never had a replica, with the delay it has by default: following it costs no child process.
#[test]
fn following_a_redis_costs_it_no_fork() {
    for flavour in FLAVOURS {
        let source = RedisServer::start(RedisOptions {
            flavour,
            ..RedisOptions::default()
        });
        let site = LogSite::new(&source, source.port());
        source.command(&["SET", "a", "1"]);
        let running = site.record(&source);
        source.command(&["SET", "a", "2"]);
        site.wait_until_recorded(&source);
        end(running, 0);
        let stats = source.command(&["INFO", "stats"]);
        assert!(stats.lines().any(|line| line.trim() == "total_forks:0"), "{stats}");
    }
}

/// A transaction, and a value, larger than a segment; the recorder is killed within.
#[test]
fn a_transaction_larger_than_a_segment_is_recorded_whole() {
    for flavour in FLAVOURS {
        let source = RedisServer::start(options(flavour));
        let proxy = ChaosProxy::start(source.port());
        let site = LogSite::new(&source, proxy.port());
        let mut running = site.record(&source);
        let (base, snapshot) = site.backup();
        // So slow that it is still on its way when the recorder dies.
        proxy.bandwidth(Some(12 * 1024 * 1024));
        let value = vec![b'v'; 5 * 1024 * 1024];
        let mut client = source.client();
        client.send(&[b"SELECT", b"5"]);
        client.send(&[b"MULTI"]);
        for number in 0..5 {
            client.send(&[b"SET", format!("large:{number}").as_bytes(), &value]);
        }
        client.send(&[b"SELECT", b"7"]);
        client.send(&[b"SET", b"huge", &value.repeat(4)]);
        client.send(&[b"EXEC"]);
        std::thread::sleep(Duration::from_millis(1500));
        let killed = running.kill_after(Duration::ZERO);
        assert_eq!(killed.signal, Some(9), "{}", killed.stderr);
        running = site.start();
        std::thread::sleep(Duration::from_millis(800));
        proxy.cut();
        proxy.bandwidth(None);
        client.send(&[b"SET", b"behind", b"it"]);
        let (digest, offset) = checkpoint(&source);
        site.wait_until_recorded(&source);
        end(running, 0);
        let streams = recorded(&site.repository());
        let facts: Vec<_> = streams.iter().map(|stream| &stream.facts).collect();
        assert_eq!(streams.len(), 1, "{facts:?}");
        let within = streams[0]
            .segments
            .iter()
            .filter(|segment| segment["ends_at_border"] == false);
        assert!(within.count() > 0, "it does not fit into a segment");
        let folder = site.program.dir().join("at");
        let found = replayed(&folder, flavour, &snapshot, streams[0].between(base, offset));
        assert_eq!(found, digest, "{flavour:?}");
    }
}

/// A line that is slower than the writers: said before the server drops us.
#[test]
fn a_recorder_that_falls_behind_says_so_before_it_is_dropped() {
    let source = RedisServer::start(options(RedisFlavour::Redis));
    source.command(&["CONFIG", "SET", "client-output-buffer-limit", "replica 67108864 0 0"]);
    let proxy = ChaosProxy::start(source.port());
    let site = LogSite::new(&source, proxy.port());
    let running = site.record(&source);
    proxy.bandwidth(Some(256 * 1024));
    let value = vec![b'v'; 1024 * 1024];
    let mut client = source.client();
    for _ in 0..48 {
        client.send(&[b"SET", b"a", &value]);
    }
    // It looks every five seconds.
    std::thread::sleep(Duration::from_secs(12));
    assert!(is_followed(&source), "it was not dropped");
    proxy.bandwidth(None);
    site.wait_until_recorded(&source);
    let said = end(running, 0);
    let warned = said
        .iter()
        .any(|line| line["type"] == "warning" && line["message"].as_str().unwrap().contains("behind the server"));
    assert!(warned, "{said:?}");
}

/// What a stock server holds that is started on a restored folder; nothing expires on it.
fn restored_digest(folder: &Path, flavour: RedisFlavour) -> String {
    let options = RedisOptions {
        flavour,
        ..RedisOptions::default()
    }
    .arg("--appendonly", "yes")
    .arg("--enable-debug-command", "local")
    .arg("--replicaof", "127.0.0.1 1");
    RedisServer::start_on(folder, options).command(&["DEBUG", "DIGEST"])
}

/// To positions while writers write, and to the moment before everything was flushed by accident.
#[test]
fn a_redis_goes_back_to_any_recorded_moment() {
    for flavour in FLAVOURS {
        let source = RedisServer::start(options(flavour));
        cache::load(&source);
        let site = LogSite::new(&source, source.port());
        let running = site.record(&source);
        let writers = CacheWriters::start(&source, 2);
        site.run(&["backup", "cache"]).expect(0);
        let mut checkpoints = Vec::new();
        for _ in 0..rounds(2) {
            std::thread::sleep(Duration::from_millis(500));
            checkpoints.push(checkpoint(&source));
        }
        writers.stop();
        // Else keys whose time comes would go between the two.
        source.command(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
        std::thread::sleep(Duration::from_millis(300));
        let before = (checkpoint(&source), jiff::Timestamp::now());
        std::thread::sleep(Duration::from_millis(300));
        source.command(&["FLUSHALL"]);
        source.command(&["SET", "after", "it"]);
        site.wait_until_recorded(&source);
        let restore = |name: &str, stop: &[&str], code: i32| {
            let folder = site.program.dir().join(name);
            let to = format!("dir:{}", folder.display());
            let output = site
                .run(&[&["restore", "cache", "--to", &to, "--json"], stop].concat())
                .expect(code);
            let last: Value = serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap();
            (folder, last)
        };
        let history = info(&source, "master_replid");
        for (number, (digest, offset)) in checkpoints.iter().enumerate() {
            let position = format!("{history}:{offset}");
            let (folder, result) = restore(&format!("at-{number}"), &["--position", &position], 0);
            assert_eq!(result["proof"]["position_equal"], true, "{result}");
            assert_eq!(
                result["reached"]["position"]["offset"].as_u64(),
                Some(*offset),
                "{result}"
            );
            assert_eq!(&restored_digest(&folder, flavour), digest, "{flavour:?} at {offset}");
        }
        let ((digest, _), moment) = before;
        let (folder, result) = restore("before", &["--at", &moment.to_string()], 0);
        assert_eq!(restored_digest(&folder, flavour), digest, "{flavour:?}: {result}");
        let (folder, _) = restore("latest", &[], 0);
        let latest = RedisServer::start_on(
            &folder,
            RedisOptions {
                flavour,
                ..RedisOptions::default()
            }
            .arg("--appendonly", "yes"),
        );
        assert_eq!(
            (
                latest.command(&["DBSIZE"]).as_str(),
                latest.command(&["GET", "after"]).as_str()
            ),
            ("1", "it")
        );
        let output = site.run(&["timeline", "cache", "--json"]).expect(0);
        let timeline: Value = serde_json::from_str(&output.stdout).unwrap();
        let instant = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let points = timeline["points"].as_array().unwrap();
        let named = points
            .iter()
            .any(|span| instant(&span["from"]) <= moment && moment <= instant(&span["to"]));
        assert!(named, "{moment}: {timeline}");
        // What it does not name is refused.
        restore("late", &["--at", "2099-01-01 00:00:00"], 5);
        restore("early", &["--at", "2020-01-01 00:00:00"], 5);
        restore("foreign", &["--position", &format!("{}:1", "f".repeat(40))], 5);
        // A running server gets the backup alone, and that is said.
        let target = RedisServer::start(RedisOptions {
            flavour,
            ..RedisOptions::default()
        });
        let to = format!("redis://127.0.0.1:{}", target.port());
        let output = site.run(&["restore", "cache", "--to", &to]).expect(0);
        assert!(output.stderr.contains("lead on to"), "{}", output.stderr);
        end(running, 0);
    }
}
