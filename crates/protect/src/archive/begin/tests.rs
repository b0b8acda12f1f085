//! A model of servers: logs are written, rotated, purged, begun anew, cut by crashes, and taken over by other servers, while a recorder is
//! away. Whatever happened, what it decides must lose nothing that is still there, and must know what is not.

use std::collections::BTreeSet;

use ballast_mysql::LogFlavour;
use proptest::prelude::*;

use super::*;

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";
/// Servers of later failovers; those made by twelve of them have uuids of their own.
const LATER: [&str; 12] = [
    "00000000-71ca-11e1-9e33-c80aa9429562",
    "10000000-71ca-11e1-9e33-c80aa9429562",
    "20000000-71ca-11e1-9e33-c80aa9429562",
    "30000000-71ca-11e1-9e33-c80aa9429562",
    "40000000-71ca-11e1-9e33-c80aa9429562",
    "50000000-71ca-11e1-9e33-c80aa9429562",
    "60000000-71ca-11e1-9e33-c80aa9429562",
    "70000000-71ca-11e1-9e33-c80aa9429562",
    "80000000-71ca-11e1-9e33-c80aa9429562",
    "90000000-71ca-11e1-9e33-c80aa9429562",
    "a0000000-71ca-11e1-9e33-c80aa9429562",
    "b0000000-71ca-11e1-9e33-c80aa9429562",
];
/// What a file and a transaction take in the model.
const HEAD_BYTES: u64 = 100;
const TRANSACTION_BYTES: u64 = 10;

