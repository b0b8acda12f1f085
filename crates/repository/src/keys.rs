//! The master key and its locks. Each lock (a passphrase or a key file) has a slot of its own that holds the master key, wrapped.
#![deny(clippy::indexing_slicing)]

use argon2::{Algorithm, Argon2, Params, Version};
use ballast_base::{Secret, fill_random};
use ballast_storage::ObjectName;
use zeroize::Zeroizing;

use crate::bytes::{Cursor, Malformed};
use crate::cipher::{Key, hkdf};
use crate::format::{Unreadable, check_hash, read_head, write_head};
use crate::names::RepositoryId;

const MAGIC: &[u8; 8] = b"BLSTKEY\0";
const METHOD_PASSPHRASE: u16 = 1;
const METHOD_KEY_FILE: u16 = 2;
/// RFC 9106, second recommended option: 64 MiB, 3 passes, 4 lanes (run one after the other here).
const ARGON2_NEW: Cost = Cost {
    memory_kib: 64 * 1024,
    passes: 3,
    lanes: 4,
};
/// What a slot may ask of the machine that reads it.
const ARGON2_MAX: Cost = Cost {
    memory_kib: 1024 * 1024,
    passes: 16,
    lanes: 16,
};

/// The one secret everything is derived from. Wiped on drop, never printed.
pub(crate) struct MasterKey(pub(crate) Zeroizing<[u8; 32]>);

/// What opens a slot.
#[derive(Debug, Clone)]
pub enum Lock {
    Passphrase(Secret),
    /// The content of a key file.
    KeyFile(Secret),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl MasterKey {
    pub(crate) fn random() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        fill_random(&mut *key);
        Self(key)
    }
}

impl Lock {
    fn method(&self) -> u16 {
        match self {
            Self::Passphrase(_) => METHOD_PASSPHRASE,
            Self::KeyFile(_) => METHOD_KEY_FILE,
        }
    }

    fn wrapping_key(&self, salt: &[u8; 32], cost: Cost) -> Result<Key, Malformed> {
        let mut key = Zeroizing::new([0; 32]);
        match self {
            Self::Passphrase(secret) => {
                let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
                    .map_err(|error| Malformed::new(format!("its Argon2 parameters are not possible: {error}")))?;
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(secret.expose().as_bytes(), salt, &mut *key)
                    .map_err(|error| Malformed::new(format!("its Argon2 parameters are not possible: {error}")))?;
            }
            Self::KeyFile(secret) => hkdf(salt, secret.expose().as_bytes(), &[b"ballast 1 key file"], &mut key),
        }
        Ok(Key::new(&key))
    }
}

/// A new slot for `lock`. Slow by design with a passphrase: call it away from the runtime's threads.
pub(crate) fn encode_slot(master: &MasterKey, lock: &Lock, repository: RepositoryId, name: &ObjectName) -> Vec<u8> {
    let cost = match lock {
        Lock::Passphrase(_) => ARGON2_NEW,
        Lock::KeyFile(_) => Cost {
            memory_kib: 0,
            passes: 0,
            lanes: 0,
        },
    };
    let (mut salt, mut nonce) = ([0; 32], [0; 12]);
    fill_random(&mut salt);
    fill_random(&mut nonce);
    let mut out = Vec::new();
    write_head(&mut out, MAGIC);
    out.extend_from_slice(&lock.method().to_le_bytes());
    for number in [cost.memory_kib, cost.passes, cost.lanes] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&salt);
    let bound = bound(&out, repository, name);
    let key = lock
        .wrapping_key(&salt, cost)
        .expect("our own cost is one that Argon2 takes");
    let mut sealed = Zeroizing::new(master.0.to_vec());
    key.seal(nonce, &bound, &mut sealed, 0);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&sealed);
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    out
}

