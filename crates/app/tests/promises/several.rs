use std::time::{Duration, Instant};

use ballast_testkit::dataset::balance;
use ballast_testkit::s3::{S3Options, S3Server};
use ballast_testkit::servers::MysqlOptions;

use crate::site::{Site, churn, files, server};

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
