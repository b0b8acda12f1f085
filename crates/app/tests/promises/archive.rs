//! The log of a server is recorded: byte for byte, nothing lost, nothing twice, whatever dies.

use std::process::Command;
use std::time::Duration;

use ballast_testkit::chaos_proxy::ChaosProxy;
use ballast_testkit::s3::{S3Options, S3Server};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};
use serde_json::{Value, json};

use crate::recorded::{
    Clients, Recorded, closed_files, end, executed, is_followed, lines, make_semi_sync, record, recorded, site, source,
    spool, start, tokens, wait_until, wait_until_recorded,
};
use crate::site::{PASSPHRASE, PASSWORD, Site, USER, files, rounds, start_restored};

fn durable() -> MysqlOptions {
    MysqlOptions {
        durable: true,
        ..MysqlOptions::default()
    }
}

/// Everything a log can hold, in several files, while the recorder is killed now and then.
#[test]
fn the_recorded_log_is_the_servers_byte_for_byte() {
    let source = source(
        MysqlOptions::default()
            .arg("--max-binlog-size=262144")
            .arg("--max-allowed-packet=128M"),
    );
    let site = site(&source, &source.url(USER), "").init();
    let mut running = record(&site, &source);
    for round in 0..rounds(2) {
        source.sql(&format!(
            "CREATE DATABASE d{round}; CREATE TABLE d{round}.t (id INT AUTO_INCREMENT PRIMARY KEY, a LONGTEXT, b VARBINARY(1000));
             INSERT INTO d{round}.t (a, b) VALUES ('tk-plain-in-the-log-of-the-1', RANDOM_BYTES(500)), (REPEAT('a', 100000), '');
             SET SESSION binlog_transaction_compression = ON;
             INSERT INTO d{round}.t (a) VALUES (REPEAT('compressed', 20000)), (UUID());
             SET SESSION binlog_transaction_compression = OFF;
             BEGIN; INSERT INTO d{round}.t (a) VALUES (REPEAT('s', 9000)); SAVEPOINT s; INSERT INTO d{round}.t (a) VALUES ('rolled back');
             ROLLBACK TO s; INSERT INTO d{round}.t (a) VALUES ('kept'); COMMIT;
             ALTER TABLE d{round}.t ADD COLUMN c INT DEFAULT 7; DROP TABLE IF EXISTS d{round}.gone;
             XA START 'x'; INSERT INTO d{round}.t (a) VALUES ('xa'); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x';
             CREATE USER u{round}; FLUSH BINARY LOGS"
        ));
        // Larger than a packet, and than a segment.
        source.sql(&format!(
            "INSERT INTO d{round}.t (a) VALUES (REPEAT(HEX(RANDOM_BYTES(512)), 20500))"
        ));
        let killed = running.kill_after(Duration::from_millis(u64::from(round) * 300));
        assert_eq!(killed.signal, Some(9), "{}", killed.stderr);
        no_secret(&killed.stdout, &killed.stderr);
        running = record(&site, &source);
    }
    source.sql("FLUSH BINARY LOGS");
    wait_until_recorded(&site.repository(), &source);
    // Nothing of a row is in the spool in the clear.
    for file in files(&spool(&site)) {
        let content = std::fs::read(&file).unwrap();
        assert!(tokens(&content).is_empty(), "{}", file.display());
    }
    let said = end(running, 0);
    assert_eq!(said.last().unwrap()["type"], "result", "{said:?}");
    assert_eq!(said.last().unwrap()["spool_bytes"], 0, "{said:?}");

    let streams = recorded(&site.repository());
    assert_eq!(streams.len(), 1, "a recorder that was killed goes on");
    let stream = &streams[0];
    assert_eq!(stream.through, source.gtid_executed());
    let closed = closed_files(&source);
    assert!(closed.len() > 3, "{:?}", closed.keys());
    let first = stream.facts["first_file"].as_str().unwrap();
    for (name, bytes) in closed.iter().filter(|(name, _)| name.as_str() >= first) {
        let ours = &stream.files[name];
        assert_eq!(ours.len(), bytes.len(), "{name}");
        assert!(ours == bytes, "{name} is not byte for byte what the server has");
        mysqlbinlog_reads(&source, &site, name, ours);
    }
    site.verify_clean();
}