/// A transaction: who numbered it, its number, and what it really is (numbers can be given twice).
type Transaction = (&'static str, u64, u32);

#[derive(Debug, Clone)]
struct File {
    number: u64,
    /// Tells files of one name apart.
    made: u32,
    before: BTreeSet<(&'static str, u64)>,
    transactions: Vec<Transaction>,
}

#[derive(Debug, Clone)]
struct Model {
    uuid: &'static str,
    files: Vec<File>,
    executed: BTreeSet<(&'static str, u64)>,
    made: u32,
    identities: u32,
}

fn set_of(numbers: &BTreeSet<(&'static str, u64)>) -> ExecutedSet {
    let texts: Vec<String> = numbers
        .iter()
        .map(|(uuid, number)| format!("{uuid}:{number}"))
        .collect();
    ExecutedSet::parse(LogFlavour::Mysql, &texts.join(",")).unwrap()
}

impl File {
    fn size(&self) -> u64 {
        HEAD_BYTES + TRANSACTION_BYTES * self.transactions.len() as u64
    }

    fn name(&self) -> String {
        format!("binlog.{:06}", self.number)
    }
}

impl Model {
    fn new(uuid: &'static str) -> Self {
        let mut model = Self {
            uuid,
            files: Vec::new(),
            executed: BTreeSet::new(),
            made: 0,
            identities: 0,
        };
        model.rotate();
        model
    }

    fn rotate(&mut self) {
        self.made += 1;
        self.files.push(File {
            number: self.files.last().map_or(1, |file| file.number + 1),
            made: self.made,
            before: self.executed.clone(),
            transactions: Vec::new(),
        });
    }

    fn commit(&mut self) {
        let number = self
            .executed
            .iter()
            .filter(|(uuid, _)| *uuid == self.uuid)
            .map(|(_, n)| *n)
            .max();
        let number = number.unwrap_or(0) + 1;
        self.identities += 1;
        self.apply((self.uuid, number, self.identities));
    }

    fn apply(&mut self, transaction: Transaction) {
        self.executed.insert((transaction.0, transaction.1));
        self.files.last_mut().unwrap().transactions.push(transaction);
    }

    fn purge(&mut self, files: usize) {
        let files = files.min(self.files.len() - 1);
        self.files.drain(..files);
    }

    fn reset(&mut self) {
        self.files.clear();
        self.executed.clear();
        self.rotate();
    }

    /// The server dies, loses the end of its log, and begins another file.
    fn crash(&mut self, lost: usize) {
        let last = self.files.last_mut().unwrap();
        let kept = last.transactions.len().saturating_sub(lost);
        for (uuid, number, _) in last.transactions.drain(kept..) {
            self.executed.remove(&(uuid, number));
        }
        self.rotate();
    }

    /// A replica that has all but the last of it becomes the server; its log has other files.
    fn fail_over(&self, lag: usize, files_ago: usize) -> Self {
        let mut replica = Self {
            made: self.made + 1000,
            identities: self.identities + 1000,
            ..Self::new(if self.uuid == A {
                B
            } else {
                LATER[self.made as usize / 1000 % LATER.len()]
            })
        };
        let first = self.files.len().saturating_sub(files_ago + 1);
        replica.executed = self.files[first].before.clone();
        replica.files.clear();
        replica.rotate();
        let all: Vec<Transaction> = self.files[first..]
            .iter()
            .flat_map(|file| file.transactions.clone())
            .collect();
        for (at, transaction) in all[..all.len().saturating_sub(lag)].iter().enumerate() {
            if at % 3 == 2 {
                replica.rotate();
            }
            replica.apply(*transaction);
        }
        replica
    }

    fn log(&self) -> ServerLog {
        ServerLog {
            identity: Identity {
                uuid: self.uuid.to_owned(),
                id: 1,
            },
            numbered: true,
            executed: set_of(&self.executed),
            files: self.files.iter().map(|file| (file.name(), file.size())).collect(),
        }
    }

    fn head(&self, name: &str) -> Head {
        let file = self.files.iter().find(|file| file.name() == name).unwrap();
        Head {
            digest: format!("{}-{}", self.uuid, file.made),
            before: set_of(&file.before),
        }
    }

    fn decide(&self, held: Option<&Held>, wanted: &[Wanted]) -> Step {
        let mut heads = Heads::new();
        for _ in 0..1000 {
            match begin(held, wanted, &self.log(), &heads) {
                Step::Ask(file) => {
                    assert!(!heads.contains_key(&file), "\"{file}\" is asked for twice");
                    heads.insert(file.clone(), self.head(&file));
                }
                step => return step,
            }
        }
        panic!("it asks for ever");
    }
}

/// What a recorder holds that has read `model` up to the transaction `end` of file `at`.
fn recorder(model: &Model, at: usize, end: usize) -> (Held, Vec<Transaction>) {
    let file = &model.files[at];
    let mut held: Vec<Transaction> = model.files[..at]
        .iter()
        .flat_map(|file| file.transactions.clone())
        .collect();
    held.extend(&file.transactions[..end]);
    let mut executed = model.files[0].before.clone();
    executed.extend(held.iter().map(|(uuid, number, _)| (*uuid, *number)));
    let held_part = Held {
        server: Identity {
            uuid: model.uuid.to_owned(),
            id: 1,
        },
        file: file.name(),
        offset: HEAD_BYTES + TRANSACTION_BYTES * end as u64,
        head: format!("{}-{}", model.uuid, file.made),
        executed: set_of(&executed),
        ours: true,
        contradicted: false,
    };
    (held_part, held)
}

#[derive(Debug, Clone)]
enum Happening {
    Commits(u8),
    Rotate,
    Purge(usize),
    Reset,
    Crash(usize),
    FailOver { lag: usize, files_ago: usize },
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        4 => (1u8..5).prop_map(Happening::Commits),
        3 => Just(Happening::Rotate),
        2 => (1usize..4).prop_map(Happening::Purge),
        1 => Just(Happening::Reset),
        1 => (0usize..3).prop_map(Happening::Crash),
        1 => (0usize..3, 0usize..4).prop_map(|(lag, files_ago)| Happening::FailOver { lag, files_ago }),
    ];
    proptest::collection::vec(one, 0..12)
}

fn happen(model: &mut Model, happening: &Happening) {
    match happening {
        Happening::Commits(count) => (0..*count).for_each(|_| model.commit()),
        Happening::Rotate => model.rotate(),
        Happening::Purge(files) => model.purge(*files),
        Happening::Reset => model.reset(),
        Happening::Crash(lost) => model.crash(*lost),
        Happening::FailOver { lag, files_ago } => *model = model.fail_over(*lag, *files_ago),
    }
}

/// What a server sends that is asked from `file` on.
fn sent_from(model: &Model, file: &str) -> Vec<Transaction> {
    let files = model.files.iter().skip_while(|candidate| candidate.name() != file);
    files.flat_map(|file| file.transactions.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_meanwhile_nothing_that_is_still_there_is_lost(
        earlier in proptest::collection::vec((0u8..4, any::<bool>()), 1..8),
        cut in any::<usize>(),
        later in happenings(),
        ours in any::<bool>(),
    ) {
        let mut model = Model::new(A);
        for (commits, rotates) in earlier {
            (0..commits).for_each(|_| model.commit());
            if rotates {
                model.rotate();
            }
        }
        let at = model.files.len() - 1;
        let end = cut % (model.files[at].transactions.len() + 1);
        let (mut held, held_transactions) = recorder(&model, at, end);
        held.ours = ours;
        let file_then = (model.files[at].name(), format!("{}-{}", model.uuid, model.files[at].made));
        let twice = later.iter().position(|h| matches!(h, Happening::Reset | Happening::Crash(_)));
        let taken_over = later.iter().rposition(|h| matches!(h, Happening::FailOver { .. }));
        // Numbers that were given twice, on a server that is not seen any more: nothing tells.
        prop_assume!(twice.is_none() || taken_over < twice);
        later.iter().for_each(|happening| happen(&mut model, happening));

        match model.decide(Some(&held), &[]) {
            Step::GoOn => {
                prop_assert!(ours, "only a stream of our own is gone on with");
                let file = model.files.iter().find(|file| file.name() == file_then.0).unwrap();
                prop_assert_eq!(format!("{}-{}", model.uuid, file.made), file_then.1);
                // What we have of the file is what it has there. (One that is cut and written again is found by its last event.)
                let have = ((held.offset - HEAD_BYTES) / TRANSACTION_BYTES) as usize;
                let ours_of_it = &held_transactions[held_transactions.len() - have..];
                prop_assert_eq!(&file.transactions[..have], ours_of_it);
            }
            Step::New { file, why } => {
                let why = why.unwrap();
                let sent = sent_from(&model, &file);
                let got: BTreeSet<Transaction> = held_transactions.iter().chain(&sent).copied().collect();
                // Everything that is on the server now was had before, or comes.
                for transaction in model.files.iter().flat_map(|file| &file.transactions) {
                    prop_assert!(got.contains(transaction), "{transaction:?} is lost: {why:?} from {file}");
                }
                // What is said to be missing is what the server has executed and nobody has, where numbers are unique.
                let had: BTreeSet<(&str, u64)> = got.iter().map(|(uuid, number, _)| (*uuid, *number)).collect();
                if twice.is_none() {
                    let missing: BTreeSet<_> = model.executed.iter().filter(|t| !had.contains(*t)).copied().collect();
                    prop_assert_eq!(why.missing.to_string(), set_of(&missing).to_string(), "{:?}", why);
                }
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

fn grown(uuid: &'static str, files: u32) -> Model {
    let mut model = Model::new(uuid);
    for _ in 0..files {
        model.commit();
        model.commit();
        model.rotate();
    }
    model
}

fn why(step: Step) -> (String, Cause, String) {
    match step {
        Step::New { file, why: Some(why) } => (file, why.cause, why.missing.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let mut model = grown(A, 3);
    let (held, _) = recorder(&model, 3, 0);
    (0..5).for_each(|_| model.commit());
    assert_eq!(model.decide(Some(&held), &[]), Step::GoOn);
    model.rotate();
    model.commit();
    assert_eq!(model.decide(Some(&held), &[]), Step::GoOn);
    model.purge(3);
    assert_eq!(model.decide(Some(&held), &[]), Step::GoOn, "what is purged is held");
}

#[test]
fn purged_files_leave_exactly_the_gap_they_leave() {
    let model = grown(A, 6);
    let (held, _) = recorder(&model, 2, 1);
    let mut purged = model.clone();
    purged.purge(3);
    let gap = (String::from("binlog.000004"), Cause::Purged, format!("{A}:6"));
    assert_eq!(why(purged.decide(Some(&held), &[])), gap);
    // All of the file was held: purging it leaves no gap.
    let (held, _) = recorder(&model, 2, 2);
    let none = (String::from("binlog.000004"), Cause::Purged, String::new());
    assert_eq!(why(purged.decide(Some(&held), &[])), none);
}

#[test]
fn a_log_that_began_anew_is_taken_from_its_first_byte() {
    let mut model = grown(A, 4);
    let (held, _) = recorder(&model, 3, 1);
    model.reset();
    for _ in 0..3 {
        model.commit();
        model.rotate();
    }
    // Its numbers are all held, and mean other transactions.
    assert_eq!(
        why(model.decide(Some(&held), &[])),
        ("binlog.000001".into(), Cause::Reset, String::new())
    );
    // Also when it has come to more numbers, and to the file's name, again.
    for _ in 0..40 {
        model.commit();
        model.rotate();
    }
    assert_eq!(
        why(model.decide(Some(&held), &[])),
        ("binlog.000001".into(), Cause::Reset, String::new())
    );
}

#[test]
fn another_server_is_followed_from_where_nothing_is_missing() {
    let model = grown(A, 5);
    let (held, _) = recorder(&model, 4, 2);
    let mut replica = model.fail_over(0, 4);
    replica.commit();
    let (file, cause, missing) = why(replica.decide(Some(&held), &[]));
    let lossy = model.fail_over(1, 4);
    let all_of_it = ("binlog.000001".into(), Cause::Failover, String::new());
    assert_eq!(
        why(lossy.decide(Some(&held), &[])),
        all_of_it,
        "it lacks what we hold: its numbers are not trusted"
    );
    assert_eq!((cause, missing.as_str()), (Cause::Failover, ""));
    assert_eq!(
        file,
        replica.files.last().unwrap().name(),
        "the newest of which nothing before is missing"
    );
    // A replica that does not have the end of its own log any more.
    replica.rotate();
    replica.purge(100);
    assert_eq!(why(replica.decide(Some(&held), &[])).2, format!("{B}:1"));
}

#[test]
fn a_server_that_lost_the_end_of_its_log_is_taken_from_that_file_again() {
    let mut model = grown(A, 2);
    (0..4).for_each(|_| model.commit());
    let (held, _) = recorder(&model, 2, 4);
    model.crash(2);
    (0..4).for_each(|_| model.commit());
    assert_eq!(
        why(model.decide(Some(&held), &[])),
        ("binlog.000003".into(), Cause::Shortened, String::new())
    );
    let mut same_length = held.clone();
    same_length.offset = HEAD_BYTES;
    same_length.contradicted = true;
    assert_eq!(why(model.decide(Some(&same_length), &[])).1, Cause::Shortened);
}

#[test]
fn a_stream_whose_spool_is_lost_is_not_written_by_two() {
    let model = grown(A, 3);
    let (mut held, _) = recorder(&model, 3, 0);
    held.ours = false;
    let again = ("binlog.000004".into(), Cause::SpoolLost, String::new());
    assert_eq!(why(model.decide(Some(&held), &[])), again);
}

#[test]
fn a_first_stream_begins_with_what_a_backup_needs() {
    let mut model = grown(A, 5);
    let wanted = |file: &str, offset, numbers: u64| Wanted {
        file: file.to_owned(),
        offset,
        executed: set_of(&(1..=numbers).map(|number| (A, number)).collect()),
    };
    let new = |file: &str| Step::New {
        file: file.to_owned(),
        why: None,
    };
    let (early, late) = (wanted("binlog.000002", 110, 3), wanted("binlog.000004", 100, 6));
    assert_eq!(model.decide(None, &[]), new("binlog.000006"));
    assert_eq!(model.decide(None, &[late.clone(), early.clone()]), new("binlog.000002"));
    model.purge(2);
    assert_eq!(model.decide(None, &[late.clone(), early]), new("binlog.000004"));
    // The same names, after the log was begun anew: the backup is of what was before.
    model.reset();
    for _ in 0..4 {
        (0..4).for_each(|_| model.commit());
        model.rotate();
    }
    assert_eq!(model.decide(None, &[late]), new("binlog.000005"));
}

#[test]
fn without_numbers_nothing_is_taken_for_held() {
    let mut model = grown(A, 4);
    let (held, _) = recorder(&model, 2, 1);
    model.purge(3);
    let mut log = model.log();
    log.numbered = false;
    let heads: Heads = log
        .files
        .iter()
        .map(|(name, _)| (name.clone(), model.head(name)))
        .collect();
    let (file, ..) = why(begin(Some(&held), &[], &log, &heads));
    assert_eq!(file, "binlog.000004", "the oldest there is");
}

#[test]
fn on_mariadb_a_number_counts_as_held_only_from_the_same_server() {
    let set = |text: &str| ExecutedSet::parse(LogFlavour::MariaDb, text).unwrap();
    for (before, held, within) in [
        ("0-1-90", "0-1-103", true),
        ("0-1-104", "0-1-103", false),
        // After a failover that lost three transactions, 101 and 102 are others.
        ("0-2-102", "0-1-103", false),
        ("0-2-102,5-1-7", "0-2-103,5-1-7", true),
        ("0-2-102,5-1-7", "0-2-103", false),
        ("0-2-102,5-3-7", "0-2-103,5-1-9", false),
    ] {
        assert_eq!(surely_within(&set(before), &set(held)), within, "{before} in {held}");
    }
}
