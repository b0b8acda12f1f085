use proptest::prelude::*;

use super::*;
use crate::{Naming, quote_text};

fn split(create: &str) -> TableStatements {
    TableText::parse(create).unwrap().statements("db", "t", &Naming::same())
}

#[test]
fn secondary_keys_and_foreign_keys_wait_and_the_rest_stays() {
    let create = "CREATE TABLE `t` (
  `id` int NOT NULL AUTO_INCREMENT,
  `a` int DEFAULT '3' /*!80023 INVISIBLE */ COMMENT 'KEY `x` (`y`), PRIMARY KEY ( it''s \\' \\\\',
  `b` varchar(40) GENERATED ALWAYS AS (concat(_utf8mb4'),(',`a`)) STORED NOT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `u` (`b`(5),`a` DESC),
  KEY `unseen` (`b`) /*!80000 INVISIBLE */,
  KEY `k` (`a`) COMMENT ', KEY',
  SPATIAL KEY `s` (`g`),
  KEY `e` (((`a` % 10))),
  UNIQUE KEY `e2` ((cast(`tags` as unsigned array)),`a`),
  FULLTEXT KEY `f1` (`b`),
  FULLTEXT KEY `f2` (`b`) /*!50100 WITH PARSER `ngram` */ ,
  CONSTRAINT `fk ``odd` FOREIGN KEY (`a`) REFERENCES `p` (`id`) ON DELETE CASCADE,
  CONSTRAINT `t_ibfk_2` FOREIGN KEY (`a`) REFERENCES `other`.`p` (`id`),
  CONSTRAINT `small` CHECK ((`a` < 1000)) /*!80016 NOT ENFORCED */
) ENGINE=InnoDB AUTO_INCREMENT=4 COMMENT='a \"b\" ) ,'";
    let split = split(create);
    assert_eq!(
        split.create,
        "CREATE TABLE `db`.`t` (
  `id` int NOT NULL AUTO_INCREMENT,
  `a` int DEFAULT '3' /*!80023 INVISIBLE */ COMMENT 'KEY `x` (`y`), PRIMARY KEY ( it''s \\' \\\\',
  `b` varchar(40) GENERATED ALWAYS AS (concat(_utf8mb4'),(',`a`)) STORED NOT NULL,
  PRIMARY KEY (`id`),
  CONSTRAINT `small` CHECK ((`a` < 1000)) /*!80016 NOT ENFORCED */
) ENGINE=InnoDB AUTO_INCREMENT=4 COMMENT='a \"b\" ) ,'"
    );
    assert_eq!(
        split.keys,
        [
            "ALTER TABLE `db`.`t`\n  ADD UNIQUE KEY `u` (`b`(5),`a` DESC),\n  ADD KEY `unseen` (`b`) /*!80000 INVISIBLE */,\n  ADD KEY `k` (`a`) COMMENT ', KEY',\n  ADD SPATIAL KEY `s` (`g`)",
            "ALTER TABLE `db`.`t`\n  ADD KEY `e` (((`a` % 10))),\n  ADD UNIQUE KEY `e2` ((cast(`tags` as unsigned array)),`a`)",
            "ALTER TABLE `db`.`t`\n  ADD FULLTEXT KEY `f1` (`b`)",
            "ALTER TABLE `db`.`t`\n  ADD FULLTEXT KEY `f2` (`b`) /*!50100 WITH PARSER `ngram` */",
        ]
    );
    assert_eq!(
        split.foreign_keys.unwrap(),
        "ALTER TABLE `db`.`t`\n  ADD CONSTRAINT `fk ``odd` FOREIGN KEY (`a`) REFERENCES `db`.`p` (`id`) ON DELETE CASCADE,\n  ADD CONSTRAINT `t_ibfk_2` FOREIGN KEY (`a`) REFERENCES `other`.`p` (`id`)"
    );
    let parsed = TableText::parse(create).unwrap();
    assert_eq!(parsed.primary_key().len(), 1);
    let unique: Vec<_> = parsed.unique_keys().collect();
    assert_eq!(unique.len(), 1);
    assert_eq!((unique[0].1[0].prefix, unique[0].1[1].descending), (Some(5), true));
}

