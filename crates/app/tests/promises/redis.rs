//! Redis and Valkey: backed up over the network, restored to a directory that a stock server loads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ballast_testkit::dataset::{CacheWriters, cache};
use ballast_testkit::program::{Output, Program};
use ballast_testkit::servers::{RedisFlavour, RedisOptions, RedisServer};
use serde_json::Value;

use crate::site::PASSPHRASE;

pub(crate) const FLAVOURS: [RedisFlavour; 2] = [RedisFlavour::Redis, RedisFlavour::Valkey];
const PASSWORD: &str = "p\u{e4}ss 'w\"ord-S3CR3T-OF-THE-CACHE";

pub(crate) struct CacheSite {
    pub(crate) program: Program,
}

impl CacheSite {
    /// One source, `cache`, and one repository, made.
    pub(crate) fn new(server: &RedisServer, user: &str) -> Self {
        let mut program = Program::new(env!("CARGO_BIN_EXE_ballast"));
        program.limit(Duration::from_secs(120));
        let config = format!(
            "[key]\npassphrase = {{ env = \"PASSPHRASE\" }}\n\n[[source]]\nname = \"cache\"\nkind = \"redis\"\n\
             url = \"redis://{user}@127.0.0.1:{}\"\npassword = {{ env = \"PASSWORD\" }}\n\n[[repository]]\nname = \"local\"\nurl = \"file://{}\"\n",
            server.port(),
            program.dir().join("repository").display()
        );
        let variable = match server.flavour() {
            RedisFlavour::Redis => "BALLAST_REDIS_SERVER",
            RedisFlavour::Valkey => "BALLAST_VALKEY_SERVER",
        };
        program
            .env("PASSWORD", PASSWORD)
            .env("PASSPHRASE", PASSPHRASE)
            .env(variable, server.program());
        program.write("ballast.toml", &config);
        let site = Self { program };
        site.run(&["init"]).expect(0);
        site
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.program.run(args)
    }

    pub(crate) fn json(&self, args: &[&str], code: i32) -> Value {
        let output = self.run(&[args, &["--json"]].concat()).expect(code);
        let last = output.stdout.lines().last().unwrap_or_default().to_owned();
        serde_json::from_str(&last).unwrap_or_else(|error| panic!("{error}: {last} {}", output.stderr))
    }

    fn target(&self, name: &str) -> (PathBuf, String) {
        let path = self.program.dir().join(name);
        let to = format!("dir:{}", path.display());
        (path, to)
    }
}

/// With an account that has the rights the hint of a refusal gives, and no others. Valkey keeps an append-only file.
pub(crate) fn server(flavour: RedisFlavour) -> RedisServer {
    let server = RedisServer::start(
        RedisOptions {
            flavour,
            ..RedisOptions::default()
        }
        .arg("--repl-diskless-sync-delay", "0")
        .arg("--appendonly", append_only(flavour))
        .arg("--enable-debug-command", "local"),
    );
    let password = format!(">{PASSWORD}");
    server.command(&[
        "ACL",
        "SETUSER",
        "backup",
        "on",
        &password,
        "resetkeys",
        "resetchannels",
        "-@all",
        "+ping",
        "+psync",
        "+replconf",
        "+info",
        "+acl|whoami",
        "+config|get",
        "+client|setname",
        "+client|list",
    ]);
    server
}

fn append_only(flavour: RedisFlavour) -> &'static str {
    if flavour == RedisFlavour::Valkey { "yes" } else { "no" }
}

/// A stock server on what was restored, with the setting of the source: with the other it would find nothing.
fn on(folder: &Path, flavour: RedisFlavour) -> RedisServer {
    RedisServer::start_on(
        folder,
        RedisOptions {
            flavour,
            ..RedisOptions::default()
        }
        .arg("--enable-debug-command", "local")
        .arg("--appendonly", append_only(flavour)),
    )
}

