//! MySQL.

use ballast_mysql::{AccountKind, Generated, Naming, Schema, SchemaFilter};
use ballast_testkit::dataset::ugly;
use ballast_testkit::servers::{MysqlOptions, MysqlServer};

use crate::again::{
    assert_same, assert_stored_and_hidden, comparable, create_all, drop_all, left_out, open, prepare, read,
};

const MORE: &str = r#"
SET NAMES utf8mb4; SET sql_mode = '';
CREATE DATABASE more CHARACTER SET latin1 COLLATE latin1_bin;
CREATE DATABASE `mo``re 2` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
USE more;
CREATE TABLE base (id INT PRIMARY KEY, `KEY ``k`` (x)` VARCHAR(20) DEFAULT 'KEY (`x`), ' COMMENT 'it''s, KEY `a` (`b`) \\ "q" 雪',
    KEY `PRIMARY KEY (` (`KEY ``k`` (x)`(3) DESC) COMMENT ') , KEY', CONSTRAINT `c``k` CHECK (`KEY ``k`` (x)` <> '),(\'')) COMMENT '); DROP TABLE base; --';
CREATE TABLE counted (a INT NOT NULL, n INT NOT NULL AUTO_INCREMENT, b INT, PRIMARY KEY (a), KEY b (b), KEY n (n), KEY c (b, n)) AUTO_INCREMENT = 77;
CREATE TABLE counted_per_prefix (a INT NOT NULL, n INT NOT NULL AUTO_INCREMENT, PRIMARY KEY (a, n)) ENGINE = MyISAM;
CREATE TABLE unique_only (a INT NOT NULL, b INT NOT NULL, c INT, UNIQUE KEY ab (a, b), UNIQUE KEY c (c), KEY b (b));
CREATE TABLE many_keys (id INT PRIMARY KEY, a INT, t TEXT, u TEXT, g POINT NOT NULL SRID 4326, j JSON, v INT AS (a + 1),
    KEY a (a), KEY f ((a * 2)), KEY v (v), UNIQUE KEY tags ((CAST(j AS UNSIGNED ARRAY))), KEY a2 (a DESC, v), SPATIAL KEY (g),
    FULLTEXT KEY (t), FULLTEXT KEY tu (t, u), FULLTEXT KEY (u) WITH PARSER ngram, KEY unseen (v) INVISIBLE);
CREATE TABLE defaults (id BINARY(16) DEFAULT (UUID_TO_BIN(UUID())), a VARCHAR(40) DEFAULT (CONCAT('(', ')', ',')), b JSON DEFAULT (JSON_ARRAY('`')),
    c TIMESTAMP(3) NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), d TIMESTAMP DEFAULT '2020-02-02 02:02:02',
    e ENUM('a,b', ')', 'it''s', '\\') CHARACTER SET gbk, f BIT(9) DEFAULT b'101', g VARBINARY(4) DEFAULT 0x00FF5C27);
CREATE TABLE left_fk (id INT PRIMARY KEY, r INT, KEY (r));
CREATE TABLE right_fk (id INT PRIMARY KEY, l INT, far INT, CONSTRAINT `to left` FOREIGN KEY (l) REFERENCES left_fk (id) ON DELETE SET NULL ON UPDATE CASCADE);
ALTER TABLE left_fk ADD CONSTRAINT to_right FOREIGN KEY (r) REFERENCES right_fk (id);
CREATE TABLE `mo``re 2`.far_away (id INT PRIMARY KEY);
ALTER TABLE right_fk ADD FOREIGN KEY (far) REFERENCES `mo``re 2`.far_away (id) ON DELETE RESTRICT;
CREATE TABLE by_key (a INT NOT NULL, b INT, UNIQUE KEY (a), KEY (b)) PARTITION BY KEY () PARTITIONS 3;
CREATE TABLE by_linear (a INT, b INT, KEY (b)) PARTITION BY LINEAR HASH (a) PARTITIONS 2;
CREATE TABLE by_linear_key (a INT PRIMARY KEY) PARTITION BY LINEAR KEY ALGORITHM = 2 (a) PARTITIONS 2;
CREATE TABLE by_number_list (a INT) PARTITION BY LIST (a) (PARTITION `p,)` VALUES IN (1, 2, NULL) COMMENT = 'it''s )', PARTITION q VALUES IN (3));
CREATE TABLE by_moment (t TIMESTAMP NOT NULL) PARTITION BY RANGE (UNIX_TIMESTAMP(t)) (PARTITION a VALUES LESS THAN (UNIX_TIMESTAMP('2026-01-01')), PARTITION z VALUES LESS THAN MAXVALUE);
CREATE TABLE by_two_named (a INT, b DATE) PARTITION BY RANGE COLUMNS (a, b) SUBPARTITION BY KEY (a) (
    PARTITION p VALUES LESS THAN (1, '2026-01-01') (SUBPARTITION `s 1`, SUBPARTITION s2), PARTITION q VALUES LESS THAN (MAXVALUE, MAXVALUE) (SUBPARTITION s3, SUBPARTITION s4));
