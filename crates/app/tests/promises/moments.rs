//! Backups and the recorded log together: what the timeline names can be restored, and what it does not is refused.

use std::time::Duration;

use ballast_testkit::servers::{MysqlOptions, MysqlServer};

use crate::recorded::{end, record, site, source, wait_until_recorded};
use crate::site::{Site, USER, start_restored};

/// Now, as the server sees it; nothing is committed in the same microsecond.
fn now(source: &MysqlServer) -> String {
    std::thread::sleep(Duration::from_millis(5));
    let now = source.value("SELECT DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%fZ')");
    std::thread::sleep(Duration::from_millis(5));
    now
}

fn insert(source: &MysqlServer, ids: std::ops::RangeInclusive<u32>) {
    for id in ids {
        source.sql(&format!("INSERT INTO kept.t VALUES ({id})"));
    }
}

fn rows(site: &Site) -> String {
    let restored = start_restored(&site.restored());
    if restored.value("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'kept' AND TABLE_NAME = 't'")
        == "0"
    {
        return "no table".to_owned();
    }
    restored.value("SELECT COUNT(*) FROM kept.t")
}

#[test]
fn restores_reach_what_the_timeline_names_and_nothing_else() {
    let source = source(MysqlOptions::default());
    let site = site(&source, &source.url(USER), "seal_after = \"200ms\"").init();
    source.sql("CREATE DATABASE kept; CREATE TABLE kept.t (id INT PRIMARY KEY)");
    let running = record(&site, &source);
    let first = site.json(&["backup", "orders"], 0)["backup"].clone();
    insert(&source, 1..=10);
    let moment = now(&source);
    insert(&source, 11..=20);
    source.sql("DROP TABLE kept.t");
    let accident = source.gtid_executed().replace(":1-", ":");
    source.sql("CREATE TABLE kept.after (id INT PRIMARY KEY); INSERT INTO kept.after VALUES (1)");
    wait_until_recorded(&site.repository(), &source);

    let timeline = site.json(&["timeline", "orders"], 0);
    assert_eq!(timeline["points"].as_array().unwrap().len(), 1, "{timeline}");
    assert_eq!(timeline["earliest"], first["snapshot_at"]);
    assert!(timeline["latest"].as_str().unwrap() > moment.as_str(), "{timeline}");

    let plan = site.json(
        &[
            "restore",
            "orders",
            "--to",
            "datadir:none",
            "--before",
            &accident,
            "--dry-run",
        ],
        0,
    );
    assert_eq!(plan["replay"]["first_left_out"]["gtid"], accident, "{plan}");
    site.restore(&["--at", &moment]);
    assert_eq!(rows(&site), "10");
    site.restore(&["--before", &accident]);
    assert_eq!(rows(&site), "20");
    site.restore(&["--skip", &accident]);
    assert_eq!(rows(&site), "20");
    let latest = site.restore(&[]);
    assert_eq!(latest["reached"]["position"]["gtid_executed"], source.gtid_executed());
    assert_eq!(rows(&site), "no table");
    // A backup that is named is restored alone.
    site.restore(&["--backup", first["id"].as_str().unwrap()]);
    assert_eq!(rows(&site), "0");
    std::fs::remove_dir_all(site.restored()).unwrap();

    // While nobody recorded, the server removed files of its log: no moment from then on, until the next backup.
    end(running, 0);
    source.sql("FLUSH BINARY LOGS; CREATE TABLE kept.t (id INT PRIMARY KEY)");
    insert(&source, 1..=3);
    let lost = now(&source);
    insert(&source, 4..=5);
    source.sql("FLUSH BINARY LOGS; FLUSH BINARY LOGS");
    let newest = source.sql("SHOW BINARY LOGS").last().unwrap()[0].clone().unwrap();
    source.sql(&format!("PURGE BINARY LOGS TO '{newest}'"));
    let running = record(&site, &source);
    insert(&source, 6..=7);
    wait_until_recorded(&site.repository(), &source);
    site.json(&["backup", "orders"], 0);
    insert(&source, 8..=9);
    wait_until_recorded(&site.repository(), &source);
    end(running, 0);
    let timeline = site.json(&["timeline", "orders"], 0);
    let gaps = timeline["gaps"].as_array().unwrap();
    assert_eq!(
        (gaps.len(), timeline["points"].as_array().unwrap().len()),
        (1, 2),
        "{timeline}"
    );
    let status = site.json(&["status"], 0);
    assert_eq!(status["sources"][0]["recovery_point"], timeline["latest"], "{status}");
    assert!(
        gaps[0]["cause"].as_str().unwrap().contains("removed files"),
        "{timeline}"
    );
    let refused = site.refuse_restore(&["--at", &lost], 5);
    assert!(
        refused.stderr.contains("lies in a gap") && refused.stderr.contains("--at"),
        "{}",
        refused.stderr
    );
    site.refuse_restore(&["--at", "2001-01-01 00:00:00"], 5);
    site.restore(&["--at", &moment]);
    assert_eq!(rows(&site), "10", "before the gap");
    site.restore(&[]);
    assert_eq!(rows(&site), "9", "behind it");
}