#[test]
fn a_redis_comes_back_with_every_type() {
    for flavour in FLAVOURS {
        let source = server(flavour);
        cache::load(&source);
        let site = CacheSite::new(&source, "backup");
        source.command(&["SET", "short", "lived", "PX", "10000"]);
        let result = site.json(&["backup", "cache"], 0);
        let backup = &result["backup"];
        let keys: u64 = source
            .command(&["INFO", "keyspace"])
            .lines()
            .filter_map(|line| line.split("keys=").nth(1)?.split(',').next()?.parse::<u64>().ok())
            .sum();
        assert!(backup["keys"].as_u64().unwrap() >= keys && keys > 1000, "{result}");
        assert_eq!(
            (&backup["engine"], &backup["kind"], &backup["state"]),
            (&"snapshot".into(), &"redis".into(), &"good".into())
        );
        assert_eq!(backup["position"]["replication_id"].as_str().unwrap().len(), 40);
        // The same again costs next to nothing, whatever else the server did.
        source.command(&["SET", "one more", "key"]);
        let second = site.json(&["backup", "cache"], 0);
        let (all, new) = (
            second["backup"]["bytes_source"].as_u64().unwrap(),
            second["backup"]["bytes_new"].as_u64().unwrap(),
        );
        assert!(new * 2 < all, "{new} of {all}");
        assert!(site.run(&["list"]).expect(0).stdout.contains(" keys"));
        site.run(&["verify"]).expect(0);
        while source.command(&["EXISTS", "short"]) == "1" {
            std::thread::sleep(Duration::from_millis(100));
        }
        let (folder, to) = site.target("restored");
        let plan = site.json(&["restore", "cache", "--to", &to, "--dry-run"], 0);
        assert!(plan["bytes_needed"].as_u64().unwrap() > 0 && !folder.exists());
        let first = backup["id"].as_str().unwrap();
        let restored = site.json(&["restore", "cache", "--to", &to, "--backup", first], 0);
        let proof = &restored["proof"];
        assert!(
            proof["digest_equal"] == true && proof["keys_found"] == proof["keys_expected"],
            "{proof}"
        );
        assert_eq!(proof["keys_expired"], 1, "{proof}");
        let names: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        let expected = if append_only(flavour) == "yes" {
            "appendonlydir"
        } else {
            "dump.rdb"
        };
        assert_eq!(names, [expected]);
        assert!(
            restored["start_command"]
                .as_str()
                .unwrap()
                .ends_with(append_only(flavour))
        );
        let again = on(&folder, flavour);
        source.command(&["DEL", "one more"]);
        assert_eq!(again.command(&["GET", "short"]), "(nil)");
        assert_eq!(
            again.command(&["DEBUG", "DIGEST"]),
            source.command(&["DEBUG", "DIGEST"]),
            "{flavour:?}"
        );
        again.stop();
        // A moment that cannot be reached is not passed over in silence.
        let (_, other) = site.target("other");
        let refused = site
            .run(&["restore", "cache", "--to", &other, "--at", "2026-01-01 00:00:00"])
            .expect(5);
        assert!(refused.stderr.contains("lead to"), "{}", refused.stderr);
        // What is there is not touched unasked.
        let refused = site.run(&["restore", "cache", "--to", &to]).expect(2);
        assert!(
            refused.stderr.contains(expected) && refused.stderr.contains("--replace"),
            "{}",
            refused.stderr
        );
        site.run(&["restore", "cache", "--to", &to, "--replace"]).expect(0);
        assert_eq!(on(&folder, flavour).command(&["GET", "one more"]), "key");
    }
}

#[test]
fn a_redis_is_backed_up_while_writers_write() {
    for flavour in FLAVOURS {
        let source = server(flavour);
        cache::load(&source);
        let site = CacheSite::new(&source, "backup");
        let writers = CacheWriters::start(&source, 3);
        for round in 0..3 {
            site.run(&["backup", "cache"]).expect(0);
            let (folder, to) = site.target(&format!("restored-{round}"));
            let restored = site.json(&["restore", "cache", "--to", &to], 0);
            assert_eq!(restored["proof"]["digest_equal"], true, "{restored}");
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        }
        assert!(writers.stop() > 1000);
    }
}

#[test]
fn a_damaged_backup_of_a_redis_is_refused() {
    let source = server(RedisFlavour::Redis);
    cache::load(&source);
    let site = CacheSite::new(&source, "backup");
    site.run(&["backup", "cache"]).expect(0);
    let pack = largest(&site.program.dir().join("repository"));
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let (folder, to) = site.target("restored");
    let refused = site.run(&["restore", "cache", "--to", &to]).expect(4);
    assert!(!folder.exists(), "{}", refused.stderr);
    site.run(&["verify"]).expect(4);
}

fn largest(folder: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((std::fs::metadata(&path).unwrap().len(), path));
            }
        }
    }
    found.into_iter().max().unwrap().1
}

#[test]
fn a_redis_that_cannot_be_backed_up_says_what_to_type() {
    for flavour in FLAVOURS {
        let source = server(flavour);
        let site = CacheSite::new(&source, "backup");
        let findings = site.run(&["doctor", "cache", "--json"]).expect(0).stdout;
        for statement in ["CONFIG SET save", "CONFIG SET repl-backlog-size 67108864"] {
            assert!(findings.contains(statement), "{statement} in {findings}");
        }
        source.command(&["ACL", "SETUSER", "backup", "-psync"]);
        let refused = site.run(&["backup", "cache"]).expect(1);
        assert!(
            refused.stderr.contains("psync") && refused.stderr.contains("ACL SETUSER"),
            "{}",
            refused.stderr
        );
        source.command(&["ACL", "SETUSER", "backup", "resetpass"]);
        let refused = site.run(&["backup", "cache"]).expect(1);
        assert!(
            refused.stderr.contains("backup") && !refused.stderr.contains("S3CR3T"),
            "{}",
            refused.stderr
        );
        // Where another flavour is asked to prove it, that is refused before anything is written.
        source.command(&["ACL", "SETUSER", "backup", &format!(">{PASSWORD}"), "+psync"]);
        site.run(&["backup", "cache"]).expect(0);
        let (_, to) = site.target("restored");
        let refused = site
            .run(&["restore", "cache", "--to", &to.replace("dir:", "datadir:")])
            .expect(2);
        assert!(refused.stderr.contains("dir:PATH"), "{}", refused.stderr);
    }
}
