//! The statements that make what was read again. Pure: no server is asked.
//!
//! Each list is run from first to last on one connection that nothing else uses meanwhile: it sets the session for the
//! object by itself and leaves it so. Lists may follow each other on a connection. The order in which kinds of objects can
//! be created is that of the fields of [`Schema`]; foreign keys come after all tables, and a view that fails may
//! be tried again after the others.

use super::sql_text::{Kind, tokens};
use super::table_text::{TableStatements, TableText};
use super::{
    Account, AccountKind, Creation, Database, Event, Library, Routine, Schema, SecretSql, Sequence, TableSchema,
    Trigger, View,
};
use crate::{MysqlError, quote_name, quote_table, quote_text};

/// What things are called where they are created.
pub struct Naming<'a> {
    pub database: &'a (dyn Fn(&str) -> String + Send + Sync),
    /// Of a table, its database and name. Must agree with `database` for tables that keep their database.
    pub table: &'a (dyn Fn(&str, &str) -> (String, String) + Send + Sync),
    /// Whether files go to the directories and tablespaces they were in; else all into the database's own.
    pub keep_places: bool,
}

impl Naming<'static> {
    /// As they were called.
    pub fn same() -> Self {
        Self {
            database: &str::to_owned,
            table: &|database, table| (database.to_owned(), table.to_owned()),
            keep_places: false,
        }
    }
}

impl std::fmt::Debug for Naming<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Naming")
            .field("keep_places", &self.keep_places)
            .finish_non_exhaustive()
    }
}

/// What a session that creates tables and loads rows is set to: statements, and whether going on without is safe. The
/// others are for what older servers or other settings allowed; an account or a server may refuse them.
pub fn creation_session(mariadb: bool) -> Vec<(String, bool)> {
    let must = [
        "SET NAMES utf8mb4",
        "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
        "SET SESSION time_zone = '+00:00'",
        "SET SESSION TRANSACTION READ WRITE",
        // MariaDB keeps the text of a view as it would show it, and cannot read some names without quotes.
        "SET SESSION sql_quote_show_create = 1",
        "SET SESSION foreign_key_checks = 0",
        "SET SESSION unique_checks = 0",
    ];
    let may: &[&str] = if mariadb {
        &[
            "SET SESSION check_constraint_checks = 0",
            "SET SESSION binlog_format = ROW",
            "SET SESSION system_versioning_alter_history = KEEP",
            "SET SESSION explicit_defaults_for_timestamp = 1",
            "SET SESSION innodb_strict_mode = 0",
        ]
    } else {
        &[
            "SET SESSION explicit_defaults_for_timestamp = 1",
            "SET SESSION innodb_strict_mode = 0",
            "SET SESSION sql_require_primary_key = 0",
            "SET SESSION sql_generate_invisible_primary_key = 0",
            "SET SESSION restrict_fk_on_non_standard_key = 0",
        ]
    };
    let must = must.iter().map(|sql| ((*sql).to_owned(), true));
    must.chain(may.iter().map(|sql| ((*sql).to_owned(), false))).collect()
}

impl Database {
    pub fn statement(&self, naming: &Naming<'_>) -> Result<String, MysqlError> {
        let rest = after_name(&self.create, "DATABASE")?;
        Ok(format!(
            "CREATE DATABASE {}{rest}",
            quote_name(&(naming.database)(&self.name))
        ))
    }
}

impl TableSchema {
    pub fn statements(&self, naming: &Naming<'_>) -> Result<TableStatements, MysqlError> {
        Ok(TableText::parse(&self.create)?.statements(&self.database, &self.name, naming))
    }
}

impl Sequence {
    pub fn statements(&self, naming: &Naming<'_>) -> Result<Vec<String>, MysqlError> {
        let (database, name) = (naming.table)(&self.database, &self.name);
        let place = quote_table(&database, &name);
        let rest = after_name(&self.create, "SEQUENCE")?;
        Ok(vec![
            "SET NAMES utf8mb4".to_owned(),
            format!("CREATE SEQUENCE {place}{rest}"),
            format!("DO SETVAL({place}, {}, 0, {})", self.next, self.round),
        ])
    }
}