fn no_secret(stdout: &str, stderr: &str) {
    for secret in [PASSWORD, PASSPHRASE] {
        assert!(
            !stdout.contains(secret) && !stderr.contains(secret),
            "{stdout}\n{stderr}"
        );
    }
}

fn mysqlbinlog_reads(source: &MysqlServer, site: &Site, name: &str, bytes: &[u8]) {
    let copy = site.program.write(name, bytes);
    let output = Command::new(source.client_program("mysqlbinlog"))
        .args(["--verify-binlog-checksum", "--verbose"])
        .arg(&copy)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !errors.contains("ERROR"), "{name}: {errors}");
}

/// Eight clients commit while the source waits for the recorder. Both are killed, again and again. What the clients saw is in the log,
/// and in what is restored by it.
#[test]
fn what_a_client_saw_committed_is_recorded_though_source_and_recorder_are_killed() {
    let source = source(durable());
    let site = site(&source, &source.url(USER), "semi_sync = true, seal_after = \"200ms\"").init();
    let mut running = record(&site, &source);
    make_semi_sync(&source);
    site.json(&["backup", "orders"], 0);
    let mut committed = std::collections::BTreeSet::new();
    for round in 0..rounds(3) {
        let clients = Clients::start(&source, 8, Duration::ZERO);
        std::thread::sleep(Duration::from_millis(300 + u64::from(round % 5) * 130));
        let killed = if round % 2 == 0 {
            source.kill();
            running.kill_after(Duration::ZERO)
        } else {
            let killed = running.kill_after(Duration::ZERO);
            source.kill();
            killed
        };
        assert_eq!(killed.signal, Some(9), "{}", killed.stderr);
        let seen = clients.stop();
        println!("round {round}: {} transactions committed", seen.len());
        committed.extend(seen);
        source.restart();
        running = record(&site, &source);
        make_semi_sync(&source);
    }
    wait_until_recorded(&site.repository(), &source);
    end(running, 0);
    let streams = recorded(&site.repository());
    assert_eq!(
        streams.len(),
        1,
        "{:?}",
        streams.iter().map(|s| &s.facts).collect::<Vec<_>>()
    );
    all_there_once(&streams[0], &committed);
    let there = source.value("SELECT COUNT(*) FROM kept.tokens");
    assert_eq!(
        there,
        tokens(&streams[0].raw).len().to_string(),
        "what the source has is recorded, and no more"
    );
    site.restore(&[]);
    let restored = start_restored(&site.restored());
    let kept = |server: &MysqlServer| server.sql("SELECT token FROM kept.tokens ORDER BY token");
    let kept_by_restore = kept(&restored);
    assert_eq!(kept_by_restore, kept(&source), "the restore has what the source has");
    println!(
        "{} transactions were seen committed, {there} were; in the restore are {}",
        committed.len(),
        kept_by_restore.len()
    );
    site.verify_clean();
}

#[track_caller]
fn all_there_once(stream: &Recorded, committed: &std::collections::BTreeSet<String>) {
    let found = tokens(&stream.raw);
    let lost: Vec<_> = committed.iter().filter(|token| !found.contains_key(*token)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} committed transactions are not recorded: {lost:?}",
        lost.len(),
        committed.len()
    );
    let twice: Vec<_> = found.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "recorded twice: {twice:?}");
}

/// Without it, what the source had not sent is lost when it dies together with its disk: the last moment.
#[test]
fn without_semi_sync_the_last_moment_may_be_lost() {
    let source = source(durable());
    let site = site(&source, &source.url(USER), "").init();
    let mut longest = 0.0_f64;
    for _ in 0..rounds(1) {
        let running = record(&site, &source);
        let clients = Clients::start(&source, 8, Duration::ZERO);
        std::thread::sleep(Duration::from_millis(700));
        // The source never comes back: what counts is what the recorder had when it went.
        source.kill();
        let committed = clients.stop();
        end(running, 0);
        let streams = recorded(&site.repository());
        let found = tokens(&streams.last().unwrap().raw);
        let lost = committed.iter().filter(|token| !found.contains_key(*token)).count();
        let seconds = 0.7 * lost as f64 / committed.len().max(1) as f64;
        println!(
            "{lost} of {} committed transactions were not recorded: about {seconds:.3} s",
            committed.len()
        );
        longest = longest.max(seconds);
        source.restart();
    }
    assert!(longest < 1.0, "{longest} s");
}

