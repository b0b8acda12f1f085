//! A Redis or Valkey is restored into a running server.

use std::time::Duration;

use ballast_testkit::dataset::cache;
use ballast_testkit::servers::{RedisFlavour, RedisOptions, RedisServer};

use crate::redis::{CacheSite, FLAVOURS, server};
use crate::site::rounds;

/// Names, types, expiries and contents of one database, whatever prints them: scores are numbers.
const CONTENT: &[u8] = b"\
local out, names = {}, redis.call('KEYS', '*')
table.sort(names)
local function sorted(list) table.sort(list) return list end
for _, name in ipairs(names) do
  local kind, content = redis.call('TYPE', name).ok, nil
  if kind == 'string' then content = redis.call('GET', name)
  elseif kind == 'list' then content = cjson.encode(redis.call('LRANGE', name, 0, -1))
  elseif kind == 'set' then content = cjson.encode(sorted(redis.call('SMEMBERS', name)))
  elseif kind == 'zset' then
    local pairs = redis.call('ZRANGE', name, 0, -1, 'WITHSCORES')
    for at = 2, #pairs, 2 do pairs[at] = string.format('%.17g', tonumber(pairs[at]) + 0) end
    content = cjson.encode(pairs)
  elseif kind == 'hash' then
    local all, pairs = redis.call('HGETALL', name), {}
    for at = 1, #all, 2 do pairs[#pairs + 1] = all[at] .. '=' .. all[at + 1] end
    content = cjson.encode(sorted(pairs))
  else
    content = cjson.encode(redis.call('XRANGE', name, '-', '+'))
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', name)) do
      content = content .. group[2] .. cjson.encode(redis.call('XPENDING', name, group[2]))
    end
  end
  out[#out + 1] = redis.sha1hex(name) .. ' ' .. kind .. ' ' .. redis.call('PEXPIRETIME', name) .. ' ' .. redis.sha1hex(content)
end
return table.concat(out, '\\n')";

/// Of every database.
fn content(server: &RedisServer) -> Vec<String> {
    let mut client = server.client();
    (0..16)
        .map(|database: u32| {
            client.send(&[b"SELECT", database.to_string().as_bytes()]);
            client.send(&[b"EVAL", CONTENT, b"0"])
        })
        .collect()
}

#[track_caller]
fn assert_same(source: &RedisServer, target: &RedisServer) {
    for (number, (here, there)) in content(source).iter().zip(content(target)).enumerate() {
        let differs = here.lines().zip(there.lines()).find(|(here, there)| here != there);
        assert!(
            *here == there,
            "database {number}: {differs:?}, {} of {}",
            there.lines().count(),
            here.lines().count()
        );
    }
    let functions = |server: &RedisServer| {
        let list = server.command(&["FUNCTION", "LIST", "WITHCODE"]);
        let mut lines: Vec<String> = list.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(functions(source), functions(target));
}

fn target(flavour: RedisFlavour) -> RedisServer {
    RedisServer::start(RedisOptions {
        flavour,
        ..RedisOptions::default()
    })
}

/// Values of more than is held, which pass as they come.
fn load_large(server: &RedisServer) {
    let mut state = 7_u64;
    let mut noise = |bytes: usize| -> Vec<u8> {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..bytes).map(|_| next()).collect()
    };
    let mut client = server.client();
    client.send(&[b"SET", b"a large string", &noise(5_000_000)]);
    let items: Vec<Vec<u8>> = (0..30).map(|_| noise(100_000)).collect();
    let words: Vec<&[u8]> = [b"RPUSH".as_slice(), b"a large list"]
        .into_iter()
        .chain(items.iter().map(Vec::as_slice))
        .collect();
    client.send(&words);
    client.send(&[b"EXPIRE", b"a large list", b"86400"]);
}

#[test]
fn a_redis_is_restored_into_a_running_server() {
    for flavour in FLAVOURS {
        let source = server(flavour);
        cache::load(&source);
        load_large(&source);
        let site = CacheSite::new(&source, "backup");
        site.run(&["backup", "cache"]).expect(0);
        for other in FLAVOURS {
            let target = target(other);
            let to = target.url();
            let plan = site.json(&["restore", "cache", "--to", &to, "--dry-run"], 0);
            assert_eq!(plan["replaces"].as_array().unwrap().len(), 0, "{plan}");
            assert_eq!(target.command(&["DBSIZE"]), "0");
            if (flavour, other) == (RedisFlavour::Valkey, RedisFlavour::Redis) {
                // A newer release keeps small sets and streams in a way the older one does not know.
                let refused = site.run(&["restore", "cache", "--to", &to]).expect(1);
                assert!(refused.stderr.contains("does not know"), "{}", refused.stderr);
                assert_eq!(target.command(&["DBSIZE"]), "0");
                let some = site.json(
                    &[
                        "restore",
                        "cache",
                        "--to",
                        &to,
                        "--only",
                        "*zset*",
                        "--only",
                        "0/*large s*",
                    ],
                    0,
                );
                assert!(some["proof"]["keys_found"].as_u64().unwrap() > 20, "{some}");
                assert_eq!(target.command(&["EXISTS", "a large string"]), "1");
                continue;
            }
            let restored = site.json(&["restore", "cache", "--to", &to], 0);
            let proof = &restored["proof"];
            assert!(
                proof["digest_equal"] == true && proof["keys_found"] == proof["keys_expected"],
                "{proof}"
            );
            assert_same(&source, &target);
            // What is there is named, and not touched unasked.
            target.command(&["SET", "a stranger", "here"]);
            let refused = site.run(&["restore", "cache", "--to", &to]).expect(2);
            assert!(
                refused.stderr.contains("keys in database 15") && refused.stderr.contains("--replace"),
                "{}",
                refused.stderr
            );
            assert_eq!(target.command(&["GET", "a stranger"]), "here");
            let plan = site.json(&["restore", "cache", "--to", &to, "--replace", "--dry-run"], 0);
            assert!(plan["replaces"].to_string().contains("functions"), "{plan}");
            site.run(&["restore", "cache", "--to", &to, "--replace"]).expect(0);
            assert_same(&source, &target);
        }
    }
}

#[test]
fn some_keys_of_a_redis_are_restored_beside_others() {
    let source = server(RedisFlavour::Redis);
    cache::load(&source);
    let site = CacheSite::new(&source, "backup");
    site.run(&["backup", "cache"]).expect(0);
    let target = target(RedisFlavour::Valkey);
    let to = target.url();
    target.command(&["SET", "mine", "stays"]);
    let only = [
        "restore",
        "cache",
        "--to",
        &to,
        "--only",
        "3/session:1*",
        "--only",
        "0/text",
    ];
    let restored = site.json(&only, 0);
    // session:1, session:10 to 19, session:100 to 199.
    assert_eq!(restored["proof"]["keys_found"], 112, "{restored}");
    let mut client = target.client();
    assert_eq!(client.send(&[b"GET", b"text"]), "hello");
    assert_eq!(client.send(&[b"DBSIZE"]), "2");
    client.send(&[b"SELECT", b"3"]);
    assert_eq!(client.send(&[b"DBSIZE"]), "111");
    assert!(client.send(&[b"PEXPIRETIME", b"session:17"]).parse::<u64>().unwrap() > 1_000_000_000_000);
    assert!(target.command(&["FUNCTION", "LIST"]).is_empty());
    // The same again would replace them.
    let refused = site.run(&only).expect(2);
    assert!(
        refused.stderr.contains("112 of these keys already") && refused.stderr.contains("\"text\""),
        "{}",
        refused.stderr
    );
    target.command(&["SET", "text", "changed"]);
    let again = site.json(&[&only[..], &["--replace"]].concat(), 0);
    assert_eq!(again["keys_replaced"], 112, "{again}");
    assert_eq!(
        (target.command(&["GET", "text"]), target.command(&["GET", "mine"])),
        ("hello".to_owned(), "stays".to_owned())
    );
    let none = site
        .run(&["restore", "cache", "--to", &to, "--only", "no such*"])
        .expect(2);
    assert!(none.stderr.contains("no key"), "{}", none.stderr);
}

#[test]
fn a_server_that_cannot_take_a_redis_is_refused_before_anything_is_written() {
    let source = server(RedisFlavour::Redis);
    cache::load(&source);
    load_large(&source);
    let mut site = CacheSite::new(&source, "backup");
    site.run(&["backup", "cache"]).expect(0);
    let target = target(RedisFlavour::Redis);
    let to = target.url();
    target.command(&["SET", "mine", "stays"]);
    let refused = |site: &CacheSite, to: &str, code: i32, said: [&str; 2]| {
        let output = site.run(&["restore", "cache", "--to", to, "--replace"]).expect(code);
        for text in said {
            assert!(output.stderr.contains(text), "{text}: {}", output.stderr);
        }
        assert_eq!(target.command(&["GET", "mine"]), "stays");
    };
    refused(&site, &format!("{to}/3"), 2, ["names a database", "--only"]);
    target.command(&["CONFIG", "SET", "maxmemory", "6mb"]);
    refused(&site, &to, 1, ["its maxmemory is", "CONFIG SET maxmemory"]);
    target.command(&["CONFIG", "SET", "maxmemory", "0"]);
    target.command(&["CONFIG", "SET", "proto-max-bulk-len", "4mb"]);
    refused(&site, &to, 1, ["\"a large string\"", "CONFIG SET proto-max-bulk-len"]);
    target.command(&["CONFIG", "SET", "proto-max-bulk-len", "512mb"]);
    target.command(&["REPLICAOF", "127.0.0.1", "1"]);
    refused(&site, &to, 1, ["a replica of 127.0.0.1:1", "REPLICAOF NO ONE"]);
    target.command(&["REPLICAOF", "NO", "ONE"]);
    target.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    refused(&site, &to, 1, ["NOREPLICAS", "would not take it"]);
    target.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    let small = RedisServer::start(RedisOptions::default().arg("--databases", "4"));
    let output = site.run(&["restore", "cache", "--to", &small.url()]).expect(1);
    assert!(output.stderr.contains("--databases 16"), "{}", output.stderr);
    assert_eq!(small.command(&["DBSIZE"]), "0");
    // What an account lacks is found without trying it, and the line that gives it is one.
    let password = ">loads";
    target.command(&["ACL", "SETUSER", "loader", "on", password, "~*", "+info", "+get"]);
    site.program.env("BALLAST_TARGET_PASSWORD", "loads");
    let as_loader = format!("redis://loader@127.0.0.1:{}", target.port());
    let output = site
        .run(&["restore", "cache", "--to", &as_loader, "--replace"])
        .expect(1);
    assert_eq!(target.command(&["GET", "mine"]), "stays");
    let hint = output
        .stderr
        .split("ACL SETUSER loader ")
        .nth(1)
        .expect("a line to type");
    let line = hint.lines().next().unwrap();
    let words: Vec<&str> = ["ACL", "SETUSER", "loader"]
        .into_iter()
        .chain(line.split_whitespace())
        .collect();
    target.command(&words);
    let output = site
        .run(&["restore", "cache", "--to", &as_loader, "--replace"])
        .expect(0);
    assert!(!output.stderr.contains("cannot be kept away"), "{}", output.stderr);
    assert_same(&source, &target);
}

#[test]
fn a_killed_load_of_a_redis_goes_on() {
    for flavour in FLAVOURS {
        let source = server(flavour);
        cache::load(&source);
        load_large(&source);
        let mut client = source.client();
        for group in 0..60 {
            let commands: Vec<_> = (0..1000)
                .map(|n| {
                    vec![
                        b"SET".to_vec(),
                        format!("k:{group}:{n}").into_bytes(),
                        vec![b'x'; 500 + n % 300],
                    ]
                })
                .collect();
            client.pipeline(&commands);
        }
        let site = CacheSite::new(&source, "backup");
        site.run(&["backup", "cache"]).expect(0);
        let target = target(flavour);
        let to = target.url();
        let mut interrupted = 0;
        for _ in 0..rounds(4) {
            let running = site.program.spawn(["restore", "cache", "--to", &to]);
            running.kill_at_random(Duration::from_millis(2500));
            if target.command(&["EXISTS", "ballast:load"]) == "1" {
                interrupted += 1;
                // Something else does not get in its way.
                let other = site.run(&["restore", "cache", "--to", &to, "--only", "text"]).expect(2);
                assert!(
                    other.stderr.contains("unfinished load") && other.stderr.contains("--backup"),
                    "{}",
                    other.stderr
                );
                // A newer backup does neither.
                site.run(&["backup", "cache"]).expect(0);
            } else {
                target.command(&["FLUSHALL"]);
                target.command(&["FUNCTION", "FLUSH"]);
            }
        }
        let restored = site.json(&["restore", "cache", "--to", &to], 0);
        println!(
            "{flavour:?}: {interrupted} interrupted, went on from {}",
            restored["went_on_from"]
        );
        assert_same(&source, &target);
        assert_eq!(target.command(&["EXISTS", "ballast:load"]), "0");
    }
}

#[test]
fn a_key_that_somebody_else_wrote_is_found_by_the_proof() {
    let source = server(RedisFlavour::Valkey);
    cache::load(&source);
    let site = CacheSite::new(&source, "backup");
    let backup = site.json(&["backup", "cache"], 0)["backup"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let target = target(RedisFlavour::Valkey);
    let to = target.url();
    site.run(&["restore", "cache", "--to", &to]).expect(0);
    // As a load leaves it whose proof is missing.
    let book = format!("{{\"source\":\"cache\",\"backup\":\"{backup}\",\"only\":[],\"up_to\":0,\"loaded\":true}}");
    target.command(&["SET", "ballast:load", &book]);
    site.run(&["restore", "cache", "--to", &to]).expect(0);
    target.command(&["SET", "ballast:load", &book]);
    target.command(&["HSET", "hash", "a", "other"]);
    target.command(&["DEL", "text"]);
    target.command(&["PERSIST", "queue"]);
    for number in 0..5 {
        target.command(&["SET", &format!("stranger:{number}"), "x"]);
    }
    for _ in 0..2 {
        let differs = site.run(&["restore", "cache", "--to", &to]).expect(4);
        for text in [
            "\"hash\" of database 0 has another content",
            "\"text\" of database 0 is not there",
            "\"queue\" of database 0 ends at another moment",
            "--replace",
        ] {
            assert!(differs.stderr.contains(text), "{text}: {}", differs.stderr);
        }
    }
    site.run(&["restore", "cache", "--to", &to, "--replace"]).expect(0);
    assert_same(&source, &target);
}

#[test]
fn one_load_into_a_redis_and_one_backup_of_it_at_a_time() {
    for flavour in FLAVOURS {
        let source = server(flavour);
        cache::load(&source);
        let site = CacheSite::new(&source, "backup");
        site.run(&["backup", "cache"]).expect(0);
        let target = target(flavour);
        for (server, kind, args) in [
            (&source, "backup", vec!["backup".to_owned(), "cache".to_owned()]),
            (
                &target,
                "load",
                vec![
                    "restore".to_owned(),
                    "cache".to_owned(),
                    "--to".to_owned(),
                    target.url(),
                ],
            ),
        ] {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let mut holder = server.client();
            let name = format!("ballast-{kind}/4711/elsewhere/2026-11-25T10:00:00Z/00");
            holder.send(&[b"CLIENT", b"SETNAME", name.as_bytes()]);
            let held = site.run(&args).expect(11);
            assert!(
                held.stderr.contains("process 4711 on host \"elsewhere\""),
                "{}",
                held.stderr
            );
            drop(holder);
            site.run(&args).expect(0);
        }
        // An account that may not look is told that others cannot be kept away, and the backup is taken.
        source.command(&["ACL", "SETUSER", "backup", "-client|list"]);
        let warned = site.run(&["backup", "cache"]).expect(0);
        assert!(warned.stderr.contains("+client|list"), "{}", warned.stderr);
    }
}

/// What a managed service leaves of a server: no `PSYNC`.
#[test]
fn a_redis_that_gives_no_snapshot_is_read_key_by_key_and_says_so() {
    for flavour in FLAVOURS {
        let source = server(flavour);
        cache::load(&source);
        load_large(&source);
        let site = CacheSite::new(&source, "backup");
        source.command(&["ACL", "SETUSER", "backup", "-psync", "-replconf"]);
        // Without rights to read keys it is refused, as it was.
        let refused = site.run(&["backup", "cache"]).expect(1);
        assert!(refused.stderr.contains("+psync"), "{}", refused.stderr);
        let refused = site.run(&["backup", "cache", "--engine", "logical"]).expect(1);
        let line = refused
            .stderr
            .split("ACL SETUSER backup ")
            .nth(1)
            .expect("a line to type");
        let line = line.lines().next().unwrap();
        let words: Vec<&str> = ["ACL", "SETUSER", "backup"]
            .into_iter()
            .chain(line.split_whitespace())
            .collect();
        source.command(&words);
        // Unasked it is done in part, and the reason is named.
        let part = site.run(&["backup", "cache"]).expect(3);
        assert!(
            part.stderr.contains("gives no snapshot")
                && part.stderr.contains("not of one moment")
                && part.stderr.contains("+psync"),
            "{}",
            part.stderr
        );
        // Asked for, it is done.
        let asked = site.json(&["backup", "cache", "--engine", "logical"], 0);
        let backup = &asked["backup"];
        assert_eq!(
            (&backup["point_in_time"], &backup["engine"], &backup["position"]),
            (&false.into(), &"logical".into(), &serde_json::Value::Null)
        );
        assert!(
            backup["bytes_new"].as_u64().unwrap() * 10 < backup["bytes_source"].as_u64().unwrap(),
            "{asked}"
        );
        let list = site.run(&["list"]).expect(0).stdout;
        assert_eq!(list.matches("not of one moment").count(), 2, "{list}");
        let target = target(flavour);
        let to = target.url();
        let plan = site
            .run(&["restore", "cache", "--to", &to, "--dry-run"])
            .expect(0)
            .stdout;
        assert!(plan.contains("not a point in time"), "{plan}");
        let restored = site.run(&["restore", "cache", "--to", &to]).expect(0);
        assert!(restored.stderr.contains("not of one moment"), "{}", restored.stderr);
        assert_same(&source, &target);
        let folder = format!("dir:{}", site.program.dir().join("restored").display());
        let restored = site.json(&["restore", "cache", "--to", &folder], 0);
        assert_eq!(
            (
                &restored["proof"]["digest_equal"],
                &restored["reached"]["point_in_time"]
            ),
            (&true.into(), &false.into())
        );
        // What writers do meanwhile is in it or not; what they leave alone is.
        let writers = ballast_testkit::dataset::CacheWriters::start(&source, 2);
        site.run(&["backup", "cache", "--engine", "logical"]).expect(0);
        assert!(writers.stop() > 0);
        site.run(&["restore", "cache", "--to", &to, "--replace"]).expect(0);
    }
}
