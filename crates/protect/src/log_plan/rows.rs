//! Rows that are loaded into a running server stay at their backup's moment: the log is replayed on files. Where it leads on, that is said.

use ballast_mysql::{Gtid, LogFlavour};

use super::{Place, alone, choose};
use crate::catalog::{BackupState, BackupSummary};
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::settings::Engine;
use crate::stop::Stop;
use crate::timeline::read::starts;
use crate::timeline::{CLOCK_SKEW, Micros, micros, timestamp, ways};

/// The same places, with the rows among `left_out` as what is begun with.
fn places_of<'a>(left_out: &[BackupSummary], places: Vec<Place<'a>>) -> Vec<Place<'a>> {
    let is_rows = |backup: &&BackupSummary| backup.engine == Some(Engine::Logical);
    let rows: Vec<BackupSummary> = left_out.iter().filter(is_rows).cloned().collect();
    let of = |place: Place<'a>| {
        let starts = starts(&rows, place.repository.name(), place.read.flavour);
        let ways = ways(&starts, &place.read.streams, CLOCK_SKEW);
        Place { starts, ways, ..place }
    };
    places.into_iter().map(of).collect()
}

fn hint(places: &[Place<'_>]) -> &'static str {
    match places.iter().find_map(|place| place.read.flavour) {
        Some(LogFlavour::MariaDb) => "take a backup with engine = \"external\", whose restores take the log",
        _ => "for the log on top, restore to --to datadir:PATH",
    }
}

/// Warns if the newest good backup, which is restored alone, is of rows and the log has more.
pub(super) fn warn(context: &Context, backups: &[BackupSummary], left_out: &[BackupSummary], places: Vec<Place<'_>>) {
    let newest = backups.iter().find(|backup| backup.state == BackupState::Good);
    let (Some(newest), places) = (newest, places_of(left_out, places)) else {
        return;
    };
    let (Some(snapshot), mut latest) = (newest.snapshot_at, None) else {
        return;
    };
    for place in &places {
        for way in &place.ways {
            let (Some(start), Some(run)) = (place.starts.get(way.start), place.run(way)) else {
                continue;
            };
            let more = start
                .executed
                .as_ref()
                .is_some_and(|(_, most)| !most.contains(&run.through));
            if start.id == newest.id && more {
                latest = latest.max(Some(way.span.to));
            }
        }
    }
    if let Some(latest) = latest {
        let message = format!(
            "the recorded log leads on to {}; rows that are loaded into a running server stay at the backup's moment {snapshot}",
            timestamp(latest)
        );
        context.warn(message, Some(hint(&places).to_owned()));
    }
}

/// Says that a newer backup is passed over, which is not of files: the log leads on from these, and not as far.
pub(super) fn warn_of_newer(context: &Context, left_out: &[BackupSummary], until: Micros) {
    let good = left_out.iter().filter(|backup| backup.state == BackupState::Good);
    let newest = good
        .filter_map(|backup| Some((micros(backup.snapshot_at?), backup)))
        .max_by_key(|(at, _)| *at);
    let Some((at, newest)) = newest.filter(|(at, _)| *at > until) else {
        return;
    };
    let message = format!(
        "backup {} of {} is newer, and passed over: it is not of files, and from those there are the log leads to {} only",
        newest.id,
        timestamp(at),
        timestamp(until)
    );
    context.warn(message, Some(format!("load it alone with --backup {}", newest.id)));
}

/// The error, if it is for this that a stop cannot be had: rows would lead there, or there is nothing else.
pub(super) async fn refused(
    context: &Context,
    left_out: &[BackupSummary],
    places: Vec<Place<'_>>,
    stop: &Stop,
    skip: &[Gtid],
) -> Result<Option<ProtectError>> {
    let nothing_else = places.iter().all(|place| place.starts.is_empty());
    let places = places_of(left_out, places);
    if places.iter().all(|place| place.starts.is_empty()) {
        return Ok(None);
    }
    let own = alone(&places, stop).map(|(_, start)| &start.id);
    let leads = own.is_some() || !choose(context, &places, stop, skip).await?.is_empty();
    let hint = match own.filter(|_| skip.is_empty()) {
        Some(id) => format!("that is the very moment of backup {id}: load it with --backup {id}, without a stop"),
        None => hint(&places).to_owned(),
    };
    Ok((nothing_else || leads).then(|| {
        let message = "rows of a logical backup that go into a running server are not taken on by the log";
        ProtectError::new(ErrorKind::NotRestorable, message).hint(hint)
    }))
}
