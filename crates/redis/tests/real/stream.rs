//! The command stream: recorded, cut at a border, loaded by a stock server, and the same as the source was at that offset.

use std::time::Duration;

use ballast_base::{Cancel, Clock as _, SystemClock};
use ballast_redis::{
    Attached, Border, CommandLink, CommandScanner, Connection, DataForm, DataWriter, Info, Position, RefusingListener,
    Snapshot, SyncOptions, WalkOptions,
};
use ballast_testkit::dataset::{CacheWriters, cache};
use ballast_testkit::servers::RedisServer;

use crate::common::{FLAVOURS, address, debug_digest, load, now_ms, options, snapshot_of, start, take};

/// Records what a link receives, and where it may be cut.
struct Recording {
    from: u64,
    bytes: Vec<u8>,
    borders: Vec<Border>,
}

impl Recording {
    /// Receives until `to` has come, acknowledging.
    async fn receive(&mut self, link: &mut CommandLink, to: u64) {
        let clock = SystemClock::new();
        let give_up_at = clock.elapsed() + Duration::from_secs(60);
        while self.from + (self.bytes.len() as u64) < to {
            assert!(clock.elapsed() < give_up_at, "the stream has stopped");
            let mut borders = Vec::new();
            let piece = {
                let mut on_command = |command: &ballast_redis::StreamCommand<'_>| {
                    if command.is_border {
                        borders.push(Border {
                            offset: command.to,
                            database: command.database,
                        });
                    }
                };
                let every = link.acknowledge_every();
                tokio::select! {
                    piece = link.next(&mut on_command) => Some(piece.unwrap()),
                    () = clock.sleep(every) => None,
                }
            };
            self.borders.extend(borders);
            if let Some(piece) = &piece {
                assert_eq!(piece.from, self.from + self.bytes.len() as u64);
                self.bytes.extend_from_slice(&piece.bytes);
                assert_eq!(piece.to, self.from + self.bytes.len() as u64);
            }
            let here = self.from + self.bytes.len() as u64;
            link.acknowledge(here, Some(here)).await.unwrap();
        }
    }

    fn between(&self, from: u64, to: u64) -> &[u8] {
        let at = |offset: u64| usize::try_from(offset - self.from).unwrap();
        &self.bytes[at(from)..at(to)]
    }
}

/// The source's digest and its offset at one instant.
fn checkpoint(server: &RedisServer) -> (String, u64) {
    let mut client = server.client();
    client.send(&[b"MULTI"]);
    client.send(&[b"DEBUG", b"DIGEST"]);
    client.send(&[b"INFO", b"replication"]);
    let answer = client.send(&[b"EXEC"]);
    let (digest, info) = answer.split_once('\n').unwrap();
    let offset = Info::parse(info).number("master_repl_offset").unwrap();
    (digest.to_owned(), offset)
}

async fn position(server: &RedisServer) -> Position {
    let mut connection = Connection::open(&address(server), &Cancel::new()).await.unwrap();
    Info::read(&mut connection).await.unwrap().position().unwrap()
}

async fn attach(server: &RedisServer, options: &SyncOptions) -> CommandLink {
    let at = position(server).await;
    let scanner = CommandScanner::new(at.offset, 0);
    let attached = CommandLink::attach(&address(server), options, &at.history, scanner, &Cancel::new())
        .await
        .unwrap();
    match attached {
        Attached::Following(link) => *link,
        Attached::Restarted(_) => panic!("the backlog was there"),
    }
}

