//! Snapshots over the network: whole, walked, and loaded again by a stock server.

use std::collections::BTreeSet;

use ballast_base::Cancel;
use ballast_redis::{DataForm, DataWriter, KeyKind, Snapshot, SnapshotForm, SyncOptions, WalkOptions, walk};
use ballast_testkit::dataset::cache;
use ballast_testkit::servers::{RedisFlavour, RedisServer};

use crate::common::{FLAVOURS, address, debug_digest, load, now_ms, options, quick, snapshot_of, start, take};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_holds_all_and_a_stock_server_loads_it_in_each_form() {
    for flavour in FLAVOURS {
        let server = start(flavour);
        cache::load(&server);
        let (bytes, summary) = snapshot_of(&address(&server), &options(&server).await, WalkOptions::default()).await;
        let expected: u64 = server
            .command(&["INFO", "keyspace"])
            .lines()
            .filter_map(|line| line.split("keys=").nth(1)?.split(',').next()?.parse::<u64>().ok())
            .sum();
        assert_eq!(summary.keys(), expected, "{flavour:?}");
        assert!(summary.expiring() >= 200 * 4 && summary.checksum.is_some() && summary.functions == 2);
        assert_eq!(summary.bytes, bytes.len() as u64);
        assert_eq!(summary.databases.keys().copied().collect::<Vec<_>>(), cache::DATABASES);
        let kinds: BTreeSet<KeyKind> = summary.databases[&3].kinds.keys().copied().collect();
        assert_eq!(kinds.len(), 6, "{kinds:?}");
        assert_eq!(summary.expiring_fields > 0, server.knows("HEXPIRE"), "{flavour:?}");
        for (form, with_commands) in [
            (DataForm::Snapshot, false),
            (DataForm::MultiPart, false),
            (DataForm::MultiPart, true),
            (DataForm::SingleFile, true),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = DataWriter::create(folder.path(), form).unwrap();
            bytes.chunks(10_000).for_each(|chunk| writer.write(chunk).unwrap());
            if with_commands {
                writer.begin_commands(0).unwrap();
            }
            writer.finish().unwrap();
            let loaded = load(&server, folder.path(), form).await;
            assert_eq!(
                debug_digest(loaded.address()).await,
                server.command(&["DEBUG", "DIGEST"]),
                "{flavour:?} {form:?}"
            );
            loaded.lead().await.unwrap();
            let own = SyncOptions {
                ..options(&server).await
            };
            let (_, again) = snapshot_of(loaded.address(), &own, WalkOptions::default()).await;
            assert_eq!(
                summary.differences(&again),
                Vec::<String>::new(),
                "{flavour:?} {form:?}"
            );
            loaded.stop().await.unwrap();
        }
    }
}