/// The line is cut every two seconds, a repository is away, and then the spool is full. Of a soak's 50 rounds that is five minutes, and
/// two.
#[test]
fn cuts_a_lost_repository_and_a_full_spool_lose_nothing() {
    let source = source(MysqlOptions::default());
    let proxy = ChaosProxy::start(source.port());
    let through = source
        .url(USER)
        .replace(&format!(":{}", source.port()), &format!(":{}", proxy.port()));
    let cloud = S3Server::start(S3Options {
        tls: true,
        ..S3Options::default()
    });
    let mut site = site(&source, &through, "seal_after = \"300ms\"").with_cloud(&cloud);
    // One recorder all the time: a round is 6 s of cuts and 2 s without the repository.
    site.program.limit(Duration::from_secs(240 + 10 * u64::from(rounds(1))));
    site.change("[spool]\n", "[spool]\nlimit = \"64MiB\"\n");
    let site = site.init();
    let running = record(&site, &source);
    let clients = Clients::start(&source, 4, Duration::from_millis(2));
    let cut_for = |count: u32| {
        for _ in 0..count {
            std::thread::sleep(Duration::from_secs(2));
            proxy.cut();
        }
    };
    cut_for(3 * rounds(1));
    cloud.kill();
    cut_for(rounds(1));
    // More than the spool takes.
    source.sql("CREATE TABLE kept.noise (id INT AUTO_INCREMENT PRIMARY KEY, a LONGBLOB)");
    for _ in 0..24 {
        source.sql("INSERT INTO kept.noise (a) VALUES (REPEAT(RANDOM_BYTES(1024), 4096))");
    }
    // It is full, says so, and the repository that is there has what was read.
    wait_until("the spool is full", || !is_followed(&source));
    cut_for(1);
    // Until it counts as lost: a store that is away for a moment is tried again without a word.
    std::thread::sleep(Duration::from_secs(25));
    cloud.restart();
    wait_until("the log is read again", || is_followed(&source));
    let committed = clients.stop();
    wait_until_recorded(&site.repository(), &source);
    let said = end(running, 0);
    let named = |kind: &str| said.iter().filter(|line| line["type"] == kind).count();
    assert!(
        named("repository-lost") >= 1 && named("repository-back") >= 1,
        "{said:?}"
    );
    assert!(
        said.iter().any(|line| line["type"] == "spool" && line["full"] == true),
        "{said:?}"
    );
    assert!(named("disconnected") >= 2, "{said:?}");
    assert_eq!(said.last().unwrap()["spool_bytes"], 0, "{said:?}");
    site.verify_clean();
    let copied = site.program.dir().join("copied");
    let copying = Command::new("cp")
        .arg("-r")
        .arg(cloud.bucket_dir().join("prod"))
        .arg(&copied)
        .status();
    assert!(copying.unwrap().success());
    std::fs::set_permissions(&copied, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    for folder in [site.repository(), copied] {
        let streams = recorded(&folder);
        assert_eq!(streams.len(), 1);
        all_there_once(&streams[0], &committed);
        assert_eq!(streams[0].through, source.gtid_executed());
    }
    println!(
        "{} cuts; {} transactions were seen committed, and each is recorded once in both repositories",
        named("disconnected"),
        committed.len()
    );
}

/// The disk of the spool is full: it waits, says so, and goes on when there is room.
#[test]
fn a_full_disk_of_the_spool_is_waited_for() {
    let source = source(durable());
    let mut site = site(&source, &source.url(USER), "semi_sync = true, seal_after = \"300ms\"");
    let small = site.program.dir().join("small");
    std::fs::create_dir(&small).unwrap();
    let Some(_volume) = crate::faults::Volume::mount(&small, "size=3m") else {
        // Not root.
        return;
    };
    site.change(
        &spool(&site).display().to_string(),
        &small.join("spool").display().to_string(),
    );
    let site = site.init();
    let running = record(&site, &source);
    make_semi_sync(&source);
    let clients = Clients::start(&source, 4, Duration::from_millis(1));
    std::thread::sleep(Duration::from_millis(400));
    let filler = small.join("filler");
    let full = (0..64).all(|part| std::fs::write(filler.with_extension(part.to_string()), vec![7; 64 * 1024]).is_ok());
    assert!(!full, "the volume is small");
    std::thread::sleep(Duration::from_secs(2));
    for part in 0..64 {
        std::fs::remove_file(filler.with_extension(part.to_string())).ok();
    }
    std::thread::sleep(Duration::from_millis(1500));
    let committed = clients.stop();
    wait_until_recorded(&site.repository(), &source);
    let said = end(running, 0);
    assert!(
        said.iter()
            .any(|line| line["type"] == "warning" && line["message"].as_str().unwrap().contains("spool")),
        "{said:?}"
    );
    all_there_once(&recorded(&site.repository())[0], &committed);
}

fn after(stream: &Recorded) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    (
        text(&stream.facts["after"]["cause"]),
        text(&stream.facts["after"]["missing"]),
    )
}

