//! Rows as text: the lines that `LOAD DATA … CHARACTER SET binary FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES
//! TERMINATED BY '\n'` reads, and the fingerprint of each row.
//!
//! A value is the column's own bytes; NUL, tab, newline and backslash in it are written `\0`, `\t`, `\n`, `\\`, so a
//! tab or a newline in the text is never part of a value. NULL is `\N`. A row without columns cannot be; a table
//! without columns to load is selected as one constant (see [`TableForm`]).
//!
//! The fingerprint of a row is the CRC-32 (that of zlib, which is SQL's `CRC32`) of its values as [`TableForm`] has
//! the server put them together; of a table it is their number and sum, whatever the order.
#![deny(clippy::indexing_slicing)]

use std::borrow::Cow;
use std::io::Write as _;

use serde::{Deserialize, Serialize};

use crate::rows::take_value;
use crate::{MysqlError, RowPacket, TableForm};

/// Clean bytes are looked for in steps of this, which the compiler makes a few vector instructions.
const STEP: usize = 32;

/// The rows of a table, whatever their order: compare it with what another side has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableDigest {
    pub rows: u64,
    /// The sum of the rows' fingerprints, modulo 2⁶⁴.
    pub sum: u64,
}

impl TableDigest {
    pub fn add(&mut self, row: u32) {
        self.rows = self.rows.wrapping_add(1);
        self.sum = self.sum.wrapping_add(u64::from(row));
    }

    /// Takes in the rows of another part of the table.
    pub fn merge(&mut self, part: &Self) {
        self.rows = self.rows.wrapping_add(part.rows);
        self.sum = self.sum.wrapping_add(part.sum);
    }
}

/// Makes text of rows. Keeps its memory from row to row.
#[derive(Debug)]
pub struct TextRows {
    /// For each column whether its fingerprint goes by a CRC of its own.
    long: Vec<bool>,
    /// What the fingerprint of the current row is taken of.
    row: Vec<u8>,
    nulls: Vec<u8>,
}

impl TextRows {
    pub fn new(form: &TableForm) -> Self {
        Self {
            long: form.long_columns(),
            row: Vec::new(),
            nulls: Vec::new(),
        }
    }

    /// Appends a row to `text` and gives its fingerprint. After an error nothing is appended.
    pub fn encode(&mut self, row: RowPacket<'_>, text: &mut Vec<u8>) -> Result<u32, MysqlError> {
        let start = text.len();
        let fingerprint = self.append(row, text);
        if fingerprint.is_err() {
            text.truncate(start);
        }
        fingerprint
    }

    fn append(&mut self, row: RowPacket<'_>, text: &mut Vec<u8>) -> Result<u32, MysqlError> {
        if row.columns() != self.long.len() {
            return Err(MysqlError::protocol(format!(
                "a row of {} columns where {} were selected",
                row.columns(),
                self.long.len()
            )));
        }
        self.row.clear();
        self.nulls.clear();
        let mut rest = row.bytes();
        let most = rest.len() + self.long.len() * 2 + 1;
        text.reserve(most);
        self.row.reserve(most);
        for (column, long) in self.long.iter().enumerate() {
            if column > 0 {
                text.push(b'\t');
            }
            let Some(value) = take_value(&mut rest)? else {
                text.extend_from_slice(b"\\N");
                self.nulls.push(b'1');
                continue;
            };
            self.nulls.push(b'0');
            escape(value, text);
            if *long {
                // A vector takes all that is written.
                write!(self.row, "{}", crc32(value)).ok();
            } else {
                self.row.extend_from_slice(value);
            }
            self.row.push(b'\t');
        }
        if !rest.is_empty() {
            return Err(MysqlError::protocol(format!(
                "row: {} bytes left after {} columns",
                rest.len(),
                self.long.len()
            )));
        }
        text.push(b'\n');
        self.row.extend_from_slice(&self.nulls);
        let fingerprint = crc32(&self.row);
        // One huge row must not be paid for until the end of the table.
        if self.row.capacity() > KEPT_BYTES_MAX {
            self.row = Vec::new();
        }
        Ok(fingerprint)
    }
}

