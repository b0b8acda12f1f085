//! The client side of MySQL's wire protocol: bytes to packets, packets to meaning.
//!
//! Everything read here comes from outside. Decoders take what they need through [`reader::Reader`], which answers
//! with an error where bytes are missing; none of them indexes, and none trusts a length it did not check.

pub(crate) mod auth;
pub(crate) mod handshake;
pub(crate) mod packet;
pub(crate) mod reader;
pub(crate) mod response;
