//! The timeline against a model: servers that commit, fail over and begin anew, captures of their logs with holes, and backups. What the
//! timeline says of each moment must be what the model finds by looking at every transaction.

use std::collections::BTreeSet;

use ballast_mysql::LogFlavour;
use proptest::prelude::*;

use super::*;

/// A transaction as the model knows it: numbers may come again after a reset, these do not.
type Transaction = usize;

/// One server's log: every transaction with its moment there.
#[derive(Debug, Clone, Default)]
struct Server {
    uuid: usize,
    log: Vec<(Transaction, Micros)>,
}

/// The server that counted from a moment on.
#[derive(Debug)]
struct Tenure {
    server: Server,
    other_server: bool,
    new_lineage: bool,
}

#[derive(Debug, Default)]
struct Model {
    /// GTID of each transaction: uuid and number.
    gtids: Vec<(usize, u64)>,
    tenures: Vec<Tenure>,
    backups: Vec<(Micros, usize, BTreeSet<Transaction>)>,
    /// Tenure, first and last index of each run of each stream, and until when the run knows.
    streams: Vec<ModelStream>,
}

#[derive(Debug)]
struct ModelStream {
    tenure: usize,
    started_at: Micros,
    other_server: bool,
    new_lineage: bool,
    runs: Vec<(usize, usize, Option<Micros>)>,
}

impl Model {
    fn set(&self, transactions: impl IntoIterator<Item = Transaction>) -> ExecutedSet {
        let mut set = ExecutedSet::empty(LogFlavour::Mysql);
        for transaction in transactions {
            let (uuid, number) = self.gtids[transaction];
            let gtid = format!("{uuid:08x}-0000-0000-0000-000000000000:{number}");
            set.add(&gtid.parse().unwrap()).unwrap();
        }
        set
    }

    fn inputs(&self) -> (Vec<Start>, Vec<Stream>) {
        let starts = self.backups.iter().enumerate().map(|(number, (at, tenure, held))| {
            let executed = self.set(held.iter().copied());
            Start {
                id: number.to_string(),
                at: *at,
                executed: Some((executed.clone(), executed)),
                stands_at: Some((format!("of {tenure}"), held.len() as u64)),
            }
        });
        let streams = self.streams.iter().map(|stream| {
            let log = &self.tenures[stream.tenure].server.log;
            let runs = stream.runs.iter().map(|(from, to, known_until)| Run {
                from: *from as u64,
                to: *to as u64,
                before: self.set(log[..*from].iter().map(|(transaction, _)| *transaction)),
                through: self.set(log[..*to].iter().map(|(transaction, _)| *transaction)),
                first_at: log[*from..*to].first().map(|(_, at)| *at),
                known_until: *known_until,
                anonymous: false,
                ends_at: Some((format!("of {}", stream.tenure), *to as u64)),
            });
            Stream {
                id: StreamId::new_random(),
                started_at: stream.started_at,
                new_lineage: stream.new_lineage,
                shortened: false,
                other_server: stream.other_server,
                cause: None,
                runs: runs.collect(),
                missing: Vec::new(),
                damaged: None,
            }
        });
        (starts.collect(), streams.collect())
    }

    /// A backup that has just what its server had executed where a run ends: until then nothing was committed.
    fn with_what_backups_tell(mut self) -> Self {
        for stream in &mut self.streams {
            for (_, to, known) in &mut stream.runs {
                let same = |(_, tenure, held): &&(Micros, usize, BTreeSet<Transaction>)| {
                    *tenure == stream.tenure && held.len() == *to
                };
                let told = self.backups.iter().filter(same).map(|(at, _, _)| *at).max();
                *known = known.map(|known| known.max(told.unwrap_or(0)));
            }
        }
        self
    }

    /// Which lineage a stream is of.
    fn lineage(&self, stream: usize) -> usize {
        self.streams[..=stream]
            .iter()
            .skip(1)
            .filter(|stream| stream.new_lineage)
            .count()
    }