/// Writers run while the base is taken and after; each checkpoint is rebuilt from the base and the stream up to its offset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn base_and_commands_are_the_source_at_any_border() {
    for flavour in FLAVOURS {
        let server = start(flavour);
        cache::load(&server);
        let options = options(&server).await;
        // The first snapshot makes the server keep a backlog.
        snapshot_of(&address(&server), &options, WalkOptions::default()).await;
        let mut link = attach(&server, &options).await;
        let mut recording = Recording {
            from: link.scanner().offset(),
            bytes: Vec::new(),
            borders: Vec::new(),
        };
        let forks = server.command(&["INFO", "stats"]);
        let forks = Info::parse(&forks).number("total_forks").unwrap();
        let writers = CacheWriters::start(&server, 3);
        SystemClock::new().sleep(Duration::from_millis(300)).await;
        let mut base = Snapshot::start(&address(&server), &options, &Cancel::new())
            .await
            .unwrap();
        let (base_bytes, base_summary) = take(&mut base, WalkOptions::default()).await.unwrap();
        assert_eq!(base.position().history, link.history());
        let mut checkpoints = Vec::new();
        for _ in 0..3 {
            recording.receive(&mut link, position(&server).await.offset).await;
            SystemClock::new().sleep(Duration::from_millis(250)).await;
            checkpoints.push(checkpoint(&server));
        }
        let commands = writers.stop();
        checkpoints.push(checkpoint(&server));
        let last = checkpoints.last().unwrap().1;
        recording.receive(&mut link, last).await;
        assert!(
            recording
                .borders
                .iter()
                .any(|border| border.offset == base.position().offset),
            "a base lies at a border"
        );
        let after = Info::parse(&server.command(&["INFO", "stats"]));
        assert_eq!(after.number("total_forks"), Some(forks + 1), "following costs no fork");
        assert!(base_summary.keys() > 0 && commands > 500, "{commands}");
        for (number, (digest, offset)) in checkpoints.iter().enumerate() {
            assert!(
                recording.borders.iter().any(|border| border.offset == *offset),
                "{offset} is a border"
            );
            let form = if number % 2 == 0 {
                DataForm::MultiPart
            } else {
                DataForm::SingleFile
            };
            let folder = tempfile::tempdir().unwrap();
            let mut writer = DataWriter::create(folder.path(), form).unwrap();
            writer.write(&base_bytes).unwrap();
            writer.begin_commands(0).unwrap();
            writer
                .write(recording.between(base.position().offset, *offset))
                .unwrap();
            writer.finish().unwrap();
            let loaded = load(&server, folder.path(), form).await;
            assert_eq!(
                &debug_digest(loaded.address()).await,
                digest,
                "{flavour:?} checkpoint {number} {form:?}"
            );
            if *offset == last {
                // Our own digest says the same; what expires meanwhile is left out on both sides.
                let gone = WalkOptions {
                    gone_until: Some(now_ms() + 3000),
                    ..WalkOptions::default()
                };
                let (_, source) = snapshot_of(&address(&server), &options, gone.clone()).await;
                loaded.lead().await.unwrap();
                let (_, restored) = snapshot_of(loaded.address(), &options, gone).await;
                assert_eq!(source.differences(&restored), Vec::<String>::new(), "{flavour:?}");
                assert!(source.keys() > 500);
            }
            loaded.discard().await.unwrap();
        }
    }
}

/// After a cut the stream goes on with the next byte; what the server has forgotten is a restart, told as such.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_goes_on_after_a_cut_and_a_restart_is_told() {
    for flavour in FLAVOURS {
        let server = start(flavour);
        server.command(&["SET", "a", "1"]);
        let sync = options(&server).await;
        snapshot_of(&address(&server), &sync, WalkOptions::default()).await;
        let mut link = attach(&server, &sync).await;
        let mut recording = Recording {
            from: link.scanner().offset(),
            bytes: Vec::new(),
            borders: Vec::new(),
        };
        let mut client = server.client();
        client.send(&[b"SELECT", b"7"]);
        client.send(&[b"SET", b"b", b"2"]);
        recording.receive(&mut link, position(&server).await.offset).await;
        assert_eq!(recording.borders.last().unwrap().database, 7);
        server.command(&["CLIENT", "KILL", "TYPE", "replica"]);
        client.send(&[b"SET", b"c", b"3"]);
        let (history, scanner) = (link.history().to_owned(), link.into_scanner());
        let to = position(&server).await.offset;
        let attached = CommandLink::attach(&address(&server), &sync, &history, scanner, &Cancel::new())
            .await
            .unwrap();
        let Attached::Following(mut link) = attached else {
            panic!("the backlog reaches back");
        };
        recording.receive(&mut link, to).await;
        // No SELECT comes again: the database is remembered.
        assert_eq!(
            recording.borders.last().unwrap(),
            &Border {
                offset: to,
                database: 7
            }
        );
        assert!(recording.bytes.ends_with(b"$1\r\nc\r\n$1\r\n3\r\n"));

        let unknown = "0123456789abcdef0123456789abcdef01234567";
        let scanner = CommandScanner::new(1_000_000, 0);
        let attached = CommandLink::attach(&address(&server), &sync, unknown, scanner, &Cancel::new())
            .await
            .unwrap();
        let Attached::Restarted(mut snapshot) = attached else {
            panic!("nobody knows that history");
        };
        let (_, summary) = take(&mut snapshot, WalkOptions::default()).await.unwrap();
        assert_eq!(summary.keys(), 3);
        let from = snapshot.position().clone();
        let mut link = snapshot.into_link().unwrap();
        let mut recording = Recording {
            from: from.offset,
            bytes: Vec::new(),
            borders: Vec::new(),
        };
        client.send(&[b"SET", b"d", b"4"]);
        recording.receive(&mut link, position(&server).await.offset).await;
        assert!(
            recording.bytes.starts_with(b"*2\r\n$6\r\nSELECT\r\n"),
            "a database is chosen again"
        );
        assert!(link.history() == from.history && recording.bytes.ends_with(b"$1\r\n4\r\n"));
    }
}

