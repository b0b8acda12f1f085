//! The parts of a snapshot as they pass in a walk, for whoever makes something else of them. Nothing is held: the bytes of a value
//! come in portions, whatever its size.

use crate::RedisError;

/// One key, before its value.
#[derive(Debug, Clone, Copy)]
pub struct KeyHead<'a> {
    pub database: u32,
    pub name: &'a [u8],
    /// The number of its type in the format.
    pub code: u8,
    /// Milliseconds since 1970.
    pub expires_at: Option<i64>,
    /// Seconds since it was used, where the server goes by that.
    pub idle: Option<u64>,
    /// How often it was used, where the server goes by that.
    pub frequency: Option<u8>,
    /// Where its value begins.
    pub value_from: u64,
}

#[derive(Debug)]
pub enum Part<'a> {
    /// What the server says of itself; a long value is cut.
    Fact {
        name: &'a [u8],
        value: &'a [u8],
    },
    Key(KeyHead<'a>),
    /// Some of the value of a key, or of a library of functions, as it stands in the snapshot.
    Bytes(&'a [u8]),
    KeyEnd {
        to: u64,
    },
    /// A library of functions begins.
    Function,
    FunctionEnd {
        to: u64,
    },
    /// All was walked and is whole.
    End,
}

/// Takes the parts; an error ends the walk.
pub type PartSink = Box<dyn FnMut(Part<'_>) -> Result<(), RedisError> + Send>;