    /// The end of what is known in the streams of `lineage` before `end`.
    fn known(&self, lineage: usize, end: usize) -> Micros {
        let streams = (0..end).filter(|number| self.lineage(*number) == lineage);
        let runs = streams.flat_map(|number| &self.streams[number].runs);
        runs.filter_map(|run| run.2).max().unwrap_or(0)
    }

    /// By when a log of this lineage, whose first capture is `first`, is known to be the server's: captures tell, and a transaction in them
    /// that was committed behind all that is known of the lineage before and does not come after all its numbers.
    fn begun_by(&self, lineage: usize, first: usize) -> Micros {
        let Some(before) = lineage.checked_sub(1) else { return 0 };
        let started_at = self.streams[first].started_at;
        let captured = |stream: &&ModelStream| stream.runs.iter().any(|run| run.2.is_some());
        let Some(last) = (0..first).rfind(|number| captured(&&self.streams[*number])) else {
            return started_at;
        };
        if self.lineage(last) != before || (last + 1..=first).any(|number| self.streams[number].other_server) {
            return started_at;
        }
        let numbers = |stream: usize, count: usize| {
            let log = &self.tenures[self.streams[stream].tenure].server.log;
            let numbers = log[..count].iter().map(|(transaction, _)| self.gtids[*transaction]);
            numbers.collect::<BTreeSet<_>>()
        };
        let end = self.streams[last].runs.iter().rfind(|run| run.2.is_some()).unwrap().1;
        let (held, known) = (numbers(last, end), self.known(before, first));
        let mut begun = started_at;
        for number in first..self.streams.len() {
            if self.lineage(number) != lineage || (number > first && self.streams[number].other_server) {
                break;
            }
            for (from, to, _) in self.streams[number].runs.iter().filter(|run| run.2.is_some()) {
                let log = &self.tenures[self.streams[number].tenure].server.log;
                let next = log[*from..*to].first().filter(|(_, at)| *at > known);
                if let Some((_, at)) = next.filter(|_| !held.is_subset(&numbers(number, *from))) {
                    begun = begun.min(*at);
                }
            }
        }
        begun
    }

    /// Whether a capture of the server before tells that the transaction was committed at `moment`: a replica commits it later.
    fn committed_before(&self, lineage: usize, end: usize, transaction: Transaction, moment: Micros) -> bool {
        let streams = (0..end).filter(|number| self.lineage(*number) == lineage);
        streams.into_iter().any(|number| {
            let stream = &self.streams[number];
            let log = &self.tenures[stream.tenure].server.log;
            let captured = stream.runs.iter().filter(|run| run.2.is_some());
            let mut held = captured.flat_map(|(from, to, _)| &log[*from..*to]);
            held.any(|(of, at)| *of == transaction && *at <= moment)
        })
    }

