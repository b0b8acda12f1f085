//! The moment of an accident is found in the recorded log alone.

use ballast_testkit::servers::MysqlOptions;
use serde_json::{Value, json};

use crate::recorded::{end, record, site, source, wait_until_recorded};
use crate::site::USER;

/// Rows that a transaction found by `log find` inserted, updated and deleted, by table.
fn rows(found: &Value) -> Vec<(String, u64, u64, u64)> {
    let number = |table: &Value, name: &str| table[name].as_u64().unwrap();
    let tables = found["tables"].as_array().unwrap().iter().map(|table| {
        assert_eq!(table["exact"], true, "{found}");
        let name = format!(
            "{}.{}",
            table["database"].as_str().unwrap(),
            table["table"].as_str().unwrap()
        );
        (
            name,
            number(table, "inserted"),
            number(table, "updated"),
            number(table, "deleted"),
        )
    });
    tables.collect()
}

fn kinds(found: &[Value]) -> Vec<(Value, Value)> {
    let marks = |found: &Value| found["suspicious"].as_array().unwrap().clone();
    found
        .iter()
        .flat_map(marks)
        .map(|mark| (mark["kind"].clone(), mark["of"].clone()))
        .collect()
}

#[test]
fn the_moment_of_an_accident_is_found() {
    let source = source(MysqlOptions::default().arg("--max-binlog-size=65536"));
    let site = site(&source, &source.url(USER), "").init();
    // What following needs is looked at, where the log is to be followed.
    let doctor = site.run(&["doctor", "orders", "--json"]);
    assert!(
        doctor.stdout.contains("privilege REPLICATION SLAVE"),
        "{}",
        doctor.stdout
    );
    let running = record(&site, &source);
    source.sql("CREATE DATABASE balance");
    for shard in [6, 7, 8] {
        source.sql(&format!(
            "CREATE TABLE balance.orders_{shard} (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(200)) ENGINE=InnoDB"
        ));
    }
    for _ in 0..20 {
        for shard in [6, 7, 8] {
            source.sql(&format!(
                "INSERT INTO balance.orders_{shard} (v) SELECT REPEAT('v', 100) FROM information_schema.COLLATIONS LIMIT 50;
                 UPDATE balance.orders_{shard} SET v = 'changed' ORDER BY id DESC LIMIT 1"
            ));
        }
    }
    let now = |source: &ballast_testkit::servers::MysqlServer| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        source.value("SELECT DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%fZ')")
    };
    let gtid = |source: &ballast_testkit::servers::MysqlServer| {
        let executed = source.gtid_executed();
        let (uuid, numbers) = executed.split_once(':').unwrap();
        format!("{uuid}:{}", numbers.rsplit('-').next().unwrap())
    };
    let from = now(&source);
    source.sql(
        "SET SESSION binlog_transaction_compression = ON;
         BEGIN; DELETE FROM balance.orders_7 WHERE id > 10; INSERT INTO balance.orders_6 (v) VALUES ('beside'); COMMIT",
    );
    let deleted = gtid(&source);
    source.sql("UPDATE balance.orders_8 SET v = 'all of them'");
    source.sql("TRUNCATE balance.orders_8; USE balance; DROP TABLE orders_7; ALTER TABLE orders_6 ADD COLUMN w INT; ALTER TABLE orders_6 DROP COLUMN w");
    let to = now(&source);
    source.sql("INSERT INTO balance.orders_6 (v) VALUES ('after'); DROP DATABASE balance; FLUSH BINARY LOGS");
    wait_until_recorded(&site.repository(), &source);

    let find = |more: &[&str]| {
        let args: Vec<&str> = ["log", "find", "orders"].iter().chain(more).copied().collect();
        let found = site.json(&args, 0);
        assert_eq!(
            (&found["more"], &found["repository"]),
            (&json!(false), &json!("local")),
            "{found}"
        );
        found["transactions"].as_array().unwrap().clone()
    };
    // What looks like an accident, in the whole log.
    let suspicious = find(&["--suspicious", "--mass-rows", "500"]);
    let expected = [
        ("mass-delete", "balance.orders_7"),
        ("mass-update", "balance.orders_8"),
        ("truncate", "balance.orders_8"),
        ("drop-table", "balance.orders_7"),
        ("alter-drops", "balance.orders_6"),
        ("drop-database", "balance"),
    ];
    let expected: Vec<(Value, Value)> = expected
        .into_iter()
        .map(|(kind, of)| (json!(kind), json!(of)))
        .collect();
    assert_eq!(kinds(&suspicious), expected);
    assert_eq!(suspicious[0]["gtid"], json!(deleted));
    assert_eq!(suspicious[0]["suspicious"][0]["rows"], 990);
    assert_eq!(
        rows(&suspicious[0]),
        [
            ("balance.orders_7".to_owned(), 0, 0, 990),
            ("balance.orders_6".to_owned(), 1, 0, 0)
        ]
    );
    // One table, in a span: nothing of before, after or beside.
    let of_seven = find(&["--table", "balance.orders_7", "--between", &from, &to]);
    assert_eq!(of_seven.len(), 2, "{of_seven:?}");
    assert_eq!(of_seven[1]["statements"][0]["kind"], "drop-table");
    assert!(
        of_seven[1]["statements"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with("DROP TABLE")
    );
    // All of one table: the work of every round, and what became of it.
    let of_eight = find(&["--table", "balance.orders_8"]);
    let (mut inserted, mut updated) = (0, 0);
    for found in &of_eight {
        assert!(found["committed_at"].as_str().unwrap().ends_with('Z'));
        for (_, more, changed, _) in rows(found) {
            (inserted, updated) = (inserted + more, updated + changed);
        }
    }
    assert_eq!((inserted, updated), (1000, 20 + 1000));
    // Nothing of it, and no log.
    assert_eq!(
        find(&["--table", "balance.orders_99", "--between", &from, &to]).len(),
        0
    );
    let people = site.run(&["log", "find", "orders", "--suspicious"]).expect(0);
    assert!(
        people.stdout.contains("drops table balance.orders_7"),
        "{}",
        people.stdout
    );
    // Nothing was backed up.
    assert!(
        people
            .stderr
            .contains("no backup leads to before the first suspicious one"),
        "{}",
        people.stderr
    );
    site.run(&["log", "find", "orders", "--between", &to, &from]).expect(2);
    site.run(&["log", "find", "nobody"]).expect(1);
    end(running, 0);
}

