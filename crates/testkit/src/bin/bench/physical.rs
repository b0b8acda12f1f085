//! The physical backup and its restore, against what everybody has: `mysqldump | gzip`, `gunzip | mysql`, and a plain
//! clone, which is as fast as a copy can be.
//!
//! One donor, one disk, everything after everything else; before each measurement the servers have written all they had
//! to write. Nothing is reported unless the restored and the loaded server hold what the donor holds.

use std::fs;
use std::path::Path;
use std::time::Instant;

use ballast_testkit::dataset::Donor;
use ballast_testkit::servers::MysqlServer;

use crate::files::{folder_bytes, pages_changed};
use crate::measure::{Pipeline, cpu_seconds};
use crate::report::{Report, Row, Target, load, machine};
use crate::site::{QUESTION, Site, client, percent, result, say, steps, with_server_cpu};

const GRANTS: [&str; 5] = ["BACKUP_ADMIN", "RELOAD", "PROCESS", "REPLICATION CLIENT", "SELECT"];

const BACKUP_TIMES: f64 = 8.0;
const RESTORE_TIMES: f64 = 15.0;
const PEAK_MIB: f64 = 256.0;
const CHANGED_PERCENT: f64 = 10.0;
const IDLE_PERCENT: f64 = 0.5;

pub(crate) fn run(program: &Path, bytes: u64) -> Report {
    let machine = machine();
    say("loading Balance");
    let donor = Donor::load(bytes);
    let site = Site::new(program, donor, &GRANTS);
    let server = &site.donor.server;
    let mut notes = site.about();

    let (backup, steps) = site.backup("ballast backup", "physical");
    notes.push(format!("backup: {steps}"));
    let dump = site.dump();
    let clone = clone_plain(&site);
    let (restore, steps) = restore(&site);
    notes.push(format!("restore: {steps}"));
    let load_row = site.load();
    let (idle, _) = site.backup("ballast backup, nothing changed", "physical");
    site.donor.touch_one_percent();
    let (changed, _) = site.backup("ballast backup, 1 % of the pages changed", "physical");
    let (pages, all) = pages_changed(&site.folder("clone"), server.datadir());
    notes.push(format!(
        "changed: {pages} of {all} pages of the table files ({:.2} %)",
        percent(pages, all)
    ));
    notes.push(format!("load of the machine at the end: {}", load()));

    let targets = vec![
        Target::at_least(
            "backup, times faster than mysqldump | gzip, at least",
            BACKUP_TIMES,
            dump.seconds / backup.seconds,
        ),
        Target::at_least(
            "restore, times faster than gunzip | mysql, at least",
            RESTORE_TIMES,
            load_row.seconds / restore.seconds,
        ),
        Target::below("backup, peak memory in MiB, below", PEAK_MIB, backup.peak_mib()),
        Target::below("restore, peak memory in MiB, below", PEAK_MIB, restore.peak_mib()),
        Target::below(
            "1 % changed, stored in % of the first, below",
            CHANGED_PERCENT,
            percent(changed.bytes, backup.bytes),
        ),
        Target::below(
            "nothing changed, stored in % of the first, below",
            IDLE_PERCENT,
            percent(idle.bytes, backup.bytes),
        ),
    ];
    Report {
        bench: "physical",
        machine,
        notes,
        rows: vec![backup, dump, clone, restore, load_row, idle, changed],
        targets,
    }
}

/// The server's own copy of itself, neither compressed nor encrypted.
fn clone_plain(site: &Site) -> Row {
    let server = &site.donor.server;
    site.donor.rest();
    let name = "plain clone to disk";
    say(name);
    let folder = site.folder("clone");
    let mut mysql = client(server, "mysql");
    mysql.arg(format!("--execute=CLONE LOCAL DATA DIRECTORY = '{}'", folder.display()));
    let (taken, server_cpu) = with_server_cpu(server, Pipeline::new([mysql]));
    Row::new(name, &taken, server_cpu, folder_bytes(&folder))
}

/// From the command to an ordinary server that answers.
fn restore(site: &Site) -> (Row, String) {
    site.donor.rest();
    let name = "ballast restore, to an answering server";
    say(name);
    let folder = site.folder("restored");
    let target = format!("datadir:{}", folder.display());
    let mut taken = Pipeline::new([site.ballast(&["restore", "orders", "--to", &target, "--json"])]).run();
    let begin = Instant::now();
    let server = MysqlServer::start_on(&folder, Donor::options());
    server.value(QUESTION);
    let start = begin.elapsed().as_secs_f64();
    taken.seconds += start;
    let server_cpu = cpu_seconds(server.pid().unwrap());
    let row = Row::new(name, &taken, server_cpu, folder_bytes(&folder));
    site.compare(&server);
    drop(server);
    fs::remove_dir_all(&folder).unwrap();
    (
        row,
        format!("{}, an ordinary server answers {start:.2} s", steps(&result(&taken))),
    )
}
