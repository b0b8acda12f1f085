use proptest::prelude::*;

use super::super::testing::Written;
use super::*;

fn walk(flavour: LogFlavour, bytes: &[u8]) -> Result<Vec<Walked>, MysqlError> {
    LogWalker::new(flavour, 0).push(bytes)
}

fn rotate(written: &mut Written, next: &str) {
    let body = [&4u64.to_le_bytes()[..], next.as_bytes()].concat();
    written.event(EventHeader::ROTATE, &body);
}

/// Two files with everything that a walker tells.
fn two_files(checksums: bool) -> Vec<u8> {
    let mut written = Written::new(checksums);
    written.event(EventHeader::PREVIOUS_GTIDS, &[0; 8]);
    written.transaction(1, 100);
    written.transaction(2, 70_000);
    rotate(&mut written, "binlog.000002");
    written.file();
    written.event(EventHeader::PREVIOUS_GTIDS, &[0; 8]);
    written.transaction(3, 1);
    written.event(EventHeader::INCIDENT, &[1, 0, 0]);
    written.event(EventHeader::STOP, &[]);
    written.bytes
}

fn names(found: &[Walked]) -> Vec<&'static str> {
    found
        .iter()
        .map(|walked| match walked {
            Walked::FileStart { .. } => "file",
            Walked::Format { .. } => "format",
            Walked::Previous { .. } => "previous",
            Walked::TransactionStart { .. } => "start",
            Walked::TransactionEnd { .. } => "end",
            Walked::TransactionCut { .. } => "cut",
            Walked::Rotate { .. } => "rotate",
            Walked::Stop => "stop",
            Walked::Incident => "incident",
        })
        .collect()
}

#[test]
fn files_and_transactions_are_told_with_their_borders() {
    for checksums in [true, false] {
        let bytes = two_files(checksums);
        let mut walker = LogWalker::new(LogFlavour::Mysql, 1000);
        let found = walker.push(&bytes).unwrap();
        assert_eq!(
            names(&found),
            [
                "file", "format", "previous", "start", "end", "start", "end", "rotate", "file", "format", "previous",
                "start", "end", "incident", "stop"
            ]
        );
        assert!(walker.at_event_border() && walker.between_transactions());
        assert_eq!(walker.offset(), 1000 + bytes.len() as u64);
        let Walked::TransactionStart { offset, head } = &found[5] else {
            unreachable!("{:?}", found[5]);
        };
        assert_eq!(head.committed_at, 1_700_000_000_000_002);
        assert_eq!(found[4], Walked::TransactionEnd { offset: *offset });
        assert_eq!(
            found[6],
            Walked::TransactionEnd {
                offset: offset + head.length.unwrap()
            }
        );
    }
}

#[test]
fn a_file_that_is_open_has_a_flag_its_checksum_does_not_know() {
    let mut bytes = two_files(true);
    bytes[21] |= 1;
    assert!(walk(LogFlavour::Mysql, &bytes).is_ok());
    bytes[21] |= 2;
    assert!(
        walk(LogFlavour::Mysql, &bytes)
            .unwrap_err()
            .to_string()
            .contains("checksum")
    );
}

#[test]
fn a_time_that_looks_like_a_file_start_is_none() {
    let mut written = Written::new(true);
    written.time = u32::from_le_bytes(LOG_MAGIC);
    written.transaction(1, 3);
    written.event(EventHeader::STOP, &[]);
    for pieces in [1, 2, 7, 1000] {
        let mut walker = LogWalker::new(LogFlavour::Mysql, 0);
        let mut found = Vec::new();
        for piece in written.bytes.chunks(pieces) {
            walker.push_into(piece, &mut found).unwrap();
        }
        assert_eq!(names(&found), ["file", "format", "start", "end", "stop"], "{pieces}");
    }
}

#[test]
fn positions_wrap_in_files_of_more_than_four_gibibytes() {
    let head = Written::new(true);
    let mut written = Written::new(true);
    written.bytes.clear();
    written.file_offset = u64::from(u32::MAX) - 150;
    written.transaction(1, 100);
    written.transaction(2, 100);
    let format = &head.bytes[4..];
    let start = u64::from(u32::MAX) - 150;
    let mut walker = LogWalker::within(LogFlavour::Mysql, 9_000_000_000, start, format).unwrap();
    let found = walker.push(&written.bytes).unwrap();
    assert_eq!(names(&found), ["start", "end", "start", "end"]);
    assert_eq!(walker.file_offset(), start + written.bytes.len() as u64);
    assert_eq!(walker.offset(), 9_000_000_000 + written.bytes.len() as u64);
    let mut walker = LogWalker::within(LogFlavour::Mysql, 0, start + 1, format).unwrap();
    assert!(walker.push(&written.bytes).is_err());
}

