//! The statement of a `QUERY` event.
#![deny(clippy::indexing_slicing)]

use crate::MysqlError;
use crate::wire::reader::Reader;

pub(super) struct Query<'a> {
    pub(super) database: &'a [u8],
    pub(super) text: &'a [u8],
}

impl<'a> Query<'a> {
    /// Of the event's body without header and checksum.
    pub(super) fn decode(body: &'a [u8]) -> Result<Self, MysqlError> {
        let mut reader = Reader::new("query event", body);
        reader.take(8)?; // thread, seconds it took
        let database_bytes = usize::from(reader.u8()?);
        reader.u16_le()?; // its error
        let status_bytes = usize::from(reader.u16_le()?);
        reader.take(status_bytes)?;
        let database = reader.take(database_bytes)?;
        reader.take(1)?;
        Ok(Self {
            database,
            text: reader.rest(),
        })
    }

    pub(super) fn ends_transaction(&self) -> bool {
        self.is_any_of(&["COMMIT", "ROLLBACK"]) || self.starts_as(&["XA COMMIT ", "XA ROLLBACK "])
    }

    pub(super) fn begins_transaction(&self) -> bool {
        self.is_any_of(&["BEGIN"]) || self.starts_as(&["XA START ", "XA BEGIN "])
    }

    fn is_any_of(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.text.eq_ignore_ascii_case(word.as_bytes()))
    }

    fn starts_as(&self, words: &[&str]) -> bool {
        words.iter().any(|word| {
            self.text
                .get(..word.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
        })
    }
}
