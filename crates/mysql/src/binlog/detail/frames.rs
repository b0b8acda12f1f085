//! Events out of bytes that come in pieces of any size.
#![deny(clippy::indexing_slicing)]

use crate::MysqlError;
use crate::binlog::event::EventHeader;

/// What a piece of bytes is.
pub(super) enum Piece<'a> {
    Begin(EventHeader),
    /// Of the body, without header and checksum.
    Body(&'a [u8]),
    End,
}

#[derive(Debug, Default)]
pub(super) struct Frames {
    head: Vec<u8>,
    within: bool,
    body_left: usize,
    checksum_left: usize,
}

impl Frames {
    pub(super) fn at_border(&self) -> bool {
        !self.within && self.head.is_empty()
    }

    /// Takes bytes up to the end of the event under way, or begins one at the most; says how many.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        checksum_bytes: impl Fn(&EventHeader) -> usize,
        mut take: impl FnMut(Piece<'_>),
    ) -> Result<usize, MysqlError> {
        let mut taken = 0;
        if !self.within {
            taken = EventHeader::BYTES.saturating_sub(self.head.len()).min(bytes.len());
            self.head.extend_from_slice(bytes.get(..taken).unwrap_or_default());
            if self.head.len() < EventHeader::BYTES {
                return Ok(taken);
            }
            let header = EventHeader::decode(&self.head)?;
            self.head.clear();
            let size = usize::try_from(header.size).unwrap_or(usize::MAX);
            self.checksum_left = checksum_bytes(&header);
            self.body_left = size.saturating_sub(EventHeader::BYTES + self.checksum_left);
            self.within = true;
            take(Piece::Begin(header));
        }
        let rest = bytes.get(taken..).unwrap_or_default();
        let body = rest.get(..self.body_left.min(rest.len())).unwrap_or_default();
        if !body.is_empty() {
            self.body_left -= body.len();
            taken += body.len();
            take(Piece::Body(body));
        }
        if self.body_left == 0 {
            let checksum = self.checksum_left.min(bytes.len() - taken);
            self.checksum_left -= checksum;
            taken += checksum;
            if self.checksum_left == 0 {
                self.within = false;
                take(Piece::End);
            }
        }
        Ok(taken)
    }
}
