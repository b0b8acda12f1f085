//! A real server's log, captured as a recorder does it, and backups at known transactions: what is chosen for which stop.

mod lives;

use std::sync::{Arc, Mutex};

use ballast_base::{Cancel, Secret, SystemClock};
use ballast_mysql::{LogWalker, Walked};
use ballast_repository::{BackupId, BackupWriter, Link, StreamId};
use ballast_storage::{ObjectName, StorageSettings};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::*;
use crate::catalog::list;
use crate::observer::{Event, Observer, Progress};
use crate::restore_plan::RestoreTarget;
use crate::settings::{KeyMaterial, RepositorySettings, ToolPlaces};
use crate::timeline::timeline;

/// Much smaller than real ones: a transaction lies over several.
const SEGMENT_BYTES: usize = 400;

/// What was warned of, with its hint.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<(String, String)>>);

impl Observer for Heard {
    fn progress(&self, _: &Progress) {}
    fn event(&self, event: &Event) {
        if let Event::Warning { message, hint } = event {
            let warning = (message.clone(), hint.clone().unwrap_or_default());
            self.0.lock().unwrap().push(warning);
        }
    }
}

struct Transaction {
    start: u64,
    end: u64,
    gtid: Gtid,
    at: u64,
}

/// A log as it was captured: the files one behind the other, and what is in them.
struct Log {
    bytes: Vec<u8>,
    files: Vec<(String, u64)>,
    transactions: Vec<Transaction>,
}

impl Log {
    fn of(source: &MysqlServer) -> Self {
        let folder = source.datadir();
        let index = std::fs::read_to_string(folder.join("binlog.index")).unwrap();
        let (mut bytes, mut files) = (Vec::new(), Vec::new());
        for name in index.lines().map(|line| line.trim_start_matches("./")) {
            let mut file = std::fs::read(folder.join(name)).unwrap();
            // As it is streamed: not in use.
            file[21] &= !1;
            files.push((name.to_owned(), bytes.len() as u64));
            bytes.extend(file);
        }
        let mut walker = LogWalker::new(LogFlavour::Mysql, 0);
        let (mut transactions, mut underway) = (Vec::new(), None);
        for walked in walker.push(&bytes).unwrap() {
            match walked {
                Walked::TransactionStart { offset, head } => underway = Some((offset, head)),
                Walked::TransactionEnd { offset } => {
                    let (start, head) = underway.take().unwrap();
                    transactions.push(Transaction {
                        start,
                        end: offset,
                        gtid: head.gtid.unwrap(),
                        at: head.committed_at,
                    });
                }
                _ => {}
            }
        }
        Self {
            bytes,
            files,
            transactions,
        }
    }

    fn executed(&self, offset: u64) -> ExecutedSet {
        let mut set = ExecutedSet::empty(LogFlavour::Mysql);
        for transaction in self.transactions.iter().filter(|transaction| transaction.end <= offset) {
            set.add(&transaction.gtid).unwrap();
        }
        set
    }

    /// When the transaction of this number was committed.
    fn at(&self, number: usize) -> Timestamp {
        Timestamp::from_microsecond(self.transactions[number - 1].at.try_into().unwrap()).unwrap()
    }

    /// Stores the bytes `from` to `to` as a stream that began at `started_at`.
    async fn capture(
        &self,
        repository: &Repository,
        (from, to): (u64, u64),
        started_at: Timestamp,
        cause: Option<&str>,
    ) -> (StreamId, Vec<SegmentPlace>) {
        let (id, cancel) = (StreamId::new_random(), Cancel::new());
        let first = self.files.iter().rfind(|(_, at)| *at <= from).unwrap();
        assert_eq!(first.1, from, "a stream begins with a file");
        let after = cause.map(|cause| json!({"stream": "", "held": "", "cause": cause, "missing": ""}));
        let facts = json!({
            "source": "orders", "flavour": "mysql", "server_uuid": "", "server_id": 1, "server_version": "9.7.4",
            "started_at": started_at, "first_file": first.0, "before": self.executed(from), "head": "", "after": after,
        });
        repository.create_stream(id, &facts, &cancel).await.unwrap();
        let between = |offset: u64| !self.transactions.iter().any(|t| t.start < offset && offset < t.end);
        let (mut start, mut link, mut places) = (from, Link::FIRST, Vec::new());
        while start < to {
            let end = to.min(start + SEGMENT_BYTES as u64);
            let begun: Vec<_> = self
                .transactions
                .iter()
                .filter(|t| start <= t.start && t.start < end)
                .collect();
            let place = SegmentPlace {
                start: start - from,
                end: end - from,
                first_at: begun.first().map_or(0, |t| t.at),
                last_at: begun.last().map_or(0, |t| t.at),
            };
            let files: Vec<_> = self
                .files
                .iter()
                .enumerate()
                .filter(|(number, (_, at))| {
                    *at < end && self.files.get(number + 1).is_none_or(|(_, next)| *next > start)
                })
                .map(|(_, (name, at))| {
                    let begin = start.max(*at);
                    json!({"name": name, "offset": begin - at, "at": begin - from, "head": ""})
                })
                .collect();
            let mut facts = json!({
                "files": files, "before": self.executed(start), "through": self.executed(end), "transactions": begun.len(),
                "first_transaction": begun.first().map(|t| t.start - from), "starts_between": between(start),
                "ends_between": between(end), "sealed_at": started_at,
            });
            if cause.is_none() {
                // Earlier recorders did not say it.
                facts.as_object_mut().unwrap().remove("ends_between");
            }
            let raw = &self.bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
            let sealed = repository.seal_segment(id, place, facts, link, raw);
            repository.put_segment(id, &sealed, &cancel).await.unwrap();
            places.push(place);
            (start, link) = (end, sealed.link);
        }
        (id, places)
    }
}

