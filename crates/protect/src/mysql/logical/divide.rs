//! Divides a large table into stretches of about the same size, so that several connections read it: partition by
//! partition, and within by the key.
//!
//! Borders are keys that are there. One is found by halving the values between the first and the last key of a stretch, and
//! asking for the next key; the server estimates from its index how much is on either side, and the largest stretch is
//! halved next. So each question is one dive into an index, whatever the table's size, and how the values are spread
//! decides only how many questions it takes, which is limited. A probe is a guess, where collations sort otherwise than
//! bytes a poor one: what comes of it is a key all the same, and the stretches hold every row once.
#![deny(clippy::indexing_slicing)]

use ballast_mysql::{Connection, TableSchema};

use super::probe::probes;
use super::stretch::{Literals, Stretch, TableKey};
use crate::error::Result;

/// What is read as one, if the server's estimates are right.
const STRETCH_BYTES: u64 = 256 * 1024 * 1024;
/// Of a table, or of each of its partitions.
const STRETCHES_MAX: u64 = 64;
/// More partitions than that are read several at a time.
const PARTITIONS_MAX: usize = 1024;
/// Halvings for each stretch that is wanted, and for a table whose values are spread unevenly.
const SPLITS_EACH: u64 = 4;
const SPLITS_MORE: u64 = 64;

/// How finely to divide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fineness {
    pub(crate) stretch_bytes: u64,
    pub(crate) stretches_max: u64,
}

impl Default for Fineness {
    fn default() -> Self {
        Self {
            stretch_bytes: STRETCH_BYTES,
            stretches_max: STRETCHES_MAX,
        }
    }
}

/// Stretches that hold every row of the table once.
pub(crate) async fn divide(
    connection: &mut Connection,
    table: &TableSchema,
    key: Option<&TableKey>,
    fineness: Fineness,
) -> Result<Vec<Stretch>> {
    let count = (table.data_bytes / fineness.stretch_bytes.max(1) + 1).min(fineness.stretches_max);
    if count == 1 {
        return Ok(vec![Stretch::default()]);
    }
    let parts = of_partitions(&table.partitions);
    let Some(key) = key else { return Ok(parts) };
    let mut dividing = Dividing {
        connection,
        table,
        key,
        rows_wanted: table.rows / count + 1,
        splits_left: count * SPLITS_EACH + SPLITS_MORE,
    };
    let mut stretches = Vec::new();
    for part in parts {
        stretches.extend(dividing.part(part).await?);
    }
    Ok(stretches)
}

/// One for each partition, or for a few of them where there are very many.
fn of_partitions(partitions: &[String]) -> Vec<Stretch> {
    if partitions.is_empty() {
        return vec![Stretch::default()];
    }
    let together = partitions.len().div_ceil(PARTITIONS_MAX);
    let stretch = |names: &[String]| Stretch {
        partitions: names.to_vec(),
        ..Stretch::default()
    };
    partitions.chunks(together).map(stretch).collect()
}

struct Dividing<'a> {
    connection: &'a mut Connection,
    table: &'a TableSchema,
    key: &'a TableKey,
    rows_wanted: u64,
    splits_left: u64,
}

/// A stretch with its first and last key and the server's estimate.
struct Piece {
    stretch: Stretch,
    low: Values,
    high: Values,
    rows: u64,
    /// No key was found between its ends.
    whole: bool,
}

/// The values of a key's columns, as the server sent them.
type Values = Vec<Vec<u8>>;