/// Tries `lock` on a slot: `None` if it is not the lock of this one.
pub(crate) fn open_slot(
    bytes: &[u8],
    lock: &Lock,
    repository: RepositoryId,
    name: &ObjectName,
) -> Result<Option<MasterKey>, Unreadable> {
    let slot = decode_slot(bytes)?;
    if slot.method != lock.method() {
        return Ok(None);
    }
    let key = lock.wrapping_key(&slot.salt, slot.cost)?;
    let mut sealed = Zeroizing::new(slot.sealed.to_vec());
    let Ok(master) = key.open(slot.nonce, &bound(slot.head, repository, name), &mut sealed) else {
        return Ok(None);
    };
    let master: [u8; 32] = master
        .try_into()
        .map_err(|_| Malformed::new("it holds a key of another length"))?;
    Ok(Some(MasterKey(Zeroizing::new(master))))
}

/// Reads a slot without a lock: for `verify`, and before trying.
pub(crate) fn check_slot(bytes: &[u8]) -> Result<(), Unreadable> {
    decode_slot(bytes).map(drop)
}

struct Slot<'a> {
    head: &'a [u8],
    method: u16,
    cost: Cost,
    salt: [u8; 32],
    nonce: [u8; 12],
    sealed: [u8; 48],
}

fn decode_slot(bytes: &[u8]) -> Result<Slot<'_>, Unreadable> {
    let mut cursor = Cursor::new(bytes);
    read_head(&mut cursor, MAGIC)?;
    check_hash(bytes)?;
    let method = cursor.u16()?;
    let cost = Cost {
        memory_kib: cursor.u32()?,
        passes: cursor.u32()?,
        lanes: cursor.u32()?,
    };
    if cost.memory_kib > ARGON2_MAX.memory_kib || cost.passes > ARGON2_MAX.passes || cost.lanes > ARGON2_MAX.lanes {
        return Err(Malformed::new("it asks for more memory or time than a lock may").into());
    }
    let salt = cursor.array()?;
    let head = Cursor::new(bytes).take(8 + 2 + 2 + 12 + 32)?;
    let (nonce, sealed) = (cursor.array()?, cursor.array()?);
    cursor.take(32)?;
    cursor.end()?;
    match method {
        METHOD_PASSPHRASE | METHOD_KEY_FILE => Ok(Slot {
            head,
            method,
            cost,
            salt,
            nonce,
            sealed,
        }),
        _ => Err(Malformed::new(format!(
            "it is a lock of kind {method}, which this version does not know"
        ))
        .into()),
    }
}

fn bound(head: &[u8], repository: RepositoryId, name: &ObjectName) -> Vec<u8> {
    [head, &repository.0, name.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{self, SlotId};

    fn passphrase(text: &str) -> Lock {
        Lock::Passphrase(Secret::new(text.to_owned()))
    }

    #[test]
    fn a_slot_opens_with_its_lock_in_its_place_and_nowhere_else() {
        let (master, repository, name) = (
            MasterKey::random(),
            RepositoryId::random(),
            names::key(SlotId::random()),
        );
        for lock in [passphrase("high tide"), Lock::KeyFile(Secret::new("00".repeat(32)))] {
            let slot = encode_slot(&master, &lock, repository, &name);
            let opened = open_slot(&slot, &lock, repository, &name)
                .unwrap()
                .expect("its own lock");
            assert_eq!(opened.0, master.0);
            assert!(
                open_slot(&slot, &passphrase("low tide"), repository, &name)
                    .unwrap()
                    .is_none()
            );
            assert!(
                open_slot(&slot, &lock, RepositoryId::random(), &name)
                    .unwrap()
                    .is_none()
            );
            assert!(
                open_slot(&slot, &lock, repository, &names::key(SlotId::random()))
                    .unwrap()
                    .is_none()
            );
        }
    }

    #[test]
    fn any_flipped_bit_of_a_slot_is_damage_and_not_a_wrong_key() {
        let name = names::key(SlotId::random());
        let lock = Lock::KeyFile(Secret::new("11".repeat(32)));
        let slot = encode_slot(&MasterKey::random(), &lock, RepositoryId::random(), &name);
        for at in 0..slot.len() {
            let mut bad = slot.clone();
            bad[at] ^= 1;
            assert!(check_slot(&bad).is_err(), "byte {at}");
        }
        for length in 0..slot.len() {
            assert!(check_slot(&slot[..length]).is_err(), "length {length}");
        }
    }
}