SET sql_generate_invisible_primary_key = 1;
CREATE TABLE keyless (a INT);
SET sql_generate_invisible_primary_key = 0;
CREATE VIEW z_first AS SELECT id, `KEY ``k`` (x)` AS `from ``a_last``` FROM base;
CREATE VIEW `mo``re 2`.middle AS SELECT z.id, f.id AS far FROM more.z_first z LEFT JOIN `mo``re 2`.far_away f ON f.id = z.id;
CREATE VIEW a_last (`col``umn`, `a b`) AS SELECT id, far FROM `mo``re 2`.middle UNION ALL SELECT 1, 2 FROM z_first;
SET NAMES utf8mb4 COLLATE utf8mb4_general_ci;
CREATE VIEW collated AS SELECT 'é' = 'e' AS same, _latin1'x' AS y, 0xFF00 AS z;
CREATE USER passing@'%'; CREATE DEFINER = passing@'%' VIEW definer_gone AS SELECT id FROM base;
CREATE TABLE passing (id INT); CREATE VIEW broken AS SELECT id FROM passing; CREATE VIEW broken_too AS SELECT id FROM broken; DROP TABLE passing;
CREATE TABLE noted (id INT PRIMARY KEY, what VARCHAR(90));
SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES';
DELIMITER $$
CREATE FUNCTION "quoted ""fn""" ("a b" INT) RETURNS VARCHAR(50) DETERMINISTIC COMMENT 'it''s \' RETURN "a b" || 'back\' || '雪'$$
CREATE TRIGGER "tr `1" BEFORE INSERT ON noted FOR EACH ROW BEGIN SET NEW.what = NEW.what || '\' || 'FOR EACH ROW'; END$$
CREATE EVENT "ev ""1" ON SCHEDULE EVERY '1:30' HOUR_MINUTE STARTS '2037-01-01 00:00:00' COMMENT 'ev\' DO SELECT "id" || '\' FROM noted$$
SET sql_mode = ''$$
CREATE TRIGGER z_second BEFORE INSERT ON noted FOR EACH ROW SET @a = 2$$
CREATE TRIGGER a_zeroth BEFORE INSERT ON more.noted FOR EACH ROW PRECEDES `tr ``1` SET @a = 0$$
CREATE TRIGGER after_it AFTER UPDATE ON noted FOR EACH ROW BEGIN /* 雪 */ SET @b = 'é🧨'; END$$
SET time_zone = '+03:00', sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO'$$
CREATE EVENT once ON SCHEDULE AT '2037-05-05 05:05:05' ON COMPLETION PRESERVE DISABLE ON REPLICA COMMENT 'ö' DO BEGIN SELECT 1; END$$
CREATE EVENT running ON SCHEDULE EVERY 3 YEAR STARTS '2036-01-01 00:00:00' ENDS '2037-01-01 00:00:00' ENABLE DO SELECT 1$$
SET NAMES latin1$$
CREATE PROCEDURE from_latin1 (IN a VARCHAR(10), OUT b ENUM('x', 'y')) READS SQL DATA SQL SECURITY INVOKER BEGIN SELECT 'plain' INTO b; END$$
SET NAMES utf8mb3$$
CREATE PROCEDURE from_utf8mb3 () SELECT '雪'$$
SET NAMES utf8mb4$$
CREATE FUNCTION is_broken () RETURNS INT READS SQL DATA RETURN (SELECT COUNT(*) FROM nowhere)$$
DELIMITER ;
CREATE VIEW uses_function AS SELECT `quoted "fn"`(id) AS x FROM base;
ALTER DATABASE more COLLATE latin1_swedish_ci;
CREATE PROCEDURE after_alter (a CHAR(5)) SELECT a;
CREATE ROLE `ro le`@'%', second_role, `admin``s`;
GRANT SELECT (id), UPDATE (id, what) ON more.noted TO `ro le`;
GRANT INSERT ON more.* TO `ro le` WITH GRANT OPTION;
GRANT EXECUTE, ALTER ROUTINE ON FUNCTION more.`quoted "fn"` TO second_role;
GRANT EXECUTE ON PROCEDURE more.from_latin1 TO second_role;
GRANT BACKUP_ADMIN, PROCESS ON *.* TO `admin``s`;
GRANT ALL ON `mo``re 2`.* TO `admin``s`;
GRANT SELECT ON `mo\_re%`.* TO `admin``s`;
CREATE USER 'it''s "x"'@'192.168.%' IDENTIFIED WITH caching_sha2_password BY 'first secret' REQUIRE SSL
    WITH MAX_USER_CONNECTIONS 7 PASSWORD EXPIRE INTERVAL 90 DAY FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 2 ACCOUNT LOCK COMMENT 'a ''comment''';