impl Dividing<'_> {
    async fn part(&mut self, part: Stretch) -> Result<Vec<Stretch>> {
        let Some(first) = self.piece(part.clone(), None, None).await? else {
            return Ok(vec![part]);
        };
        // In the order of the key.
        let mut pieces = vec![first];
        while self.splits_left > 0 {
            let candidates = pieces.iter().enumerate();
            let candidates = candidates.filter(|(_, piece)| !piece.whole && piece.rows > self.rows_wanted);
            let Some((at, _)) = candidates.max_by_key(|(_, piece)| piece.rows) else {
                break;
            };
            self.splits_left -= 1;
            let piece = pieces.remove(at);
            pieces.splice(at..at, self.halve(piece).await?);
        }
        Ok(self.joined(pieces))
    }

    /// Two pieces of one, or the same one as one that is not halved again.
    async fn halve(&mut self, piece: Piece) -> Result<Vec<Piece>> {
        let (low, high) = (self.literals(&piece.low), self.literals(&piece.high));
        if let (Some(low), Some(high)) = (low, high) {
            for probe in probes(self.key, &piece.low, &piece.high) {
                let sql = piece.stretch.select_key(self.table, self.key, (&low, &high), &probe);
                let Some(border) = self.ask(&sql).await? else { continue };
                let Some(literals) = self.literals(&border) else {
                    continue;
                };
                let (first, second) = piece.stretch.split(literals);
                let first = self.piece(first, Some(piece.low.clone()), None).await?;
                let second = self.piece(second, Some(border), Some(piece.high.clone())).await?;
                if let (Some(first), Some(second)) = (first, second) {
                    return Ok(shared(piece.rows, first, second));
                }
            }
        }
        Ok(vec![Piece { whole: true, ..piece }])
    }

    /// `None` where it has no rows.
    async fn piece(&mut self, stretch: Stretch, low: Option<Values>, high: Option<Values>) -> Result<Option<Piece>> {
        let mut ends = Vec::new();
        for (known, last) in [(low, false), (high, true)] {
            let sql = stretch.select_end(self.table, self.key, last);
            match known {
                Some(end) => ends.push(end),
                None => ends.extend(self.ask(&sql).await?),
            }
        }
        let (Some(high), Some(low)) = (ends.pop(), ends.pop()) else {
            return Ok(None);
        };
        let answer = self.connection.query(&stretch.explain(self.table, self.key)).await?;
        let column = answer.columns.iter().position(|name| name == "rows");
        let rows = answer.rows.first().and_then(|row| row.number(column?));
        Ok(Some(Piece {
            stretch,
            low,
            high,
            rows: rows.unwrap_or(0),
            whole: false,
        }))
    }

    async fn ask(&mut self, sql: &str) -> Result<Option<Values>> {
        let answer = self.connection.query(sql).await?;
        let row = answer.rows.first();
        Ok(row.and_then(|row| {
            let values = (0..self.key.columns.len()).map(|column| row.bytes(column).map(<[u8]>::to_vec));
            values.collect()
        }))
    }

    fn literals(&self, values: &[Vec<u8>]) -> Option<Literals> {
        let literals = self
            .key
            .columns
            .iter()
            .zip(values)
            .map(|(column, value)| column.literal(value));
        literals.collect()
    }

    /// Small ones that follow each other make one.
    fn joined(&self, pieces: Vec<Piece>) -> Vec<Stretch> {
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            match joined.last_mut() {
                Some(last) if last.rows + piece.rows <= self.rows_wanted => {
                    last.stretch.before = piece.stretch.before;
                    last.rows += piece.rows;
                }
                _ => joined.push(piece),
            }
        }
        joined.into_iter().map(|piece| piece.stretch).collect()
    }
}

/// The parts of what a piece was estimated to have, in the ratio of their own estimates: where these are poor, and do not get less
/// with the piece, dividing comes to an end all the same.
fn shared(whole: u64, first: Piece, second: Piece) -> Vec<Piece> {
    let sum = u128::from(first.rows) + u128::from(second.rows);
    let part = u128::from(whole) * u128::from(first.rows) / sum.max(1);
    let part = u64::try_from(part).unwrap_or(whole).min(whole);
    vec![
        Piece { rows: part, ..first },
        Piece {
            rows: whole - part,
            ..second
        },
    ]
}

#[cfg(test)]
mod tests;
