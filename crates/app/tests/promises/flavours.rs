//! From MySQL to MariaDB and back: what the two have in common arrives as it was, and the rest is named before anything is written.

use std::collections::BTreeMap;

use ballast_testkit::dataset::{balance, ugly};
use ballast_testkit::servers::{Flavour, MysqlOptions, MysqlServer};
use serde_json::Value;

use crate::logical::{MARIADB_GRANTS, MYSQL_GRANTS, password, target};
use crate::site::{Site, USER, server};

/// Numbers that the two servers write in different ways.
const FRACTIONS: &str = "
CREATE TABLE {base}.fractions (
    id INT AUTO_INCREMENT PRIMARY KEY, a FLOAT, b FLOAT(7, 3), c DOUBLE, d DOUBLE(20, 5), e FLOAT UNSIGNED ZEROFILL, f DOUBLE ZEROFILL
);
INSERT INTO {base}.fractions (a, b, c, d, e, f) VALUES
    (1.8e-7, 0.001, 1.8e-7, 0.00001, 1.8e-7, 1.8e-7), (-3.402823466e38, -9999.999, -1.7976931348623157e308, -999999999999999.99999, 0, 0),
    (1.175494351e-38, 1.0005, 2.2250738585072014e-308, 0.1, 1e20, 1e-10), (1e-45, 0, 4.9e-324, 0, 16777217, 1e22), (-0e0, -0e0, -0e0, -0e0, 0, 0),
    (16777217, 3.3333, 9007199254740993, 1234567.123455, 0.1, 0.3), (NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO {base}.fractions (a, b, c, d, e, f)
    WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 400)
    SELECT (RAND(n) - 0.7) * POW(10, n % 70 - 32), (RAND(n + 1) - 0.5) * 19999, (RAND(n + 2) - 0.5) * POW(10, n % 600 - 300),
           (RAND(n + 3) - 0.5) * POW(10, n % 15), RAND(n + 4) * POW(10, n % 40 - 20), RAND(n + 5) * POW(10, n % 40 - 20) FROM s;
";

/// How a column's values are asked for, so that two servers must give the same.
fn asked(name: &str, kind: &str) -> String {
    let column = format!("`{}`", name.replace('`', "``"));
    match kind {
        "float" => format!("CONCAT({column} * 1e0)"),
        "double" => format!("CONCAT({column})"),
        "enum" | "set" => format!("CAST({column} AS UNSIGNED)"),
        "json" => format!("HEX(CAST({column} AS CHAR CHARACTER SET utf8mb4))"),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "binary" | "varbinary" | "tinyblob"
        | "blob" | "mediumblob" | "longblob" | "bit" | "vector" => format!("HEX({column})"),
        kind if kind.starts_with("geom")
            || kind.starts_with("multi")
            || ["point", "linestring", "polygon"].contains(&kind) =>
        {
            format!("HEX({column})")
        }
        _ => format!("CAST({column} AS CHAR)"),
    }
}

/// A table of every character set that the server has.
fn characters(server: &MysqlServer, base: &str) {
    for row in server.sql("SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS") {
        let charset = row[0].as_deref().unwrap();
        // What a set does not have becomes a question mark.
        server.sql(&format!(
            "SET NAMES utf8mb4; SET sql_mode = ''; USE {base};
             CREATE TABLE `in {charset}` (id INT PRIMARY KEY, a CHAR(40), b VARCHAR(200), c TINYTEXT, d LONGTEXT) CHARACTER SET {charset};
             INSERT IGNORE INTO `in {charset}` VALUES (1, 'é ü ß ñ', '功能許ソ表予雪運城', '🧨\\\\', REPEAT('a\\t雪', 300)), (2, '', ' ', 'x  ', NULL)"
        ));
    }
}

type Rows = Vec<Vec<Option<String>>>;

