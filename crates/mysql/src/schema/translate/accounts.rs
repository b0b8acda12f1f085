//! Accounts and what they may do. No account is made that anybody could enter who could not before: one whose way to log in the
//! target does not have is left out, whole, and no right becomes a wider one.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeSet;

use super::super::abilities::Abilities;
use super::super::sql_text::{Kind, Token, tokens};
use super::super::{Account, AccountKind, SecretSql};
use super::{Loss, Translated};
use crate::{quote_name, quote_text};

/// The one way to log in by a password that both flavours know, where their administrators have it.
const SHARED_PLUGIN: &str = "mysql_native_password";

/// From one flavour to the other: roles, and the users whose hashes mean the same on both.
pub(super) fn translate(accounts: &[Account], to: &Abilities, result: &mut Translated) {
    let mut made = Vec::new();
    let mut roles = BTreeSet::new();
    for account in accounts {
        let label = label(account);
        let new = match account.kind {
            AccountKind::Administrator | AccountKind::Server => Some(account.create.clone()),
            AccountKind::Role => {
                let name = quote_name(&account.user);
                roles
                    .insert(account.user.clone())
                    .then(|| SecretSql::new(format!("CREATE ROLE {name}")))
            }
            AccountKind::User => user(account, to),
        };
        let Some(create) = new else {
            let why = match account.kind {
                AccountKind::Role => "another role has this name, and roles of the target have no host".to_owned(),
                _ => format!(
                    "it logs in by {}, which the target does not have; make it there with a password of its own",
                    plugins(account.create.expose()).join(" or ")
                ),
            };
            result.losses.push(Loss { object: label, why });
            continue;
        };
        let mut account = account.clone();
        account.create = create;
        made.push(account);
    }
    for account in &mut made {
        if matches!(account.kind, AccountKind::Administrator | AccountKind::Server) {
            continue;
        }
        let label = label(account);
        let grants = std::mem::take(&mut account.grants);
        for sql in grants {
            match grant(sql.expose(), account, to, &roles) {
                Ok((sql, lacking)) => {
                    account.grants.extend(sql.map(SecretSql::new));
                    if !lacking.is_empty() {
                        result.losses.push(Loss {
                            object: format!("rights of {label}"),
                            why: format!("the target has no {}", lacking.join(", ")),
                        });
                    }
                }
                Err(what) => result.losses.push(Loss {
                    object: format!("a right of {label}"),
                    why: what,
                }),
            }
        }
        account.default_roles = account
            .default_roles
            .take()
            .map(|sql| default_roles(sql.expose(), account, to));
    }
    result.schema.accounts = made;
}

/// Another version of the same flavour: all but the users whose way to log in is not there.
pub(super) fn keep_known(to: &Abilities, result: &mut Translated) {
    let accounts = std::mem::take(&mut result.schema.accounts);
    for account in accounts {
        let lacking = plugins(account.create.expose())
            .into_iter()
            .find(|plugin| !to.login_plugins.contains(&plugin.to_ascii_lowercase()));
        match lacking.filter(|_| account.kind == AccountKind::User) {
            Some(plugin) => result.losses.push(Loss {
                object: label(&account),
                why: format!(
                    "it logs in by {plugin}, which the target does not have; make it there with a password of its own"
                ),
            }),
            None => result.schema.accounts.push(account),
        }
    }
}

fn label(account: &Account) -> String {
    match account.host.as_str() {
        "" => format!("role {}", account.user),
        host => format!("account {}@{host}", account.user),
    }
}

/// The names behind IDENTIFIED WITH or VIA.
fn plugins(create: &str) -> Vec<String> {
    let all = tokens(create);
    let mut found = Vec::new();
    let word = |at: usize, word: &str| all.get(at).is_some_and(|token| token.is_word(word));
    let mut inside = false;
    for (at, token) in all.iter().enumerate() {
        let first = word(at, "IDENTIFIED") && (word(at + 1, "WITH") || word(at + 1, "VIA"));
        if first || inside && word(at, "OR") {
            inside = true;
            found.extend(all.get(if first { at + 2 } else { at + 1 }).and_then(bare));
        } else if token.is_word("REQUIRE") {
            inside = false;
        } else if word(at, "IDENTIFIED") {
            // MariaDB's short form of the same.
            inside = true;
            found.push(SHARED_PLUGIN.to_owned());
        }
    }
    found
}

fn bare(token: &Token<'_>) -> Option<String> {
    match token.kind {
        Kind::Text => Some(token.text.trim_matches('\'').to_owned()),
        _ => token.name(),
    }
}

