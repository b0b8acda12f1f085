//! Everything that a backup must bring back and usually forgets: every type, every ugly name, every kind of table and
//! object, for MySQL.

use crate::servers::MysqlServer;

/// The databases [`load`] creates.
pub const DATABASES: [&str; 3] = ["ugly", "Ug ly-\"db'.1%/x`y", "数据库☃"];

/// Table names of the second database; each holds one row that repeats its name.
pub const NAMES: [&str; 14] = [
    "with space",
    "quo'te",
    "double\"quote",
    "back`tick",
    "dot.ted.name",
    "slash/and\\back",
    "-leading-dash",
    "percent%20s",
    "Mixed_Case",
    "mixed_case",
    "select",
    "雪人☃表",
    "a2345678901234567890123456789012345678901234567890123456789012ab",
    "new\nline\ttab",
];

/// Creates [`DATABASES`] and fills them. Tablespaces outside the data directory go to the server's
/// [`outside_dir`](MysqlServer::outside_dir).
pub fn load(server: &MysqlServer) {
    let outside = server.outside_dir();
    let outside = outside.to_str().unwrap();
    server.sql("CREATE DATABASE ugly CHARACTER SET utf8mb4");
    for part in [TYPES, SHAPES, PARTITIONS, OBJECTS] {
        server.sql(&format!("SET NAMES utf8mb4; SET sql_mode = ''; USE ugly;\n{part}"));
    }
    server.sql(&OUTSIDE.replace("{outside}", outside));
    if !server.version().starts_with("8.") {
        server.sql(VECTOR);
    }
    server.sql(&names());
}

fn names() -> String {
    let mut sql = String::from("SET sql_mode = '';\n");
    for base in &DATABASES[1..] {
        sql.push_str(&format!("CREATE DATABASE {};\n", super::quoted(base)));
    }
    for name in NAMES {
        let table = format!("{}.{}", super::quoted(DATABASES[1]), super::quoted(name));
        let text = name.replace('\\', "\\\\").replace('\'', "''");
        sql.push_str(&format!(
            "CREATE TABLE {table} (`the ``key` INT PRIMARY KEY, `{{v}} %` TEXT);\n"
        ));
        sql.push_str(&format!("INSERT INTO {table} VALUES (1, '{text}');\n"));
    }
    let table = format!("{}.{}", super::quoted(DATABASES[2]), super::quoted("订单"));
    sql.push_str(&format!(
        "CREATE TABLE {table} (`编号` INT PRIMARY KEY, `名` VARCHAR(20));\n"
    ));
    sql.push_str(&format!("INSERT INTO {table} VALUES (1, '🧨'), (2, NULL);\n"));
    sql
}

const TYPES: &str = r#"
CREATE TABLE numbers (
    a TINYINT, b TINYINT UNSIGNED, c SMALLINT, d MEDIUMINT UNSIGNED, e INT, f BIGINT, g BIGINT UNSIGNED,
    h DECIMAL(65, 30), i DECIMAL(1, 0), j FLOAT, k DOUBLE, l BIT(1), m BIT(64), n BOOLEAN, o INT(10) UNSIGNED ZEROFILL
);
INSERT INTO numbers VALUES
    (-128, 255, -32768, 16777215, -2147483648, -9223372036854775808, 18446744073709551615,
     -99999999999999999999999999999999999.999999999999999999999999999999, 9, -3.402823e38, 1.7976931348623157e308,
     b'1', 0xFFFFFFFFFFFFFFFF, TRUE, 42),
    (127, 0, 32767, 0, 2147483647, 9223372036854775807, 0, 0.000000000000000000000000000001, -9, 1.17549e-38, -0.0,
     b'0', 0, FALSE, 0),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE times (
    a DATE, b DATETIME, c DATETIME(6), d TIMESTAMP(6) NULL, e TIME(6), f YEAR, g TIME,
    h TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
);
INSERT INTO times VALUES
    ('0000-00-00', '0000-00-00 00:00:00', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.499999', '-838:59:59.000000',
     1901, '838:59:59', '2026-01-01 00:00:00'),
    ('2024-00-00', '2024-02-00 00:00:00', '1000-01-01 00:00:00.000001', '1970-01-01 12:00:01.000001', '00:00:00.000001',
     2155, '-00:00:01', '2026-01-01 00:00:00'),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-01 00:00:00');
