use ballast_testkit::dataset::{checksums, ugly};
use ballast_testkit::servers::MysqlOptions;

use crate::site::{Site, server, start_restored};

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

    let copy = start_restored(&site.restored());
    assert_eq!(checksums(&copy, &ugly::DATABASES), before);
    for database in ugly::DATABASES {
        let describe = format!(
            "SELECT ROUTINE_TYPE, ROUTINE_NAME, HASH FROM (SELECT ROUTINE_TYPE, ROUTINE_NAME, SHA2(ROUTINE_DEFINITION, 256) AS HASH FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{0}'
             UNION ALL SELECT 'TRIGGER', TRIGGER_NAME, SHA2(ACTION_STATEMENT, 256) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{0}'
             UNION ALL SELECT 'EVENT', EVENT_NAME, SHA2(EVENT_DEFINITION, 256) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{0}'
             UNION ALL SELECT 'VIEW', TABLE_NAME, SHA2(VIEW_DEFINITION, 256) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = '{0}') AS objects ORDER BY 1, 2",
            database.replace('\'', "''")
        );
        assert_eq!(copy.sql(&describe), source.sql(&describe), "{database}");
    }
    assert_eq!(
        copy.sql("SELECT User, Host, authentication_string FROM mysql.user ORDER BY 1, 2"),
        source.sql("SELECT User, Host, authentication_string FROM mysql.user ORDER BY 1, 2")
    );
}
