//! The configuration: found, shown, and every mistake told at once without repeating a secret.

use crate::place::Place;

/// One of each kind of mistake. `hunter2` stands for secrets in places where they must not be.
const MANY_MISTAKES: &str = r#"time_zone = "Asai/Shanghai"

[[repository]]
naem = "local"
url = "fil:///x"
insecure = "yes"

[[repository]]
name = "Cloud"
url = "s3://key:hunter2@bucket"
endpoint = "http://store.example.com"
access_key = "hunter2"
secret_key = { evn = "X" }

[kye]
passphrase = "hunter2"

[[source]]
name = "orders"
kind = "mysqll"
backup = { schedule = "0 25 * * *", keep = "30 days", kep = 1 }

[[source]]
name = "cache"
kind = "redis"
url = "redis://:hunter2@127.0.0.1"
engine = "physical"
log = { semi_sync = true }

[[group]]
name = "balance"
sources = ["cahce", 3]
"#;

#[test]
fn every_mistake_is_told_at_once_and_no_secret_with_it() {
    let place = Place::new(MANY_MISTAKES);
    let ran = place.run(&["config", "check"]);
    insta::assert_snapshot!("many_mistakes", ran.all());
    let json = place.run(&["config", "check", "--json", "-vvv"]);
    assert_eq!(
        json.json()[0]["mistakes"].as_array().unwrap().len(),
        ran.stderr.matches("ballast.toml:").count()
    );
    for text in [ran.all(), json.all()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_file_that_is_not_toml_is_placed() {
    insta::assert_snapshot!(
        "not_toml",
        Place::new("[key\npassphrase = hunter2\n")
            .run(&["config", "check"])
            .all()
    );
}

const SHOWN: &str = r#"[[repository]]
name = "cloud"
url = "s3://balance-backup/prod"
access_key = { env = "S3_ACCESS_KEY" }
secret_key = { command = ["pass", "s3"] }

[key]
passphrase = { file = "/etc/ballast/passphrase" }

[[source]]
name = "orders"
kind = "mysql"
url = "mysql://backup@127.0.0.1:3306"
expect = ["balance.orders_{0..119}"]
backup = { schedule = "0 1 * * *", keep = "30d" }

[[source]]
name = "cache"
kind = "redis"
url = "redis://127.0.0.1:6379"
"#;

#[test]
fn what_holds_and_where_it_came_from() {
    insta::assert_snapshot!("show", Place::new(SHOWN).run(&["config", "show"]).all());
}

#[test]
fn the_configuration_is_looked_for_in_order() {
    let mut place = Place::with_repository();
    let source = |ran: &crate::place::Ran| ran.json()[0]["file"].as_str().unwrap().to_owned();
    let show = ["config", "show", "--json"];
    assert_eq!(source(&place.run(&show).expect(0)), "ballast.toml");
    let text = place.read("ballast.toml");
    place.write("other.toml", &text);
    place.write("third.toml", &text);
    place.set("BALLAST_CONFIG", "other.toml");
    assert_eq!(source(&place.run(&show).expect(0)), "other.toml");
    assert_eq!(
        source(
            &place
                .run(&["config", "show", "--json", "--config", "third.toml"])
                .expect(0)
        ),
        "third.toml"
    );
    place.set("BALLAST_CONFIG", "absent.toml");
    insta::assert_snapshot!("absent", place.run(&["config", "show"]).all());
}

#[test]
fn without_a_configuration_it_says_where_it_looked() {
    let place = Place::new("");
    place.remove("ballast.toml");
    insta::assert_snapshot!("nowhere", place.run(&["list"]).all());
}

#[test]
fn a_secret_that_cannot_be_had_is_named_and_so_is_its_place() {
    let place = Place::without_passphrase();
    insta::assert_snapshot!("secret_not_set", place.run(&["list"]).all());
}

#[test]
fn the_schema_is_json() {
    let ran = Place::new("").run(&["config", "schema"]).expect(0);
    let schema: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(
        schema["properties"]["source"]["items"]["properties"]["engine"]["default"],
        "auto"
    );
}