struct Site {
    context: Context,
    heard: Arc<Heard>,
    vault: Vault,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        let heard = Arc::new(Heard::default());
        let context = Context {
            clock: Arc::new(SystemClock::new()),
            cancel: Cancel::new(),
            observer: Arc::clone(&heard) as Arc<dyn Observer>,
        };
        let folder = tempfile::tempdir().unwrap();
        let repository = RepositorySettings {
            name: "local".to_owned(),
            storage: StorageSettings {
                url: format!("file://{}", folder.path().join("repository").display()),
                endpoint: None,
                region: None,
                access_key: None,
                secret_key: None,
                session_token: None,
                ca_file: None,
                insecure: false,
            },
        };
        let key = KeyMaterial::KeyFile(Secret::new("5a".repeat(32)));
        let repositories = std::slice::from_ref(&repository);
        Vault::init(&context, repositories, &key).await.unwrap();
        let vault = Vault::open(&context, repositories, &key).await.unwrap();
        Self {
            context,
            heard,
            vault,
            _folder: folder,
        }
    }

    fn repository(&self) -> &Repository {
        &self.vault.repositories()[0]
    }

    /// A backup that holds this, and nothing else of interest.
    async fn back_up(&self, at: Timestamp, held: &ExecutedSet) -> String {
        self.back_up_as("physical", at, held).await
    }

    async fn back_up_as(&self, engine: &str, at: Timestamp, held: &ExecutedSet) -> String {
        let id = BackupId::new(at);
        let facts = json!({
            "source": "orders", "kind": "mysql", "engine": engine, "started_at": at, "finished_at": at, "snapshot_at": at,
            "position": {"gtid_executed": held, "exact": true}, "tables": 1, "missing": [], "bytes_source": 1, "bytes_new": 1,
            "bytes_stored": 1, "server_version": "9.7.4", "server_uuid": "", "made_by": "test",
        });
        let writer = BackupWriter::begin(vec![self.repository().clone()], 1, &self.context.cancel)
            .await
            .unwrap();
        writer
            .finish(id.clone(), Vec::new(), json!({}), |_| facts)
            .await
            .unwrap();
        id.to_string()
    }

    async fn plan(&self, stop: Option<Stop>, backup: Option<&str>) -> Result<Option<Chosen>> {
        self.plan_with(stop, backup, &|_| true).await
    }

    async fn plan_with(
        &self,
        stop: Option<Stop>,
        backup: Option<&str>,
        usable: &(dyn Fn(&BackupSummary) -> bool + Sync),
    ) -> Result<Option<Chosen>> {
        let request = Self::request(stop, backup);
        let backups = list(&self.context, &self.vault, Some("orders")).await?;
        plan_log(&self.context, &self.vault, &request, &backups, usable).await
    }

    fn request(stop: Option<Stop>, backup: Option<&str>) -> RestoreRequest {
        RestoreRequest {
            source: "orders".to_owned(),
            target: RestoreTarget::DataDir("unused".into()),
            target_password: None,
            backup: backup.map(str::to_owned),
            stop,
            skip: Vec::new(),
            keep_off: Vec::new(),
            replace: false,
            mysqld: None,
            mariadbd: None,
            probed: None,
            no_binlog: false,
            tools: ToolPlaces {
                named: None,
                folders: Vec::new(),
            },
            only: Vec::new(),
            rename: Vec::new(),
            scratch: "unused".into(),
        }
    }

    async fn remove(&self, id: StreamId, place: &SegmentPlace) {
        let name = ObjectName::new(&format!("logs/{id}/{place}")).unwrap();
        self.repository().storage().delete(&name).await.unwrap();
    }
}

