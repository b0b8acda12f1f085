//! Which captures go on with each other's numbers of transactions, and which backups are theirs.

use ballast_mysql::ExecutedSet;

use super::{Micros, Run, Start, Stream};

/// Streams whose numbers of transactions mean the same, and since when and until when a backup is surely one of theirs.
pub(super) struct Lineage {
    streams: std::ops::Range<usize>,
    since: Option<Micros>,
    until: Option<Micros>,
}

impl Lineage {
    pub(super) fn may_hold(&self, start: &Start) -> bool {
        self.since.is_none_or(|since| start.at >= since) && self.until.is_none_or(|until| start.at <= until)
    }

    /// Since when a stream's log is the one that counts: it may hold what another server did earlier, by its own clock.
    pub(super) fn since_of(&self, stream: usize, streams: &[Stream]) -> Micros {
        let taken_over = |number: &usize| streams.get(*number).is_some_and(|stream| stream.other_server);
        let Some(takeover) = (self.streams.start..=stream).rev().find(taken_over) else {
            return 0;
        };
        let before = streams.get(self.streams.start..takeover).unwrap_or_default();
        let known = before
            .iter()
            .flat_map(|stream| &stream.runs)
            .filter_map(|run| run.known_until);
        known.max().unwrap_or(0)
    }

    pub(super) fn runs<'a>(&self, streams: &'a [Stream]) -> Vec<(usize, usize, &'a Run)> {
        let inside = self
            .streams
            .clone()
            .filter_map(|number| Some((number, streams.get(number)?)));
        inside
            .flat_map(|(number, stream)| stream.runs.iter().enumerate().map(move |(run, of)| (number, run, of)))
            .collect()
    }
}

/// `streams` are in the order they began.
pub(super) fn lineages(streams: &[Stream]) -> Vec<Lineage> {
    let mut found: Vec<Lineage> = Vec::new();
    let (mut first, mut since) = (0, None);
    let ends = (1..streams.len()).filter(|number| streams.get(*number).is_some_and(|stream| stream.new_lineage));
    for end in ends.chain([streams.len()]) {
        let inside = streams.get(first..end).unwrap_or_default();
        let last = end == streams.len();
        if let (Some(before), Some(begins)) = (found.last(), inside.first()) {
            let earlier = streams.get(before.streams.clone()).unwrap_or_default();
            let renumbered = renumbered_by(earlier, inside).unwrap_or(Micros::MAX);
            since = Some(begins.started_at.min(renumbered));
        }
        // Between the end of one and the beginning of the next nobody can tell which of them a backup is of.
        found.push(Lineage {
            streams: first..end,
            since,
            until: (!last).then(|| known(inside).unwrap_or(0)),
        });
        first = end;
    }
    found
}

/// Streams in which a number means one transaction, in the order they began. After each of them but the last the server began to number
/// anew; another server that takes over goes on with the numbers there are.
pub(crate) fn lives(streams: &[Stream]) -> Vec<std::ops::Range<usize>> {
    let anew = |number: &usize| {
        let stream = streams.get(*number);
        stream.is_some_and(|stream| stream.new_lineage && !stream.other_server)
    };
    let (mut found, mut first) = (Vec::new(), 0);
    for end in (1..streams.len()).filter(anew).chain([streams.len()]) {
        found.push(first..end);
        first = end;
    }
    found
}

fn known(streams: &[Stream]) -> Option<Micros> {
    let runs = streams.iter().flat_map(|stream| &stream.runs);
    runs.filter_map(|run| run.known_until).max()
}

/// A moment at which the server surely had begun its log anew, before anybody captured it: one log goes on with all that was executed.
/// So where the first commit behind the end of what is known of the log before does not come after all of that, it is of another log.
fn renumbered_by(earlier: &[Stream], later: &[Stream]) -> Option<Micros> {
    let known = known(earlier)?;
    if later.first()?.other_server {
        return None;
    }
    let own = earlier.iter().enumerate().rev().find_map(|(number, stream)| {
        let held = stream.runs.iter().rev().find(|run| run.known_until.is_some())?;
        Some((number, &held.through))
    });
    // By the clock of the same server.
    let (_, through) = own.filter(|(last, _)| !earlier.iter().skip(last + 1).any(|stream| stream.other_server))?;
    let same = later
        .iter()
        .enumerate()
        .take_while(|(number, stream)| *number == 0 || !stream.other_server);
    let runs = same.flat_map(|(_, stream)| &stream.runs);
    let anew = runs.filter(|run| run.known_until.is_some() && !run.before.contains(through));
    anew.filter_map(|run| run.first_at).filter(|first| *first > known).min()
}

