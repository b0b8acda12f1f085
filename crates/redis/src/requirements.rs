//! What a server must be and have to be backed up and followed, and how it should save by itself: each point with what is
//! expected, what is there, and what to type.
//!
//! Pure functions of [`Facts`], which only reads. An account that may not read the settings gets that named, instead of points
//! that would be guesses. What a backup needs before it forks the server is in `memory.rs`.

mod memory;

use ballast_base::format_bytes;

pub use self::memory::{ForkRoom, fork_room};
use crate::server::{Facts, NEEDED_COMMANDS};

/// When a stock server saves by itself: after this many seconds if this many keys changed.
const SAVE_RULES: &str = "3600 1 300 100 60 10000";
/// A rewrite of the append-only file begins when it has doubled…
const REWRITE_PERCENT: u64 = 100;
/// … and is no smaller than this.
const REWRITE_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// A backlog of the server's default is overwritten within a second at full speed. This much outlives a restart of ours.
const BACKLOG_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// What a replica may lag in the server's memory before it is dropped: the server's own default.
const OUTPUT_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// The first release that knows snapshots without a stream after them, and more than the stream needs.
const RELEASE_MIN: (u16, u16, u16) = (6, 2, 0);

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

/// What a snapshot over the network needs.
pub fn snapshot_requirements(facts: &Facts) -> Vec<Requirement> {
    use Severity::{Must, Should};
    let (major, minor, patch) = RELEASE_MIN;
    let mut list = vec![Requirement {
        name: "server version",
        expected: format!("Redis {major}.{minor}.{patch} or later, or Valkey"),
        actual: facts.version.to_string(),
        remedy: "update the server; an older one was never tried".to_owned(),
        ok: facts.version.numeric() >= RELEASE_MIN,
        severity: Should,
    }];
    list.push(rights(facts));
    list.push(Requirement {
        name: "cluster",
        expected: "off: each primary of a cluster holds a part only".to_owned(),
        actual: if facts.info.is_cluster() { "on" } else { "off" }.to_owned(),
        remedy: "name each primary of the cluster as a source".to_owned(),
        ok: !facts.info.is_cluster(),
        severity: Should,
    });
    if facts.info.is_replica() {
        let up = facts.info.text("master_link_status").unwrap_or("unknown");
        list.push(Requirement {
            name: "link of the replica to its primary",
            expected: "up: a replica without its primary gives no snapshot".to_owned(),
            actual: up.to_owned(),
            remedy: "look at INFO replication on the replica, and at its log".to_owned(),
            ok: up == "up",
            severity: Must,
        });
    }
    list.extend(memory::requirements(facts));
    list
}

/// The account's rights, and the line that gives them.
fn rights(facts: &Facts) -> Requirement {
    let wanted: Vec<String> = NEEDED_COMMANDS.iter().map(|command| format!("+{command}")).collect();
    Requirement {
        name: "rights of the account",
        expected: wanted.join(" "),
        actual: if facts.denied.is_empty() {
            "granted".to_owned()
        } else {
            let denied: Vec<String> = facts.denied.iter().map(|command| format!("no +{command}")).collect();
            denied.join(" ")
        },
        remedy: recorder_rights(&facts.account),
        ok: facts.denied.is_empty(),
        severity: Severity::Must,
    }
}

/// The line that makes an account that can do no more than be a recorder: it reads no key by itself and writes none.
pub fn recorder_rights(account: &str) -> String {
    format!(
        "ACL SETUSER {account} on >PASSWORD resetkeys resetchannels -@all +ping +psync +replconf +info +acl|whoami +config|get +client|setname +client|list"
    )
}

