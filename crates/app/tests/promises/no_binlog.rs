//! A load that the target's binary log does not hear of.

use ballast_testkit::dataset::{balance, checksums};
use ballast_testkit::servers::{Flavour, MysqlOptions};

use crate::logical::{MYSQL_GRANTS, target};
use crate::site::{Site, USER, server};

/// With `--no-binlog` everything is loaded and nothing of it is in the log; an account that may not do that is told before
/// anything is made; and without the flag all of it is in the log.
#[test]
fn a_load_keeps_out_of_the_binary_log_when_told() {
    let source = server(MysqlOptions::default());
    source.sql(&format!("GRANT {MYSQL_GRANTS} ON *.* TO {USER}"));
    balance::load(&source, 3, 2000);
    let mut site = Site::new(&source, "engine = \"logical\"").init();
    site.json(&["backup", "orders"], 0);
    let held = checksums(&source, &["balance"]);
    let (target, url) = target(&mut site, Flavour::Mysql);
    let load = ["restore", "orders", "--to", &url];
    let quiet = [&load[..], &["--no-binlog"]].concat();

    target.sql("REVOKE SUPER, SYSTEM_VARIABLES_ADMIN, SESSION_VARIABLES_ADMIN ON *.* FROM loader");
    let told = site.run(&quiet).expect(2).stderr;
    assert!(told.contains("GRANT SESSION_VARIABLES_ADMIN"), "{told}");
    let made = "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ('balance', 'ballast_load')";
    assert_eq!(target.value(made), "0");
    // Without SUPER a server that logs would make no triggers.
    target.sql("GRANT SUPER, SESSION_VARIABLES_ADMIN ON *.* TO loader");

    let before = target.gtid_executed();
    let plan = site.run(&[&quiet[..], &["--dry-run"]].concat()).expect(0);
    assert!(plan.stdout.contains("binary log"), "{}", plan.stdout);
    site.json(&quiet, 0);
    assert_eq!(checksums(&target, &["balance"]), held);
    assert_eq!(target.gtid_executed(), before);

    let loud = [&load[..], &["--replace", "--only", "balance.orders_1"]].concat();
    site.json(&loud, 0);
    assert_eq!(checksums(&target, &["balance"]), held);
    assert_ne!(target.gtid_executed(), before);

    let told = site.refuse_restore(&["--no-binlog"], 2).stderr;
    assert!(told.contains("--no-binlog"), "{told}");
}
