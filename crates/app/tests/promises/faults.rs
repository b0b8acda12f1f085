use std::path::Path;
use std::time::{Duration, Instant};

use ballast_testkit::chaos_proxy::ChaosProxy;
use ballast_testkit::dataset::balance;
use ballast_testkit::servers::{MysqlOptions, MysqlServer};

use crate::site::{Site, USER, files, rounds, server};

/// `kill -9` at random moments of backups and copies.
#[test]
fn survives_kill_at_any_moment() {
    let source = server(MysqlOptions::default());
    // First, so that it is copied first.
    load_noise(&source);
    balance::load(&source, 24, 3_000);
    let mut site = Site::new(&source, "");
    site.change(
        "[[repository]]",
        &format!(
            "[[repository]]\nname = \"second\"\nurl = \"file://{}\"\n\n[[repository]]",
            site.program.dir().join("second").display()
        ),
    );
    let site = site.init();
    // How long one takes, so that the moments are spread over all of it.
    let second = site.program.dir().join("second");
    let config = site.program.dir().join("ballast.toml");
    let both = std::fs::read_to_string(&config).unwrap();
    let whole = site.run(&["backup", "orders"]).expect(0).took;
    let mut reused = Vec::new();
    for round in 0..rounds(3) {
        // From nothing each time: else there is nothing left to write after the first.
        for repository in [site.repository(), second.clone()] {
            std::fs::remove_dir_all(repository).unwrap();
        }
        site.run(&["init"]).expect(0);
        let killed = site.program.spawn(["backup", "orders"]).kill_at_random(whole);
        site.verify_clean();
        let result = site.json(&["backup", "orders"], 0);
        let (before, now) = (&result["bytes_reused"], &result["backup"]["bytes_new"]);
        println!(
            "backup round {round}: ended by signal {:?} after {:?}; then {before} bytes reused, {now} new",
            killed.signal, killed.took
        );
        reused.push(before.as_u64().unwrap());
        site.verify_clean();

        std::fs::remove_dir_all(&second).unwrap();
        site.run(&["init"]).expect(0);
        let copied = site
            .program
            .spawn(["copy", "--from", "local", "--to", "second"])
            .kill_at_random(whole / 4);
        site.verify_clean();
        let result = site.json(&["copy", "--from", "local", "--to", "second"], 0);
        println!(
            "copy round {round}: ended by signal {:?} after {:?}; then {result}",
            copied.signal, copied.took
        );
        site.verify_clean();
        assert_eq!(std::fs::read_to_string(&config).unwrap(), both);
    }
    site.restore(&["--from-repository", "second"]);
    println!("bytes reused after each kill: {reused:?}");
    // Three moments may all lie before the first pack; ten do not.
    assert!(
        reused.len() < 10 || reused.iter().any(|bytes| *bytes > NOISE_BYTES / 8),
        "no killed backup left anything to use"
    );
}

/// What does not compress, so that there are several packs for a kill to come between.
const NOISE_BYTES: u64 = 256 << 20;

fn load_noise(server: &MysqlServer) {
    server.sql("CREATE DATABASE noise");
    server.sql("CREATE TABLE noise.noise (id INT AUTO_INCREMENT PRIMARY KEY, bytes VARBINARY(1024) NOT NULL)");
    server.sql("INSERT INTO noise.noise (bytes) VALUES (RANDOM_BYTES(1024))");
    for _ in 0..(NOISE_BYTES / 1024).ilog2() {
        server.sql("INSERT INTO noise.noise (bytes) SELECT RANDOM_BYTES(1024) FROM noise.noise");
    }
}

/// The donor is killed, the connection is cut: clear errors, and the next try works.
#[test]
fn fails_clean_and_works_again() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 12, 2_000);
    let proxy = ChaosProxy::start(source.port());
    let through = source
        .url(USER)
        .replace(&format!(":{}", source.port()), &format!(":{}", proxy.port()));
    let site = Site::through(&source, &through, "").init();
    for cut in [2_000_000_u64, 20_000_000, 40_000_000]
        .into_iter()
        .take(rounds(2) as usize)
    {
        proxy.cut_after(cut);
        let output = site.run(&["backup", "orders"]).expect(1);
        assert!(output.stderr.contains("connection"), "{}", output.stderr);
        site.verify_clean();
        assert_eq!(site.json(&["list"], 0)["backups"], serde_json::json!([]));
        // The donor may still hold the clone for one that comes back; the next run must get by.
        site.run(&["backup", "orders"]).expect(0);
        for manifest in files(&site.repository().join("manifests")) {
            std::fs::remove_file(manifest).unwrap();
        }
    }
    let running = site.program.spawn(["backup", "orders"]);
    std::thread::sleep(Duration::from_millis(700));
    source.kill();
    let output = running.wait();
    assert!(matches!(output.code, Some(0 | 1)), "{output:?}");
    let output = site.run(&["backup", "orders"]).expect(1);
    assert!(output.stderr.contains("127.0.0.1"), "{}", output.stderr);
    source.restart();
    let interrupted = site.program.spawn(["backup", "orders"]);
    std::thread::sleep(Duration::from_millis(400));
    interrupted.interrupt();
    let output = interrupted.wait();
    assert_eq!(output.code, Some(130), "{}", output.stderr);
    site.run(&["backup", "orders"]).expect(0);
    site.verify_clean();
    site.restore(&[]);
}

