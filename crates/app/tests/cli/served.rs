//! Every verb against a real server: what it prints for programs is documented, and for people it is what they need.

use std::collections::BTreeSet;

use ballast_testkit::servers::{MysqlOptions, MysqlServer};
use serde_json::Value;

use crate::json::{DOCUMENT, fields};
use crate::place::{Place, Ran};

const GRANTS: &str = "BACKUP_ADMIN, RELOAD, PROCESS, REPLICATION CLIENT, SELECT";

/// A server with two small tables, and two repositories made for it.
fn place(server: &MysqlServer) -> Place {
    server.sql(&format!(
        "CREATE USER backup IDENTIFIED BY 'tide'; GRANT {GRANTS} ON *.* TO backup; CREATE DATABASE shop; \
         CREATE TABLE shop.orders_0 (id INT PRIMARY KEY); INSERT INTO shop.orders_0 VALUES (1), (2), (3); \
         CREATE TABLE shop.orders_1 (id INT PRIMARY KEY)"
    ));
    let mut place = Place::new(&format!(
        "[[repository]]\nname = \"local\"\nurl = \"file://[DIR]/local\"\n\n\
         [[repository]]\nname = \"second\"\nurl = \"file://[DIR]/second\"\n\n\
         [key]\npassphrase = {{ env = \"PASSPHRASE\" }}\n\n\
         [[source]]\nname = \"orders\"\nkind = \"mysql\"\nurl = \"{}\"\npassword = {{ env = \"PASSWORD\" }}\n\
         expect = [\"shop.orders_{{0..1}}\"]\n",
        server.url("backup")
    ));
    place.set("PASSPHRASE", "correct horse");
    place.set("PASSWORD", "tide");
    place.set("BALLAST_MYSQLD", server.program().to_str().unwrap());
    place.run(&["init"]).expect(0);
    place
}

fn server() -> MysqlServer {
    MysqlServer::start(MysqlOptions {
        clone_plugin: true,
        ..MysqlOptions::default()
    })
}

/// The last line, which is the outcome.
fn last(ran: &Ran) -> Value {
    ran.json().pop().unwrap_or_else(|| panic!("{}", ran.all()))
}

#[test]
fn every_field_of_every_verb_is_documented() {
    let server = server();
    let place = place(&server);
    let mut names = BTreeSet::new();
    let mut run = |arguments: &[&str], code: i32, kind: Option<&str>| {
        let ran = place.run(&[arguments, &["--json"]].concat()).expect(code);
        for line in ran.json() {
            fields(&line, &mut names);
        }
        let last = last(&ran);
        assert_eq!(last["type"].as_str(), kind, "{arguments:?}: {}", ran.all());
        if kind.is_some() {
            let known = ["progress", "step", "warning", "finding", "plan", "result"];
            assert!(
                ran.json()
                    .iter()
                    .all(|line| known.contains(&line["type"].as_str().unwrap())),
                "{}",
                ran.all()
            );
        }
        last
    };
    let doctor = run(&["doctor"], 0, Some("result"));
    assert_eq!(doctor["errors"], 0);
    let backup = run(&["backup", "orders"], 0, Some("result"));
    let id = backup["backup"]["id"].as_str().unwrap();
    assert_eq!(backup["backup"]["state"], "good");
    let list = run(&["list"], 0, None);
    assert_eq!(list["backups"][0]["id"], id);
    assert_eq!(
        list["backups"][0]["repositories"],
        serde_json::json!(["local", "second"])
    );
    // Without a captured log a backup is a moment of its own.
    let timeline = run(&["timeline", "orders"], 0, None);
    assert_eq!(timeline["points"].as_array().unwrap().len(), 1, "{timeline}");
    assert_eq!(timeline["earliest"], list["backups"][0]["snapshot_at"]);
    assert_eq!(
        (&timeline["latest"], &timeline["gaps"]),
        (&timeline["earliest"], &serde_json::json!([]))
    );
    let status = run(&["status"], 0, None);
    assert_eq!(status["sources"][0]["objectives"]["rpo_met"], true);
    let verified = run(&["verify", "--backup", id], 0, Some("result"));
    assert_eq!(verified["repositories"][1]["backups"], 1);
    run(
        &["copy", "--from", "local", "--to", "second", "--dry-run"],
        0,
        Some("plan"),
    );
    run(&["copy", "--from", "local", "--to", "second"], 0, Some("result"));
    run(
        &["restore", "orders", "--to", "datadir:new", "--dry-run"],
        0,
        Some("plan"),
    );
    assert!(!place.holds("new"), "a dry run makes nothing");
    let restored = run(&["restore", "orders", "--to", "datadir:new"], 0, Some("result"));
    assert_eq!(
        (&restored["backup"], &restored["proof"]["position_equal"]),
        (&id.into(), &true.into())
    );
    for name in names {
        assert!(
            DOCUMENT.contains(&format!("`{name}`")),
            "docs/json.md does not name `{name}`"
        );
    }
}

#[test]
fn people_are_told_what_they_need() {
    let server = server();
    let place = place(&server);
    let doctor = place.run(&["doctor"]).expect(0);
    let backup = place.run(&["backup", "orders"]).expect(0);
    let id = backup.stdout.trim();
    assert_eq!(
        backup.stdout.lines().count(),
        1,
        "the id and nothing else: {}",
        backup.all()
    );
    let list = place.run(&["list", "orders"]).expect(0);
    assert!(list.stdout.lines().nth(1).unwrap().starts_with(id), "{}", list.all());
    let status = place.run(&["status"]).expect(0);
    assert!(status.stdout.contains("1h 0m met"), "{}", status.all());
    let verify = place.run(&["verify"]).expect(0);
    assert_eq!(verify.stdout.matches("nothing wrong").count(), 2, "{}", verify.all());
    let plan = place
        .run(&["restore", "orders", "--to", "datadir:new", "--dry-run"])
        .expect(0);
    assert!(plan.stdout.contains(id), "{}", plan.all());
    let restore = place.run(&["restore", "orders", "--to", "datadir:new"]).expect(0);
    for word in ["start it", "ownership", "[DIR]/new"] {
        assert!(restore.stdout.contains(word), "{word}: {}", restore.all());
    }
    server.sql("DROP TABLE shop.orders_1");
    let partial = place.run(&["backup", "orders"]).expect(3);
    assert!(
        partial.stderr.contains("\"shop.orders_1\" is expected"),
        "{}",
        partial.all()
    );
    for ran in [&doctor, &backup, &list, &status, &verify, &plan, &restore, &partial] {
        assert!(!ran.all().contains("tide"), "a secret: {}", ran.all());
    }
}
