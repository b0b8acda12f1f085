//! Seals and opens. Every object has a key of its own, derived from the master key and bound to the object's name, so an object
//! in another one's place does not open, and nonces can be plain counters.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use ballast_storage::ObjectName;
use zeroize::Zeroizing;

use crate::bytes::Malformed;
use crate::keys::MasterKey;
use crate::names::RepositoryId;

/// Bytes a seal adds.
pub(crate) const TAG_BYTES: usize = MAX_TAG_LEN;

/// The keys of one repository.
pub(crate) struct Keys {
    chunk_id: Zeroizing<[u8; 32]>,
    seal: Zeroizing<[u8; 32]>,
    log_link: Zeroizing<[u8; 32]>,
}

/// An AES-256-GCM key.
pub(crate) struct Key(LessSafeKey);

/// The key of one object, and what proves that it is this one.
pub(crate) struct ObjectKey {
    pub(crate) key: Key,
    pub(crate) commitment: [u8; 32],
}

impl Keys {
    pub(crate) fn derive(master: &MasterKey, repository: RepositoryId) -> Self {
        let part = |label: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            hkdf(&repository.0, &*master.0, &[label], &mut key);
            key
        };
        Self {
            chunk_id: part(b"ballast 1 chunk id"),
            seal: part(b"ballast 1 seal"),
            log_link: part(b"ballast 1 log link"),
        }
    }

    pub(crate) fn chunk_id_key(&self) -> &[u8; 32] {
        &self.chunk_id
    }

    pub(crate) fn log_link_key(&self) -> &[u8; 32] {
        &self.log_link
    }

    pub(crate) fn object_key(&self, name: &ObjectName, salt: &[u8]) -> ObjectKey {
        self.key_for(name.as_str(), salt)
    }

    /// The key of what is no object of a repository; `name` is no object's name.
    pub(crate) fn key_for(&self, name: &str, salt: &[u8]) -> ObjectKey {
        let name = name.as_bytes();
        let mut key = Zeroizing::new([0; 32]);
        let mut commitment = [0; 32];
        hkdf(salt, &*self.seal, &[b"ballast 1 key ", name], &mut key);
        hkdf(salt, &*self.seal, &[b"ballast 1 commitment ", name], &mut commitment);
        ObjectKey {
            key: Key::new(&key),
            commitment,
        }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(hidden)")
    }
}

impl Key {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(LessSafeKey::new(
            UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are an AES-256 key"),
        ))
    }

    /// Seals what `buffer` holds from `from` on, in place, and appends the tag.
    pub(crate) fn seal(&self, nonce: [u8; 12], bound: &[u8], buffer: &mut Vec<u8>, from: usize) {
        let tag = self
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(bound),
                &mut buffer[from..],
            )
            .expect("no buffer here comes near the 64 GiB that AES-GCM seals at once");
        buffer.extend_from_slice(tag.as_ref());
    }

    /// Opens in place what [`Key::seal`] sealed, and gives the plain bytes.
    pub(crate) fn open<'a>(
        &self,
        nonce: [u8; 12],
        bound: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], Malformed> {
        self.0
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(bound), sealed)
            .map_err(|_| Malformed::new("its authentication tag does not match its bytes"))
    }
}

/// A nonce that is a counter: unique because no two things in an object have the same place.
pub(crate) fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&counter.to_le_bytes());
    nonce
}

pub(crate) fn hkdf(salt: &[u8], secret: &[u8], info: &[&[u8]], out: &mut [u8; 32]) {
    struct Bytes32;
    impl KeyType for Bytes32 {
        fn len(&self) -> usize {
            32
        }
    }
    Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, Bytes32)
        .and_then(|okm| okm.fill(out))
        .expect("32 bytes are far below the limit of HKDF");
}

/// Compresses with zstd, for objects that are read whole.
pub(crate) fn compress(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 3).expect("memory is the only thing zstd can lack here")
}

/// Undoes [`compress`], into at most `max` bytes.
pub(crate) fn decompress(packed: &[u8], max: usize) -> Result<Vec<u8>, Malformed> {
    let broken = |error: std::io::Error| Malformed::new(format!("it does not decompress: {error}"));
    let mut out = Limited { bytes: Vec::new(), max };
    zstd::stream::copy_decode(packed, &mut out).map_err(broken)?;
    Ok(out.bytes)
}

struct Limited {
    bytes: Vec<u8>,
    max: usize,
}

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.max {
            return Err(std::io::Error::other("it is larger than the format allows"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