fn commit(server: &MysqlServer, count: u32) {
    server.sql("CREATE DATABASE IF NOT EXISTS g; CREATE TABLE IF NOT EXISTS g.t (id INT AUTO_INCREMENT PRIMARY KEY)");
    for _ in 0..count {
        server.sql("INSERT INTO g.t VALUES ()");
    }
}

/// Purged files, a log begun anew, another server and back: each gap is exactly what is missing.
#[test]
fn a_new_stream_knows_exactly_what_is_missing() {
    let primary = source(MysqlOptions::default());
    let mut site = site(&primary, &primary.url(USER), "").init();
    let uuid = primary.value("SELECT @@server_uuid");
    commit(&primary, 3);
    let record_all = |site: &Site, server: &MysqlServer| {
        let running = record(site, server);
        wait_until_recorded(&site.repository(), server);
        end(running, 0);
        recorded(&site.repository())
    };
    record_all(&site, &primary);
    // The recorder is down, files come and go: nothing is missing as long as our file is there.
    primary.sql("FLUSH BINARY LOGS");
    commit(&primary, 2);
    assert_eq!(record_all(&site, &primary).len(), 1);

    let held = executed(&primary);
    commit(&primary, 4);
    primary.sql("FLUSH BINARY LOGS; FLUSH BINARY LOGS");
    let newest = primary.sql("SHOW BINARY LOGS").last().unwrap()[0].clone().unwrap();
    let purged = primary.gtid_executed();
    primary.sql(&format!("PURGE BINARY LOGS TO '{newest}'"));
    commit(&primary, 1);
    let streams = record_all(&site, &primary);
    let missing = primary
        .value(&format!("SELECT GTID_SUBTRACT('{purged}', '{held}')"))
        .replace('\n', "");
    assert!(!missing.is_empty());
    assert_eq!(after(&streams[1]), ("purged".to_owned(), missing));

    // A replica takes over. It has all there is, in files of its own.
    let replica = source(MysqlOptions::default());
    replica.sql(&format!(
        "RESET BINARY LOGS AND GTIDS; SET GLOBAL gtid_purged = '{}'; FLUSH BINARY LOGS",
        primary.gtid_executed()
    ));
    commit(&replica, 2);
    let other_url = replica.url(USER);
    site.change(&primary.url(USER), &other_url);
    let streams = record_all(&site, &replica);
    assert_eq!(
        after(&streams[2]),
        ("failover".to_owned(), String::new()),
        "{:?}",
        streams[2].facts
    );
    assert_eq!(streams[2].through, replica.gtid_executed());

    // Back to the first, whose files have the names they had.
    let other = replica.value("SELECT @@server_uuid");
    for number in 1..=4 {
        primary.sql(&format!(
            "SET GTID_NEXT = '{other}:{number}'; BEGIN; COMMIT; SET GTID_NEXT = 'AUTOMATIC'"
        ));
    }
    assert_eq!(primary.gtid_executed(), replica.gtid_executed());
    site.change(&other_url, &primary.url(USER));
    let streams = record_all(&site, &primary);
    assert_eq!(after(&streams[3]), ("failover".to_owned(), String::new()));

    // The log is begun anew: the same numbers, and nothing can be told of what was between.
    primary.sql("RESET BINARY LOGS AND GTIDS");
    commit(&primary, 2);
    let streams = record_all(&site, &primary);
    assert_eq!(after(&streams[4]).0, "reset");
    assert_eq!(streams[4].facts["first_file"], "binlog.000001");
    assert!(streams[4].through.contains(&uuid));

    // The spool is lost: a stream of its own, and nothing missing.
    std::fs::remove_dir_all(spool(&site)).unwrap();
    commit(&primary, 1);
    let streams = record_all(&site, &primary);
    assert_eq!(after(&streams[5]), ("spool-lost".to_owned(), String::new()));
    assert_eq!(streams.len(), 6);
    site.verify_clean();
}

