//! Which of the things that a load is to make have their names taken on the target.

use std::collections::BTreeSet;

use ballast_mysql::{Connection, MysqlError, quote_text};

use super::book::Thing;
use super::resume::Present;
use crate::error::Result;
use crate::load_plan::LoadPlan;
use crate::load_plan::NameCase;

pub(super) const FOREIGN_KEYS: &str = "foreign keys";
pub(super) const LIBRARY: &str = "library";
pub(super) const VIEW: &str = "view";
pub(super) const TRIGGER: &str = "trigger";
pub(super) const EVENT: &str = "event";
pub(super) const ACCOUNT: &str = "account";

/// A name that stands for this: accounts could be seen at all. Without it one that is there counts as somebody else's.
pub(super) fn accounts_seen() -> Thing {
    thing(ACCOUNT, "", "can be seen")
}

pub(super) fn thing(kind: &str, of: &str, name: &str) -> Thing {
    (kind.to_owned(), of.to_owned(), name.to_owned())
}

/// As the target compares its names.
pub(super) fn folded(case: NameCase, (kind, of, name): Thing) -> Thing {
    match kind.as_str() {
        ACCOUNT => (kind, of, name),
        VIEW | FOREIGN_KEYS => (kind, case.fold(&of), case.fold(&name)),
        _ => (kind, case.fold(&of), name),
    }
}

/// Of the plan's databases, and all accounts that this account may see.
pub(super) async fn read(connection: &mut Connection, plan: &LoadPlan) -> Result<BTreeSet<Thing>> {
    let schema = &plan.record.schema;
    let names = plan.names();
    let mut databases: BTreeSet<String> = plan
        .chosen()
        .map(|(_, table)| names.table(&table.database, &table.name).0)
        .collect();
    if plan.is_whole() {
        databases.extend(schema.databases.iter().map(|database| plan.case.fold(&database.name)));
    }
    let list: Vec<String> = databases.iter().map(|name| quote_text(name)).collect();
    let mut there = BTreeSet::new();
    if list.is_empty() {
        return Ok(there);
    }
    let within = |column: &str| format!("{column} IN ({})", list.join(", "));
    let mut queries = vec![
        format!(
            "SELECT '{FOREIGN_KEYS}', CONSTRAINT_SCHEMA, TABLE_NAME FROM information_schema.TABLE_CONSTRAINTS \
             WHERE CONSTRAINT_TYPE = 'FOREIGN KEY' AND {}",
            within("CONSTRAINT_SCHEMA")
        ),
        format!(
            "SELECT LOWER(ROUTINE_TYPE), ROUTINE_SCHEMA, ROUTINE_NAME FROM information_schema.ROUTINES WHERE {}",
            within("ROUTINE_SCHEMA")
        ),
        format!(
            "SELECT '{TRIGGER}', TRIGGER_SCHEMA, TRIGGER_NAME FROM information_schema.TRIGGERS WHERE {}",
            within("TRIGGER_SCHEMA")
        ),
        format!(
            "SELECT '{EVENT}', EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS WHERE {}",
            within("EVENT_SCHEMA")
        ),
    ];
    if !schema.libraries.is_empty() {
        queries.push(format!(
            "SELECT '{LIBRARY}', LIBRARY_SCHEMA, LIBRARY_NAME FROM information_schema.LIBRARIES WHERE {}",
            within("LIBRARY_SCHEMA")
        ));
    }
    for sql in queries {
        add(&mut there, connection.query(&sql).await?);
    }
    for ((database, name), present) in Present::read(connection, NameCase::Matters).await? {
        if present.is_view() {
            there.insert((VIEW.to_owned(), database, name));
        }
    }
    let accounts = connection
        .query(&format!("SELECT '{ACCOUNT}', User, Host FROM mysql.user"))
        .await;
    match accounts {
        Ok(rows) => {
            add(&mut there, rows);
            there.insert(accounts_seen());
        }
        Err(error @ MysqlError::Server { .. }) => tracing::debug!(%error, "accounts cannot be seen"),
        Err(error) => return Err(error.into()),
    }
    Ok(there.into_iter().map(|it| folded(plan.case, it)).collect())
}

fn add(there: &mut BTreeSet<Thing>, rows: ballast_mysql::Rows) {
    let text =
        |row: &ballast_mysql::Row, column| row.text(column).map(std::borrow::Cow::into_owned).unwrap_or_default();
    there.extend(
        rows.into_iter()
            .map(|row| (text(&row, 0), text(&row, 1), text(&row, 2))),
    );
}
