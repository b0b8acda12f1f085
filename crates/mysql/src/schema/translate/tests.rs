use proptest::prelude::*;

use super::*;
use crate::schema::table_text::TableText;
use crate::{
    Account, AccountKind, ColumnSchema, Creation, Routine, RoutineKind, SecretSql, Sequence, TableKind, TableSchema,
};

fn abilities(mariadb: bool) -> Abilities {
    let collations: &[&str] = if mariadb {
        &[
            "utf8mb4_general_ci",
            "utf8mb4_bin",
            "utf8mb4_nopad_bin",
            "utf8mb4_uca1400_nopad_ai_ci",
            "latin1_swedish_ci",
        ]
    } else {
        &[
            "utf8mb4_0900_ai_ci",
            "utf8mb4_general_ci",
            "utf8mb4_bin",
            "utf8mb4_0900_bin",
            "latin1_swedish_ci",
            "latin1_bin",
        ]
    };
    let can: &[Ability] = if mariadb {
        &[
            Ability::Uuid,
            Ability::InvisibleColumns,
            Ability::IgnoredKeys,
            Ability::CompressedColumns,
            Ability::SystemVersioning,
            Ability::Periods,
            Ability::Sequences,
            Ability::DefaultPartition,
        ]
    } else {
        &[
            Ability::Vector,
            Ability::InvisibleColumns,
            Ability::InvisibleKeys,
            Ability::FunctionalKeys,
            Ability::UnenforcedChecks,
            Ability::SpatialReference,
            Ability::Libraries,
        ]
    };
    let charset = |name: &str| name.split('_').next().unwrap().to_owned();
    let mut to = Abilities {
        mariadb,
        can: can.iter().copied().collect(),
        engines: ["innodb", "myisam"].map(str::to_owned).into(),
        privileges: ["SELECT", "UPDATE", "EXECUTE", "USAGE"].map(str::to_owned).into(),
        login_plugins: ["mysql_native_password"].map(str::to_owned).into(),
        ..Abilities::default()
    };
    for name in collations {
        to.default_collations
            .entry(charset(name))
            .or_insert_with(|| (*name).to_owned());
        to.collations.insert((*name).to_owned(), charset(name));
    }
    to
}

/// A table as it would be read; columns as `name type`, texts of the collation given.
fn table(create: &str, collation: &str, columns: &[&str]) -> TableSchema {
    let column = |text: &&str| {
        let (name, data_type) = text.rsplit_once(' ').unwrap();
        let text = data_type.ends_with("text") || data_type.ends_with("char");
        ColumnSchema {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            column_type: data_type.to_owned(),
            nullable: true,
            charset: text.then(|| collation.split('_').next().unwrap().to_owned()),
            collation: text.then(|| collation.to_owned()),
            octet_length: text.then_some(80),
            generated: None,
            invisible: false,
        }
    };
    TableSchema {
        database: "db".to_owned(),
        name: "t".to_owned(),
        kind: TableKind::Ordinary,
        engine: "InnoDB".to_owned(),
        collation: collation.to_owned(),
        comment: String::new(),
        rows: 0,
        data_bytes: 0,
        index_bytes: 0,
        columns: columns.iter().map(column).collect(),
        primary_key: Vec::new(),
        unique_keys: Vec::new(),
        partitions: Vec::new(),
        generated_primary_key: false,
        create: create.to_owned(),
    }
}

fn translated(table: TableSchema, to: &Abilities) -> Translated {
    let schema = Schema {
        mariadb: !to.mariadb,
        tables: vec![table],
        ..Schema::default()
    };
    schema.translate(to, &|_, _| true, true)
}

fn said(result: &Translated) -> Vec<String> {
    let changes = result
        .changes
        .iter()
        .map(|change| format!("{}: {}", change.object, change.what));
    changes.chain(result.losses.iter().map(ToString::to_string)).collect()
}

