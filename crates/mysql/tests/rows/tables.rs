//! Tables of every type with the values that are hard to carry. What only one kind of server has is made there only.

use ballast_testkit::servers::{Flavour, MysqlServer};

pub(crate) const BASE: &str = "types";

/// Texts in which tabs, newlines, backslashes, zeros and the second bytes of East Asian characters want care.
const TEXTS: [&str; 13] = [
    "",
    " ",
    "plain",
    "trailing  ",
    "tab\tnew\nline\rback\\slash",
    "zero\0and\x1a",
    "\\N",
    "\\",
    "NULL",
    "quote's \"two\" `three`",
    "é ü ß ñ",
    "功能許ソ表予雪運城",
    "🧨👩‍👩‍👧",
];

pub(crate) fn create(server: &MysqlServer) {
    server.sql(&format!("CREATE DATABASE {BASE} CHARACTER SET utf8mb4"));
    let run = |sql: &str| {
        server.sql(&format!(
            "SET NAMES utf8mb4; SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'; USE {BASE};\n{sql}"
        ))
    };
    run(COMMON);
    run(&bits());
    run(&members());
    run(&wide());
    run(&binaries());
    for charset in run("SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS") {
        run(&characters(&charset[0].clone().unwrap()));
    }
    run(match server.flavour() {
        Flavour::Mysql => MYSQL,
        Flavour::Mariadb => MARIADB,
    });
}

const COMMON: &str = r"
CREATE TABLE ints (
    id INT PRIMARY KEY, a TINYINT, b TINYINT UNSIGNED ZEROFILL, c SMALLINT UNSIGNED, d SMALLINT, e MEDIUMINT,
    f MEDIUMINT UNSIGNED, g INT, h INT UNSIGNED, i INT(10) UNSIGNED ZEROFILL, j BIGINT, k BIGINT UNSIGNED,
    l BIGINT(20) UNSIGNED ZEROFILL, m DECIMAL(65, 30), n DECIMAL(10, 2) UNSIGNED ZEROFILL, o DECIMAL(1, 0), p BOOLEAN
);
INSERT INTO ints VALUES
    (0, -128, 255, 65535, -32768, -8388608, 16777215, -2147483648, 4294967295, 4294967295, -9223372036854775808,
     18446744073709551615, 18446744073709551615, -99999999999999999999999999999999999.999999999999999999999999999999,
     99999999.99, -9, TRUE),
    (-1, 127, 0, 0, 32767, 8388607, 0, 2147483647, 0, 7, 9223372036854775807, 0, 7,
     0.000000000000000000000000000001, 0.1, 9, FALSE),
    (1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE floats (
    id INT AUTO_INCREMENT PRIMARY KEY, a FLOAT, b FLOAT(7, 3), c DOUBLE, d DOUBLE(20, 5), e FLOAT UNSIGNED ZEROFILL,
    f DOUBLE ZEROFILL, g FLOAT(10, 2), h REAL, i DOUBLE(53, 30), j FLOAT(30, 20)
);
INSERT INTO floats (a, b, c, d, e, f, g, h, i, j) VALUES
    (-3.402823466e38, -9999.999, -1.7976931348623157e308, -999999999999999.99999, 3.402823466e38, 1.7976931348623157e308,
     99999999.99, 2.2250738585072014e-308, 12345678901234567890123.5, 1e9),
    (1.175494351e-38, 9999.999, 2.2250738585072014e-308, 0.00001, 0, 0, -0.01, 4.9e-324, 1e-30, 1e-20),
    (-0e0, -0e0, -0e0, -0e0, 0, 0, -0e0, -0e0, -0e0, -0e0),
    (1e-45, 0.001, 5e-324, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1),
    (16777217, 1.0005, 9007199254740993, 1234567.123455, 1e20, 1e-10, 12345678.91, 1e22, 0.3, 0.3),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO floats (a, b, c, d, e, f, g, h, i, j)
    WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 900)
    SELECT (RAND(n) - 0.7) * POW(10, n % 70 - 32), (RAND(n + 1) - 0.5) * 19999, (RAND(n + 2) - 0.5) * POW(10, n % 600 - 300),
           (RAND(n + 3) - 0.5) * POW(10, n % 15), RAND(n + 4) * POW(10, n % 40 - 20), RAND(n + 5) * POW(10, n % 40 - 20),
           (RAND(n + 6) - 0.5) * POW(10, n % 9), RAND(n + 7), RAND(n + 8) * POW(10, n % 23), RAND(n + 9) * POW(10, n % 9)
    FROM s;
