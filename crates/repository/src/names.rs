//! Every object name in one place, both ways: typed id to name, name to typed id. Nothing else spells a name.

use ballast_base::{fill_random, random_hex};
use ballast_storage::ObjectName;
use jiff::Timestamp;

const STAMP: &str = "ballast-repository";

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) [u8; 16]);

        impl $name {
            pub(crate) fn random() -> Self {
                let mut id = [0; 16];
                fill_random(&mut id);
                Self(id)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

random_id!(
    /// Which repository; the same in all copies of it.
    RepositoryId
);
random_id!(
    /// One pack.
    PackId
);
random_id!(
    /// One lock of the master key.
    SlotId
);

/// One backup: when it began, and eight random digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId(String);

impl BackupId {
    pub fn new(started_at: Timestamp) -> Self {
        Self(format!("{}-{}", started_at.strftime("%Y%m%dT%H%M%SZ"), random_hex(4)))
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (time, chance) = text.split_once('-')?;
        let form = |text: &str, form: &str| {
            text.len() == form.len()
                && text.bytes().zip(form.bytes()).all(|(c, f)| match f {
                    b'9' => c.is_ascii_digit(),
                    b'f' => matches!(c, b'0'..=b'9' | b'a'..=b'f'),
                    _ => c == f,
                })
        };
        (form(time, "99999999T999999Z") && form(chance, "ffffffff")).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for BackupId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of object a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    Stamp,
    Key(SlotId),
    Pack(PackId),
    Manifest(BackupId),
    /// Says that the pack is damaged.
    Mark(PackId),
    Unknown,
}

pub(crate) const KEYS: &str = "keys/";
pub(crate) const PACKS: &str = "packs/";
pub(crate) const MANIFESTS: &str = "manifests/";
pub(crate) const MARKS: &str = "damaged/";

pub(crate) fn stamp() -> ObjectName {
    valid(STAMP.to_owned())
}

pub(crate) fn key(id: SlotId) -> ObjectName {
    valid(format!("{KEYS}{id}"))
}

pub(crate) fn pack(id: PackId) -> ObjectName {
    let digits = id.to_string();
    valid(format!("{PACKS}{}/{digits}", digits.get(..2).unwrap_or_default()))
}

pub(crate) fn manifest(id: &BackupId) -> ObjectName {
    valid(format!("{MANIFESTS}{id}"))
}

pub(crate) fn mark(id: PackId) -> ObjectName {
    valid(format!("{MARKS}{id}"))
}

pub(crate) fn parse(name: &ObjectName) -> Named {
    let text = name.as_str();
    let known = if text == STAMP {
        Some(Named::Stamp)
    } else if let Some(id) = text.strip_prefix(KEYS) {
        hex(id).map(SlotId).map(Named::Key)
    } else if let Some(rest) = text.strip_prefix(PACKS) {
        rest.split_once('/')
            .filter(|(folder, id)| id.starts_with(folder) && folder.len() == 2)
            .and_then(|(_, id)| hex(id).map(PackId).map(Named::Pack))
    } else if let Some(id) = text.strip_prefix(MANIFESTS) {
        BackupId::parse(id).map(Named::Manifest)
    } else if let Some(id) = text.strip_prefix(MARKS) {
        hex(id).map(PackId).map(Named::Mark)
    } else {
        None
    };
    known.unwrap_or(Named::Unknown)
}

/// The bytes of 32 small hexadecimal digits.
fn hex(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32 || digits.iter().any(|d| !matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

fn valid(name: String) -> ObjectName {
    ObjectName::new(&name).expect("names made here use only the letters that are allowed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_what_they_name() {
        let (slot, id) = (SlotId::random(), PackId::random());
        let backup = BackupId::new("2026-11-23T05:33:00Z".parse().unwrap());
        assert!(backup.as_str().starts_with("20261123T053300Z-"));
        assert_eq!(parse(&stamp()), Named::Stamp);
        assert_eq!(parse(&key(slot)), Named::Key(slot));
        assert_eq!(parse(&pack(id)), Named::Pack(id));
        assert_eq!(parse(&mark(id)), Named::Mark(id));
        assert_eq!(parse(&manifest(&backup)), Named::Manifest(backup));
        for text in [
            "keys/x",
            "damaged/x",
            "packs/00/ffffffffffffffffffffffffffffffff",
            "manifests/20261123-00000000",
            "other",
            "keys/+0000000000000000000000000000000",
        ] {
            if let Ok(name) = ObjectName::new(text) {
                assert_eq!(parse(&name), Named::Unknown, "{text}");
            }
        }
    }
}
