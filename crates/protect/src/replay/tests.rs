//! Logs of real servers in a repository, replayed on real private servers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ballast_base::{Cancel, Secret, SystemClock};
use ballast_mysql::{
    Connection, ExecutedSet, Gtid, LogFlavour, ServerBinary, ThrowawayOptions, ThrowawayServer, quote_table,
};
use ballast_repository::{Link, Lock, Repository, SegmentPlace, StreamId, create_all};
use ballast_storage::MemoryStorage;
use ballast_testkit::servers::{Flavour, MysqlOptions, MysqlServer};

mod restores;

use super::*;
use crate::observer::{Event, Observer, Progress};
use crate::stop::{PositionStop, Stop};

/// Much smaller than real ones, so that events and transactions lie over their borders.
const SEGMENT_BYTES: usize = 50_000;

#[derive(Debug, Default)]
struct Told {
    replayed: std::sync::Mutex<Vec<(u64, Option<u64>)>>,
    notes: std::sync::Mutex<Vec<String>>,
}

impl Observer for Told {
    fn progress(&self, progress: &Progress) {
        if progress.step == "replay" {
            self.replayed
                .lock()
                .unwrap()
                .push((progress.done_bytes, progress.total_bytes));
        }
    }

    fn event(&self, event: &Event) {
        if let Event::Note { message } = event {
            self.notes.lock().unwrap().push(message.clone());
        }
    }
}

fn context() -> (Context, Arc<Told>) {
    let told = Arc::new(Told::default());
    let observer: Arc<dyn Observer> = Arc::<Told>::clone(&told);
    let context = Context {
        clock: Arc::new(SystemClock::new()),
        cancel: Cancel::new(),
        observer,
    };
    (context, told)
}

async fn repository() -> Repository {
    let places = vec![(
        "r".to_owned(),
        Arc::new(MemoryStorage::new()) as Arc<dyn ballast_storage::Storage>,
    )];
    let lock = Lock::KeyFile(Secret::new("5a".repeat(32)));
    create_all(places, &lock, &Cancel::new()).await.unwrap().remove(0).0
}

/// Stores a server's log as a stream; gives it as one part.
async fn archive(repository: &Repository, source: &MysqlServer) -> StreamPart {
    let cancel = Cancel::new();
    let id = StreamId::new_random();
    let (name, log) = log_of(source.datadir());
    repository
        .create_stream(id, &serde_json::json!({}), &cancel)
        .await
        .unwrap();
    let (mut at, mut previous) = (0, Link::FIRST);
    for raw in log.chunks(SEGMENT_BYTES) {
        let end = at + raw.len() as u64;
        let place = SegmentPlace {
            start: at,
            end,
            first_at: 0,
            last_at: 0,
        };
        let sealed = repository.seal_segment(id, place, serde_json::json!({}), previous, raw);
        repository.put_segment(id, &sealed, &cancel).await.unwrap();
        (at, previous) = (end, sealed.link);
    }
    StreamPart {
        stream: id,
        file: name,
        file_at: 0,
        from_offset: 0,
        to_offset: at,
        torn: Vec::new(),
    }
}

/// The name of the first file, and all of them one behind the other.
fn log_of(folder: &Path) -> (String, Vec<u8>) {
    let index = std::fs::read_to_string(folder.join("binlog.index")).unwrap();
    let names: Vec<&str> = index.lines().map(|line| line.trim_start_matches("./")).collect();
    let mut log = Vec::new();
    for name in &names {
        let mut file = std::fs::read(folder.join(name)).unwrap();
        // As it is streamed: not in use.
        file[21] &= !1;
        log.extend(file);
    }
    (names[0].to_owned(), log)
}