#[test]
fn the_moment_of_an_accident_on_mariadb_is_found() {
    let source = source(MysqlOptions {
        durable: true,
        ..MysqlOptions::mariadb()
    });
    let site = site(&source, &source.url(USER), "").init();
    let running = record(&site, &source);
    source.sql(
        "CREATE DATABASE balance; CREATE TABLE balance.orders_7 (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(200));
         INSERT INTO balance.orders_7 (v) SELECT REPEAT('v', 100) FROM information_schema.COLLATIONS LIMIT 200;
         FLUSH BINARY LOGS; SET GLOBAL log_bin_compress = 1; SET GLOBAL log_bin_compress_min_len = 10",
    );
    source.sql("DELETE FROM balance.orders_7 LIMIT 150");
    let deleted = source.value("SELECT @@gtid_binlog_pos");
    source.sql("SET STATEMENT gtid_domain_id = 3 FOR DROP TABLE balance.orders_7");
    wait_until_recorded(&site.repository(), &source);
    let found = site.json(&["log", "find", "orders", "--suspicious", "--mass-rows", "100"], 0);
    let found = found["transactions"].as_array().unwrap();
    let expected = [
        (json!("mass-delete"), json!("balance.orders_7")),
        (json!("drop-table"), json!("balance.orders_7")),
    ];
    assert_eq!(kinds(found), expected);
    assert_eq!(rows(&found[0]), [("balance.orders_7".to_owned(), 0, 0, 150)]);
    assert_eq!(found[0]["gtid"], json!(deleted));
    assert!(found[1]["gtid"].as_str().unwrap().starts_with("3-"), "{found:?}");
    end(running, 0);
}
