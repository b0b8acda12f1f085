//! What following the log as a replica needs, beside what [`crate::log_requirements`] says of any log that is to be of use.
//! A pure function of the facts.

use std::collections::BTreeMap;

use crate::facts::Facts;
use crate::{Connection, Flavour, MysqlError, Requirement, Severity, variables};

const MYSQL_SEMI_SYNC: &str = "rpl_semi_sync_source";
/// MariaDB's, and MySQL's with the plugin of before 8.0.26.
const OLD_SEMI_SYNC: &str = "rpl_semi_sync_master";
/// A server that waits for a recorder waits no longer than this, in milliseconds, before it goes on without.
const WAIT_MILLISECONDS: std::ops::RangeInclusive<u64> = 1_000..=60_000;
const WAIT_SUGGESTED: &str = "10000";

/// What following needs to know of a server, read once and only read.
#[derive(Debug, Clone, Default)]
pub struct FollowFacts {
    variables: BTreeMap<String, String>,
    /// Whether commits wait for an acknowledgement now.
    semi_sync_status: Option<String>,
}

impl FollowFacts {
    pub async fn read(connection: &mut Connection) -> Result<Self, MysqlError> {
        let mut names = vec!["binlog_checksum".to_owned(), "encrypt_binlog".to_owned()];
        for prefix in [MYSQL_SEMI_SYNC, OLD_SEMI_SYNC] {
            for name in [
                "enabled",
                "timeout",
                "wait_point",
                "wait_for_replica_count",
                "wait_for_slave_count",
            ] {
                names.push(format!("{prefix}_{name}"));
            }
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let status = connection
            .query("SHOW GLOBAL STATUS WHERE Variable_name IN ('Rpl_semi_sync_source_status', 'Rpl_semi_sync_master_status')")
            .await?;
        Ok(Self {
            variables: variables(connection, &names).await?,
            semi_sync_status: status
                .rows
                .first()
                .and_then(|row| row.text(1))
                .map(std::borrow::Cow::into_owned),
        })
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// How this server's variables begin; `None` without the plugin.
    fn semi_sync(&self) -> Option<&'static str> {
        [MYSQL_SEMI_SYNC, OLD_SEMI_SYNC]
            .into_iter()
            .find(|prefix| self.variables.contains_key(&format!("{prefix}_enabled")))
    }
}

/// `semi_sync`: whether the server is to wait for us.
pub fn follow_requirements(facts: &Facts, follow: &FollowFacts, semi_sync: bool) -> Vec<Requirement> {
    use Severity::{Must, Should};
    let mariadb = facts.version.flavour == Flavour::MariaDb;
    let monitor = if mariadb {
        "BINLOG MONITOR"
    } else {
        "REPLICATION CLIENT"
    };
    let mut list = vec![
        privilege(facts, "REPLICATION SLAVE", &[], "to be sent the log"),
        privilege(
            facts,
            monitor,
            &["REPLICATION CLIENT", "SUPER"],
            "to see which log files there are",
        ),
    ];
    let checksum = follow.variable("binlog_checksum").unwrap_or("NONE");
    list.push(Requirement {
        name: "binlog_checksum",
        expected: "CRC32, so that damage on the way is found".to_owned(),
        actual: checksum.to_owned(),
        remedy: set(facts, "binlog_checksum", "'CRC32'"),
        ok: checksum == "CRC32",
        severity: Should,
    });
    if mariadb {
        let encrypted = follow.variable("encrypt_binlog").unwrap_or("OFF");
        list.push(Requirement {
            name: "encrypt_binlog",
            expected: "OFF: of an encrypted file not all is sent, so it cannot be kept as it is".to_owned(),
            actual: encrypted.to_owned(),
            remedy: "in my.cnf: encrypt_binlog=OFF, then restart the server".to_owned(),
            ok: encrypted == "OFF",
            severity: Must,
        });
    }
    if semi_sync {
        list.extend(semi_sync_requirements(facts, follow));
    }
    list
}

fn semi_sync_requirements(facts: &Facts, follow: &FollowFacts) -> Vec<Requirement> {
    use Severity::{Must, Should};
    let Some(prefix) = follow.semi_sync() else {
        return vec![Requirement {
            name: "semi-sync",
            expected: "the plugin, so that commits can wait for the recorder".to_owned(),
            actual: "not installed".to_owned(),
            remedy: "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'; \
                     SET PERSIST rpl_semi_sync_source_enabled = 1;"
                .to_owned(),
            ok: false,
            severity: Must,
        }];
    };
    let value = |name: &str| follow.variable(&format!("{prefix}_{name}"));
    let remedy = |name: &str, to: &str| set(facts, &format!("{prefix}_{name}"), to);
    let enabled = value("enabled").unwrap_or("OFF");
    let timeout = value("timeout").unwrap_or("not there");
    let mut list = vec![
        Requirement {
            name: "semi-sync",
            expected: "ON, so that commits wait for the recorder".to_owned(),
            actual: enabled.to_owned(),
            remedy: remedy("enabled", "1"),
            ok: enabled == "ON",
            severity: Must,
        },
        Requirement {
            name: "semi-sync timeout",
            expected: format!(
                "{} to {} ms: commits wait so long for a recorder that does not answer, then go on without it",
                WAIT_MILLISECONDS.start(),
                WAIT_MILLISECONDS.end()
            ),
            actual: timeout.to_owned(),
            remedy: remedy("timeout", WAIT_SUGGESTED),
            ok: timeout.parse().is_ok_and(|wait| WAIT_MILLISECONDS.contains(&wait)),
            severity: Should,
        },
    ];
    if let Some(point) = value("wait_point") {
        list.push(Requirement {
            name: "semi-sync wait point",
            expected: "AFTER_SYNC: nobody reads what the recorder does not have yet".to_owned(),
            actual: point.to_owned(),
            remedy: remedy("wait_point", "'AFTER_SYNC'"),
            ok: point == "AFTER_SYNC",
            severity: Should,
        });
    }
    if enabled == "ON"
        && let Some(status) = &follow.semi_sync_status
    {
        list.push(Requirement {
            name: "semi-sync status",
            expected: "ON: commits wait for an acknowledgement".to_owned(),
            actual: status.clone(),
            remedy: "let the recorder (ballast archive) run: the server goes on without it after the timeout, and waits again once it is back"
                .to_owned(),
            ok: status == "ON",
            severity: Should,
        });
    }
    list
}

fn privilege(facts: &Facts, name: &'static str, or: &[&str], why: &str) -> Requirement {
    let ok = facts.has_privilege(name) || or.iter().any(|other| facts.has_privilege(other));
    Requirement {
        name: match name {
            "REPLICATION SLAVE" => "privilege REPLICATION SLAVE",
            "BINLOG MONITOR" => "privilege BINLOG MONITOR",
            _ => "privilege REPLICATION CLIENT",
        },
        expected: format!("{name} ON *.*, {why}"),
        actual: if ok { "granted" } else { "not granted" }.to_owned(),
        remedy: format!("GRANT {name} ON *.* TO {};", facts.account),
        ok,
        severity: Severity::Must,
    }
}

fn set(facts: &Facts, name: &str, to: &str) -> String {
    let verb = if facts.version.flavour == Flavour::MariaDb {
        "GLOBAL"
    } else {
        "PERSIST"
    };
    format!("SET {verb} {name} = {to};")
}