CREATE TABLE texts (
    id INT PRIMARY KEY, a CHAR(10), b VARCHAR(300), c TINYTEXT, d TEXT, e MEDIUMTEXT, f LONGTEXT, g BINARY(8), h VARBINARY(300),
    i TINYBLOB, j BLOB, k MEDIUMBLOB, l LONGBLOB, m ENUM('a', 'b,c', '', 'it''s', '雪'), n SET('x', 'y', 'z 1'), o JSON
);
INSERT INTO texts VALUES
    (1, 'trail  ', 'emoji 🧨👩‍👩‍👧 zero\0byte', 'tab\tnew\nline\rback\\slash', '', '\\N', 'NULL', 0x00FF, UNHEX(REPEAT('000A0D1A275C22FF', 30)),
     0x00, '', 0x5C4E, REPEAT(0x00FF5C0A, 70000), 'b,c', 'x,z 1', '{"a": [1, 2.5, null, true, "\\u2603 🧨"], "": {"b": {}}}'),
    (2, '', '"quoted", comma', '\Z', REPEAT('雪', 20000), REPEAT('x', 100000), '', '', '', '', '', '', '', '', '', '[]'),
    (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO texts (id, o) VALUES (4, 'null'), (5, CAST(CAST('2026-01-01 00:00:00.000001' AS DATETIME(6)) AS JSON)),
    (6, CAST(18446744073709551615 AS JSON));
CREATE TABLE charsets (
    a VARCHAR(50) CHARACTER SET latin1, b VARCHAR(50) CHARACTER SET gbk, c VARCHAR(50) CHARACTER SET big5,
    d VARCHAR(50) CHARACTER SET sjis, e VARCHAR(50) CHARACTER SET utf16, f VARCHAR(50) CHARACTER SET ucs2,
    g VARCHAR(50) CHARACTER SET utf32, h VARCHAR(50) CHARACTER SET ascii, i VARCHAR(50) CHARACTER SET utf8mb3,
    j VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin, k VARCHAR(50) CHARACTER SET gb18030
);
INSERT INTO charsets VALUES ('é\\', '運城', '功\\許', 'ソ表', '🧨', '雪', '🧨', 'a', '雪', '🧨', '🧨雪');
CREATE TABLE places (
    id INT PRIMARY KEY, a GEOMETRY, b POINT NOT NULL SRID 4326, c LINESTRING, d POLYGON, e MULTIPOINT, f GEOMETRYCOLLECTION,
    SPATIAL INDEX (b)
);
INSERT INTO places VALUES
    (1, ST_GeomFromText('POINT(1 1)'), ST_SRID(POINT(121.47, 31.23), 4326), ST_GeomFromText('LINESTRING(0 0, 1 1)'),
     ST_GeomFromText('POLYGON((0 0, 0 5, 5 5, 0 0))'), ST_GeomFromText('MULTIPOINT((1 1), (2 2))'),
     ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1))')),
    (2, NULL, ST_SRID(POINT(0, 0), 4326), NULL, NULL, NULL, ST_GeomFromText('GEOMETRYCOLLECTION EMPTY'));
"#;

