use ballast_testkit::dataset::{checksums, ugly};
use ballast_testkit::servers::{MysqlOptions, MysqlServer, Row};

use crate::site::{Site, server};

/// Every type, name and kind of tablespace; also over TLS and from tablespaces outside the data directory.
#[test]
fn restores_every_type_and_name() {
    let source = server(MysqlOptions::default());
    ugly::load(&source);
    let before = checksums(&source, &ugly::DATABASES);
    let site = Site::new(&source, "").init();
    let mut site = site;
    site.change(&source.url("backup"), &format!("{}?tls=required", source.url("backup")));
    let backup = site.json(&["backup", "orders"], 0);
    assert_eq!(backup["backup"]["state"], "good", "{backup}");
    let restored = site.restore(&[]);
    assert_eq!(restored["proof"]["position_equal"], true, "{restored}");
    assert_eq!(
        restored["proof"]["tables_differing"],
        serde_json::json!([]),
        "{restored}"
    );

    // With the source and its files out of reach, the copy must find its own, where the printed command says.
    let objects = describe(&source);
    let users = "SELECT User, Host, authentication_string FROM mysql.user ORDER BY 1, 2";
    let accounts = source.sql(users);
    source.stop();
    std::fs::rename(source.outside_dir(), source.outside_dir().with_extension("gone")).unwrap();
    let command = restored["start_command"].as_str().unwrap();
    let directories = command
        .split(' ')
        .find(|part| part.starts_with("--innodb-directories="))
        .expect(command);
    let copy = MysqlServer::start_on(&site.restored(), MysqlOptions::default().arg(directories));
    assert_eq!(checksums(&copy, &ugly::DATABASES), before);
    assert_eq!(describe(&copy), objects);
    assert_eq!(copy.sql(users), accounts);
    // The server makes new files beside the old ones, so it must know their folders.
    for table in ["lodger_1", "elsewhere", "split", "inside", "in_system"] {
        copy.sql(&format!(
            "ALTER TABLE ugly.{table} ADD COLUMN later INT, ALGORITHM = COPY"
        ));
    }
}

/// Routines, triggers, events and views, by name and content.
fn describe(server: &MysqlServer) -> Vec<Row> {
    let of = |database: &str| {
        server.sql(&format!(
            "SELECT * FROM (SELECT ROUTINE_TYPE AS a, ROUTINE_NAME AS b, SHA2(ROUTINE_DEFINITION, 256) AS c FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{0}'
             UNION ALL SELECT 'TRIGGER', TRIGGER_NAME, SHA2(ACTION_STATEMENT, 256) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{0}'
             UNION ALL SELECT 'EVENT', EVENT_NAME, SHA2(EVENT_DEFINITION, 256) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{0}'
             UNION ALL SELECT 'VIEW', TABLE_NAME, SHA2(VIEW_DEFINITION, 256) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = '{0}') AS objects ORDER BY 1, 2",
            database.replace('\'', "''")
        ))
    };
    ugly::DATABASES.iter().flat_map(|database| of(database)).collect()
}
