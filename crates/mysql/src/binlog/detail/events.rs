//! What the events of one transaction do: rows per table, and statements.
//!
//! A body is read as it comes. Heads, names and the beginnings of statements are kept, rows and payloads are not.
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::sync::Arc;

use super::frames::{Frames, Piece};
use super::packed::Packed;
use super::rows::{RowChange, RowCounter, TableShape};
use super::statement::{self, StatementKind};
use super::{Statement, TableRows};
use crate::MysqlError;
use crate::binlog::event::EventHeader;
use crate::binlog::query::Query;
use crate::wire::reader::Reader;

/// A transaction names at most this many tables and statements; what is more is counted only.
const TABLES_MAX: usize = 4096;
const STATEMENTS_MAX: usize = 64;
/// A statement is kept up to here.
const TEXT_BYTES_MAX: usize = 4096;
/// What stands before the text of a statement, and the text as far as it is kept.
const QUERY_BYTES_MAX: usize = 128 * 1024 + TEXT_BYTES_MAX;
/// The definition of a table in the log is shorter.
const TABLE_MAP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What stands before the rows of an event, or before a payload.
const HEAD_BYTES_MAX: usize = 128 * 1024;

const ROWS_QUERY: u8 = 29;
const PARTIAL_UPDATE: u8 = 39;

/// What has been told of a transaction.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) tables: Vec<TableRows>,
    pub(super) statements: Vec<Statement>,
    /// Statements and tables that are not named.
    pub(super) unnamed: u64,
    /// Something was not understood.
    pub(super) incomplete: bool,
}

#[derive(Debug, Default)]
pub(super) struct Events {
    shapes: HashMap<u64, Arc<TableShape>>,
    told: Told,
    at: HashMap<(String, String), usize>,
    now: Now,
}

/// The event under way.
#[derive(Debug, Default)]
enum Now {
    #[default]
    Nothing,
    Collect {
        kind: u8,
        bytes: Vec<u8>,
        bytes_max: usize,
    },
    RowsHead {
        kind: u8,
        bytes: Vec<u8>,
    },
    Rows {
        counter: RowCounter,
        packed: Packed,
        /// Of a compressed event: what stands before the stream.
        before: Option<Vec<u8>>,
    },
    PayloadHead(Vec<u8>),
    Payload {
        packed: Packed,
        inner: Box<(Frames, Events)>,
    },
}

/// A table's rows of one kind of event: version, change, whether it is compressed.
fn rows_kind(kind: u8) -> Option<(u8, RowChange, bool)> {
    use RowChange::{Delete, Insert, Update};
    Some(match kind {
        23 => (1, Insert, false),
        24 => (1, Update, false),
        25 => (1, Delete, false),
        30 => (2, Insert, false),
        31 | PARTIAL_UPDATE => (2, Update, false),
        32 => (2, Delete, false),
        166 => (1, Insert, true),
        167 => (1, Update, true),
        168 => (1, Delete, true),
        169 => (2, Insert, true),
        170 => (2, Update, true),
        171 => (2, Delete, true),
        _ => return None,
    })
}

impl Events {
    /// What was told since the last time.
    pub(super) fn finish(&mut self) -> Told {
        self.shapes.clear();
        self.at.clear();
        self.now = Now::Nothing;
        std::mem::take(&mut self.told)
    }

    pub(super) fn take(&mut self, piece: Piece<'_>) {
        let taken = match piece {
            Piece::Begin(header) => {
                self.now = Self::begin(&header);
                Ok(())
            }
            Piece::Body(bytes) => self.body(bytes),
            Piece::End => self.end(),
        };
        if taken.is_err() {
            self.told.incomplete = true;
            self.now = Now::Nothing;
        }
    }

