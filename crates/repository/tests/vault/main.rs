//! The vault from the outside, on stores in memory that can be made to fail.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says by panicking what is wrong"
)]

mod copying;
mod damage;
mod head;
mod interrupted;
mod journal;
mod kit;
mod logs;
mod logs_damaged;
mod marks;
mod round_trip;
mod several;
