//! What is to be replayed: decided before anything is sent, by walking the log up to where it is to end.

use ballast_mysql::{ExecutedSet, Gtid, LogFlavour, LogWalker, Walked};
use ballast_repository::{Repository, StreamId, StreamReader};
use jiff::Timestamp;
use serde::Serialize;

use super::selection::{moment, next_name};
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::position::Position;
use crate::stop::{PositionStop, Stop};

/// A stretch of one stream, from the start of a log file, or from a transaction's, to the end of another transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamPart {
    #[serde(serialize_with = "as_text")]
    pub stream: StreamId,
    /// The file that `from_offset` lies in, and the log offset of its first byte.
    pub file: String,
    pub file_at: u64,
    pub from_offset: u64,
    pub to_offset: u64,
    /// Where transactions begin that a crash of the source cut off: they never were committed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub torn: Vec<u64>,
}

fn as_text<S: serde::Serializer>(id: &StreamId, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

/// A transaction, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransactionLine {
    pub gtid: String,
    pub committed_at: Timestamp,
}

impl TransactionLine {
    pub(super) fn of(gtid: &Gtid, committed_at: u64) -> Self {
        Self {
            gtid: gtid.to_string(),
            committed_at: moment(committed_at),
        }
    }
}

/// A decided replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplayPlan {
    pub flavour: LogFlavour,
    /// Of the server that wrote the log.
    pub server_version: String,
    /// What the backup holds at least.
    pub from: ExecutedSet,
    pub parts: Vec<StreamPart>,
    /// Left out.
    pub skip: Vec<Gtid>,
    /// What will have been executed in the end.
    pub expected: ExecutedSet,
    /// To be applied, over those of `from`.
    pub transactions: u64,
    /// Bytes of the log that are read.
    pub bytes: u64,
    pub last_kept: Option<TransactionLine>,
    pub first_left_out: Option<TransactionLine>,
    /// Where the log must fit to the backup.
    #[serde(skip)]
    pub seam: Option<Seam>,
}

/// The place in a server's log that a backup stands at. What the backup holds ends there and nowhere else, or the log is not the one
/// it was taken of: it was begun anew, and its numbers mean other transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seam {
    pub file: String,
    pub offset: u64,
    /// Captures of that server.
    pub streams: Vec<StreamId>,
}

impl ReplayPlan {
    /// As lines for people.
    pub fn lines(&self) -> Vec<(String, String)> {
        let line = |line: &TransactionLine| format!("{} of {}", line.gtid, line.committed_at);
        let mut lines = vec![(
            "replays".to_owned(),
            format!(
                "{} transactions, {} of the log",
                self.transactions,
                ballast_base::format_bytes(self.bytes)
            ),
        )];
        for part in &self.parts {
            let from = part.from_offset.saturating_sub(part.file_at);
            let size = ballast_base::format_bytes(part.to_offset.saturating_sub(part.from_offset));
            let text = format!("{} from byte {from} on, {size} of log {}", part.file, part.stream);
            lines.push(("reads".to_owned(), text));
        }
        for gtid in &self.skip {
            lines.push(("skips".to_owned(), gtid.to_string()));
        }
        let last = self.last_kept.as_ref().map_or_else(|| "none".to_owned(), line);
        lines.push(("last kept".to_owned(), last));
        if let Some(first) = &self.first_left_out {
            lines.push(("first left out".to_owned(), line(first)));
        }
        lines
    }

    /// Where it leads to, as a position.
    pub(crate) fn position(&self) -> Position {
        Position {
            gtid_executed: self.expected.to_string(),
            exact: true,
            ..Position::default()
        }
    }
}