    fn begin(header: &EventHeader) -> Now {
        let collect = |bytes_max| Now::Collect {
            kind: header.kind,
            bytes: Vec::new(),
            bytes_max,
        };
        match header.kind {
            EventHeader::TABLE_MAP => collect(TABLE_MAP_BYTES_MAX),
            EventHeader::QUERY | EventHeader::MARIADB_QUERY_COMPRESSED => collect(QUERY_BYTES_MAX),
            EventHeader::TRANSACTION_PAYLOAD => Now::PayloadHead(Vec::new()),
            ROWS_QUERY => Now::Nothing,
            kind if rows_kind(kind).is_some() => Now::RowsHead {
                kind,
                bytes: Vec::new(),
            },
            _ => Now::Nothing,
        }
    }

    fn body(&mut self, bytes: &[u8]) -> Result<(), MysqlError> {
        match &mut self.now {
            Now::Nothing => {}
            Now::Collect {
                bytes: kept, bytes_max, ..
            } => {
                let more = bytes.len().min(bytes_max.saturating_sub(kept.len()));
                kept.extend_from_slice(bytes.get(..more).unwrap_or_default());
            }
            Now::RowsHead { kind, bytes: kept } => {
                kept.extend_from_slice(bytes);
                let (kind, kept) = (*kind, std::mem::take(kept));
                self.rows_head(kind, kept)?;
            }
            Now::Rows {
                counter,
                packed,
                before,
            } => push_rows(counter, packed, before, bytes)?,
            Now::PayloadHead(kept) => {
                kept.extend_from_slice(bytes);
                let kept = std::mem::take(kept);
                self.payload_head(kept)?;
            }
            Now::Payload { packed, inner } => push_payload(packed, inner, bytes)?,
        }
        Ok(())
    }

    /// Begins the rows once what stands before them is whole.
    fn rows_head(&mut self, kind: u8, bytes: Vec<u8>) -> Result<(), MysqlError> {
        let Some(head) = RowsHead::decode(kind, &bytes) else {
            if bytes.len() > HEAD_BYTES_MAX {
                return Err(MysqlError::protocol("rows event: an endless head"));
            }
            self.now = Now::RowsHead { kind, bytes };
            return Ok(());
        };
        let Some((_, change, compressed)) = rows_kind(kind) else {
            return Ok(());
        };
        let Some(shape) = self.shapes.get(&head.table).map(Arc::clone) else {
            return Err(MysqlError::protocol("rows event: of an unknown table"));
        };
        let counter = RowCounter::new(&shape, change, kind == PARTIAL_UPDATE, &head.present, head.columns);
        let Some(mut counter) = counter else {
            if let Some(table) = self.table(&shape) {
                table.counted = false;
            }
            self.now = Now::Nothing;
            return Ok(());
        };
        let (mut packed, mut before) = if compressed {
            (Packed::zlib(), Some(Vec::new()))
        } else {
            (Packed::Plain, None)
        };
        push_rows(&mut counter, &mut packed, &mut before, head.rest)?;
        self.now = Now::Rows {
            counter,
            packed,
            before,
        };
        Ok(())
    }

    fn payload_head(&mut self, bytes: Vec<u8>) -> Result<(), MysqlError> {
        let Some((zstd, rest)) = decode_payload_head(&bytes)? else {
            if bytes.len() > HEAD_BYTES_MAX {
                return Err(MysqlError::protocol("payload event: an endless head"));
            }
            self.now = Now::PayloadHead(bytes);
            return Ok(());
        };
        let mut packed = if zstd { Packed::zstd()? } else { Packed::Plain };
        let mut inner = Box::new((Frames::default(), Self::default()));
        push_payload(&mut packed, &mut inner, rest)?;
        self.now = Now::Payload { packed, inner };
        Ok(())
    }

