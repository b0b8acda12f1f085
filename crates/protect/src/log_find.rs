//! Finds the moment: which transactions of a source's captured log touched a table in a span of time, what each of them did, and
//! which look like an accident.
//!
//! Read from the repository alone; the source need not be there. Only the segments of the span are read, from the first
//! transaction that begins in the first of them. Segments are chosen by the commit times in their names, and a server's clock may
//! step, so a little more is read and every transaction's own time decides.

use std::collections::HashMap;

use ballast_mysql::{
    EventHeader, ExecutedSet, Gtid, LOG_MAGIC, LogFlavour, Statement, StatementKind, TableRows, TransactionWalker,
    WalkedTransaction,
};
use ballast_repository::{Repository, SegmentPlace, StreamId, StreamListing, StreamReader};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::is_of_redis;
use crate::context::Context;
use crate::error::{ProtectError, Result};
use crate::log_plan::{GoBack, go_back};
use crate::pattern::TablePattern;
use crate::vault::{LostRepository, Vault};

/// Segments are read that end this long before the span, or begin this long after it.
const CLOCK_STEP_MICROS: u64 = 10 * 60 * 1_000_000;
/// A file's format is within its first bytes.
const FORMAT_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Clone)]
pub struct LogFindRequest {
    pub source: String,
    /// Transactions that touch one of these; all where there are none.
    pub tables: Vec<TablePattern>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Only what looks like an accident.
    pub suspicious: bool,
    /// So many rows of a table deleted or updated in one transaction are suspicious.
    pub mass_rows: u64,
    /// So many are listed; what is more is said, not listed.
    pub found_max: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct LogFindOutcome {
    pub source: String,
    /// Where the log was read.
    pub repository: String,
    pub transactions: Vec<FoundTransaction>,
    /// Transactions of the span, found or not.
    pub looked_at: u64,
    /// There are more than are listed.
    pub more: bool,
    /// How to get to before the first one that is suspicious.
    pub go_back: Option<FoundWay>,
    pub lost: Vec<LostRepository>,
}

/// Where a restore ends that leaves an accident out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundWay {
    pub before: String,
    /// To begin with, where the server gave that number twice.
    pub backup: Option<String>,
    /// `false`: no backup leads there.
    pub possible: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundTransaction {
    /// `None` where the server has GTIDs switched off.
    pub gtid: Option<String>,
    pub committed_at: Timestamp,
    pub server_id: u32,
    pub stream: String,
    /// Of its first byte in the stream.
    pub offset: u64,
    pub tables: Vec<FoundTable>,
    pub statements: Vec<FoundStatement>,
    pub suspicious: Vec<Suspicion>,
    /// Not all of it was understood or is listed, so that it did more than is told.
    pub incomplete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundTable {
    pub database: String,
    pub table: String,
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    /// `false`: at least so many.
    pub exact: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundStatement {
    pub kind: StatementKind,
    /// The database it ran in.
    pub database: Option<String>,
    pub text: String,
    /// The text goes on.
    pub cut: bool,
}

/// Why a transaction looks like an accident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suspicion {
    pub kind: SuspicionKind,
    /// The table or the database.
    pub of: String,
    /// Rows that went or changed, where that is what is suspicious.
    pub rows: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuspicionKind {
    DropTable,
    DropDatabase,
    Truncate,
    /// Columns or partitions, with what they held.
    AlterDrops,
    MassDelete,
    MassUpdate,
}

impl std::fmt::Display for Suspicion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = &self.of;
        let rows = self.rows.unwrap_or_default();
        match self.kind {
            SuspicionKind::DropTable => write!(f, "drops table {of}"),
            SuspicionKind::DropDatabase => write!(f, "drops database {of}"),
            SuspicionKind::Truncate => write!(f, "empties {of}"),
            SuspicionKind::AlterDrops => write!(f, "drops a part of {of}"),
            SuspicionKind::MassDelete if self.rows.is_none() => write!(f, "deletes every row of {of}"),
            SuspicionKind::MassUpdate if self.rows.is_none() => write!(f, "updates every row of {of}"),
            SuspicionKind::MassDelete => write!(f, "deletes {rows} rows of {of}"),
            SuspicionKind::MassUpdate => write!(f, "updates {rows} rows of {of}"),
        }
    }
}

/// Of a stream's facts, what is needed here.
#[derive(Deserialize)]
struct StreamFacts {
    source: String,
    flavour: LogFlavour,
    started_at: Timestamp,
    after: Option<After>,
}

#[derive(Deserialize)]
struct After {
    cause: String,
}

/// Of a segment's.
#[derive(Deserialize)]
struct SegmentFacts {
    files: Vec<Stretch>,
    first_transaction: Option<u64>,
}

#[derive(Deserialize)]
struct Stretch {
    offset: u64,
    at: u64,
}

pub async fn log_find(context: &Context, vault: &Vault, request: &LogFindRequest) -> Result<LogFindOutcome> {
    let (repository, streams) = choose(context, vault, &request.source).await?;
    let mut search = Search {
        request,
        from: request.from.map_or(0, micros),
        to: request.to.map_or(u64::MAX, micros),
        outcome: LogFindOutcome {
            source: request.source.clone(),
            repository: repository.name().to_owned(),
            transactions: Vec::new(),
            looked_at: 0,
            more: false,
            go_back: None,
            lost: vault.lost().to_vec(),
        },
        seen: Seen::default(),
    };
    for (facts, listing) in &streams {
        search.seen.begins(facts);
        // Where something is missing, what is behind it is read by itself.
        for piece in listing.segments.chunk_by(|a, b| b.start <= a.end) {
            search.read(context, repository, facts.flavour, listing, piece).await?;
        }
    }
    let mut outcome = search.outcome;
    outcome.transactions.sort_by_key(|found| found.committed_at);
    // The first accident is the one to go back before.
    let suspicious = outcome.transactions.iter().find(|found| !found.suspicious.is_empty());
    if let Some(first) = suspicious {
        outcome.go_back = way_before(context, vault, &request.source, first).await?;
    }
    Ok(outcome)
}

async fn way_before(
    context: &Context,
    vault: &Vault,
    source: &str,
    found: &FoundTransaction,
) -> Result<Option<FoundWay>> {
    let gtid: Option<Gtid> = found.gtid.as_ref().and_then(|gtid| gtid.parse().ok());
    let (Some(gtid), Some(stream)) = (gtid, StreamId::parse(&found.stream)) else {
        return Ok(None);
    };
    let way = go_back(context, vault, source, (stream, &gtid)).await?;
    Ok(Some(FoundWay {
        before: gtid.to_string(),
        possible: way != GoBack::Never,
        backup: match way {
            GoBack::From(id) => Some(id),
            GoBack::ByName | GoBack::Never => None,
        },
    }))
}

type Streams = Vec<(StreamFacts, StreamListing)>;

/// The repository that holds most of the source's log, and its streams in the order they began.
async fn choose<'a>(context: &Context, vault: &'a Vault, source: &str) -> Result<(&'a Repository, Streams)> {
    let mut best: Option<(u64, &Repository, Streams)> = None;
    for repository in vault.repositories() {
        let mut streams = Vec::new();
        for id in repository.streams(&context.cancel).await? {
            let listing = repository.stream(id, &context.cancel).await?;
            if is_of_redis(&listing.facts) {
                continue;
            }
            match StreamFacts::deserialize(&listing.facts) {
                Ok(facts) if facts.source == source => streams.push((facts, listing)),
                Ok(_) => {}
                Err(error) => {
                    context.warn(format!("log {id} has facts that are not understood: {error}"), None);
                }
            }
        }
        streams.sort_by_key(|(facts, listing)| (facts.started_at, listing.id));
        let segments = streams.iter().flat_map(|(_, listing)| &listing.segments);
        let bytes = segments
            .map(|place| place.end - place.start)
            .fold(0, u64::saturating_add);
        if bytes > 0 && best.as_ref().is_none_or(|(most, ..)| bytes > *most) {
            best = Some((bytes, repository, streams));
        }
    }
    let Some((_, repository, streams)) = best else {
        return Err(
            ProtectError::failed(format!("no log of source \"{source}\" is in a repository"))
                .hint(format!("follow it from now on with: ballast archive {source}")),
        );
    };
    Ok((repository, streams))
}