#[test]
fn keys_that_something_needs_stay() {
    let keys = |definitions: &str, options: &str| {
        let split = split(&format!("CREATE TABLE `t` (\n  {definitions}\n) ENGINE=x{options}"));
        let count = |text: &str| text.matches("KEY `").count();
        (
            count(&split.create),
            split.keys.iter().map(|sql| count(sql)).sum::<usize>(),
        )
    };
    let columns = "`a` int NOT NULL, `b` int DEFAULT NULL, `n` int NOT NULL AUTO_INCREMENT";
    // AUTO_INCREMENT: the first key that begins with its column, and the ones before it.
    assert_eq!(
        keys(
            &format!("{columns}, PRIMARY KEY (`a`), KEY `b` (`b`), KEY `n` (`n`), KEY `c` (`n`)"),
            ""
        ),
        (2, 1)
    );
    assert_eq!(
        keys(&format!("{columns}, PRIMARY KEY (`n`), KEY `b` (`b`)"), ""),
        (0, 1)
    );
    assert_eq!(
        keys(
            &format!("{columns}, PRIMARY KEY (`a`), KEY `x` (`b`), KEY `n` (`a`,`n`), KEY `c` (`b`)"),
            ""
        ),
        (2, 1)
    );
    // No primary key: rows are stored by a unique one.
    let columns = "`a` int NOT NULL, `b` int DEFAULT NULL CHECK ((`b` is not null))";
    assert_eq!(
        keys(
            &format!("{columns}, UNIQUE KEY `a` (`a`), UNIQUE KEY `b` (`b`), KEY `c` (`a`)"),
            ""
        ),
        (1, 2)
    );
    assert_eq!(keys(&format!("{columns}, UNIQUE KEY `b` (`b`)"), ""), (0, 1));
    assert_eq!(
        keys(
            &format!("{columns}, UNIQUE KEY `b` (`b`), KEY `c` (`a`)"),
            "\n/*!50100 PARTITION BY KEY () */"
        ),
        (1, 1)
    );
    assert_eq!(
        keys(&format!("{columns}, UNIQUE KEY `b` (`b`)"), " COMMENT='PARTITION'"),
        (0, 1)
    );
}

#[test]
fn another_name_goes_everywhere_the_table_is_named() {
    let naming = Naming {
        database: &str::to_owned,
        table: &|database, table| match (database, table) {
            ("db", "t") => ("db".to_owned(), "t`2".to_owned()),
            ("db", "p") => ("far".to_owned(), "p2".to_owned()),
            _ => (database.to_owned(), table.to_owned()),
        },
        keep_places: false,
    };
    let create = "CREATE TABLE `t` (`t` int NOT NULL DEFAULT nextval(`db`.`p`),
  CONSTRAINT `t_ibfk_1` FOREIGN KEY (`t`) REFERENCES `t` (`t`),
  CONSTRAINT `mine` FOREIGN KEY (`t`) REFERENCES `p` (`t`),
  CONSTRAINT `3` FOREIGN KEY (`t`) REFERENCES `db`.`p` (`REFERENCES`) ON DELETE SET NULL,
  CONSTRAINT `t_chk_1` CHECK ((`t` <> 't')),
  CONSTRAINT `c` CHECK ((`t` <> 't'))
) ENGINE=MRG_MyISAM UNION=(`p`,`db`.`t`,`x`.`y`) DATA DIRECTORY='/a b' COMMENT='DATA DIRECTORY=''x'''
/*!50100 TABLESPACE `gen` */ /*!50500 PARTITION BY RANGE (`t`)
(PARTITION here VALUES LESS THAN (10) TABLESPACE = `innodb_system` ENGINE = InnoDB,
 PARTITION there VALUES LESS THAN MAXVALUE DATA DIRECTORY = '/x' ENGINE = InnoDB) */";
    let parsed = TableText::parse(create).unwrap();
    let split = parsed.statements("db", "t", &naming);
    assert_eq!(
        split.create,
        "CREATE TABLE `db`.`t``2` (\n  `t` int NOT NULL DEFAULT nextval(`far`.`p2`),\n  CHECK ((`t` <> 't')),\n  CHECK ((`t` <> 't'))\n) ENGINE=MRG_MyISAM UNION=(`far`.`p2`,`db`.`t``2`,`x`.`y`)  COMMENT='DATA DIRECTORY=''x'''
/*!50100  */ /*!50500 PARTITION BY RANGE (`t`)
(PARTITION here VALUES LESS THAN (10) TABLESPACE = `innodb_system` ENGINE = InnoDB,
 PARTITION there VALUES LESS THAN MAXVALUE  ENGINE = InnoDB) */"
    );
    assert_eq!(
        split.foreign_keys.unwrap(),
        "ALTER TABLE `db`.`t``2`\n  ADD FOREIGN KEY (`t`) REFERENCES `db`.`t``2` (`t`),\n  ADD FOREIGN KEY (`t`) REFERENCES `far`.`p2` (`t`),\n  ADD FOREIGN KEY (`t`) REFERENCES `far`.`p2` (`REFERENCES`) ON DELETE SET NULL"
    );
    // In another database names of constraints are free.
    let far = Naming {
        database: &str::to_owned,
        table: &|_, table| ("far".to_owned(), table.replace('t', "u")),
        keep_places: false,
    };
    let far = parsed.statements("db", "t", &far);
    assert!(far.create.contains("CONSTRAINT `u_chk_1` CHECK") && far.create.contains("CONSTRAINT `c` CHECK"));
    let foreign = far.foreign_keys.unwrap();
    assert!(
        foreign.contains("CONSTRAINT `u_ibfk_1` FOREIGN KEY (`t`) REFERENCES `far`.`u`"),
        "{foreign}"
    );
    assert!(foreign.contains("CONSTRAINT `mine` FOREIGN KEY"), "{foreign}");
    let kept = Naming {
        keep_places: true,
        ..naming
    };
    let kept = parsed.statements("db", "t", &kept).create;
    assert!(
        kept.contains("TABLESPACE `gen`") && kept.contains("DATA DIRECTORY = '/x'"),
        "{kept}"
    );
}

