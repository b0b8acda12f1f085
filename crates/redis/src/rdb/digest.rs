//! Digests of content that do not depend on how a server keeps it: a list that became a quick list, a set of numbers that became
//! a table, or another order in a table have the same digest.
//!
//! What has an order is hashed in it. What has none is the sum of its elements' hashes, so that elements may come in any order
//! and need not be kept. Each text is hashed behind its length, so that no two different contents are the same bytes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A digest of one key's content, or of many keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ContentDigest([u8; 32]);

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for ContentDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digest = blake3::Hash::from_hex(text).map_err(serde::de::Error::custom)?;
        Ok(Self(*digest.as_bytes()))
    }
}

/// A sum of hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sum([u64; 4]);

impl Sum {
    pub(crate) fn add(&mut self, digest: &ContentDigest) {
        let (lanes, _) = digest.0.as_chunks::<8>();
        for (sum, lane) in self.0.iter_mut().zip(lanes) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*lane));
        }
    }

    pub(crate) fn digest(self) -> ContentDigest {
        let mut hash = Hash::default();
        self.0.iter().for_each(|lane| hash.number(*lane));
        hash.finish()
    }
}

/// One hash that is being built; used again for the next.
#[derive(Default)]
pub(crate) struct Hash(blake3::Hasher);

impl Hash {
    pub(crate) fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    pub(crate) fn signed(&mut self, number: i64) {
        self.0.update(&number.to_le_bytes());
    }

    /// Some of a text whose length was hashed before.
    pub(crate) fn portion(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.0.update(text);
    }

    /// Both zeros are the same score.
    pub(crate) fn score(&mut self, score: f64) {
        self.number(if score == 0.0 { 0 } else { score.to_bits() });
    }

    pub(crate) fn digest(&mut self, digest: &ContentDigest) {
        self.0.update(&digest.0);
    }

    pub(crate) fn finish(&mut self) -> ContentDigest {
        let digest = ContentDigest(*self.0.finalize().as_bytes());
        self.0.reset();
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_knows_no_order_and_a_digest_reads_back() {
        let mut hash = Hash::default();
        let digests: Vec<ContentDigest> = ["a", "b", "c"]
            .iter()
            .map(|text| {
                hash.text(text.as_bytes());
                hash.finish()
            })
            .collect();
        let sum = |order: [usize; 3]| {
            let mut sum = Sum::default();
            order.iter().for_each(|at| sum.add(&digests[*at]));
            sum.digest()
        };
        assert_eq!(sum([0, 1, 2]), sum([2, 0, 1]));
        assert_ne!(sum([0, 1, 2]), sum([0, 1, 1]));
        let mut nothing = Hash::default();
        assert_ne!(sum([0, 1, 2]), nothing.finish());
    }
}
