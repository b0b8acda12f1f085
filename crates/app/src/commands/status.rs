//! `status`: where each source stands against the objectives.

use std::time::Duration;

use ballast_base::{format_bytes, format_duration};
use ballast_protect::{LogStatus, SourceStatus, status};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::{Result, Run, code_with, moment, state_word};
use crate::config::{Objectives, Source};

/// What would be lost now, against what may be lost.
#[derive(Debug, Serialize)]
struct Measured<'a> {
    #[serde(flatten)]
    status: &'a SourceStatus,
    objectives: Objective,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Objective {
    rpo_seconds: f64,
    rto_seconds: f64,
    /// The age of the recovery point; `null` while there is none.
    would_lose_seconds: Option<f64>,
    rpo_met: bool,
}

impl Objective {
    fn measure(objectives: Objectives, recovery_point: Option<Timestamp>, now: Timestamp) -> Self {
        let age = recovery_point.map(|at| now.duration_since(at).max(jiff::SignedDuration::ZERO).as_secs_f64());
        let rpo = objectives.rpo.as_secs_f64();
        Self {
            rpo_seconds: rpo,
            rto_seconds: objectives.rto.as_secs_f64(),
            would_lose_seconds: age,
            rpo_met: age.is_some_and(|age| age <= rpo),
        }
    }
}

pub(super) async fn run(run: &Run) -> Result<u8> {
    let config = run.config()?;
    let vault = run.open(&config).await?;
    let sources: Vec<_> = config.sources.iter().map(Source::described).collect();
    let now = run.context.clock.now();
    let statuses = status(&run.context, &vault, &sources, &config.spool).await?;
    let measured: Vec<Measured<'_>> = statuses
        .iter()
        .map(|status| {
            let objectives = Objective::measure(config.objectives, status.recovery_point, now);
            Measured { status, objectives }
        })
        .collect();
    if run.output.json {
        run.output.object(&json!({ "sources": measured }))?;
    } else if measured.is_empty() {
        run.output.say("the configuration has no source");
    } else {
        let rows: Vec<Vec<String>> = measured.iter().map(|measured| row(measured, now)).collect();
        let header = [
            "source",
            "backups",
            "last backup",
            "would lose",
            "objective",
            "repositories behind",
            "log",
        ];
        run.output.table(&header, &[1], &rows)?;
    }
    Ok(code_with(vault.lost()))
}

fn row(measured: &Measured<'_>, now: Timestamp) -> Vec<String> {
    let Measured { status, objectives } = measured;
    let none = || "none".to_owned();
    let span = |seconds: f64| Duration::try_from_secs_f64(seconds).map_or_else(|_| none(), format_duration);
    let met = if objectives.rpo_met { "met" } else { "missed" };
    let last = status.last_backup.as_ref();
    vec![
        status.source.clone(),
        status.backups.to_string(),
        last.map_or_else(none, |backup| {
            format!("{} {}", moment(backup.finished_at), state_word(backup.state))
        }),
        objectives
            .would_lose_seconds
            .map_or_else(|| "everything".to_owned(), span),
        format!("{} {met}", span(objectives.rpo_seconds)),
        if status.behind.is_empty() {
            none()
        } else {
            status.behind.join(", ")
        },
        status.log.as_ref().map_or_else(none, |log| log_text(log, now)),
    ]
}

/// Where the log stands, how old that is, and what waits in the spool.
fn log_text(log: &LogStatus, now: Timestamp) -> String {
    let age = log
        .until
        .map(|until| now.duration_since(until).max(jiff::SignedDuration::ZERO));
    let age = age.and_then(|age| Duration::try_from(age).ok()).map(format_duration);
    let age = age.map_or_else(String::new, |age| format!(", {age} ago"));
    let spool = format_bytes(log.spool_bytes);
    format!("{}:{}{age}, {spool} in the spool", log.file, log.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recovery_point_is_measured_against_the_objective() {
        let objectives = Objectives {
            rpo: Duration::from_secs(3600),
            rto: Duration::from_secs(14_400),
        };
        let now: Timestamp = "2026-11-01T10:00:00Z".parse().unwrap();
        for (point, lose, met) in [
            (Some("2026-11-01T09:00:00Z"), Some(3600.0), true),
            (Some("2026-11-01T08:59:59Z"), Some(3601.0), false),
            (Some("2026-11-01T10:00:01Z"), Some(0.0), true),
            (None, None, false),
        ] {
            let measured = Objective::measure(objectives, point.map(|text| text.parse().unwrap()), now);
            assert_eq!(
                (measured.would_lose_seconds, measured.rpo_met),
                (lose, met),
                "{point:?}"
            );
        }
    }
}