CREATE USER plain@localhost IDENTIFIED BY 'second secret', ''@'%' IDENTIFIED BY 'x', proxied@'%';
GRANT `ro le`, second_role TO 'it''s "x"'@'192.168.%'; GRANT `admin``s` TO plain@localhost WITH ADMIN OPTION; GRANT second_role TO `ro le`;
GRANT PROXY ON proxied@'%' TO plain@localhost;
SET DEFAULT ROLE `ro le`, second_role TO 'it''s "x"'@'192.168.%'; SET DEFAULT ROLE ALL TO plain@localhost;
GRANT CREATE USER ON *.* TO plain@localhost WITH GRANT OPTION;
DROP USER passing@'%';
ALTER USER proxied@'%' IDENTIFIED BY 'older'; ALTER USER proxied@'%' IDENTIFIED BY 'newer' RETAIN CURRENT PASSWORD;
"#;

const NEW: &str = r#"
CREATE LIBRARY more.`lib 1` COMMENT 'it''s' LANGUAGE JAVASCRIPT AS $$ export function f(n) { return "`" + n + '雪'; } $$;
CREATE JSON RELATIONAL DUALITY VIEW more.dual AS SELECT JSON_DUALITY_OBJECT('_id': id, 'what': what) FROM more.noted;
"#;

fn start() -> MysqlServer {
    let server = MysqlServer::start(MysqlOptions::default().arg("--log-bin-trust-function-creators=1"));
    ugly::load(&server);
    // Only who has it may grant it.
    server.sql("GRANT PROXY ON ''@'' TO root@'127.0.0.1' WITH GRANT OPTION");
    server.sql(MORE);
    if !server.version().starts_with("8.") {
        server.sql(NEW);
    }
    server
}

#[tokio::test]
async fn mysql_is_the_same_after_all_of_it_was_dropped_and_made_again() {
    let server = start();
    let mut connection = open(&server, "root", "").await;
    let before = read(&mut connection).await;
    check_facts(&before);
    let hashes: Vec<String> = server
        .sql("SELECT HEX(authentication_string) FROM mysql.user WHERE user IN ('plain', 'odd user', 'it''s \"x\"')")
        .into_iter()
        .map(|row| row[0].clone().unwrap())
        .collect();
    assert_eq!(hashes.len(), 3);
    assert_stored_and_hidden(&before, &hashes.iter().map(String::as_str).collect::<Vec<_>>());
    copies_stand_beside(&mut connection, &before).await;
    what_is_hidden_is_named(&server).await;

    drop_all(&mut connection, &before).await;
    let emptied = read(&mut connection).await;
    assert_eq!(
        (emptied.databases.len(), emptied.tables.len(), emptied.routines.len()),
        (0, 0, 0)
    );
    let places = Naming {
        keep_places: true,
        ..Naming::same()
    };
    create_all(&mut connection, &before, &places, true).await;
    let after = read(&mut connection).await;
    let after = comparable(after);
    assert_same(&comparable(before), &after);
}

