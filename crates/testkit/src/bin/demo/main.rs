//! `./dev demo`: Balance on 120 shards is backed up and its log followed while it is written to; it is destroyed, restored from a bucket to
//! the moment before and to the last transaction there was, and compared with what it was. Real servers and the real program; every command is shown as it is typed, with what it answers.
//!
//! Whatever is not as promised ends it with exit code 1 and the reason. Everything lives in temporary folders, which go with it;
//! `scripts/demo.sh` ends what is left after an interruption.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a show on top of the test kit: it prints, and panics with the reason when something is not as promised"
)]

mod screen;
mod stage;

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use ballast_testkit::dataset::{WriterOptions, Writers, balance, checksums};
use ballast_testkit::program::Program;
use ballast_testkit::servers::{MysqlOptions, MysqlServer};

use crate::screen::{LINES_MAX, Screen, ballast, good, lines, say, typed};
use crate::stage::{GRANTS, SHARDS, Witness};

const ROWS_PER_SHARD: u32 = 500;
const WRITERS: usize = 2;
/// Transactions a second of each writer.
const RATE: u32 = 10;
/// The writers run this long before a backup begins.
const WARM_UP: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let Some(program) = std::env::var_os("BALLAST_PROGRAM") else {
        eprintln!("error: BALLAST_PROGRAM must be the path of the built ballast; run ./dev demo");
        return ExitCode::from(2);
    };
    // Shown last: behind it would come the end of every server's log.
    let reason = Arc::new(OnceLock::new());
    let first = Arc::clone(&reason);
    std::panic::set_hook(Box::new(move |panic| {
        first.set(panic.to_string()).ok();
    }));
    if std::panic::catch_unwind(|| play(Path::new(&program))).is_ok() {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "\nerror: not as promised: {}",
        reason.get().map_or("no reason is known", String::as_str)
    );
    ExitCode::FAILURE
}