CREATE TABLE times (
    id INT PRIMARY KEY, a DATE, b DATETIME, c DATETIME(6), d TIMESTAMP(6) NULL, e TIME(6), f YEAR, g TIME, h TIMESTAMP(3) NULL,
    i TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, j DATE NOT NULL, k DATETIME(3) NOT NULL
);
INSERT INTO times VALUES
    (1, '0000-00-00', '0000-00-00 00:00:00', '0000-00-00 00:00:00', '0000-00-00 00:00:00', '-838:59:59', '0000', '838:59:59',
     '1970-01-01 00:00:01', '0000-00-00 00:00:00', '0000-00-00', '0000-00-00 00:00:00'),
    (2, '2024-00-00', '2024-02-00 00:00:00', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.499999', '-00:00:00.000001',
     1901, '-00:00:01', '2026-03-29 02:30:00.123', '2026-01-01', '0000-00-00', '1000-01-01 00:00:00.001'),
    (3, '2023-02-31', '2023-04-31 11:11:11', '0001-01-01 00:00:00.000001', '1970-01-01 00:00:01.000001', '-12:34:56.789012',
     2155, '00:00:00', NULL, '2026-01-01', '2023-02-30', '2023-02-30 00:00:00'),
    (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-01', '2026-01-01', '2026-01-01');
CREATE TABLE empty_rows (a VARCHAR(10));
INSERT INTO empty_rows VALUES (''), (NULL), (''), ('\n'), ('\\N');
CREATE TABLE no_bytes (a CHAR(0), b CHAR(0) NOT NULL);
INSERT INTO no_bytes VALUES ('', ''), (NULL, '');
CREATE TABLE no_rows (a INT, b TEXT, c ENUM('a'));
CREATE TABLE zero_key (id INT AUTO_INCREMENT PRIMARY KEY, a INT);
SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO';
INSERT INTO zero_key VALUES (0, 1), (1, 2);
SET sql_mode = '';
CREATE TABLE computed (
    id INT PRIMARY KEY, a INT, b INT AS (a + 1) VIRTUAL, c VARCHAR(20) AS (CONCAT('x', a)) STORED, d INT INVISIBLE DEFAULT 3,
    `na``me, (x)` VARCHAR(10) DEFAULT 'here', `@v` INT DEFAULT 5
);
INSERT INTO computed (id, a, d) VALUES (1, 1, 7), (2, NULL, NULL), (3, 3, 3);
CREATE TABLE docs (id INT PRIMARY KEY, j JSON, k JSON);
INSERT INTO docs VALUES
    (1, '{}', '[]'), (2, 'null', 'true'), (3, NULL, NULL), (4, '1.0', '-0.0'), (5, '1e308', '18446744073709551615'),
    (6, '-9223372036854775808', '0.1'), (7, JSON_QUOTE('\\N'), '[1, 2.5, [null, true]]');
INSERT INTO docs VALUES (8, JSON_ARRAY('tab\t', 'line\n', 'back\\slash', CONCAT('quote', CHAR(34 USING utf8mb4)), '🧨雪é'), JSON_OBJECT('', 1, 'ключ', '🧨'));
INSERT INTO docs VALUES (9, JSON_ARRAY(REPEAT('雪', 100000)), JSON_QUOTE(REPEAT('\\', 70000)));
CREATE TABLE places (
    id INT PRIMARY KEY, a GEOMETRY, b POINT, c LINESTRING, d POLYGON, e MULTIPOINT, f MULTILINESTRING, g MULTIPOLYGON,
    h GEOMETRYCOLLECTION
);
INSERT INTO places VALUES
    (1, ST_GeomFromText('POINT(1 1)'), ST_GeomFromText('POINT(1 2)', 4326), ST_GeomFromText('LINESTRING(0 0, 1 1)'),
     ST_GeomFromText('POLYGON((0 0, 0 5, 5 5, 0 0))'), ST_GeomFromText('MULTIPOINT((1 1), (2 2))'),
     ST_GeomFromText('MULTILINESTRING((0 0, 1 1), (2 2, 3 3))'), ST_GeomFromText('MULTIPOLYGON(((0 0, 0 5, 5 5, 0 0)))'),
     ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1), LINESTRING(0 0, 1 1))')),
    (2, ST_GeomFromText('POLYGON((0 0, 0 5, 5 5, 0 0))', 3857), NULL, NULL, NULL, NULL, NULL, NULL,
     ST_GeomFromText('GEOMETRYCOLLECTION EMPTY')),
    (3, ST_GeomFromText('POINT(-0.5 1e300)'), ST_GeomFromText('POINT(9 10)'), NULL, NULL, NULL, NULL, NULL, NULL);
";