/// Another encoding of the same content is the same; another content is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_digest_does_not_depend_on_how_a_server_keeps_its_data() {
    for flavour in FLAVOURS {
        let packed = start(flavour);
        let mut tables = quick(flavour);
        for name in [
            "list-max-listpack-size",
            "set-max-intset-entries",
            "zset-max-listpack-entries",
            "hash-max-listpack-entries",
        ] {
            tables = tables.arg(&format!("--{name}"), "1");
        }
        let tables = RedisServer::start(
            tables
                .arg("--rdbcompression", "no")
                .arg("--rdbchecksum", "no")
                .arg("--maxmemory-policy", "allkeys-lfu"),
        );
        for server in [&packed, &tables] {
            for words in [
                &["RPUSH", "l", "a", "1", "-7", "70000"][..],
                &["SADD", "s", "1", "2", "3"],
                &["SADD", "t", "x", "2"],
                &["ZADD", "z", "1", "a", "0.1", "b", "-0", "c", "+inf", "d"],
                &["HSET", "h", "f", "1", "g", "text"],
                &["SET", "n", "12345"],
                &["XADD", "x", "5-1", "a", "1"],
                &["PEXPIREAT", "h", "99999999999999"],
            ] {
                server.command(words);
            }
        }
        let none = WalkOptions::default();
        let (small, one) = snapshot_of(&address(&packed), &options(&packed).await, none.clone()).await;
        let (large, two) = snapshot_of(&address(&tables), &options(&tables).await, none.clone()).await;
        assert_eq!(one.differences(&two), Vec::<String>::new(), "{flavour:?}");
        assert_eq!(one.digest(), two.digest());
        assert!(one.checksum.is_some() && two.checksum.is_none(), "rdbchecksum no");
        assert_ne!(small.len(), large.len());
        tables.command(&["HSET", "h", "f", "2"]);
        let (_, three) = snapshot_of(&address(&tables), &options(&tables).await, none.clone()).await;
        assert_eq!(one.differences(&three), ["database 0: the content of keys differs"]);
        let mut keys = Vec::new();
        walk(small.as_slice(), none, &mut |key| {
            keys.push((String::from_utf8_lossy(key.name).into_owned(), key.kind, key.expires_at));
        })
        .unwrap();
        assert_eq!(keys.len(), 7);
        assert!(keys.contains(&("h".to_owned(), KeyKind::Hash, Some(99_999_999_999_999))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_by_a_moment_can_be_left_out() {
    for flavour in FLAVOURS {
        let server = start(flavour);
        server.command(&["SET", "stays", "x"]);
        server.command(&["SET", "goes", "x", "PX", "5000"]);
        let (bytes, all) = snapshot_of(&address(&server), &options(&server).await, WalkOptions::default()).await;
        let later = WalkOptions {
            gone_until: Some(now_ms() + 6000),
            ..WalkOptions::default()
        };
        let some = walk(bytes.as_slice(), later, &mut |_| {}).unwrap();
        assert_eq!((all.keys(), all.expiring(), some.keys(), some.expiring()), (2, 1, 1, 0));
        assert_eq!(some.databases[&0].gone, 1);
    }
}

/// Without `capa eof` the server writes a file first; and with the server's own delay the lines before are skipped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_forms_of_a_snapshot_are_read() {
    for flavour in FLAVOURS {
        let server = RedisServer::start(quick(flavour).arg("--repl-diskless-sync-delay", "2"));
        cache::load(&server);
        let cancel = Cancel::new();
        let mut memory = Snapshot::start(&address(&server), &options(&server).await, &cancel)
            .await
            .unwrap();
        assert_eq!(memory.form(), SnapshotForm::FromMemory);
        let (bytes, one) = take(&mut memory, WalkOptions::default()).await.unwrap();
        assert!(!server.data_dir().join("dump.rdb").exists());
        let by_file = SyncOptions {
            from_memory: false,
            ..options(&server).await
        };
        let mut file = Snapshot::start(&address(&server), &by_file, &cancel).await.unwrap();
        let (other, two) = take(&mut file, WalkOptions::default()).await.unwrap();
        assert_eq!(
            file.form(),
            SnapshotForm::FromFile {
                bytes: other.len() as u64
            }
        );
        assert_eq!(one.differences(&two), Vec::<String>::new());
        assert_eq!((memory.bytes(), file.bytes()), (bytes.len() as u64, other.len() as u64));
        assert!(server.data_dir().join("dump.rdb").exists());
    }
}

/// Told no version, Valkey writes for older replicas and fails on fields that expire: that is not a whole snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_the_server_gives_up_is_an_error() {
    let server = start(RedisFlavour::Valkey);
    server.command(&["HSET", "basket", "a", "1"]);
    server.command(&["HEXPIRE", "basket", "86400", "FIELDS", "1", "a"]);
    let untold = SyncOptions::default();
    let taken = async {
        let mut snapshot = Snapshot::start(&address(&server), &untold, &Cancel::new()).await?;
        take(&mut snapshot, WalkOptions::default()).await
    };
    let error = taken.await.unwrap_err().to_string();
    assert!(error.contains("the server ended its snapshot after"), "{error}");
}

/// In a cluster a snapshot holds the sizes of slots besides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_of_a_cluster_is_read() {
    for flavour in FLAVOURS {
        let server = RedisServer::start(quick(flavour).arg("--cluster-enabled", "yes"));
        server.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        while !server.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
            tokio::task::yield_now().await;
        }
        for number in 0..300 {
            server.command(&["SET", &format!("key:{number}"), "x"]);
        }
        let (_, summary) = snapshot_of(&address(&server), &options(&server).await, WalkOptions::default()).await;
        assert_eq!(summary.keys(), 300, "{flavour:?}");
    }
}