impl Library {
    pub fn statements(&self, naming: &Naming<'_>) -> Vec<String> {
        let database = (naming.database)(&self.database);
        with_session(&database, &self.creation, None, &self.create, Vec::new())
    }
}

impl View {
    /// Fails where the view reads from a database or table that gets another name. One that differs only by case is what a server
    /// makes of it that does not tell them apart, and finds again.
    pub fn statements(&self, naming: &Naming<'_>) -> Result<Vec<String>, MysqlError> {
        let database = (naming.database)(&self.database);
        let view = (naming.table)(&self.database, &self.name);
        let all = tokens(&self.create);
        let names = |name: &str| {
            all.iter()
                .any(|token| token.kind == Kind::Name && token.name().as_deref() == Some(name))
        };
        let other = |what: &str| MysqlError::Unsupported {
            what: format!(
                "view \"{}.{}\" reads from {what}, which gets another name",
                self.database, self.name
            ),
            hint: "leave the view out, and create it again by hand from its text".to_owned(),
        };
        // In its own database alone the text names none.
        let same = |one: &str, other: &str| one.to_lowercase() == other.to_lowercase();
        if !same(&database, &self.database) && names(&self.database) {
            return Err(other(&format!("database \"{}\"", self.database)));
        }
        if !same(&view.0, &database) || !same(&view.1, &self.name) {
            return Err(other("itself"));
        }
        for name in all
            .iter()
            .filter(|token| token.kind == Kind::Name)
            .filter_map(super::sql_text::Token::name)
        {
            if !same(&(naming.table)(&self.database, &name).1, &name) {
                return Err(other(&format!("table \"{name}\"")));
            }
        }
        Ok(with_session(&database, &self.creation, None, &self.create, Vec::new()))
    }
}

impl Schema {
    /// Statements for a procedure, function or package.
    pub fn routine_statements(&self, routine: &Routine, naming: &Naming<'_>) -> Vec<String> {
        let database = (naming.database)(&routine.database);
        let collation = self.collation_of(&routine.database);
        with_session(&database, &routine.creation, collation, &routine.create, Vec::new())
    }

    pub fn trigger_statements(&self, trigger: &Trigger, naming: &Naming<'_>) -> Result<Vec<String>, MysqlError> {
        let (database, table) = (naming.table)(&trigger.database, &trigger.table);
        let collation = self.collation_of(&trigger.database);
        if database == trigger.database && table == trigger.table {
            return Ok(with_session(
                &database,
                &trigger.creation,
                collation,
                &trigger.create,
                Vec::new(),
            ));
        }
        // The head is made anew: MariaDB keeps it as it was typed, with or without the database.
        let body = trigger_body(&trigger.create).ok_or_else(|| {
            MysqlError::protocol(format!("the text of trigger \"{}.{}\"", trigger.database, trigger.name))
        })?;
        let sql = format!(
            "CREATE DEFINER={} TRIGGER {} {} {} ON {} FOR EACH ROW{body}",
            quote_definer(&trigger.definer),
            quote_table(&database, &trigger.name),
            trigger.timing,
            trigger.event,
            quote_table(&database, &table),
        );
        Ok(with_session(&database, &trigger.creation, collation, &sql, Vec::new()))
    }

    /// An event that was enabled may run at once where the server's event scheduler runs.
    pub fn event_statements(&self, event: &Event, naming: &Naming<'_>) -> Vec<String> {
        let database = (naming.database)(&event.database);
        let collation = self.collation_of(&event.database);
        let zone = vec![format!("SET SESSION time_zone = {}", quote_text(&event.time_zone))];
        with_session(&database, &event.creation, collation, &event.create, zone)
    }

