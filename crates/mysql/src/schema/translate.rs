//! What a schema becomes on a server of another flavour or version.
//!
//! Pure: the target was asked before (see [`Abilities`]). The result is a schema of the target's words, and two lists: what
//! becomes something else, and what is not carried at all. Nothing is dropped without a line in one of them; what the
//! target knows stays as it is, letter by letter where only the version differs. Bodies of routines, triggers and events
//! are not touched: whether the target understands them is for it to say (see [`Abilities::rehearse`]).

mod accounts;
mod collations;
mod column;
mod options;
mod table;
mod words;

use std::collections::BTreeSet;

use super::abilities::{Abilities, Ability};
use super::sql_text::tokens;
use super::{Creation, Database, Schema};
use crate::{quote_name, quote_text};
use collations::nearest;

/// An object that becomes another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Change {
    pub object: String,
    /// What it becomes.
    pub what: String,
}

/// An object, or a part of one, that does not carry over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Loss {
    pub object: String,
    pub why: String,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.object, self.why)
    }
}

/// A schema on its way to another server.
#[derive(Debug, Default)]
pub struct Translated {
    /// Its tables are those of the source, each at its place, those that cannot be carried as well.
    pub schema: Schema,
    /// Tables that cannot be carried, by database and name, and why.
    pub tables_left_out: Vec<((String, String), String)>,
    pub changes: Vec<Change>,
    pub losses: Vec<Loss>,
}

/// Functions of the server that the tables and views of a schema call.
pub(super) fn functions_used(schema: &Schema) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for each in &schema.views {
        found.extend(words::calls(&tokens(&each.create)));
    }
    for routine in &schema.routines {
        found.remove(&routine.name.to_lowercase());
    }
    for each in &schema.tables {
        table::functions(&each.create, &mut found);
    }
    found
}

impl Schema {
    /// Translates what is chosen: tables by database and name, all other objects or none.
    pub fn translate(&self, to: &Abilities, chosen: &dyn Fn(&str, &str) -> bool, others: bool) -> Translated {
        let crosses = self.mariadb != to.mariadb;
        let mut result = Translated {
            schema: self.clone(),
            ..Translated::default()
        };
        result.schema.mariadb = to.mariadb;
        for database in &mut result.schema.databases {
            let old = database.clone();
            translate_database(
                &old,
                database,
                to,
                crosses,
                others,
                &mut result.changes,
                &mut result.losses,
            );
        }
        let mut names = BTreeSet::new();
        for each in &mut result.schema.tables {
            if !chosen(&each.database, &each.name) {
                continue;
            }
            let (mut changes, mut losses) = (Vec::new(), Vec::new());
            match table::translate(each, to, crosses, &mut names, &mut changes, &mut losses) {
                Ok(create) => {
                    // Of another version of the same flavour the text is already what the server would say.
                    if crosses || !changes.is_empty() || !losses.is_empty() {
                        each.create = create;
                    }
                    result.changes.append(&mut changes);
                    result.losses.append(&mut losses);
                }
                Err(why) => {
                    let name = (each.database.clone(), each.name.clone());
                    result.tables_left_out.push((name, why));
                }
            }
        }
        if others {
            result.others(self, to, crosses);
        }
        result.triggers(to, chosen);
        if others {
            result.definers(self);
        }
        result
    }
}

impl Translated {
    fn lose(&mut self, object: String, why: &str) {
        self.losses.push(Loss {
            object,
            why: why.to_owned(),
        });
    }

