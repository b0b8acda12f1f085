//! What the account can see. Servers hide objects from accounts without a privilege on them, and do not say so; only the
//! grants tell whether all is there.

use std::collections::BTreeSet;

use super::ObjectKind;
use super::sql_text::{Kind, Token, tokens};
use crate::facts::read_grants;
use crate::{Connection, Facts, MysqlError};

pub(super) struct Visible {
    /// Privileges on everything.
    everywhere: BTreeSet<String>,
    /// By the pattern of the database's name.
    databases: Vec<(String, BTreeSet<String>)>,
    pub(super) all_databases: bool,
}

/// Each kind with the privileges of which one shows all of the kind; for tables, any that applies to tables.
const MYSQL_NEEDS: [(ObjectKind, &[&str]); 5] = [
    (ObjectKind::Table, &["SELECT"]),
    (ObjectKind::View, &["SHOW VIEW"]),
    (ObjectKind::Routine, &["SHOW_ROUTINE", "SELECT ON *.*"]),
    (ObjectKind::Trigger, &["TRIGGER"]),
    (ObjectKind::Event, &["EVENT"]),
];
const MARIADB_NEEDS: [(ObjectKind, &[&str]); 5] = [
    (ObjectKind::Table, &["SELECT"]),
    (ObjectKind::View, &["SHOW VIEW"]),
    (ObjectKind::Routine, &["SHOW CREATE ROUTINE", "SELECT ON *.*"]),
    (ObjectKind::Trigger, &["TRIGGER"]),
    (ObjectKind::Event, &["EVENT"]),
];

impl Visible {
    pub(super) async fn read(connection: &mut Connection, facts: &Facts) -> Result<Self, MysqlError> {
        let lines = read_grants(connection).await?.into_iter();
        Ok(Self {
            everywhere: facts.privileges.clone(),
            databases: lines.filter_map(|line| database_grant(&line)).collect(),
            all_databases: facts.has_privilege("SHOW DATABASES") || facts.sees_all_tables(),
        })
    }

    /// The kinds of which there may be more in the database than the account sees, with what it lacks.
    pub(super) fn unseen(&self, database: &str, mariadb: bool) -> Vec<(ObjectKind, &'static [&'static str])> {
        let needs = if mariadb { MARIADB_NEEDS } else { MYSQL_NEEDS };
        needs
            .into_iter()
            .filter(|(_, privileges)| !privileges.iter().any(|privilege| self.has(database, privilege)))
            .collect()
    }

    fn has(&self, database: &str, privilege: &str) -> bool {
        if let Some(privilege) = privilege.strip_suffix(" ON *.*") {
            return contains(&self.everywhere, privilege);
        }
        let here = |(pattern, privileges): &(String, BTreeSet<String>)| {
            matches(pattern, database) && contains(privileges, privilege)
        };
        contains(&self.everywhere, privilege) || self.databases.iter().any(here)
    }
}

fn contains(privileges: &BTreeSet<String>, privilege: &str) -> bool {
    privileges.contains(privilege) || privileges.contains("ALL PRIVILEGES")
}

/// From `GRANT SELECT, EVENT ON `name`.* TO …`: the name's pattern and what is granted.
fn database_grant(line: &str) -> Option<(String, BTreeSet<String>)> {
    let all = tokens(line);
    let on = all.iter().position(|token| token.is_word("ON"))?;
    let [name, dot, star] = [all.get(on + 1)?, all.get(on + 2)?, all.get(on + 3)?];
    if !all.first()?.is_word("GRANT") || name.kind != Kind::Name || !dot.is_symbol('.') || !star.is_symbol('*') {
        return None;
    }
    let list = line.get(all.first()?.at.end..all.get(on)?.at.start)?;
    let privileges = list.split(',').map(|name| name.trim().to_ascii_uppercase()).collect();
    Some((Token::name(name)?, privileges))
}

/// `%` and `_` stand for others unless a backslash is before them.
fn matches(pattern: &str, name: &str) -> bool {
    fn rest(pattern: &[char], name: &[char]) -> bool {
        match pattern {
            [] => name.is_empty(),
            ['%', after @ ..] => (0..=name.len()).any(|skip| rest(after, name.get(skip..).unwrap_or_default())),
            ['_', after @ ..] => name.split_first().is_some_and(|(_, name)| rest(after, name)),
            ['\\', c, after @ ..] | [c, after @ ..] => name
                .split_first()
                .is_some_and(|(first, name)| first == c && rest(after, name)),
        }
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    rest(&pattern, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_on_a_pattern_holds_for_what_it_matches() {
        let (pattern, privileges) = database_grant("GRANT SELECT, SHOW VIEW ON `bal\\_ance_%`.* TO `a`@`%`").unwrap();
        assert!(privileges.contains("SHOW VIEW") && !privileges.contains("EVENT"));
        assert!(matches(&pattern, "bal_ance12") && matches(&pattern, "bal_ance1"));
        assert!(!matches(&pattern, "bal_ance") && !matches(&pattern, "balXance12"));
        assert_eq!(database_grant("GRANT SELECT ON *.* TO `a`@`%`"), None);
        assert_eq!(database_grant("GRANT SELECT ON `a`.`b` TO `a`@`%`"), None);
        assert_eq!(database_grant("GRANT `on`@`%` TO `a`@`%`"), None);
    }
}