/// Walks the parts and finds where the replay ends. Each part's `to_offset` is how far it may be read; in the answer it is the end of the
/// last transaction that is kept. What is not in `expected`, if that is not empty, is passed over: after a failover the server before may
/// have had transactions that the one after it never got.
pub(crate) async fn resolve(
    context: &Context,
    repository: &Repository,
    mut plan: ReplayPlan,
    stop: &Stop,
) -> Result<ReplayPlan> {
    let mut search = Search {
        stop,
        begun_with: plan.from.clone(),
        executed: plan.from.clone(),
        transactions: 0,
        last_kept: None,
        first_left_out: None,
        skipped: Vec::new(),
        bound: (!plan.expected.is_empty()).then(|| plan.expected.clone()),
        ended: false,
    };
    if let Stop::Before(gtid) | Stop::Position(PositionStop::Through(gtid)) = stop
        && plan.from.contains_gtid(gtid)
    {
        let message = format!("transaction {gtid} is in the backup already");
        return Err(ProtectError::new(ErrorKind::NotRestorable, message)
            .hint("choose an earlier backup with --backup ID; see them with: ballast list"));
    }
    let mut parts = Vec::new();
    for part in plan.parts {
        let (to_offset, torn) = search
            .walk(
                context,
                repository,
                (plan.flavour, plan.seam.as_ref()),
                &part,
                &plan.skip,
            )
            .await?;
        parts.push(StreamPart {
            to_offset,
            torn,
            ..part
        });
        if search.ended {
            break;
        }
    }
    search.check(&plan.skip)?;
    plan.bytes = parts
        .iter()
        .map(|part| part.to_offset.saturating_sub(part.from_offset))
        .sum();
    plan.parts = parts;
    plan.expected = search.executed;
    plan.transactions = search.transactions;
    plan.last_kept = search.last_kept;
    plan.first_left_out = search.first_left_out;
    Ok(plan)
}

struct Search<'a> {
    stop: &'a Stop,
    begun_with: ExecutedSet,
    executed: ExecutedSet,
    transactions: u64,
    last_kept: Option<TransactionLine>,
    first_left_out: Option<TransactionLine>,
    skipped: Vec<Gtid>,
    /// What may be executed at most.
    bound: Option<ExecutedSet>,
    /// Nothing behind this belongs to it.
    ended: bool,
}

