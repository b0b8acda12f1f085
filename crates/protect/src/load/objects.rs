//! What refers to tables: foreign keys, routines, views, triggers, events, accounts. One that cannot be made is named; the
//! others are made all the same.

use ballast_mysql::{AccountKind, Connection, MysqlError};

use super::{prepare, run};
use crate::error::Result;
use crate::load_plan::LoadPlan;

/// A view may stand before one it reads from, if they were made out of order.
const VIEW_ROUNDS_MAX: usize = 8;

/// Makes them; gives what could not be made, and why.
pub(super) async fn make(control: &mut Connection, plan: &LoadPlan) -> Result<Vec<String>> {
    let mut left_out = Vec::new();
    let names = plan.names();
    let naming = names.naming();
    let schema = &plan.record.schema;
    control.execute("SET NAMES utf8mb4").await?;
    for (_, table) in plan.chosen() {
        if let Some(sql) = table.statements(&naming)?.foreign_keys {
            let what = || format!("foreign keys of {}.{}", table.database, table.name);
            note(&mut left_out, what, run(control, &[sql]).await)?;
        }
    }
    if plan.is_whole() {
        for library in &schema.libraries {
            let what = || format!("library {}.{}", library.database, library.name);
            note(&mut left_out, what, run(control, &library.statements(&naming)).await)?;
        }
        for routine in &schema.routines {
            let what = || {
                format!(
                    "{} {}.{}",
                    routine.kind.word().to_lowercase(),
                    routine.database,
                    routine.name
                )
            };
            let made = run(control, &schema.routine_statements(routine, &naming)).await;
            note(&mut left_out, what, made)?;
        }
        make_views(control, plan, &mut left_out).await?;
    }
    for trigger in &schema.triggers {
        if plan.is_chosen(&trigger.database, &trigger.table) {
            let what = || format!("trigger {}.{}", trigger.database, trigger.name);
            let made = run(control, &schema.trigger_statements(trigger, &naming)?).await;
            note(&mut left_out, what, made)?;
        }
    }
    if plan.is_whole() {
        for event in &schema.events {
            let what = || format!("event {}.{}", event.database, event.name);
            let made = run(control, &schema.event_statements(event, &naming)).await;
            note(&mut left_out, what, made)?;
        }
        make_accounts(control, plan, &mut left_out).await?;
    }
    Ok(left_out)
}

async fn make_views(control: &mut Connection, plan: &LoadPlan, left_out: &mut Vec<String>) -> Result<()> {
    let names = plan.names();
    let naming = names.naming();
    let mut waiting: Vec<_> = plan.record.schema.views.iter().collect();
    for _ in 0..VIEW_ROUNDS_MAX {
        let before = waiting.len();
        let mut failed = Vec::new();
        for view in waiting {
            match run(control, &view.statements(&naming)?).await {
                Ok(()) => {}
                Err(error @ MysqlError::Server { .. }) => failed.push((view, error)),
                Err(error) => return Err(error.into()),
            }
        }
        let over = failed.is_empty() || failed.len() == before;
        if over {
            for (view, error) in failed {
                left_out.push(format!("view {}.{}: {error}", view.database, view.name));
            }
            return Ok(());
        }
        waiting = failed.into_iter().map(|(view, _)| view).collect();
    }
    let rest = waiting.iter().map(|view| {
        format!(
            "view {}.{}: it reads from views that cannot be made",
            view.database, view.name
        )
    });
    left_out.extend(rest);
    Ok(())
}

/// Accounts that are not there yet; those that are keep their passwords and rights.
async fn make_accounts(control: &mut Connection, plan: &LoadPlan, left_out: &mut Vec<String>) -> Result<()> {
    const EXISTS: [u16; 2] = [1396, 3162];
    let mut there = Vec::new();
    // Triggers and events left the session as each of them was created.
    prepare(control, plan).await?;
    for (account, sql) in plan
        .record
        .schema
        .account_statements(&[AccountKind::User, AccountKind::Role])
    {
        let key = (&account.user, &account.host);
        if there.contains(&key) {
            continue;
        }
        match control.execute(sql.expose()).await {
            Ok(_) => {}
            Err(error) if error.server_code().is_some_and(|code| EXISTS.contains(&code)) => {
                there.push(key);
                left_out.push(format!(
                    "account {}@{}: it is there already and was left as it is",
                    account.user, account.host
                ));
            }
            Err(error @ MysqlError::Server { .. }) => {
                left_out.push(format!("account {}@{}: {error}", account.user, account.host));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn note(
    left_out: &mut Vec<String>,
    what: impl Fn() -> String,
    made: std::result::Result<(), MysqlError>,
) -> Result<()> {
    match made {
        Err(error @ MysqlError::Server { .. }) => left_out.push(format!("{}: {error}", what())),
        other => other?,
    }
    Ok(())
}
