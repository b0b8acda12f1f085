//! Which life of a server is meant: one that began its log anew gives numbers a second time, to other transactions.
//!
//! A name that is known in more than one life is taken for none of them. The backup to begin with says which one is meant, and so does a
//! moment.

use std::ops::Range;

use ballast_mysql::{ExecutedSet, Gtid};
use ballast_repository::StreamId;

use super::{GoBack, Place, choose};
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::replay::resolve;
use crate::stop::{PositionStop, Stop};
use crate::timeline::lineage::lives;
use crate::timeline::{Micros, Run, Start, Way, micros, timestamp};

/// A life of the source's server, as one repository has it: the place's number, and its streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) place: usize,
    pub(super) streams: Range<usize>,
}

/// What is called by numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    Transaction(Gtid),
    Set(ExecutedSet),
}

impl Named {
    /// What a stop and what is left out are called by.
    pub(super) fn all(stop: &Stop, skip: &[Gtid]) -> Vec<Self> {
        let stop = match stop {
            Stop::Before(gtid) | Stop::Position(PositionStop::Through(gtid)) => Some(Self::Transaction(gtid.clone())),
            Stop::Position(PositionStop::Set(set)) => Some(Self::Set(set.clone())),
            Stop::Latest | Stop::At(_) | Stop::Position(PositionStop::File { .. }) => None,
        };
        stop.into_iter()
            .chain(skip.iter().cloned().map(Self::Transaction))
            .collect()
    }

    fn is_in(&self, set: &ExecutedSet) -> bool {
        match self {
            Self::Transaction(gtid) => set.contains_gtid(gtid),
            Self::Set(wanted) => set.contains(wanted),
        }
    }

    /// Those by whose commit it is told apart.
    fn last(&self) -> Vec<Gtid> {
        match self {
            Self::Transaction(gtid) => vec![gtid.clone()],
            Self::Set(set) => set.last_of_each(),
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Transaction(gtid) => write!(f, "transaction {gtid}"),
            Self::Set(set) => write!(f, "position {set}"),
        }
    }
}

/// A life that knows what was named, and when each of it was committed there; `None` where that was not captured.
#[derive(Debug, Clone)]
struct Knows {
    life: Life,
    ids: Vec<StreamId>,
    at: Vec<Option<Micros>>,
}

impl Knows {
    /// Whether both mean the same transactions: it is one life in two repositories, or what the server kept when it numbered anew.
    fn is_same(&self, other: &Self) -> bool {
        self.ids.iter().any(|id| other.ids.contains(id)) || (self.at == other.at && self.at.iter().all(Option::is_some))
    }
}

