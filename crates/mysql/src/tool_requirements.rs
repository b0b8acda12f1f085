//! What a backup by the vendor's own tool needs: the tool of the server's series, on the server's machine, with its rights.

use std::fs::File;
use std::path::Path;

use crate::requirements::none_of;
use crate::{BackupTool, Facts, Flavour, Requirement, Severity};

/// What the tools copy rows of. BLACKHOLE and SEQUENCE have none.
const COPIED_ENGINES: [&str; 8] = [
    "InnoDB",
    "Aria",
    "MyISAM",
    "CSV",
    "ARCHIVE",
    "MRG_MyISAM",
    "BLACKHOLE",
    "SEQUENCE",
];

impl BackupTool {
    /// Whether the rows of tables of this engine are in a backup of the tool.
    pub fn copies(engine: &str) -> bool {
        COPIED_ENGINES.iter().any(|known| known.eq_ignore_ascii_case(engine))
    }
}

/// What a backup by `tool` needs of the server, its account, and this machine, whose files are looked at.
pub fn tool_requirements(facts: &Facts, tool: &BackupTool) -> Vec<Requirement> {
    use Severity::{Must, Should};
    let is_mariadb = facts.version.flavour == Flavour::MariaDb;
    let name = tool.name();
    let (major, minor) = facts.version.series();
    let mut list = vec![
        Requirement {
            name: "backup tool",
            expected: format!("one of the server's series, {major}.{minor} ({})", facts.version),
            actual: format!("{name} of {}", tool.version),
            remedy: format!("install {name} of the server's series, or name it in the source with: tool = \"PATH\""),
            ok: facts.version.same_series(&tool.version),
            severity: Must,
        },
        same_machine(facts),
        data_directory(facts),
    ];
    let privileges: &[(&'static str, &'static str, Severity)] = if is_mariadb {
        &[
            ("privilege RELOAD", "RELOAD", Must),
            ("privilege PROCESS", "PROCESS", Must),
            ("privilege BINLOG MONITOR", "BINLOG MONITOR", Must),
        ]
    } else {
        &[
            ("privilege BACKUP_ADMIN", "BACKUP_ADMIN", Must),
            ("privilege RELOAD", "RELOAD", Must),
            ("privilege PROCESS", "PROCESS", Must),
            ("privilege LOCK TABLES", "LOCK TABLES", Should),
            ("privilege REPLICATION CLIENT", "REPLICATION CLIENT", Must),
        ]
    };
    for (title, privilege, severity) in privileges {
        // The older name of the same.
        let ok = facts.has_privilege(privilege)
            || (*privilege == "BINLOG MONITOR" && facts.has_privilege("REPLICATION CLIENT"));
        list.push(Requirement {
            name: title,
            expected: format!("{privilege} ON *.*"),
            actual: if ok { "granted" } else { "not granted" }.to_owned(),
            remedy: format!("GRANT {privilege} ON *.* TO {};", facts.account),
            ok,
            severity: *severity,
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
        remedy: format!("GRANT REFERENCES ON *.* TO {};", facts.account),
        ok: facts.sees_all_tables(),
        severity: Must,
    });
    let keys = "none: a restore has not the server's keys";
    let rows = "take rows instead, with: --engine logical".to_owned();
    let encrypted = facts.encrypted_tablespaces.clone().unwrap_or_default();
    list.push(none_of("encrypted tablespaces", keys, &encrypted, rows.clone()));
    let log = facts.variable("innodb_encrypt_log").filter(|value| *value == "ON");
    let log: Vec<_> = log.map(|_| "innodb_encrypt_log = ON".to_owned()).into_iter().collect();
    list.push(none_of("encrypted log", keys, &log, rows));
    list
}

/// The tool asks the server where its files are and reads them here: on another machine it finds nothing, or somebody else's.
fn same_machine(facts: &Facts) -> Requirement {
    let here = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let there = facts.variable("hostname").unwrap_or_default();
    Requirement {
        name: "machine",
        expected: format!("the server runs on this machine (\"{here}\"), whose files the tool reads"),
        actual: format!("it runs on \"{there}\""),
        remedy: format!("run ballast on \"{there}\", or take rows over the network with: --engine logical"),
        ok: !there.is_empty() && here.eq_ignore_ascii_case(there),
        severity: Severity::Must,
    }
}

fn data_directory(facts: &Facts) -> Requirement {
    let folder = facts.variable("datadir").unwrap_or_default();
    let looked = look(Path::new(folder));
    Requirement {
        name: "data directory",
        expected: format!("\"{folder}\" can be read by this process"),
        actual: match &looked {
            Ok(()) => "it can".to_owned(),
            Err(error) => format!("it cannot: {error}"),
        },
        remedy: "run ballast as the server's system user, such as: sudo -u mysql ballast …, or as root".to_owned(),
        ok: looked.is_ok(),
        severity: Severity::Must,
    }
}

/// The folder, and a file of the server in it.
fn look(folder: &Path) -> std::io::Result<()> {
    drop(std::fs::read_dir(folder)?);
    match File::open(folder.join("ibdata1")) {
        // It may have another name, or lie elsewhere.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ServerVersion;

    fn facts(folder: &Path, host: &str, privileges: &[&str]) -> Facts {
        let variables = [("datadir", folder.to_str().unwrap()), ("hostname", host)];
        Facts {
            version: ServerVersion::parse("10.11.18-MariaDB-0+deb12u1-log", "Debian 12").unwrap(),
            variables: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            account: "'backup'@'%'".to_owned(),
            privileges: privileges
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<BTreeSet<_>>(),
            clone_plugin: None,
            tables: Vec::new(),
            encrypted_tablespaces: None,
            file_bytes: None,
            redo_log_enabled: true,
        }
    }

    fn lacking(facts: &Facts, tool: &str) -> Vec<&'static str> {
        let tool = BackupTool {
            path: "/usr/bin/mariadb-backup".into(),
            unpacker: "/usr/bin/mbstream".into(),
            version: ServerVersion::parse(tool, "MariaDB").unwrap(),
        };
        let list = tool_requirements(facts, &tool);
        list.into_iter()
            .filter(|point| !point.ok)
            .map(|point| point.name)
            .collect()
    }

    #[test]
    fn what_is_lacking_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let here = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let all = ["RELOAD", "PROCESS", "BINLOG MONITOR", "REFERENCES"];
        let good = facts(folder.path(), &here, &all);
        assert_eq!(lacking(&good, "10.11.2-MariaDB"), Vec::<&str>::new());
        assert_eq!(lacking(&good, "10.6.2-MariaDB"), ["backup tool"]);
        let away = facts(folder.path(), "another-host", &all);
        assert_eq!(lacking(&away, "10.11.2-MariaDB"), ["machine"]);
        let nowhere = facts(&folder.path().join("absent"), &here, &["PROCESS"]);
        assert_eq!(
            lacking(&nowhere, "10.11.2-MariaDB"),
            [
                "data directory",
                "privilege RELOAD",
                "privilege BINLOG MONITOR",
                "privilege on tables"
            ]
        );
        let mut locked = good;
        locked.encrypted_tablespaces = Some(vec!["balance/orders_0".to_owned()]);
        locked
            .variables
            .insert("innodb_encrypt_log".to_owned(), "ON".to_owned());
        assert_eq!(
            lacking(&locked, "10.11.2-MariaDB"),
            ["encrypted tablespaces", "encrypted log"]
        );
    }
}