    fn end(&mut self) -> Result<(), MysqlError> {
        match std::mem::take(&mut self.now) {
            Now::Nothing => Ok(()),
            Now::Collect { kind, bytes, .. } if kind == EventHeader::TABLE_MAP => {
                let shape = TableShape::decode(&bytes)?;
                if self.shapes.len() >= TABLES_MAX {
                    self.shapes.clear();
                }
                self.shapes.insert(shape.id, Arc::new(shape));
                Ok(())
            }
            Now::Collect { kind, bytes, bytes_max } => {
                let query = Query::decode(&bytes)?;
                let cut = bytes.len() == bytes_max;
                if kind == EventHeader::MARIADB_QUERY_COMPRESSED {
                    let text = inflate_text(query.text)?;
                    let cut = text.len() >= TEXT_BYTES_MAX;
                    self.statement(query.database, &text, cut);
                } else {
                    self.statement(query.database, query.text, cut);
                }
                Ok(())
            }
            Now::Rows { counter, .. } => {
                let whole = counter.is_between_rows();
                let (change, rows) = (counter.change(), counter.rows);
                if let Some(table) = self.table(counter.shape()) {
                    let count = match change {
                        RowChange::Insert => &mut table.inserted,
                        RowChange::Update => &mut table.updated,
                        RowChange::Delete => &mut table.deleted,
                    };
                    *count = count.saturating_add(rows);
                    table.counted &= whole;
                }
                Ok(())
            }
            Now::Payload { inner, .. } => {
                let (frames, mut events) = *inner;
                let told = events.finish();
                self.merge(told);
                if frames.at_border() {
                    Ok(())
                } else {
                    Err(MysqlError::protocol("payload event: it ends within an event"))
                }
            }
            Now::RowsHead { .. } | Now::PayloadHead(_) => Err(MysqlError::protocol("an event that ends in its head")),
        }
    }

    fn table(&mut self, shape: &TableShape) -> Option<&mut TableRows> {
        self.table_named(&shape.schema, &shape.table)
    }

    fn table_named(&mut self, schema: &str, table: &str) -> Option<&mut TableRows> {
        let name = (schema.to_owned(), table.to_owned());
        let at = match self.at.get(&name) {
            Some(at) => *at,
            None if self.told.tables.len() < TABLES_MAX => {
                self.told.tables.push(TableRows::new(schema, table));
                self.at.insert(name, self.told.tables.len() - 1);
                self.told.tables.len() - 1
            }
            None => {
                self.told.unnamed += 1;
                return None;
            }
        };
        self.told.tables.get_mut(at)
    }

    fn statement(&mut self, database: &[u8], text: &[u8], cut: bool) {
        let kept = text.get(..text.len().min(TEXT_BYTES_MAX)).unwrap_or_default();
        let kept_text = String::from_utf8_lossy(kept).into_owned();
        let (kind, names) = statement::read(&kept_text);
        if kind == StatementKind::Other && is_frame(&kept_text) {
            return;
        }
        if self.told.statements.len() >= STATEMENTS_MAX {
            self.told.unnamed += 1;
            return;
        }
        let database = String::from_utf8_lossy(database).into_owned();
        self.told.statements.push(Statement {
            schema: Some(database).filter(|name| !name.is_empty()),
            kind,
            names,
            cut: cut || kept.len() < text.len(),
            text: kept_text,
        });
    }

    fn merge(&mut self, told: Told) {
        for table in told.tables {
            if let Some(known) = self.table_named(&table.schema, &table.table) {
                known.inserted = known.inserted.saturating_add(table.inserted);
                known.updated = known.updated.saturating_add(table.updated);
                known.deleted = known.deleted.saturating_add(table.deleted);
                known.counted &= table.counted;
            }
        }
        for statement in told.statements {
            if self.told.statements.len() < STATEMENTS_MAX {
                self.told.statements.push(statement);
            } else {
                self.told.unnamed += 1;
            }
        }
        self.told.unnamed += told.unnamed;
        self.told.incomplete |= told.incomplete;
    }
}

/// What stands around changes and changes nothing.
fn is_frame(text: &str) -> bool {
    let word = text.split_whitespace().next().unwrap_or_default();
    ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "XA", "START"]
        .iter()
        .any(|frame| word.eq_ignore_ascii_case(frame))
}