#[test]
fn a_table_of_mysql_in_the_words_of_mariadb() {
    let mut to = abilities(true);
    to.missing_functions.insert("uuid_to_bin".to_owned());
    let create = "CREATE TABLE `t` (
  `id` int NOT NULL AUTO_INCREMENT,
  `a` varchar(20) COLLATE utf8mb4_bin DEFAULT 'x, (''' COMMENT 'INVISIBLE, )',
  `b` int GENERATED ALWAYS AS ((`id` * 2)) STORED NOT NULL /*!80023 INVISIBLE */,
  `c` binary(16) DEFAULT (uuid_to_bin(uuid())),
  `d` vector(3) DEFAULT NULL,
  `e` point NOT NULL /*!80003 SRID 4326 */,
  `f` int DEFAULT '7' /*!80023 INVISIBLE */,
  PRIMARY KEY (`id`),
  UNIQUE KEY `u` (`a`),
  KEY `unseen` (`a`(5) DESC) /*!80000 INVISIBLE */,
  KEY `e` (((`id` % 10))),
  FULLTEXT KEY `w` (`a`) /*!50100 WITH PARSER `ngram` */,
  CONSTRAINT `c1` CHECK ((`id` < 9)) /*!80016 NOT ENFORCED */,
  CONSTRAINT `c2` CHECK ((`a` <> (_utf8mb4'x' collate utf8mb4_0900_ai_ci)))
) /*!50100 TABLESPACE `x` */ ENGINE=InnoDB AUTO_INCREMENT=5 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci COMPRESSION='zlib' COMMENT='ENGINE=x'
/*!50100 PARTITION BY KEY /*!50611 ALGORITHM = 2 */ (id)
PARTITIONS 3 */";
    let mut table = table(
        create,
        "utf8mb4_0900_ai_ci",
        &[
            "id int",
            "a varchar",
            "b int",
            "c binary",
            "d vector",
            "e point",
            "f int",
        ],
    );
    table.columns[1].collation = Some("utf8mb4_bin".to_owned());
    let result = translated(table, &to);
    assert_eq!(
        result.schema.tables[0].create,
        "CREATE TABLE `t` (
  `id` int NOT NULL AUTO_INCREMENT,
  `a` varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT 'x, (''' COMMENT 'INVISIBLE, )',
  `b` int GENERATED ALWAYS AS ((`id` * 2)) STORED INVISIBLE,
  `c` binary(16),
  `d` varbinary(12) DEFAULT NULL,
  `e` point NOT NULL,
  `f` int DEFAULT '7' INVISIBLE,
  PRIMARY KEY (`id`),
  UNIQUE KEY `u` (`a`),
  KEY `unseen` (`a`(5) DESC) IGNORED,
  FULLTEXT KEY `w` (`a`),
  CONSTRAINT `c2` CHECK ((`a` <> (_utf8mb4'x' collate utf8mb4_uca1400_nopad_ai_ci)))
) ENGINE=InnoDB AUTO_INCREMENT=5 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_uca1400_nopad_ai_ci COMMENT='ENGINE=x'
PARTITION BY KEY (id)
PARTITIONS 3"
    );
    assert_eq!(
        said(&result),
        [
            "table db.t: collation utf8mb4_0900_ai_ci becomes utf8mb4_uca1400_nopad_ai_ci: the order of texts may differ",
            "table db.t: option COMPRESSION=zlib is left out",
            "table db.t: `d` is vector(3) and becomes varbinary(12)",
            "table db.t: the spatial reference system of `e` is not declared; its values keep theirs, and their x and y",
            "NOT NULL of `b` of db.t: the target has none for computed columns",
            "default of `c` of db.t: it calls uuid_to_bin(), which the target does not have",
            "key `e` of db.t: the target has no keys on expressions",
            "parser ngram of key `w` of db.t: the target does not have it, and finds words its own way",
            "check `c1` of db.t: it is not enforced, and the target enforces all",
        ]
    );
}