struct Search<'a> {
    request: &'a LogFindRequest,
    from: u64,
    to: u64,
    outcome: LogFindOutcome,
    seen: Seen,
}

/// What was met before: captures of one log overlap, and a transaction is told of once.
#[derive(Default)]
struct Seen {
    /// The server began to number anew so often.
    life: u32,
    begun: bool,
    /// Of the captures before, those of this life; of MySQL only, where a set is no more than it says.
    earlier: ExecutedSet,
    own: ExecutedSet,
    /// Those that are listed: as many as may be listed.
    listed: HashMap<String, Vec<(u32, u64)>>,
}

impl Seen {
    fn begins(&mut self, facts: &StreamFacts) {
        let own = std::mem::take(&mut self.own);
        // Sets of two flavours do not mix, and then it is no overlap.
        self.earlier.union(&own).ok();
        let anew = facts
            .after
            .as_ref()
            .is_some_and(|after| matches!(after.cause.as_str(), "reset" | "shortened"));
        if self.begun && anew {
            (self.life, self.earlier) = (self.life + 1, ExecutedSet::default());
        }
        self.begun = true;
    }

    /// Whether an earlier capture has the transaction.
    fn is_again(&mut self, gtid: &Gtid, committed_at: u64) -> bool {
        if matches!(gtid, Gtid::Mysql { .. }) {
            self.own.add(gtid).ok();
            if self.earlier.contains_gtid(gtid) {
                return true;
            }
        }
        let listed = self.listed.get(&gtid.to_string());
        listed.is_some_and(|all| all.iter().any(|(life, at)| *life == self.life || *at == committed_at))
    }

