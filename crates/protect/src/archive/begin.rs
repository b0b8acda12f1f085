//! Where a recorder begins, or goes on: decided by what it holds and what the server has, and by nothing else.
//!
//! A stream is gone on with only if not one byte can be missing or other than it was: same server, the file we are in is still that
//! file (its head is compared), it is not shorter than ours, and (when the server is asked for it) our last event is still at its
//! place. Anything else begins a new stream, with the newest file from which on nothing is missing:
//!
//! - Where transactions have the same numbers only if they are the same (the log was not begun anew), that is the newest file
//!   whose set of earlier transactions lies in what was held. That there is overlap does no harm: the numbers tell.
//! - Where numbers may have been given twice, or tell nothing (no GTIDs, a server that lacks what we hold), it is the oldest file there is.
//!
//! What is missing between the two streams is then known exactly: the earlier transactions of that file, less what was held.
//!
//! The decision asks for heads of files one by one, because each costs a connection. It is a pure function of what is known so
//! far; whoever calls it reads the head it wants and asks again.

use std::collections::BTreeMap;

use ballast_mysql::ExecutedSet;

use super::facts::Cause;

/// Who a server is. Two that are equal may still be a server and its copy: heads and lengths of files tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Empty on MariaDB.
    pub(crate) uuid: String,
    pub(crate) id: u32,
}

/// What we hold of the source's log.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) server: Identity,
    pub(crate) file: String,
    /// Our end in that file.
    pub(crate) offset: u64,
    /// See [`super::facts::Stretch::head`]; empty if we have less of the file than its head.
    pub(crate) head: String,
    pub(crate) executed: ExecutedSet,
    /// The spool that goes with it is here. Without it another recorder may have gone on from elsewhere.
    pub(crate) ours: bool,
    /// The server was asked for our last event and gave another one.
    pub(crate) contradicted: bool,
}

/// What the server has.
#[derive(Debug, Clone)]
pub(crate) struct ServerLog {
    pub(crate) identity: Identity,
    /// Transactions are numbered.
    pub(crate) numbered: bool,
    pub(crate) executed: ExecutedSet,
    /// Name and size, the oldest first; the last one is written to.
    pub(crate) files: Vec<(String, u64)>,
}

/// The begin of one of its files.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) digest: String,
    /// What had been executed before the file.
    pub(crate) before: ExecutedSet,
}

/// A good backup of this server, and where in the log it stands.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) executed: ExecutedSet,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The head of this file decides.
    Ask(String),
    GoOn,
    /// A new stream, with the file's first byte.
    New {
        file: String,
        why: Option<Why>,
    },
    /// The server has no log.
    Nothing,
}

/// Why it is not a part of the stream before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Why {
    pub(crate) cause: Cause,
    /// Empty if nothing is missing, or nothing tells.
    pub(crate) missing: ExecutedSet,
}

/// Heads that were read so far, by file.
pub(crate) type Heads = BTreeMap<String, Head>;

pub(crate) fn begin(held: Option<&Held>, wanted: &[Wanted], server: &ServerLog, heads: &Heads) -> Step {
    let Some((oldest, _)) = server.files.first() else {
        return Step::Nothing;
    };
    let Some(held) = held else {
        return first(wanted, server, heads);
    };
    let cause = match lineage(held, server, heads) {
        Lineage::Ask(file) => return Step::Ask(file),
        Lineage::Same if held.ours => return Step::GoOn,
        Lineage::Same => Cause::SpoolLost,
        Lineage::Other(cause) => cause,
    };
    let file = match cause {
        Cause::Reset => Some(oldest.clone()),
        // What came before our end of it is there twice, and what came after is not ours.
        Cause::Shortened => Some(held.file.clone()),
        Cause::Purged | Cause::Backlog | Cause::Failover | Cause::SpoolLost => {
            match newest_contained(held, server, heads) {
                Ok(file) => file,
                Err(ask) => return ask,
            }
        }
    };
    let file = file.unwrap_or_else(|| oldest.clone());
    let Some(head) = heads.get(&file) else {
        return Step::Ask(file);
    };
    let mut missing = head.before.clone();
    missing.minus(&held.executed);
    Step::New {
        file,
        why: Some(Why { cause, missing }),
    }
}