/// All rows of all tables, in an order of their own, by the client program that comes with the server. Computed columns too.
fn contents(server: &MysqlServer, bases: &[&str], columns: &MysqlServer) -> BTreeMap<String, Rows> {
    let list: Vec<_> = bases
        .iter()
        .map(|base| format!("'{}'", base.replace('\'', "''")))
        .collect();
    let list = list.join(", ");
    let mut tables: BTreeMap<(String, String), Vec<(String, String)>> = BTreeMap::new();
    for row in columns.sql(&format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS JOIN information_schema.TABLES
         USING (TABLE_SCHEMA, TABLE_NAME) WHERE TABLE_SCHEMA IN ({list}) AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')
         AND COALESCE(GENERATION_EXPRESSION, '') NOT IN ('ROW START', 'ROW END') ORDER BY ORDINAL_POSITION"
    )) {
        let cell = |at: usize| row[at].clone().unwrap();
        tables.entry((cell(0), cell(1))).or_default().push((cell(2), cell(3)));
    }
    let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
    let mut found = BTreeMap::new();
    for ((base, name), columns) in tables {
        let values: Vec<String> = columns.iter().map(|(name, kind)| asked(name, kind)).collect();
        let sql = format!(
            "SET time_zone = '+00:00', sql_mode = ''; SELECT {} FROM {}.{}",
            values.join(", "),
            quoted(&base),
            quoted(&name)
        );
        let Ok(mut rows) = server.try_sql(&sql) else { continue };
        for row in &mut rows {
            for (value, (_, kind)) in row.iter_mut().zip(&columns) {
                if let (Some(text), "float" | "double") = (&value, kind.as_str()) {
                    let number: f64 = if kind == "float" {
                        text.parse::<f32>().unwrap().into()
                    } else {
                        text.parse().unwrap()
                    };
                    // MariaDB drops the sign of a zero when it reads one.
                    let bits = if number == 0.0 { 0 } else { number.to_bits() };
                    *value = Some(bits.to_string());
                }
            }
        }
        rows.sort();
        found.insert(format!("{base}.{name}"), rows);
    }
    found
}

/// Panics with the first table that differs, and how.
fn assert_same_rows(source: &BTreeMap<String, Rows>, target: &BTreeMap<String, Rows>, but: &[&str]) {
    for (table, rows) in source {
        if but.contains(&table.as_str()) {
            assert!(!target.contains_key(table), "{table} was to be left out");
            continue;
        }
        let loaded = target.get(table).unwrap_or_else(|| panic!("{table} is missing"));
        assert_eq!(rows.len(), loaded.len(), "rows of {table}");
        for (row, other) in rows.iter().zip(loaded) {
            assert_eq!(row, other, "{table}");
        }
    }
}

fn named(list: &Value, first: &str, second: &str) -> Vec<String> {
    let text = |each: &Value, key: &str| each[key].as_str().unwrap().to_owned();
    let list = list.as_array().unwrap();
    list.iter()
        .map(|each| format!("{}: {}", text(each, first), text(each, second)))
        .collect()
}

#[track_caller]
fn assert_named(list: &[String], begins: &[&str]) {
    for begin in begins {
        assert!(
            list.iter().any(|line| line.starts_with(begin)),
            "\"{begin}\" is not in {list:#?}"
        );
    }
}

fn databases(server: &MysqlServer) -> Vec<String> {
    let rows = server.sql("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY 1");
    rows.into_iter().map(|row| row[0].clone().unwrap()).collect()
}

