//! Names every kind of store can hold without quoting: no separator tricks, no hidden files, no `..`.

use std::fmt::{Display, Formatter};

/// S3 takes keys of 1024 bytes; the rest is left for the prefix in front.
const NAME_BYTES_MAX: usize = 512;
/// File systems take 255 bytes.
const PART_BYTES_MAX: usize = 200;

/// A relative path of `[a-zA-Z0-9._-]` parts joined by `/`; no part is empty or starts with a dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

/// The text is not an object name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "object name {name:?} is not made of 1 to {NAME_BYTES_MAX} bytes of letters, digits, \".\", \"_\", \"-\" and \"/\", \
     or a part of it is empty, starts with a dot or is longer than {PART_BYTES_MAX} bytes"
)]
pub struct NameError {
    name: String,
}

impl ObjectName {
    pub fn new(name: &str) -> Result<Self, NameError> {
        if is_object_name(name) {
            Ok(Self(name.to_owned()))
        } else {
            Err(NameError { name: name.to_owned() })
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folders on the way, then the last part.
    pub(crate) fn split(&self) -> (Vec<&str>, &str) {
        let mut folders: Vec<&str> = self.0.split('/').collect();
        let last = folders.pop().unwrap_or_default();
        (folders, last)
    }
}

impl Display for ObjectName {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_object_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && name.split('/').all(is_part)
}

/// Whether `part` may stand between two `/`.
pub(crate) fn is_part(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= PART_BYTES_MAX
        && !part.starts_with('.')
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_every_store_can_hold_are_taken() {
        for name in ["a", "packs/00/ff-0_1.pack", "A.b", "-", "_", "a..b", &"x".repeat(200)] {
            assert_eq!(ObjectName::new(name).unwrap().as_str(), name);
        }
        let long = vec!["x".repeat(100); 6].join("/");
        for name in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", ".a", "a/.b", "a b", "ä", "a\0", "a\\b", "a%2f", &long,
        ] {
            assert!(ObjectName::new(name).is_err(), "{name:?}");
        }
        assert!(ObjectName::new(&"x".repeat(201)).is_err());
    }
}
