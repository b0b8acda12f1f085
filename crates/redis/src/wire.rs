//! The client side of the wire: bytes in and out, limited and cancellable, and what an answer means.

pub(crate) mod channel;
pub(crate) mod resp;