    fn collation_of(&self, database: &str) -> Option<&str> {
        let found = self.databases.iter().find(|each| each.name == database);
        found.map(|each| each.collation.as_str())
    }

    /// All accounts of the kinds given: first all of them, then what they may do, then their default roles.
    pub fn account_statements(&self, kinds: &[AccountKind]) -> Vec<(&Account, SecretSql)> {
        let accounts = || self.accounts.iter().filter(|account| kinds.contains(&account.kind));
        let create = accounts().map(|account| (account, account.create.clone()));
        let grants = accounts().flat_map(|account| account.grants.iter().map(move |sql| (account, sql.clone())));
        let roles = accounts().filter_map(|account| Some((account, account.default_roles.clone()?)));
        create.chain(grants).chain(roles).collect()
    }
}

/// The text after the quoted name that follows the word.
fn after_name<'a>(create: &'a str, word: &str) -> Result<&'a str, MysqlError> {
    let all = tokens(create);
    let name = all.iter().skip_while(|token| !token.is_word(word)).nth(1);
    name.filter(|token| token.kind == Kind::Name)
        .and_then(|token| create.get(token.at.end..))
        .ok_or_else(|| MysqlError::protocol(format!("the text of a {}: {create:.200}", word.to_ascii_lowercase())))
}

/// All behind FOR EACH ROW, and behind a neighbour's name if there is one.
fn trigger_body(create: &str) -> Option<&str> {
    let all = tokens(create);
    let words = |at: usize, words: [&str; 3]| {
        (0..3).all(|n| {
            let pair = all.get(at + n).zip(words.get(n));
            pair.is_some_and(|(token, word)| token.is_word(word))
        })
    };
    let row = (0..all.len()).find(|at| words(*at, ["FOR", "EACH", "ROW"]))? + 2;
    let beside = all
        .get(row + 1)
        .is_some_and(|token| token.is_word("FOLLOWS") || token.is_word("PRECEDES"));
    create.get(all.get(if beside { row + 2 } else { row })?.at.end..)
}

/// `user@host` quoted; a role of MariaDB has no host.
fn quote_definer(definer: &str) -> String {
    match definer.rsplit_once('@') {
        Some((user, host)) if !host.is_empty() => format!("{}@{}", quote_name(user), quote_name(host)),
        Some((user, _)) => quote_name(user),
        None => quote_name(definer),
    }
}

/// `collation` is what the database's would be by itself: where the object was created under another, the database gets
/// that for the moment.
fn with_session(
    database: &str,
    creation: &Creation,
    collation: Option<&str>,
    sql: &str,
    more: Vec<String>,
) -> Vec<String> {
    // Names are sent before the session speaks the object's character set.
    let mut list = vec![
        "SET NAMES utf8mb4".to_owned(),
        format!("USE {}", quote_name(database)),
        format!("SET SESSION sql_mode = {}", quote_text(&creation.sql_mode)),
    ];
    list.extend(more);
    let alter = |collation: &str| format!("ALTER DATABASE {} COLLATE {collation}", quote_name(database));
    let other = collation
        .filter(|collation| !creation.database_collation.is_empty() && *collation != creation.database_collation);
    if other.is_some() {
        list.push(alter(&creation.database_collation));
    }
    if can_be_sent_as(&creation.character_set_client, sql) {
        list.push(format!(
            "SET SESSION character_set_client = {}",
            creation.character_set_client
        ));
    }
    if !creation.collation_connection.is_empty() {
        list.push(format!(
            "SET SESSION collation_connection = {}",
            creation.collation_connection
        ));
    }
    list.push(sql.to_owned());
    if let Some(collation) = other {
        list.push("SET NAMES utf8mb4".to_owned());
        list.push(alter(collation));
    }
    list
}