/// `None` where its password cannot be carried.
fn user(account: &Account, to: &Abilities) -> Option<SecretSql> {
    let create = account.create.expose();
    let plugins = plugins(create);
    if plugins.as_slice() != [SHARED_PLUGIN] || !to.login_plugins.contains(SHARED_PLUGIN) {
        return None;
    }
    let all = tokens(create);
    let after = |words: &[&str]| {
        let at = all
            .iter()
            .position(|token| words.iter().any(|word| token.is_word(word)))?;
        all.get(at + 1)
    };
    // `AS '*…'` or `AS 0x…`, `USING '*…'`, `PASSWORD '*…'`.
    let shown = after(&["AS", "USING", "PASSWORD"])?;
    let hash = match shown.text.strip_prefix("0x") {
        Some(digits) => from_hex(digits)?,
        None => shown.text.trim_matches('\'').to_owned(),
    };
    let whole = hash.len() == 41 && hash.starts_with('*') && hash.bytes().skip(1).all(|c| c.is_ascii_hexdigit());
    if !whole {
        return None;
    }
    let place = format!("{}@{}", quote_name(&account.user), quote_name(&account.host));
    let how = if to.mariadb {
        format!("IDENTIFIED BY PASSWORD {}", quote_text(&hash))
    } else {
        format!("IDENTIFIED WITH {SHARED_PLUGIN} AS {}", quote_text(&hash))
    };
    let mut sql = format!("CREATE USER {place} {how}");
    let require = all.iter().position(|token| token.is_word("REQUIRE"));
    if let Some(from) = require {
        let ends = ["WITH", "PASSWORD", "ACCOUNT"];
        let rest = all.iter().skip(from);
        let end = rest.clone().find(|token| ends.iter().any(|word| token.is_word(word)));
        let start = all.get(from).map_or(0, |token| token.at.start);
        let clause = create
            .get(start..end.map_or(create.len(), |token| token.at.start))
            .unwrap_or_default();
        sql.push(' ');
        sql.push_str(clause.trim_end());
    }
    let pair = |first: &str, second: &str| {
        all.windows(2)
            .any(|pair| matches!(pair, [a, b] if a.is_word(first) && b.is_word(second)))
    };
    if pair("ACCOUNT", "LOCK") {
        sql.push_str(" ACCOUNT LOCK");
    }
    Some(SecretSql::new(sql))
}

fn from_hex(digits: &str) -> Option<String> {
    let pairs = digits.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    String::from_utf8(bytes?).ok()
}

/// The grant in the target's words, where anything is left of it, and the privileges the target does not have.
fn grant(
    sql: &str,
    account: &Account,
    to: &Abilities,
    roles: &BTreeSet<String>,
) -> Result<(Option<String>, Vec<String>), String> {
    let all = tokens(sql);
    let position = |word: &str| all.iter().position(|token| token.is_word(word));
    let verb = all
        .first()
        .map(|token| token.text.to_ascii_uppercase())
        .unwrap_or_default();
    let (Some(to_at), "GRANT") = (position("TO"), verb.as_str()) else {
        return Err("it takes something back from a grant, and is not understood".to_owned());
    };
    let options = ["GRANT", "ADMIN"].into_iter().find(|word| {
        all.windows(3)
            .skip(to_at)
            .any(|three| matches!(three, [with, which, _] if with.is_word("WITH") && which.is_word(word)))
    });
    let options = options.map_or_else(String::new, |word| format!(" WITH {word} OPTION"));
    let place = match (account.kind, to.mariadb) {
        (AccountKind::Role, _) => quote_name(&account.user),
        _ => format!("{}@{}", quote_name(&account.user), quote_name(&account.host)),
    };
    let Some(on) = position("ON").filter(|at| *at < to_at) else {
        // A role, named with its host by MySQL only.
        let role = all.get(1).and_then(Token::name).unwrap_or_default();
        if !roles.contains(&role) {
            return Err(format!("role {role} is not carried"));
        }
        return Ok((
            Some(format!("GRANT {} TO {place}{options}", quote_name(&role))),
            Vec::new(),
        ));
    };
    if all.get(1).is_some_and(|token| token.is_word("PROXY")) {
        return Err("what stands for other accounts is not carried".to_owned());
    }
    let (mut kept, mut lacking) = (Vec::new(), Vec::new());
    for privilege in listed(sql, all.get(1..on).unwrap_or_default()) {
        let name = privilege
            .split('(')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_uppercase();
        let known = name == "ALL PRIVILEGES" || to.privileges.contains(&name);
        if known {
            kept.push(privilege);
        } else {
            lacking.push(name);
        }
    }
    if kept.is_empty() {
        return Ok((None, lacking));
    }
    let start = all.get(on).map_or(0, |token| token.at.start);
    let end = all.get(to_at).map_or(sql.len(), |token| token.at.start);
    let object = sql.get(start..end).unwrap_or_default().trim_end();
    Ok((
        Some(format!("GRANT {} {object} TO {place}{options}", kept.join(", "))),
        lacking,
    ))
}

/// Privileges, each with its columns.
fn listed(sql: &str, tokens: &[Token<'_>]) -> Vec<String> {
    let (mut depth, mut list, mut start) = (0_i32, Vec::new(), None);
    let mut end = 0;
    for token in tokens {
        match token.kind {
            Kind::Symbol('(') => depth += 1,
            Kind::Symbol(')') => depth -= 1,
            Kind::Symbol(',') if depth == 0 => {
                list.extend(start.take().and_then(|start| sql.get(start..end)).map(str::to_owned));
                continue;
            }
            _ => {}
        }
        start.get_or_insert(token.at.start);
        end = token.at.end;
    }
    list.extend(start.and_then(|start: usize| sql.get(start..end)).map(str::to_owned));
    list
}

/// `SET DEFAULT ROLE a@b TO c@d` is MySQL's, `SET DEFAULT ROLE a FOR c@d` MariaDB's.
fn default_roles(sql: &str, account: &Account, to: &Abilities) -> SecretSql {
    let place = format!("{}@{}", quote_name(&account.user), quote_name(&account.host));
    let all = tokens(sql);
    let role = all.get(3).and_then(Token::name).unwrap_or_default();
    let word = if to.mariadb { "FOR" } else { "TO" };
    SecretSql::new(format!("SET DEFAULT ROLE {} {word} {place}", quote_name(&role)))
}