#[test]
fn rows_of_mysql_load_into_mariadb() {
    let source = server(MysqlOptions::default());
    source.sql(&format!("GRANT {MYSQL_GRANTS} ON *.* TO {USER}"));
    ugly::load(&source);
    balance::load(&source, 8, 200);
    source.sql(&FRACTIONS.replace("{base}", "ugly"));
    characters(&source, "ugly");
    source.sql(
        "USE ugly; CREATE TABLE defaults (id INT PRIMARY KEY, a BINARY(16) DEFAULT (UUID_TO_BIN(UUID())), b JSON DEFAULT (JSON_ARRAY()),
         c INT, hint VARCHAR(20) INVISIBLE NOT NULL, CONSTRAINT loose CHECK (c < 5) NOT ENFORCED, UNIQUE KEY name (hint));
         INSERT INTO defaults (id, c, hint) VALUES (1, 9, 'a'), (2, NULL, 'a ');",
    );
    let mut site = Site::new(&source, "engine = \"logical\"").init();
    let (target, url) = target(&mut site, Flavour::Mariadb);
    site.json(&["backup", "orders"], 0);

    // First only said: nothing is written.
    let before = databases(&target);
    let plan = site.json(&["restore", "orders", "--to", &url, "--dry-run"], 0);
    assert_eq!(databases(&target), before);
    let changes = named(&plan["changes"], "object", "what");
    assert_named(
        &changes,
        &[
            "database ugly: collation utf8mb4_0900_ai_ci becomes utf8mb4_uca1400_nopad_ai_ci",
            "table ugly.long_key: collation utf8mb4_0900_ai_ci becomes utf8mb4_uca1400_nopad_ai_ci: the order of texts may differ, and two texts may count as equal in primary key",
            "table ugly.texts: `o` becomes text that is checked by json_valid",
            "table ugly.charsets: `k` becomes varbinary(200), and keeps the bytes its text has in gb18030",
            "table ugly.places: the spatial reference system of `b` is not declared",
            "table ugly.vectors: `v` is vector(3) and becomes varbinary(12)",
            "table ugly.page_zlib: option COMPRESSION=zlib is left out",
            "table ugly.defaults: `hint` becomes visible",
        ],
    );
    let left_out = named(&plan["left_out"], "object", "why");
    assert_named(
        &left_out,
        &[
            "key `by_expression` of ugly.generated: ",
            "key `by_tag` of ugly.generated: ",
            "NOT NULL of `kept` of ugly.generated: ",
            "parser ngram of key `pairs` of ugly.words: ",
            "default of `a` of ugly.defaults: it calls uuid_to_bin()",
            "check `loose` of ugly.defaults: it is not enforced",
            "account odd user@10.%: it logs in by caching_sha2_password",
        ],
    );
    assert!(!left_out.iter().any(|line| line.starts_with("table ")), "{left_out:#?}");

    let result = site.json(&["restore", "orders", "--to", &url], 3);
    assert_eq!(result["proof"]["tables_differing"], serde_json::json!([]));
    assert_eq!(result["proof"]["tables_found"], result["proof"]["tables_expected"]);
    assert_eq!(result["changes"], plan["changes"]);
    // `fractions` and `numbers` are compared by what their numbers are.
    assert_eq!(result["tables_read_back"], 2);
    let listed: Vec<&str> = result["left_out"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    // What the plan said, and nothing that came as a surprise.
    assert_eq!(listed, left_out.iter().map(String::as_str).collect::<Vec<_>>());
    let bases: Vec<&str> = ugly::DATABASES.into_iter().chain(["balance"]).collect();
    assert_same_rows(
        &contents(&source, &bases, &source),
        &contents(&target, &bases, &source),
        &[],
    );
    // Coordinates keep their sides: x is the longitude.
    assert_eq!(
        target.value("SELECT CONCAT(ST_X(b), ' ', ST_Y(b), ' ', ST_SRID(b)) FROM ugly.places WHERE id = 1"),
        "121.47 31.23 4326"
    );
    assert_eq!(target.value("SELECT ugly.greet('you')"), "hello; you 雪");
    assert_eq!(target.value("SELECT COUNT(*) FROM ugly.`v \"second\"`"), "2");
    assert_eq!(
        target.value("SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'ugly'"),
        "2"
    );
    assert_eq!(
        target.value("SELECT COUNT(*) FROM mysql.user WHERE User = 'odd user'"),
        "0"
    );
    assert_eq!(
        target.value("SELECT COUNT(*) FROM mysql.user WHERE User = 'reader' AND is_role = 'Y'"),
        "1"
    );
    let refused = target.try_sql("INSERT INTO ugly.texts (id, o) VALUES (99, '{')");
    assert!(refused.is_err(), "a document that is none was taken");

    // The shards alone lose nothing.
    target.sql("DROP TABLE balance.orders_3");
    let result = site.json(&["restore", "orders", "--to", &url, "--only", "balance.orders_3"], 0);
    assert_eq!(result["left_out"], serde_json::json!([]));
    assert_same_rows(
        &contents(&source, &["balance"], &source),
        &contents(&target, &["balance"], &source),
        &[],
    );
}

