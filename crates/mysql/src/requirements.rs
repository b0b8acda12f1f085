//! What a server must be and have to be cloned and followed: each point with what is expected, what is there, and what to
//! type.
//!
//! [`Facts::read`] only reads, and needs the least: an account that sees nothing gets the missing privileges named
//! instead of an error. [`clone_requirements`] and [`log_requirements`] are pure functions of the facts; what reading rows needs is in
//! [`crate::row_requirements`].

use crate::facts::{Facts, TableFact};
use crate::{Flavour, quote_name};

/// The first release whose server can be cloned.
const CLONE_SINCE: (u16, u16, u16) = (8, 0, 17);
/// Tables that are read beside a clone should have no more: their writers wait as long.
const BESIDE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// How long the binary log should be kept on the server: long enough to come back after a week away.
const LOG_SECONDS_MIN: u64 = 7 * 24 * 3600;
/// Binary log files of this size are copied, purged and looked through in good time.
const LOG_FILE_BYTES_MAX: u64 = 100 * 1024 * 1024;
/// A message names at most this many things.
const NAMED_MAX: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Without it, it does not work or is not safe.
    Must,
    /// It works without, with less.
    Should,
}

/// One point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub name: &'static str,
    pub expected: String,
    pub actual: String,
    /// What to type to mend it.
    pub remedy: String,
    pub ok: bool,
    pub severity: Severity,
}

/// What a physical copy by the clone protocol needs.
pub fn clone_requirements(facts: &Facts) -> Vec<Requirement> {
    use Severity::Must;
    let account = &facts.account;
    let (major, minor, patch) = CLONE_SINCE;
    let can_clone = facts.version.flavour != Flavour::MariaDb && facts.version.numeric() >= CLONE_SINCE;
    let mut list = vec![Requirement {
        name: "server version",
        expected: format!("MySQL or Percona Server {major}.{minor}.{patch} or later"),
        actual: facts.version.to_string(),
        remedy: "choose another engine for this server".to_owned(),
        ok: can_clone,
        severity: Must,
    }];
    if !can_clone {
        return list;
    }
    list.push(Requirement {
        name: "clone plugin",
        expected: "ACTIVE".to_owned(),
        actual: facts.clone_plugin.clone().unwrap_or_else(|| "not installed".to_owned()),
        remedy: "INSTALL PLUGIN clone SONAME 'mysql_clone.so'; -- and in my.cnf: plugin-load-add=mysql_clone.so"
            .to_owned(),
        ok: facts.clone_plugin.as_deref() == Some("ACTIVE"),
        severity: Must,
    });
    for (name, privilege, why, severity) in [
        ("privilege BACKUP_ADMIN", "BACKUP_ADMIN", "to be cloned", Must),
        (
            "privilege PROCESS",
            "PROCESS",
            "to see encrypted tablespaces and the size of the data",
            Must,
        ),
        (
            "privilege RELOAD",
            "RELOAD",
            "to hold commits while the position is read",
            Severity::Should,
        ),
        (
            "privilege REPLICATION CLIENT",
            "REPLICATION CLIENT",
            "to read the binlog's file and offset",
            Severity::Should,
        ),
    ] {
        let ok = facts.has_privilege(privilege);
        list.push(Requirement {
            name,
            expected: format!("{privilege} ON *.*, {why}"),
            actual: if ok { "granted" } else { "not granted" }.to_owned(),
            remedy: format!("GRANT {privilege} ON *.* TO {account};"),
            ok,
            severity,
        });
    }
    list.push(Requirement {
        name: "privilege on tables",
        expected: "any privilege on all tables, such as SELECT or REFERENCES ON *.*, to see which tables there are"
            .to_owned(),
        actual: if facts.sees_all_tables() {
            "granted"
        } else {
            "not granted"
        }
        .to_owned(),
        // The least of them: it shows the names and allows to read nothing.
        remedy: format!("GRANT REFERENCES ON *.* TO {account};"),
        ok: facts.sees_all_tables(),
        severity: Must,
    });
    list.push(none_of(
        "storage engines",
        "no table of a user outside InnoDB, MyISAM, CSV, ARCHIVE, MEMORY and BLACKHOLE: it would come back broken",
        &named(facts.tables.iter().filter(|table| table.is_in_no_copy())),
        facts
            .tables
            .iter()
            .find(|table| table.is_in_no_copy())
            .map_or_else(String::new, into_innodb),
    ));
    list.extend(beside(facts));
    let encrypted = facts.encrypted_tablespaces.clone().unwrap_or_default();
    let remedy = encrypted
        .first()
        .map_or_else(String::new, |name| match name.split_once('/') {
            Some((schema, table)) => format!("ALTER TABLE {} ENCRYPTION='N';", crate::quote_table(schema, table)),
            None => format!("ALTER TABLESPACE {} ENCRYPTION='N';", quote_name(name)),
        });
    list.push(none_of(
        "encrypted tablespaces",
        "none: the server's keys would have to be copied too",
        &encrypted,
        remedy,
    ));
    for name in ["innodb_redo_log_encrypt", "innodb_undo_log_encrypt"] {
        list.push(setting(facts, name, "OFF", Must, |value| value == "OFF"));
    }
    list.push(Requirement {
        name: "redo log",
        expected: "enabled".to_owned(),
        actual: if facts.redo_log_enabled { "enabled" } else { "disabled" }.to_owned(),
        remedy: "ALTER INSTANCE ENABLE INNODB REDO_LOG;".to_owned(),
        ok: facts.redo_log_enabled,
        severity: Must,
    });
    list
}

