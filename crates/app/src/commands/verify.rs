//! `verify`: proves the stored bytes without restoring.

use ballast_base::format_bytes;
use ballast_protect::{RepositoryReport, Severity, VerifyScope, verify};
use serde::Serialize;

use super::{Result, Run, code_with, severity_word};
use crate::cli::VerifyArgs;
use crate::exit::DAMAGED;

/// A finding and the repository it is in.
#[derive(Serialize)]
struct Located<'a, T> {
    repository: &'a str,
    #[serde(flatten)]
    finding: &'a T,
}

pub(super) async fn run(run: &Run, args: VerifyArgs) -> Result<u8> {
    let config = run.config()?;
    let vault = run.open(&config).await?;
    let scope = VerifyScope {
        source: args.source,
        backup: args.backup,
    };
    let report = verify(&run.context, &vault, &scope).await?;
    for repository in &report.repositories {
        show(run, repository)?;
    }
    if run.output.json {
        run.output.record("result", &report)?;
    }
    Ok(if report.damaged() {
        DAMAGED
    } else {
        code_with(&report.lost)
    })
}

fn show(run: &Run, report: &RepositoryReport) -> Result<()> {
    let RepositoryReport {
        name,
        objects,
        bytes,
        backups,
        streams,
        findings,
    } = report;
    if run.output.json {
        for finding in findings {
            run.output.record(
                "finding",
                &Located {
                    repository: name,
                    finding,
                },
            )?;
        }
        return Ok(());
    }
    for finding in findings {
        let harm = match &finding.stream {
            Some(id) if !finding.object.contains(id) => format!(" (in log {id})"),
            _ if finding.backups.is_empty() => String::new(),
            _ => format!(" (in {})", finding.backups.join(", ")),
        };
        run.output.line(format!(
            "{}: repository \"{name}\": {}: {}{harm}",
            severity_word(finding.severity),
            finding.object,
            finding.message
        ))?;
        if let Some(remedy) = &finding.remedy {
            run.output.line(format!("  remedy: {remedy}"))?;
        }
    }
    let wrong = findings
        .iter()
        .filter(|finding| finding.severity != Severity::Ok)
        .count();
    let verdict = match wrong {
        0 => "nothing wrong".to_owned(),
        wrong => format!("findings: {wrong}"),
    };
    let read = format_bytes(*bytes);
    run.output.line(format!(
        "repository \"{name}\": {verdict} (backups: {backups}, logs: {streams}, objects: {objects}, {read} read)"
    ))
}