fn check_facts(schema: &Schema) {
    let table = |database: &str, name: &str| {
        let found = schema
            .tables
            .iter()
            .find(|table| table.database == database && table.name == name);
        found.unwrap_or_else(|| panic!("no {database}.{name}"))
    };
    for name in ugly::NAMES {
        assert_eq!(table(ugly::DATABASES[1], name).primary_key[0].column, "the `key");
    }
    let keyless = table("more", "keyless");
    assert!(keyless.generated_primary_key && keyless.columns[0].invisible && keyless.create.contains("my_row_id"));
    let generated = table("ugly", "generated");
    assert!(!generated.generated_primary_key);
    assert_eq!(generated.column("doubled").unwrap().generated, Some(Generated::Virtual));
    assert_eq!(generated.column("kept").unwrap().generated, Some(Generated::Stored));
    assert_eq!(generated.column("added").unwrap().generated, None);
    let defaults = table("more", "defaults");
    assert_eq!(defaults.column("id").unwrap().generated, None);
    assert_eq!(defaults.column("e").unwrap().charset.as_deref(), Some("gbk"));
    let texts = table("ugly", "texts");
    assert_eq!(texts.column("b").unwrap().octet_length, Some(1200));
    assert_eq!(
        (texts.rows, texts.engine.as_str(), texts.data_bytes > 0),
        (6, "InnoDB", true)
    );
    assert_eq!(table("more", "by_two_named").partitions, ["s 1", "s2", "s3", "s4"]);
    assert_eq!(table("more", "unique_only").unique_keys.len(), 1);
    assert_eq!(table("ugly", "long_key").primary_key.len(), 4);
    let view = |name: &str| schema.views.iter().position(|view| view.name == name).unwrap();
    assert!(view("z_first") < view("middle") && view("middle") < view("a_last"));
    assert!(schema.views[view("broken")].invalid.is_some() && schema.views[view("broken_too")].invalid.is_some());
    assert!(
        schema.views[view("z_first")].invalid.is_none()
            && schema.views[view("definer_gone")].create.contains("`passing`@`%`")
    );
    let order: Vec<_> = schema
        .triggers
        .iter()
        .filter(|trigger| trigger.table == "noted" && trigger.timing == "BEFORE")
        .collect();
    assert_eq!(
        order.iter().map(|trigger| trigger.name.as_str()).collect::<Vec<_>>(),
        ["a_zeroth", "tr `1", "z_second"]
    );
    let event = schema.events.iter().find(|event| event.name == "once").unwrap();
    assert_eq!(
        (event.time_zone.as_str(), event.definer.as_str()),
        ("+03:00", "root@localhost")
    );
    let of = |kind| {
        schema
            .accounts
            .iter()
            .filter(move |account| account.kind == kind)
            .map(|account| account.user.as_str())
    };
    assert_eq!(
        of(AccountKind::Role).collect::<Vec<_>>(),
        ["admin`s", "reader", "ro le", "second_role"]
    );
    assert_eq!(of(AccountKind::Server).count(), 3);
    assert_eq!(of(AccountKind::Administrator).count(), 2);
    let named = left_out(schema);
    assert!(
        named
            .iter()
            .any(|line| line.starts_with("tablespace \"general outside\": ")),
        "{named:?}"
    );
    assert!(
        named
            .iter()
            .any(|line| line.starts_with("account \"proxied@%\": its second")),
        "{named:?}"
    );
    assert_eq!(named.len(), 3, "{named:?}");
}