#[test]
fn a_table_of_mariadb_in_the_words_of_mysql() {
    let mut to = abilities(false);
    to.missing_functions.insert("nextval".to_owned());
    let create = "CREATE TABLE `t` (
  `id` bigint(20) NOT NULL DEFAULT nextval(`db`.`s`),
  `a` varchar(20) DEFAULT curdate() CHECK (`a` <> 'x'),
  `b` text /*M!100301 COMPRESSED*/ DEFAULT 'x',
  `c` uuid NOT NULL DEFAULT uuid(),
  `d` int(11) DEFAULT NULL WITHOUT SYSTEM VERSIONING,
  `st` timestamp(6) GENERATED ALWAYS AS ROW START INVISIBLE,
  `en` timestamp(6) GENERATED ALWAYS AS ROW END INVISIBLE,
  PRIMARY KEY (`id`,`en`),
  UNIQUE KEY `k` (`d`,`p p` WITHOUT OVERLAPS),
  UNIQUE KEY `l` (`b`) USING HASH,
  KEY `i` (`d`) IGNORED,
  PERIOD FOR SYSTEM_TIME (`st`, `en`),
  PERIOD FOR `p p` (`x`, `y`),
  CONSTRAINT `CONSTRAINT_1` CHECK (`d` < 5)
) ENGINE=Aria DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_uca1400_ai_ci PAGE_CHECKSUM=1 WITH SYSTEM VERSIONING ROW_FORMAT=PAGE
 PARTITION BY SYSTEM_TIME INTERVAL 1 MONTH
(PARTITION `p0` HISTORY ENGINE = Aria,
 PARTITION `p9` CURRENT ENGINE = Aria)";
    let table = table(
        create,
        "utf8mb4_uca1400_ai_ci",
        &[
            "id bigint",
            "a varchar",
            "b text",
            "c uuid",
            "d int",
            "st timestamp",
            "en timestamp",
        ],
    );
    let result = translated(table, &to);
    assert_eq!(
        result.schema.tables[0].create,
        "CREATE TABLE `t` (
  `id` bigint(20) NOT NULL,
  `a` varchar(20) DEFAULT (curdate()) CHECK (`a` <> 'x'),
  `b` text DEFAULT ('x'),
  `c` char(36) CHARACTER SET ascii COLLATE ascii_general_ci NOT NULL DEFAULT (uuid()),
  `d` int(11) DEFAULT NULL,
  PRIMARY KEY (`id`),
  KEY `k` (`d`),
  KEY `i` (`d`) INVISIBLE,
  CHECK (`d` < 5)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci"
    );
    let said = said(&result);
    for begin in [
        "table db.t: engine Aria becomes InnoDB",
        "default of `id` of db.t: it calls nextval()",
        "system versioning of db.t: ",
        "WITHOUT OVERLAPS of key `k` of db.t: ",
        "key `l` of db.t: it is longer",
        "period `p p` of db.t: ",
        "table db.t: it is not divided",
    ] {
        assert!(
            said.iter().any(|line| line.starts_with(begin)),
            "{begin} is not in {said:#?}"
        );
    }
}

#[test]
fn what_the_target_knows_stays_as_it_is() {
    let create = "CREATE TABLE `t` (\n  `a` varchar(9) DEFAULT NULL /*!80023 INVISIBLE */\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci COMPRESSION='zlib'";
    let schema = Schema {
        tables: vec![table(create, "utf8mb4_0900_ai_ci", &["a varchar"])],
        ..Schema::default()
    };
    let result = schema.translate(&abilities(false), &|_, _| true, true);
    assert_eq!(result.schema, schema);
    assert_eq!(said(&result), [""; 0]);
    // An older version without hidden columns.
    let mut older = abilities(false);
    older.can.remove(&Ability::InvisibleColumns);
    let result = schema.translate(&older, &|_, _| true, true);
    assert_eq!(said(&result), ["table db.t: `a` becomes visible"]);
    assert!(!result.schema.tables[0].create.contains("INVISIBLE"));
}

fn account(kind: AccountKind, user: &str, host: &str, create: &str, grants: &[&str]) -> Account {
    Account {
        user: user.to_owned(),
        host: host.to_owned(),
        kind,
        create: SecretSql::new(create.to_owned()),
        grants: grants.iter().map(|sql| SecretSql::new((*sql).to_owned())).collect(),
        default_roles: None,
    }
}

