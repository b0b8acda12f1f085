//! Rows of any number, as they come from the server.
//!
//! An answer of unknown size is read in batches: one wait brings every whole row that has arrived, and the values stay
//! where they were read. Not more than a batch is held, which is a few hundred KiB, or one row where that is larger.
//!
//! A stream that is dropped before its end leaves the connection unusable, since the rest of the answer is still on
//! its way.
#![deny(clippy::indexing_slicing)]

use bytes::Bytes;
use mysql_common::constants::CapabilityFlags;

use crate::connection::Beginning;
use crate::wire::packet::{Run, Underway};
use crate::wire::reader::Reader;
use crate::wire::response;
use crate::{Connection, MysqlError};

/// The largest row that is read: the server's own limit of a packet, `max_allowed_packet` at its highest.
pub const ROW_BYTES_MAX: usize = 1024 * 1024 * 1024;

const DOING: &str = "reading rows";
const NULL: u8 = 0xFB;

impl Connection {
    /// Runs one statement whose rows are then read from the stream. After the last one
    /// [`Connection::refuse_cut_values`] tells whether they are what is in the table.
    pub async fn stream(&mut self, sql: &str) -> Result<RowStream<'_>, MysqlError> {
        match self.ask(DOING, sql.as_bytes()).await? {
            Beginning::Rows(columns) => Ok(RowStream {
                columns: columns.len(),
                capabilities: self.capabilities,
                underway: Underway::new(&mut self.channel),
                warnings: &mut self.warnings,
            }),
            Beginning::Done(_) => Err(MysqlError::protocol("a statement without rows where rows are read")),
            Beginning::LocalFile => {
                self.channel.abandon();
                Err(MysqlError::protocol("the server asked for a local file"))
            }
        }
    }
}

/// The rows of one statement.
pub struct RowStream<'a> {
    underway: Underway<'a>,
    capabilities: CapabilityFlags,
    columns: usize,
    warnings: &'a mut u16,
}

impl std::fmt::Debug for RowStream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowStream")
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}

impl RowStream<'_> {
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The rows that have come since; `None` after the last one. Dropping the future before it is ready makes the
    /// connection unusable.
    pub async fn next(&mut self) -> Result<Option<RowBatch>, MysqlError> {
        if self.underway.done {
            return Ok(None);
        }
        let capabilities = self.capabilities;
        let is_end = |payload: &[u8]| {
            payload.first() == Some(&response::ERROR) || response::is_end_of_rows(payload, capabilities)
        };
        let run = self.underway.channel.receive_run(DOING, ROW_BYTES_MAX, is_end).await?;
        let (bytes, framed) = match run {
            Run::Packets(bytes) => (bytes, true),
            Run::Joined(bytes) => (bytes, false),
            Run::End(end) => {
                self.underway.done = true;
                if end.first() == Some(&response::ERROR) {
                    return Err(response::decode_error(&end));
                }
                *self.warnings = response::decode_end_of_rows(&end, capabilities)?;
                return Ok(None);
            }
        };
        Ok(Some(RowBatch {
            bytes,
            framed,
            columns: self.columns,
        }))
    }
}

/// Rows that came together.
#[derive(Debug, Clone)]
pub struct RowBatch {
    bytes: Bytes,
    /// Whether they are packets with headers, or one row without.
    framed: bool,
    columns: usize,
}

impl RowBatch {
    /// The bytes that came, headers included.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn rows(&self) -> impl Iterator<Item = RowPacket<'_>> {
        let mut rest: &[u8] = &self.bytes;
        let mut whole = (!self.framed).then_some(rest);
        let (framed, columns) = (self.framed, self.columns);
        std::iter::from_fn(move || {
            let bytes = if framed {
                let (&[first, second, third, _], after) = rest.split_first_chunk()?;
                let length = usize::from(first) | usize::from(second) << 8 | usize::from(third) << 16;
                let (payload, after) = after.split_at_checked(length)?;
                rest = after;
                payload
            } else {
                whole.take()?
            };
            Some(RowPacket { bytes, columns })
        })
    }
}

/// One row, not taken apart yet.
#[derive(Debug, Clone, Copy)]
pub struct RowPacket<'a> {
    bytes: &'a [u8],
    columns: usize,
}

impl<'a> RowPacket<'a> {
    pub fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[cfg(test)]
    pub(crate) fn for_tests(bytes: &'a [u8], columns: usize) -> Self {
        Self { bytes, columns }
    }

    /// The values in order, `None` for NULL. After a wrong byte comes one error and then nothing.
    pub fn values(&self) -> impl Iterator<Item = Result<Option<&'a [u8]>, MysqlError>> + use<'a> {
        let mut rest = self.bytes;
        let mut left = self.columns;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let value = take_value(&mut rest);
            if value.is_err() {
                left = 0;
            }
            Some(value)
        })
    }
}

/// The next value of a row.
#[inline]
pub(crate) fn take_value<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, MysqlError> {
    // Nearly all values are shorter than 251 bytes.
    if let Some((&first, after)) = rest.split_first() {
        if first == NULL {
            *rest = after;
            return Ok(None);
        }
        if first < NULL
            && let Some((value, after)) = after.split_at_checked(usize::from(first))
        {
            *rest = after;
            return Ok(Some(value));
        }
    }
    let mut reader = Reader::new("row", rest);
    let value = reader.lenenc_bytes()?;
    *rest = reader.rest();
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_keeps_null_and_empty_apart_and_long_values_whole() {
        let mut bytes = b"\xfb\x00\x0217\xfc\x00\x01".to_vec();
        bytes.extend([7; 256]);
        let row = RowPacket {
            bytes: &bytes,
            columns: 4,
        };
        let values: Vec<_> = row.values().map(Result::unwrap).collect();
        assert_eq!(values, [None, Some(&b""[..]), Some(b"17"), Some(&[7; 256])]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, framed: bool, columns in 0usize..9) {
            let batch = RowBatch { bytes: bytes.into(), framed, columns };
            for row in batch.rows() {
                let _ = row.values().filter(Result::is_ok).count();
            }
        }
    }
}
