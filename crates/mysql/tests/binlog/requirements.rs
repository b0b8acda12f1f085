//! What following needs, and that what is said to mend it does.

use ballast_base::{Cancel, Secret};
use ballast_mysql::{Connection, Facts, FollowFacts, Requirement, ServerAddress, Severity, follow_requirements};
use ballast_testkit::servers::MysqlServer;

async fn list(server: &MysqlServer, semi_sync: bool) -> Vec<Requirement> {
    let address: ServerAddress = server.url("recorder").parse().unwrap();
    let address = address.with_password(Secret::new("tide".to_owned()));
    let mut connection = Connection::open(&address, &Cancel::new()).await.unwrap();
    let facts = Facts::read(&mut connection).await.unwrap();
    let follow = FollowFacts::read(&mut connection).await.unwrap();
    connection.close().await;
    follow_requirements(&facts, &follow, semi_sync)
}

fn failing(list: &[Requirement]) -> Vec<&'static str> {
    list.iter().filter(|point| !point.ok).map(|point| point.name).collect()
}

fn mend(server: &MysqlServer, list: &[Requirement]) {
    for point in list.iter().filter(|point| !point.ok) {
        server.sql(&point.remedy);
    }
}

#[tokio::test]
async fn what_mysql_lacks_to_be_followed_is_named_with_what_mends_it() {
    let server = crate::mysql::start(&["--binlog-checksum=NONE"]);
    server.create_user("recorder", "tide", &[]);
    let found = list(&server, true).await;
    assert_eq!(
        failing(&found),
        [
            "privilege REPLICATION SLAVE",
            "privilege REPLICATION CLIENT",
            "binlog_checksum",
            "semi-sync"
        ]
    );
    assert!(found.iter().any(|point| point.severity == Severity::Should));
    mend(&server, &found);
    server.sql(
        "SET GLOBAL rpl_semi_sync_source_timeout = 100; SET GLOBAL rpl_semi_sync_source_wait_point = 'AFTER_COMMIT'",
    );
    let found = list(&server, true).await;
    assert_eq!(failing(&found), ["semi-sync timeout", "semi-sync wait point"]);
    mend(&server, &found);
    assert_eq!(failing(&list(&server, true).await), [""; 0]);
    server.sql("SET GLOBAL rpl_semi_sync_source_enabled = 0");
    assert_eq!(failing(&list(&server, true).await), ["semi-sync"]);
    assert_eq!(failing(&list(&server, false).await), [""; 0]);
}

#[tokio::test]
async fn what_mariadb_lacks_to_be_followed_is_named_with_what_mends_it() {
    let server = crate::mariadb::start();
    server.create_user("recorder", "tide", &[]);
    server.sql("SET GLOBAL binlog_checksum = NONE");
    let found = list(&server, true).await;
    assert_eq!(
        failing(&found),
        [
            "privilege REPLICATION SLAVE",
            "privilege BINLOG MONITOR",
            "binlog_checksum",
            "semi-sync",
            "semi-sync wait point"
        ]
    );
    mend(&server, &found);
    assert_eq!(failing(&list(&server, true).await), [""; 0]);
}