/// What only MariaDB has, beside what both have.
const MARIADB: &str = r#"
SET NAMES utf8mb4; SET sql_mode = '', time_zone = '+00:00';
CREATE DATABASE more CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_ai_ci COMMENT 'it''s more';
CREATE DATABASE `Ug ly-"db'.1%/x``y` CHARACTER SET latin1;
CREATE TABLE `Ug ly-"db'.1%/x``y`.`quo'te ``雪` (`the ``key` INT PRIMARY KEY, `{v} %` VARCHAR(20) DEFAULT 'a,)') COMMENT = 'it''s, ) "x" \\';
INSERT INTO `Ug ly-"db'.1%/x``y`.`quo'te ``雪` VALUES (1, 'é');
USE more;
CREATE TABLE numbers (a TINYINT, b TINYINT UNSIGNED ZEROFILL, c SMALLINT, d MEDIUMINT UNSIGNED, e INT(5) ZEROFILL, f BIGINT, g BIGINT UNSIGNED,
    h DECIMAL(65, 30), i DECIMAL(1, 0), j FLOAT, k DOUBLE, l BIT(1), m BIT(64), n BOOLEAN);
INSERT INTO numbers VALUES
    (-128, 255, -32768, 16777215, 42, -9223372036854775808, 18446744073709551615, -99999999999999999999999999999999999.999999999999999999999999999999, 9,
     -3.402823e38, 1.7976931348623157e308, b'1', 0xFFFFFFFFFFFFFFFF, TRUE),
    (127, 0, 32767, 0, 0, 9223372036854775807, 0, 0.000000000000000000000000000001, -9, 1.17549e-38, -0.0, b'0', 0, FALSE),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SET sql_mode = 'ALLOW_INVALID_DATES';