    fn list(&mut self, gtid: &str, committed_at: u64) {
        let all = self.listed.entry(gtid.to_owned()).or_default();
        all.push((self.life, committed_at));
    }
}

impl Search<'_> {
    /// What lies in the span, of segments without a hole.
    async fn read(
        &mut self,
        context: &Context,
        repository: &Repository,
        flavour: LogFlavour,
        listing: &StreamListing,
        piece: &[SegmentPlace],
    ) -> Result<()> {
        let Some((first, end)) = self.chosen(piece) else {
            return Ok(());
        };
        let Some((start, mut walker)) = begin(context, repository, flavour, listing, piece, first).await? else {
            return Ok(());
        };
        let mut reader = StreamReader::new(repository.clone(), listing.clone(), start, context.cancel.clone());
        let stream = listing.id.to_string();
        let (mut done, whole) = (0, end - start.min(end));
        let mut at = start;
        // A transaction that begins before the end may end behind it.
        while at < end || (at < piece_end(piece) && !walker.between_transactions()) {
            let Some((_, bytes)) = reader.next().await? else { break };
            at += bytes.len() as u64;
            done += bytes.len() as u64;
            let walked;
            (walker, walked) = walk(walker, bytes).await?;
            for transaction in walked? {
                self.take(&stream, transaction);
            }
            context.progress("reading the log", done.min(whole), Some(whole));
        }
        Ok(())
    }

    /// The first segment that may hold something of the span, and the end of the last.
    fn chosen(&self, piece: &[SegmentPlace]) -> Option<(usize, u64)> {
        let not_before = |place: &SegmentPlace| place.last_at.saturating_add(CLOCK_STEP_MICROS) >= self.from;
        let not_after = |place: &SegmentPlace| place.first_at <= self.to.saturating_add(CLOCK_STEP_MICROS);
        let has_some = |place: &SegmentPlace| place.last_at > 0;
        let first = piece.iter().position(|place| has_some(place) && not_before(place))?;
        let last = piece.iter().rposition(|place| has_some(place) && not_after(place))?;
        let end = piece.get(last)?.end;
        (first <= last).then_some((first, end))
    }

    fn take(&mut self, stream: &str, transaction: WalkedTransaction) {
        let at = transaction.head.committed_at;
        if at < self.from || at > self.to {
            return;
        }
        let gtid = transaction.head.gtid.as_ref();
        if gtid.is_some_and(|gtid| self.seen.is_again(gtid, at)) {
            return;
        }
        self.outcome.looked_at += 1;
        let suspicious = suspicions(&transaction, self.request.mass_rows);
        let wanted = self.touches(&transaction) && (!self.request.suspicious || !suspicious.is_empty());
        if !wanted {
            return;
        }
        if self.outcome.transactions.len() >= self.request.found_max {
            self.outcome.more = true;
            return;
        }
        let gtid = gtid.map(ToString::to_string);
        if let Some(gtid) = &gtid {
            self.seen.list(gtid, at);
        }
        self.outcome.transactions.push(FoundTransaction {
            gtid,
            committed_at: timestamp(at),
            server_id: transaction.head.server_id,
            stream: stream.to_owned(),
            offset: transaction.offset,
            incomplete: transaction.incomplete || transaction.unnamed > 0,
            tables: transaction.tables.into_iter().map(found_table).collect(),
            statements: transaction.statements.into_iter().map(found_statement).collect(),
            suspicious,
        });
    }

    fn touches(&self, transaction: &WalkedTransaction) -> bool {
        let tables = &self.request.tables;
        if tables.is_empty() {
            return true;
        }
        let matches = |database: &str, table: &str| tables.iter().any(|pattern| pattern.matches(database, table));
        let rows = transaction.tables.iter().any(|rows| matches(&rows.schema, &rows.table));
        let named = transaction.statements.iter().any(|statement| {
            statement.names.iter().any(|name| match statement.kind {
                StatementKind::CreateDatabase | StatementKind::AlterDatabase | StatementKind::DropDatabase => {
                    tables.iter().any(|pattern| pattern.is_about(&name.name))
                }
                _ => {
                    let database = name.schema.as_deref().or(statement.schema.as_deref());
                    matches(database.unwrap_or_default(), &name.name)
                }
            })
        });
        // What was not understood may have touched anything.
        rows || named || transaction.incomplete
    }
}