const MYSQL: &str = r"
CREATE TABLE systems (id INT PRIMARY KEY, a POINT NOT NULL SRID 4326, b GEOMETRY NOT NULL SRID 0, SPATIAL INDEX (a));
INSERT INTO systems VALUES (1, ST_SRID(POINT(121.47, 31.23), 4326), POINT(1, 2));
CREATE TABLE vectors (id INT PRIMARY KEY, a VECTOR(3), b VECTOR(2048) NOT NULL);
INSERT INTO vectors VALUES
    (1, STRING_TO_VECTOR('[1, -2.5, 3e10]'), STRING_TO_VECTOR('[0]')),
    (2, 0x00000000090A5C0000000080, UNHEX(REPEAT('090A5C00', 2048))), (3, NULL, STRING_TO_VECTOR('[-0.0]'));
CREATE TABLE only_computed (a INT AS (1) VIRTUAL, b INT AS (2) STORED);
INSERT INTO only_computed VALUES (), (), ();
CREATE TABLE made_key (a INT) ;
SET sql_generate_invisible_primary_key = ON;
CREATE TABLE hidden_key (a INT);
INSERT INTO hidden_key VALUES (3), (2), (3);
";

const MARIADB: &str = r"
CREATE TABLE identifiers (id UUID PRIMARY KEY, a UUID, b INET6, c INET4);
INSERT INTO identifiers VALUES
    ('123e4567-e89b-12d3-a456-426655440000', NULL, NULL, NULL),
    ('00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '::', '0.0.0.0'),
    ('09090909-0a0a-0a0a-5c5c-5c5c5c5c5c5c', '6ccd780c-baba-1026-9564-5b8c656024db', '2001:db8::ff00:42:8329', '255.255.255.255'),
    ('6ccd780c-baba-1026-9564-5b8c656024db', '6ccd780c-baba-4026-9564-5b8c656024db', '::ffff:192.0.2.128', '9.10.92.0');
CREATE TABLE versioned (id INT PRIMARY KEY, a VARCHAR(10)) WITH SYSTEM VERSIONING;
INSERT INTO versioned VALUES (1, 'old'), (2, 'gone');
UPDATE versioned SET a = 'new' WHERE id = 1;
DELETE FROM versioned WHERE id = 2;
CREATE TABLE periods (
    id INT PRIMARY KEY, from_day DATE, to_day DATE, row_from TIMESTAMP(6) GENERATED ALWAYS AS ROW START,
    row_to TIMESTAMP(6) GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (row_from, row_to), PERIOD FOR days (from_day, to_day)
) WITH SYSTEM VERSIONING;
SET system_versioning_alter_history = KEEP;
ALTER TABLE periods DROP SYSTEM VERSIONING, DROP COLUMN row_from, DROP COLUMN row_to, DROP PERIOD FOR SYSTEM_TIME;
INSERT INTO periods VALUES (1, '2026-01-01', '2026-02-01');
CREATE TABLE packed (id INT PRIMARY KEY, a VARCHAR(4000) COMPRESSED, b BLOB COMPRESSED, c LONGTEXT COMPRESSED);
INSERT INTO packed VALUES (1, REPEAT('a\t', 1000), REPEAT(0x005C0A, 10000), REPEAT('雪', 70000)), (2, '', NULL, '\\');
CREATE TABLE only_computed (a INT AS (1) VIRTUAL, b INT AS (2) STORED);
INSERT INTO only_computed VALUES (), (), ();
";

/// A column of each width from 1 to 64 bits.
fn bits() -> String {
    let columns: Vec<String> = (1..=64).map(|width| format!("b{width} BIT({width})")).collect();
    let row = |id: u8, value: &dyn Fn(u32) -> String| {
        let values: Vec<String> = (1..=64).map(value).collect();
        format!("INSERT INTO bits VALUES ({id}, {});\n", values.join(", "))
    };
    let all = |width: u32| u64::MAX >> (64 - width);
    let pattern = 0x095C_000A_305C_4E09_u64;
    format!(
        "CREATE TABLE bits (id INT PRIMARY KEY, {});\n{}{}{}{}{}",
        columns.join(", "),
        row(1, &|width| all(width).to_string()),
        row(2, &|_| "0".to_owned()),
        row(3, &|width| (pattern & all(width)).to_string()),
        row(4, &|width| (0x31_u64 & all(width)).to_string()),
        row(5, &|_| "NULL".to_owned()),
    )
}

/// Members of enumerations and sets: digits, nothing, other character sets, more than one byte of them.
fn members() -> String {
    let many: Vec<String> = (0..300).map(|number| format!("'{number}'")).collect();
    let full: Vec<String> = (0..64).map(|number| format!("'m{number}'")).collect();
    let few: Vec<String> = (0..9).map(|number| format!("'{number}'")).collect();
    let mut sql = format!(
        "CREATE TABLE members (
            id INT PRIMARY KEY, a ENUM('2', '1', '', '0', '10'), b ENUM({many}), c SET({full}), d SET({few}),
            e ENUM('é', 'ü') CHARACTER SET latin1, f ENUM('🧨', '雪', 'a') CHARACTER SET utf16, g SET('功', '許', 'ソ') CHARACTER SET gbk,
            h ENUM('tab\t', 'back\\\\slash', 'it''s'), i ENUM('one') NOT NULL, j SET('', 'b')
        );\n",
        many = many.join(", "),
        full = full.join(", "),
        few = few.join(", "),
    );
    for id in 0..6_u32 {
        sql.push_str(&format!(
            "INSERT INTO members VALUES ({id}, {id}, {id} * 51, {bits}, {id} * 100, {id} % 3, {id} % 4, {id}, {id} % 4, 'one', {id} % 4);\n",
            bits = [0, 1, 1 << 63, u64::MAX, (1 << 53) + 1, 9_223_372_036_854_775_809][usize::try_from(id).unwrap()],
        ));
    }
    // What is no member is stored as the member number 0.
    sql.push_str("INSERT IGNORE INTO members VALUES (10, 'none', 'none', 'none', 'none', 'none', 'none', 'none', 'none', 'none', 'none');\n");
    sql.push_str("INSERT INTO members VALUES (11, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'one', NULL);\n");
    sql
}

