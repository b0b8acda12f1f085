//! What refers to tables: foreign keys, routines, views, triggers, events, accounts. One that cannot be made is named; the
//! others are made all the same.
//!
//! A load that goes on knows its own things by this: they are there, and they were not there before the first was made.

use std::collections::BTreeSet;

use ballast_mysql::{AccountKind, Connection, MysqlError};

use super::book::{Book, Stage, Thing};
use super::standing::{self, ACCOUNT, EVENT, FOREIGN_KEYS, LIBRARY, TRIGGER, VIEW, thing};
use super::{prepare, run};
use crate::error::Result;
use crate::load_plan::LoadPlan;

/// A view may stand before one it reads from, if they were made out of order.
const VIEW_ROUNDS_MAX: usize = 8;

/// What is being made, and what came of it.
struct Making<'a> {
    control: &'a mut Connection,
    plan: &'a LoadPlan,
    /// Made by an earlier run of this load.
    ours: BTreeSet<Thing>,
    left_out: Vec<String>,
}

/// Makes them; gives what could not be made, and why.
pub(super) async fn make(control: &mut Connection, plan: &LoadPlan, book: Option<&mut Book>) -> Result<Vec<String>> {
    control.execute("SET NAMES utf8mb4").await?;
    let mut ours = BTreeSet::new();
    if let Some(book) = book {
        let there = standing::read(control, plan).await?;
        if book.stage == Stage::Objects {
            ours = there.difference(&book.standing).cloned().collect();
            if !book.standing.contains(&standing::accounts_seen()) {
                ours.retain(|(kind, _, _)| kind != ACCOUNT);
            }
        } else {
            book.objects(control, there).await?;
        }
    }
    let mut making = Making {
        control,
        plan,
        ours,
        left_out: Vec::new(),
    };
    making.all().await?;
    Ok(making.left_out)
}

impl Making<'_> {
    async fn all(&mut self) -> Result<()> {
        let plan = self.plan;
        let names = plan.names();
        let naming = names.naming();
        let schema = &plan.record.schema;
        for (_, table) in plan.chosen() {
            let (database, name) = names.table(&table.database, &table.name);
            if let Some(sql) = table.statements(&naming)?.foreign_keys
                && !self.is_ours(&thing(FOREIGN_KEYS, &database, &name))
            {
                let made = run(self.control, &[sql]).await;
                self.note(|| format!("foreign keys of {}.{}", table.database, table.name), made)?;
            }
        }
        if plan.is_whole() {
            for library in &schema.libraries {
                let what = || format!("library {}.{}", library.database, library.name);
                let it = thing(LIBRARY, &library.database, &library.name);
                let made = self.object(&it, &library.statements(&naming)).await;
                self.note(what, made)?;
            }
            for routine in &schema.routines {
                let kind = routine.kind.word().to_lowercase();
                let what = || format!("{kind} {}.{}", routine.database, routine.name);
                let it = thing(&kind, &routine.database, &routine.name);
                let made = self.object(&it, &schema.routine_statements(routine, &naming)).await;
                self.note(what, made)?;
            }
            self.views().await?;
        }
        for trigger in &schema.triggers {
            if plan.is_chosen(&trigger.database, &trigger.table) {
                let what = || format!("trigger {}.{}", trigger.database, trigger.name);
                let (database, _) = names.table(&trigger.database, &trigger.table);
                let it = thing(TRIGGER, &database, &trigger.name);
                let made = self.object(&it, &schema.trigger_statements(trigger, &naming)?).await;
                self.note(what, made)?;
            }
        }
        if plan.is_whole() {
            for event in &schema.events {
                let what = || format!("event {}.{}", event.database, event.name);
                let it = thing(EVENT, &event.database, &event.name);
                let made = self.object(&it, &schema.event_statements(event, &naming)).await;
                self.note(what, made)?;
            }
            self.accounts().await?;
        }
        Ok(())
    }

    fn is_ours(&self, it: &Thing) -> bool {
        self.ours.contains(&standing::folded(self.plan.case, it.clone()))
    }

    /// Makes one thing. What its statements set on the way, such as the database's collation, is set back also where it is there
    /// already or cannot be made.
    async fn object(&mut self, it: &Thing, statements: &[String]) -> std::result::Result<(), MysqlError> {
        let mut made = Ok(());
        let mut may_create = !self.is_ours(it);
        for sql in statements {
            if sql.starts_with("CREATE") && !may_create {
                continue;
            }
            match self.control.execute(sql).await {
                Ok(_) => {}
                Err(error @ MysqlError::Server { .. }) => {
                    may_create = false;
                    if made.is_ok() {
                        made = Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        made
    }

    async fn views(&mut self) -> Result<()> {
        let plan = self.plan;
        let names = plan.names();
        let naming = names.naming();
        let mut waiting: Vec<_> = plan.record.schema.views.iter().collect();
        for _ in 0..VIEW_ROUNDS_MAX {
            let before = waiting.len();
            let mut failed = Vec::new();
            for view in waiting {
                let it = thing(VIEW, &view.database, &view.name);
                match self.object(&it, &view.statements(&naming)?).await {
                    Ok(()) => {}
                    Err(error @ MysqlError::Server { .. }) => failed.push((view, error)),
                    Err(error) => return Err(error.into()),
                }
            }
            let over = failed.is_empty() || failed.len() == before;
            if over {
                for (view, error) in failed {
                    self.left_out
                        .push(format!("view {}.{}: {error}", view.database, view.name));
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
        self.left_out.extend(rest);
        Ok(())
    }

    /// Accounts that are not there yet; those that are keep their passwords and rights.
    async fn accounts(&mut self) -> Result<()> {
        const EXISTS: [u16; 2] = [1396, 3162];
        let mut there = Vec::new();
        // Triggers and events left the session as each of them was created.
        prepare(self.control, self.plan).await?;
        let kinds = [AccountKind::User, AccountKind::Role];
        for (account, sql) in self.plan.record.schema.account_statements(&kinds) {
            let key = (&account.user, &account.host);
            let made_before = sql == account.create && self.is_ours(&thing(ACCOUNT, key.0, key.1));
            if made_before || there.contains(&key) {
                continue;
            }
            match self.control.execute(sql.expose()).await {
                Ok(_) => {}
                Err(error) if error.server_code().is_some_and(|code| EXISTS.contains(&code)) => {
                    there.push(key);
                    self.left_out.push(format!(
                        "account {}@{}: it is there already and was left as it is",
                        account.user, account.host
                    ));
                }
                Err(error @ MysqlError::Server { .. }) => {
                    self.left_out
                        .push(format!("account {}@{}: {error}", account.user, account.host));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn note(&mut self, what: impl Fn() -> String, made: std::result::Result<(), MysqlError>) -> Result<()> {
        match made {
            Err(error @ MysqlError::Server { .. }) => self.left_out.push(format!("{}: {error}", what())),
            other => other?,
        }
        Ok(())
    }
}
