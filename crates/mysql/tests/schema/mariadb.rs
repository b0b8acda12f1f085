//! MariaDB.

use ballast_mysql::{AccountKind, Generated, RoutineKind, Schema, TableKind};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};

use crate::again::{assert_same, assert_stored_and_hidden, comparable, create_all, drop_all, left_out, open, read};

const MORE: &str = r#"
SET NAMES utf8mb4; SET sql_mode = '';
CREATE DATABASE more CHARACTER SET latin1 COLLATE latin1_bin COMMENT 'it''s "more" \\ 雪';
CREATE DATABASE `mo``re 2` CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_ai_ci;
USE more;
CREATE SEQUENCE `se q` START WITH 5 INCREMENT BY 3 CACHE 10; DO NEXTVAL(`se q`);
CREATE SEQUENCE around START WITH 3 MINVALUE 1 MAXVALUE 4 CYCLE NOCACHE; DO NEXTVAL(around); DO NEXTVAL(around); DO NEXTVAL(around);
CREATE SEQUENCE down INCREMENT BY -2 MAXVALUE -1 MINVALUE -100;
CREATE TABLE versioned (id INT PRIMARY KEY, a INT, KEY (a)) WITH SYSTEM VERSIONING;
CREATE TABLE versioned_openly (id INT PRIMARY KEY, a INT WITHOUT SYSTEM VERSIONING, b INT, st TIMESTAMP(6) GENERATED ALWAYS AS ROW START INVISIBLE,
    en TIMESTAMP(6) GENERATED ALWAYS AS ROW END INVISIBLE, PERIOD FOR SYSTEM_TIME (st, en), KEY (b)) WITH SYSTEM VERSIONING
    PARTITION BY SYSTEM_TIME INTERVAL 1 MONTH (PARTITION p0 HISTORY, PARTITION p9 CURRENT);
CREATE TABLE booked (id INT, d1 DATE, d2 DATE, PERIOD FOR `p p` (d1, d2), UNIQUE (id, `p p` WITHOUT OVERLAPS), KEY (d1));
CREATE TABLE base (id INT PRIMARY KEY AUTO_INCREMENT, `KEY ``k`` (x)` VARCHAR(20) DEFAULT 'KEY (`x`), ' COMMENT 'it''s, KEY `a` (`b`) \\ "q" 雪',
    v INT AS (a + 1) VIRTUAL, st VARCHAR(20) AS (CONCAT('x),(', a)) STORED, a INT DEFAULT (1 + 1), h INT INVISIBLE DEFAULT 4, j JSON, u UUID, i INET6,
    t TEXT COMPRESSED, own TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, KEY (v), KEY pre (st(3)), KEY ig (a) IGNORED, KEY `KEY (` (a DESC) COMMENT '), KEY',
    FULLTEXT (own), FULLTEXT two (own), CONSTRAINT `c``k` CHECK (`KEY ``k`` (x)` <> '),(\''), CHECK (a < 1000)) AUTO_INCREMENT = 55 COMMENT = '); DROP -- \\';