fn plan_of(source: &MysqlServer, parts: Vec<StreamPart>, from: &str, skip: &[Gtid]) -> ReplayPlan {
    let flavour = match source.flavour() {
        Flavour::Mysql => LogFlavour::Mysql,
        Flavour::Mariadb => LogFlavour::MariaDb,
    };
    ReplayPlan {
        flavour,
        server_version: source.version(),
        from: ExecutedSet::parse(flavour, from).unwrap(),
        parts,
        skip: skip.to_vec(),
        expected: ExecutedSet::empty(flavour),
        transactions: 0,
        bytes: 0,
        last_kept: None,
        first_left_out: None,
        seam: None,
    }
}

/// A private server on a fresh data directory.
struct Private {
    made_by: MysqlServer,
    binary: ServerBinary,
    server: ThrowawayServer,
}

impl Private {
    async fn start(options: MysqlOptions) -> Self {
        let made_by = MysqlServer::start(options);
        made_by.stop();
        let cancel = Cancel::new();
        let binary = ServerBinary::probe(made_by.program(), &cancel).await.unwrap();
        let options = ThrowawayOptions {
            replay: Some(replay_options()),
            ..ThrowawayOptions::new(made_by.datadir().to_owned())
        };
        let server = ThrowawayServer::start(&binary, options, &cancel).await.unwrap();
        Self {
            made_by,
            binary,
            server,
        }
    }

    async fn replay(&self, context: &Context, repository: &Repository, plan: &ReplayPlan) -> Result<Replayed> {
        let replica = Replica::open(context, &self.server, &self.binary.version).await?;
        let replayed = Box::pin(replay(context, repository, plan, &replica)).await;
        replica.close().await;
        replayed
    }

    /// Stops it, and looks at what is there as any server would.
    async fn sums(self, tables: &[(String, String)]) -> BTreeMap<String, String> {
        self.server.stop().await.unwrap();
        let cancel = Cancel::new();
        let options = ThrowawayOptions::new(self.made_by.datadir().to_owned());
        let server = ThrowawayServer::start(&self.binary, options, &cancel).await.unwrap();
        let mut connection = Connection::open(server.address(), &cancel).await.unwrap();
        let rows = connection.query(&checksum(tables)).await.unwrap();
        connection.close().await;
        server.stop().await.unwrap();
        let text = |row: &ballast_mysql::Row, at| row.text(at).unwrap_or_default().into_owned();
        rows.into_iter().map(|row| (text(&row, 0), text(&row, 1))).collect()
    }
}

fn checksum(tables: &[(String, String)]) -> String {
    let list: Vec<String> = tables.iter().map(|(base, name)| quote_table(base, name)).collect();
    format!("CHECKSUM TABLE {} EXTENDED", list.join(", "))
}

fn tables(source: &MysqlServer) -> Vec<(String, String)> {
    let sql = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES
               WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA LIKE 's%' AND TABLE_SCHEMA <> 'sys' ORDER BY 1, 2";
    let rows = source.sql(sql);
    rows.into_iter()
        .map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap()))
        .collect()
}

fn sums(source: &MysqlServer) -> BTreeMap<String, String> {
    let rows = source.sql(&checksum(&tables(source)));
    rows.into_iter()
        .map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap_or_default()))
        .collect()
}