impl Search<'_> {
    /// Gives where the part ends, and what in it was never committed.
    async fn walk(
        &mut self,
        context: &Context,
        repository: &Repository,
        (flavour, seam): (LogFlavour, Option<&Seam>),
        part: &StreamPart,
        skip: &[Gtid],
    ) -> Result<(u64, Vec<u64>)> {
        let (mut reader, mut walker) = open(context, repository, flavour, part).await?;
        let mut file = FileAt::of(part);
        let seam = seam.filter(|seam| seam.streams.contains(&part.stream));
        // Where in the seam's file the last transaction ended that the backup holds.
        let mut held_until = None;
        let (mut end, mut torn, mut underway) = (walker.offset(), Vec::new(), None);
        while let Some((_, bytes)) = reader.next().await? {
            let left = usize::try_from(part.to_offset.saturating_sub(walker.offset())).unwrap_or(usize::MAX);
            let bytes = bytes.slice(..bytes.len().min(left));
            for walked in walker.push(&bytes)? {
                match walked {
                    Walked::TransactionStart { offset, head } => underway = Some((offset, head)),
                    Walked::TransactionEnd { offset } => {
                        let Some((_, head)) = underway.take() else { continue };
                        let gtid = head.gtid.as_ref().ok_or_else(without_gtid)?;
                        if let Some(seam) = seam.filter(|seam| seam.file == file.name) {
                            let (held, ends) = (self.begun_with.contains_gtid(gtid), offset - file.at);
                            if held != (ends <= seam.offset) {
                                return Err(other_log(seam));
                            }
                            if held {
                                held_until = Some(ends);
                            } else if held_until.is_some_and(|ends| ends != seam.offset) {
                                return Err(other_log(seam));
                            }
                        }
                        if self.bound.as_ref().is_some_and(|bound| !bound.contains_gtid(gtid)) {
                            continue;
                        }
                        self.refuse_later(gtid, head.committed_at)?;
                        if self.ends_before(gtid, head.committed_at, &file, offset) {
                            self.first_left_out = Some(TransactionLine::of(gtid, head.committed_at));
                            self.ended = true;
                            return Ok((end, torn));
                        }
                        end = offset;
                        self.keep(flavour, gtid, head.committed_at, skip)?;
                    }
                    Walked::TransactionCut { .. } => torn.extend(underway.take().map(|(offset, _)| offset)),
                    Walked::FileStart { offset } => {
                        if offset > part.file_at
                            && let Stop::Position(PositionStop::File { file: last, .. }) = self.stop
                            && *last == file.name
                        {
                            self.ended = true;
                            return Ok((end, torn));
                        }
                        file.begins(offset);
                    }
                    Walked::Rotate { next_file } => file.next = Some(next_file),
                    Walked::Format { .. } | Walked::Previous { .. } | Walked::Stop | Walked::Incident => {}
                }
            }
            if walker.offset() >= part.to_offset {
                break;
            }
        }
        Ok((end, torn))
    }

    /// A backup that holds what was committed behind the moment is too late for it.
    fn refuse_later(&self, gtid: &Gtid, committed_at: u64) -> Result<()> {
        match self.stop {
            Stop::At(at) if moment(committed_at) > *at && self.begun_with.contains_gtid(gtid) => {
                let message = format!(
                    "the backup holds transaction {gtid} already, which was committed at {}",
                    moment(committed_at)
                );
                Err(ProtectError::new(ErrorKind::NotRestorable, message)
                    .hint("choose an earlier backup with --backup ID; see them with: ballast list"))
            }
            _ => Ok(()),
        }
    }

    fn ends_before(&self, gtid: &Gtid, committed_at: u64, file: &FileAt, end: u64) -> bool {
        // What the backup has is not left out.
        if self.executed.contains_gtid(gtid) {
            return false;
        }
        match self.stop {
            Stop::Latest => false,
            Stop::At(at) => moment(committed_at) > *at,
            Stop::Before(before) => before == gtid,
            Stop::Position(PositionStop::Through(last)) => self.executed.contains_gtid(last),
            Stop::Position(PositionStop::Set(set)) => !set.contains_gtid(gtid),
            Stop::Position(PositionStop::File { file: last, offset }) => *last == file.name && end - file.at > *offset,
        }
    }

    fn keep(&mut self, flavour: LogFlavour, gtid: &Gtid, committed_at: u64, skip: &[Gtid]) -> Result<()> {
        if self.executed.contains_gtid(gtid) {
            return Ok(());
        }
        let skipped = skip.contains(gtid);
        if skipped {
            self.skipped.push(gtid.clone());
        }
        if !skipped || flavour == LogFlavour::Mysql {
            self.executed.add(gtid)?;
            self.transactions += 1;
        }
        self.last_kept = Some(TransactionLine::of(gtid, committed_at));
        Ok(())
    }

    /// Whether it came to where it was to end.
    fn check(&self, skip: &[Gtid]) -> Result<()> {
        let not = |message: String| Err(ProtectError::new(ErrorKind::NotRestorable, message));
        if let Some(gtid) = skip.iter().find(|gtid| !self.skipped.contains(gtid)) {
            return not(format!(
                "transaction {gtid}, which is to be left out, is not in the log between the backup and the end of the replay"
            ));
        }
        match self.stop {
            Stop::Latest | Stop::At(_) | Stop::Position(PositionStop::File { .. }) => Ok(()),
            Stop::Before(gtid) if self.first_left_out.is_none() => not(format!("transaction {gtid} is not in the log")),
            Stop::Position(PositionStop::Through(gtid)) if !self.executed.contains_gtid(gtid) => {
                not(format!("transaction {gtid} is not in the log"))
            }
            Stop::Position(PositionStop::Set(set)) if !self.executed.contains(set) => {
                let mut missing = set.clone();
                missing.minus(&self.executed);
                Err(no_point(set, &missing, self.first_left_out.as_ref()))
            }
            Stop::Before(_) | Stop::Position(_) => Ok(()),
        }
    }
}

/// A set that the server never had just so: in the log something comes before the rest of it that is not in it.
fn no_point(set: &ExecutedSet, missing: &ExecutedSet, first: Option<&TransactionLine>) -> ProtectError {
    let Some(first) = first else {
        let message = format!("the log does not lead to {set}: {missing} is not in it");
        return ProtectError::new(ErrorKind::NotRestorable, message);
    };
    let message = format!(
        "position {set} is no point in the log: transaction {}, committed at {}, is not in it, and comes before {missing}, which is",
        first.gtid, first.committed_at
    );
    let hint = format!(
        "end before it with --before {0}, or name a later position, with {0} in it",
        first.gtid
    );
    ProtectError::new(ErrorKind::NotRestorable, message).hint(hint)
}