/// How the server saves by itself, and what following its commands needs.
pub fn log_requirements(facts: &Facts) -> Vec<Requirement> {
    use Severity::Should;
    if facts.settings.is_none() {
        return vec![Requirement {
            name: "settings",
            expected: "can be read, to be checked".to_owned(),
            actual: "CONFIG GET is not allowed".to_owned(),
            remedy: format!("ACL SETUSER {} +config|get", facts.account),
            ok: false,
            severity: Should,
        }];
    }
    let mut list = vec![
        equal(facts, "save", SAVE_RULES),
        equal(facts, "appendonly", "yes"),
        equal(facts, "appendfsync", "everysec"),
        equal(facts, "auto-aof-rewrite-percentage", &REWRITE_PERCENT.to_string()),
        equal(facts, "auto-aof-rewrite-min-size", &REWRITE_BYTES_MIN.to_string()),
        at_least(facts, "repl-backlog-size", BACKLOG_BYTES_MIN),
        output_limit(facts),
    ];
    list.push(min_replicas(facts));
    list
}

fn there<'a>(facts: &'a Facts, name: &str) -> &'a str {
    facts.setting(name).unwrap_or("not there")
}

fn equal(facts: &Facts, name: &'static str, value: &str) -> Requirement {
    let actual = there(facts, name);
    let quoted = if value.contains(' ') {
        format!("\"{value}\"")
    } else {
        value.to_owned()
    };
    Requirement {
        name,
        expected: value.to_owned(),
        actual: if actual.is_empty() { "nothing" } else { actual }.to_owned(),
        remedy: set(name, &quoted),
        ok: actual == value,
        severity: Severity::Should,
    }
}

/// What holds until the next start, and what makes it stay.
fn set(name: &str, value: &str) -> String {
    format!("CONFIG SET {name} {value} and then CONFIG REWRITE")
}

fn at_least(facts: &Facts, name: &'static str, bytes: u64) -> Requirement {
    let actual = facts.setting_number(name);
    Requirement {
        name,
        expected: format!(
            "{bytes} ({}) or more: an interruption that outlasts it costs a snapshot",
            format_bytes(bytes)
        ),
        actual: there(facts, name).to_owned(),
        remedy: set(name, &bytes.to_string()),
        ok: actual.is_some_and(|actual| actual >= bytes),
        severity: Severity::Should,
    }
}

/// `class hard soft seconds`, once for each class; a hard limit of 0 is none.
fn output_limit(facts: &Facts) -> Requirement {
    const NAME: &str = "client-output-buffer-limit";
    let words: Vec<&str> = there(facts, NAME).split(' ').collect();
    let place = words.iter().position(|word| matches!(*word, "slave" | "replica"));
    let numbers: Vec<u64> = place
        .and_then(|place| words.get(place + 1..place + 4))
        .unwrap_or_default()
        .iter()
        .filter_map(|word| word.parse().ok())
        .collect();
    let (ok, actual) = match numbers.as_slice() {
        [hard, soft, seconds] => (
            *hard == 0 || *hard >= OUTPUT_BYTES_MIN,
            format!("replica {hard} {soft} {seconds}"),
        ),
        _ => (false, "not there".to_owned()),
    };
    Requirement {
        name: NAME,
        expected: format!(
            "{OUTPUT_BYTES_MIN} ({}) or more for replicas: one that lags more is dropped",
            format_bytes(OUTPUT_BYTES_MIN)
        ),
        actual,
        remedy: set(NAME, &format!("\"replica {OUTPUT_BYTES_MIN} 67108864 60\"")),
        ok,
        severity: Severity::Should,
    }
}