fn push_rows(
    counter: &mut RowCounter,
    packed: &mut Packed,
    before: &mut Option<Vec<u8>>,
    bytes: &[u8],
) -> Result<(), MysqlError> {
    let Some(kept) = before else {
        return packed.open(bytes, |opened| counter.push(opened));
    };
    kept.extend_from_slice(bytes);
    if let Some(length) = zlib_head_bytes(kept)
        && kept.len() >= length
    {
        let kept = std::mem::take(kept);
        *before = None;
        packed.open(kept.get(length..).unwrap_or_default(), |opened| counter.push(opened))?;
    }
    Ok(())
}

/// MariaDB writes before a stream how long the length of the opened bytes is, and the length.
fn zlib_head_bytes(bytes: &[u8]) -> Option<usize> {
    Some(1 + usize::from(bytes.first()? & 0x07))
}

fn inflate_text(bytes: &[u8]) -> Result<Vec<u8>, MysqlError> {
    let length = zlib_head_bytes(bytes).unwrap_or(0);
    let mut text = Vec::new();
    Packed::zlib().open(bytes.get(length..).unwrap_or_default(), |opened| {
        let more = opened.len().min(TEXT_BYTES_MAX.saturating_sub(text.len()));
        text.extend_from_slice(opened.get(..more).unwrap_or_default());
    })?;
    Ok(text)
}

fn push_payload(packed: &mut Packed, inner: &mut (Frames, Events), bytes: &[u8]) -> Result<(), MysqlError> {
    let (frames, events) = inner;
    let mut framed = Ok(());
    packed.open(bytes, |mut opened| {
        while !opened.is_empty() && framed.is_ok() {
            let taken = frames.push(
                opened,
                |_| 0,
                |piece| {
                    // One within another would open without end.
                    if !matches!(&piece, Piece::Begin(header) if header.kind == EventHeader::TRANSACTION_PAYLOAD) {
                        events.take(piece);
                    }
                },
            );
            match taken {
                Ok(taken) => opened = opened.get(taken..).unwrap_or_default(),
                Err(error) => framed = Err(error),
            }
        }
    })?;
    framed
}

/// Whether it is compressed, and what stands behind the head; `None` while the head is not whole.
fn decode_payload_head(bytes: &[u8]) -> Result<Option<(bool, &[u8])>, MysqlError> {
    const END: u64 = 0;
    const COMPRESSION: u64 = 2;
    const ZSTD: u64 = 0;
    const NONE: u64 = 255;
    let mut reader = Reader::new("payload event", bytes);
    let mut zstd = true;
    loop {
        let Ok(field) = reader.lenenc() else { return Ok(None) };
        if field == END {
            return Ok(Some((zstd, reader.rest())));
        }
        let Ok(value) = reader.lenenc_bytes() else {
            return Ok(None);
        };
        if field == COMPRESSION {
            zstd = match Reader::new("payload event", value).lenenc()? {
                ZSTD => true,
                NONE => false,
                other => return Err(reader.wrong(format_args!("compression {other}"))),
            };
        }
    }
}

/// What stands before the rows.
struct RowsHead<'a> {
    table: u64,
    columns: usize,
    present: Vec<&'a [u8]>,
    rest: &'a [u8],
}

impl<'a> RowsHead<'a> {
    /// `None` while it is not whole.
    fn decode(kind: u8, bytes: &'a [u8]) -> Option<Self> {
        let (version, change, _) = rows_kind(kind)?;
        let mut reader = Reader::new("rows event", bytes);
        let table = reader.uint_le(6).ok()?;
        reader.u16_le().ok()?; // flags
        if version == 2 {
            let extra = usize::from(reader.u16_le().ok()?).saturating_sub(2);
            reader.take(extra).ok()?;
        }
        let columns = usize::try_from(reader.lenenc().ok()?).ok()?;
        let images = if change == RowChange::Update { 2 } else { 1 };
        let mut present = Vec::new();
        for _ in 0..images {
            present.push(reader.take(columns.div_ceil(8)).ok()?);
        }
        Some(Self {
            table,
            columns,
            present,
            rest: reader.rest(),
        })
    }
}