const SHAPES: &str = r#"
CREATE TABLE empty_table (id INT PRIMARY KEY, a TEXT);
CREATE TABLE no_key (a INT, b VARCHAR(10));
INSERT INTO no_key VALUES (1, 'twice'), (1, 'twice'), (NULL, NULL);
CREATE TABLE long_key (a VARCHAR(190), b INT, c VARBINARY(20), d DATETIME(6), PRIMARY KEY (a, b, c, d));
INSERT INTO long_key VALUES ('ä', -1, 0x00, '2026-01-01'), ('A', 1, '', '2026-01-01 00:00:00.000001'), ('雪', 0, 0xFF, '2026-01-02');
CREATE TABLE `generated` (
    id INT AUTO_INCREMENT PRIMARY KEY,
    a INT NOT NULL DEFAULT 3,
    doubled INT GENERATED ALWAYS AS (a * 2) VIRTUAL,
    kept VARCHAR(40) GENERATED ALWAYS AS (CONCAT('a is ', a)) STORED NOT NULL,
    hidden INT INVISIBLE DEFAULT 7,
    made CHAR(36) DEFAULT (UUID()),
    tags JSON,
    KEY (doubled), KEY by_expression ((a % 10)), KEY unseen (kept) INVISIBLE, KEY by_tag ((CAST(tags AS UNSIGNED ARRAY))),
    KEY backwards (a DESC), KEY prefix (kept(5)),
    CONSTRAINT small CHECK (a < 1000)
) AUTO_INCREMENT = 1000 COMMENT = 'it''s a "comment" \\ 雪';
INSERT INTO `generated` (a, hidden, tags) VALUES (1, 11, '[1, 2, 3]'), (2, NULL, NULL), (DEFAULT, DEFAULT, '[]');
ALTER TABLE `generated` ADD COLUMN added INT DEFAULT 5, ALGORITHM = INSTANT;
ALTER TABLE `generated` ADD COLUMN first_one VARCHAR(10) DEFAULT 'early' FIRST, ALGORITHM = INSTANT;
ALTER TABLE `generated` DROP COLUMN made, ALGORITHM = INSTANT;
INSERT INTO `generated` (a, added) VALUES (10, 6);
CREATE TABLE words (id INT PRIMARY KEY, body TEXT, FULLTEXT KEY (body), FULLTEXT KEY pairs (body) WITH PARSER ngram);
INSERT INTO words VALUES (1, 'the quick brown fox'), (2, '上海市浦东新区');
CREATE TABLE parents (id INT PRIMARY KEY, up INT NULL, FOREIGN KEY (up) REFERENCES parents (id) ON DELETE SET NULL);
CREATE TABLE children (
    id INT PRIMARY KEY, parent INT NOT NULL,
    CONSTRAINT `fk ``odd` FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE ON UPDATE CASCADE
);
INSERT INTO parents VALUES (1, NULL), (2, 1), (3, 3);
INSERT INTO children VALUES (1, 2), (2, 3);
CREATE TABLE redundant (id INT PRIMARY KEY, a VARCHAR(3000)) ROW_FORMAT = REDUNDANT;
CREATE TABLE compact (id INT PRIMARY KEY, a VARCHAR(3000)) ROW_FORMAT = COMPACT;
CREATE TABLE compressed (id INT PRIMARY KEY, a LONGTEXT) ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 8;
CREATE TABLE page_zlib (id INT PRIMARY KEY, a LONGTEXT) COMPRESSION = 'zlib';
CREATE TABLE page_lz4 (id INT PRIMARY KEY, a LONGTEXT) COMPRESSION = 'lz4';
SET SESSION cte_max_recursion_depth = 5000;
INSERT INTO redundant WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 400) SELECT n, REPEAT(SHA2(n, 256), 20) FROM s;
INSERT INTO compact SELECT * FROM redundant;
INSERT INTO compressed SELECT id, REPEAT(a, 10) FROM redundant;
INSERT INTO page_zlib SELECT id, REPEAT(a, 10) FROM redundant;
INSERT INTO page_lz4 SELECT id, REPEAT(a, 10) FROM redundant;
CREATE TEMPORARY TABLE passing (id INT);
"#;

const PARTITIONS: &str = r"
CREATE TABLE by_range (id INT, d DATE, PRIMARY KEY (id, d)) PARTITION BY RANGE COLUMNS (d) (
    PARTITION p2025 VALUES LESS THAN ('2026-01-01'), PARTITION `p ``odd` VALUES LESS THAN ('2027-01-01'),
    PARTITION rest VALUES LESS THAN (MAXVALUE));
INSERT INTO by_range VALUES (1, '2025-05-05'), (2, '2026-05-05'), (3, '2030-05-05');
CREATE TABLE by_list (id INT, kind VARCHAR(10)) PARTITION BY LIST COLUMNS (kind) (
    PARTITION a VALUES IN ('a', 'it''s'), PARTITION b VALUES IN ('雪', NULL));