fn play(program: &Path) {
    let mut screen = Screen::new();
    println!(
        "Ballast demo: MySQL is backed up while it works, lost, and restored. Everything here is thrown away at the end."
    );

    let (source, bucket) = screen.step("Start MySQL with 120 shards, and a bucket", || {
        let source = MysqlServer::start(stage::production());
        balance::load(&source, SHARDS, ROWS_PER_SHARD);
        say(format_args!(
            "MySQL {}: balance.orders_0 to orders_{}, {ROWS_PER_SHARD} rows each, shops, admin",
            source.version(),
            SHARDS - 1
        ));
        let bucket = stage::bucket();
        say(format_args!("an S3 server at {}", bucket.endpoint()));
        (source, bucket)
    });

    let (program, witness) = screen.step("Prepare: a user, a configuration, a witness", || {
        stage::create_backup_user(&source);
        typed("mysql");
        say(format_args!("  CREATE USER backup IDENTIFIED BY '…'; GRANT {GRANTS} ON *.* TO backup;"));
        let (program, config) = stage::configure(program, &source, &bucket);
        typed("cat ballast.toml");
        lines(&config, usize::MAX);
        let witness = Witness::start(&source, &program.dir());
        say("the witness: an ordinary replica that applies nothing yet; it will say what each table held at a backup's position");
        (program, witness)
    });

    let tables = balance::tables(SHARDS);
    let options = WriterOptions {
        ddl: false,
        rate: Some(RATE),
    };
    let made_before = transactions(&source);
    let writers = Writers::start(&source, WRITERS, &tables, options);

    screen.step("Create the repositories and check everything", || {
        say(format_args!(
            "{WRITERS} writers are at work from here on, over all shards"
        ));
        ballast(&program, "init", 0);
        check(&program);
    });

    let recorder = screen.step("Follow the log: no commit is answered before it is kept twice", || {
        typed("ballast archive orders &");
        let recorder = program.spawn(["archive", "orders"]);
        stage::await_follower(&source);
        good("the source counts the recorder as the replica it waits for");
        recorder
    });

    let first = screen.step("Back up while it is written to", || {
        thread::sleep(WARM_UP);
        back_up(&program, &source)
    });
    let id = screen.step("Back up again: only what changed is stored", || {
        thread::sleep(WARM_UP);
        let id = back_up(&program, &source);
        ballast(&program, "list", 0);
        id
    });
    let (before, backup) = (stage::recorded(&program, &first), stage::recorded(&program, &id));
    assert!(
        backup.bytes_new < before.bytes_new,
        "the second backup stored {} bytes, the first {}",
        backup.bytes_new,
        before.bytes_new
    );

    let (made, report) = screen.step("Disaster", || {
        typed("mysql -e 'DROP TABLE balance.orders_7'");
        source.sql("DROP TABLE balance.orders_7");
        thread::sleep(WARM_UP);
        let end = source.gtid_executed();
        assert_ne!(end, backup.position, "the writers went on after the backup");
        typed("kill -9 $(pidof mysqld); rm -rf /var/lib/mysql");
        source.kill();
        std::fs::remove_dir_all(source.datadir()).unwrap();
        let report = writers.stop();
        recorder.interrupt();
        let recorded = recorder.wait().expect(0);
        lines(&recorded.stderr, LINES_MAX);
        // Beside the writers' there was the accident.
        let made = report.transactions + 1;
        say(format_args!(
            "the writers were told of {} committed transactions",
            report.transactions
        ));
        (made_before + made, report)
    });

    let accident = screen.step("Find the moment", || {
        ballast(&program, "timeline orders", 0);
        ballast(&program, "log find orders --suspicious", 0);
        stage::accident(&program)
    });

    screen.step("Restore from the bucket what was there before the accident", || {
        let restore = format!("restore orders --to datadir:before --before {accident} --from-repository cloud");
        ballast(&program, &restore, 0);
    });

    screen.step("Start an ordinary MySQL on it and compare", || {
        let restored = MysqlServer::start_on(&program.dir().join("before"), MysqlOptions::default());
        let position = restored.gtid_executed();
        assert_ne!(position, backup.position, "the log was replayed");
        good(format_args!("it is at {position}, just before {accident}"));
        let (found, expected) = (checksums(&restored, &["balance"]), witness.tables_at(&position));
        let count = usize::try_from(SHARDS).unwrap() + 2;
        assert_eq!(expected.len(), count, "the witness has every table");
        let differing: Vec<&String> = expected
            .keys()
            .filter(|name| found.get(*name) != expected.get(*name))
            .collect();
        assert_eq!(differing, Vec::<&String>::new(), "these tables differ");
        assert_eq!(found.len(), count, "there are tables that should not be");
        let rows: u64 = found.values().map(|table| table.rows).sum();
        good(format_args!(
            "CHECKSUM TABLE and row count of all {count} tables equal the witness's at that position: {rows} rows"
        ));
        good(format_args!(
            "orders_7 is back with {} rows",
            found["balance.orders_7"].rows
        ));
    });

    screen.step("Restore the latest moment, with all that was committed", || {
        ballast(&program, "restore orders --to datadir:latest", 0);
        let restored = MysqlServer::start_on(&program.dir().join("latest"), MysqlOptions::default());
        let there = transactions(&restored);
        assert!(
            there >= made,
            "{there} transactions are there, and {made} were committed"
        );
        good(format_args!(
            "{there} transactions are there: each of the {} that a writer was told of, up to the kill",
            report.transactions
        ));
    });

    screen.step("Read every stored byte back", || {
        ballast(&program, "verify", 0);
    });

    screen.step("Flip one bit in a copy of the repository", || {
        let copy = program.dir().join("copy");
        typed("cp -a repository copy");
        stage::copy(&program.dir().join("repository"), &copy);
        let flipped = stage::flip_one_byte(&copy);
        let name = flipped.strip_prefix(&copy).unwrap().display().to_string();
        say(format_args!("one bit flipped in the middle of copy/{name}"));
        stage::configure_copy(&program, "copy.toml", &copy);
        let answer = ballast(&program, "--config copy.toml verify", 4);
        assert!(answer.stdout.contains(&name), "{name} is not named");
        good("the damage is found and named");
    });

    screen.table();
}

/// Shows what `doctor` says beyond the checks that are good.
fn check(program: &Program) {
    typed("ballast doctor");
    let answer = program.run(["doctor"]).expect(0);
    let (fine, other): (Vec<&str>, Vec<&str>) = answer.stdout.lines().partition(|line| line.starts_with("ok "));
    lines(&other.join("\n"), LINES_MAX);
    lines(&format!("{} checks are ok", fine.len()), LINES_MAX);
}

/// Takes a backup of the source, which must be written to meanwhile, and gives its id.
fn back_up(program: &Program, source: &MysqlServer) -> String {
    let before = transactions(source);
    let answer = ballast(program, "backup orders", 0);
    let meanwhile = transactions(source) - before;
    assert_ne!(meanwhile, 0, "the writers stood still");
    say(format_args!("{meanwhile} transactions were committed meanwhile"));
    answer.stdout.trim().to_owned()
}

/// How many the server has committed: all of them are its own, so its position ends in their number.
fn transactions(source: &MysqlServer) -> u64 {
    let position = source.gtid_executed();
    position
        .rsplit(['-', ':'])
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("not a position: {position}"))
}
