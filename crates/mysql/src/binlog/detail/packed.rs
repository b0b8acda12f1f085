//! Compressed bytes, opened as they come, with a small buffer.
#![deny(clippy::indexing_slicing)]

use std::io;

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{Decoder, InBuffer, Operation as _, OutBuffer};

use crate::MysqlError;

/// Opened bytes are given on in pieces of at most this size.
const PIECE_BYTES: usize = 64 * 1024;

pub(super) enum Packed {
    Plain,
    Zstd(Box<Decoder<'static>>),
    Zlib(Box<Decompress>),
    /// A compressed stream that is over.
    Over,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Zstd(_) => "Zstd",
            Self::Zlib(_) => "Zlib",
            Self::Over => "Over",
        })
    }
}

fn wrong(error: &dyn std::fmt::Display) -> MysqlError {
    MysqlError::protocol(format!("compressed events: {error}"))
}

impl Packed {
    pub(super) fn zstd() -> Result<Self, MysqlError> {
        let decoder = Decoder::new().map_err(|error: io::Error| wrong(&error))?;
        Ok(Self::Zstd(Box::new(decoder)))
    }

    pub(super) fn zlib() -> Self {
        Self::Zlib(Box::new(Decompress::new(true)))
    }

    pub(super) fn open(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) -> Result<(), MysqlError> {
        match self {
            Self::Plain => {
                take(bytes);
                Ok(())
            }
            Self::Over => Ok(()),
            Self::Zstd(decoder) => {
                let mut input = InBuffer::around(bytes);
                let mut piece = vec![0; PIECE_BYTES];
                loop {
                    let mut output = OutBuffer::around(&mut piece);
                    decoder.run(&mut input, &mut output).map_err(|error| wrong(&error))?;
                    let (made, full) = (output.as_slice(), output.pos() == output.capacity());
                    if !made.is_empty() {
                        take(made);
                    }
                    if !full && input.pos() == bytes.len() {
                        return Ok(());
                    }
                }
            }
            Self::Zlib(inflater) => {
                let mut piece = vec![0; PIECE_BYTES];
                let mut rest = bytes;
                loop {
                    let (before_in, before_out) = (inflater.total_in(), inflater.total_out());
                    let status = inflater
                        .decompress(rest, &mut piece, FlushDecompress::None)
                        .map_err(|error| wrong(&error))?;
                    let taken = usize::try_from(inflater.total_in() - before_in).unwrap_or(usize::MAX);
                    let made = usize::try_from(inflater.total_out() - before_out).unwrap_or(0);
                    rest = rest.get(taken..).unwrap_or_default();
                    take(piece.get(..made).unwrap_or_default());
                    if status == Status::StreamEnd {
                        *self = Self::Over;
                        return Ok(());
                    }
                    if (taken == 0 && made == 0) || (rest.is_empty() && made < PIECE_BYTES) {
                        return Ok(());
                    }
                }
            }
        }
    }
}