/// The working memory of a row that is kept for the next one.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iso_hdlc(bytes)
}

/// Appends a value, its special bytes escaped.
#[inline]
fn escape(value: &[u8], text: &mut Vec<u8>) {
    let mut rest = value;
    loop {
        let clean = clean_bytes(rest);
        let Some((before, &[special, ref after @ ..])) = rest.split_at_checked(clean) else {
            text.extend_from_slice(rest);
            return;
        };
        text.extend_from_slice(before);
        text.extend_from_slice(&[b'\\', escape_letter(special)]);
        rest = after;
    }
}

/// How many bytes at the beginning need no escape.
#[inline]
fn clean_bytes(bytes: &[u8]) -> usize {
    let (steps, _) = bytes.as_chunks::<STEP>();
    let special = |step: &[u8; STEP]| {
        step.iter().fold(false, |found, &byte| {
            found | (byte == 0) | (byte == b'\t') | (byte == b'\n') | (byte == b'\\')
        })
    };
    let clean = steps.iter().take_while(|step| !special(step)).count() * STEP;
    let tail = bytes.get(clean..).unwrap_or_default();
    clean
        + tail
            .iter()
            .position(|&byte| escape_letter(byte) != 0)
            .unwrap_or(tail.len())
}

/// The letter after the backslash, for the bytes that need one; 0 for the others.
#[inline]
fn escape_letter(byte: u8) -> u8 {
    match byte {
        0 => b'0',
        b'\t' => b't',
        b'\n' => b'n',
        b'\\' => b'\\',
        _ => 0,
    }
}

/// The first row of the text, without its newline, and the text after it; `None` where there is no whole row.
pub(crate) fn split_row(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|&byte| byte == b'\n')?;
    let (row, after) = text.split_at_checked(end)?;
    Some((row, after.get(1..).unwrap_or_default()))
}

/// The values of a row without its newline, `None` for NULL.
pub(crate) fn split_values(row: &[u8]) -> impl Iterator<Item = Result<Option<Cow<'_, [u8]>>, MysqlError>> {
    row.split(|&byte| byte == b'\t').map(unescape)
}