/// `WAITAOF` counts what is durable here, `WAIT` what has arrived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_counts_what_is_acknowledged() {
    for flavour in FLAVOURS {
        let server = start(flavour);
        let sync = options(&server).await;
        snapshot_of(&address(&server), &sync, WalkOptions::default()).await;
        let mut link = attach(&server, &sync).await;
        let mut client = server.client();
        client.send(&[b"SET", b"a", b"1"]);
        let has_waitaof = server.knows("WAITAOF");
        let waiting = std::thread::spawn(move || {
            let arrived = client.send(&[b"WAIT", b"1", b"10000"]);
            let durable = has_waitaof.then(|| client.send(&[b"WAITAOF", b"0", b"1", b"10000"]));
            (arrived, durable)
        });
        let mut asked = 0;
        // Only who asks is answered: so it must be the answer that counts.
        while !waiting.is_finished() {
            let clock = SystemClock::new();
            let mut on_command = |_: &ballast_redis::StreamCommand<'_>| {};
            tokio::select! {
                piece = link.next(&mut on_command) => {
                    let piece = piece.unwrap();
                    if piece.wants_answer {
                        asked += 1;
                        link.acknowledge(piece.to, Some(piece.to)).await.unwrap();
                    }
                }
                () = clock.sleep(Duration::from_millis(50)) => {}
            }
        }
        let (arrived, durable) = waiting.join().unwrap();
        assert_eq!(arrived, "1", "{flavour:?}");
        assert!(durable.is_none_or(|durable| durable == "0\n1"), "{flavour:?}");
        assert!(asked > 0, "GETACK was seen");
    }
}

/// `FAILOVER` chooses the only replica there is, which is us: it is refused, and the server stays the primary it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_us_is_refused_and_the_source_goes_on() {
    for flavour in FLAVOURS {
        let server = start(flavour);
        let listener = RefusingListener::start(&address(&server), &Cancel::new())
            .await
            .unwrap();
        let listener = listener.expect("the server is spoken to by TCP");
        let mut sync = options(&server).await;
        sync.announced_port = Some(listener.port());
        snapshot_of(&address(&server), &sync, WalkOptions::default()).await;
        let mut link = attach(&server, &sync).await;
        let history = link.history().to_owned();
        server.command(&["SET", "a", "1"]);
        let mut asked = false;
        let clock = SystemClock::new();
        let give_up_at = clock.elapsed() + Duration::from_secs(30);
        // The connection ends when the server makes itself a replica.
        loop {
            assert!(clock.elapsed() < give_up_at, "{flavour:?}: no failover was tried");
            let mut on_command = |_: &ballast_redis::StreamCommand<'_>| {};
            let every = Duration::from_millis(20);
            let outcome = tokio::select! {
                piece = link.next(&mut on_command) => piece.map(|_| ()),
                () = clock.sleep(every) => Ok(()),
            };
            let at = link.scanner().offset();
            if outcome.is_err() || link.acknowledge(at, None).await.is_err() {
                break;
            }
            if !asked && position(&server).await.offset == at {
                asked = true;
                assert_eq!(server.command(&["FAILOVER"]), "OK");
            }
        }
        let mut written = String::new();
        while written != "OK" {
            assert!(clock.elapsed() < give_up_at, "{flavour:?}: {written}");
            written = server.command(&["SET", "b", "2"]);
            clock.sleep(Duration::from_millis(5)).await;
        }
        let scanner = link.into_scanner();
        let attached = CommandLink::attach(&address(&server), &sync, &history, scanner, &Cancel::new()).await;
        let Attached::Following(mut link) = attached.unwrap() else {
            panic!("{flavour:?}: nothing is lost by a failover that did not come to be");
        };
        let mut seen = Vec::new();
        while !seen.ends_with(b"$1\r\nb\r\n$1\r\n2\r\n") {
            let piece = link.next(&mut |_: &ballast_redis::StreamCommand<'_>| {}).await.unwrap();
            seen.extend_from_slice(&piece.bytes);
        }
    }
}
