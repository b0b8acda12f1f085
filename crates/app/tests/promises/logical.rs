use ballast_testkit::dataset::{balance, checksums, ugly};
use ballast_testkit::servers::{Flavour, MysqlOptions, MysqlServer};

use crate::site::{PASSWORD, Site, USER, server};

/// What the README tells to grant for rows.
pub(crate) const MYSQL_GRANTS: &str =
    "BACKUP_ADMIN, RELOAD, PROCESS, REPLICATION CLIENT, SELECT, SHOW VIEW, TRIGGER, EVENT, SHOW_ROUTINE";
pub(crate) const MARIADB_GRANTS: &str =
    "RELOAD, PROCESS, BINLOG MONITOR, BINLOG ADMIN, SELECT, SHOW VIEW, TRIGGER, EVENT";

pub(crate) fn password() -> String {
    PASSWORD.replace('\\', "\\\\").replace('\'', "''")
}

/// An empty server, and the address by which the program loads into it.
pub(crate) fn target(site: &mut Site, flavour: Flavour) -> (MysqlServer, String) {
    let target = MysqlServer::start(MysqlOptions {
        flavour,
        ..MysqlOptions::default()
    });
    create_loader(site, &target);
    let url = target.url("loader");
    (target, url)
}

/// The account that loads.
pub(crate) fn create_loader(site: &mut Site, target: &MysqlServer) {
    target.sql(&format!(
        "CREATE USER loader IDENTIFIED BY '{}'; GRANT ALL ON *.* TO loader WITH GRANT OPTION",
        password()
    ));
    site.program.env("BALLAST_TARGET_PASSWORD", PASSWORD);
}

/// Names and texts of everything but rows.
pub(crate) fn objects(server: &MysqlServer, bases: &[&str]) -> Vec<String> {
    let list: Vec<_> = bases
        .iter()
        .map(|base| format!("'{}'", base.replace('\'', "''")))
        .collect();
    let list = list.join(", ");
    let sql = format!(
        "SELECT 'view', TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA IN ({list})
         UNION ALL SELECT 'routine', ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_DEFINITION FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA IN ({list})
         UNION ALL SELECT 'trigger', TRIGGER_SCHEMA, TRIGGER_NAME, ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA IN ({list})
         UNION ALL SELECT 'event', EVENT_SCHEMA, EVENT_NAME, EVENT_DEFINITION FROM information_schema.EVENTS WHERE EVENT_SCHEMA IN ({list})
         UNION ALL SELECT 'index', TABLE_SCHEMA, TABLE_NAME, GROUP_CONCAT(CONCAT(INDEX_NAME, ':', COALESCE(COLUMN_NAME, '?')) ORDER BY INDEX_NAME, SEQ_IN_INDEX) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA IN ({list}) GROUP BY TABLE_SCHEMA, TABLE_NAME
         UNION ALL SELECT 'constraint', CONSTRAINT_SCHEMA, TABLE_NAME, GROUP_CONCAT(CONCAT(CONSTRAINT_TYPE, ':', CONSTRAINT_NAME) ORDER BY 1) FROM information_schema.TABLE_CONSTRAINTS WHERE CONSTRAINT_SCHEMA IN ({list}) GROUP BY CONSTRAINT_SCHEMA, TABLE_NAME"
    );
    let rows = server.sql(&sql);
    let mut lines: Vec<String> = rows.into_iter().map(|row| format!("{row:?}")).collect();
    lines.sort();
    lines
}

/// Every type, every ugly name, every kind of object, into another server; then one shard out of all, beside what is there.
#[test]
fn rows_bring_back_every_type_and_object() {
    let source = server(MysqlOptions::default());
    source.sql(&format!("GRANT {MYSQL_GRANTS} ON *.* TO {USER}"));
    ugly::load(&source);
    balance::load(&source, 8, 500);
    let mut site = Site::new(&source, "engine = \"logical\"").init();
    let (target, url) = target(&mut site, Flavour::Mysql);
    let result = site.json(&["backup", "orders"], 0);
    assert_eq!(result["backup"]["engine"], "logical");
    let result = site.json(&["restore", "orders", "--to", &url], 0);
    assert_eq!(result["proof"]["tables_differing"], serde_json::json!([]));
    assert_eq!(
        result["reached"],
        serde_json::json!({ "position": result["expected"]["position"], "at": result["reached"]["at"] })
    );
    let bases: Vec<&str> = ugly::DATABASES.into_iter().chain(["balance"]).collect();
    assert_eq!(checksums(&target, &bases), checksums(&source, &bases));
    assert_eq!(objects(&target, &bases), objects(&source, &bases));

    // What is there is not touched, and said.
    let output = site.run(&["restore", "orders", "--to", &url]).expect(2);
    assert!(output.stderr.contains("has tables of these names"), "{}", output.stderr);
    target.sql("UPDATE balance.orders_3 SET status = 77; DROP TABLE balance.orders_4");
    let changed = checksums(&target, &["balance"]);
    site.run(&[
        "restore",
        "orders",
        "--to",
        &url,
        "--only",
        "balance.orders_3",
        "--rename",
        "balance.orders_3=rescue.orders_3",
    ])
    .expect(0);
    assert_eq!(checksums(&target, &["balance"]), changed);
    let (rescued, original) = (checksums(&target, &["rescue"]), checksums(&source, &["balance"]));
    assert_eq!(rescued["rescue.orders_3"], original["balance.orders_3"]);
    // In place, asked for by name.
    site.run(&[
        "restore",
        "orders",
        "--to",
        &url,
        "--only",
        "balance.orders_{3,4}",
        "--replace",
    ])
    .expect(0);
    assert_eq!(checksums(&target, &["balance"]), original);
    let output = site
        .run(&["restore", "orders", "--to", &url, "--only", "balance.orders_99"])
        .expect(2);
    assert!(output.stderr.contains("balance.orders_99"), "{}", output.stderr);

    // What the account may not see is missing, and such a backup is not good.
    source.sql(&format!("REVOKE TRIGGER ON *.* FROM {USER}"));
    let result = site.json(&["backup", "orders"], 3);
    let missing = result["missing"].to_string();
    assert!(missing.contains("trigger"), "{missing}");
    assert_eq!(result["backup"]["state"], "incomplete");
}