/// Repository and target on volumes that are too small.
#[test]
fn a_full_disk_is_said_and_nothing_is_left() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 12, 2_000);
    let mut site = Site::new(&source, "").init();
    site.run(&["backup", "orders"]).expect(0);
    let small = site.program.dir().join("small");
    std::fs::create_dir(&small).unwrap();
    let Some(_volume) = Volume::mount(&small, "size=4m") else {
        // Not root: the same is shown on the storage floor with its own faults.
        return;
    };
    let target = format!("datadir:{}", small.join("data").display());
    let output = site.run(&["restore", "orders", "--to", &target]).expect(1);
    assert!(output.stderr.contains("free"), "{}", output.stderr);
    assert!(!small.join("data").exists());

    let repository = format!("file://{}", site.repository().display());
    site.change(&repository, &format!("file://{}", small.join("repository").display()));
    site.run(&["init"]).expect(0);
    let output = site.run(&["backup", "orders"]).expect(1);
    assert!(output.stderr.contains("no space left"), "{}", output.stderr);
    assert_eq!(site.json(&["list"], 0)["backups"], serde_json::json!([]));
    site.verify_clean();
}

/// A small volume in memory, gone when dropped.
pub(crate) struct Volume<'a>(&'a std::path::Path);

impl<'a> Volume<'a> {
    pub(crate) fn mount(at: &'a std::path::Path, options: &str) -> Option<Self> {
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(at)
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for Volume<'_> {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg("-l").arg(self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

/// `kill -9` at random moments of a restore: what is left never passes for a data directory, and the next restore works.
#[test]
fn a_killed_restore_is_not_a_restored_directory() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 24, 1_000);
    let site = Site::new(&source, "").init();
    site.run(&["backup", "orders"]).expect(0);
    let target = format!("datadir:{}", site.restored().display());
    let restore = ["restore", "orders", "--to", &target];
    let whole = site.run(&restore).expect(0).took;
    for _ in 0..rounds(3) {
        std::fs::remove_dir_all(site.restored()).unwrap();
        let killed = site.program.spawn(restore).kill_at_random(whole);
        if killed.code.is_none() && site.restored().exists() {
            let left: Vec<_> = std::fs::read_dir(site.restored())
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert!(!left.iter().any(|name| name == "ibdata1"), "{left:?}");
        }
        let again = site.run(&restore);
        if again.code == Some(2) {
            // Killed between the move and the last word: it is whole, and not overwritten.
            assert!(site.restored().join("ibdata1").exists(), "{}", again.stderr);
        } else {
            again.expect(0);
        }
    }
}

/// A restore that is killed while its private server runs leaves that server and its folder; any later restore takes both away.
#[test]
fn a_killed_restore_leaves_no_server_and_no_folder_for_long() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 8, 500);
    let site = Site::new(&source, "").init();
    site.run(&["backup", "orders"]).expect(0);
    let killed = site.program.dir().join("killed");
    let running = site
        .program
        .spawn(["restore", "orders", "--to", &format!("datadir:{}", killed.display())]);
    let data = format!("--datadir={}", killed.join("ballast-unfinished").display());
    let deadline = Instant::now() + Duration::from_secs(60);
    let (server, folder) = loop {
        assert!(Instant::now() < deadline, "no private server was started");
        if let Some((pid, arguments)) = process_with(&data) {
            let socket = arguments.iter().find_map(|argument| argument.strip_prefix("--socket="));
            break (pid, Path::new(socket.unwrap()).parent().unwrap().to_owned());
        }
    };
    let killed = running.kill_after(Duration::ZERO);
    assert_eq!(killed.signal, Some(9), "it had ended before");
    assert!(folder.exists(), "{}", folder.display());

    // To another target: it is not the target that says whose they were.
    site.restore(&[]);
    assert!(!folder.exists(), "{} is still there", folder.display());
    let left = process_with(&data);
    assert!(left.is_none(), "server {server} still runs: {left:?}");
}

/// The process that has this argument, and all its arguments.
fn process_with(argument: &str) -> Option<(u32, Vec<String>)> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let command = std::fs::read(entry.path().join("cmdline")).ok()?;
        let parts = command.split(|byte| *byte == 0);
        let arguments: Vec<String> = parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        arguments
            .iter()
            .any(|part| part == argument)
            .then_some((pid, arguments))
    })
}
