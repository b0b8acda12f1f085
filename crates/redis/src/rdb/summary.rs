//! What a snapshot holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::{ContentDigest, Hash};
use super::values::KeyKind;
use crate::{Flavour, Position, RedisError};

/// The versions whose bytes are known here. Redis 2.6 wrote the first of them with a structure that is still read; 12 is Redis 8.
const REDIS_VERSIONS: std::ops::RangeInclusive<u32> = 3..=12;
/// Valkey 9.
const VALKEY_VERSIONS: std::ops::RangeInclusive<u32> = 80..=80;

/// The format's version. Valkey counts by itself from 80 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdbVersion {
    pub flavour: Flavour,
    pub number: u32,
}

impl fmt::Display for RdbVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flavour {
            Flavour::Redis => write!(f, "REDIS{:04}", self.number),
            Flavour::Valkey => write!(f, "VALKEY{:03}", self.number),
        }
    }
}

impl RdbVersion {
    pub(crate) fn parse(head: [u8; 9]) -> Result<Self, RedisError> {
        let (flavour, digits) = match (head.strip_prefix(b"REDIS"), head.strip_prefix(b"VALKEY")) {
            (Some(digits), _) => (Flavour::Redis, digits),
            (_, Some(digits)) => (Flavour::Valkey, digits),
            _ => {
                return Err(RedisError::Damaged {
                    offset: 0,
                    what: "it does not begin as a snapshot does (REDIS or VALKEY)".to_owned(),
                });
            }
        };
        let text = std::str::from_utf8(digits).ok();
        let number = text.filter(|text| text.bytes().all(|digit| digit.is_ascii_digit()));
        let number = number.and_then(|text| text.parse().ok());
        let number = number.ok_or_else(|| RedisError::Damaged {
            offset: 0,
            what: "its version is no number".to_owned(),
        })?;
        let known = match flavour {
            Flavour::Redis => REDIS_VERSIONS,
            Flavour::Valkey => VALKEY_VERSIONS,
        };
        let version = Self { flavour, number };
        if !known.contains(&number) {
            return Err(RedisError::Unsupported {
                what: format!(
                    "a snapshot of version {version}; known are {} to {} and {}",
                    Self {
                        flavour: Flavour::Redis,
                        number: *REDIS_VERSIONS.start()
                    },
                    Self {
                        flavour: Flavour::Redis,
                        number: *REDIS_VERSIONS.end()
                    },
                    Self {
                        flavour: Flavour::Valkey,
                        number: *VALKEY_VERSIONS.end()
                    },
                ),
                hint: "the server is newer than this program, or very old: look for a newer release of it".to_owned(),
            });
        }
        Ok(version)
    }

    /// Whether a checksum stands at the end.
    pub(crate) fn has_checksum(self) -> bool {
        self.number >= 5
    }
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DatabaseSummary {
    pub keys: u64,
    /// Keys that have an expiry.
    pub expiring: u64,
    pub kinds: BTreeMap<KeyKind, u64>,
    /// Over names, kinds, expiries and contents, in no order.
    pub digest: ContentDigest,
    /// Keys left out because they had expired by the moment asked for.
    pub gone: u64,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdbSummary {
    pub version: RdbVersion,
    /// The program that wrote it, by its own word.
    pub written_by: Option<String>,
    pub bytes: u64,
    /// `None` where the server writes none (`rdbchecksum no`): then only the structure could be checked.
    pub checksum: Option<u64>,
    /// Where in the command stream it was taken, if the server said so inside.
    pub position: Option<Position>,
    pub databases: BTreeMap<u32, DatabaseSummary>,
    /// Hash fields with an expiry of their own.
    pub expiring_fields: u64,
    /// Libraries of functions.
    pub functions: u64,
    pub functions_digest: ContentDigest,
    /// Modules that have data in it.
    pub modules: BTreeSet<String>,
    /// Of the key that has the most.
    pub largest_elements: u64,
}

impl RdbSummary {
    pub fn keys(&self) -> u64 {
        self.databases.values().map(|database| database.keys).sum()
    }

    pub fn expiring(&self) -> u64 {
        self.databases.values().map(|database| database.expiring).sum()
    }

    /// One digest over all databases and functions.
    pub fn digest(&self) -> ContentDigest {
        let mut hash = Hash::default();
        for (number, database) in self.databases.iter().filter(|(_, database)| database.keys > 0) {
            hash.number(u64::from(*number));
            hash.digest(&database.digest);
        }
        hash.digest(&self.functions_digest);
        hash.finish()
    }

    /// How `other` differs in what it holds; nothing if it does not. How it is kept does not matter.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let numbers: BTreeSet<u32> = self.databases.keys().chain(other.databases.keys()).copied().collect();
        let none = DatabaseSummary::default();
        for number in numbers {
            let here = self.databases.get(&number).unwrap_or(&none);
            let there = other.databases.get(&number).unwrap_or(&none);
            if here.keys != there.keys {
                found.push(format!(
                    "database {number}: {} keys, expected {}",
                    there.keys, here.keys
                ));
            } else if here.expiring != there.expiring {
                found.push(format!(
                    "database {number}: {} keys with an expiry, expected {}",
                    there.expiring, here.expiring
                ));
            } else if here.kinds != there.kinds {
                found.push(format!("database {number}: keys are of other types"));
            } else if here.keys > 0 && here.digest != there.digest {
                found.push(format!("database {number}: the content of keys differs"));
            }
        }
        if self.functions != other.functions || self.functions_digest != other.functions_digest {
            found.push(format!(
                "functions: {} libraries, expected {}",
                other.functions, self.functions
            ));
        }
        found
    }
}