/// Whether the text's bytes, which are UTF-8, mean the same in the character set. If not, the object is created from
/// UTF-8: it is the same but for what it says its creator's character set was.
fn can_be_sent_as(charset: &str, text: &str) -> bool {
    match charset {
        "" => false,
        "utf8mb4" | "binary" => true,
        "utf8" | "utf8mb3" => text.chars().all(|c| u32::from(c) <= 0xFFFF),
        // The one character set that clients use and that is not ASCII below 128.
        "swe7" => false,
        _ => text.is_ascii(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn creation() -> Creation {
        Creation {
            sql_mode: "ANSI_QUOTES".to_owned(),
            character_set_client: "latin1".to_owned(),
            collation_connection: "latin1_bin".to_owned(),
            database_collation: "utf8mb4_bin".to_owned(),
        }
    }

    #[test]
    fn a_trigger_gets_a_new_head_and_keeps_its_body() {
        let mut schema = Schema::default();
        schema.databases.push(Database {
            name: "a".to_owned(),
            charset: "utf8mb4".to_owned(),
            collation: "utf8mb4_general_ci".to_owned(),
            comment: String::new(),
            create: "CREATE DATABASE `a` /*!40100 */".to_owned(),
        });
        let trigger = Trigger {
            database: "a".to_owned(),
            table: "for each row".to_owned(),
            name: "t`r".to_owned(),
            timing: "BEFORE".to_owned(),
            event: "INSERT".to_owned(),
            order: 1,
            definer: "o@dd@%".to_owned(),
            creation: creation(),
            create: "CREATE DEFINER=\"o@dd\"@\"%\" trigger a.`t``r` before insert on a.\"for each row\" for /* for each row */ each row FOLLOWS \"x\" begin -- é\nend".to_owned(),
        };
        let naming = Naming {
            database: &|_| "b".to_owned(),
            table: &|_, table| ("b".to_owned(), format!("{table}2")),
            keep_places: false,
        };
        assert_eq!(
            schema.trigger_statements(&trigger, &naming).unwrap(),
            [
                "SET NAMES utf8mb4",
                "USE `b`",
                "SET SESSION sql_mode = 'ANSI_QUOTES'",
                "ALTER DATABASE `b` COLLATE utf8mb4_bin",
                "SET SESSION collation_connection = latin1_bin",
                "CREATE DEFINER=`o@dd`@`%` TRIGGER `b`.`t``r` BEFORE INSERT ON `b`.`for each row2` FOR EACH ROW begin -- é\nend",
                "SET NAMES utf8mb4",
                "ALTER DATABASE `b` COLLATE utf8mb4_general_ci",
            ]
        );
        assert_eq!(
            schema.databases[0].statement(&naming).unwrap(),
            "CREATE DATABASE `b` /*!40100 */"
        );
    }

    #[test]
    fn a_view_that_names_what_is_renamed_is_refused() {
        let view = |create: &str| View {
            database: "a".to_owned(),
            name: "v".to_owned(),
            definer: "root@%".to_owned(),
            creation: creation(),
            create: create.to_owned(),
            invalid: None,
        };
        let moved = Naming {
            database: &|_| "b".to_owned(),
            table: &|_, table| ("b".to_owned(), table.to_owned()),
            keep_places: false,
        };
        assert!(
            view("CREATE VIEW `v` AS select `t`.`x` from `t`")
                .statements(&moved)
                .is_ok()
        );
        let error = view("CREATE VIEW `a`.`v` AS select `a`.`t`.`x` from `a`.`t`")
            .statements(&moved)
            .unwrap_err();
        assert!(error.to_string().contains("database \"a\""), "{error}");
        let renamed = Naming {
            database: &str::to_owned,
            table: &|database, table| (database.to_owned(), table.replace("orders", "rescue")),
            keep_places: false,
        };
        assert!(
            view("CREATE VIEW `v` AS select `orders`.`x` from `orders`")
                .statements(&renamed)
                .is_err()
        );
    }
}