fn piece_end(piece: &[SegmentPlace]) -> u64 {
    piece.last().map_or(0, |place| place.end)
}

/// Opening and counting is work for another thread; a segment takes up to a tenth of a second.
async fn walk(
    mut walker: TransactionWalker,
    bytes: bytes::Bytes,
) -> Result<(
    TransactionWalker,
    std::result::Result<Vec<WalkedTransaction>, ballast_mysql::MysqlError>,
)> {
    let walked = ballast_base::run_blocking("log find", move || {
        let walked = walker.push(&bytes);
        (walker, walked)
    });
    walked
        .await
        .map_err(|error| ProtectError::failed("the log cannot be looked through").because(error))
}

/// Where to begin so that the first transaction of a segment is read, and a walker that stands there. `None`: none begins.
async fn begin(
    context: &Context,
    repository: &Repository,
    flavour: LogFlavour,
    listing: &StreamListing,
    piece: &[SegmentPlace],
    first: usize,
) -> Result<Option<(u64, TransactionWalker)>> {
    let Some(place) = piece.get(first) else {
        return Ok(None);
    };
    if place.start == 0 {
        return Ok(Some((0, TransactionWalker::new(flavour, 0))));
    }
    let facts = repository
        .segment_facts(listing.id, place, &context.cancel)
        .await?
        .facts;
    let facts = SegmentFacts::deserialize(&facts).map_err(|error| {
        ProtectError::failed(format!(
            "log {} has a segment whose facts are not understood",
            listing.id
        ))
        .because(error)
    })?;
    let Some(start) = facts.first_transaction else {
        return Ok(None);
    };
    let stretch = facts.files.iter().rfind(|stretch| stretch.at <= start);
    let Some((file_at, file_offset)) = stretch.and_then(|stretch| {
        let file_at = stretch.at.checked_sub(stretch.offset)?;
        Some((file_at, start.checked_sub(file_at)?))
    }) else {
        return Err(ProtectError::failed(format!(
            "log {} has a segment whose facts name no file",
            listing.id
        )));
    };
    let mut reader = StreamReader::new(repository.clone(), listing.clone(), file_at, context.cancel.clone());
    let mut head = Vec::new();
    let format = loop {
        let Some((_, bytes)) = reader.next().await? else {
            return Err(ProtectError::failed(format!(
                "log {} has no whole file at {file_at}",
                listing.id
            )));
        };
        let left = FORMAT_BYTES_MAX.saturating_sub(head.len()).min(bytes.len());
        head.extend_from_slice(bytes.get(..left).unwrap_or_default());
        if let Some(format) = format_event(&head) {
            break format;
        }
        if head.len() >= FORMAT_BYTES_MAX {
            return Err(ProtectError::failed(format!(
                "log {} has no file at {file_at}",
                listing.id
            )));
        }
    };
    let walker = TransactionWalker::within(flavour, start, file_offset, format)?;
    Ok(Some((start, walker)))
}