/// 33 transactions in three files.
fn source() -> MysqlServer {
    let source = MysqlServer::start(MysqlOptions::default());
    source.sql("CREATE DATABASE s; CREATE TABLE s.t (id INT PRIMARY KEY, a VARCHAR(900))");
    for id in 3..=33 {
        let size = if id % 5 == 0 { 900 } else { 9 };
        source.sql(&format!("INSERT INTO s.t VALUES ({id}, REPEAT('x', {size}))"));
        if id % 12 == 0 {
            source.sql("FLUSH BINARY LOGS");
        }
    }
    source
}

const TICK: SignedDuration = SignedDuration::from_micros(1);

#[tokio::test(flavor = "multi_thread")]
async fn every_stop_finds_its_backup_and_reads_no_more_than_it_needs() {
    let source = source();
    let uuid = source.value("SELECT @@server_uuid");
    let log = Log::of(&source);
    assert_eq!((log.transactions.len(), log.files.len()), (33, 3));
    let set = |last: u64| ExecutedSet::try_from(format!("{uuid}:1-{last}")).unwrap();
    let gtid = |number: u64| format!("{uuid}:{number}").parse::<Gtid>().unwrap();
    let site = Site::new().await;
    // The log alone: nothing to begin with.
    let (id, places) = log
        .capture(site.repository(), (0, log.bytes.len() as u64), log.at(1), None)
        .await;
    assert!(site.plan(Some(Stop::Latest), None).await.is_err());
    let first = site.back_up(log.at(5) + TICK, &set(5)).await;
    let second = site.back_up(log.at(20) + TICK, &set(20)).await;

    let file = {
        let (name, at) = &log.files[0];
        PositionStop::File {
            file: name.clone(),
            offset: log.transactions[9].end - at,
        }
    };
    for (stop, backup, last) in [
        (None, &second, 33),
        (Some(Stop::Latest), &second, 33),
        (Some(Stop::At(log.at(33))), &second, 33),
        (Some(Stop::At(log.at(28) - TICK)), &second, 27),
        (Some(Stop::At(log.at(20) + TICK)), &second, 20),
        (Some(Stop::At(log.at(20))), &first, 20),
        (Some(Stop::At(log.at(12))), &first, 12),
        (Some(Stop::Before(gtid(15))), &first, 14),
        (Some(Stop::Before(gtid(21))), &second, 20),
        (Some(Stop::Position(PositionStop::Through(gtid(21)))), &second, 21),
        (Some(Stop::Position(PositionStop::Set(set(18)))), &first, 18),
        (Some(Stop::Position(file)), &first, 10),
    ] {
        let what = format!("{stop:?}");
        let chosen = site.plan(stop, None).await.unwrap().expect(&what);
        let replay = chosen.replay.expect(&what);
        assert_eq!((&chosen.backup.id, &replay.expected), (backup, &set(last)), "{what}");
        let held = if *backup == first { 5 } else { 20 };
        assert_eq!(replay.transactions, last - held, "{what}");
        let next = replay.first_left_out.as_ref().map(|line| line.gtid.clone());
        assert!(next.is_none_or(|next| next == gtid(last + 1).to_string()), "{what}");
        // What the backup holds is not read, but for the rest of a segment.
        let part = &replay.parts[0];
        let begin = log.transactions[usize::try_from(held).unwrap()].start;
        let largest = log.transactions.iter().map(|t| t.end - t.start).max().unwrap();
        assert!(
            part.from_offset <= begin && begin - part.from_offset < largest + 2 * SEGMENT_BYTES as u64,
            "{what}"
        );
        let in_file = log.files.iter().rfind(|(_, at)| *at <= part.from_offset).unwrap();
        assert_eq!((&part.file, part.file_at), (&in_file.0, in_file.1), "{what}");
    }

    // A backup that is named is begun with, and alone if nothing else is asked for.
    assert!(site.plan(None, Some(&first)).await.unwrap().is_none());
    let chosen = site
        .plan(Some(Stop::At(log.at(28))), Some(&first))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((&chosen.backup.id, chosen.replay.unwrap().transactions), (&first, 23));

    // What cannot be is refused, with what can.
    for (stop, words) in [
        (Stop::At(log.at(3)), log.at(5) + TICK),
        (Stop::At(log.at(33) + TICK), log.at(33)),
        (Stop::Before(gtid(3)), log.at(33)),
        (Stop::Before(gtid(99)), log.at(33)),
    ] {
        let error = site.plan(Some(stop.clone()), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotRestorable, "{stop}");
        assert!(
            error.hint_text().unwrap().contains(&words.to_string()),
            "{stop}: {error:?}"
        );
    }

    // What the server never had just so.
    let error = |stop: &str| {
        let set = ExecutedSet::try_from(format!("{uuid}:{stop}")).unwrap();
        site.plan(Some(Stop::Position(PositionStop::Set(set))), None)
    };
    let odd = error("1-22:24").await.unwrap_err();
    assert_eq!(odd.kind(), ErrorKind::NotRestorable);
    let words = format!("transaction {uuid}:23, committed at {}, is not in it", log.at(23));
    assert!(odd.to_string().contains(&words), "{odd}");
    assert!(
        odd.hint_text().unwrap().contains(&format!("--before {uuid}:23")),
        "{odd:?}"
    );

    // A hole behind transaction 8: what lies in it or needs it is refused, what is on either side is not.
    let hole = places
        .iter()
        .find(|place| place.start > log.transactions[7].end)
        .unwrap();
    site.remove(id, hole).await;
    let moments = timeline(&site.context, &site.vault, "orders").await.unwrap();
    assert_eq!((moments.points.len(), moments.gaps.len()), (2, 1), "{moments:?}");
    assert_eq!(moments.gaps[0].to, log.at(20) + TICK);
    assert!(moments.gaps[0].cause.starts_with("bytes "), "{moments:?}");
    let error = site.plan(Some(Stop::At(log.at(15))), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRestorable);
    assert!(error.to_string().contains("lies in a gap"), "{error}");
    let before = site.plan(Some(Stop::At(log.at(8))), None).await.unwrap().unwrap();
    assert_eq!(before.replay.unwrap().expected, set(8));
    let behind = site.plan(None, None).await.unwrap().unwrap();
    assert_eq!((&behind.backup.id, behind.replay.unwrap().expected), (&second, set(33)));

    rows_stay_where_they_are(&log, set).await;
}