fn unescape(field: &[u8]) -> Result<Option<Cow<'_, [u8]>>, MysqlError> {
    if field == b"\\N" {
        return Ok(None);
    }
    if !field.contains(&b'\\') {
        return Ok(Some(Cow::Borrowed(field)));
    }
    let mut value = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(&byte) = bytes.next() {
        value.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'0') => 0,
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'\\') => b'\\',
                _ => return Err(MysqlError::protocol("stored row: a backslash before no letter of ours")),
            },
            byte => byte,
        });
    }
    Ok(Some(Cow::Owned(value)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ColumnSchema;

    type Values = Vec<Option<Vec<u8>>>;

    /// A form of columns which are long where told.
    fn form(long: &[bool]) -> TableForm {
        let column = |(number, long): (usize, &bool)| ColumnSchema {
            name: format!("c{number}"),
            data_type: if *long { "longblob" } else { "int" }.to_owned(),
            column_type: String::new(),
            nullable: true,
            charset: None,
            collation: None,
            octet_length: None,
            generated: None,
            invisible: false,
        };
        let columns: Vec<ColumnSchema> = long.iter().enumerate().map(column).collect();
        TableForm::new(&columns)
    }

    fn packet(values: &Values) -> Vec<u8> {
        let mut bytes = Vec::new();
        for value in values {
            let Some(value) = value else {
                bytes.push(0xFB);
                continue;
            };
            match u8::try_from(value.len()).ok().filter(|length| *length < 0xFB) {
                Some(length) => bytes.push(length),
                None => {
                    bytes.push(0xFD);
                    bytes.extend(value.len().to_le_bytes().iter().take(3));
                }
            }
            bytes.extend(value);
        }
        bytes
    }

    /// Bytes that need escapes more often than chance has them.
    fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
        let byte = prop_oneof![2 => any::<u8>(), 1 => prop::sample::select(&b"\0\t\n\\N0tn"[..])];
        prop::option::of(prop::collection::vec(byte, 0..400))
    }

    #[test]
    fn special_bytes_are_escaped_at_every_place_of_a_step() {
        for length in [1, STEP - 1, STEP, STEP + 1, 3 * STEP + 5] {
            for at in 0..length {
                for (byte, letter) in [(0, b'0'), (b'\t', b't'), (b'\n', b'n'), (b'\\', b'\\')] {
                    let mut value = vec![b'x'; length];
                    value[at] = byte;
                    let mut text = Vec::new();
                    escape(&value, &mut text);
                    let mut expected = vec![b'x'; length];
                    expected.splice(at..=at, [b'\\', letter]);
                    assert_eq!(text, expected);
                }
            }
        }
    }

    #[test]
    fn the_fingerprint_is_the_one_sql_gives() {
        // SELECT CRC32(CONCAT_WS('\t', '17', CRC32('a\tb'), CONCAT(0, 0, 1)))
        let values = vec![Some(b"17".to_vec()), Some(b"a\tb".to_vec()), None];
        let mut rows = TextRows::new(&form(&[false, true, false]));
        let bytes = packet(&values);
        let mut text = b"before".to_vec();
        let row = RowPacket::for_tests(&bytes, 3);
        let fingerprint = rows.encode(row, &mut text).unwrap();
        assert_eq!(text, b"before17\ta\\tb\t\\N\n");
        assert_eq!(fingerprint, crc32(format!("17\t{}\t001", crc32(b"a\tb")).as_bytes()));
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_row_of_another_shape_leaves_the_text_alone() {
        let mut rows = TextRows::new(&form(&[false, false]));
        let mut text = b"before\n".to_vec();
        for (bytes, columns) in [
            (&b"\x01a"[..], 2),
            (b"\x01a\x01b\x01c", 2),
            (b"\x01a", 1),
            (b"\x01a\xff", 2),
        ] {
            assert!(rows.encode(RowPacket::for_tests(bytes, columns), &mut text).is_err());
            assert_eq!(text, b"before\n");
        }
    }

    proptest! {
        #[test]
        fn rows_read_back_as_they_were(table in prop::collection::vec(prop::collection::vec(value(), 3), 0..5)) {
            let mut rows = TextRows::new(&form(&[false, true, false]));
            let (mut text, mut digest) = (Vec::new(), TableDigest::default());
            for values in &table {
                digest.add(rows.encode(RowPacket::for_tests(&packet(values), 3), &mut text).unwrap());
            }
            prop_assert_eq!(usize::try_from(digest.rows).unwrap(), table.len());
            let mut rest = text.as_slice();
            for values in &table {
                let (row, after) = split_row(rest).unwrap();
                let read: Values = split_values(row).map(|value| value.unwrap().map(Cow::into_owned)).collect();
                prop_assert_eq!(&read, values);
                rest = after;
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn the_parts_of_a_table_make_the_whole(rows: Vec<u32>, cut: prop::sample::Index) {
            let digest = |rows: &[u32]| {
                let mut digest = TableDigest::default();
                rows.iter().for_each(|row| digest.add(*row));
                digest
            };
            let (first, second) = rows.split_at(cut.index(rows.len() + 1));
            let mut merged = digest(second);
            merged.merge(&digest(first));
            prop_assert_eq!(merged, digest(&rows));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, long: [bool; 3]) {
            let mut text = Vec::new();
            let _ = TextRows::new(&form(&long)).encode(RowPacket::for_tests(&bytes, 3), &mut text).is_ok();
            let mut rest = bytes.as_slice();
            while let Some((row, after)) = split_row(rest) {
                let _ = split_values(row).filter(Result::is_ok).count();
                rest = after;
            }
        }
    }
}
