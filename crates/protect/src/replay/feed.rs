//! From the repository to the replica.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ballast_mysql::{ExecutedSet, LogServer, Served};
use ballast_repository::Repository;
use bytes::Bytes;

use super::event_statements::EventStatements;
use super::plan::{ReplayPlan, TransactionLine, open_with_head};
use super::selection::Selection;
use super::unsafe_statements::UnsafeStatements;
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};

/// A segment is looked through in pieces of this size, so that nothing else waits long for its turn.
const PIECE_BYTES: usize = 512 * 1024;

/// What was sent.
#[derive(Debug)]
pub(super) struct Fed {
    pub(super) transactions: u64,
    pub(super) skipped: u64,
    pub(super) bytes: u64,
    pub(super) executed: ExecutedSet,
    pub(super) last: Option<TransactionLine>,
    pub(super) events: EventStatements,
    pub(super) unsafe_statements: UnsafeStatements,
}

/// Where in the work the applier is, by the file and offset it tells.
#[derive(Debug)]
pub(super) struct Progressing {
    pub(super) total: u64,
    /// By file: the bytes of the work before the file's first byte, less those of the file before the work began.
    files: Mutex<BTreeMap<String, i128>>,
    done: Mutex<u64>,
}

impl Progressing {
    pub(super) fn of(plan: &ReplayPlan) -> Self {
        Self {
            total: plan.bytes,
            files: Mutex::default(),
            done: Mutex::default(),
        }
    }

    /// A file's first byte is at this byte of the work; negative where the work begins within the file.
    fn file(&self, name: &str, at: i128) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(name.to_owned(), at);
    }

    /// Bytes that are done, and all. It never goes back.
    pub(super) fn at(&self, file: &str, offset: u64) -> (u64, u64) {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let at = files.get(file).map_or(0, |at| at + i128::from(offset));
        let at = u64::try_from(at.max(0)).unwrap_or(u64::MAX).min(self.total);
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        *done = at.max(*done);
        (*done, self.total)
    }
}

/// Sends what the plan wants over what the server has.
pub(super) async fn feed(
    context: &Context,
    repository: &Repository,
    plan: &ReplayPlan,
    from: ExecutedSet,
    log: &mut LogServer,
    progressing: &Progressing,
) -> Result<Fed> {
    let mut selection: Option<Selection> = None;
    let mut read: u64 = 0;
    for part in plan.parts.iter().filter(|part| part.from_offset < part.to_offset) {
        let (mut reader, walker, head) = open_with_head(context, repository, plan.flavour, part).await?;
        // The bytes of the work that a file's first byte is away from where the log is counted from.
        let shift = i128::from(read) - i128::from(part.from_offset.max(part.file_at));
        let selection = match &mut selection {
            Some(selection) => {
                selection.go_on(walker, part);
                selection
            }
            none => none.insert(Selection::new(walker, plan.flavour, part, from.clone())),
        };
        progressing.file(&part.file, i128::from(part.file_at) + shift);
        if let Some(head) = head {
            let name = part.file.clone();
            log.send(Served::File { name }).await?;
            log.send(Served::Events(Bytes::from([head.format, head.previous].concat())))
                .await?;
        }
        while !selection.is_done() {
            let Some((_, mut bytes)) = reader.next().await? else {
                let message = format!("log {} ends before {}", part.stream, part.to_offset);
                return Err(
                    ProtectError::new(ErrorKind::Damaged, message).hint("check the stored bytes with: ballast verify")
                );
            };
            while !bytes.is_empty() && !selection.is_done() {
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                let mut chosen = Vec::new();
                selection.push(&piece, plan, &mut chosen)?;
                let (name, at) = selection.file();
                progressing.file(name, i128::from(at) + shift);
                for served in chosen {
                    log.send(served).await?;
                }
            }
        }
        read += part.to_offset.saturating_sub(part.from_offset);
    }
    Ok(match selection {
        Some(selection) => Fed {
            transactions: selection.transactions,
            skipped: selection.skipped,
            bytes: read,
            last: selection.last,
            events: selection.events,
            unsafe_statements: selection.unsafe_statements,
            executed: selection.executed,
        },
        None => Fed {
            transactions: 0,
            skipped: 0,
            bytes: 0,
            executed: from,
            last: None,
            events: EventStatements::default(),
            unsafe_statements: UnsafeStatements::default(),
        },
    })
}