/// Whether the run holds transactions under numbers that the backup has too, committed when the backup was over: they are others, and the
/// backup is of a log that was begun anew since.
pub(super) fn is_younger(run: &Run, start: &Start, skew: Micros) -> bool {
    let Some((_, most)) = &start.executed else {
        return false;
    };
    if run.first_at.is_none_or(|first| first <= start.at.saturating_add(skew)) {
        return false;
    }
    match (&run.before, &run.through, most) {
        (ExecutedSet::MariaDb(before), ExecutedSet::MariaDb(through), ExecutedSet::MariaDb(most)) => {
            through.domains().any(|domain| {
                let before = before.sequence(domain);
                through.sequence(domain) > before && most.sequence(domain) > before
            })
        }
        (before, through, most) => {
            let mut own = through.clone();
            own.minus(before);
            let mut others = own.clone();
            others.minus(most);
            others != own
        }
    }
}

#[cfg(test)]
mod tests {
    use ballast_mysql::LogFlavour;
    use ballast_repository::StreamId;

    use super::super::{Span, reach};
    use super::*;

    fn set(text: &str) -> ExecutedSet {
        let text = text.replace('u', "00000000-0000-0000-0000-000000000001");
        ExecutedSet::parse(LogFlavour::Mysql, &text).unwrap()
    }

    fn stream(started_at: u64, before: &str, through: &str, times: (u64, u64), new_lineage: bool) -> Stream {
        let run = Run {
            from: 0,
            to: 1,
            before: set(before),
            through: set(through),
            first_at: Some(times.0),
            known_until: Some(times.1),
            anonymous: false,
            ends_at: Some(("binlog.000002".to_owned(), 900)),
        };
        Stream {
            id: StreamId::new_random(),
            started_at,
            new_lineage,
            shortened: false,
            other_server: false,
            cause: None,
            runs: vec![run],
            missing: Vec::new(),
            damaged: None,
        }
    }

    /// While nobody recorded: the log was begun anew, and a backup taken.
    #[test]
    fn a_backup_goes_on_with_the_log_that_was_begun_anew_before_it() {
        let old = stream(10, "", "u:1-9", (20, 100), false);
        let new = |before: &str, first_at: u64| stream(300, before, "u:1-8", (first_at, 400), true);
        let points = |at: u64, held: &str, new: Stream| {
            let start = Start {
                id: String::new(),
                at,
                executed: Some((set(held), set(held))),
                stands_at: None,
            };
            reach(&[start], &[old.clone(), new], 0).points
        };
        let all = |from: u64| vec![Span { from, to: 400 }];
        let alone = |at: u64| vec![Span { from: at, to: at }];
        assert_eq!(points(200, "u:1-3", new("", 150)), all(200));
        assert_eq!(points(200, "u:1-3", new("u:1-2", 190)), all(200));
        // Of which log it is cannot be told: it was begun anew perhaps twice.
        assert_eq!(points(200, "u:1-3", new("", 210)), alone(200));
        // Behind all that is known of the old one, a commit that comes after all of that: the old one may have gone on.
        assert_eq!(
            points(200, "u:1-10", stream(300, "u:1-9", "u:1-12", (150, 400), true)),
            alone(200)
        );
        assert_eq!(points(200, "u:1-3", new("", 90)), alone(200));
        assert_eq!(points(310, "u:1-3", new("", 90)), all(310));
    }

    /// An idle server: nothing was committed from the last that was captured to the backup.
    #[test]
    fn a_backup_that_stands_where_a_log_ends_leaves_no_gap() {
        let log = stream(10, "", "u:1-9", (20, 100), false);
        let start = |at: u64, held: &str, offset: u64| Start {
            id: at.to_string(),
            at,
            executed: Some((set(held), set(held))),
            stands_at: Some(("binlog.000002".to_owned(), offset)),
        };
        let first = start(50, "u:1-4", 300);
        let points = |second: Start| reach(&[first.clone(), second], std::slice::from_ref(&log), 0).points;
        assert_eq!(points(start(200, "u:1-9", 900)), [Span { from: 50, to: 200 }]);
        let apart = [Span { from: 50, to: 100 }, Span { from: 200, to: 200 }];
        assert_eq!(points(start(200, "u:1-10", 900)), apart);
        // The same numbers at another place: it may be another log.
        assert_eq!(points(start(200, "u:1-9", 901)), apart);
    }
}
