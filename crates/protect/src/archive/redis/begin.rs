//! Where a recorder of a Redis begins, or goes on: decided by what it holds and what the server says of itself, and by nothing else.
//!
//! A stream is gone on with if the server goes on from its end: then not one byte is missing. Else a new one begins, behind a good
//! backup that the server still goes on from, so that this backup and the stream are one; or where the server is now, and a backup
//! has to come. What was never captured is told by the two places.

use ballast_redis::{Continuation, Info, Position};

use super::super::facts::Cause;

/// What we hold of the source's commands.
#[derive(Debug, Clone)]
pub(in super::super) struct Held {
    pub(super) position: Position,
    /// The spool that goes with it is here. Without it another recorder may have gone on from elsewhere.
    pub(super) ours: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    GoOn,
    /// A new stream behind this position, which is a border.
    New {
        from: Position,
        why: Option<Why>,
    },
}

/// Why it is not a part of the stream before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) cause: Cause,
    /// Empty if nothing is missing.
    pub(super) missing: String,
}

/// `wanted` are good backups, the newest first. `None` where the server does not say where it is.
pub(super) fn begin(held: Option<&Held>, wanted: &[Position], server: &Info) -> Option<Step> {
    let now = server.position()?;
    let continuation = held.map(|held| (held, server.continuation(&held.position)));
    if let Some((held, Continuation::Possible)) = continuation {
        if held.ours {
            return Some(Step::GoOn);
        }
        return Some(Step::New {
            from: held.position.clone(),
            why: Some(Why {
                cause: Cause::SpoolLost,
                missing: String::new(),
            }),
        });
    }
    let backup = wanted.iter().find(|position| server.continues(position));
    let from = backup.cloned().unwrap_or(now);
    let why = continuation.map(|(held, continuation)| Why {
        cause: match continuation {
            Continuation::Forgotten { .. } | Continuation::Possible => Cause::Backlog,
            Continuation::Ahead => Cause::Shortened,
            Continuation::OtherHistory => Cause::Reset,
        },
        missing: format!("from {} to {from}", held.position),
    });
    Some(Step::New { from, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "2d8393841d1cf6f03c01a25420486b07125f7df5";
    const OLD: &str = "0123456789abcdef0123456789abcdef01234567";

    fn server(first: u64, offset: u64) -> Info {
        Info::parse(&format!(
            "master_replid:{ID}\r\nmaster_repl_offset:{offset}\r\nrepl_backlog_active:1\r\nrepl_backlog_first_byte_offset:{first}\r\n\
             master_replid2:{OLD}\r\nsecond_repl_offset:50\r\n"
        ))
    }

    fn at(id: &str, offset: u64) -> Position {
        Position::new(id, offset).unwrap()
    }

    #[test]
    fn a_stream_goes_on_or_a_new_one_begins_where_least_is_missing() {
        let held = |id, offset, ours| Held {
            position: at(id, offset),
            ours,
        };
        let new = |from: Position, cause: Option<(Cause, &str)>| Step::New {
            from,
            why: cause.map(|(cause, missing)| Why {
                cause,
                missing: missing.to_owned(),
            }),
        };
        let backups = [at(ID, 90), at(ID, 70), at(ID, 5)];
        for (held, wanted, first, expected) in [
            // The first stream: behind the newest backup that is still within reach, or at the end.
            (None, &backups[..], 10, new(at(ID, 90), None)),
            (None, &backups[2..], 10, new(at(ID, 100), None)),
            (Some(held(ID, 60, true)), &backups[..], 10, Step::GoOn),
            // Promoted: the old name holds up to where the new one begins.
            (Some(held(OLD, 49, true)), &[], 10, Step::GoOn),
            (
                Some(held(OLD, 50, true)),
                &[],
                10,
                new(
                    at(ID, 100),
                    Some((Cause::Shortened, &format!("from {OLD}:50 to {ID}:100"))),
                ),
            ),
            (
                Some(held(ID, 60, true)),
                &backups[..],
                80,
                new(at(ID, 90), Some((Cause::Backlog, &format!("from {ID}:60 to {ID}:90")))),
            ),
            (
                Some(held(ID, 60, false)),
                &backups[..],
                10,
                new(at(ID, 60), Some((Cause::SpoolLost, ""))),
            ),
            (
                Some(held(&"f".repeat(40), 60, true)),
                &[],
                10,
                new(
                    at(ID, 100),
                    Some((Cause::Reset, &format!("from {}:60 to {ID}:100", "f".repeat(40)))),
                ),
            ),
        ] {
            let step = begin(held.as_ref(), wanted, &server(first, 100));
            assert_eq!(step, Some(expected), "{held:?} {first}");
        }
        assert_eq!(begin(None, &[], &Info::parse("role:master")), None);
    }
}