CREATE TABLE long_unique (a TEXT, UNIQUE (a), b INT NOT NULL, UNIQUE (b));
CREATE TABLE places (id INT PRIMARY KEY, g POINT NOT NULL, SPATIAL KEY (g)) ENGINE = Aria TRANSACTIONAL = 1;
CREATE TABLE counted (a INT NOT NULL, n INT NOT NULL AUTO_INCREMENT, PRIMARY KEY (a), KEY b (a, n), KEY n (n), KEY c (n, a));
CREATE TABLE merged_1 (a INT, KEY (a)) ENGINE = MyISAM; CREATE TABLE merged_2 LIKE merged_1;
CREATE TABLE merged (a INT, KEY (a)) ENGINE = MERGE UNION = (merged_1, merged_2) INSERT_METHOD = LAST;
CREATE TABLE from_sequence (id BIGINT NOT NULL DEFAULT NEXTVAL(more.`se q`), PRIMARY KEY (id));
CREATE TABLE left_fk (id INT PRIMARY KEY, r INT, KEY (r));
CREATE TABLE right_fk (id INT PRIMARY KEY, l INT, far INT, CONSTRAINT `to left` FOREIGN KEY (l) REFERENCES left_fk (id) ON DELETE SET NULL ON UPDATE CASCADE);
ALTER TABLE left_fk ADD CONSTRAINT to_right FOREIGN KEY (r) REFERENCES right_fk (id);
CREATE TABLE `mo``re 2`.far_away (id INT PRIMARY KEY);
ALTER TABLE right_fk ADD FOREIGN KEY (far) REFERENCES `mo``re 2`.far_away (id) ON DELETE RESTRICT;
CREATE TABLE by_key (a INT NOT NULL, b INT, UNIQUE KEY (a), KEY (b)) PARTITION BY KEY () PARTITIONS 3;
CREATE TABLE by_range (id INT, d DATE, PRIMARY KEY (id, d)) PARTITION BY RANGE COLUMNS (d) (PARTITION `p ``odd` VALUES LESS THAN ('2027-01-01'), PARTITION rest VALUES LESS THAN (MAXVALUE));
CREATE TABLE by_list (k VARCHAR(9)) PARTITION BY LIST COLUMNS (k) (PARTITION a VALUES IN ('it''s', ')'), PARTITION d DEFAULT);
CREATE TABLE by_two (id INT, d DATE) PARTITION BY RANGE (YEAR(d)) SUBPARTITION BY HASH (id) SUBPARTITIONS 2 (PARTITION old VALUES LESS THAN (2020), PARTITION new VALUES LESS THAN MAXVALUE);
CREATE VIEW z_first AS SELECT id, a AS `from ``a_last``` FROM base;
CREATE VIEW `mo``re 2`.middle AS SELECT z.id, f.id AS far FROM more.z_first z LEFT JOIN `mo``re 2`.far_away f ON f.id = z.id;
CREATE VIEW a_last (`col``umn`, `a b`) AS SELECT id, far FROM `mo``re 2`.middle UNION ALL SELECT 1, 2 FROM z_first;
CREATE USER passing@'%'; CREATE DEFINER = passing@'%' VIEW definer_gone AS SELECT id FROM base;
CREATE TABLE passing (id INT); CREATE VIEW broken AS SELECT id FROM passing; CREATE VIEW broken_too AS SELECT id FROM broken; DROP TABLE passing;
CREATE TABLE noted (id INT PRIMARY KEY, what VARCHAR(90));
SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES';
DELIMITER $$
CREATE FUNCTION "quoted ""fn""" ("a b" INT) RETURNS VARCHAR(50) DETERMINISTIC COMMENT 'it''s \' RETURN "a b" || 'back\' || '雪'$$
CREATE TRIGGER "tr `1" BEFORE INSERT ON noted FOR EACH ROW BEGIN SET NEW.what = NEW.what || '\' || 'FOR EACH ROW'; END$$
CREATE EVENT "ev ""1" ON SCHEDULE EVERY '1:30' HOUR_MINUTE STARTS '2037-01-01 00:00:00' COMMENT 'ev\' DO SELECT "id" || '\' FROM noted$$
SET sql_mode = ORACLE$$
CREATE PACKAGE "pa ck" AS FUNCTION f1 RETURN INT; END$$
CREATE PACKAGE BODY "pa ck" AS FUNCTION f1 RETURN INT AS BEGIN RETURN 1; END; END$$
SET sql_mode = ''$$
CREATE AGGREGATE FUNCTION summed (x INT) RETURNS INT BEGIN DECLARE s INT DEFAULT 0; DECLARE CONTINUE HANDLER FOR NOT FOUND RETURN s; LOOP FETCH GROUP NEXT ROW; SET s = s + x; END LOOP; END$$
CREATE TRIGGER z_second BEFORE INSERT ON noted FOR EACH ROW SET @a = 2$$
create trigger more.a_zeroth before insert on more.noted for each row precedes `tr ``1` set @a = 0$$
SET time_zone = '+03:00', sql_mode = 'STRICT_ALL_TABLES'$$
CREATE EVENT once ON SCHEDULE AT '2037-05-05 05:05:05' ON COMPLETION PRESERVE DISABLE ON SLAVE COMMENT 'ö' DO BEGIN SELECT 1; END$$
SET NAMES latin1$$
CREATE PROCEDURE from_latin1 (IN a VARCHAR(10), OUT b ENUM('x', 'y')) READS SQL DATA SQL SECURITY INVOKER BEGIN SELECT 'plain' INTO b; END$$
SET NAMES utf8mb4$$
DELIMITER ;
ALTER DATABASE more COLLATE latin1_swedish_ci;
CREATE PROCEDURE after_alter (a CHAR(5)) SELECT a;
CREATE VIEW uses_function AS SELECT `quoted "fn"`(id) AS x FROM base;
CREATE ROLE `ro le`, second_role;
GRANT SELECT (id), UPDATE (id, what) ON more.noted TO `ro le`;
GRANT EXECUTE ON FUNCTION more.`quoted "fn"` TO second_role;
GRANT ALL ON `mo\_re%`.* TO second_role;
CREATE USER 'it''s "x"'@'192.168.%' IDENTIFIED BY 'first secret' REQUIRE SSL WITH MAX_USER_CONNECTIONS 7 PASSWORD EXPIRE INTERVAL 90 DAY ACCOUNT LOCK;
CREATE USER plain@localhost IDENTIFIED VIA mysql_native_password USING PASSWORD('second secret') OR unix_socket, proxied@'%';
GRANT `ro le` TO 'it''s "x"'@'192.168.%'; GRANT second_role TO 'it''s "x"'@'192.168.%'; GRANT `ro le` TO plain@localhost WITH ADMIN OPTION; GRANT second_role TO `ro le`;
GRANT PROXY ON proxied@'%' TO plain@localhost; SET DEFAULT ROLE `ro le` FOR plain@localhost;
GRANT RELOAD ON *.* TO plain@localhost WITH GRANT OPTION;
DROP USER passing@'%';
GRANT PROXY ON ''@'%' TO root@'127.0.0.1' WITH GRANT OPTION;
"#;

