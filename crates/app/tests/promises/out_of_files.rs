use std::path::PathBuf;
use std::time::Duration;

use ballast_testkit::dataset::{balance, checksums, ugly};
use ballast_testkit::servers::{Flavour, MysqlOptions};

use crate::logical::{objects, target};
use crate::site::{Site, USER, rounds, server};

/// What a restore out of files has for a while.
fn private_folders(site: &Site) -> Vec<PathBuf> {
    let scratch = site.program.dir().join("scratch");
    let entries = std::fs::read_dir(scratch).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Servers whose data directory lies in the scratch folder.
fn private_servers(site: &Site) -> Vec<String> {
    let scratch = format!("--datadir={}", site.program.dir().join("scratch").display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if command
            .split(|byte| *byte == 0)
            .any(|part| part.starts_with(scratch.as_bytes()))
        {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// One shard of 120 out of a backup of files, under another name, into a server that holds other data; then everything into an empty
/// one. Killed runs leave nothing that the next one does not take away.
#[test]
fn one_table_out_of_a_physical_backup() {
    let source = server(MysqlOptions::default());
    ugly::load(&source);
    balance::load(&source, 120, 100);
    source.sql(
        "CREATE TABLE balance.seen (id BIGINT UNSIGNED);
         CREATE TRIGGER balance.see AFTER UPDATE ON balance.orders_7 FOR EACH ROW INSERT INTO balance.seen VALUES (NEW.id);
         CREATE USER onlooker IDENTIFIED BY 'r'; GRANT SELECT ON balance.* TO onlooker",
    );
    let bases: Vec<&str> = ugly::DATABASES.into_iter().chain(["balance"]).collect();
    let (backed_up, objects_backed_up) = (checksums(&source, &bases), objects(&source, &bases));
    let mut site = Site::new(&source, "").init();
    let result = site.json(&["backup", "orders"], 0);
    assert_eq!(result["backup"]["engine"], "physical");
    source.sql("UPDATE balance.orders_7 SET status = status + 1; DROP TABLE balance.orders_8");

    let (other, url) = target(&mut site, Flavour::Mysql);
    balance::load(&other, 3, 40);
    let held = checksums(&other, &["balance"]);
    let scratch = site.program.dir().join("scratch");
    let scratch = scratch.to_str().unwrap();
    let one = [
        "restore",
        "orders",
        "--to",
        &url,
        "--only",
        "balance.orders_7",
        "--rename",
        "balance.orders_7=rescue.orders_7",
        "--scratch",
        scratch,
    ];
    let output = site.run(&one).expect(2);
    assert!(output.stderr.contains("--scratch"), "{}", output.stderr);
    std::fs::create_dir(scratch).unwrap();
    let plan = site.run(&[&one[..], &["--dry-run"]].concat()).expect(0).stdout;
    assert!(
        plan.contains("mysqld") && plan.contains(scratch) && plan.contains("needed"),
        "{plan}"
    );
    assert_eq!(private_folders(&site), Vec::<PathBuf>::new());

    let result = site.json(&one, 0);
    println!("one of 120 shards: {} s, {}", result["seconds"], result["steps"]);
    assert_eq!(result["proof"]["tables_expected"], 1);
    assert_eq!(checksums(&other, &["balance"]), held);
    let rescued = checksums(&other, &["rescue"]);
    assert_eq!(rescued.len(), 1);
    assert_eq!(rescued["rescue.orders_7"], backed_up["balance.orders_7"]);
    let trigger = "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = 'rescue'";
    assert_eq!(other.value(trigger), "see");
    assert_eq!(private_folders(&site), Vec::<PathBuf>::new());
    assert_eq!(private_servers(&site), Vec::<String>::new());

    let again = [&one[..], &["--replace"]].concat();
    let took = Duration::from_secs_f64(result["seconds"].as_f64().unwrap());
    for _ in 0..rounds(2) {
        let killed = site.program.spawn(&again).kill_at_random(took);
        println!(
            "ended by signal {:?} after {:?}: {:?}, servers {:?}",
            killed.signal,
            killed.took,
            private_folders(&site),
            private_servers(&site)
        );
        site.run(&again).expect(0);
        assert_eq!(private_folders(&site), Vec::<PathBuf>::new());
        assert_eq!(private_servers(&site), Vec::<String>::new());
        assert_eq!(checksums(&other, &["rescue"]), rescued);
        assert_eq!(checksums(&other, &["balance"]), held);
    }

    let (empty, url) = target(&mut site, Flavour::Mysql);
    let result = site.json(&["restore", "orders", "--to", &url, "--scratch", scratch], 0);
    println!("everything: {} s, {}", result["seconds"], result["steps"]);
    assert_eq!(checksums(&empty, &bases), backed_up);
    assert_eq!(objects(&empty, &bases), objects_backed_up);
    assert_eq!(
        empty
            .sql_as("onlooker", "r", "SELECT COUNT(*) FROM balance.orders_8")
            .unwrap()
            .len(),
        1
    );
    let accounts = format!("SELECT COUNT(*) FROM mysql.user WHERE User = '{USER}'");
    assert_eq!(empty.value(&accounts), "1");
    assert_eq!(private_folders(&site), Vec::<PathBuf>::new());
}
