//! Objects of two sealed parts: facts, small and readable alone, and a body. Manifests are such objects, and all that lies under `logs/`.
#![deny(clippy::indexing_slicing)]

use ballast_base::fill_random;
use ballast_storage::ObjectName;

use crate::bytes::{Cursor, Malformed};
use crate::cipher::{Keys, TAG_BYTES, compress, decompress, nonce};
use crate::format::{Unreadable, read_head, write_head};

pub(crate) const HEADER_BYTES: usize = 8 + 2 + 2 + 4 + 8 + 32 + 32;
/// Facts are small by nature; what is long belongs into the body.
pub(crate) const FACTS_BYTES_MAX: usize = 4 * 1024 * 1024;
const FACTS: u64 = 1;
const BODY: u64 = 2;

pub(crate) type Magic = &'static [u8; 8];

/// The sealed object. Without a body its length is 0 and nothing is sealed for it.
pub(crate) fn seal(
    keys: &Keys,
    magic: Magic,
    name: &ObjectName,
    facts: &serde_json::Value,
    body: Option<&[u8]>,
) -> Vec<u8> {
    let mut salt = [0; 32];
    fill_random(&mut salt);
    let key = keys.object_key(name, &salt);
    let mut facts = compress(&serde_json::to_vec(facts).expect("JSON values always print"));
    let mut body = body.map(compress);
    let facts_bytes = facts.len() + TAG_BYTES;
    let body_bytes = body.as_ref().map_or(0, |body| body.len() + TAG_BYTES);
    let mut out = Vec::with_capacity(HEADER_BYTES + facts_bytes + body_bytes);
    write_head(&mut out, magic);
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&u32::try_from(facts_bytes).expect("facts are small").to_le_bytes());
    out.extend_from_slice(&(body_bytes as u64).to_le_bytes());
    out.extend_from_slice(&salt);
    out.extend_from_slice(&key.commitment);
    key.key.seal(nonce(FACTS), &out, &mut facts, 0);
    if let Some(body) = &mut body {
        key.key.seal(nonce(BODY), &out, body, 0);
    }
    out.extend_from_slice(&facts);
    out.extend_from_slice(body.as_deref().unwrap_or_default());
    out
}

/// Opens a whole object: its facts and its body, which is at most `body_max` bytes long (empty if there is none).
pub(crate) fn open(
    keys: &Keys,
    magic: Magic,
    name: &ObjectName,
    bytes: &[u8],
    body_max: usize,
) -> Result<(serde_json::Value, Vec<u8>), Unreadable> {
    let header = Header::read(magic, bytes)?;
    if bytes.len() as u64 != HEADER_BYTES as u64 + u64::from(header.facts_bytes) + header.body_bytes {
        return Err(Malformed::new("it has another length than it says").into());
    }
    let (facts, body) = bytes
        .get(HEADER_BYTES..)
        .and_then(|rest| rest.split_at_checked(header.facts_bytes as usize))
        .ok_or_else(|| Malformed::new("it is too short"))?;
    let facts = header.open_facts(keys, name, facts)?;
    let body = match body {
        [] => Vec::new(),
        sealed => header.open(keys, name, BODY, sealed, body_max)?,
    };
    Ok((facts, body))
}

/// The plain beginning of an object.
pub(crate) struct Header<'a> {
    bytes: &'a [u8],
    pub(crate) facts_bytes: u32,
    body_bytes: u64,
    salt: [u8; 32],
    commitment: [u8; 32],
}

impl<'a> Header<'a> {
    pub(crate) fn read(magic: Magic, bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut cursor = Cursor::new(bytes);
        read_head(&mut cursor, magic)?;
        cursor.expect("zeroes in its header", &[0; 2])?;
        let (facts_bytes, body_bytes) = (cursor.u32()?, cursor.u64()?);
        let (salt, commitment) = (cursor.array()?, cursor.array()?);
        if facts_bytes as usize > FACTS_BYTES_MAX {
            return Err(Malformed::new("its facts are larger than the format allows").into());
        }
        Ok(Self {
            bytes: Cursor::new(bytes).take(HEADER_BYTES)?,
            facts_bytes,
            body_bytes,
            salt,
            commitment,
        })
    }

    pub(crate) fn open_facts(
        &self,
        keys: &Keys,
        name: &ObjectName,
        sealed: &[u8],
    ) -> Result<serde_json::Value, Malformed> {
        let plain = self.open(keys, name, FACTS, sealed, FACTS_BYTES_MAX)?;
        serde_json::from_slice(&plain).map_err(|error| Malformed::new(format!("its facts are no JSON: {error}")))
    }

    fn open(&self, keys: &Keys, name: &ObjectName, part: u64, sealed: &[u8], max: usize) -> Result<Vec<u8>, Malformed> {
        let key = keys.object_key(name, &self.salt);
        if key.commitment != self.commitment {
            return Err(Malformed::new(
                "it does not have the commitment to its key (it may be in another object's place)",
            ));
        }
        let mut sealed = sealed.to_vec();
        decompress(key.key.open(nonce(part), self.bytes, &mut sealed)?, max)
    }
}
