//! What is on a server besides its rows: read as a whole, and made again elsewhere.
//!
//! [`Schema::read`] gives everything of the chosen databases and the accounts, or names what it left out and why: an object
//! that the account may not see is never silently missing. The texts are the server's own, so that creating them gives
//! the same objects again. What makes statements of them is pure: no server is asked.

mod abilities;
mod accounts;
mod create;
mod extras;
mod model;
mod programs;
mod read;
mod rehearsal;
mod sql_text;
mod table_text;
mod tables;
mod translate;
mod view_order;
mod views;
mod visible;

pub use abilities::Abilities;
pub use create::{Naming, creation_session};
pub use model::{
    Account, AccountKind, ColumnSchema, Creation, Database, Event, Generated, KeyPart, LeftOut, Library, ObjectKind,
    Routine, RoutineKind, Schema, SecretSql, Sequence, TableKind, TableSchema, Trigger, UniqueKey, View,
};
pub use table_text::TableStatements;
pub use translate::{Change, Loss, Translated};

/// What of a server is read.
pub struct SchemaFilter<'a> {
    pub database: &'a (dyn Fn(&str) -> bool + Send + Sync),
    /// Of tables, sequences and views, by database and name. Triggers go with their tables; routines and events with
    /// their databases.
    pub table: &'a (dyn Fn(&str, &str) -> bool + Send + Sync),
    /// Users, roles and what they may do.
    pub accounts: bool,
}

impl std::fmt::Debug for SchemaFilter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchemaFilter")
            .field("accounts", &self.accounts)
            .finish_non_exhaustive()
    }
}