    /// What is no table and no table's.
    fn others(&mut self, from: &Schema, to: &Abilities, crosses: bool) {
        if !to.has(Ability::Sequences) {
            for sequence in std::mem::take(&mut self.schema.sequences) {
                let object = format!("sequence {}.{}", sequence.database, sequence.name);
                self.lose(
                    object,
                    "the target has no sequences; its next value was kept in the backup",
                );
            }
        }
        if !to.has(Ability::Libraries) {
            for library in std::mem::take(&mut self.schema.libraries) {
                let object = format!("library {}.{}", library.database, library.name);
                self.lose(object, "the target has no libraries");
            }
        }
        let packages = |kind| matches!(kind, super::RoutineKind::Package | super::RoutineKind::PackageBody);
        let (kept, gone) = std::mem::take(&mut self.schema.routines)
            .into_iter()
            .partition(|routine| to.mariadb || !packages(routine.kind));
        self.schema.routines = kept;
        let gone: Vec<super::Routine> = gone;
        for routine in gone {
            let kind = routine.kind.word().to_lowercase();
            self.lose(
                format!("{kind} {}.{}", routine.database, routine.name),
                "the target has no packages",
            );
        }
        for view in std::mem::take(&mut self.schema.views) {
            let missing = words::calls(&tokens(&view.create)).find(|function| to.missing_functions.contains(function));
            match missing {
                Some(function) => {
                    let object = format!("view {}.{}", view.database, view.name);
                    self.lose(
                        object,
                        &format!("it calls {function}(), which the target does not have"),
                    );
                }
                None => self.schema.views.push(view),
            }
        }
        let mut notes = Vec::new();
        for routine in &mut self.schema.routines {
            let object = format!(
                "{} {}.{}",
                routine.kind.word().to_lowercase(),
                routine.database,
                routine.name
            );
            translate_creation(&mut routine.creation, &object, to, &mut notes);
        }
        for event in &mut self.schema.events {
            let object = format!("event {}.{}", event.database, event.name);
            translate_creation(&mut event.creation, &object, to, &mut notes);
        }
        for library in &mut self.schema.libraries {
            let object = format!("library {}.{}", library.database, library.name);
            translate_creation(&mut library.creation, &object, to, &mut notes);
        }
        for view in &mut self.schema.views {
            let object = format!("view {}.{}", view.database, view.name);
            translate_creation(&mut view.creation, &object, to, &mut notes);
            let create = table::collated(&view.create, &tokens(&view.create), to);
            if create != words::plain(&view.create, &tokens(&view.create)) {
                view.create = create;
                notes.push(Change {
                    object,
                    what: "texts are compared by the nearest collation the target has".to_owned(),
                });
            }
        }
        self.changes.append(&mut notes);
        if crosses {
            accounts::translate(&from.accounts, to, self);
        } else {
            accounts::keep_known(to, self);
        }
    }

    fn triggers(&mut self, to: &Abilities, chosen: &dyn Fn(&str, &str) -> bool) {
        let mut notes = Vec::new();
        for trigger in &mut self.schema.triggers {
            if chosen(&trigger.database, &trigger.table) {
                let object = format!("trigger {}.{}", trigger.database, trigger.name);
                translate_creation(&mut trigger.creation, &object, to, &mut notes);
            }
        }
        self.changes.append(&mut notes);
    }

    /// Code and views that run with the rights of an account that is not carried.
    fn definers(&mut self, from: &Schema) {
        let carried: BTreeSet<_> = self
            .schema
            .accounts
            .iter()
            .map(|each| (&each.user, &each.host))
            .collect();
        let gone: BTreeSet<String> = (from.accounts.iter())
            .filter(|each| !carried.contains(&(&each.user, &each.host)))
            .map(|each| format!("{}@{}", each.user, each.host))
            .collect();
        let schema = &self.schema;
        let objects = (schema
            .views
            .iter()
            .map(|each| ("view", &each.database, &each.name, &each.definer)))
        .chain(
            schema
                .routines
                .iter()
                .map(|each| ("routine", &each.database, &each.name, &each.definer)),
        )
        .chain(
            schema
                .triggers
                .iter()
                .map(|each| ("trigger", &each.database, &each.name, &each.definer)),
        )
        .chain(
            schema
                .events
                .iter()
                .map(|each| ("event", &each.database, &each.name, &each.definer)),
        );
        let notes = objects.filter(|(.., definer)| gone.contains(*definer));
        let notes: Vec<Change> = notes
            .map(|(kind, database, name, definer)| Change {
                object: format!("{kind} {database}.{name}"),
                what: format!("its definer {definer} is left out: make that account for it to run"),
            })
            .collect();
        self.changes.extend(notes);
    }

