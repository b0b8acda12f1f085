//! The stamp: which repository lies here, written by which version.
#![deny(clippy::indexing_slicing)]

use crate::bytes::{Cursor, Malformed};
use crate::names::RepositoryId;

/// The one version that is written; every version up to it is read.
pub(crate) const VERSION: u16 = 1;

const STAMP_MAGIC: &[u8; 8] = b"BLSTREPO";
const STAMP_BYTES: usize = 66;

/// Why an object could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    TooNew(u16),
    Malformed(Malformed),
}

impl From<Malformed> for Unreadable {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Unreadable {
    pub(crate) fn at(self, location: &str, object: impl ToString) -> crate::RepositoryError {
        match self {
            Self::TooNew(found) => crate::RepositoryError::TooNew {
                location: location.to_owned(),
                object: object.to_string(),
                found,
                supported: VERSION,
            },
            Self::Malformed(cause) => crate::RepositoryError::damaged(location, object, cause),
        }
    }
}

/// Reads magic and version; every kind of object begins with them.
pub(crate) fn read_head(cursor: &mut Cursor<'_>, magic: &[u8]) -> Result<(), Unreadable> {
    cursor.expect("mark of its kind at the beginning", magic)?;
    match cursor.u16()? {
        VERSION => Ok(()),
        0 => Err(Malformed::new("its version is 0").into()),
        newer => Err(Unreadable::TooNew(newer)),
    }
}

pub(crate) fn write_head(out: &mut Vec<u8>, magic: &[u8]) {
    out.extend_from_slice(magic);
    out.extend_from_slice(&VERSION.to_le_bytes());
}

pub(crate) fn encode_stamp(id: RepositoryId) -> Vec<u8> {
    let mut out = Vec::with_capacity(STAMP_BYTES);
    write_head(&mut out, STAMP_MAGIC);
    out.extend_from_slice(&id.0);
    out.extend_from_slice(&0u64.to_le_bytes());
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    out
}

pub(crate) fn decode_stamp(bytes: &[u8]) -> Result<RepositoryId, Unreadable> {
    let mut cursor = Cursor::new(bytes);
    read_head(&mut cursor, STAMP_MAGIC)?;
    let id = RepositoryId(cursor.array()?);
    if cursor.u64()? != 0 {
        return Err(Malformed::new("it has flags that this version does not know").into());
    }
    check_hash(bytes)?;
    cursor.take(32)?;
    cursor.end()?;
    Ok(id)
}

/// Checks the plain hash over all but the last 32 bytes: it tells damage from a wrong key and protects nothing.
pub(crate) fn check_hash(bytes: &[u8]) -> Result<(), Malformed> {
    let (content, hash) = bytes
        .split_last_chunk::<32>()
        .ok_or_else(|| Malformed::new("it is too short"))?;
    if blake3::hash(content).as_bytes() == hash {
        Ok(())
    } else {
        Err(Malformed::new("its hash does not match"))
    }
}