    /// Whether `moment` can be restored, by looking at transactions one by one.
    fn reachable(&self, moment: Micros) -> bool {
        if self.backups.iter().any(|(at, _, _)| *at == moment) {
            return true;
        }
        (0..self.streams.len()).any(|number| {
            let stream = &self.streams[number];
            let log = &self.tenures[stream.tenure].server.log;
            let lineage = self.lineage(number);
            // Until another server took over, the log of the one before counts.
            let takeover = (0..=number)
                .rev()
                .take_while(|other| self.lineage(*other) == lineage)
                .find(|other| self.streams[*other].other_server);
            if takeover.is_some_and(|takeover| moment < self.known(lineage, takeover)) {
                return false;
            }
            let count = log
                .iter()
                .take_while(|(transaction, at)| {
                    *at <= moment || self.committed_before(lineage, number, *transaction, moment)
                })
                .count();
            let truth: BTreeSet<Transaction> = log[..count].iter().map(|(transaction, _)| *transaction).collect();
            let mut captured = BTreeSet::new();
            for other in (0..self.streams.len()).filter(|other| self.lineage(*other) == lineage) {
                let log = &self.tenures[self.streams[other].tenure].server.log;
                for (from, to, known) in &self.streams[other].runs {
                    if known.is_some() {
                        captured.extend(log[*from..*to].iter().map(|(transaction, _)| *transaction));
                    }
                }
            }
            let backups: Vec<_> = self
                .backups
                .iter()
                .filter(|(at, tenure, held)| {
                    let first = (0..self.streams.len())
                        .find(|other| self.lineage(*other) == lineage)
                        .unwrap();
                    let last = (0..self.streams.len())
                        .rfind(|other| self.lineage(*other) == lineage)
                        .unwrap();
                    let since = self.begun_by(lineage, first);
                    let ends = last + 1 < self.streams.len();
                    *at <= moment
                        && *at >= since
                        && (!ends || *at <= self.known(lineage, last + 1))
                        && *tenure <= stream.tenure
                        && held.is_subset(&truth)
                        && truth.difference(held).all(|missing| captured.contains(missing))
                })
                .collect();
            // Some run shows that the state at this moment is just this one: what came last before it, and what came next.
            stream.runs.iter().enumerate().any(|(run_number, (from, to, known))| {
                let Some(known) = known else { return false };
                if count < *from || count > *to || moment > *known {
                    return false;
                }
                if count > *from {
                    return !backups.is_empty();
                }
                let before: BTreeSet<_> = log[..*from].iter().map(|(transaction, _)| *transaction).collect();
                let told_by_a_backup = backups.iter().any(|(_, _, held)| before.is_subset(held));
                let earlier = (0..=number)
                    .filter(|other| self.lineage(*other) == lineage)
                    .flat_map(|other| {
                        let log = &self.tenures[self.streams[other].tenure].server.log;
                        let runs = self.streams[other].runs.iter().enumerate();
                        runs.filter(move |(run, _)| other < number || *run < run_number)
                            .map(move |(_, run)| (log, run))
                    });
                let told_by_a_run = earlier.into_iter().any(|(log, (_, to, known))| {
                    let through: BTreeSet<_> = log[..*to].iter().map(|(transaction, _)| *transaction).collect();
                    before.is_subset(&through) && known.is_some_and(|known| known <= moment)
                });
                told_by_a_backup || (told_by_a_run && !backups.is_empty())
            })
        })
    }
}

#[derive(Debug, Clone)]
enum Step {
    Commit(u8),
    Backup,
    /// A capture of the last so many transactions, with these holes, from some time ago on; and whether the end was marked as seen.
    Capture {
        back: u8,
        holes: Vec<(u8, u8)>,
        seen: bool,
    },
    /// To a replica that lacks the last so many.
    Failover(u8),
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1u8..5).prop_map(Step::Commit),
        3 => Just(Step::Backup),
        4 => (0u8..12, prop::collection::vec((0u8..12, 1u8..4), 0..3), any::<bool>())
            .prop_map(|(back, holes, seen)| Step::Capture { back, holes, seen }),
        1 => (0u8..4).prop_map(Step::Failover),
        1 => Just(Step::Reset),
    ]
}