fn wide() -> String {
    let columns: Vec<String> = (0..1000)
        .map(|number| match number % 3 {
            0 => format!("c{number} INT"),
            1 => format!("c{number} VARCHAR(4) CHARACTER SET latin1"),
            _ => format!("c{number} VARBINARY(4)"),
        })
        .collect();
    let row = |value: &dyn Fn(u32) -> String| {
        let values: Vec<String> = (0..1000).map(value).collect();
        format!("INSERT INTO wide VALUES ({});\n", values.join(", "))
    };
    format!(
        "CREATE TABLE wide ({}) ROW_FORMAT = DYNAMIC;\n{}{}{}",
        columns.join(", "),
        row(&|number| number.to_string()),
        row(&|_| "NULL".to_owned()),
        row(&|number| if number % 2 == 0 { "'7'" } else { "NULL" }.to_owned()),
    )
}

/// Every byte, in every binary type; and values of more than one packet.
fn binaries() -> String {
    let all: String = (0..=255_u8).map(|byte| format!("{byte:02x}")).collect();
    format!(
        "CREATE TABLE binaries (
            id INT PRIMARY KEY, a BINARY(8), b VARBINARY(300), c TINYBLOB, d BLOB, e MEDIUMBLOB, f LONGBLOB, g VARBINARY(9000),
            h CHAR(255) CHARACTER SET latin1, i VARCHAR(256) CHARACTER SET latin1, j TEXT CHARACTER SET latin1
        );
        INSERT INTO binaries VALUES
            (1, 0x00FF, 0x{all}, LEFT(0x{all}, 255), 0x{all}, 0x{all}, 0x{all}, 0x{all}, RIGHT(0x{all}, 255), 0x{all}, 0x{all}),
            (2, '', '', '', '', '', '', '', '', '', ''),
            (3, 0x2000, 0x20, 0x00, 0x0A, 0x09, 0x5C, 0x5C4E, ' ', ' ', ' '),
            (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
        CREATE TABLE huge (id INT PRIMARY KEY, a LONGBLOB, b LONGTEXT);
        INSERT INTO huge VALUES
            (1, REPEAT(0x00095C0A41, 3565158), 'short'), (2, 'z', REPEAT('y', 70000)),
            (3, NULL, REPEAT('雪', 1000000));\n"
    )
}

/// A table of one character set.
fn characters(charset: &str) -> String {
    let mut sql = format!(
        "CREATE TABLE `in {charset}` (
            id INT PRIMARY KEY, a CHAR(40), b VARCHAR(200), c TINYTEXT, d TEXT, e MEDIUMTEXT, f LONGTEXT, g VARCHAR(6000)
        ) CHARACTER SET {charset};\n"
    );
    // Under `SET NAMES utf8mb4` the server makes them characters of the set, or question marks.
    for (id, text) in TEXTS.iter().enumerate() {
        let text = text.replace('\\', "\\\\").replace('\'', "''").replace('\0', "\\0");
        sql.push_str(&format!(
            "INSERT IGNORE INTO `in {charset}` VALUES ({id}, '{text}', '{text}', '{text}', '{text}', '{text}', REPEAT('{text}', 300), REPEAT('{text}', 100));\n"
        ));
    }
    sql.push_str(&format!(
        "INSERT INTO `in {charset}` VALUES (99, NULL, NULL, NULL, NULL, NULL, NULL, NULL);\n"
    ));
    sql
}