#[tokio::test]
async fn mariadb_is_the_same_after_all_of_it_was_dropped_and_made_again() {
    let server = MysqlServer::start(MysqlOptions::mariadb().arg("--log-bin-trust-function-creators=1"));
    server.sql(MORE);
    let mut connection = open(&server, "root", "").await;
    let before = read(&mut connection).await;
    check_facts(&before);
    let hash = server.value("SELECT authentication_string FROM mysql.user WHERE user LIKE 'it%'");
    assert!(hash.starts_with('*'), "{hash}");
    assert_stored_and_hidden(&before, &[&hash]);

    drop_all(&mut connection, &before).await;
    create_all(&mut connection, &before, &ballast_mysql::Naming::same(), true).await;
    let after = read(&mut connection).await;
    assert_same(&comparable(before), &comparable(after));
    // It goes on where it was: 5 was given out, and what was in the cache is lost as after any restart.
    assert_eq!(server.value("SELECT NEXTVAL(more.`se q`)"), "35");

    server.create_user("small", "tide", &[]);
    server.sql("GRANT SELECT ON more.base TO small@'%'; GRANT EXECUTE ON PROCEDURE more.from_latin1 TO small@'%'");
    let mut connection = open(&server, "small", "tide").await;
    let small = read(&mut connection).await;
    let named = left_out(&small);
    for begin in [
        "every table of \"more\": ",
        "every routine of \"more\": ",
        "every event of \"more\": ",
        "every account: ",
        "routine \"more.from_latin1\": the account may not see its text",
    ] {
        assert!(
            named.iter().any(|line| line.starts_with(begin)),
            "{begin} is not in {named:#?}"
        );
    }
}

fn check_facts(schema: &Schema) {
    let table = |name: &str| schema.tables.iter().find(|table| table.name == name).unwrap();
    assert_eq!(table("versioned").kind, TableKind::SystemVersioned);
    let openly = table("versioned_openly");
    assert_eq!(openly.column("st").unwrap().generated, Some(Generated::RowPeriod));
    assert!(openly.column("en").unwrap().invisible && openly.partitions == ["p0", "p9"]);
    let base = table("base");
    assert_eq!((base.kind, base.primary_key.len()), (TableKind::Ordinary, 1));
    assert!(base.column("h").unwrap().invisible && base.column("v").unwrap().generated == Some(Generated::Virtual));
    let sequences: Vec<_> = schema
        .sequences
        .iter()
        .map(|each| (each.name.as_str(), each.next, each.round))
        .collect();
    assert_eq!(sequences, [("around", 2, 1), ("down", -1, 0), ("se q", 35, 0)]);
    assert_eq!(
        schema
            .databases
            .iter()
            .find(|each| each.name == "more")
            .unwrap()
            .comment,
        "it's \"more\" \\ 雪"
    );
    let kinds: Vec<_> = schema.routines.iter().map(|routine| routine.kind).collect();
    assert!(kinds.contains(&RoutineKind::Package) && kinds.contains(&RoutineKind::PackageBody));
    let order: Vec<_> = schema.triggers.iter().map(|trigger| trigger.name.as_str()).collect();
    assert_eq!(order, ["a_zeroth", "tr `1", "z_second"]);
    let view = |name: &str| schema.views.iter().position(|view| view.name == name).unwrap();
    assert!(view("z_first") < view("middle") && view("middle") < view("a_last"));
    assert!(schema.views[view("broken")].invalid.is_some());
    let roles = schema
        .accounts
        .iter()
        .filter(|account| account.kind == AccountKind::Role);
    assert_eq!(
        roles.map(|role| role.user.as_str()).collect::<Vec<_>>(),
        ["ro le", "second_role"]
    );
    assert_eq!(left_out(schema).len(), 0, "{:?}", schema.left_out);
}