/// Two of one server, also under another name and from another configuration.
#[test]
fn one_archive_of_a_server_at_a_time() {
    let source = source(MysqlOptions::default());
    let first = site(&source, &source.url(USER), "").init();
    let mut other = site(&source, &source.url(USER), "");
    other.change("name = \"orders\"", "name = \"again\"");
    let other = other.init();
    let mut running = record(&first, &source);
    let output = other.run(&["archive", "again"]).expect(11);
    assert!(
        output.stderr.contains(&format!("process {}", running.pid())),
        "{}",
        output.stderr
    );
    first.run(&["archive", "orders"]).expect(11);
    assert!(running.is_running());
    commit(&source, 1);
    wait_until_recorded(&first.repository(), &source);
    running.kill_after(Duration::ZERO);
    // One that was killed holds nobody up.
    let running = record(&first, &source);
    end(running, 0);
}

/// The clean end, what is said meanwhile, and what is small becomes large.
#[test]
fn an_archive_ends_in_order_and_tells_what_it_does() {
    let source = source(MysqlOptions::default());
    let site = site(&source, &source.url(USER), "seal_after = \"20ms\"").init();
    let running = record(&site, &source);
    for _ in 0..40 {
        commit(&source, 1);
    }
    wait_until_recorded(&site.repository(), &source);
    let status = site.json(&["status"], 0);
    let log = &status["sources"][0]["log"];
    assert_eq!(
        log["file"],
        source.sql("SHOW BINARY LOG STATUS")[0][0].clone().unwrap(),
        "{status}"
    );
    assert!(log["until"].is_string() && log["spool_bytes"].is_u64(), "{status}");
    let said = end(running, 0);
    for kind in ["stream-begun", "connected", "sealed", "uploaded", "result"] {
        assert!(said.iter().any(|line| line["type"] == kind), "{kind}: {said:?}");
    }
    let lag = |line: &Value| line["lag_seconds"].as_f64();
    let lags: Vec<f64> = said
        .iter()
        .filter(|line| line["type"] == "sealed")
        .filter_map(lag)
        .collect();
    println!(
        "lag of {} segments: at most {:?} s",
        lags.len(),
        lags.iter().copied().fold(0.0, f64::max)
    );
    let sealed = said.iter().filter(|line| line["type"] == "sealed").count();
    let stream = &recorded(&site.repository())[0];
    assert!(
        sealed > 20 && stream.segments < sealed,
        "{sealed} segments became {}",
        stream.segments
    );
    assert_eq!(stream.through, source.gtid_executed());
    // A server that cannot be followed says what to type.
    source.sql(&format!("REVOKE REPLICATION SLAVE ON *.* FROM {USER}"));
    let output = site.run(&["archive", "orders"]).expect(1);
    assert!(output.stderr.contains("REPLICATION SLAVE"), "{}", output.stderr);
    assert_eq!(
        lines(&site.run(&["archive", "nobody", "--json"]).expect(2).stdout)[0]["code"],
        json!(2)
    );
}