INSERT INTO by_list VALUES (1, 'a'), (2, '雪'), (3, NULL);
CREATE TABLE by_hash (id INT PRIMARY KEY, a INT) PARTITION BY HASH (id) PARTITIONS 4;
INSERT INTO by_hash VALUES (1, 1), (2, 2), (3, 3), (4, 4);
CREATE TABLE by_two (id INT, d DATE) PARTITION BY RANGE (YEAR(d)) SUBPARTITION BY HASH (id) SUBPARTITIONS 2 (
    PARTITION old VALUES LESS THAN (2020), PARTITION new VALUES LESS THAN MAXVALUE);
INSERT INTO by_two VALUES (1, '2019-01-01'), (2, '2029-01-01');
";

const OBJECTS: &str = r#"
CREATE VIEW v_first AS SELECT id, a FROM texts WHERE a IS NOT NULL;
CREATE ALGORITHM = MERGE SQL SECURITY INVOKER VIEW `v "second"` AS SELECT id FROM v_first WITH CASCADED CHECK OPTION;
CREATE TABLE changes (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(100));
DELIMITER $$
CREATE FUNCTION greet (who VARCHAR(40)) RETURNS VARCHAR(60) DETERMINISTIC COMMENT 'says ''hello'''
BEGIN
    -- a comment; with a delimiter
    RETURN CONCAT('hello; ', who, ' 雪');
END$$
CREATE PROCEDURE `odd ``name` (INOUT total INT)
BEGIN
    DECLARE n INT DEFAULT 0;
    WHILE n < 3 DO
        SET n = n + 1, total = total + n;
    END WHILE;
END$$
CREATE TRIGGER before_children BEFORE INSERT ON children FOR EACH ROW
BEGIN
    INSERT INTO changes (what) VALUES (CONCAT('new child; ', NEW.id));
END$$
CREATE TRIGGER second_children BEFORE INSERT ON children FOR EACH ROW FOLLOWS before_children SET NEW.id = NEW.id$$
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' ON COMPLETION PRESERVE DISABLE COMMENT 'it''s'
DO BEGIN DELETE FROM changes; END$$
DELIMITER ;
INSERT INTO children VALUES (3, 1);
CREATE USER 'odd user'@'10.%' IDENTIFIED BY 'it''s secret';
GRANT SELECT, EXECUTE ON ugly.* TO 'odd user'@'10.%';
CREATE ROLE reader;
GRANT SELECT (id, a) ON ugly.texts TO reader;
GRANT reader TO 'odd user'@'10.%';
"#;

const OUTSIDE: &str = "
USE ugly;
CREATE TABLESPACE `general outside` ADD DATAFILE '{outside}/general outside.ibd' ENGINE = InnoDB;
CREATE TABLESPACE general_inside ADD DATAFILE 'general_inside.ibd' ENGINE = InnoDB;
CREATE TABLE lodger_1 (id INT PRIMARY KEY, a VARCHAR(100)) TABLESPACE `general outside`;
CREATE TABLE lodger_2 (id INT PRIMARY KEY, a VARCHAR(100)) TABLESPACE `general outside`;
CREATE TABLE inside (id INT PRIMARY KEY, a VARCHAR(100)) TABLESPACE general_inside;
CREATE TABLE elsewhere (id INT PRIMARY KEY, a VARCHAR(100)) DATA DIRECTORY = '{outside}';
CREATE TABLE split (id INT PRIMARY KEY) PARTITION BY RANGE (id) (
    PARTITION here VALUES LESS THAN (10), PARTITION there VALUES LESS THAN MAXVALUE DATA DIRECTORY = '{outside}');
CREATE TABLE in_system (id INT PRIMARY KEY, a VARCHAR(100)) TABLESPACE innodb_system;
INSERT INTO lodger_1 VALUES (1, 'one'); INSERT INTO lodger_2 VALUES (2, 'two'); INSERT INTO inside VALUES (3, 'three');
INSERT INTO elsewhere VALUES (4, 'four'); INSERT INTO split VALUES (5), (50); INSERT INTO in_system VALUES (6, 'six');
";

const VECTOR: &str = "
CREATE TABLE ugly.vectors (id INT PRIMARY KEY, v VECTOR(3));
INSERT INTO ugly.vectors VALUES (1, STRING_TO_VECTOR('[1, -2.5, 3e10]')), (2, NULL);
";