    /// Takes out what belongs to tables that are not carried. To be called when they are all known.
    pub fn without_orphans(&mut self, chosen: &dyn Fn(&str, &str) -> bool) {
        let gone: BTreeSet<(String, String)> = self.tables_left_out.iter().map(|(name, _)| name.clone()).collect();
        if gone.is_empty() {
            return;
        }
        let is_gone = |database: &str, table: &str| gone.contains(&(database.to_owned(), table.to_owned()));
        let (kept, orphans): (Vec<_>, Vec<_>) = std::mem::take(&mut self.schema.triggers)
            .into_iter()
            .partition(|trigger| !is_gone(&trigger.database, &trigger.table));
        self.schema.triggers = kept;
        for trigger in orphans {
            self.lose(
                format!("trigger {}.{}", trigger.database, trigger.name),
                "its table is left out",
            );
        }
        let mut losses = Vec::new();
        for each in &mut self.schema.tables {
            if !chosen(&each.database, &each.name) || is_gone(&each.database, &each.name) {
                continue;
            }
            if let Some((create, names)) = table::without_references(each, &is_gone) {
                each.create = create;
                losses.extend(names.into_iter().map(|name| Loss {
                    object: format!("foreign key {} of {}.{}", quote_name(&name), each.database, each.name),
                    why: "the table it refers to is left out".to_owned(),
                }));
            }
        }
        self.losses.append(&mut losses);
    }
}

fn translate_database(
    old: &Database,
    new: &mut Database,
    to: &Abilities,
    crosses: bool,
    listed: bool,
    changes: &mut Vec<Change>,
    losses: &mut Vec<Loss>,
) {
    let charset = if to.has_charset(&old.charset) {
        old.charset.clone()
    } else {
        "utf8mb4".to_owned()
    };
    let collation = nearest(&old.collation, &charset, to).unwrap_or_default();
    let object = || format!("database {}", old.name);
    if collation != old.collation && listed {
        changes.push(Change {
            object: object(),
            what: format!("collation {} becomes {collation}", old.collation),
        });
    }
    if !crosses && collation == old.collation {
        return;
    }
    let mut create = format!(
        "CREATE DATABASE {} DEFAULT CHARACTER SET {charset}",
        quote_name(&old.name)
    );
    if !collation.is_empty() {
        create.push_str(&format!(" COLLATE {collation}"));
    }
    if !old.comment.is_empty() {
        if to.mariadb {
            create.push_str(&format!(" COMMENT {}", quote_text(&old.comment)));
        } else if listed {
            losses.push(Loss {
                object: format!("comment of {}", object()),
                why: "databases of the target have none".to_owned(),
            });
        }
    }
    if listed && crosses && old.create.contains("ENCRYPTION='Y'") {
        losses.push(Loss {
            object: format!("encryption of {}", object()),
            why: "the target encrypts in another way: see its documentation, and encrypt it there".to_owned(),
        });
    }
    *new = Database {
        charset,
        collation,
        create,
        ..old.clone()
    };
}

/// The session that an object is created in.
fn translate_creation(creation: &mut Creation, object: &str, to: &Abilities, changes: &mut Vec<Change>) {
    let modes = creation.sql_mode.split(',').filter(|mode| !mode.is_empty());
    let (missing, kept): (Vec<&str>, Vec<&str>) = modes.partition(|mode| to.missing_modes.contains(*mode));
    if !missing.is_empty() {
        changes.push(Change {
            object: object.to_owned(),
            what: format!(
                "it goes without the SQL mode {}, which the target does not have",
                missing.join(", ")
            ),
        });
        creation.sql_mode = kept.join(",");
    }
    for collation in [&mut creation.collation_connection, &mut creation.database_collation] {
        let charset = collation.split('_').next().unwrap_or_default();
        if collation.is_empty() || to.collations.contains_key(collation.as_str()) {
            continue;
        }
        let new = nearest(collation, charset, to).or_else(|| to.default_collations.get("utf8mb4").cloned());
        if let Some(new) = new {
            let change = Change {
                object: object.to_owned(),
                what: format!("it compares texts by {new}: the target does not have {collation}"),
            };
            if changes.last() != Some(&change) {
                changes.push(change);
            }
            *collation = new;
        }
    }
    if !creation.character_set_client.is_empty() && !to.has_charset(&creation.character_set_client) {
        "utf8mb4".clone_into(&mut creation.character_set_client);
    }
}

#[cfg(test)]
mod tests;
