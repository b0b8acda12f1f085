//! Whether a target understands the statements that would be run on it: each is prepared, which writes nothing, and not run.
//!
//! What a server takes apart only when it runs a statement is not found here: a table another one reads from is not there yet.

use super::abilities::Abilities;
use super::translate::{Loss, Translated};
use super::{Creation, Naming};
use crate::{Connection, MysqlError, quote_text};

/// Names that are not there yet, what is not to be prepared at all, and what this account may do only with the objects there.
const SAYS_NOTHING: [u16; 11] = [1044, 1046, 1049, 1109, 1142, 1143, 1146, 1227, 1295, 1370, 1449];
/// Of an answer, what is shown.
const ANSWER_CHARS_MAX: usize = 200;

impl Abilities {
    /// Asks the target about every object; what it does not understand is taken out and noted.
    pub async fn rehearse(
        &self,
        connection: &mut Connection,
        translated: &mut Translated,
        naming: &Naming<'_>,
        chosen: &dyn Fn(&str, &str) -> bool,
        others: bool,
    ) -> Result<(), MysqlError> {
        let left_out: Vec<_> = translated
            .tables_left_out
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        for table in &translated.schema.tables {
            let name = (table.database.clone(), table.name.clone());
            if !chosen(&table.database, &table.name) || left_out.contains(&name) {
                continue;
            }
            let statements = table.statements(naming)?;
            for sql in std::iter::once(&statements.create).chain(&statements.keys) {
                if let Some(answer) = refused(connection, sql, None).await? {
                    translated.tables_left_out.push((name, answer));
                    break;
                }
            }
        }
        translated.without_orphans(chosen);
        self.rehearse_code(connection, translated, others).await
    }

    async fn rehearse_code(
        &self,
        connection: &mut Connection,
        translated: &mut Translated,
        others: bool,
    ) -> Result<(), MysqlError> {
        let mut losses = Vec::new();
        let schema = &mut translated.schema;
        macro_rules! rehearse {
            ($field:ident, $what:expr) => {
                let mut kept = Vec::new();
                for each in std::mem::take(&mut schema.$field) {
                    match refused(connection, &each.create, Some(&each.creation)).await? {
                        None => kept.push(each),
                        Some(why) => losses.push(Loss {
                            object: $what(&each),
                            why,
                        }),
                    }
                }
                schema.$field = kept;
            };
        }
        rehearse!(triggers, |each: &super::Trigger| format!(
            "trigger {}.{}",
            each.database, each.name
        ));
        if others {
            rehearse!(routines, |each: &super::Routine| format!(
                "{} {}.{}",
                each.kind.word().to_lowercase(),
                each.database,
                each.name
            ));
            rehearse!(events, |each: &super::Event| format!(
                "event {}.{}",
                each.database, each.name
            ));
            rehearse!(views, |each: &super::View| format!(
                "view {}.{}",
                each.database, each.name
            ));
            rehearse!(libraries, |each: &super::Library| format!(
                "library {}.{}",
                each.database, each.name
            ));
        }
        translated.losses.append(&mut losses);
        connection.execute("SET SESSION sql_mode = ''").await?;
        Ok(())
    }
}

/// The target's answer, where it does not understand the statement.
async fn refused(
    connection: &mut Connection,
    sql: &str,
    creation: Option<&Creation>,
) -> Result<Option<String>, MysqlError> {
    // The text is quoted under one mode and read under another.
    connection.execute("SET SESSION sql_mode = ''").await?;
    connection
        .execute(&format!("SET @ballast_trial = {}", quote_text(sql)))
        .await?;
    if let Some(creation) = creation {
        let mode = format!("SET SESSION sql_mode = {}", quote_text(&creation.sql_mode));
        connection.execute(&mode).await?;
    }
    match connection.execute("PREPARE ballast_trial FROM @ballast_trial").await {
        Err(MysqlError::Server { code, message, .. }) if !SAYS_NOTHING.contains(&code) => {
            let message: String = message.split_whitespace().collect::<Vec<_>>().join(" ");
            let shown: String = message.chars().take(ANSWER_CHARS_MAX).collect();
            Ok(Some(format!(
                "the target does not understand it: {shown} (error {code})"
            )))
        }
        Err(MysqlError::Server { .. }) => Ok(None),
        done => done.map(|_| None),
    }
}
