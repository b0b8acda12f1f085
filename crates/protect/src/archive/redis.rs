//! The log of a Redis: its stream of commands, followed as a replica would.
//!
//! [`begin`] (pure) decides where to go on → [`session`] attaches there → [`follow`] reads, and never waits for a disk: what comes is
//! cut at borders of commands into [`portion`]s, each with the time it came at → the [`ledger`] books them. The rest is as for any log.
//!
//! The server is told as acknowledged what is durable here, and nothing else.

mod begin;
mod facts;
mod follow;
mod headroom;
mod ledger;
mod portion;
mod session;

pub(super) use self::begin::Held;
pub(crate) use self::facts::{RedisSegmentFacts, RedisStreamFacts};
pub(crate) use self::ledger::{RedisLedger, RedisTail};
pub(crate) use self::portion::{Portion, take_portion, whole_portions};