fn play(steps: &[Step]) -> (Model, Micros) {
    let mut model = Model::default();
    model.tenures.push(Tenure {
        server: Server::default(),
        other_server: false,
        new_lineage: false,
    });
    let (mut now, mut numbers) = (100, vec![0u64]);
    for step in steps {
        now += 10;
        let tenure = model.tenures.len() - 1;
        match step {
            Step::Commit(count) => {
                for _ in 0..*count {
                    now += 10;
                    let uuid = model.tenures[tenure].server.uuid;
                    numbers[uuid] += 1;
                    model.gtids.push((uuid, numbers[uuid]));
                    model.tenures[tenure].server.log.push((model.gtids.len() - 1, now));
                }
            }
            Step::Backup => {
                let held = model.tenures[tenure]
                    .server
                    .log
                    .iter()
                    .map(|(transaction, _)| *transaction)
                    .collect();
                model.backups.push((now, tenure, held));
            }
            Step::Capture { back, holes, seen } => {
                let log = &model.tenures[tenure].server.log;
                let first = log.len().saturating_sub(usize::from(*back));
                let held = |index: usize| {
                    let at = index - first;
                    !holes
                        .iter()
                        .any(|(hole, length)| (usize::from(*hole)..usize::from(*hole + *length)).contains(&at))
                };
                let mut runs: Vec<(usize, usize, Option<Micros>)> = Vec::new();
                for index in (first..log.len()).filter(|index| held(*index)) {
                    match runs.last_mut() {
                        Some(run) if run.1 == index => run.1 = index + 1,
                        _ => runs.push((index, index + 1, None)),
                    }
                }
                if runs.is_empty() && first == log.len() {
                    runs.push((first, first, None));
                }
                for run in &mut runs {
                    if run.1 > run.0 {
                        run.2 = Some(log[run.1 - 1].1);
                    }
                }
                if let Some(last) = runs.last_mut().filter(|last| *seen && last.1 == log.len()) {
                    last.2 = Some(now);
                }
                let previous = model.streams.last().map_or(0, |stream| stream.tenure);
                let since = &model.tenures[previous + 1..=tenure.max(previous)];
                model.streams.push(ModelStream {
                    tenure,
                    started_at: now,
                    other_server: since.iter().any(|tenure| tenure.other_server),
                    new_lineage: since.iter().any(|tenure| tenure.new_lineage),
                    runs,
                });
            }
            Step::Failover(lost) => {
                let old = &model.tenures[tenure].server.log;
                let kept = old.len().saturating_sub(usize::from(*lost));
                let log = old[..kept]
                    .iter()
                    .map(|(transaction, at)| (*transaction, at + 1))
                    .collect();
                numbers.push(0);
                let uuid = numbers.len() - 1;
                model.tenures.push(Tenure {
                    server: Server { uuid, log },
                    other_server: true,
                    new_lineage: false,
                });
            }
            // Before the first capture nobody is there to see it.
            Step::Reset if model.streams.is_empty() => {}
            Step::Reset => {
                let uuid = model.tenures[tenure].server.uuid;
                numbers[uuid] = 0;
                model.tenures.push(Tenure {
                    server: Server { uuid, log: Vec::new() },
                    other_server: false,
                    new_lineage: true,
                });
            }
        }
    }
    (model, now)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_moment_can_be_restored_exactly_when_the_transactions_say_so(steps in prop::collection::vec(step(), 1..22)) {
        let (model, now) = play(&steps);
        let (starts, streams) = model.inputs();
        let model = model.with_what_backups_tell();
        let reach = reach(&starts, &streams, 0);
        for moment in 90..now + 20 {
            let said = reach.points.iter().any(|span| span.from <= moment && moment <= span.to);
            prop_assert_eq!(said, model.reachable(moment), "moment {} of {:?}: {:#?}", moment, reach, model);
        }
        // What is no point between the first and the last is a gap, and has a cause.
        for pair in reach.points.windows(2) {
            prop_assert!(reach.gaps.iter().any(|gap| gap.from == pair[0].to && gap.to == pair[1].from && !gap.cause.is_empty()));
        }
        prop_assert_eq!(reach.gaps.len() + 1, reach.points.len().max(1));
    }
}

