//! Routines, triggers, events, libraries: code, with the session it was created in.

use super::read::{Reading, is, optional, text};
use super::{Creation, Event, Library, ObjectKind, Routine, RoutineKind, Trigger};
use crate::{MysqlError, Row, quote_name, quote_table};

/// MySQL's libraries are since this version.
const LIBRARIES_SINCE: (u16, u16, u16) = (9, 2, 0);

/// Three columns of SHOW CREATE, from the one given.
fn creation(sql_mode: String, row: &Row, at: usize) -> Result<Creation, MysqlError> {
    Ok(Creation {
        sql_mode,
        character_set_client: text(row, at)?,
        collation_connection: text(row, at + 1)?,
        database_collation: text(row, at + 2)?,
    })
}

/// MySQL prints a comment with its backslashes doubled also for code that was created, and is created again, where a
/// backslash is a character like any other; each time it was made again it would have twice as many.
fn with_comment_as_it_is(create: String, comment: &str, sql_mode: &str) -> String {
    if comment.is_empty() || !sql_mode.contains("NO_BACKSLASH_ESCAPES") {
        return create;
    }
    let plain = comment.replace('\'', "''");
    let printed = plain
        .replace('\\', "\\\\")
        .replace('\0', "\\0")
        .replace('\n', "\\n")
        .replace('\r', "\\r");
    // The comment stands before the body.
    create.replacen(&format!("COMMENT '{printed}'"), &format!("COMMENT '{plain}'"), 1)
}

pub(super) async fn read_routines(reading: &mut Reading<'_>, database: &str) -> Result<(), MysqlError> {
    // A package before its body; functions do not need each other to be created.
    let sql = format!(
        "SELECT ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_TYPE, DEFINER, ROUTINE_COMMENT FROM information_schema.ROUTINES WHERE {}
         ORDER BY ROUTINE_TYPE, ROUTINE_NAME",
        is("ROUTINE_SCHEMA", database)
    );
    for row in reading.connection.query(&sql).await? {
        let (name, kind) = (text(&row, 1)?, text(&row, 2)?);
        if text(&row, 0)? != database {
            continue;
        }
        let kind = match kind.as_str() {
            "PROCEDURE" => RoutineKind::Procedure,
            "FUNCTION" => RoutineKind::Function,
            "PACKAGE" => RoutineKind::Package,
            "PACKAGE BODY" => RoutineKind::PackageBody,
            // Listed among the routines too by servers that have them.
            "LIBRARY" => continue,
            other => {
                let reason = format!("{other} is a kind of routine that is not known");
                reading.leave_out(ObjectKind::Routine, Some(database), Some(&name), reason);
                continue;
            }
        };
        let sql = format!("SHOW CREATE {} {}", kind.word(), quote_table(database, &name));
        let shown = reading
            .shown(ObjectKind::Routine, Some(database), &name, &sql, 2)
            .await?;
        if let Some((shown, create)) = shown {
            reading.schema.routines.push(Routine {
                database: database.to_owned(),
                name,
                kind,
                definer: text(&row, 3)?,
                create: with_comment_as_it_is(create, &text(&row, 4)?, &text(&shown, 1)?),
                creation: creation(text(&shown, 1)?, &shown, 3)?,
            });
        }
    }
    Ok(())
}

pub(super) async fn read_libraries(reading: &mut Reading<'_>, database: &str) -> Result<(), MysqlError> {
    if reading.mariadb || reading.version < LIBRARIES_SINCE {
        return Ok(());
    }
    let sql = format!(
        "SELECT LIBRARY_NAME FROM information_schema.LIBRARIES WHERE {} ORDER BY LIBRARY_NAME",
        is("LIBRARY_SCHEMA", database)
    );
    for row in reading.connection.query(&sql).await? {
        let name = text(&row, 0)?;
        let sql = format!("SHOW CREATE LIBRARY {}", quote_table(database, &name));
        let shown = reading
            .shown(ObjectKind::Library, Some(database), &name, &sql, 2)
            .await?;
        if let Some((shown, create)) = shown {
            reading.schema.libraries.push(Library {
                database: database.to_owned(),
                name,
                creation: Creation {
                    sql_mode: text(&shown, 1)?,
                    character_set_client: String::new(),
                    collation_connection: String::new(),
                    database_collation: String::new(),
                },
                create,
            });
        }
    }
    Ok(())
}

pub(super) async fn read_triggers(reading: &mut Reading<'_>, database: &str) -> Result<(), MysqlError> {
    let sql = format!(
        "SELECT TRIGGER_SCHEMA, TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER, DEFINER
         FROM information_schema.TRIGGERS WHERE {}
         ORDER BY EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER",
        is("TRIGGER_SCHEMA", database)
    );
    for row in reading.connection.query(&sql).await? {
        let (name, table) = (text(&row, 1)?, text(&row, 2)?);
        if text(&row, 0)? != database || !(reading.filter.table)(database, &table) {
            continue;
        }
        let sql = format!("SHOW CREATE TRIGGER {}", quote_table(database, &name));
        let shown = reading
            .shown(ObjectKind::Trigger, Some(database), &name, &sql, 2)
            .await?;
        if let Some((shown, create)) = shown {
            reading.schema.triggers.push(Trigger {
                database: database.to_owned(),
                table,
                name,
                timing: text(&row, 3)?,
                event: text(&row, 4)?,
                order: row.number(5).unwrap_or_default(),
                definer: text(&row, 6)?,
                creation: creation(text(&shown, 1)?, &shown, 3)?,
                create,
            });
        }
    }
    Ok(())
}

pub(super) async fn read_events(reading: &mut Reading<'_>, database: &str) -> Result<(), MysqlError> {
    let sql = format!(
        "SELECT EVENT_SCHEMA, EVENT_NAME, DEFINER, TIME_ZONE, STATUS, EVENT_COMMENT FROM information_schema.EVENTS WHERE {}
         ORDER BY EVENT_NAME",
        is("EVENT_SCHEMA", database)
    );
    for row in reading.connection.query(&sql).await? {
        let name = text(&row, 1)?;
        if text(&row, 0)? != database {
            continue;
        }
        let sql = format!("SHOW CREATE EVENT {}", quote_name(&name));
        let shown = reading.shown(ObjectKind::Event, Some(database), &name, &sql, 3).await?;
        if let Some((shown, create)) = shown {
            reading.schema.events.push(Event {
                database: database.to_owned(),
                name,
                definer: text(&row, 2)?,
                time_zone: optional(&shown, 2)?.unwrap_or_else(|| "SYSTEM".to_owned()),
                status: text(&row, 4)?,
                create: with_comment_as_it_is(create, &text(&row, 5)?, &text(&shown, 1)?),
                creation: creation(text(&shown, 1)?, &shown, 4)?,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_comment_of_code_without_backslash_escapes_is_mended() {
        let create = r"CREATE FUNCTION f() RETURNS int COMMENT 'it''s \\ a \n' RETURN 'COMMENT \\'".to_owned();
        let mode = "ANSI_QUOTES,NO_BACKSLASH_ESCAPES";
        let mended = with_comment_as_it_is(create.clone(), "it's \\ a \n", mode);
        assert_eq!(
            mended,
            "CREATE FUNCTION f() RETURNS int COMMENT 'it''s \\ a \n' RETURN 'COMMENT \\\\'"
        );
        assert_eq!(with_comment_as_it_is(create.clone(), "it's \\ a \n", ""), create);
        assert_eq!(with_comment_as_it_is(create.clone(), "", mode), create);
    }
}
