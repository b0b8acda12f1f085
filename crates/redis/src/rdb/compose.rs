//! A snapshot that is put together here, of keys that were read one by one: the bytes a server would have written.
#![deny(clippy::indexing_slicing)]

use bytes::{BufMut as _, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

const FACT: u8 = 0xFA;
const EXPIRY_MILLISECONDS: u8 = 0xFC;
const DATABASE: u8 = 0xFE;
const END: u8 = 0xFF;
/// Numbers from here on are Valkey's own.
const VALKEY_FROM: u16 = 80;

fn length(out: &mut BytesMut, length: usize) {
    match (u8::try_from(length), u16::try_from(length), u32::try_from(length)) {
        (Ok(short @ ..0x40), _, _) => out.put_u8(short),
        (_, Ok(short @ ..0x4000), _) => out.put_u16(short | 0x4000),
        (_, _, Ok(long)) => {
            out.put_u8(0x80);
            out.put_u32(long);
        }
        _ => {
            out.put_u8(0x81);
            out.put_u64(length as u64);
        }
    }
}

fn text(out: &mut BytesMut, text: &[u8]) {
    length(out, text.len());
    out.put_slice(text);
}

/// The keys that follow are of this database.
pub(crate) fn select(out: &mut BytesMut, database: u32) {
    out.put_u8(DATABASE);
    length(out, usize::try_from(database).unwrap_or_default());
}

/// All of a key before its value.
pub(crate) fn key_head(out: &mut BytesMut, name: &[u8], code: u8, expires_at: Option<i64>) {
    if let Some(at) = expires_at {
        out.put_u8(EXPIRY_MILLISECONDS);
        out.put_i64_le(at);
    }
    out.put_u8(code);
    text(out, name);
}

/// Keeps the checksum.
#[derive(Debug)]
pub(crate) struct RdbComposer {
    sum: Digest,
}

impl RdbComposer {
    /// Of the format's version, with the text of the program whose values it holds.
    pub(crate) fn begin(version: u16, server: &crate::ServerVersion) -> (Self, BytesMut) {
        let mut out = BytesMut::new();
        if version >= VALKEY_FROM {
            out.put_slice(format!("VALKEY{version:03}").as_bytes());
        } else {
            out.put_slice(format!("REDIS{version:04}").as_bytes());
        }
        out.put_u8(FACT);
        text(
            &mut out,
            match server.flavour {
                crate::Flavour::Redis => b"redis-ver",
                crate::Flavour::Valkey => b"valkey-ver",
            },
        );
        text(&mut out, server.text.as_bytes());
        let composer = Self {
            sum: Digest::new(CrcAlgorithm::Crc64Redis),
        };
        (composer, out)
    }

    /// What was put together so far leaves.
    pub(crate) fn give(&mut self, out: &mut BytesMut) -> Bytes {
        let portion = out.split().freeze();
        self.sum.update(&portion);
        portion
    }

    pub(crate) fn end(&mut self) -> Bytes {
        self.sum.update(&[END]);
        let mut out = BytesMut::with_capacity(9);
        out.put_u8(END);
        out.put_u64_le(self.sum.finalize());
        out.freeze()
    }
}