proptest! {
    #[test]
    fn no_name_or_text_is_taken_for_a_clause(
        names in prop::collection::vec("(KEY|PRIMARY KEY|\\)|,|\\(|`|'|\"|\n|\\\\|雪|🧨|REFERENCES|/\\*!| |--|#|x){1,6}", 6),
        comment in "(KEY|\\)|,|\\(|`|'|\"|\n|\\\\|雪|🧨|PARTITION BY| FOREIGN KEY|/\\*|\\*/|#|-- ){0,12}",
    ) {
        let name = |at: usize| quote_name(&names[at]);
        let (a, b, key, fk, parent, database) = (name(0), name(1), name(2), name(3), name(4), names[5].as_str());
        let comment = quote_text(&comment);
        let a_line = format!("{a} int NOT NULL AUTO_INCREMENT COMMENT {comment}");
        let b_line = format!("{b} varchar(9) DEFAULT {comment} /*!80023 INVISIBLE */");
        let key_line = format!("KEY {key} ({b}(3),{a} DESC) COMMENT {comment}");
        let unique = format!("UNIQUE KEY {fk} ((concat({b},_utf8mb4{comment})))");
        let create = format!(
            "CREATE TABLE `t` (\n  {a_line},\n  {b_line},\n  PRIMARY KEY ({a}),\n  {key_line},\n  {unique},\n  CONSTRAINT {fk} FOREIGN KEY ({b}) REFERENCES {parent} ({a})\n) ENGINE=InnoDB COMMENT={comment}"
        );
        let parsed = TableText::parse(&create).unwrap();
        prop_assert_eq!(&parsed.primary_key()[0].column, &names[0]);
        let split = parsed.statements(database, "t", &Naming::same());
        let place = quote_table(database, "t");
        prop_assert_eq!(
            split.create,
            format!("CREATE TABLE {place} (\n  {a_line},\n  {b_line},\n  PRIMARY KEY ({a})\n) ENGINE=InnoDB COMMENT={comment}")
        );
        prop_assert_eq!(
            split.keys,
            vec![format!("ALTER TABLE {place}\n  ADD {key_line}"), format!("ALTER TABLE {place}\n  ADD {unique}")]
        );
        let parent = format!("{}.{parent}", quote_name(database));
        prop_assert_eq!(
            split.foreign_keys.unwrap(),
            format!("ALTER TABLE {place}\n  ADD CONSTRAINT {fk} FOREIGN KEY ({b}) REFERENCES {parent} ({a})")
        );
    }

    #[test]
    fn no_text_makes_it_panic(text in "(CREATE TABLE )?[`'(),A-Z \\\\雪\n=.]{0,60}(KEY|REFERENCES|UNION|TABLESPACE)?[`'(),=. ]{0,9}") {
        if let Ok(parsed) = TableText::parse(&text) {
            drop(parsed.statements("db", "t", &Naming { keep_places: false, ..Naming::same() }));
            drop((parsed.primary_key(), parsed.unique_keys().count()));
        }
    }
}
