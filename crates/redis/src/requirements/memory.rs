//! Whether a server can fork: a snapshot is made by a child process that shares the server's memory and needs room for what
//! changes meanwhile. A server too full for that would lose the child, or be ended by the kernel itself.

use ballast_base::format_bytes;

use super::{Requirement, Severity};
use crate::RedisError;
use crate::server::Facts;

/// How much of the memory in use is taken to change while the child runs, where the server has not yet said it.
const CHANGED_SHARE: u64 = 4;
/// What the machine needs beside.
const LEFT_FREE_SHARE: u64 = 20;

/// What a fork needs and what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkRoom {
    /// What the server takes of the machine now.
    pub resident: u64,
    /// What is taken to be copied while the child runs.
    pub copied: u64,
    pub machine: u64,
    /// The server's own limit on its data; 0 is none.
    pub maxmemory: u64,
    pub used: u64,
}

impl ForkRoom {
    fn read(facts: &Facts) -> Option<Self> {
        let info = &facts.info;
        let used = info.number("used_memory")?;
        let resident = info.number("used_memory_rss").unwrap_or(used).max(used);
        // What the last one copied is the best guess, and a quarter where there was none.
        let copied = info.number("rdb_last_cow_size").unwrap_or(0).max(used / CHANGED_SHARE);
        Some(Self {
            resident,
            copied: copied.min(used),
            machine: info.number("total_system_memory")?,
            maxmemory: info.number("maxmemory").unwrap_or(0),
            used,
        })
    }

    pub fn is_enough(&self) -> bool {
        self.resident.saturating_add(self.copied) <= self.machine - self.machine / LEFT_FREE_SHARE
    }

    fn numbers(&self) -> String {
        format!(
            "{} in use, about {} more while a snapshot is made, of {} the machine has",
            format_bytes(self.resident),
            format_bytes(self.copied),
            format_bytes(self.machine)
        )
    }
}

/// Before a snapshot: an error with the numbers where the server should not be made to fork.
pub fn fork_room(facts: &Facts) -> Result<Option<ForkRoom>, RedisError> {
    if let Some(what) = facts.info.child_running() {
        return Err(RedisError::Disturbed {
            what: format!("the server has a child process already: {what}"),
            hint: "wait until it has ended (INFO persistence), then start again".to_owned(),
        });
    }
    if facts.info.is_on("loading") {
        return Err(RedisError::Server {
            message: "LOADING the server is loading its data".to_owned(),
        });
    }
    let Some(room) = ForkRoom::read(facts) else {
        return Ok(None);
    };
    if !room.is_enough() {
        return Err(RedisError::Unsupported {
            what: format!("the server is too full to make a snapshot: {}", room.numbers()),
            hint: "take the backup from a replica with more memory, or lower maxmemory".to_owned(),
        });
    }
    Ok(Some(room))
}

pub(super) fn requirements(facts: &Facts) -> Vec<Requirement> {
    let mut list = Vec::new();
    if let Some(room) = ForkRoom::read(facts) {
        list.push(Requirement {
            name: "room for a child process",
            expected: "memory for what changes while a snapshot is made".to_owned(),
            actual: room.numbers(),
            remedy: "take the backup from a replica with more memory, or: CONFIG SET maxmemory N with a smaller N"
                .to_owned(),
            ok: room.is_enough(),
            severity: Severity::Must,
        });
        let half = room.machine / 2;
        list.push(Requirement {
            name: "maxmemory",
            expected: "set, so that the data cannot fill the machine".to_owned(),
            actual: match room.maxmemory {
                0 => "none".to_owned(),
                limit => format_bytes(limit),
            },
            remedy: format!("CONFIG SET maxmemory {half} and then CONFIG REWRITE"),
            ok: room.maxmemory > 0,
            severity: Severity::Should,
        });
    }
    if let Some(rule) = facts.overcommit {
        list.push(Requirement {
            name: "vm.overcommit_memory",
            expected: "1: with another rule the kernel may refuse the fork of a server that has half of its memory"
                .to_owned(),
            actual: rule.to_string(),
            remedy: "sysctl vm.overcommit_memory=1, and the same line in /etc/sysctl.conf".to_owned(),
            ok: rule == 1,
            severity: Severity::Should,
        });
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirements::tests::facts;

    const GIB: u64 = 1 << 30;

    fn with(used: u64, machine: u64, cow: u64) -> Facts {
        let info = format!(
            "used_memory:{used}\r\nused_memory_rss:{used}\r\ntotal_system_memory:{machine}\r\nrdb_last_cow_size:{cow}\r\nmaxmemory:0\r\n"
        );
        facts(&[], &info)
    }

    #[test]
    fn a_server_too_full_to_fork_is_left_alone_with_the_numbers() {
        assert!(fork_room(&with(4 * GIB, 16 * GIB, 0)).unwrap().unwrap().is_enough());
        for (used, cow) in [(14 * GIB, 0), (10 * GIB, 6 * GIB)] {
            let error = fork_room(&with(used, 16 * GIB, cow)).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("too full") && text.contains("16.0 GiB the machine has"),
                "{text}"
            );
            assert!(error.hint().unwrap().contains("replica"));
        }
        let mut busy = with(GIB, 16 * GIB, 0);
        busy.info = crate::Info::parse("rdb_bgsave_in_progress:1\r\n");
        assert!(fork_room(&busy).unwrap_err().to_string().contains("being saved"));
        let points = requirements(&with(14 * GIB, 16 * GIB, 0));
        let failing: Vec<&str> = points
            .iter()
            .filter(|point| !point.ok)
            .map(|point| point.name)
            .collect();
        assert_eq!(failing, ["room for a child process", "maxmemory"]);
    }
}