/// What the rows of tables need that are read beside a clone. Nothing where there are none.
fn beside(facts: &Facts) -> Vec<Requirement> {
    let Some(first) = facts.tables_beside().next() else {
        return Vec::new();
    };
    let names = shortened(&named(facts.tables_beside()));
    let account = &facts.account;
    let mut list = Vec::new();
    for (name, privilege, why) in [
        ("privilege SELECT", "SELECT", "to read"),
        (
            "privilege LOCK TABLES",
            "LOCK TABLES",
            "to let stand still while they are read",
        ),
        ("privilege TRIGGER", "TRIGGER", "to bring back with their triggers"),
    ] {
        let ok = facts.has_privilege(privilege);
        list.push(Requirement {
            name,
            expected: format!("{privilege} ON *.*, {why} the tables outside InnoDB: {names}"),
            actual: if ok { "granted" } else { "not granted" }.to_owned(),
            remedy: format!("GRANT {privilege} ON *.* TO {account};"),
            ok,
            severity: Severity::Must,
        });
    }
    let bytes = facts
        .tables_beside()
        .map(|table| table.bytes)
        .fold(0, u64::saturating_add);
    list.push(Requirement {
        name: "tables outside InnoDB",
        expected: format!("{BESIDE_BYTES_MAX} bytes (1 GiB) or less: who writes to them waits while they are read"),
        actual: format!("{bytes} bytes in {names}"),
        remedy: into_innodb(first),
        ok: bytes <= BESIDE_BYTES_MAX,
        severity: Severity::Should,
    });
    list
}

fn named<'a>(tables: impl Iterator<Item = &'a TableFact>) -> Vec<String> {
    tables
        .map(|table| format!("{}.{} ({})", table.schema, table.name, table.engine))
        .collect()
}

fn into_innodb(table: &TableFact) -> String {
    format!(
        "ALTER TABLE {} ENGINE=InnoDB;",
        crate::quote_table(&table.schema, &table.name)
    )
}

/// What following the binary log needs, and what makes a committed transaction survive a crash of the server.
pub fn log_requirements(facts: &Facts) -> Vec<Requirement> {
    use Severity::{Must, Should};
    let mut list = vec![Requirement {
        name: "log_bin",
        expected: "ON".to_owned(),
        actual: facts.variable("log_bin").unwrap_or("OFF").to_owned(),
        remedy: "in my.cnf: log-bin=binlog, then restart the server".to_owned(),
        ok: facts.variable("log_bin") == Some("ON"),
        severity: Must,
    }];
    // Deprecated, and gone from later releases, which then write rows always.
    list.push(optional_setting(facts, "binlog_format", "ROW", Must, |value| {
        value == "ROW"
    }));
    list.push(optional_setting(facts, "binlog_row_image", "FULL", Should, |value| {
        value.eq_ignore_ascii_case("FULL")
    }));
    if facts.version.flavour != Flavour::MariaDb {
        list.push(Requirement {
            // It is switched on in steps, from OFF through OFF_PERMISSIVE and ON_PERMISSIVE.
            remedy: match facts.variable("gtid_mode") {
                Some("OFF") => {
                    "SET PERSIST gtid_mode = OFF_PERMISSIVE; SET PERSIST gtid_mode = ON_PERMISSIVE; \
                                SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = ON;"
                }
                _ => "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = ON;",
            }
            .to_owned(),
            ..setting(facts, "gtid_mode", "ON", Must, |value| value == "ON")
        });
    }
    list.push(setting(facts, "sync_binlog", "1", Should, |value| value == "1"));
    list.push(setting(facts, "innodb_flush_log_at_trx_commit", "1", Should, |value| {
        value == "1"
    }));
    let kept_long_enough =
        |value: &str| value == "0" || value.parse().is_ok_and(|seconds: u64| seconds >= LOG_SECONDS_MIN);
    list.push(Requirement {
        expected: format!("{LOG_SECONDS_MIN} (7 days) or more, or 0 for ever"),
        ..optional_setting(facts, "binlog_expire_logs_seconds", "604800", Should, kept_long_enough)
    });
    let small_enough = |value: &str| value.parse().is_ok_and(|bytes: u64| bytes <= LOG_FILE_BYTES_MAX);
    list.push(Requirement {
        expected: format!("{LOG_FILE_BYTES_MAX} (100 MiB) or less"),
        ..setting(facts, "max_binlog_size", "104857600", Should, small_enough)
    });
    list
}

fn setting(
    facts: &Facts,
    name: &'static str,
    value: &str,
    severity: Severity,
    good: impl Fn(&str) -> bool,
) -> Requirement {
    let actual = facts.variable(name);
    let quoted = if value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.to_owned()
    } else {
        format!("'{value}'")
    };
    let verb = if facts.version.flavour == Flavour::MariaDb {
        "GLOBAL"
    } else {
        "PERSIST"
    };
    Requirement {
        name,
        expected: value.to_owned(),
        actual: actual.unwrap_or("not there").to_owned(),
        remedy: format!("SET {verb} {name} = {quoted};"),
        ok: actual.is_some_and(good),
        severity,
    }
}

/// A server without the variable does what is expected.
fn optional_setting(
    facts: &Facts,
    name: &'static str,
    value: &str,
    severity: Severity,
    good: impl Fn(&str) -> bool,
) -> Requirement {
    let mut requirement = setting(facts, name, value, severity, good);
    requirement.ok |= facts.variable(name).is_none();
    requirement
}

fn shortened(found: &[String]) -> String {
    let more = found.len().saturating_sub(NAMED_MAX);
    let mut text = found.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    if found.is_empty() {
        text.push_str("none");
    }
    text
}

pub(crate) fn none_of(name: &'static str, expected: &str, found: &[String], remedy: String) -> Requirement {
    Requirement {
        name,
        expected: expected.to_owned(),
        actual: shortened(found),
        remedy,
        ok: found.is_empty(),
        severity: Severity::Must,
    }
}
