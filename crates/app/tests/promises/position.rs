use std::time::Duration;

use ballast_testkit::dataset::{WriterOptions, Writers, balance, checksums};
use ballast_testkit::servers::MysqlOptions;

use crate::site::{Site, server, start_restored};

const DATABASES: &[&str] = &["balance"];

/// Two writers and DDL run while the backup is taken. The restored copy must be at the recorded position; then it follows the
/// source from there, and at the source's end every table must have the source's checksum: had the copy one transaction too many or
/// too few, following it would fail or differ.
#[test]
fn restores_to_the_recorded_position() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 120, 200);
    source.create_user("follower", "follow", &["REPLICATION SLAVE"]);
    let expect =
        "databases = [\"balance\"]\nexpect = [\"balance.orders_{0..119}\", \"balance.shops\", \"balance.admin\"]";
    let site = Site::new(&source, expect).init();
    let writers = Writers::start(
        &source,
        2,
        &balance::tables(120),
        WriterOptions { ddl: true, rate: None },
    );
    std::thread::sleep(Duration::from_secs(1));
    let backup = site.json(&["backup", "orders"], 0);
    let report = writers.stop();
    assert!(report.transactions > 100 && report.ddl_rounds > 0, "{report:?}");
    assert_eq!(backup["backup"]["state"], "good", "{backup}");
    assert_eq!(backup["backup"]["position"]["exact"], true, "{backup}");

    let restored = site.restore(&[]);
    assert_eq!(restored["proof"]["position_equal"], true, "{restored}");
    let recorded = &backup["backup"]["position"]["gtid_executed"];
    assert_eq!(&restored["reached"]["position"]["gtid_executed"], recorded);

    let copy = start_restored(&site.restored());
    assert_eq!(&copy.gtid_executed(), recorded.as_str().unwrap());
    assert_ne!(
        copy.gtid_executed(),
        source.gtid_executed(),
        "the writers went on after the snapshot"
    );
    copy.sql(&format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='follower', \
         SOURCE_PASSWORD='follow', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1; START REPLICA",
        source.port()
    ));
    let end = source.gtid_executed();
    let waited = copy.value(&format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{end}', 120)"));
    let error = "SELECT CONCAT(LAST_ERROR_MESSAGE) FROM performance_schema.replication_applier_status_by_worker WHERE LAST_ERROR_NUMBER <> 0";
    assert_eq!(waited, "0", "the copy cannot follow the source: {:?}", copy.sql(error));
    assert_eq!(checksums(&copy, DATABASES), checksums(&source, DATABASES));
}

/// Without RELOAD commits are not held: bounds are recorded, said, and hold.
#[test]
fn says_what_it_knows_of_the_position() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 4, 50);
    source.sql("REVOKE RELOAD ON *.* FROM backup");
    let site = Site::new(&source, "").init();
    let writers = Writers::start(
        &source,
        2,
        &balance::tables(4),
        WriterOptions { ddl: false, rate: None },
    );
    std::thread::sleep(Duration::from_millis(500));
    let output = site.run(&["backup", "orders"]).expect(0);
    assert!(output.stderr.contains("RELOAD"), "{}", output.stderr);
    writers.stop();
    let restored = site.restore(&[]);
    assert_eq!(restored["proof"]["position_equal"], true, "{restored}");

    // Idle, the bounds meet and the position is exact after all.
    let backup = site.json(&["backup", "orders"], 0);
    assert_eq!(backup["backup"]["position"]["exact"], true, "{backup}");
    let restored = site.restore(&[]);
    assert_eq!(
        restored["reached"]["position"]["gtid_executed"].as_str().unwrap(),
        source.gtid_executed()
    );
}
