//! Chunks: ids, the sealed form, and the table that knows where each lies.

use zstd::bulk::{Compressor, Decompressor};

use crate::bytes::{Cursor, Malformed};
use crate::names::PackId;

/// No chunk is larger, raw.
pub const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Method, raw length: what stands before a chunk's body.
pub(crate) const CHUNK_HEAD_BYTES: usize = 5;
const METHOD_RAW: u8 = 0;
const METHOD_ZSTD: u8 = 1;
/// See the decision record on the zstd level for the measurement.
const ZSTD_LEVEL: i32 = 1;

/// Names a chunk by its content; keyed, so it tells nothing to who lacks the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub(crate) [u8; 16]);

impl ChunkId {
    pub(crate) fn of(key: &[u8; 32], raw: &[u8]) -> Self {
        let hash = blake3::keyed_hash(key, raw);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        Self(id)
    }
}

/// Compresses chunks; keeps its buffers from one to the next.
pub(crate) struct ChunkPacker(Compressor<'static>);

impl ChunkPacker {
    pub(crate) fn new() -> Self {
        Self(Compressor::new(ZSTD_LEVEL).expect("memory is the only thing zstd can lack here"))
    }

    /// Appends head and body of `raw` to `out`: compressed where that saves something.
    pub(crate) fn append(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        let length = u32::try_from(raw.len()).expect("a chunk is at most 4 MiB");
        let head = out.len();
        out.push(METHOD_ZSTD);
        out.extend_from_slice(&length.to_le_bytes());
        let body = out.len();
        // zstd writes behind what is there, into room that was never filled with zeroes for it.
        out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let mut behind = std::io::Cursor::new(std::mem::take(out));
        behind.set_position(body as u64);
        let packed = self.0.compress_to_buffer(raw, &mut behind);
        *out = behind.into_inner();
        if !packed.is_ok_and(|packed| packed < raw.len()) {
            out.truncate(body);
            out.extend_from_slice(raw);
            out[head] = METHOD_RAW;
        }
    }
}

/// Decompresses chunks; keeps its buffers from one to the next.
pub(crate) struct ChunkUnpacker {
    zstd: Decompressor<'static>,
    raw: Vec<u8>,
}

impl ChunkUnpacker {
    pub(crate) fn new() -> Self {
        Self {
            zstd: Decompressor::new().expect("memory is the only thing zstd can lack here"),
            raw: Vec::new(),
        }
    }

    /// The raw bytes of an opened chunk, good until the next call.
    pub(crate) fn raw<'a>(&'a mut self, plain: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let mut cursor = Cursor::new(plain);
        let (method, length) = (cursor.u8()?, cursor.u32()? as usize);
        if length > CHUNK_BYTES_MAX {
            return Err(Malformed::new("a chunk is larger than the format allows"));
        }
        let body = plain.get(CHUNK_HEAD_BYTES..).unwrap_or_default();
        let raw = match method {
            METHOD_RAW => body,
            METHOD_ZSTD => {
                self.raw.resize(length, 0);
                let got = self
                    .zstd
                    .decompress_to_buffer(body, &mut self.raw[..])
                    .map_err(|error| Malformed::new(format!("a chunk does not decompress: {error}")))?;
                &self.raw[..got]
            }
            _ => {
                return Err(Malformed::new(format!(
                    "a chunk is stored by method {method}, which this version does not know"
                )));
            }
        };
        if raw.len() == length {
            Ok(raw)
        } else {
            Err(Malformed::new("a chunk has another length than it says"))
        }
    }
}

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) pack: PackId,
    pub(crate) offset: u32,
    pub(crate) stored: u32,
}
