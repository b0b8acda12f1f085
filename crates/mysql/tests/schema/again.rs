//! Taking everything away and making it again from what was read.

use std::collections::BTreeSet;

use ballast_base::{Cancel, Secret};
use ballast_mysql::{
    AccountKind, Connection, Facts, Naming, ObjectKind, Schema, SchemaFilter, ServerAddress, creation_session,
    quote_name,
};
use ballast_testkit::servers::MysqlServer;

pub(crate) const OURS: [AccountKind; 2] = [AccountKind::Role, AccountKind::User];

pub(crate) async fn open(server: &MysqlServer, user: &str, password: &str) -> Connection {
    let address: ServerAddress = format!("{}?tls=off", server.url(user)).parse().unwrap();
    let address = address.with_password(Secret::new(password.to_owned()));
    Connection::open(&address, &Cancel::new()).await.unwrap()
}

pub(crate) async fn read(connection: &mut Connection) -> Schema {
    let facts = Facts::read(connection).await.unwrap();
    let filter = SchemaFilter {
        database: &|_| true,
        table: &|_, _| true,
        accounts: true,
    };
    Schema::read(connection, &facts, &filter).await.unwrap()
}

pub(crate) async fn drop_all(connection: &mut Connection, schema: &Schema) {
    connection.execute("SET foreign_key_checks = 0").await.unwrap();
    for database in &schema.databases {
        connection
            .execute(&format!("DROP DATABASE {}", quote_name(&database.name)))
            .await
            .unwrap();
    }
    for account in schema.accounts.iter().filter(|account| OURS.contains(&account.kind)) {
        let place = match account.host.as_str() {
            "" => quote_name(&account.user),
            host => format!("{}@{}", quote_name(&account.user), quote_name(host)),
        };
        let kind = if account.host.is_empty() { "ROLE" } else { "USER" };
        connection.execute(&format!("DROP {kind} {place}")).await.unwrap();
    }
}

async fn run(connection: &mut Connection, what: &str, statements: &[String]) {
    for sql in statements {
        if let Err(error) = connection.execute(sql).await {
            panic!("{what}: {error}\nin: {sql}");
        }
    }
}

/// Sets the session as for tables and accounts.
pub(crate) async fn prepare(connection: &mut Connection, schema: &Schema) {
    for (sql, must) in creation_session(schema.mariadb) {
        let done = connection.execute(&sql).await;
        assert!(done.is_ok() || !must, "{sql}: {done:?}");
    }
}

/// Everything but views that could not be used where they came from; accounts only with `accounts`.
pub(crate) async fn create_all(connection: &mut Connection, schema: &Schema, naming: &Naming<'_>, accounts: bool) {
    prepare(connection, schema).await;
    for database in &schema.databases {
        run(connection, &database.name, &[database.statement(naming).unwrap()]).await;
    }
    for sequence in &schema.sequences {
        run(connection, &sequence.name, &sequence.statements(naming).unwrap()).await;
    }
    let tables: Vec<_> = schema
        .tables
        .iter()
        .map(|table| (&table.name, table.statements(naming).unwrap()))
        .collect();
    for (name, table) in &tables {
        run(connection, name, std::slice::from_ref(&table.create)).await;
    }
    for (name, table) in &tables {
        run(connection, name, &table.keys).await;
    }
    for (name, table) in &tables {
        run(connection, name, table.foreign_keys.as_slice()).await;
    }
    for library in &schema.libraries {
        run(connection, &library.name, &library.statements(naming)).await;
    }
    for routine in &schema.routines {
        run(connection, &routine.name, &schema.routine_statements(routine, naming)).await;
    }
    for view in schema.views.iter().filter(|view| !is_broken(view)) {
        if let Ok(statements) = view.statements(naming) {
            run(connection, &view.name, &statements).await;
        }
    }
    for trigger in &schema.triggers {
        run(
            connection,
            &trigger.name,
            &schema.trigger_statements(trigger, naming).unwrap(),
        )
        .await;
    }
    for event in &schema.events {
        run(connection, &event.name, &schema.event_statements(event, naming)).await;
    }
    if accounts {
        prepare(connection, schema).await;
        for (account, sql) in schema.account_statements(&OURS) {
            if let Err(error) = connection.execute(sql.expose()).await {
                panic!("{}@{}: {error}\nin: {}", account.user, account.host, sql.expose());
            }
        }
    }
}

/// A view whose tables are gone cannot be made; one whose definer is gone can.
pub(crate) fn is_broken(view: &ballast_mysql::View) -> bool {
    view.name.starts_with("broken")
}

/// Without what no two servers have in common: estimates, and what the administrator may do (making a role makes its
/// maker an administrator of it on MariaDB).
pub(crate) fn comparable(mut schema: Schema) -> Schema {
    for table in &mut schema.tables {
        (table.rows, table.data_bytes, table.index_bytes) = (0, 0, 0);
        // An ALTER TABLE, which adds keys here, makes MySQL print a text compared with a latin1 column in latin1.
        table.create = table.create.replace("<> _latin1'", "<> _utf8mb4'");
    }
    schema.views.retain(|view| !is_broken(view));
    schema
        .accounts
        .retain(|account| account.kind != AccountKind::Administrator);
    // A second password is not made again, so it is not left out again.
    schema.left_out.retain(|each| each.kind != ObjectKind::Account);
    schema
}

/// Says which object differs before the whole is compared.
pub(crate) fn assert_same(before: &Schema, after: &Schema) {
    assert_eq!(before.databases, after.databases);
    macro_rules! same {
        ($($field:ident),*) => {$(
            for (old, new) in before.$field.iter().zip(&after.$field) {
                assert_eq!(old, new, "{}", stringify!($field));
            }
            assert_eq!(before.$field.len(), after.$field.len(), "{}", stringify!($field));
        )*};
    }
    same!(
        tables, sequences, libraries, routines, views, triggers, events, left_out
    );
    for (old, new) in before.accounts.iter().zip(&after.accounts) {
        assert!(
            old == new,
            "{}@{}: {} {:?} became {} {:?}",
            old.user,
            old.host,
            old.create.expose(),
            shown(&old.grants),
            new.create.expose(),
            shown(&new.grants)
        );
    }
    assert!(before == after);
}

fn shown(list: &[ballast_mysql::SecretSql]) -> Vec<&str> {
    list.iter().map(ballast_mysql::SecretSql::expose).collect()
}

/// Nothing that is in a hash is in the debug form, and what is stored reads back as it was.
pub(crate) fn assert_stored_and_hidden(schema: &Schema, hashes: &[&str]) {
    let stored = serde_json::to_string(schema).unwrap();
    assert!(&serde_json::from_str::<Schema>(&stored).unwrap() == schema);
    let debug = format!("{schema:?}");
    for hash in hashes {
        assert!(stored.contains(hash), "{hash} is not among what is stored");
        assert!(!debug.contains(hash), "{hash} is shown");
    }
    assert!(!debug.contains("IDENTIFIED"), "an account's statement is shown");
}

pub(crate) fn left_out(schema: &Schema) -> BTreeSet<String> {
    schema.left_out.iter().map(ToString::to_string).collect()
}