/// One after the other, those that mean the same together.
fn told_apart(known: Vec<Knows>) -> Vec<Vec<Knows>> {
    let mut groups: Vec<Vec<Knows>> = Vec::new();
    for one in known {
        match groups
            .iter_mut()
            .find(|group| group.iter().any(|other| other.is_same(&one)))
        {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups
}

/// The lives that may be meant. An error if a name means one thing in one of them and another in another. `named` is the backup that was
/// asked for: the one place that there is a way from.
pub(super) async fn meant(
    context: &Context,
    places: &[Place<'_>],
    stop: &Stop,
    skip: &[Gtid],
    named: bool,
) -> Result<Option<Vec<Life>>> {
    let names = Named::all(stop, skip);
    if names.is_empty() {
        return Ok(None);
    }
    let groups = known(context, places, (stop, &names), named).await?;
    let others = match groups.as_slice() {
        [] => return Ok(None),
        [one] if !named => other_backups(places, stop, one),
        _ => Vec::new(),
    };
    if let ([one], true) = (groups.as_slice(), others.is_empty()) {
        return Ok(Some(one.iter().map(|one| one.life.clone()).collect()));
    }
    let found = choose(context, places, stop, skip).await?;
    let begin = |group: &[Knows]| first_of(places, &found, group).map(|start| start.id.clone());
    let mut lives: Vec<_> = groups
        .iter()
        .map(|group| (moments(places, group), begin(group)))
        .collect();
    lives.extend(others);
    Err(ambiguous(&names, &lives))
}

/// How a person gets to before a transaction of a stream.
pub(super) async fn go_back(context: &Context, places: &[Place<'_>], gtid: &Gtid, stream: StreamId) -> Result<GoBack> {
    let stop = Stop::Before(gtid.clone());
    let groups = known(context, places, (&stop, &Named::all(&stop, &[])), false).await?;
    let Some(own) = groups
        .iter()
        .find(|group| group.iter().any(|one| one.ids.contains(&stream)))
    else {
        return Ok(GoBack::Never);
    };
    let found = choose(context, places, &stop, &[]).await?;
    Ok(match first_of(places, &found, own) {
        None => GoBack::Never,
        Some(_) if groups.len() == 1 => GoBack::ByName,
        Some(start) => GoBack::From(start.id.clone()),
    })
}

/// The backup that the first way into these lives begins with.
fn first_of<'a>(places: &[Place<'_>], found: &[(&'a Place<'a>, Way)], lives: &[Knows]) -> Option<&'a Start> {
    let into = |(place, way): &&(&'a Place<'a>, Way)| lives.iter().any(|one| one.life.has(places, place, way.stream));
    let (place, way) = found.iter().find(into)?;
    place.starts.get(way.start)
}

/// A backup that itself is the position, though the log that leads there is another one.
fn other_backups(places: &[Place<'_>], stop: &Stop, lives: &[Knows]) -> Vec<(String, Option<String>)> {
    let Stop::Position(PositionStop::Set(set)) = stop else {
        return Vec::new();
    };
    // Where nothing was committed since the backup it may be of the same log.
    let ends_so = |one: &Knows| {
        let place = places.get(one.life.place);
        place.is_some_and(|place| one.life.runs(place).any(|(_, run)| run.through == *set))
    };
    let mut found = Vec::new();
    if lives.is_empty() || lives.iter().any(ends_so) {
        return found;
    }
    for place in places {
        for (number, start) in place.starts.iter().enumerate() {
            let is_it = start
                .executed
                .as_ref()
                .is_some_and(|(least, most)| least == set && most == set);
            if is_it && !place.ways.iter().any(|way| way.start == number) {
                found.push((format!("backed up at {}", timestamp(start.at)), Some(start.id.clone())));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The lives that know all the names, those that mean the same by them together.
async fn known(
    context: &Context,
    places: &[Place<'_>],
    (stop, names): (&Stop, &[Named]),
    named: bool,
) -> Result<Vec<Vec<Knows>>> {
    let mut lives = Vec::new();
    for life in all(places) {
        let Some(place) = places.get(life.place) else { continue };
        let fits = |way: &Way| match stop {
            Stop::At(at) => way.span.from <= micros(*at) && micros(*at) <= way.span.to,
            _ => true,
        };
        let narrowed = named || matches!(stop, Stop::At(_));
        let leads = place
            .ways
            .iter()
            .any(|way| life.streams.contains(&way.stream) && fits(way));
        let knows = |name: &Named| life.runs(place).any(|(_, run)| name.is_in(&run.through));
        if (leads || !narrowed) && names.iter().all(knows) {
            lives.push(life);
        }
    }
    let apart = lives.len() > 1;
    let mut known = Vec::new();
    'lives: for life in lives {
        let Some(place) = places.get(life.place) else { continue };
        let mut at = Vec::new();
        for gtid in names.iter().flat_map(Named::last).filter(|_| apart) {
            match committed_at(context, place, &life, &gtid).await? {
                Committed::Never => continue 'lives,
                Committed::At(moment) => at.push(Some(moment)),
                Committed::Uncaptured => at.push(None),
            }
        }
        let ids = place.read.listings.get(life.streams.clone()).unwrap_or_default();
        known.push(Knows {
            ids: ids.iter().map(|listing| listing.id).collect(),
            life,
            at,
        });
    }
    Ok(told_apart(known))
}

fn all(places: &[Place<'_>]) -> Vec<Life> {
    let of = |(number, place): (usize, &Place<'_>)| {
        let lives = lives(&place.read.streams);
        lives.into_iter().map(move |streams| Life { place: number, streams })
    };
    places.iter().enumerate().flat_map(of).collect()
}

impl Life {
    fn runs<'a>(&self, place: &'a Place<'_>) -> impl Iterator<Item = (usize, &'a Run)> + use<'a> {
        let streams = place.read.streams.iter().enumerate();
        let own = streams.skip(self.streams.start).take(self.streams.len());
        own.flat_map(|(number, stream)| stream.runs.iter().map(move |run| (number, run)))
    }

    /// The life before, if the server kept the transaction from it: it lost only the end of its log.
    fn goes_on_from(&self, place: &Place<'_>, gtid: &Gtid) -> Option<Self> {
        let first = place.read.streams.get(self.streams.start)?;
        let kept = first.shortened && first.runs.first()?.before.contains_gtid(gtid);
        let before = lives(&place.read.streams)
            .into_iter()
            .find(|life| life.end == self.streams.start);
        Some(Self {
            place: self.place,
            streams: before.filter(|_| kept)?,
        })
    }

    /// Whether a stream of a place is one of it.
    pub(super) fn has(&self, places: &[Place<'_>], place: &Place<'_>, stream: usize) -> bool {
        let own = places.get(self.place);
        own.is_some_and(|own| std::ptr::eq(own, place)) && self.streams.contains(&stream)
    }
}

enum Committed {
    At(Micros),
    /// It was before the log was captured.
    Uncaptured,
    /// Another server's transaction has that place.
    Never,
}

/// When a transaction was committed in this life.
async fn committed_at(context: &Context, place: &Place<'_>, life: &Life, gtid: &Gtid) -> Result<Committed> {
    let captured = |(_, run): &(usize, &Run)| run.through.contains_gtid(gtid) && !run.before.contains_gtid(gtid);
    let Some((stream, run)) = life.runs(place).find(captured) else {
        return match life.goes_on_from(place, gtid) {
            Some(before) => Box::pin(committed_at(context, place, &before, gtid)).await,
            None => Ok(Committed::Uncaptured),
        };
    };
    let held = match &run.through {
        // All but this one: so only the segment that it is in is read.
        ExecutedSet::Mysql(_) => {
            let (mut held, mut own) = (run.through.clone(), ExecutedSet::empty(run.through.flavour()));
            own.add(gtid)?;
            held.minus(&own);
            held
        }
        ExecutedSet::MariaDb(_) => run.before.clone(),
    };
    let part = place.part(context, (stream, run), &held, &Stop::Latest).await?;
    let mut plan = place.plan(stream, held)?;
    plan.parts.push(part);
    match resolve(context, place.repository, plan, &Stop::Before(gtid.clone())).await {
        Ok(plan) => Ok(plan
            .first_left_out
            .map_or(Committed::Uncaptured, |line| Committed::At(micros(line.committed_at)))),
        Err(error) if error.kind() == ErrorKind::NotRestorable => Ok(Committed::Never),
        Err(error) => Err(error),
    }
}

/// Which one a life's is, in words.
fn moments(places: &[Place<'_>], group: &[Knows]) -> String {
    let all = group.iter().filter_map(|one| one.at.iter().copied().max().flatten());
    if let Some(at) = all.max() {
        return format!("committed at {}", timestamp(at));
    }
    let streams = group.iter().filter_map(|one| {
        let place = places.get(one.life.place)?;
        place.read.streams.get(one.life.streams.start)
    });
    let since = streams.map(|stream| stream.started_at).min().unwrap_or_default();
    format!("committed before {}, where its log is captured from", timestamp(since))
}

fn ambiguous(names: &[Named], lives: &[(String, Option<String>)]) -> ProtectError {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let (mut each, mut choices) = (Vec::new(), Vec::new());
    for (moment, backup) in lives {
        each.push(format!("one {moment}"));
        choices.push(match backup {
            Some(id) => format!("--backup {id} for the one {moment}"),
            None => format!("no backup leads to the one {moment}"),
        });
    }
    let message = format!(
        "{} is the name of {} transactions, since the server numbered anew: {}",
        names.join(" with "),
        lives.len(),
        each.join(", ")
    );
    ProtectError::usage(message).hint(format!("say which one is meant: {}", choices.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knows(place: usize, ids: &[StreamId], at: &[Option<Micros>]) -> Knows {
        Knows {
            life: Life { place, streams: 0..1 },
            ids: ids.to_vec(),
            at: at.to_vec(),
        }
    }

    #[test]
    fn one_name_is_of_one_life_or_is_told_apart() {
        let [a, b, c] = [(); 3].map(|()| StreamId::new_random());
        let count = |known: &[Knows]| told_apart(known.to_vec()).len();
        // Two lives, and the same two in another repository.
        let two = [knows(0, &[a], &[Some(1)]), knows(0, &[b], &[Some(2)])];
        assert_eq!(count(&two), 2);
        let copied = [
            two.to_vec(),
            vec![knows(1, &[a, c], &[Some(1)]), knows(1, &[b], &[None])],
        ]
        .concat();
        assert_eq!(count(&copied), 2);
        // The server lost the end of its log: what was before is the same.
        assert_eq!(count(&[knows(0, &[a], &[Some(7)]), knows(0, &[b], &[Some(7)])]), 1);
        assert_eq!(
            count(&[knows(0, &[a], &[Some(7), Some(8)]), knows(0, &[b], &[Some(7), Some(9)])]),
            2
        );
        // What was not captured may be anything.
        assert_eq!(count(&[knows(0, &[a], &[None]), knows(0, &[b], &[None])]), 2);
    }

    #[test]
    fn both_moments_are_named_and_what_to_type() {
        let gtid = "3e11fa47-71ca-11e1-9e33-c80aa9429562:7".parse().unwrap();
        let lives = [
            ("committed at X".to_owned(), Some("B1".to_owned())),
            ("committed at Y".to_owned(), None),
        ];
        let error = ambiguous(&[Named::Transaction(gtid)], &lives);
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(
            error.to_string().contains("one committed at X, one committed at Y"),
            "{error}"
        );
        let hint = error.hint_text().unwrap();
        assert!(
            hint.contains("--backup B1 for the one committed at X; no backup leads to the one committed at Y"),
            "{hint}"
        );
    }
}