/// MariaDB cannot be copied physically: without a word in the configuration its rows are taken. A second backup of rows that did
/// not change stores next to nothing.
#[test]
fn a_mariadb_is_backed_up_by_its_rows() {
    let source = MysqlServer::start(MysqlOptions {
        flavour: Flavour::Mariadb,
        ..MysqlOptions::default()
    });
    source.sql(&format!(
        "CREATE USER {USER} IDENTIFIED BY '{}'; GRANT {MARIADB_GRANTS} ON *.* TO {USER}",
        password()
    ));
    balance::load(&source, 12, 2_000);
    let mut site = Site::new(&source, "expect = [\"balance.orders_{0..11}\", \"balance.shops\"]").init();
    let (target, url) = target(&mut site, Flavour::Mariadb);
    // What the account lacks is said before it hurts.
    let told = |site: &Site| {
        site.run(&["doctor", "orders", "--json"])
            .stdout
            .contains("GRANT BINLOG ADMIN ON *.* TO 'backup'@'%';")
    };
    assert!(!told(&site));
    source.sql(&format!("REVOKE BINLOG ADMIN ON *.* FROM {USER}"));
    assert!(told(&site));
    source.sql(&format!("GRANT BINLOG ADMIN ON *.* TO {USER}"));
    let first = site.json(&["backup", "orders"], 0);
    assert_eq!(first["backup"]["engine"], "logical");
    let stored = |result: &serde_json::Value| result["backup"]["bytes_stored"].as_u64().unwrap();
    source.sql("UPDATE balance.orders_5 SET status = status + 1 WHERE id % 500 = 3");
    let second = site.json(&["backup", "orders"], 0);
    println!("first {} bytes, second {}", stored(&first), stored(&second));
    assert!(
        stored(&second) * 5 < stored(&first),
        "{} of {}",
        stored(&second),
        stored(&first)
    );
    site.json(&["restore", "orders", "--to", &url], 0);
    assert_eq!(checksums(&target, &["balance"]), checksums(&source, &["balance"]));
}

/// To a server that does not tell names apart by case, `Shop.Orders` and `shop.orders` are one table: it is in the way, and never
/// dropped unasked, however often the same is typed.
#[test]
fn a_name_that_differs_by_case_is_in_the_way() {
    let source = MysqlServer::start(MysqlOptions::mariadb());
    source.sql(&format!(
        "CREATE USER {USER} IDENTIFIED BY '{}'; GRANT {MARIADB_GRANTS} ON *.* TO {USER};
         CREATE DATABASE Shop; CREATE TABLE Shop.Orders (id INT PRIMARY KEY, Amount INT);
         INSERT INTO Shop.Orders VALUES (1, 10), (2, 20), (3, 30); CREATE VIEW Shop.Amounts AS SELECT Amount FROM Shop.Orders",
        password()
    ));
    let mut site = Site::new(&source, "").init();
    site.json(&["backup", "orders"], 0);
    let target = MysqlServer::start(MysqlOptions::mariadb().arg("--lower-case-table-names=1"));
    create_loader(&mut site, &target);
    target
        .sql("CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY); INSERT INTO shop.orders VALUES (7)");
    let url = target.url("loader");
    let load = ["restore", "orders", "--to", &url, "--only", "Shop.Orders"];
    for _ in 0..2 {
        let told = site.run(&load).expect(2).stderr;
        assert!(told.contains("shop.orders") && told.contains("--replace"), "{told}");
        assert_eq!(target.value("SELECT id FROM shop.orders"), "7");
    }
    let twice = [
        &load[..],
        &["--rename", "Shop.Orders=a.b", "--rename", "Shop.Orders=a.c"],
    ]
    .concat();
    let told = site.run(&twice).expect(2).stderr;
    assert!(told.contains("two new names"), "{told}");
    let replaced = [&load[..], &["--replace"]].concat();
    assert_eq!(site.json(&replaced, 0)["proof"]["rows"], 3);
    target.sql("DROP DATABASE shop");
    assert_eq!(site.json(&load, 0)["proof"]["rows"], 3);
    assert_eq!(target.value("SELECT SUM(Amount) FROM Shop.Orders"), "60");
    target.sql("DROP DATABASE shop");
    site.json(&["restore", "orders", "--to", &url], 0);
    assert_eq!(target.value("SELECT SUM(Amount) FROM Shop.Amounts"), "60");
}