/// The oldest file a good backup needs, so that the log leads on from it; else the one that is written to.
fn first(wanted: &[Wanted], server: &ServerLog, heads: &Heads) -> Step {
    for (file, size) in &server.files {
        let mut here = wanted
            .iter()
            .filter(|wanted| wanted.file == *file && wanted.offset <= *size)
            .peekable();
        if here.peek().is_none() {
            continue;
        }
        let Some(head) = heads.get(file) else {
            return Step::Ask(file.clone());
        };
        // A file of the same name on a server that began its log anew is not the one the backup means.
        if here.any(|wanted| wanted.executed.contains(&head.before)) {
            return Step::New {
                file: file.clone(),
                why: None,
            };
        }
    }
    match server.files.last() {
        Some((active, _)) => Step::New {
            file: active.clone(),
            why: None,
        },
        None => Step::Nothing,
    }
}

enum Lineage {
    Ask(String),
    Same,
    Other(Cause),
}

/// Whether the file we are in is still there and still the same, and if not, what happened to it.
fn lineage(held: &Held, server: &ServerLog, heads: &Heads) -> Lineage {
    if held.server != server.identity {
        return Lineage::Other(Cause::Failover);
    }
    let Some((_, size)) = server.files.iter().find(|(name, _)| *name == held.file) else {
        return purged_or_reset(held, server, heads);
    };
    let Some(head) = heads.get(&held.file) else {
        return Lineage::Ask(held.file.clone());
    };
    if !held.head.is_empty() && head.digest != held.head {
        return Lineage::Other(Cause::Reset);
    }
    if *size < held.offset || held.contradicted {
        return Lineage::Other(Cause::Shortened);
    }
    Lineage::Same
}

/// Our file is gone. If it was purged, all files are later than it was, and what they come after is all we hold, or more.
fn purged_or_reset(held: &Held, server: &ServerLog, heads: &Heads) -> Lineage {
    let number = file_number(&held.file);
    let later = |(name, _): &(String, u64)| matches!((file_number(name), number), (Some(n), Some(ours)) if n > ours);
    if !server.files.iter().all(later) {
        return Lineage::Other(Cause::Reset);
    }
    let Some((oldest, _)) = server.files.first() else {
        return Lineage::Other(Cause::Reset);
    };
    match heads.get(oldest) {
        None => Lineage::Ask(oldest.clone()),
        Some(head) if head.before.contains(&held.executed) => Lineage::Other(Cause::Purged),
        Some(_) => Lineage::Other(Cause::Reset),
    }
}

/// The newest file before which nothing is that was not held; none if even the oldest one is not such.
fn newest_contained(held: &Held, server: &ServerLog, heads: &Heads) -> Result<Option<String>, Step> {
    // A server that lacks what we hold has lost it, or began its log anew, or follows one that did: its numbers may be given again.
    if !server.numbered || held.executed.is_empty() || !server.executed.contains(&held.executed) {
        return Ok(None);
    }
    for (file, _) in server.files.iter().rev() {
        let Some(head) = heads.get(file) else {
            return Err(Step::Ask(file.clone()));
        };
        // An empty set says nothing of a file with files before it: the server may not have numbered what is in them.
        if !head.before.is_empty() && surely_within(&head.before, &held.executed) {
            return Ok(Some(file.clone()));
        }
    }
    Ok(None)
}

/// Whether all of `before` is in `held`. A number of MariaDB says so only if the same server gave it: after a failover that lost
/// transactions two servers give the same numbers to different ones.
fn surely_within(before: &ExecutedSet, held: &ExecutedSet) -> bool {
    let ExecutedSet::MariaDb(position) = before else {
        return held.contains(before);
    };
    let giver = |last: &str| last.rsplit_once('-').map(|(giver, _)| giver.to_owned());
    let known: Vec<_> = held.to_string().split(',').filter_map(giver).collect();
    let text = position.to_string();
    let mut givers = text.split(',').filter_map(giver);
    held.contains(before) && givers.all(|giver| known.contains(&giver))
}

/// `binlog.000012` is 12.
fn file_number(name: &str) -> Option<u64> {
    name.rsplit_once('.')?.1.parse().ok()
}

#[cfg(test)]
mod tests;
