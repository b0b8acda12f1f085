//! A portion: some of the commands, with the time at which they had come. The log of a Redis is portions, one behind the other.
//!
//! A server's stream carries no times, so each portion has ours, taken after its last byte was received: what is in a portion was
//! executed no later. Portions end at borders of commands wherever one command, or one transaction, is not very large.
#![deny(clippy::indexing_slicing)]

use ballast_redis::CommandScanner;
use bytes::Bytes;

use crate::error::{ProtectError, Result};

/// `at` u64, length u32, commands u32.
pub(crate) const HEAD_BYTES: usize = 16;
/// No portion is larger.
pub(crate) const PORTION_BYTES_MAX: usize = 8 * 1024 * 1024;

/// As it came from the server.
#[derive(Debug, Clone)]
pub(crate) struct Portion {
    /// Microseconds since 1970.
    pub(crate) at: u64,
    pub(crate) bytes: Bytes,
    /// How many commands end in it, not counted those by which the server only shows that it is there.
    pub(crate) commands: u32,
    /// A database was chosen in it.
    pub(crate) selects: bool,
    /// What is known of the stream behind it.
    pub(crate) after: CommandScanner,
}

impl Portion {
    pub(crate) fn stored_bytes(&self) -> usize {
        HEAD_BYTES + self.bytes.len()
    }

    pub(crate) fn store(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.bytes.len()).expect("a portion is at most 8 MiB");
        out.extend_from_slice(&self.at.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.commands.to_le_bytes());
        out.extend_from_slice(&self.bytes);
    }
}

/// As it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredPortion<'a> {
    pub(crate) at: u64,
    pub(crate) commands: u32,
    pub(crate) bytes: &'a [u8],
}

/// Takes the portion at the begin of `raw`; `None` where it is not all there.
pub(crate) fn take_portion<'a>(raw: &mut &'a [u8]) -> Result<Option<StoredPortion<'a>>> {
    let Some((at, rest)) = raw.split_first_chunk::<8>() else {
        return Ok(None);
    };
    let Some((length, rest)) = rest.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let Some((commands, rest)) = rest.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 || length > PORTION_BYTES_MAX {
        return Err(ProtectError::failed(format!(
            "a portion of {length} bytes in the log of a Redis"
        )));
    }
    let Some((bytes, rest)) = rest.split_at_checked(length) else {
        return Ok(None);
    };
    *raw = rest;
    Ok(Some(StoredPortion {
        at: u64::from_le_bytes(*at),
        commands: u32::from_le_bytes(*commands),
        bytes,
    }))
}

/// How many of these bytes are whole portions.
pub(crate) fn whole_portions(raw: &[u8]) -> usize {
    let mut rest = raw;
    while let Ok(Some(_)) = take_portion(&mut rest) {}
    raw.len() - rest.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn portion(at: u64, bytes: &[u8]) -> Portion {
        Portion {
            at,
            bytes: Bytes::copy_from_slice(bytes),
            commands: 1,
            selects: false,
            after: CommandScanner::new(0, 0),
        }
    }

    #[test]
    fn portions_read_back_and_a_torn_one_is_cut_off() {
        let mut raw = Vec::new();
        portion(7, b"abc").store(&mut raw);
        portion(9, b"d").store(&mut raw);
        let mut rest = raw.as_slice();
        let first = take_portion(&mut rest).unwrap().unwrap();
        assert_eq!((first.at, first.commands, first.bytes), (7, 1, b"abc".as_slice()));
        assert_eq!(take_portion(&mut rest).unwrap().unwrap().bytes, b"d");
        assert_eq!(take_portion(&mut rest).unwrap(), None);
        for end in 0..raw.len() {
            let kept = if end < 19 { 0 } else { 19 };
            assert_eq!(whole_portions(raw.get(..end).unwrap()), kept, "{end}");
        }
        assert_eq!(whole_portions(&raw), raw.len());
        assert!(take_portion(&mut [0_u8; 16].as_slice()).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_are_portions_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(whole_portions(&bytes) <= bytes.len());
        }
    }
}