/// The same numbers mean other transactions in a log that was begun anew: a backup of the old one is not taken on by the new one.
#[test]
fn a_backup_is_not_joined_with_a_log_that_was_begun_anew() {
    let source = source(MysqlOptions::default());
    let site = site(&source, &source.url(USER), "seal_after = \"200ms\"").init();
    source.sql("CREATE DATABASE kept; CREATE TABLE kept.t (id INT PRIMARY KEY)");
    insert(&source, 1..=3);
    site.json(&["backup", "orders"], 0);
    source.sql("RESET BINARY LOGS AND GTIDS; TRUNCATE kept.t");
    insert(&source, 11..=20);
    let running = record(&site, &source);
    insert(&source, 21..=22);
    wait_until_recorded(&site.repository(), &source);
    let refused = site.refuse_restore(&[], 5);
    assert!(refused.stderr.contains("begun anew since"), "{}", refused.stderr);

    // Once more, while it is recorded: what follows is captured, and no backup leads there.
    source.sql("RESET BINARY LOGS AND GTIDS");
    insert(&source, 31..=33);
    wait_until_recorded(&site.repository(), &source);
    let timeline = site.json(&["timeline", "orders"], 0);
    let last = timeline["gaps"].as_array().unwrap().last().unwrap();
    assert_eq!(last["from"], timeline["latest"], "{timeline}");
    let refused = site.refuse_restore(&[], 5);
    assert!(refused.stderr.contains("is not in this restore"), "{}", refused.stderr);
    site.json(&["backup", "orders"], 0);
    insert(&source, 34..=35);
    wait_until_recorded(&site.repository(), &source);
    end(running, 0);
    site.restore(&[]);
    assert_eq!(rows(&site), "17");
}

/// The server gave its numbers a second time: a name alone says neither, and what `log find` proposes leads to what it listed.
#[test]
fn a_transaction_whose_number_was_given_twice_is_asked_about() {
    let source = source(MysqlOptions::default());
    let site = site(&source, &source.url(USER), "seal_after = \"200ms\"").init();
    source.sql("CREATE DATABASE kept; CREATE TABLE kept.t (id INT PRIMARY KEY)");
    let running = record(&site, &source);
    let old = site.json(&["backup", "orders"], 0)["backup"]["id"].clone();
    insert(&source, 1..=3);
    source.sql("DROP TABLE kept.t");
    let accident = source.gtid_executed().replace(":1-", ":");
    wait_until_recorded(&site.repository(), &source);
    end(running, 0);

    // Nobody records: it begins anew, and is backed up before anybody does again.
    source.sql("RESET BINARY LOGS AND GTIDS; CREATE TABLE kept.t (id INT PRIMARY KEY)");
    insert(&source, 11..=12);
    let new = site.json(&["backup", "orders"], 0)["backup"].clone();
    let number: u32 = accident.rsplit(':').next().unwrap().parse().unwrap();
    // The table's making, the two of before, and the accident are four.
    insert(&source, 21..=20 + number - 4);
    source.sql("DROP TABLE kept.t");
    assert_eq!(source.gtid_executed().replace(":1-", ":"), accident);
    let running = record(&site, &source);
    wait_until_recorded(&site.repository(), &source);
    end(running, 0);
    let timeline = site.json(&["timeline", "orders"], 0);
    let last = timeline["points"].as_array().unwrap().last().unwrap();
    assert_eq!(last["from"], new["snapshot_at"], "{timeline}");
    assert!(last["to"].as_str() > last["from"].as_str(), "{timeline}");

    let refused = site.refuse_restore(&["--before", &accident], 2);
    for id in [&old, &new["id"]] {
        assert!(
            refused.stderr.contains(&format!("--backup {}", id.as_str().unwrap())),
            "{}",
            refused.stderr
        );
    }
    site.refuse_restore(&["--skip", &accident], 2);
    // The first accident there was, and that of the present log.
    let found = site.json(&["log", "find", "orders", "--suspicious"], 0);
    let drops = found["transactions"].as_array().unwrap();
    assert_eq!(drops.len(), 2, "{found}");
    let since = drops[1]["committed_at"].as_str().unwrap().to_owned();
    for (between, backup, rows_then) in [
        (vec![], &old, "3".to_owned()),
        (
            vec!["--between", since.as_str(), "2100-01-01 00:00:00"],
            &new["id"],
            (number - 2).to_string(),
        ),
    ] {
        let asked = [&["log", "find", "orders", "--suspicious"][..], &between].concat();
        let said = site.run(&asked).expect(0).stderr;
        let proposed = said.split_once("--to TARGET ").unwrap().1.lines().next().unwrap();
        let typed: Vec<&str> = proposed.split_whitespace().collect();
        assert_eq!(
            typed,
            ["--before", &accident, "--backup", backup.as_str().unwrap()],
            "{said}"
        );
        site.restore(&typed);
        assert_eq!(rows(&site), rows_then, "{said}");
    }
}