/// MariaDB, semi-synchronous, killed.
#[test]
fn the_log_of_a_mariadb_is_recorded() {
    let options = MysqlOptions {
        durable: true,
        ..MysqlOptions::mariadb()
    };
    let source = source(
        options
            .arg("--max-binlog-size=65536")
            .arg("--rpl-semi-sync-master-enabled=1")
            .arg("--rpl-semi-sync-master-wait-no-slave=OFF"),
    );
    let site = site(&source, &source.url(USER), "semi_sync = true, seal_after = \"200ms\"").init();
    let mut running = record(&site, &source);
    make_semi_sync(&source);
    let mut committed = std::collections::BTreeSet::new();
    for _ in 0..rounds(2) {
        let clients = Clients::start(&source, 4, Duration::ZERO);
        std::thread::sleep(Duration::from_millis(500));
        source.sql("USE kept; CREATE TABLE IF NOT EXISTS kept.more (id INT AUTO_INCREMENT PRIMARY KEY, a TEXT); INSERT INTO kept.more (a) SELECT REPEAT('m', 900) FROM seq_1_to_200");
        source.kill();
        running.kill_after(Duration::ZERO);
        committed.extend(clients.stop());
        source.restart();
        running = record(&site, &source);
        make_semi_sync(&source);
    }
    source.sql("FLUSH BINARY LOGS");
    commit(&source, 1);
    wait_until_recorded(&site.repository(), &source);
    end(running, 0);
    let streams = recorded(&site.repository());
    assert_eq!(
        streams.len(),
        1,
        "{:?}",
        streams.iter().map(|s| &s.facts).collect::<Vec<_>>()
    );
    let found = tokens(&streams[0].raw);
    // Each is there as a row and in the text of its statement.
    let lost: Vec<_> = committed.iter().filter(|token| !found.contains_key(*token)).collect();
    assert!(lost.is_empty(), "{} of {}: {lost:?}", lost.len(), committed.len());
    let first = streams[0].facts["first_file"].as_str().unwrap();
    for (name, bytes) in closed_files(&source).iter().filter(|(name, _)| name.as_str() >= first) {
        let ours = &streams[0].files[name];
        let all = 0..bytes.len().max(ours.len());
        let differing: Vec<usize> = all.filter(|at| ours.get(*at) != bytes.get(*at)).collect();
        // The flag that a file is written to: this server leaves it in one that it was killed with.
        assert!(
            differing.is_empty() || differing == [21],
            "{name}, {} and {} bytes, differs at {:?}",
            ours.len(),
            bytes.len(),
            &differing[..differing.len().min(9)]
        );
    }
}

/// The recorder of a source that shares its machine with nobody: what is read by starting again is not read twice.
#[test]
fn a_start_is_quick_when_there_is_nothing_to_do() {
    let source = source(MysqlOptions::default());
    let site = site(&source, &source.url(USER), "").init();
    commit(&source, 1);
    for _ in 0..2 {
        let running = start(&site);
        wait_until("the server sends its log", || is_followed(&source));
        end(running, 0);
    }
    let streams = recorded(&site.repository());
    assert_eq!(streams.len(), 1);
    let size: u64 = source.sql("SHOW BINARY LOGS").last().unwrap()[1]
        .clone()
        .unwrap()
        .parse()
        .unwrap();
    let active = streams[0].files.values().last().unwrap().len() as u64;
    assert_eq!(active, size);
}

/// Somebody removed the spool under a recorder: it says so, ends with an error, and nothing that is on the server is lost.
#[test]
fn a_spool_that_was_removed_is_not_passed_over() {
    let source = source(MysqlOptions::default());
    let site = site(&source, &source.url(USER), "seal_after = \"200ms\"").init();
    let running = record(&site, &source);
    source.sql("CREATE DATABASE kept; CREATE TABLE kept.t (id INT PRIMARY KEY); INSERT INTO kept.t VALUES (1)");
    wait_until_recorded(&site.repository(), &source);
    std::fs::remove_dir_all(spool(&site)).unwrap();
    for id in 2..8 {
        source.sql(&format!("INSERT INTO kept.t VALUES ({id})"));
        std::thread::sleep(Duration::from_millis(300));
    }
    running.interrupt();
    let output = running.wait().expect(1);
    let said = format!("{}{}", output.stdout, output.stderr);
    for words in [
        "the folder of the spool is gone",
        "may be in no repository",
        "ballast archive orders",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!said.contains("every repository has it"), "{said}");
    let running = record(&site, &source);
    wait_until_recorded(&site.repository(), &source);
    end(running, 0);
}
