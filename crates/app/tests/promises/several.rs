use std::time::{Duration, Instant};

use ballast_testkit::dataset::balance;
use ballast_testkit::s3::{S3Options, S3Server};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};
use rustix::process::{Pid, Signal, kill_process};

use crate::site::{Site, churn, files, rounds, server};

/// A folder and a bucket at once. The bucket's server dies in the middle of a backup.
#[test]
fn one_repository_down_never_costs_the_other() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 24, 2_000);
    let cloud = S3Server::start(S3Options {
        tls: true,
        ..S3Options::default()
    });
    let site = Site::new(&source, "").with_cloud(&cloud).init();
    let first = site.json(&["backup", "orders"], 0);
    assert_eq!(first["backup"]["repositories"], serde_json::json!(["local", "cloud"]));
    // New data, so that there is something to send when the server dies.
    churn(&source, 24);

    let packs = cloud.bucket_dir().join("prod/packs");
    let before = files(&packs).len();
    let running = site.program.spawn(["backup", "orders", "--json"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while files(&packs).len() == before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    cloud.kill();
    let output = running.wait().expect(3);
    let result: serde_json::Value = serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        result["backup"]["repositories"],
        serde_json::json!(["local"]),
        "{result}"
    );
    assert_eq!(result["lost"][0]["name"], "cloud", "{result}");
    let id = result["backup"]["id"].as_str().unwrap();

    // The local copy is good, and the one that is down is named by every verb.
    let verified = site.run(&["verify"]);
    assert_eq!(verified.code, Some(3), "{}", verified.stderr);
    assert!(verified.stderr.contains("cloud"), "{}", verified.stderr);
    let status = site.json(&["status"], 3);
    assert_eq!(status["sources"][0]["behind"], serde_json::json!(["cloud"]), "{status}");
    site.restore(&["--from-repository", "local", "--backup", id]);

    cloud.restart();
    let copied = site.json(&["copy", "--from", "local", "--to", "cloud"], 0);
    assert_eq!(copied["backups_copied"], serde_json::json!([id]), "{copied}");
    site.json(&["verify"], 0);
    std::fs::rename(site.repository(), site.repository().with_extension("gone")).unwrap();
    let restored = site.restore(&["--from-repository", "cloud", "--backup", id]);
    assert_eq!(restored["repository"], "cloud");
    assert_eq!(restored["proof"]["position_equal"], true, "{restored}");
}

/// Two backups that start together, the second also under another name of the source and from another configuration.
#[test]
fn one_backup_of_a_server_at_a_time() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 12, 2_000);
    let site = Site::new(&source, "").init();
    let mut other = Site::new(&source, "");
    other.change("name = \"orders\"", "name = \"again\"");
    let other = other.init();
    for round in 0..rounds(3) {
        let runs = [
            site.program.spawn(["backup", "orders"]),
            other.program.spawn(["backup", "again"]),
        ];
        let mut codes = runs.map(|run| run.wait().code);
        codes.sort();
        // Both, where the first was through before the second asked.
        assert!(
            codes == [Some(0), Some(11)] || codes == [Some(0), Some(0)],
            "round {round}: {codes:?}"
        );
    }

    let running = site.program.spawn(["backup", "orders"]);
    let pid = running.pid();
    until_locked(&source);
    // Stopped, so that it is not through while the other one asks.
    signal(pid, Signal::STOP);
    let held = other.run(&["backup", "again", "--json"]).expect(11);
    signal(pid, Signal::CONT);
    let named = format!("source \"again\" is being backed up by process {pid} on host \"");
    assert!(
        held.stderr.contains(&named) && held.stderr.contains("\" since 20"),
        "{}",
        held.stderr
    );
    assert!(held.stdout.contains("\"code\":11"), "{}", held.stdout);
    running.wait().expect(0);

    let running = site.program.spawn(["backup", "orders"]);
    until_locked(&source);
    running.kill_after(Duration::ZERO);
    other.run(&["backup", "again"]).expect(0);
    site.verify_clean();
    other.verify_clean();
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn until_locked(source: &MysqlServer) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while source.value("SELECT IS_FREE_LOCK('ballast backup')") == "1" {
        assert!(Instant::now() < deadline, "no backup took the lock");
    }
}

/// The other repository is somebody else's, then locked by another key, then at an address whose secrets are not there.
#[test]
fn a_bad_repository_never_blocks_a_restore_from_a_good_one() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 2, 20);
    let mut site = Site::new(&source, "").init();
    let id = site.json(&["backup", "orders"], 0)["backup"]["id"].clone();
    let url = |of: &Site| format!("\"file://{}\"", of.repository().display());
    let foreign = Site::new(&source, "").init();
    let mut locked = Site::new(&source, "");
    locked.program.env("PASSPHRASE", "another one");
    let locked = locked.init();
    let target = format!("datadir:{}", site.restored().display());
    let restore = |site: &Site, more: &[&str]| site.run(&[&["restore", "orders", "--to", &target], more].concat());
    let named = ["--from-repository", "local", "--dry-run"];

    // Before the good one: what is opened first must not decide.
    let other = format!(
        "[[repository]]\nname = \"other\"\nurl = {}\n\n[[repository]]",
        url(&foreign)
    );
    site.change("[[repository]]", &other);
    let output = restore(&site, &named).expect(0);
    assert!(output.stdout.contains(id.as_str().unwrap()), "{output:?}");
    let output = restore(&site, &["--dry-run"]).expect(2);
    assert!(output.stderr.contains("--from-repository"), "{output:?}");

    site.change(&url(&foreign), &url(&locked));
    let output = restore(&site, &named).expect(0);
    assert!(!output.stderr.contains("other"), "it is not even asked: {output:?}");
    let output = restore(&site, &["--dry-run"]).expect(0);
    assert!(output.stderr.contains("repository \"other\""), "{output:?}");
    // What is not opened is not destroyed either.
    let output = site
        .run(&[
            "restore",
            "orders",
            "--to",
            &format!("datadir:{}", locked.repository().display()),
            "--replace",
            "--from-repository",
            "local",
        ])
        .expect(2);
    assert!(output.stderr.contains("lie in each other"), "{output:?}");

    let away = "\"s3://bucket/prefix\"\nendpoint = \"https://127.0.0.1:1\"\nregion = \"tide-1\"\n\
                access_key = { env = \"NOT_SET\" }\nsecret_key = { env = \"NOT_SET\" }";
    site.change(&url(&locked), away);
    let output = restore(&site, &named).expect(0);
    assert!(!output.stderr.contains("other"), "it is not even asked: {output:?}");
    site.run(&["list"]).expect(2);
    let output = restore(&site, &[]).expect(0);
    assert!(
        output.stderr.contains("repository \"other\" is left out") && output.stdout.contains(id.as_str().unwrap()),
        "{output:?}"
    );
}
