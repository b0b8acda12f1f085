use ballast_testkit::dataset::balance;
use ballast_testkit::servers::MysqlOptions;

use crate::site::{PASSPHRASE, PASSWORD, Site, files, server};

#[test]
fn says_what_is_wrong() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 3, 20);
    let mut site = Site::new(&source, "expect = [\"balance.orders_{0..2}\"]");
    let output = site.run(&["list"]).expect(10);
    assert!(output.stderr.contains("ballast init"), "{}", output.stderr);
    site = site.init();
    site.run(&["backup", "orders"]).expect(0);

    site.program.env("PASSPHRASE", "another one");
    for verb in [&["list"][..], &["verify"], &["backup", "orders"]] {
        site.run(verb).expect(12);
    }
    site.program.env("PASSPHRASE", PASSPHRASE);
    site.program.env("PASSWORD", "wrong");
    let output = site.run(&["backup", "orders"]).expect(1);
    assert!(output.stderr.contains("Access denied"), "{}", output.stderr);
    site.program.env("PASSWORD", PASSWORD);

    site.program.write("restored/balance/keep.txt", "mine");
    let target = format!("datadir:{}", site.restored().display());
    let output = site.run(&["restore", "orders", "--to", &target]).expect(2);
    assert!(
        output.stderr.contains("balance") && output.stderr.contains("--replace"),
        "{}",
        output.stderr
    );
    assert!(site.restored().join("balance/keep.txt").exists());
    let plan = site
        .run(&["restore", "orders", "--to", &target, "--replace", "--dry-run"])
        .expect(0);
    assert!(
        plan.stdout.contains("balance") || plan.stderr.contains("balance"),
        "{plan:?}"
    );
    assert!(site.restored().join("balance/keep.txt").exists());
    site.run(&["restore", "orders", "--to", &target, "--replace"]).expect(0);
    assert!(!site.restored().join("balance/keep.txt").exists());
    site.run(&[
        "restore",
        "orders",
        "--to",
        &target,
        "--backup",
        "20200101T000000Z-00000000",
    ])
    .expect(5);
    site.run(&["restore", "nothing", "--to", &target]).expect(5);
}

/// What would destroy something is refused before anything is touched.
#[test]
fn never_destroys_what_is_in_use() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 2, 20);
    let site = Site::new(&source, "").init();
    site.run(&["backup", "orders"]).expect(0);
    let running = format!("datadir:{}", source.datadir().display());
    let output = site
        .run(&["restore", "orders", "--to", &running, "--replace"])
        .expect(11);
    assert!(output.stderr.contains("has files of target"), "{}", output.stderr);
    assert_eq!(source.value("SELECT COUNT(*) FROM balance.orders_1"), "20");
    for folder in [site.repository(), site.repository().join("new"), site.program.dir()] {
        let target = format!("datadir:{}", folder.display());
        let output = site.run(&["restore", "orders", "--to", &target, "--replace"]).expect(2);
        assert!(output.stderr.contains("lie in each other"), "{}", output.stderr);
    }
    site.verify_clean();

    let mut twice = Site::new(&source, "");
    let url = format!("file://{}", twice.repository().display());
    twice.change(
        "[[repository]]",
        &format!("[[repository]]\nname = \"again\"\nurl = \"{url}/\"\n\n[[repository]]"),
    );
    let output = twice.run(&["init"]).expect(2);
    assert!(output.stderr.contains("the same place"), "{}", output.stderr);
}

/// An expected shard that is not there: the backup is kept, named incomplete, and not what a restore takes by itself.
#[test]
fn names_the_missing_shard() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 3, 20);
    let site = Site::new(&source, "expect = [\"balance.orders_{0..3}\"]").init();
    let outcome = site.json(&["backup", "orders"], 3);
    assert_eq!(outcome["missing"], serde_json::json!(["balance.orders_3"]), "{outcome}");
    assert_eq!(outcome["backup"]["state"], "incomplete", "{outcome}");
    site.refuse_restore(&[], 5);
    let output = site.run(&["doctor", "orders"]).expect(1);
    assert!(output.stdout.contains("orders_3"), "{}", output.stdout);
    source.sql("CREATE TABLE balance.orders_3 LIKE balance.orders_2");
    let outcome = site.json(&["backup", "orders"], 0);
    assert_eq!(outcome["backup"]["state"], "good", "{outcome}");
}

