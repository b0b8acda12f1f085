//! What an account needs to read every row and every object of one moment. A pure function of the facts.
//!
//! Rights on single databases are not among the facts, and may be enough for a source that names its databases: where one is
//! missing on everything, it is said and keeps nobody from trying. The backup itself names what it could not see.

use crate::facts::Facts;
use crate::{Flavour, Requirement, Severity};

/// A privilege, others that serve as well, and what it is for.
type Need = (&'static str, &'static str, &'static [&'static str], &'static str);

const EVERYWHERE: [Need; 5] = [
    ("privilege SELECT", "SELECT", &[], "to read rows"),
    ("privilege SHOW VIEW", "SHOW VIEW", &[], "to read the texts of views"),
    ("privilege TRIGGER", "TRIGGER", &[], "to see triggers"),
    ("privilege EVENT", "EVENT", &[], "to see events"),
    (
        "privilege PROCESS",
        "PROCESS",
        &[],
        "to see statements that would stand in the way of locks",
    ),
];
const MYSQL: [Need; 4] = [
    (
        "privilege RELOAD",
        "RELOAD",
        &["FLUSH_TABLES"],
        "to hold commits while all connections open their snapshots; without it that they are of one moment has to be proved by the log, which writers may prevent",
    ),
    (
        "privilege BACKUP_ADMIN",
        "BACKUP_ADMIN",
        &[],
        "to hold changes of definitions back; without it the backup fails where one is changed meanwhile",
    ),
    (
        "privilege REPLICATION CLIENT",
        "REPLICATION CLIENT",
        &["SUPER"],
        "to read the binlog's file and offset",
    ),
    (
        "privilege SHOW_ROUTINE",
        "SHOW_ROUTINE",
        &["SELECT"],
        "to read the code of routines",
    ),
];
const MARIADB: [Need; 3] = [
    (
        "privilege RELOAD",
        "RELOAD",
        &[],
        "to hold commits while all connections open their snapshots, and changes of definitions back",
    ),
    (
        "privilege BINLOG MONITOR",
        "BINLOG MONITOR",
        &["REPLICATION CLIENT", "SUPER"],
        "to read the binlog's file and offset",
    ),
    (
        "privilege BINLOG ADMIN",
        "BINLOG ADMIN",
        &["SUPER"],
        "to give tables back once they are read; without it DDL on such a table waits until the backup ends, and holds up everybody who comes after it",
    ),
];

/// What a backup by rows needs.
pub fn row_requirements(facts: &Facts) -> Vec<Requirement> {
    let own: &[Need] = if facts.version.flavour == Flavour::MariaDb {
        &MARIADB
    } else {
        &MYSQL
    };
    EVERYWHERE
        .iter()
        .chain(own)
        .map(|need| privilege(facts, need))
        .collect()
}

fn privilege(facts: &Facts, (name, privilege, others, why): &Need) -> Requirement {
    let held = std::iter::once(privilege)
        .chain(*others)
        .any(|privilege| facts.has_privilege(privilege));
    Requirement {
        name,
        expected: format!("{privilege} ON *.*, {why}"),
        actual: if held { "granted" } else { "not granted on everything" }.to_owned(),
        remedy: format!("GRANT {privilege} ON *.* TO {};", facts.account),
        ok: held,
        // Of an account that sees no table nothing can be read at all.
        severity: if *privilege == "SELECT" && facts.tables.is_empty() {
            Severity::Must
        } else {
            Severity::Should
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServerVersion;

    fn missing(version: &str, privileges: &[&str]) -> Vec<String> {
        let facts = Facts {
            version: ServerVersion::parse(version, "").unwrap(),
            variables: std::collections::BTreeMap::new(),
            account: "'backup'@'%'".to_owned(),
            privileges: privileges.iter().map(|name| (*name).to_owned()).collect(),
            clone_plugin: None,
            tables: Vec::new(),
            encrypted_tablespaces: None,
            file_bytes: None,
            redo_log_enabled: true,
        };
        let list = row_requirements(&facts);
        list.into_iter()
            .filter(|requirement| !requirement.ok)
            .map(|requirement| requirement.remedy)
            .collect()
    }

    #[test]
    fn what_is_missing_is_named_with_its_grant() {
        let common = ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT", "PROCESS", "RELOAD"];
        let with = |more: &[&'static str]| [&common, more].concat();
        assert_eq!(
            missing("10.11.18-MariaDB", &with(&["BINLOG MONITOR"])),
            ["GRANT BINLOG ADMIN ON *.* TO 'backup'@'%';"]
        );
        assert_eq!(missing("10.4.1-MariaDB", &with(&["SUPER"])), [""; 0]);
        assert_eq!(
            missing("9.7.4", &with(&["REPLICATION CLIENT"])),
            ["GRANT BACKUP_ADMIN ON *.* TO 'backup'@'%';"]
        );
        assert_eq!(missing("9.7.4", &["ALL PRIVILEGES", "BACKUP_ADMIN"]), [""; 0]);
        assert_eq!(missing("9.7.4", &[]).len(), 9);
    }
}