/// A recorder counts as a replica.
fn min_replicas(facts: &Facts) -> Requirement {
    let wanted = facts.setting_number("min-replicas-to-write").unwrap_or(0);
    let real = facts.info.replicas().iter().filter(|replica| replica.port != 0).count() as u64;
    Requirement {
        name: "min-replicas-to-write",
        expected: "no more than there are real replicas: a recorder counts as one, and would hide that they are gone"
            .to_owned(),
        actual: format!("{wanted}, with {real} replicas"),
        remedy: set("min-replicas-to-write", &(wanted + 1).to_string()),
        ok: wanted == 0 || wanted <= real,
        severity: Severity::Should,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::server::{Flavour, Info, ServerVersion};

    pub(crate) fn facts(settings: &[(&str, &str)], info: &str) -> Facts {
        Facts {
            version: ServerVersion {
                flavour: Flavour::Redis,
                text: "7.0.15".to_owned(),
            },
            info: Info::parse(info),
            settings: Some(
                settings
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect::<BTreeMap<_, _>>(),
            ),
            account: "backup".to_owned(),
            denied: Vec::new(),
            overcommit: Some(1),
        }
    }

    fn failing(list: &[Requirement]) -> Vec<(&str, &str)> {
        list.iter()
            .filter(|point| !point.ok)
            .map(|point| (point.name, point.remedy.as_str()))
            .collect()
    }

    const GOOD: [(&str, &str); 8] = [
        ("save", "3600 1 300 100 60 10000"),
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("auto-aof-rewrite-percentage", "100"),
        ("auto-aof-rewrite-min-size", "67108864"),
        ("repl-backlog-size", "67108864"),
        (
            "client-output-buffer-limit",
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        ),
        ("min-replicas-to-write", "0"),
    ];

    #[test]
    fn a_server_as_it_should_be_has_no_finding_and_each_setting_has_its_statement() {
        assert_eq!(failing(&log_requirements(&facts(&GOOD, ""))), []);
        for (name, wrong, statement) in [
            (
                "save",
                "",
                "CONFIG SET save \"3600 1 300 100 60 10000\" and then CONFIG REWRITE",
            ),
            ("appendonly", "no", "CONFIG SET appendonly yes and then CONFIG REWRITE"),
            (
                "appendfsync",
                "no",
                "CONFIG SET appendfsync everysec and then CONFIG REWRITE",
            ),
            (
                "auto-aof-rewrite-percentage",
                "0",
                "CONFIG SET auto-aof-rewrite-percentage 100 and then CONFIG REWRITE",
            ),
            (
                "auto-aof-rewrite-min-size",
                "1",
                "CONFIG SET auto-aof-rewrite-min-size 67108864 and then CONFIG REWRITE",
            ),
            (
                "repl-backlog-size",
                "1048576",
                "CONFIG SET repl-backlog-size 67108864 and then CONFIG REWRITE",
            ),
            (
                "client-output-buffer-limit",
                "normal 0 0 0 slave 1 1 60",
                "CONFIG SET client-output-buffer-limit \"replica 268435456 67108864 60\" and then CONFIG REWRITE",
            ),
            (
                "min-replicas-to-write",
                "1",
                "CONFIG SET min-replicas-to-write 2 and then CONFIG REWRITE",
            ),
        ] {
            let settings: Vec<_> = GOOD
                .iter()
                .map(|(key, value)| (*key, if *key == name { wrong } else { *value }))
                .collect();
            assert_eq!(failing(&log_requirements(&facts(&settings, ""))), [(name, statement)]);
        }
        let unseen = Facts {
            settings: None,
            ..facts(&[], "")
        };
        assert_eq!(
            failing(&log_requirements(&unseen)),
            [("settings", "ACL SETUSER backup +config|get")]
        );
    }

    #[test]
    fn rights_a_lost_primary_and_a_cluster_are_named() {
        let mut few = facts(&GOOD, "role:slave\r\nmaster_link_status:down\r\ncluster_enabled:1\r\n");
        few.denied = vec!["psync", "replconf"];
        let list = snapshot_requirements(&few);
        let names: Vec<&str> = failing(&list).iter().map(|(name, _)| *name).collect();
        assert!(
            names.starts_with(&["rights of the account", "cluster", "link of the replica to its primary"]),
            "{names:?}"
        );
        assert_eq!(list[1].actual, "no +psync no +replconf");
        assert!(list[1].remedy.starts_with("ACL SETUSER backup on >PASSWORD resetkeys"));
    }
}