#[test]
fn says_what_to_type() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 2, 20);
    let site = Site::new(&source, "").init();
    let expect_both = |remedy: &str| {
        let output = site.run(&["backup", "orders"]).expect(1);
        assert!(output.stderr.contains(remedy), "backup: {}", output.stderr);
        let output = site.run(&["doctor", "orders"]).expect(1);
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(
            said.replace(['\n', ' '], "").contains(&remedy.replace(' ', "")),
            "doctor: {said}"
        );
    };
    source.sql("REVOKE BACKUP_ADMIN ON *.* FROM backup");
    expect_both("GRANT BACKUP_ADMIN");
    source.sql("GRANT BACKUP_ADMIN ON *.* TO backup");
    source.sql("CREATE TABLE balance.old (a INT) ENGINE=MyISAM");
    for privilege in ["SELECT", "LOCK TABLES", "TRIGGER"] {
        expect_both(&format!("GRANT {privilege} ON"));
    }
    source.sql("GRANT SELECT, LOCK TABLES, TRIGGER ON *.* TO backup");
    source.sql("CREATE TABLE balance.merged (a INT) ENGINE=MERGE UNION=(balance.old)");
    expect_both("ALTER TABLE `balance`.`merged` ENGINE=InnoDB");
    source.sql("DROP TABLE balance.merged, balance.old; UNINSTALL PLUGIN clone");
    expect_both("INSTALL PLUGIN clone");
    source.sql("INSTALL PLUGIN clone SONAME 'mysql_clone.so'");
    site.run(&["backup", "orders"]).expect(0);

    let maria = ballast_testkit::servers::MysqlServer::start(MysqlOptions::mariadb());
    maria.create_user("backup", "x", &["ALL"]);
    let password = "x";
    let mut other = Site::new(&maria, "engine = \"physical\"");
    other.program.env("PASSWORD", password);
    let other = other.init();
    let output = other.run(&["backup", "orders"]).expect(1);
    assert!(output.stderr.contains("MariaDB"), "{}", output.stderr);
}

/// No secret in messages, debug prints, files or the arguments of what is started.
#[test]
fn no_secret_leaks() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 2, 20);
    let mut site = Site::new(&source, "");
    site.program.env("BALLAST_LOG", "trace");
    let site = site.init();
    let secrets = ["S3CR3T-OF-THE-SERVER", "S3CR3T-OF-THE-REPOSITORY"];
    let target = format!("datadir:{}", site.restored().display());
    let runs: &[&[&str]] = &[
        &["-v", "doctor"],
        &["-v", "backup", "orders", "--json"],
        &["config", "show"],
        &["list", "--json"],
        &["verify", "--json"],
        &["restore", "orders", "--to", &target],
        &["status", "--json"],
        &["backup", "nothing"],
    ];
    for args in runs {
        let running = site.program.spawn(*args);
        let arguments = std::fs::read(format!("/proc/{}/cmdline", running.pid())).unwrap_or_default();
        let output = running.wait();
        for secret in secrets {
            let hidden = |text: &str| !text.contains(secret);
            assert!(
                hidden(&output.stdout) && hidden(&output.stderr),
                "{args:?} shows {secret}: {output:?}"
            );
            assert!(
                hidden(&String::from_utf8_lossy(&arguments)),
                "{args:?} has {secret} in its arguments"
            );
        }
    }
    for path in files(&site.program.dir()) {
        let content = std::fs::read(&path).unwrap();
        for secret in secrets {
            let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds {secret}", path.display());
        }
    }
}