#[test]
fn without_a_length_the_servers_own_rules_end_a_transaction() {
    // MySQL 5.7.
    let mut written = Written::new(true);
    let head = |written: &mut Written, number: u64| {
        let body = [&[0][..], &[0x3E; 16], &number.to_le_bytes(), &[2], &[0; 16]].concat();
        written.event(EventHeader::GTID, &body);
    };
    head(&mut written, 1);
    written.query("CREATE TABLE t (a INT)");
    head(&mut written, 2);
    written.query("BEGIN");
    written.event(19, &[0; 30]);
    written.query("SAVEPOINT s");
    written.query("ROLLBACK TO s");
    written.query("COMMIT");
    head(&mut written, 3);
    written.query(&format!("CREATE TABLE u (a INT) COMMENT '{}'", "x".repeat(5000)));
    head(&mut written, 4);
    written.query("XA START 'x'");
    written.query("XA END 'x'");
    written.event(EventHeader::XA_PREPARE, &[0; 20]);
    head(&mut written, 5);
    written.query("XA COMMIT 'x'");
    head(&mut written, 6);
    written.query("BEGIN");
    let mut walker = LogWalker::new(LogFlavour::Mysql, 0);
    let found = walker.push(&written.bytes).unwrap();
    assert_eq!(
        names(&found)[2..],
        ["start", "end"]
            .repeat(5)
            .into_iter()
            .chain(["start"])
            .collect::<Vec<_>>()
    );
    assert!(!walker.between_transactions());
    written.bytes.clear();
    written.file();
    let end = walker.offset();
    let found = walker.push(&written.bytes).unwrap();
    assert_eq!(names(&found), ["cut", "file", "format"]);
    assert_eq!(found[0], Walked::TransactionCut { offset: end });

    // MariaDB.
    let mut written = Written::new(true);
    let head = |written: &mut Written, sequence: u64, flags: u8| {
        let body = [&sequence.to_le_bytes()[..], &0u32.to_le_bytes(), &[flags], &[0; 6]].concat();
        written.event(EventHeader::MARIADB_GTID, &body);
    };
    head(&mut written, 1, 1);
    written.event(EventHeader::USER_VAR, &[0; 10]);
    written.query("CREATE TABLE t (a INT)");
    head(&mut written, 2, 0);
    written.event(EventHeader::MARIADB_ANNOTATE_ROWS, b"INSERT");
    written.event(23, &[0; 30]);
    written.query("COMMIT");
    head(&mut written, 3, 0);
    written.query("INSERT INTO t VALUES (1)");
    written.event(EventHeader::XID, &[0; 8]);
    head(&mut written, 4, 0);
    written.event(23, &[0; 30]);
    // Whatever comes that no transaction has.
    head(&mut written, 5, 1);
    written.query("DROP TABLE t");
    let found = walk(LogFlavour::MariaDb, &written.bytes).unwrap();
    assert_eq!(names(&found)[2..], ["start", "end"].repeat(5));
}

#[test]
fn damage_is_named_with_its_place() {
    let bytes = two_files(true);
    let after = |at: usize, change: &[u8]| {
        let mut damaged = bytes.clone();
        damaged.splice(at..at + change.len(), change.iter().copied());
        walk(LogFlavour::Mysql, &damaged).unwrap_err().to_string()
    };
    let second = {
        let found = walk(LogFlavour::Mysql, &bytes).unwrap();
        let Walked::TransactionStart { offset, .. } = found[3] else {
            unreachable!("{found:?}")
        };
        usize::try_from(offset).unwrap()
    };
    assert!(after(second + 30, &[0xFF]).contains(&format!("at offset {second} of its stream: the checksum")));
    assert!(after(second + 13, &[0xFF]).contains("says it ends at"));
    assert!(after(second + 9, &[3, 0, 0, 0]).contains("3 bytes"));
    assert!(after(0, b"x").contains("no file begins here"));
    // A hole of one whole event.
    let mut holed = bytes.clone();
    holed.drain(second..second + 79);
    assert!(walk(LogFlavour::Mysql, &holed).is_err());
}

proptest! {
    #[test]
    fn any_cuts_tell_the_same_and_a_walker_goes_on_from_its_written_state(
        checksums: bool, cuts in proptest::collection::vec(1usize..3000, 1..200), restarts: bool,
    ) {
        let bytes = two_files(checksums);
        let whole = walk(LogFlavour::Mysql, &bytes).unwrap();
        let mut walker = LogWalker::new(LogFlavour::Mysql, 0);
        let (mut found, mut at) = (Vec::new(), 0);
        for cut in cuts.iter().cycle() {
            let end = (at + cut).min(bytes.len());
            walker.push_into(&bytes[at..end], &mut found).unwrap();
            at = end;
            prop_assert_eq!(walker.offset(), at as u64);
            prop_assert!(walker.event_border() <= walker.offset());
            if restarts {
                let state = serde_json::to_string(&walker.state()).unwrap();
                walker = LogWalker::resume(serde_json::from_str(&state).unwrap());
            }
            if at == bytes.len() {
                break;
            }
        }
        prop_assert!(walker.between_transactions());
        prop_assert_eq!(found, whole);
    }

    #[test]
    fn no_bytes_make_it_panic(
        mariadb: bool, at in 0usize..70_600, change in proptest::collection::vec(any::<u8>(), 0..40), random: Vec<u8>, cut in 1usize..500,
    ) {
        let flavour = if mariadb { LogFlavour::MariaDb } else { LogFlavour::Mysql };
        for checksums in [true, false] {
            let mut bytes = two_files(checksums);
            let at = at.min(bytes.len());
            let end = (at + change.len()).min(bytes.len());
            bytes.splice(at..end, change.iter().copied());
            for bytes in [&bytes, &random] {
                let mut walker = LogWalker::new(flavour, 0);
                for piece in bytes.chunks(cut) {
                    if walker.push(piece).is_err() {
                        break;
                    }
                    let _ = (walker.event_border(), walker.file_offset());
                }
            }
        }
    }

    /// Without checksums to hide behind: every event has bytes nobody promised.
    #[test]
    fn no_event_makes_it_panic(
        mariadb: bool, events in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..20),
    ) {
        let flavour = if mariadb { LogFlavour::MariaDb } else { LogFlavour::Mysql };
        let mut written = Written::new(true);
        for (kind, body) in &events {
            written.event(*kind, body);
        }
        let _ = walk(flavour, &written.bytes).is_ok();
        for kind in [2, 4, 33, 34, 35, 42, 162, 163] {
            for (_, body) in &events {
                let mut written = Written::new(false);
                written.event(kind, body);
                let _ = walk(flavour, &written.bytes).is_ok();
            }
        }
    }
}