/// The first event of a file, once it is whole.
fn format_event(file: &[u8]) -> Option<&[u8]> {
    let events = file.get(LOG_MAGIC.len()..)?;
    let header = EventHeader::decode(events.get(..EventHeader::BYTES)?).ok()?;
    events.get(..usize::try_from(header.size).ok()?)
}

fn found_table(rows: TableRows) -> FoundTable {
    FoundTable {
        database: rows.schema,
        table: rows.table,
        inserted: rows.inserted,
        updated: rows.updated,
        deleted: rows.deleted,
        exact: rows.counted,
    }
}

fn found_statement(statement: Statement) -> FoundStatement {
    FoundStatement {
        kind: statement.kind,
        database: statement.schema,
        text: statement.text,
        cut: statement.cut,
    }
}

/// What looks like an accident. Pure.
fn suspicions(transaction: &WalkedTransaction, mass_rows: u64) -> Vec<Suspicion> {
    let mut found = Vec::new();
    for rows in &transaction.tables {
        for (kind, count) in [
            (SuspicionKind::MassDelete, rows.deleted),
            (SuspicionKind::MassUpdate, rows.updated),
        ] {
            if count >= mass_rows {
                found.push(Suspicion {
                    kind,
                    of: format!("{}.{}", rows.schema, rows.table),
                    rows: Some(count),
                });
            }
        }
    }
    for statement in &transaction.statements {
        let upper = statement.text.to_ascii_uppercase();
        let has = |word: &str| {
            upper
                .split(|c: char| !c.is_ascii_alphanumeric())
                .any(|found| found == word)
        };
        let kind = match statement.kind {
            // Of a temporary table nothing but the session that made it knows.
            StatementKind::DropTable if has("TEMPORARY") => continue,
            StatementKind::DropTable => SuspicionKind::DropTable,
            StatementKind::DropDatabase => SuspicionKind::DropDatabase,
            StatementKind::TruncateTable => SuspicionKind::Truncate,
            StatementKind::AlterTable if drops_content(&upper) => SuspicionKind::AlterDrops,
            StatementKind::Delete if !has("WHERE") && !statement.cut => SuspicionKind::MassDelete,
            StatementKind::Update if !has("WHERE") && !statement.cut => SuspicionKind::MassUpdate,
            _ => continue,
        };
        for name in &statement.names {
            let database = name.schema.as_deref().or(statement.schema.as_deref());
            let of = match database {
                Some(database) if kind != SuspicionKind::DropDatabase => format!("{database}.{}", name.name),
                _ => name.name.clone(),
            };
            found.push(Suspicion { kind, of, rows: None });
        }
    }
    found
}

/// Of an `ALTER TABLE`, whether rows or values go: a column, or a partition. An index or a key holds nothing of its own.
fn drops_content(upper: &str) -> bool {
    let words: Vec<&str> = upper
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '`')
        .filter(|word| !word.is_empty())
        .collect();
    words.windows(2).any(|pair| match pair {
        ["DROP", what] => !matches!(
            *what,
            "INDEX" | "KEY" | "PRIMARY" | "FOREIGN" | "CHECK" | "CONSTRAINT" | "DEFAULT" | "SYSTEM"
        ),
        ["TRUNCATE" | "DISCARD", _] => true,
        _ => false,
    })
}

fn micros(at: Timestamp) -> u64 {
    u64::try_from(at.as_microsecond()).unwrap_or(0)
}