/// As a running server takes them: the rows alone. What the log has beside them is said.
async fn rows_stay_where_they_are(log: &Log, set: impl Fn(u64) -> ExecutedSet) {
    let site = Site::new().await;
    let end = log.bytes.len() as u64;
    log.capture(site.repository(), (0, end), log.at(1), None).await;
    let snapshot = log.at(20) + TICK;
    let rows = site.back_up_as("logical", snapshot, &set(20)).await;
    let files = |backup: &BackupSummary| backup.engine == Some(crate::settings::Engine::Physical);
    let warnings = || std::mem::take(&mut *site.heard.0.lock().unwrap());
    assert!(site.plan_with(None, None, &files).await.unwrap().is_none());
    let message = format!(
        "the recorded log leads on to {}; rows that are loaded into a running server stay at the backup's moment {snapshot}",
        log.at(33)
    );
    let hint = "for the log on top, restore to --to datadir:PATH".to_owned();
    assert_eq!(warnings(), [(message, hint.clone())]);
    // The backup that is named, and nothing else.
    assert!(site.plan_with(None, Some(&rows), &files).await.unwrap().is_none());
    for (stop, hint) in [
        (Stop::Latest, hint.clone()),
        (Stop::At(log.at(28)), hint.clone()),
        (Stop::At(log.at(33) + TICK), hint),
        (
            Stop::At(snapshot),
            format!("load it with --backup {rows}, without a stop"),
        ),
    ] {
        let error = site.plan_with(Some(stop), None, &files).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotRestorable, "{error}");
        assert!(error.to_string().contains("not taken on by the log"), "{error}");
        assert!(error.hint_text().unwrap().contains(&hint), "{error:?}");
    }
    // Nothing was committed since: nothing to say.
    site.back_up_as("logical", log.at(33), &set(33)).await;
    assert!(site.plan_with(None, None, &files).await.unwrap().is_none());
    assert_eq!(warnings(), []);
    // A newer one of rows than what files and log lead to is not passed over in silence.
    let site_of_files = Site::new().await;
    log.capture(site_of_files.repository(), (0, end), log.at(1), None).await;
    site_of_files.back_up(log.at(5) + TICK, &set(5)).await;
    let later = log.at(33) + SignedDuration::from_secs(1);
    let newer = site_of_files.back_up_as("logical", later, &set(33)).await;
    let chosen = site_of_files.plan_with(None, None, &files).await.unwrap().unwrap();
    assert_eq!(chosen.replay.unwrap().transactions, 28);
    let said = std::mem::take(&mut *site_of_files.heard.0.lock().unwrap());
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].0.contains(&newer) && said[0].0.contains("passed over"),
        "{said:?}"
    );
    assert_eq!(said[0].1, format!("load it alone with --backup {newer}"));
    // Of files beside them, the moments that only these lead to are had, and the others are refused for what they are.
    site.back_up(log.at(25) + TICK, &set(25)).await;
    let stop = |at: Timestamp| Some(Stop::At(at));
    let chosen = site.plan_with(stop(log.at(28)), None, &files).await.unwrap().unwrap();
    assert_eq!(chosen.replay.unwrap().transactions, 3);
    let error = site.plan_with(stop(log.at(22)), None, &files).await.unwrap_err();
    assert!(error.to_string().contains("not taken on by the log"), "{error}");
    let error = site.plan_with(stop(log.at(3)), None, &files).await.unwrap_err();
    assert!(error.to_string().contains("before the earliest moment"), "{error}");
}