CREATE TABLE times (a DATE, b DATETIME, c DATETIME(6), d TIMESTAMP(6) NULL, e TIME(6), f YEAR, g TIME, h TIMESTAMP NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp());
INSERT INTO times VALUES
    ('0000-00-00', '0000-00-00 00:00:00', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.499999', '-838:59:59.000000', '0000', '838:59:59', '2026-01-01 00:00:00'),
    ('2024-00-00', '2024-02-31 00:00:00', '1000-01-01 00:00:00.000001', '0000-00-00 00:00:00', '00:00:00.000001', 2155, '-00:00:01', '0000-00-00 00:00:00'),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-01 00:00:00');
SET sql_mode = '';
CREATE TABLE texts (id INT PRIMARY KEY, a CHAR(10), b VARCHAR(300), c TINYTEXT DEFAULT 'x', d TEXT, e MEDIUMTEXT, f LONGTEXT, g BINARY(8), h VARBINARY(300),
    i TINYBLOB, j BLOB, k MEDIUMBLOB, l LONGBLOB, m ENUM('a', 'b,c', '', 'it''s', '雪'), n SET('x', 'y', 'z 1'), o JSON,
    p VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_nopad_bin, q VARCHAR(20) CHARACTER SET gbk, r VARCHAR(20) CHARACTER SET utf16, s VARCHAR(20) CHARACTER SET ucs2);
INSERT INTO texts VALUES
    (1, 'trail  ', 'emoji 🧨 zero\0byte', 'tab\tnew\nline\rback\\slash', '', '\\N', 'NULL', 0x00FF, UNHEX(REPEAT('000A0D1A275C22FF', 30)), 0x00, '', 0x5C4E, REPEAT(0x00FF5C0A, 70000),
     'b,c', 'x,z 1', '{"b": 1,   "a": [1, 2.50, null, true, "🧨"], "b": 3.14159265358979323846264338}', 'é\\', '運城', '🧨', '雪'),
    (2, '', '', '', REPEAT('雪', 20000), REPEAT('x', 100000), '', '', '', '', '', '', '', '', '', '[]', '', '', '', ''),
    (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE places (id INT PRIMARY KEY, a GEOMETRY, b POINT NOT NULL, c LINESTRING, d GEOMETRYCOLLECTION, SPATIAL KEY (b)) ENGINE = Aria TRANSACTIONAL = 1;
INSERT INTO places VALUES (1, ST_GeomFromText('POLYGON((0 0, 0 5, 5 5, 0 0))'), ST_GeomFromText('POINT(121.47 31.23)', 4326), ST_GeomFromText('LINESTRING(0 0, 1 1)'), ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1))')),
    (2, NULL, POINT(1, 2), NULL, NULL);
CREATE SEQUENCE counter START WITH 5;
CREATE TABLE from_counter (id BIGINT NOT NULL DEFAULT NEXTVAL(counter) PRIMARY KEY, a INT);
INSERT INTO from_counter (a) VALUES (1), (2);
CREATE TABLE identifiers (id UUID PRIMARY KEY DEFAULT UUID(), a INET6, b INET4, c DATE DEFAULT (CURDATE() + INTERVAL 1 DAY));
INSERT INTO identifiers VALUES ('6ccd780c-baba-1026-9564-5b8c656024db', '2001:db8::ff00:42:8329', '255.255.255.255', '2026-01-01'), ('09090909-0a0a-0a0a-5c5c-5c5c5c5c5c5c', '::ffff:192.0.2.128', NULL, NULL);
CREATE TABLE versioned (id INT PRIMARY KEY, a VARCHAR(10)) WITH SYSTEM VERSIONING;
INSERT INTO versioned VALUES (1, 'old'), (2, 'gone'); UPDATE versioned SET a = 'new'; DELETE FROM versioned WHERE id = 2;
CREATE TABLE versioned_openly (id INT PRIMARY KEY, a INT WITHOUT SYSTEM VERSIONING, st TIMESTAMP(6) GENERATED ALWAYS AS ROW START INVISIBLE,
    en TIMESTAMP(6) GENERATED ALWAYS AS ROW END INVISIBLE, PERIOD FOR SYSTEM_TIME (st, en), KEY (a)) WITH SYSTEM VERSIONING
    PARTITION BY SYSTEM_TIME INTERVAL 1 MONTH (PARTITION p0 HISTORY, PARTITION p9 CURRENT);
INSERT INTO versioned_openly (id, a) VALUES (1, 2);
CREATE TABLE booked (id INT, d1 DATE, d2 DATE, PERIOD FOR `p p` (d1, d2), UNIQUE (id, `p p` WITHOUT OVERLAPS), KEY (d1));
INSERT INTO booked VALUES (1, '2026-01-01', '2026-02-01'), (1, '2026-02-01', '2026-03-01');
CREATE TABLE base (id INT PRIMARY KEY AUTO_INCREMENT, `KEY ``k`` (x)` VARCHAR(20) DEFAULT 'KEY (`x`), ' COMMENT 'it''s, KEY `a` (`b`) \\ "q" 雪',
    a INT DEFAULT (1 + 1), v INT AS (a + 1) VIRTUAL, st VARCHAR(20) AS (CONCAT('x),(', a)) STORED, h INT INVISIBLE DEFAULT 4,
    t TEXT COMPRESSED, own TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, KEY (v), KEY pre (st(3)), KEY ig (a) IGNORED, KEY `KEY (` (a DESC) COMMENT '), KEY',
    FULLTEXT (own), CONSTRAINT `c``k` CHECK (`KEY ``k`` (x)` <> '),(\''), CHECK (a < 1000)) AUTO_INCREMENT = 55 COMMENT = '); DROP -- \\' PAGE_COMPRESSED = 1;
CREATE TABLE late (id INT PRIMARY KEY, v INT AS (a + 1) VIRTUAL, a INT DEFAULT (1 + 1)); INSERT INTO late (id) VALUES (1);
INSERT INTO base (a, h, t, own) VALUES (1, 2, REPEAT('雪', 3000), 'the quick fox'), (NULL, NULL, NULL, NULL);
CREATE TABLE again (a INT, CONSTRAINT `c``k` CHECK (a > 0), CHECK (a < 9)); INSERT INTO again VALUES (1);
CREATE TABLE long_unique (a TEXT, UNIQUE (a), b INT NOT NULL, UNIQUE (b)); INSERT INTO long_unique VALUES (REPEAT('a', 4000), 1);
CREATE TABLE fine (a DECIMAL(60, 38)); INSERT INTO fine VALUES (0.12345678901234567890123456789012345678);
CREATE TABLE by_list (k VARCHAR(9)) PARTITION BY LIST COLUMNS (k) (PARTITION a VALUES IN ('it''s', ')'), PARTITION d DEFAULT); INSERT INTO by_list VALUES ('it''s'), ('x');
CREATE TABLE by_key (a INT NOT NULL, b INT, UNIQUE KEY (a), KEY (b)) ENGINE = MyISAM PARTITION BY KEY () PARTITIONS 3; INSERT INTO by_key VALUES (1, 2), (2, 3);
CREATE TABLE by_two (id INT, d DATE) PARTITION BY RANGE (YEAR(d)) SUBPARTITION BY HASH (id) SUBPARTITIONS 2 (PARTITION old VALUES LESS THAN (2020), PARTITION new VALUES LESS THAN MAXVALUE);
INSERT INTO by_two VALUES (1, '2019-01-01'), (2, '2029-01-01');
CREATE TABLE left_fk (id INT PRIMARY KEY, r INT, KEY (r)); CREATE TABLE right_fk (id INT PRIMARY KEY, l INT, CONSTRAINT `to left` FOREIGN KEY (l) REFERENCES left_fk (id) ON DELETE SET NULL);
CREATE TABLE finest (a DECIMAL(60, 38) PRIMARY KEY); CREATE TABLE of_finest (a DECIMAL(60, 38), KEY (a));
INSERT INTO left_fk VALUES (1, 1); INSERT INTO right_fk VALUES (1, 1), (2, NULL);
CREATE VIEW plain_view AS SELECT id, a FROM base WHERE a < 5;
CREATE FUNCTION doubled (n INT) RETURNS INT DETERMINISTIC RETURN n * 2;
CREATE TRIGGER on_again BEFORE INSERT ON again FOR EACH ROW SET NEW.a = NEW.a + 1;
CREATE TRIGGER on_fine BEFORE INSERT ON fine FOR EACH ROW SET NEW.a = 0;
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 00:00:00' DISABLE DO DELETE FROM again WHERE a > 5;
DELIMITER $$
CREATE PROCEDURE rowtyped () BEGIN DECLARE r ROW TYPE OF more.base; SET r.id = 1; END$$
SET sql_mode = ORACLE$$
CREATE PACKAGE "pa ck" AS FUNCTION f1 RETURN INT; END$$
CREATE PACKAGE BODY "pa ck" AS FUNCTION f1 RETURN INT AS BEGIN RETURN 1; END; END$$
DELIMITER ;
SET sql_mode = '';
CREATE USER plain@localhost IDENTIFIED BY 'second secret';
CREATE DEFINER = plain@localhost PROCEDURE of_plain () SELECT 1;
CREATE ROLE `ro le`; GRANT SELECT (id), UPDATE (id, a) ON more.base TO `ro le`; GRANT DELETE HISTORY ON more.* TO `ro le`;
GRANT `ro le` TO plain@localhost;
"#;

#[test]
fn rows_of_mariadb_load_into_mysql() {
    let source = MysqlServer::start(MysqlOptions::mariadb());
    source.sql(&format!(
        "CREATE USER {USER} IDENTIFIED BY '{}'; GRANT {MARIADB_GRANTS} ON *.* TO {USER}",
        password()
    ));
    source.sql(MARIADB);
    source.sql(&FRACTIONS.replace("{base}", "more"));
    characters(&source, "more");
    balance::load(&source, 8, 200);
    let mut site = Site::new(&source, "").init();
    let (target, url) = target(&mut site, Flavour::Mysql);
    site.json(&["backup", "orders"], 0);

    let before = databases(&target);
    let plan = site.json(&["restore", "orders", "--to", &url, "--dry-run"], 0);
    assert_eq!(databases(&target), before);
    let changes = named(&plan["changes"], "object", "what");
    assert_named(
        &changes,
        &[
            "database more: collation utf8mb4_uca1400_ai_ci becomes utf8mb4_0900_ai_ci",
            "table more.places: engine Aria becomes InnoDB",
            "table more.identifiers: `id` is uuid and becomes char(36)",
            "table more.identifiers: `a` is inet6 and becomes varchar(45)",
            "table more.by_list: it is not divided",
            "table more.by_key: engine MyISAM becomes InnoDB",
            "table more.base: `t` is not compressed",
            "table more.base: option PAGE_COMPRESSED=1 is left out",
            "table more.base: constraint `c``k` gets another name",
            "table more.texts: collation latin1_nopad_bin becomes latin1_bin",
            "routine more.of_plain: its definer plain@localhost is left out",
        ],
    );
    let left_out = named(&plan["left_out"], "object", "why");
    assert_named(
        &left_out,
        &[
            "table more.fine: the target does not understand it: Too big scale 38",
            "trigger more.on_fine: its table is left out",
            "sequence more.counter: ",
            "default of `id` of more.from_counter: it calls nextval()",
            "system versioning of more.versioned: ",
            "period `p p` of more.booked: ",
            "WITHOUT OVERLAPS of key `id` of more.booked: ",
            "key `a` of more.long_unique: it is longer than the target's keys can be",
            "package more.pa ck: ",
            "package body more.pa ck: ",
            "procedure more.rowtyped: the target does not understand it",
            "comment of database more: ",
            "rights of role ro le: the target has no DELETE HISTORY",
            "account plain@localhost: it logs in by mysql_native_password",
        ],
    );

    let result = site.json(&["restore", "orders", "--to", &url], 3);
    assert_eq!(result["proof"]["tables_differing"], serde_json::json!([]));
    assert_eq!(result["proof"]["tables_found"], result["proof"]["tables_expected"]);
    assert_eq!(result["tables_read_back"], 2);
    let listed: Vec<&str> = result["left_out"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    // What the target finds out only when it makes a table is named as well.
    let (surprise, said) = listed.split_last().unwrap();
    assert!(
        surprise.starts_with("table more.late: the server says: Generated column can refer only to"),
        "{surprise}"
    );
    assert_eq!(said, left_out);
    let bases = ["more", "Ug ly-\"db'.1%/x`y", "balance"];
    assert_same_rows(
        &contents(&source, &bases, &source),
        &contents(&target, &bases, &source),
        &["more.fine", "more.finest", "more.of_finest", "more.late"],
    );
    // The document is the text it was: MySQL's own type would have dropped a member and digits.
    assert!(
        target
            .value("SELECT o FROM more.texts WHERE id = 1")
            .ends_with("\"b\": 3.14159265358979323846264338}")
    );
    assert!(
        target
            .try_sql("INSERT INTO more.texts (id, o) VALUES (99, '{')")
            .is_err()
    );
    assert_eq!(
        target.value(
            "SELECT CONCAT(ROUND(ST_Longitude(b), 6), ' ', ROUND(ST_Latitude(b), 6)) FROM more.places WHERE id = 1"
        ),
        "121.47 31.23"
    );
    assert_eq!(target.value("SELECT more.doubled(4)"), "8");
    assert_eq!(target.value("SELECT COUNT(*) FROM more.plain_view"), "1");
    assert!(
        target.try_sql("INSERT INTO more.again VALUES (8)").is_err(),
        "the trigger and the check are gone"
    );
    assert_eq!(
        target.value("SELECT COUNT(*) FROM mysql.user WHERE User = 'plain'"),
        "0"
    );
    assert_eq!(
        target.value("SELECT account_locked FROM mysql.user WHERE User = 'ro le'"),
        "Y"
    );
}