#[test]
fn positions_of_mariadb_lead_from_one_to_the_next_domain_by_domain() {
    let set = |text: &str| ExecutedSet::parse(LogFlavour::MariaDb, text).unwrap();
    let run = |before: &str, through: &str| Run {
        from: 0,
        to: 1,
        before: set(before),
        through: set(through),
        first_at: Some(1),
        known_until: Some(2),
        anonymous: false,
        ends_at: None,
    };
    let runs = [
        run("0-1-5,1-1-3", "0-1-9,1-1-3"),
        run("", "1-1-3"),
        run("0-1-9", "0-1-20,2-1-1"),
    ];
    let runs: Vec<_> = runs.iter().collect();
    for (wanted, held, there) in [
        ("0-1-20", "0-1-5,1-1-3", true),
        ("0-1-20,2-1-1", "0-1-7,1-1-3", true),
        ("0-1-20", "0-1-4,1-1-3", false),
        ("0-1-21", "0-1-5,1-1-3", false),
        ("0-1-9,1-1-2", "0-1-9", true),
        ("3-1-1", "0-1-9", false),
        ("", "", true),
    ] {
        assert_eq!(captured(&set(wanted), &set(held), &runs), there, "{held} to {wanted}");
    }
}

#[test]
fn a_gap_has_its_cause_and_repositories_fill_each_other() {
    let set = |text: &str| {
        let text = text.replace('u', "00000000-0000-0000-0000-000000000001");
        ExecutedSet::parse(LogFlavour::Mysql, &text).unwrap()
    };
    let run = |offsets: (u64, u64), before: &str, through: &str, times: (u64, u64)| Run {
        from: offsets.0,
        to: offsets.1,
        before: set(before),
        through: set(through),
        first_at: Some(times.0),
        known_until: Some(times.1),
        anonymous: false,
        ends_at: None,
    };
    let stream = |started_at: u64, cause: Option<&str>, runs: Vec<Run>| Stream {
        id: StreamId::new_random(),
        started_at,
        new_lineage: false,
        shortened: false,
        other_server: false,
        cause: cause.map(str::to_owned),
        runs,
        missing: Vec::new(),
        damaged: None,
    };
    let start = |at: u64, held: &str| Start {
        id: at.to_string(),
        at,
        executed: Some((set(held), set(held))),
        stands_at: None,
    };
    let starts = [start(100, "u:1-10"), start(300, "u:1-30")];
    let holed = || {
        let runs = vec![
            run((0, 50), "u:1-5", "u:1-15", (60, 150)),
            run((80, 120), "u:1-20", "u:1-40", (200, 400)),
        ];
        Stream {
            missing: vec![Missing {
                from: 50,
                to: 80,
                after: Some(150),
                before: Some(200),
            }],
            ..stream(50, None, runs)
        }
    };
    let one = reach(&starts, &[holed()], 0);
    assert_eq!(one.points, [Span { from: 100, to: 150 }, Span { from: 300, to: 400 }]);
    assert!(
        one.gaps[0].cause.starts_with("bytes 50 to 80 of log "),
        "{}",
        one.gaps[0].cause
    );

    let purged = stream(
        180,
        Some("the server removed files of its log"),
        vec![run((0, 9), "u:1-20", "u:1-40", (200, 400))],
    );
    let first = stream(50, None, vec![run((0, 50), "u:1-5", "u:1-15", (60, 150))]);
    let two = reach(&starts, &[first.clone(), purged], 0);
    assert_eq!((two.gaps[0].from, two.gaps[0].to), (150, 300));
    assert_eq!(two.gaps[0].cause, "the server removed files of its log");

    // The other repository has what is missing here.
    let whole = stream(50, None, vec![run((0, 120), "u:1-5", "u:1-40", (60, 400))]);
    let three = reach(&starts[..1], &[whole], 0);
    let all = Timeline::of("orders", &[one.clone(), three]);
    assert_eq!((all.points.len(), all.gaps.len()), (1, 0));
    let both = Timeline::of("orders", &[one, two]);
    assert_eq!((both.points.len(), both.gaps.len()), (2, 1));
    assert!(both.gaps[0].cause.contains("bytes 50 to 80") && both.gaps[0].cause.contains("removed files"));
    assert_eq!(Timeline::of("orders", &[]).latest, None);

    let alone = reach(&starts, &[], 0);
    assert_eq!(
        (alone.points.len(), alone.gaps[0].cause.as_str()),
        (2, "no log was captured")
    );
}