fn other_log(seam: &Seam) -> ProtectError {
    let message = format!(
        "the backup was taken at {}:{} of a log that was begun anew since: what was captured has other transactions there",
        seam.file, seam.offset
    );
    ProtectError::new(ErrorKind::NotRestorable, message)
        .hint("restore the backup alone with --backup ID, and take a new one with: ballast backup SOURCE")
}

fn without_gtid() -> ProtectError {
    ProtectError::new(
        ErrorKind::NotRestorable,
        "the log holds transactions without a GTID, and is not replayed",
    )
    .hint("set gtid_mode = ON on the source, and take a new backup")
}

/// The file that a walk is in.
pub(super) struct FileAt {
    pub(super) name: String,
    /// The log offset of its first byte.
    pub(super) at: u64,
    /// The one that follows, if this one says so; after a crash it does not.
    pub(super) next: Option<String>,
}

impl FileAt {
    pub(super) fn of(part: &StreamPart) -> Self {
        Self {
            name: part.file.clone(),
            at: part.file_at,
            next: None,
        }
    }

    /// A file begins here: the one we are in, or the next.
    pub(super) fn begins(&mut self, offset: u64) {
        if offset > self.at {
            self.name = self.next.take().unwrap_or_else(|| next_name(&self.name));
            self.at = offset;
        }
    }
}

/// A reader at the part's first byte, and a walker that stands there.
async fn open(
    context: &Context,
    repository: &Repository,
    flavour: LogFlavour,
    part: &StreamPart,
) -> Result<(StreamReader, LogWalker)> {
    let (reader, walker, _) = open_with_head(context, repository, flavour, part).await?;
    Ok((reader, walker))
}

/// The same; where it does not begin with a file, with what its file begins with.
pub(super) async fn open_with_head(
    context: &Context,
    repository: &Repository,
    flavour: LogFlavour,
    part: &StreamPart,
) -> Result<(StreamReader, LogWalker, Option<FileHead>)> {
    let listing = repository.stream(part.stream, &context.cancel).await?;
    let reader = |from| StreamReader::new(repository.clone(), listing.clone(), from, context.cancel.clone());
    if part.from_offset <= part.file_at {
        return Ok((reader(part.file_at), LogWalker::new(flavour, part.file_at), None));
    }
    let head = head_of_file(&mut reader(part.file_at), flavour, part).await?;
    let file_offset = part.from_offset - part.file_at;
    let walker = LogWalker::within(flavour, part.from_offset, file_offset, &head.format)?;
    Ok((reader(part.from_offset), walker, Some(head)))
}

/// What a file begins with.
pub(super) struct FileHead {
    pub(super) format: Vec<u8>,
    pub(super) previous: Vec<u8>,
}

async fn head_of_file(reader: &mut StreamReader, flavour: LogFlavour, part: &StreamPart) -> Result<FileHead> {
    let mut walker = LogWalker::new(flavour, part.file_at);
    let (mut held, mut format) = (Vec::new(), None);
    while let Some((_, bytes)) = reader.next().await? {
        held.extend_from_slice(&bytes);
        let event = |held: &[u8], offset: u64, size: u32| {
            let from = usize::try_from(offset - part.file_at).ok()?;
            let size = usize::try_from(size).ok()?;
            held.get(from..from.checked_add(size)?).map(<[u8]>::to_vec)
        };
        for walked in walker.push(&bytes)? {
            match walked {
                Walked::Format { offset, size, .. } if format.is_none() => format = event(&held, offset, size),
                Walked::Previous { offset, size, .. } => {
                    if let (Some(format), Some(previous)) = (format, event(&held, offset, size)) {
                        return Ok(FileHead { format, previous });
                    }
                    return Err(no_head(part));
                }
                _ => {}
            }
        }
    }
    Err(no_head(part))
}

fn no_head(part: &StreamPart) -> ProtectError {
    ProtectError::new(
        ErrorKind::Damaged,
        format!("file \"{}\" of log {} has no beginning", part.file, part.stream),
    )
}
