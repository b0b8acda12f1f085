//! The repositories while a backup is written: which packs each holds, and which of them failed.

use std::collections::{HashMap, HashSet};

use ballast_base::{Cancel, TaskSet};
use tokio::sync::mpsc;

use super::{Shared, lock};
use crate::copy::copy_pack;
use crate::error::{RepositoryError, Result};
use crate::names::{self, PackId};
use crate::pack::FinishedPack;
use crate::repository::Repository;

/// Packs on their way at once.
const PACKS_AT_ONCE: usize = 4;

/// One repository while it is written to.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) repository: Repository,
    pub(super) packs: HashMap<PackId, u64>,
    pub(super) lost: Option<RepositoryError>,
}

impl Place {
    /// Leaves the repository out from now on; an interruption is no fault of it.
    pub(super) fn lose(&mut self, error: RepositoryError) -> Result<()> {
        match error {
            RepositoryError::Cancelled(_) => Err(error),
            error => {
                tracing::warn!(%error, repository = self.repository.name(), "is left out from now on");
                self.lost = Some(error);
                Ok(())
            }
        }
    }
}

/// Takes finished packs until there are no more, and stores each in every repository that still answers.
pub(super) async fn store_packs(
    shared: &Shared,
    mut places: Vec<Place>,
    mut packs: mpsc::Receiver<FinishedPack>,
    cancel: &Cancel,
) -> Result<Vec<Place>> {
    let mut running: TaskSet<(PackId, u64, Outcomes)> = TaskSet::new("store pack");
    let mut open = true;
    loop {
        tokio::select! {
            received = packs.recv(), if open && running.len() < PACKS_AT_ONCE => match received {
                None => open = false,
                Some(pack) => {
                    let live = places.iter().enumerate().filter(|(_, place)| place.lost.is_none());
                    let live: Vec<_> = live.map(|(number, place)| (number, place.repository.clone())).collect();
                    let cancel = cancel.clone();
                    running.spawn(async move { (pack.id, pack.bytes.len() as u64, store_pack(live, &pack, &cancel).await) });
                }
            },
            Some(stored) = running.join_next(), if !running.is_empty() => {
                let (id, size, outcomes) = stored?;
                lock(&shared.counts).bytes_stored += size;
                for (number, outcome) in outcomes {
                    let Some(place) = places.get_mut(number) else { continue };
                    match outcome {
                        Ok(()) => drop(place.packs.insert(id, size)),
                        Err(error) if place.lost.is_none() => place.lose(error)?,
                        Err(_) => {}
                    }
                }
                any_left(&places)?;
            },
            else => return Ok(places),
        }
    }
}

/// What became of one pack, per number of a repository.
pub(super) type Outcomes = Vec<(usize, Result<()>)>;

pub(super) async fn store_pack(live: Vec<(usize, Repository)>, pack: &FinishedPack, cancel: &Cancel) -> Outcomes {
    let name = names::pack(pack.id);
    let stores = live.into_iter().map(|(number, repository)| {
        let (name, bytes) = (name.clone(), pack.bytes.clone());
        async move { (number, repository.put(&name, bytes, cancel).await) }
    });
    futures_util::future::join_all(stores).await
}

pub(super) fn any_left(places: &[Place]) -> Result<()> {
    if places.iter().any(|place| place.lost.is_none()) {
        return Ok(());
    }
    Err(none_left(places.iter().filter_map(|place| {
        Some((place.repository.name(), place.lost.as_ref()?))
    })))
}

pub(super) fn none_left<'a>(lost: impl Iterator<Item = (&'a str, &'a RepositoryError)>) -> RepositoryError {
    let causes: Vec<_> = lost
        .map(|(name, error)| format!("\"{name}\": {}", chain(error)))
        .collect();
    RepositoryError::NoneLeft {
        causes: causes.join("; "),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// Copies to each repository the packs that the manifest will name and it lacks: it was down when they were written.
pub(super) async fn bring_up(places: &mut [Place], named: &HashSet<PackId>, cancel: &Cancel) -> Result<()> {
    let lost_before = |place: &Place| place.lost.is_some();
    for number in 0..places.len() {
        let Some(place) = places.get(number).filter(|place| !lost_before(place)) else {
            continue;
        };
        let lacking: Vec<PackId> = named
            .iter()
            .filter(|pack| !place.packs.contains_key(pack))
            .copied()
            .collect();
        for pack in lacking {
            let to = places[number].repository.clone();
            let holder = places
                .iter()
                .find(|other| !lost_before(other) && other.packs.contains_key(&pack));
            let copied = match holder {
                Some(holder) => copy_pack(&holder.repository, &to, pack, cancel).await,
                None => Err(RepositoryError::Missing {
                    location: to.location(),
                    object: names::pack(pack).to_string(),
                }),
            };
            match copied {
                Ok(size) => drop(places[number].packs.insert(pack, size)),
                Err(error) => {
                    places[number].lose(error)?;
                    break;
                }
            }
        }
    }
    any_left(places)
}

pub(super) fn sizes(places: &[Place], named: HashSet<PackId>) -> Result<Vec<(PackId, u32)>> {
    let mut packs = Vec::with_capacity(named.len());
    for pack in named {
        let size = places
            .iter()
            .filter(|place| place.lost.is_none())
            .find_map(|place| place.packs.get(&pack));
        let size = size.and_then(|size| u32::try_from(*size).ok());
        packs.push((
            pack,
            size.ok_or(RepositoryError::TooLarge {
                what: "a pack",
                max: u64::from(u32::MAX),
            })?,
        ));
    }
    packs.sort_unstable();
    Ok(packs)
}