/// The recorder began again with the second file: what was before is in the first capture only.
#[tokio::test(flavor = "multi_thread")]
async fn captures_that_follow_each_other_are_one_log() {
    let source = source();
    let uuid = source.value("SELECT @@server_uuid");
    let log = Log::of(&source);
    let set = |last: u64| ExecutedSet::try_from(format!("{uuid}:1-{last}")).unwrap();
    let site = Site::new().await;
    let backup = site.back_up(log.at(5) + TICK, &set(5)).await;
    // Ends within transaction 15, in the second file.
    let cut = log.transactions[14].start + 60;
    let (first, places) = log.capture(site.repository(), (0, cut), log.at(1), None).await;
    let moments = timeline(&site.context, &site.vault, "orders").await.unwrap();
    // Of transaction 15 nothing is known but that it begins: the moments before it.
    assert_eq!(moments.latest, Some(log.at(15) - TICK), "{moments:?}");
    let (second, end) = (log.files[1].1, log.bytes.len() as u64);
    log.capture(site.repository(), (second, end), log.at(17), Some("spool-lost"))
        .await;
    let moments = timeline(&site.context, &site.vault, "orders").await.unwrap();
    assert_eq!(
        (moments.points.len(), moments.latest),
        (1, Some(log.at(33))),
        "{moments:?}"
    );
    for last in [14, 15, 30, 33] {
        let stop = Stop::At(log.at(usize::try_from(last).unwrap()));
        let chosen = site.plan(Some(stop), None).await.unwrap().unwrap();
        let replay = chosen.replay.unwrap();
        assert_eq!((&chosen.backup.id, &replay.expected), (&backup, &set(last)));
        assert_eq!(
            replay.parts.len(),
            if last == 14 { 1 } else { 2 },
            "{last}: {:?}",
            replay.parts
        );
    }

    // The server never had these without those before them.
    let odd = ExecutedSet::try_from(format!("{uuid}:25-30")).unwrap();
    let stop = Stop::Position(PositionStop::Set(odd));
    let odd = site.plan(Some(stop), None).await.unwrap_err();
    assert_eq!(odd.kind(), ErrorKind::NotRestorable);
    let words = format!("is no point in the log: {uuid}:1-");
    assert!(
        odd.to_string().contains(&words) && odd.to_string().contains("came before it"),
        "{odd}"
    );

    // One whose clock was behind holds more than its moment says: the one before it is taken.
    let early = site.back_up(log.at(10), &set(13)).await;
    let chosen = site.plan(Some(Stop::At(log.at(11))), None).await.unwrap().unwrap();
    assert_eq!((&chosen.backup.id, chosen.replay.unwrap().expected), (&backup, set(11)));
    let chosen = site.plan(Some(Stop::At(log.at(14))), None).await.unwrap().unwrap();
    assert_eq!((&chosen.backup.id, chosen.replay.unwrap().expected), (&early, set(14)));

    // `verify SOURCE` reads the captures of that source, and of no other.
    let scope = |source: &str| crate::verify::VerifyScope {
        source: Some(source.to_owned()),
        backup: None,
    };
    let verified = crate::verify(&site.context, &site.vault, &scope("orders"))
        .await
        .unwrap();
    assert_eq!(
        (verified.repositories[0].streams, verified.damaged()),
        (2, false),
        "{verified:?}"
    );
    assert!(
        crate::verify(&site.context, &site.vault, &scope("other"))
            .await
            .is_err()
    );
    site.remove(first, &places[3]).await;
    let verified = crate::verify(&site.context, &site.vault, &scope("orders"))
        .await
        .unwrap();
    let finding = &verified.repositories[0].findings[0];
    assert_eq!((verified.damaged(), &finding.stream), (true, &Some(first.to_string())));
}
