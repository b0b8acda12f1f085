//! The logical backup and its load into a running server, against what everybody has (`mysqldump | gzip`, `gunzip | mysql`)
//! and against what those use who have much: mydumper and myloader, with two threads.
//!
//! One donor, one disk, everything after everything else; before each measurement the servers have written all they had
//! to write. Nothing is reported unless every loaded server holds what the donor holds.

use std::path::{Path, PathBuf};
use std::process::Command;

use ballast_testkit::dataset::Donor;
use ballast_testkit::servers::MysqlServer;

use crate::files::folder_bytes;
use crate::measure::Pipeline;
use crate::report::{Report, Row, Target, load, machine};
use crate::site::{PASSWORD, Site, percent, result, say, steps, with_server_cpu};

/// What the README tells to grant for rows.
const GRANTS: [&str; 9] = [
    "BACKUP_ADMIN",
    "RELOAD",
    "PROCESS",
    "REPLICATION CLIENT",
    "SELECT",
    "SHOW VIEW",
    "TRIGGER",
    "EVENT",
    "SHOW_ROUTINE",
];
const LOADER: &str = "loader";
/// Of the rivals that have threads.
const THREADS: &str = "2";

const DUMP_TIMES: f64 = 5.0;
const DUMP_TIMES_MYDUMPER: f64 = 1.0;
const LOAD_TIMES: f64 = 3.5;
const LOAD_TIMES_MYLOADER: f64 = 1.3;
const PEAK_MIB: f64 = 256.0;
const IDLE_PERCENT: f64 = 1.0;
const TAIL_PERCENT: f64 = 5.0;

/// `mydumper` is the program of that name, with `myloader` beside it.
pub(crate) fn run(program: &Path, mydumper: &Path, bytes: u64) -> Report {
    let machine = machine();
    say("loading Balance");
    let donor = Donor::load(bytes);
    let site = Site::new(program, donor, &GRANTS);
    let mut notes = site.about();
    notes.push(version(mydumper));

    let (backup, steps) = site.backup("ballast backup", "logical");
    notes.push(format!("backup: {steps}"));
    let dump = site.dump();
    let rival = dump_by_mydumper(&site, mydumper);
    let (restore, steps) = load_by_ballast(&site, "ballast restore --no-binlog", &["--no-binlog"]);
    notes.push(format!("restore: {steps}"));
    let (logged, steps) = load_by_ballast(&site, "ballast restore, the binary log on", &[]);
    notes.push(format!("restore with the binary log: {steps}"));
    let load_row = site.load();
    let rival_load = load_by_myloader(&site, &mydumper.with_file_name("myloader"));
    let (idle, _) = site.backup("ballast backup, nothing changed", "logical");
    site.donor.touch_tail();
    let (tail, _) = site.backup("ballast backup, 1 % of the rows changed", "logical");
    notes.push(format!("load of the machine at the end: {}", load()));

    let targets = vec![
        Target::at_least(
            "backup, times faster than mysqldump | gzip, at least",
            DUMP_TIMES,
            dump.seconds / backup.seconds,
        ),
        Target::at_least(
            "backup, times faster than mydumper, at least",
            DUMP_TIMES_MYDUMPER,
            rival.seconds / backup.seconds,
        ),
        Target::at_least(
            "restore, times faster than gunzip | mysql, at least",
            LOAD_TIMES,
            load_row.seconds / restore.seconds,
        ),
        Target::at_least(
            "restore, times faster than myloader, at least",
            LOAD_TIMES_MYLOADER,
            rival_load.seconds / restore.seconds,
        ),
        Target::at_least(
            "the same with the binary log on, which mysql has off, at least",
            LOAD_TIMES,
            load_row.seconds / logged.seconds,
        ),
        Target::at_least(
            "the same with the binary log on, which myloader has off, at least",
            LOAD_TIMES_MYLOADER,
            rival_load.seconds / logged.seconds,
        ),
        Target::below("backup, peak memory in MiB, below", PEAK_MIB, backup.peak_mib()),
        Target::below("restore, peak memory in MiB, below", PEAK_MIB, restore.peak_mib()),
        Target::below(
            "nothing changed, stored in % of the first, below",
            IDLE_PERCENT,
            percent(idle.bytes, backup.bytes),
        ),
        Target::below(
            "1 % of the rows changed, stored in % of the first, below",
            TAIL_PERCENT,
            percent(tail.bytes, backup.bytes),
        ),
    ];
    Report {
        bench: "logical",
        machine,
        notes,
        rows: vec![backup, dump, rival, restore, logged, load_row, rival_load, idle, tail],
        targets,
    }
}

fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn dump_by_mydumper(site: &Site, mydumper: &Path) -> Row {
    let server = &site.donor.server;
    site.donor.rest();
    let name = "mydumper, 2 threads, compressed";
    say(name);
    let folder = dumped(site);
    let mut command = rival(mydumper, server);
    // Without the one routine: of this server's it writes a file that its own myloader cannot read.
    command.args(["--database=balance", "--compress", "--triggers"]);
    command.arg(format!("--outputdir={}", folder.display()));
    let (taken, server_cpu) = with_server_cpu(server, Pipeline::new([command]));
    Row::new(name, &taken, server_cpu, folder_bytes(&folder))
}

fn dumped(site: &Site) -> PathBuf {
    site.folder("mydumper")
}

/// A program of mydumper's, connected as `root` to the server's socket.
fn rival(program: &Path, server: &MysqlServer) -> Command {
    let mut command = Command::new(program);
    command.args(["--user=root", &format!("--threads={THREADS}")]);
    command.arg(format!("--socket={}", server.socket().display()));
    command
}

fn load_by_ballast(site: &Site, name: &'static str, flags: &[&str]) -> (Row, String) {
    let (row, taken) = site.load_by(name, |server| {
        server.create_user(LOADER, PASSWORD, &["ALL"]);
        server.sql(&format!("GRANT GRANT OPTION ON *.* TO {LOADER}"));
        let url = format!("{}?socket={}", server.url(LOADER), server.socket().display());
        let verb = ["restore", "orders", "--to", &url, "--json"];
        Pipeline::new([site.ballast(&[&verb, flags].concat())])
    });
    (row, steps(&result(&taken)))
}

fn load_by_myloader(site: &Site, myloader: &Path) -> Row {
    let name = "myloader, 2 threads";
    let load = |server: &MysqlServer| {
        let mut command = rival(myloader, server);
        command.arg(format!("--directory={}", dumped(site).display()));
        Pipeline::new([command])
    };
    site.load_by(name, load).0
}
