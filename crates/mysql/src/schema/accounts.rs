//! Users, roles, what they may do. Hashes of passwords come along: nothing here is logged, and no error carries a text.

use super::read::{Reading, text};
use super::sql_text::{Token, tokens};
use super::{Account, AccountKind, ObjectKind, SecretSql};
use crate::{MysqlError, quote_name};

/// Accounts that servers make for themselves.
const SERVER_ACCOUNTS: [&str; 4] = ["mysql.sys", "mysql.session", "mysql.infoschema", "mariadb.sys"];
const ADMINISTRATOR: &str = "root";

pub(super) async fn read(reading: &mut Reading<'_>) -> Result<(), MysqlError> {
    // A role of MySQL is a user like others; what has been granted to somebody is one, and what CREATE ROLE makes looks so.
    let sql = if reading.mariadb {
        "SELECT User, Host, is_role = 'Y', 0 FROM mysql.user ORDER BY is_role DESC, User, Host"
    } else {
        "SELECT u.User, u.Host, (u.account_locked = 'Y' AND u.password_expired = 'Y' AND u.authentication_string = '')
         OR EXISTS (SELECT 1 FROM mysql.role_edges e WHERE e.FROM_USER = u.User AND e.FROM_HOST = u.Host) AS is_role,
         JSON_EXTRACT(u.User_attributes, '$.additional_password') IS NOT NULL
         FROM mysql.user u ORDER BY is_role DESC, u.User, u.Host"
    };
    let rows = match reading.connection.query(sql).await {
        Ok(rows) => rows,
        Err(MysqlError::Server { code, message, .. }) => {
            let reason = format!("the server says: {message} (error {code})");
            reading.leave_out(ObjectKind::Account, None, None, reason);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for row in rows {
        let (user, host, is_role) = (text(&row, 0)?, text(&row, 1)?, row.number(2) == Some(1));
        if row.number(3) == Some(1) {
            reading.leave_out(
                ObjectKind::Account,
                None,
                Some(&format!("{user}@{host}")),
                "its second, older password is not shown by the server; the account is read with the newer one",
            );
        }
        if reading.mariadb && user == "PUBLIC" && is_role {
            read_one(reading, user, host, AccountKind::Server).await?;
            continue;
        }
        let kind = if is_role {
            AccountKind::Role
        } else if SERVER_ACCOUNTS.contains(&user.as_str()) {
            AccountKind::Server
        } else if user == ADMINISTRATOR {
            AccountKind::Administrator
        } else {
            AccountKind::User
        };
        read_one(reading, user, host, kind).await?;
    }
    Ok(())
}

async fn read_one(reading: &mut Reading<'_>, user: String, host: String, kind: AccountKind) -> Result<(), MysqlError> {
    let shown_name = format!("{user}@{host}");
    let maria_role = reading.mariadb && host.is_empty() && matches!(kind, AccountKind::Role | AccountKind::Server);
    let place = if maria_role {
        quote_name(&user)
    } else {
        format!("{}@{}", quote_name(&user), quote_name(&host))
    };
    let (create, mut default_roles) = if maria_role {
        (format!("CREATE ROLE {place}"), None)
    } else {
        let sql = format!("SHOW CREATE USER {place}");
        let Some((_, create)) = reading.shown(ObjectKind::Account, None, &shown_name, &sql, 0).await? else {
            return Ok(());
        };
        without_default_roles(create, &place)
    };
    let grants = match reading.connection.query(&format!("SHOW GRANTS FOR {place}")).await {
        Ok(rows) => rows,
        Err(MysqlError::Server { code, message, .. }) => {
            let reason = format!("what it may do is not shown, the server says: {message} (error {code})");
            reading.leave_out(ObjectKind::Account, None, Some(&shown_name), reason);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut list = Vec::new();
    for row in grants {
        let line = text(&row, 0)?;
        if line.starts_with("SET DEFAULT ROLE") {
            default_roles = Some(line);
        } else {
            list.push(SecretSql::new(line));
        }
    }
    reading.schema.accounts.push(Account {
        user,
        host,
        kind,
        create: SecretSql::new(create),
        grants: list,
        default_roles: default_roles.map(SecretSql::new),
    });
    Ok(())
}

/// Default roles can be set only once they are granted, so they become a statement of their own.
fn without_default_roles(create: String, place: &str) -> (String, Option<String>) {
    let all = tokens(&create);
    let word = |at: usize, word: &str| all.get(at).is_some_and(|token: &Token<'_>| token.is_word(word));
    let Some(start) = (0..all.len()).find(|at| word(*at, "DEFAULT") && word(at + 1, "ROLE")) else {
        return (create, None);
    };
    let end = (start..all.len()).find(|at| word(*at, "REQUIRE")).unwrap_or(all.len());
    let list = all.get(start + 2).zip(all.get(end - 1));
    let roles = list.and_then(|(first, last)| create.get(first.at.start..last.at.end));
    let Some(roles) = roles else {
        return (create, None);
    };
    let statement = format!("SET DEFAULT ROLE {roles} TO {place}");
    let from = all.get(start).map_or(create.len(), |token| token.at.start);
    let to = all.get(end).map_or(create.len(), |token| token.at.start);
    let kept = format!(
        "{}{}",
        create.get(..from).unwrap_or_default(),
        create.get(to..).unwrap_or_default()
    );
    (kept, Some(statement))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_roles_are_taken_out_and_nothing_else() {
        let create = "CREATE USER `DEFAULT ROLE`@`%` IDENTIFIED WITH 'x' AS 0x41 DEFAULT ROLE `r``1`@`%`,`REQUIRE`@`%` REQUIRE NONE PASSWORD EXPIRE DEFAULT";
        let (kept, roles) = without_default_roles(create.to_owned(), "`u`@`%`");
        assert_eq!(
            kept,
            "CREATE USER `DEFAULT ROLE`@`%` IDENTIFIED WITH 'x' AS 0x41 REQUIRE NONE PASSWORD EXPIRE DEFAULT"
        );
        assert_eq!(roles.unwrap(), "SET DEFAULT ROLE `r``1`@`%`,`REQUIRE`@`%` TO `u`@`%`");
        let plain = "CREATE USER `a`@`%` REQUIRE NONE".to_owned();
        assert_eq!(without_default_roles(plain.clone(), ""), (plain, None));
    }
}