fn timestamp(micros: u64) -> Timestamp {
    i64::try_from(micros)
        .ok()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alter_that_takes_values_away_is_told_from_one_that_does_not() {
        for (statement, expected) in [
            ("ALTER TABLE T DROP COLUMN A", true),
            ("ALTER TABLE T ADD B INT, DROP `A`", true),
            ("ALTER TABLE T DROP PARTITION P1", true),
            ("ALTER TABLE T TRUNCATE PARTITION P1", true),
            ("ALTER TABLE T DROP INDEX I", false),
            ("ALTER TABLE T DROP PRIMARY KEY, ADD PRIMARY KEY (A)", false),
            ("ALTER TABLE T ALTER A DROP DEFAULT", false),
            ("ALTER TABLE T ADD DROPPED INT", false),
        ] {
            assert_eq!(drops_content(statement), expected, "{statement}");
        }
    }

    #[test]
    fn what_overlapping_captures_hold_is_told_of_once() {
        let facts = |cause: Option<&str>| StreamFacts {
            source: String::new(),
            flavour: LogFlavour::Mysql,
            started_at: Timestamp::UNIX_EPOCH,
            after: cause.map(|cause| After {
                cause: cause.to_owned(),
            }),
        };
        let gtid = |number: u64| {
            format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{number}")
                .parse::<Gtid>()
                .unwrap()
        };
        let mut seen = Seen::default();
        let mut told = |cause: Option<&str>, transactions: &[(u64, u64)]| -> Vec<u64> {
            seen.begins(&facts(cause));
            let mut told = Vec::new();
            for (number, at) in transactions {
                if !seen.is_again(&gtid(*number), *at) {
                    seen.list(&gtid(*number).to_string(), *at);
                    told.push(*number);
                }
            }
            told
        };
        assert_eq!(told(None, &[(1, 10), (2, 20), (4, 40)]), [1, 2, 4]);
        // Another server committed them later.
        assert_eq!(told(Some("failover"), &[(2, 21), (3, 31), (4, 41), (5, 51)]), [3, 5]);
        // It kept the first of them.
        assert_eq!(told(Some("shortened"), &[(4, 40), (5, 52), (6, 62)]), [5, 6]);
        assert_eq!(told(Some("reset"), &[(1, 70), (2, 80)]), [1, 2]);
        assert_eq!(told(Some("spool-lost"), &[(2, 80), (3, 90)]), [3]);
    }

    #[test]
    fn the_segments_of_the_span_are_read_and_a_little_more() {
        const MINUTE: u64 = 60 * 1_000_000;
        // One transaction of an hour each, then a segment within a transaction, then one more.
        let place = |number: u64, first_at: u64, last_at: u64| SegmentPlace {
            start: number * 10,
            end: number * 10 + 10,
            first_at,
            last_at,
        };
        let piece = [
            place(0, 60 * MINUTE, 119 * MINUTE),
            place(1, 120 * MINUTE, 179 * MINUTE),
            place(2, 0, 0),
            place(3, 240 * MINUTE, 299 * MINUTE),
        ];
        let request = LogFindRequest {
            source: "orders".to_owned(),
            tables: Vec::new(),
            from: None,
            to: None,
            suspicious: false,
            mass_rows: 1,
            found_max: 1,
        };
        let chosen = |from: u64, to: u64| {
            let search = Search {
                request: &request,
                from: from * MINUTE,
                to: to.saturating_mul(MINUTE),
                outcome: LogFindOutcome {
                    source: String::new(),
                    repository: String::new(),
                    transactions: Vec::new(),
                    looked_at: 0,
                    more: false,
                    go_back: None,
                    lost: Vec::new(),
                },
                seen: Seen::default(),
            };
            search.chosen(&piece)
        };
        assert_eq!(chosen(0, u64::MAX), Some((0, 40)));
        assert_eq!(chosen(140, 150), Some((1, 20)));
        // The clock may have stepped by ten minutes.
        assert_eq!(chosen(125, 150), Some((0, 20)));
        assert_eq!(chosen(200, 231), Some((3, 40)));
        assert_eq!(chosen(200, 210), None);
        assert_eq!(chosen(400, 500), None);
    }
}
