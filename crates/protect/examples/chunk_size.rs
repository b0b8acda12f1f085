//! Measures what the size of a piece costs and gains: bytes stored by a first backup, and by a second one after one
//! page in a hundred changed in random places. `./dev bench physical --chunks` runs it; `BALLAST_BENCH_BYTES` says how
//! much data it makes. The decision record on the chunk size has its table.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement: it reads the environment, prints a table, and panics when it cannot go on"
)]

use std::path::Path;
use std::sync::Arc;

use ballast_base::{Cancel, Secret, SystemClock};
use ballast_protect::{
    BackupOutcome, Context, Engine, Event, KeyMaterial, Limit, LogSettings, Observer, Progress, RepositorySettings,
    SourceKind, SourceSettings, ToolPlaces, Vault, backup_in_pieces,
};
use ballast_storage::StorageSettings;
use ballast_testkit::dataset::Donor;
use tokio::runtime::Runtime;

const SIZES_KIB: [usize; 4] = [16, 64, 256, 1024];
const BYTES: &str = "600MiB";
const USER: &str = "backup";
const PASSWORD: &str = "only-of-the-bench";
const GRANTS: [&str; 5] = ["BACKUP_ADMIN", "RELOAD", "PROCESS", "REPLICATION CLIENT", "SELECT"];

fn main() {
    let bytes = std::env::var("BALLAST_BENCH_BYTES").unwrap_or_else(|_| BYTES.to_owned());
    let bytes =
        ballast_base::parse_bytes(&bytes).unwrap_or_else(|| panic!("BALLAST_BENCH_BYTES is {bytes}, not a size"));
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    eprintln!("loading Balance …");
    let donor = Donor::load(bytes);
    donor.server.create_user(USER, PASSWORD, &GRANTS);

    let measure = |size_kib: usize| {
        donor.rest();
        eprintln!("backup in pieces of {size_kib} KiB …");
        runtime.block_on(backup(
            &donor,
            &folder.path().join(size_kib.to_string()),
            size_kib * 1024,
        ))
    };
    // Each size has a repository of its own, and all see the same data before and after the change.
    let first: Vec<BackupOutcome> = SIZES_KIB.into_iter().map(measure).collect();
    donor.touch_one_percent();
    let second: Vec<BackupOutcome> = SIZES_KIB.into_iter().map(measure).collect();

    println!(
        "{:>9} {:>11} {:>11} {:>7} {:>8} {:>12} {:>10} {:>8}",
        "piece KiB", "source MiB", "first MiB", "ratio", "seconds", "1 % MiB", "% of first", "seconds"
    );
    for ((size, first), second) in SIZES_KIB.into_iter().zip(&first).zip(&second) {
        let (source, stored) = (mib(first.backup.bytes_source), mib(first.backup.bytes_stored));
        let changed = mib(second.backup.bytes_stored);
        println!(
            "{size:>9} {source:>11.1} {stored:>11.1} {:>7.3} {:>8.2} {changed:>12.2} {:>10.2} {:>8.2}",
            source / stored,
            first.seconds,
            changed * 100.0 / stored,
            second.seconds
        );
    }
}

/// One backup into the repository in `folder`, which is made when it is not there.
async fn backup(donor: &Donor, folder: &Path, piece_bytes: usize) -> BackupOutcome {
    let context = Context {
        clock: Arc::new(SystemClock::new()),
        cancel: Cancel::new(),
        observer: Arc::new(Warnings),
    };
    let repository = RepositorySettings {
        name: "local".to_owned(),
        storage: StorageSettings {
            url: format!("file://{}", folder.display()),
            endpoint: None,
            region: None,
            access_key: None,
            secret_key: None,
            session_token: None,
            ca_file: None,
            insecure: false,
        },
    };
    let source = SourceSettings {
        name: "orders".to_owned(),
        kind: SourceKind::Mysql,
        url: format!("{}?socket={}", donor.server.url(USER), donor.server.socket().display()),
        password: Some(Secret::new(PASSWORD.to_owned())),
        databases: Vec::new(),
        expect: Vec::new(),
        engine: Engine::Physical,
        tools: ToolPlaces::default(),
        limit: Limit::default(),
        log: LogSettings::default(),
    };
    let key = KeyMaterial::KeyFile(Secret::new("5a".repeat(32)));
    let repositories = std::slice::from_ref(&repository);
    if !folder.exists() {
        Vault::init(&context, repositories, &key).await.unwrap();
    }
    let vault = Vault::open(&context, repositories, &key).await.unwrap();
    Box::pin(backup_in_pieces(&context, &vault, &source, piece_bytes))
        .await
        .unwrap()
}

/// Says what went wrong on the way, and nothing else.
#[derive(Debug)]
struct Warnings;

impl Observer for Warnings {
    fn progress(&self, _progress: &Progress) {}

    fn event(&self, event: &Event) {
        if let Event::Warning { message, .. } = event {
            eprintln!("warning: {message}");
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers to print")]
fn mib(bytes: Option<u64>) -> f64 {
    bytes.unwrap_or_default() as f64 / 1_048_576.0
}