/// Row by row, in several files, with an event that is scheduled, and one that lies over many segments.
fn fill(source: &MysqlServer) {
    source.sql("CREATE DATABASE s; CREATE TABLE s.t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(50), big LONGBLOB)");
    if source.flavour() == Flavour::Mysql {
        source.sql("CREATE EVENT s.nightly ON SCHEDULE EVERY 1 DAY STARTS '2040-01-01' DO DELETE FROM s.t");
    }
    for round in 0..30 {
        source.sql(&format!(
            "INSERT INTO s.t (a) VALUES ('one {round}'), ('two {round}'); UPDATE s.t SET a = CONCAT(a, '!') WHERE id = {round}"
        ));
        if round % 10 == 5 {
            source.sql("INSERT INTO s.t (a, big) VALUES ('big', REPEAT('0123456789', 50000)); FLUSH BINARY LOGS");
        }
    }
    source.sql("CREATE TABLE s.u AS SELECT id, a FROM s.t");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_out_of_a_repository_is_replayed_whole_or_to_any_transaction() {
    let source = MysqlServer::start(MysqlOptions::default());
    fill(&source);
    let (uuid, whole) = (source.value("SELECT @@server_uuid"), source.gtid_executed());
    let repository = repository().await;
    let part = archive(&repository, &source).await;
    let (context, told) = context();
    let resolve = |from: String, skip: Vec<Gtid>, stop: Stop| {
        let plan = plan_of(&source, vec![part.clone()], &from, &skip);
        let (context, repository) = (&context, &repository);
        async move { super::resolve(context, repository, plan, &stop).await }
    };
    let set = |text: &str| ExecutedSet::parse(LogFlavour::Mysql, text).unwrap();
    let gtid = |number: u64| format!("{uuid}:{number}").parse::<Gtid>().unwrap();

    // Planned before anything is sent: where it ends, and what would be next.
    let before = resolve(String::new(), vec![], Stop::Before(gtid(20))).await.unwrap();
    assert_eq!(before.expected, set(&format!("{uuid}:1-19")));
    assert_eq!(
        (before.transactions, before.last_kept.as_ref().unwrap().gtid.clone()),
        (19, gtid(19).to_string())
    );
    let next = before.first_left_out.clone().unwrap();
    assert_eq!(next.gtid, gtid(20).to_string());
    for (stop, last) in [
        (Stop::At(next.committed_at), 20),
        (Stop::At(next.committed_at - jiff::SignedDuration::from_micros(1)), 19),
        (Stop::Position(PositionStop::Through(gtid(33))), 33),
        (Stop::Position(PositionStop::Set(set(&format!("{uuid}:1-7")))), 7),
    ] {
        let plan = resolve(String::new(), vec![], stop.clone()).await.unwrap();
        assert_eq!(plan.expected, set(&format!("{uuid}:1-{last}")), "{stop}");
    }
    for (skip, stop, words) in [
        (vec![], Stop::Before(gtid(900)), "is not in the log"),
        (
            vec![],
            Stop::Position(PositionStop::Set(set(&format!("{uuid}:1-900")))),
            ":67-900 is not in it",
        ),
        (vec![gtid(40)], Stop::Before(gtid(20)), "is to be left out"),
    ] {
        let error = resolve(String::new(), skip, stop).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotRestorable, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }

    // In two goes: the second begins where the first ended, and the log overlaps what is there already.
    let private = Private::start(MysqlOptions::default()).await;
    let replayed = private.replay(&context, &repository, &before).await.unwrap();
    assert_eq!((replayed.transactions, &replayed.executed), (19, &before.expected));
    assert_eq!(
        replayed.last_committed_at,
        before.last_kept.map(|last| last.committed_at)
    );
    let rest = resolve(format!("{uuid}:1-19"), vec![], Stop::Latest).await.unwrap();
    let replayed = private.replay(&context, &repository, &rest).await.unwrap();
    assert_eq!(replayed.executed, set(&whole));
    let seen = told.replayed.lock().unwrap().clone();
    assert!(
        seen.iter()
            .all(|(done, total)| total.is_some_and(|total| *done <= total)),
        "{seen:?}"
    );
    assert!(told.notes.lock().unwrap().iter().any(|note| note.contains("s.nightly")));
    assert_eq!(private.sums(&tables(&source)).await, sums(&source));

    // One left out: what it changed is as it was, what came after is, and it counts as executed.
    let (at, other) = (gtid(8), Private::start(MysqlOptions::default()).await);
    let plan = resolve(String::new(), vec![at], Stop::Latest).await.unwrap();
    let replayed = other.replay(&context, &repository, &plan).await.unwrap();
    assert_eq!((replayed.skipped, replayed.executed), (1, set(&whole)));
    let differing = other.sums(&tables(&source)).await;
    assert_ne!(differing["s.t"], sums(&source)["s.t"]);
}

/// Begins within a file, as a plan does that does not want to read what the backup has.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_begins_within_a_file() {
    let source = MysqlServer::start(MysqlOptions::default());
    source.sql("CREATE DATABASE s; CREATE TABLE s.t (id INT PRIMARY KEY)");
    for id in 3..=9 {
        source.sql(&format!("INSERT INTO s.t VALUES ({id})"));
    }
    let (uuid, whole) = (source.value("SELECT @@server_uuid"), source.gtid_executed());
    let repository = repository().await;
    let part = archive(&repository, &source).await;
    let (context, _) = context();
    let private = Private::start(MysqlOptions::default()).await;
    let stop = Stop::Position(PositionStop::Through(format!("{uuid}:4").parse().unwrap()));
    let first = resolve(
        &context,
        &repository,
        plan_of(&source, vec![part.clone()], "", &[]),
        &stop,
    )
    .await
    .unwrap();
    private.replay(&context, &repository, &first).await.unwrap();
    let within = StreamPart {
        from_offset: first.parts[0].to_offset,
        ..part
    };
    let plan = plan_of(&source, vec![within], &format!("{uuid}:1-4"), &[]);
    let plan = resolve(&context, &repository, plan, &Stop::Latest).await.unwrap();
    assert_eq!(plan.transactions, 5);
    let replayed = private.replay(&context, &repository, &plan).await.unwrap();
    assert_eq!(replayed.executed.to_string(), whole);
    assert_eq!(private.sums(&tables(&source)).await, sums(&source));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_takes_in_a_log_and_what_it_applied_is_counted() {
    let source = MysqlServer::start(MysqlOptions::mariadb());
    fill(&source);
    let repository = repository().await;
    let part = archive(&repository, &source).await;
    let (context, _) = context();
    let private = Private::start(MysqlOptions::mariadb()).await;
    let through = "0-1-20".parse::<Gtid>().unwrap();
    let stop = Stop::Position(PositionStop::Set(
        ExecutedSet::parse(LogFlavour::MariaDb, &through.to_string()).unwrap(),
    ));
    let plan = resolve(
        &context,
        &repository,
        plan_of(&source, vec![part.clone()], "", &[]),
        &stop,
    )
    .await
    .unwrap();
    let replayed = private.replay(&context, &repository, &plan).await.unwrap();
    assert_eq!(replayed.transactions, 20);
    let from = replayed.executed.to_string();
    let plan = plan_of(&source, vec![part], &from, &[]);
    let plan = resolve(&context, &repository, plan, &Stop::Latest).await.unwrap();
    let replayed = private.replay(&context, &repository, &plan).await.unwrap();
    assert_eq!(
        replayed.executed.to_string(),
        source.value("SELECT @@GLOBAL.gtid_binlog_pos")
    );
    assert_eq!(private.sums(&tables(&source)).await, sums(&source));
}

/// What the applier cannot do is the restore's own error, with the transaction's name.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_replayed_is_named_with_what_to_type() {
    let source = MysqlServer::start(MysqlOptions::default());
    source.sql("CREATE DATABASE s; CREATE TABLE s.t (id INT PRIMARY KEY); INSERT INTO s.t VALUES (1); INSERT INTO s.t VALUES (2)");
    let uuid = source.value("SELECT @@server_uuid");
    let repository = repository().await;
    let part = archive(&repository, &source).await;
    let (context, _) = context();
    let private = Private::start(MysqlOptions::default()).await;
    // Without the table what follows cannot be applied.
    let plan = plan_of(&source, vec![part], "", &[format!("{uuid}:2").parse().unwrap()]);
    let plan = resolve(&context, &repository, plan, &Stop::Latest).await.unwrap();
    let error = private.replay(&context, &repository, &plan).await.unwrap_err();
    // Several are applied at once, so which of the two is told first is open.
    let named = [3, 4].map(|number| error.to_string().contains(&format!("transaction {uuid}:{number}:")));
    assert_ne!(named, [false, false], "{error}");
    assert!(error.hint_text().unwrap().contains("--before"));
}