#[test]
fn nobody_gets_in_without_the_password_and_nobody_gets_more_rights() {
    let hash = "*97C51D2BC06B45DE7B4DA14C866D08D62AC812E0";
    let hex: String = hash.bytes().map(|byte| format!("{byte:02X}")).collect();
    let native = format!(
        "CREATE USER `n`@`%` IDENTIFIED WITH 'mysql_native_password' AS 0x{hex} REQUIRE SSL PASSWORD EXPIRE DEFAULT ACCOUNT LOCK"
    );
    let empty = "CREATE USER `e`@`%` IDENTIFIED WITH 'mysql_native_password' REQUIRE NONE PASSWORD EXPIRE DEFAULT";
    let sha2 = "CREATE USER `s`@`%` IDENTIFIED WITH 'caching_sha2_password' AS 0x2441 REQUIRE NONE";
    let two = format!("CREATE USER `o`@`%` IDENTIFIED VIA mysql_native_password USING '{hash}' OR unix_socket");
    let mut with_default = account(
        AccountKind::User,
        "n",
        "%",
        &native,
        &[
            "GRANT SELECT, BACKUP_ADMIN ON *.* TO `n`@`%` WITH GRANT OPTION",
            "GRANT SELECT (`a`, `b`), UPDATE (`a`) ON `d`.`t` TO `n`@`%`",
            "GRANT `r`@`%` TO `n`@`%` WITH ADMIN OPTION",
            "REVOKE SELECT ON `d`.* FROM `n`@`%`",
            "GRANT `gone`@`%` TO `n`@`%`",
        ],
    );
    with_default.default_roles = Some(SecretSql::new("SET DEFAULT ROLE `r`@`%` TO `n`@`%`".to_owned()));
    let accounts = vec![
        account(
            AccountKind::Role,
            "r",
            "%",
            "CREATE USER `r`@`%` …",
            &["GRANT USAGE ON *.* TO `r`@`%`"],
        ),
        account(
            AccountKind::Role,
            "r",
            "localhost",
            "CREATE USER `r`@`localhost` …",
            &[],
        ),
        with_default,
        account(AccountKind::User, "e", "%", empty, &["GRANT SELECT ON *.* TO `e`@`%`"]),
        account(AccountKind::User, "s", "%", sha2, &["GRANT SELECT ON *.* TO `s`@`%`"]),
        account(AccountKind::User, "o", "%", &two, &[]),
    ];
    let schema = Schema {
        accounts,
        ..Schema::default()
    };
    let result = schema.translate(&abilities(true), &|_, _| true, true);
    let statements: Vec<_> = result
        .schema
        .account_statements(&[AccountKind::User, AccountKind::Role])
        .into_iter()
        .map(|(_, sql)| sql.expose().to_owned())
        .collect();
    assert_eq!(
        statements,
        [
            "CREATE ROLE `r`".to_owned(),
            format!("CREATE USER `n`@`%` IDENTIFIED BY PASSWORD '{hash}' REQUIRE SSL ACCOUNT LOCK"),
            "GRANT USAGE ON *.* TO `r`".to_owned(),
            "GRANT SELECT ON *.* TO `n`@`%` WITH GRANT OPTION".to_owned(),
            "GRANT SELECT (`a`, `b`), UPDATE (`a`) ON `d`.`t` TO `n`@`%`".to_owned(),
            "GRANT `r` TO `n`@`%` WITH ADMIN OPTION".to_owned(),
            "SET DEFAULT ROLE `r` FOR `n`@`%`".to_owned(),
        ]
    );
    let said = said(&result);
    for begin in [
        "account r@localhost: another role",
        "account e@%: ",
        "account s@%: it logs in by caching_sha2_password",
        "account o@%: it logs in by mysql_native_password or unix_socket",
        "rights of account n@%: the target has no BACKUP_ADMIN",
        "a right of account n@%: it takes something back",
        "a right of account n@%: role gone is not carried",
    ] {
        assert!(
            said.iter().any(|line| line.starts_with(begin)),
            "{begin} is not in {said:#?}"
        );
    }
    assert!(!format!("{said:?}").contains("97C51D"), "a hash is shown");
}

