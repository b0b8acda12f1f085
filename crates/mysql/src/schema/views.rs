//! Views. One that cannot be used is kept with its text; it does not keep the rest from being read.

use super::read::{Reading, is, text};
use super::tables::Listed;
use super::{Creation, ObjectKind, View};
use crate::{MysqlError, quote_name};

pub(super) async fn read(reading: &mut Reading<'_>, database: &str, listed: &[Listed]) -> Result<(), MysqlError> {
    if !listed.iter().any(Listed::is_view) {
        return Ok(());
    }
    // The definers, without opening any view: an answer about one that is broken is a warning, not a refusal.
    let sql = format!(
        "SELECT TABLE_NAME, DEFINER, TABLE_SCHEMA FROM information_schema.VIEWS WHERE {}",
        is("TABLE_SCHEMA", database)
    );
    let mut definers = std::collections::BTreeMap::new();
    for row in reading.connection.query(&sql).await? {
        if text(&row, 2)? == database {
            definers.insert(text(&row, 0)?, text(&row, 1)?);
        }
    }
    for view in listed.iter().filter(|each| each.is_view()) {
        // Without its database, which is the current one: then the server prints names without it too.
        let sql = format!("SHOW CREATE VIEW {}", quote_name(&view.name));
        let shown = reading
            .shown(ObjectKind::View, Some(database), &view.name, &sql, 1)
            .await?;
        let Some((row, create)) = shown else {
            continue;
        };
        reading.schema.views.push(View {
            database: database.to_owned(),
            name: view.name.clone(),
            definer: definers.get(&view.name).cloned().unwrap_or_default(),
            creation: Creation {
                sql_mode: String::new(),
                character_set_client: text(&row, 2)?,
                collation_connection: text(&row, 3)?,
                database_collation: String::new(),
            },
            create,
            invalid: (view.comment != "VIEW").then(|| view.comment.clone()),
        });
    }
    Ok(())
}
