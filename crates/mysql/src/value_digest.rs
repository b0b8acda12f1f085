//! Fingerprints of rows by what their numbers are, not by how a server writes them.
//!
//! MySQL and MariaDB write some FLOAT and DOUBLE values in different ways (`1.8e-7` and `0.00000018`), so a fingerprint that
//! one of them makes of its text is not the other's. Where rows go from one to the other, a table with such columns is read
//! back, and both sides are fingerprinted here: those columns by the number's bits, all others by their bytes.
#![deny(clippy::indexing_slicing)]

use std::io::Write as _;

use crate::text_rows::{crc32, split_row, split_values};
use crate::{Connection, MysqlError, RowBatch, TableDigest, TableForm};

#[derive(Debug, Clone, Copy)]
enum Number {
    None,
    Float,
    Double,
}

/// Makes fingerprints of rows. Keeps its memory from row to row.
#[derive(Debug)]
pub struct ValueDigester {
    columns: Vec<(Number, bool)>,
    /// What the fingerprint that was backed up is taken of.
    text: Vec<u8>,
    /// What the fingerprint by value is taken of.
    values: Vec<u8>,
    nulls: Vec<u8>,
}

impl ValueDigester {
    pub fn new(form: &TableForm) -> Self {
        let number = |column: &crate::ColumnForm| match (column.is_float(), column.is_double()) {
            (true, _) => Number::Float,
            (_, true) => Number::Double,
            _ => Number::None,
        };
        let numbers = form.columns().iter().map(number).chain([Number::None]);
        Self {
            columns: numbers.zip(form.long_columns()).collect(),
            text: Vec::new(),
            values: Vec::new(),
            nulls: Vec::new(),
        }
    }

    /// Adds stored rows, whole lines: to the digest as it was made when they were read, and to the one by value.
    pub fn add_stored(
        &mut self,
        lines: &[u8],
        backed_up: &mut TableDigest,
        values: &mut TableDigest,
    ) -> Result<(), MysqlError> {
        let mut rest = lines;
        while let Some((row, after)) = split_row(rest) {
            rest = after;
            self.begin();
            let mut count = 0;
            for value in split_values(row) {
                self.add(count, value?.as_deref())?;
                count += 1;
            }
            let (text, by_value) = self.end(count)?;
            backed_up.add(text);
            values.add(by_value);
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(MysqlError::protocol("stored rows: the last one has no end"))
        }
    }

    /// Adds rows as a server sends them.
    pub fn add_found(&mut self, batch: &RowBatch, values: &mut TableDigest) -> Result<(), MysqlError> {
        for row in batch.rows() {
            self.begin();
            let mut count = 0;
            for value in row.values() {
                self.add(count, value?)?;
                count += 1;
            }
            values.add(self.end(count)?.1);
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.text.clear();
        self.values.clear();
        self.nulls.clear();
    }

    fn add(&mut self, column: usize, value: Option<&[u8]>) -> Result<(), MysqlError> {
        let Some((number, long)) = self.columns.get(column).copied() else {
            return Err(MysqlError::protocol("a row of more values than columns"));
        };
        let Some(value) = value else {
            self.nulls.push(b'1');
            return Ok(());
        };
        self.nulls.push(b'0');
        let start = self.text.len();
        if long {
            // A vector takes all that is written.
            write!(self.text, "{}", crc32(value)).ok();
        } else {
            self.text.extend_from_slice(value);
        }
        self.text.push(b'\t');
        match number {
            Number::None => self
                .values
                .extend_from_slice(self.text.get(start..).unwrap_or_default()),
            // The text of a FLOAT may have more digits than the column keeps.
            #[allow(clippy::cast_possible_truncation, reason = "it was a FLOAT, and is one again")]
            Number::Float => {
                let bits = f64::from(parsed(value)? as f32).to_bits();
                self.values.extend_from_slice(&bits.to_le_bytes());
            }
            Number::Double => self.values.extend_from_slice(&parsed(value)?.to_bits().to_le_bytes()),
        }
        Ok(())
    }

    fn end(&mut self, count: usize) -> Result<(u32, u32), MysqlError> {
        if count != self.columns.len() {
            return Err(MysqlError::protocol("a row of fewer values than columns"));
        }
        self.text.extend_from_slice(&self.nulls);
        self.values.extend_from_slice(&self.nulls);
        Ok((crc32(&self.text), crc32(&self.values)))
    }
}

/// A zero has no sign: MariaDB drops it when it reads `-0`.
fn parsed(value: &[u8]) -> Result<f64, MysqlError> {
    let text = std::str::from_utf8(value).ok();
    let number = text.and_then(|text| text.trim().parse::<f64>().ok());
    let number = number.ok_or_else(|| MysqlError::protocol("a number that is none"))?;
    Ok(if number == 0.0 { 0.0 } else { number })
}

impl TableForm {
    /// Reads a whole table and fingerprints it by value. The session must be as for reading or loading rows.
    pub async fn digest_by_value(&self, connection: &mut Connection, table: &str) -> Result<TableDigest, MysqlError> {
        let (mut digester, mut digest) = (ValueDigester::new(self), TableDigest::default());
        let sql = format!("SELECT {} FROM {table}", self.select_list());
        let mut rows = connection.stream(&sql).await?;
        while let Some(batch) = rows.next().await? {
            digester.add_found(&batch, &mut digest)?;
        }
        drop(rows);
        connection.refuse_cut_values().await?;
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ColumnSchema;

    fn form() -> TableForm {
        let column = |(name, data_type): (&str, &str)| ColumnSchema {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            column_type: data_type.to_owned(),
            nullable: true,
            charset: None,
            collation: None,
            octet_length: None,
            generated: None,
            invisible: false,
        };
        let columns: Vec<_> = [("a", "float"), ("b", "double"), ("c", "text"), ("d", "int")]
            .map(column)
            .into();
        TableForm::new(&columns)
    }

    fn digests(lines: &str) -> Result<(TableDigest, TableDigest), MysqlError> {
        let (mut text, mut values) = (TableDigest::default(), TableDigest::default());
        ValueDigester::new(&form()).add_stored(lines.as_bytes(), &mut text, &mut values)?;
        Ok((text, values))
    }

    #[test]
    fn numbers_are_compared_by_value_and_the_rest_by_bytes() {
        let here = digests("1.8e-7\t1e22\ta\\tb\t1\n\\N\t-0\t\t2\n").unwrap();
        let there = digests("0.00000018\t10000000000000000000000\ta\\tb\t1\n\\N\t0\t\t2\n").unwrap();
        assert_eq!(here.1, there.1);
        assert_ne!(here.0, there.0);
        for other in [
            "1.9e-7\t1e22\ta\\tb\t1\n\\N\t-0\t\t2\n",
            "1.8e-7\t1e22\ta\\tc\t1\n\\N\t-0\t\t2\n",
            "1.8e-7\t1e22\ta\\tb\t1\n\\N\t-0\t\\N\t2\n",
            "1.8e-7\t1e22\ta\\tb\t1\n0\t-0\t\t2\n",
            "1.8e-7\t1e22\ta\\tb\t1\n",
        ] {
            assert_ne!(digests(other).unwrap().1, here.1, "{other}");
        }
        assert!(digests("1\t2\t3\n").is_err() && digests("1\t2\t3\t4\t5\n").is_err());
        assert!(digests("x\t2\t3\t4\n").is_err() && digests("1\t2\t3\t4").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let (mut text, mut values) = (TableDigest::default(), TableDigest::default());
            let _ = ValueDigester::new(&form()).add_stored(&bytes, &mut text, &mut values).is_ok();
        }
    }
}