#[test]
fn what_only_mariadb_has_is_left_out_by_name() {
    let mut to = abilities(false);
    to.missing_modes.insert("NO_AUTO_CREATE_USER".to_owned());
    let routine = |name: &str, kind| Routine {
        database: "db".to_owned(),
        name: name.to_owned(),
        kind,
        definer: "a@%".to_owned(),
        creation: Creation {
            sql_mode: "ANSI_QUOTES,NO_AUTO_CREATE_USER".to_owned(),
            character_set_client: "utf8mb4".to_owned(),
            collation_connection: "utf8mb4_uca1400_ai_ci".to_owned(),
            database_collation: "latin1_swedish_ci".to_owned(),
        },
        create: "CREATE …".to_owned(),
    };
    let schema = Schema {
        mariadb: true,
        sequences: vec![Sequence {
            database: "db".to_owned(),
            name: "s".to_owned(),
            next: 1,
            round: 0,
            create: String::new(),
        }],
        routines: vec![routine("p", RoutineKind::Package), routine("f", RoutineKind::Function)],
        ..Schema::default()
    };
    let result = schema.translate(&to, &|_, _| true, true);
    assert!(result.schema.sequences.is_empty());
    let [function] = result.schema.routines.as_slice() else {
        panic!("{:?}", result.schema.routines)
    };
    assert_eq!(function.creation.sql_mode, "ANSI_QUOTES");
    assert_eq!(function.creation.collation_connection, "utf8mb4_0900_ai_ci");
    assert_eq!(function.creation.database_collation, "latin1_swedish_ci");
    let said = said(&result);
    for begin in [
        "sequence db.s: ",
        "package db.p: ",
        "function db.f: it goes without the SQL mode NO_AUTO_CREATE_USER",
        "function db.f: it compares texts by utf8mb4_0900_ai_ci",
    ] {
        assert!(
            said.iter().any(|line| line.starts_with(begin)),
            "{begin} is not in {said:#?}"
        );
    }
}

proptest! {
    #[test]
    fn no_name_or_text_is_taken_for_a_clause(
        names in prop::collection::vec("(KEY|\\)|,|\\(|`|'|\"|\n|\\\\|雪|COLLATE |/\\*!| |--|#|x){1,6}", 3),
        comment in "(KEY|\\)|,|\\(|`|'|\"|\n|\\\\|雪|INVISIBLE| DEFAULT|ENGINE=x|/\\*|\\*/|#|-- ){0,12}",
        mariadb: bool,
    ) {
        let (a, b, key) = (quote_name(&names[0]), quote_name(&names[1]), quote_name(&names[2]));
        let comment = quote_text(&comment);
        let columns = format!("{a} int NOT NULL AUTO_INCREMENT COMMENT {comment},\n  {b} varchar(9) DEFAULT {comment}");
        let keys = format!("PRIMARY KEY ({a}),\n  KEY {key} ({b}(3),{a} DESC) COMMENT {comment}");
        let create = format!("CREATE TABLE `t` (\n  {columns},\n  {keys}\n) ENGINE=InnoDB DEFAULT CHARSET=latin1 COLLATE=latin1_swedish_ci COMMENT={comment}");
        let columns = [format!("{} int", names[0]), format!("{} varchar", names[1])];
        prop_assume!(names[0] != names[1]);
        let table = table(&create, "latin1_swedish_ci", &columns.each_ref().map(String::as_str));
        let result = translated(table, &abilities(mariadb));
        prop_assert_eq!(&result.schema.tables[0].create, &create);
        prop_assert_eq!(said(&result), [""; 0]);
    }

    #[test]
    fn no_text_makes_it_panic(
        text in "[`'(),A-Z \\\\雪\n=.]{0,60}(KEY|DEFAULT|WITH PARSER|PERIOD FOR|GENERATED ALWAYS AS|PARTITION BY|SYSTEM_TIME)?[`'(),=. ]{0,9}",
        mariadb: bool,
    ) {
        let create = format!("CREATE TABLE `t` (`a` int, {text}");
        let result = translated(table(&create, "utf8mb4_0900_ai_ci", &["a int"]), &abilities(mariadb));
        // What was understood is understood again.
        prop_assert!(!result.tables_left_out.is_empty() || TableText::parse(&result.schema.tables[0].create).is_ok());
    }
}
