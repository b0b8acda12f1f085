//! The vault from the outside, on stores in memory that can be made to fail.

mod copying;
mod damage;
mod interrupted;
mod kit;
mod round_trip;
mod several;
