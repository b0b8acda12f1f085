//! The answers to a statement: done, refused, or rows.
#![deny(clippy::indexing_slicing)]

use std::borrow::Cow;

use bytes::Bytes;
use mysql_common::constants::CapabilityFlags;

use super::reader::{Reader, text};
use crate::MysqlError;

pub(crate) const OK: u8 = 0x00;
pub(crate) const EOF: u8 = 0xFE;
pub(crate) const ERROR: u8 = 0xFF;
pub(crate) const LOCAL_FILE: u8 = 0xFB;
/// A row may begin with 0xFE too, as the length of a text of 16 MiB and more; the end of rows is shorter.
const EOF_BYTES_MAX: usize = 0xFF_FFFF;

/// What a statement without rows did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Executed {
    pub affected_rows: u64,
    pub last_insert_id: u64,
    pub warnings: u16,
}

pub(crate) fn decode_ok(bytes: &[u8]) -> Result<Executed, MysqlError> {
    let mut reader = Reader::new("OK packet", bytes);
    reader.take(1)?;
    let affected_rows = reader.lenenc()?;
    let last_insert_id = reader.lenenc()?;
    reader.u16_le()?; // status
    let warnings = reader.u16_le()?;
    Ok(Executed {
        affected_rows,
        last_insert_id,
        warnings,
    })
}

/// The server's words. Before the login they come without a state.
pub(crate) fn decode_error(bytes: &[u8]) -> MysqlError {
    let mut reader = Reader::new("error packet", bytes);
    let decoded = (|| {
        reader.take(1)?;
        let code = reader.u16_le()?;
        let state = if reader.peek() == Some(b'#') {
            reader.take(1)?;
            text(reader.take(5)?)
        } else {
            "HY000".to_owned()
        };
        Ok(MysqlError::Server {
            code,
            state,
            message: text(reader.rest()),
        })
    })();
    decoded.unwrap_or_else(|error: MysqlError| error)
}

/// The name of one column of the answer.
pub(crate) fn decode_column_name(bytes: &[u8]) -> Result<String, MysqlError> {
    let mut reader = Reader::new("column definition", bytes);
    for _ in ["catalog", "schema", "table", "original table"] {
        reader.lenenc_bytes()?;
    }
    Ok(text(reader.lenenc_bytes()?))
}

pub(crate) fn is_end_of_rows(bytes: &[u8], capabilities: CapabilityFlags) -> bool {
    let bytes_max = if capabilities.contains(CapabilityFlags::CLIENT_DEPRECATE_EOF) {
        EOF_BYTES_MAX
    } else {
        9
    };
    bytes.first() == Some(&EOF) && bytes.len() < bytes_max
}

/// The number of warnings about the rows that were sent.
pub(crate) fn decode_end_of_rows(bytes: &[u8], capabilities: CapabilityFlags) -> Result<u16, MysqlError> {
    if capabilities.contains(CapabilityFlags::CLIENT_DEPRECATE_EOF) {
        return decode_ok(bytes).map(|done| done.warnings);
    }
    let mut reader = Reader::new("end of rows", bytes);
    reader.take(1)?;
    reader.u16_le()
}

/// One row of an answer, as the bytes that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    cells: Vec<Option<Bytes>>,
}

impl Row {
    pub(crate) fn decode(packet: &Bytes, columns: usize) -> Result<Self, MysqlError> {
        let mut reader = Reader::new("row", packet);
        let mut cells = Vec::with_capacity(columns);
        for _ in 0..columns {
            if reader.peek() == Some(0xFB) {
                reader.take(1)?;
                cells.push(None);
            } else {
                cells.push(Some(packet.slice_ref(reader.lenenc_bytes()?)));
            }
        }
        if !reader.is_empty() {
            return Err(reader.wrong(format_args!("bytes left after {columns} columns")));
        }
        Ok(Self { cells })
    }

    /// The value as it came; `None` where it is NULL or there is no such column.
    pub fn bytes(&self, column: usize) -> Option<&[u8]> {
        self.cells.get(column)?.as_deref()
    }

    pub fn text(&self, column: usize) -> Option<Cow<'_, str>> {
        self.bytes(column).map(String::from_utf8_lossy)
    }

    /// The value as an unsigned number; `None` also where it is none.
    pub fn number(&self, column: usize) -> Option<u64> {
        std::str::from_utf8(self.bytes(column)?).ok()?.parse().ok()
    }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
}

impl IntoIterator for Rows {
    type Item = Row;
    type IntoIter = std::vec::IntoIter<Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_carry_the_servers_words_with_and_without_a_state() {
        let error = decode_error(b"\xff\x15\x04#28000Access denied");
        assert_eq!(
            error.to_string(),
            "the server says: Access denied (error 1045, state 28000)"
        );
        let error = decode_error(b"\xff\x10\x04Too many connections");
        assert_eq!(
            error.to_string(),
            "the server says: Too many connections (error 1040, state HY000)"
        );
    }

    #[test]
    fn a_row_keeps_null_and_empty_apart() {
        let row = Row::decode(&Bytes::from_static(b"\xfb\x00\x0217"), 3).unwrap();
        assert_eq!(
            (row.bytes(0), row.bytes(1), row.number(2), row.bytes(3)),
            (None, Some(&b""[..]), Some(17), None)
        );
        assert!(Row::decode(&Bytes::from_static(b"\x0217"), 2).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoders_panic(bytes: Vec<u8>, columns in 0usize..9) {
            drop((decode_ok(&bytes), decode_column_name(&bytes), decode_error(&bytes)));
            let _ = Row::decode(&Bytes::from(bytes), columns).is_ok();
        }
    }
}