/// Tables, triggers and routines under other names in another database, beside the ones they are copies of.
async fn copies_stand_beside(connection: &mut ballast_mysql::Connection, schema: &Schema) {
    let mut part = schema.clone();
    part.databases.retain(|each| each.name == "more");
    part.tables
        .retain(|each| each.database == "more" || each.database == "ugly" && each.name.starts_with("lodger"));
    part.tables
        .iter_mut()
        .for_each(|table| table.database = "more".to_owned());
    part.triggers.retain(|each| each.database == "more");
    part.routines.retain(|each| each.database == "more");
    part.events.retain(|each| each.database == "more");
    part.libraries.clear();
    part.views.clear();
    let naming = Naming {
        database: &|name| format!("{name}`s copy"),
        table: &|database, table| match database {
            "more" => ("more`s copy".to_owned(), format!("{table} c`2")),
            _ => (database.to_owned(), table.to_owned()),
        },
        keep_places: false,
    };
    create_all(connection, &part, &naming, false).await;
    let copied = read(connection).await;
    let count = |schema: &Schema, database: &str| {
        (
            schema.tables.iter().filter(|each| each.database == database).count(),
            schema.triggers.iter().filter(|each| each.database == database).count(),
            schema.routines.iter().filter(|each| each.database == database).count(),
            schema.events.iter().filter(|each| each.database == database).count(),
        )
    };
    assert_eq!(count(&copied, "more`s copy"), count(&part, "more"));
    let copy = |name: &str| {
        copied
            .tables
            .iter()
            .find(|each| each.name == format!("{name} c`2"))
            .unwrap()
    };
    assert!(
        copy("left_fk").create.contains("REFERENCES `right_fk c``2`"),
        "{}",
        copy("left_fk").create
    );
    assert!(
        !copy("lodger_1").create.contains("TABLESPACE"),
        "{}",
        copy("lodger_1").create
    );
    connection.execute("SET NAMES utf8mb4").await.unwrap();
    connection.execute("DROP DATABASE `more``s copy`").await.unwrap();
    // In the same database: names of constraints must not meet.
    prepare(connection, schema).await;
    let beside = Naming {
        database: &str::to_owned,
        table: &|database, table| (database.to_owned(), format!("{table}_2")),
        keep_places: false,
    };
    for name in ["base", "right_fk"] {
        let table = schema
            .tables
            .iter()
            .find(|each| each.database == "more" && each.name == name)
            .unwrap();
        let statements = table.statements(&beside).unwrap();
        let all = [
            vec![statements.create],
            statements.keys,
            statements.foreign_keys.into_iter().collect(),
        ]
        .concat();
        for sql in all {
            connection
                .execute(&sql)
                .await
                .unwrap_or_else(|error| panic!("{error}\nin: {sql}"));
        }
    }
    connection.execute("SET foreign_key_checks = 0").await.unwrap();
    connection
        .execute("DROP TABLE more.base_2, more.right_fk_2")
        .await
        .unwrap();
}

async fn what_is_hidden_is_named(server: &MysqlServer) {
    server.create_user("small", "tide", &[]);
    server.sql("GRANT SELECT ON more.base TO small@'%'; GRANT EXECUTE ON PROCEDURE more.from_latin1 TO small@'%'");
    let mut connection = open(server, "small", "tide").await;
    let small = read(&mut connection).await;
    let named = left_out(&small);
    assert_eq!(
        (small.tables.len(), small.routines.len(), small.accounts.len()),
        (1, 0, 0),
        "{named:?}"
    );
    for begin in [
        "every database: ",
        "every table of \"more\": ",
        "every view of \"more\": ",
        "every routine of \"more\": ",
        "every trigger of \"more\": ",
        "every event of \"more\": ",
        "every account: ",
        "every tablespace: ",
        "routine \"more.from_latin1\": the account may not see its text",
    ] {
        assert!(
            named.iter().any(|line| line.starts_with(begin)),
            "{begin} is not in {named:#?}"
        );
    }
    server.sql("GRANT ALL ON more.* TO small@'%'; GRANT SHOW_ROUTINE ON *.* TO small@'%'");
    connection = open(server, "small", "tide").await;
    let facts = ballast_mysql::Facts::read(&mut connection).await.unwrap();
    let filter = SchemaFilter {
        database: &|name| name == "more",
        table: &|_, _| true,
        accounts: false,
    };
    let small = Schema::read(&mut connection, &facts, &filter).await.unwrap();
    let named = left_out(&small);
    assert!(!named.iter().any(|line| line.contains("more")), "{named:#?}");
    assert!(small.routines.len() >= 5 && small.events.len() == 3, "{named:#?}");
    server.sql("DROP USER small@'%'");
}
