//! The moments of a Redis that one repository can give back: of each backup alone, and with the recorded commands behind it.

use ballast_redis::Position;
use ballast_repository::Repository;

use super::commands::{Stream, read};
use crate::archive::{LogStream, cause_words};
use crate::catalog::{BackupState, BackupSummary};
use crate::context::Context;
use crate::error::Result;
use crate::settings::SourceKind;
use crate::timeline::{Hole, Reach, Span, join, micros};

pub(crate) async fn reach(
    context: &Context,
    repository: &Repository,
    source: &str,
    backups: &[BackupSummary],
) -> Result<Reach> {
    let streams = read(context, repository, source).await?;
    let mut points = Vec::new();
    let here = |backup: &&BackupSummary| {
        backup.kind == Some(SourceKind::Redis)
            && backup.state == BackupState::Good
            && backup.repositories.iter().any(|name| name == repository.name())
    };
    for backup in backups.iter().filter(here) {
        if let Some(at) = backup.snapshot_at.map(micros) {
            points.push(Span { from: at, to: at });
        }
        let position = backup.position.as_ref();
        let position = position.and_then(|at| Position::new(at.replication_id.as_deref()?, at.offset?));
        let Some(position) = position.filter(|_| backup.point_in_time != Some(false)) else {
            continue;
        };
        for stream in streams.iter().filter(|stream| stream.holds(&position)) {
            if let Some(span) = stream.span_of(context, &position).await? {
                points.push(span);
            }
        }
    }
    let points = join(points);
    let between = |pair: &[Span]| match pair {
        [before, behind] => Some(Hole {
            from: before.to,
            to: behind.from,
            cause: cause(&streams, before.to, behind.from),
        }),
        _ => None,
    };
    let gaps = points.windows(2).filter_map(between).collect();
    let last = points.last().map_or(0, |span| span.to);
    let recorded = streams.iter().map(Stream::until).max().unwrap_or(0);
    let unreached = (recorded > last && last > 0).then(|| Hole {
        from: last,
        to: recorded,
        cause: format!("{}; no backup leads there yet", cause(&streams, last, recorded)),
    });
    Ok(Reach {
        points,
        gaps,
        unreached,
    })
}

fn cause(streams: &[Stream<'_>], from: u64, to: u64) -> String {
    let begun = |stream: &&Stream<'_>| (from..=to).contains(&micros(stream.started_at));
    let words = |stream: &Stream<'_>| match serde_json::from_value(stream.listing.facts.clone()) {
        Ok(LogStream::Redis(facts)) => facts.after.as_ref().map(cause_words),
        _ => None,
    };
    let mut causes: Vec<String> = streams.iter().filter(begun).filter_map(words).collect();
    causes.dedup();
    if causes.is_empty() {
        "no commands were recorded".to_owned()
    } else {
        causes.join("; ")
    }
}
