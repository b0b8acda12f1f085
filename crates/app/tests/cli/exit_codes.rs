//! The exit codes of the contract, each with the error that leads to it.

use crate::place::Place;

#[test]
fn init_creates_and_a_second_init_finds_the_same() {
    let place = Place::with_repository();
    let first = place.run(&["init", "--json"]).expect(0).json();
    assert_eq!(first[0]["repositories"][0]["created"], true);
    let second = place.run(&["init", "--json"]).expect(0).json();
    assert_eq!(second[0]["repositories"][0]["created"], false);
    assert_eq!(
        first[0]["repositories"][0]["repository_id"],
        second[0]["repositories"][0]["repository_id"]
    );
    assert!(place.run(&["list"]).expect(0).stderr.contains("no backups yet"));
    place.run(&["verify"]).expect(0);
}

/// One makes it, the others find the same, also those whose configuration names the repositories in another order.
#[test]
fn several_inits_at_once_make_one_repository_and_leave_nothing_else() {
    for _ in 0..3 {
        let place = Place::with_repository();
        let one = place.read("ballast.toml");
        let folder = place.path("second").display().to_string();
        let second = format!("[[repository]]\nname = \"second\"\nurl = \"file://{folder}\"\n\n");
        place.write("before.toml", &(second.clone() + &one));
        place.write("behind.toml", &(one + &second));
        let configurations = ["before.toml", "behind.toml", "before.toml", "behind.toml"];
        let runs = configurations.map(|name| place.spawn(&["--config", name, "init", "--json"]));
        let said = runs.map(|run| run.wait().expect(0).stdout);
        let created = |name: &str| {
            let made = |said: &&String| {
                let said: serde_json::Value = serde_json::from_str(said).unwrap();
                let repositories = said["repositories"].as_array().unwrap();
                repositories
                    .iter()
                    .any(|one| one["name"] == name && one["created"] == true)
            };
            said.iter().filter(made).count()
        };
        // All go to the places in the order of their names. At the first, the "repository" of "local", one wins; two that then
        // copy its repository to "second" at the same moment have both made it.
        assert!(created("local") == 1 && created("second") >= 1, "{said:?}");
        for repository in ["repository", "second"] {
            assert_eq!(place.entries(repository), ["ballast-repository", "keys"]);
            assert_eq!(place.entries(&format!("{repository}/keys")).len(), 1);
        }
        place.run(&["--config", "behind.toml", "verify"]).expect(0);
    }
}

#[test]
fn no_repository_is_10() {
    let ran = Place::with_repository().run(&["list", "--json"]).expect(10);
    assert_eq!(ran.json()[0]["code"], 10);
    assert!(ran.stderr.contains("hint: "), "{}", ran.all());
}

#[test]
fn a_wrong_key_is_12() {
    let mut place = Place::with_repository();
    place.run(&["init"]).expect(0);
    place.set("PASSPHRASE", "wrong horse");
    for verb in [&["list"][..], &["init"], &["verify"], &["status"]] {
        let ran = place.run(verb).expect(12);
        assert!(!ran.all().contains("horse"), "{}", ran.all());
    }
}

#[test]
fn wrong_usage_is_2() {
    let place = Place::with_repository();
    for arguments in [
        &[][..],
        &["restore"],
        &["backup"],
        &["backup", "orders", "--engine", "quantum"],
        &["backup", "ordres"],
        &["doctor", "ordres"],
        &["copy", "--from", "local", "--to", "cloud"],
        &["copy", "--from", "local", "--to", "local"],
        &["restore", "orders", "--to", "nowhere"],
        &["restore", "orders", "--to", "datadir:x", "--mysqld", "absent"],
        &["restore", "orders", "--to", "datadir:x", "--from-repository", "cloud"],
        &["--config", "absent.toml", "list"],
    ] {
        place.run(arguments).expect(2);
    }
    let mut place = Place::with_repository();
    place.set("BALLAST_LOG", "a=b=c");
    place.run(&["list"]).expect(2);
}

#[test]
fn a_misspelt_source_gets_a_suggestion() {
    insta::assert_snapshot!(
        "misspelt_source",
        Place::with_repository().run(&["backup", "ordres"]).all()
    );
}

#[test]
fn a_doctor_that_finds_an_error_exits_1_and_says_what_to_type() {
    let place = Place::without_passphrase();
    insta::assert_snapshot!("doctor_without_passphrase", place.run(&["doctor"]).expect(1).all());
}

#[test]
fn a_damaged_repository_is_4_and_a_stray_file_is_only_named() {
    let place = Place::with_repository();
    place.run(&["init"]).expect(0);
    place.write("repository/stray", "not an object of ours");
    let ran = place.run(&["verify"]).expect(0);
    assert!(ran.stdout.contains("stray"), "{}", ran.all());
    place.write("repository/ballast-repository", "not a stamp");
    let ran = place.run(&["verify"]).expect(4);
    assert!(ran.stderr.contains("ballast-repository"), "{}", ran.all());
}

/// A folder or a pipe where an object must be: nothing waits for its bytes, and it is not passed over as a stray file.
#[test]
fn something_else_in_the_place_of_an_object_is_4_and_named() {
    const MANIFEST: &str = "manifests/20261123T053300Z-00000000";
    const PACK: &str = "packs/0a/0a000000000000000000000000000000";
    const KEY: &str = "keys/00000000000000000000000000000000";
    let place = Place::with_repository();
    place.run(&["init"]).expect(0);
    for name in [MANIFEST, PACK, KEY] {
        let path = place.path("repository").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let named = || {
            let ran = place.run(&["verify"]).expect(4);
            assert!(ran.stdout.contains(name), "{}", ran.all());
            place.run(&["list"]).expect(0);
        };
        std::fs::create_dir(&path).unwrap();
        named();
        std::fs::write(path.join("x"), "").unwrap();
        named();
        std::fs::remove_dir_all(&path).unwrap();
        mkfifo(&path);
        named();
        std::fs::remove_file(&path).unwrap();
        place.run(&["verify"]).expect(0);
    }
    let stamp = place.path("repository/ballast-repository");
    std::fs::remove_file(&stamp).unwrap();
    mkfifo(&stamp);
    for verb in ["verify", "list", "init"] {
        let ran = place.run(&[verb]).expect(4);
        assert!(ran.stderr.contains("ballast-repository"), "{}", ran.all());
    }
}

fn mkfifo(path: &std::path::Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).unwrap();
}

/// A second repository at an address where nobody answers.
const OUT_OF_REACH: &str = r#"
[[repository]]
name = "cloud"
url = "s3://bucket/prefix"
endpoint = "https://127.0.0.1:1"
region = "tide-1"
access_key = { env = "ACCESS" }
secret_key = { env = "SECRET" }
"#;

#[test]
fn a_repository_out_of_reach_is_3_and_named_and_no_message_holds_a_secret() {
    let mut place = Place::with_repository();
    place.run(&["init"]).expect(0);
    let both = place.read("ballast.toml") + OUT_OF_REACH;
    place.write("ballast.toml", &both);
    place.set("ACCESS", "anchor-access");
    place.set("SECRET", "anchor-secret");
    place.set("BALLAST_LOG", "trace");
    for verb in [&["list", "--json"][..], &["verify", "--json"], &["status", "--json"]] {
        let ran = place.run(verb).expect(3);
        assert!(
            ran.stderr.contains("repository \"cloud\" is out of reach"),
            "{}",
            ran.all()
        );
        for secret in ["anchor-secret", "correct horse"] {
            assert!(!ran.all().contains(secret), "{verb:?} tells a secret");
        }
    }
}
