//! The promises of `docs/promises.md`: the real program against real servers. Each promise is a test of its name.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test says by panicking what is wrong, and prints what it measured"
)]

mod archive;
mod damage;
mod external;
mod faults;
mod flavours;
mod load_again;
mod log_find;
mod logical;
mod mistakes;
mod moments;
mod no_binlog;
mod out_of_files;
mod position;
mod recorded;
mod redis;
mod redis_log;
mod redis_target;
mod replay;
mod rows_consistent;
mod savings;
mod several;
mod shapes;
mod site;
