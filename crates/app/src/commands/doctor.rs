//! `doctor`: everything that could keep a backup or a restore from working, and what to type.

use ballast_base::SecretError;
use ballast_protect::{Finding, Severity, doctor};
use serde_json::json;

use super::{Result, Run, severity_word};
use crate::cli::DoctorArgs;
use crate::config::settings::SecretFailure;
use crate::exit::{AppError, DONE, FAILED};

pub(super) async fn run(run: &Run, args: &DoctorArgs) -> Result<u8> {
    let config = run.config()?;
    let wanted = match &args.source {
        Some(name) => vec![config.source(name)?],
        None => config.sources.iter().collect(),
    };
    // A secret that cannot be had is a finding, and what does not need it is still checked.
    let mut findings = Vec::new();
    let mut repositories = Vec::new();
    for repository in &config.repositories {
        match run.secrets(repository.settings()).await {
            Ok(settings) => repositories.push(settings),
            Err(AppError::Secret(failure)) => findings.push(unreadable(&failure)),
            Err(interrupted) => return Err(interrupted),
        }
    }
    let mut sources = Vec::new();
    for source in wanted {
        match run.secrets(source.settings()).await {
            Ok(settings) => sources.push(settings),
            Err(AppError::Secret(failure)) => findings.push(unreadable(&failure)),
            Err(interrupted) => return Err(interrupted),
        }
    }
    match run.secrets(config.key.material()).await {
        Ok(key) => findings.extend(doctor(&run.context, &repositories, &key, &sources).await?),
        Err(AppError::Secret(failure)) => findings.push(unreadable(&failure)),
        Err(interrupted) => return Err(interrupted),
    }
    show(run, &findings)?;
    Ok(if findings.iter().any(|finding| finding.severity == Severity::Error) {
        FAILED
    } else {
        DONE
    })
}

fn unreadable(failure: &SecretFailure) -> Finding {
    let remedy = match &failure.source {
        SecretError::NotSet { name } => Some(format!("set {name} in the environment of ballast")),
        SecretError::FileMode { path, .. } => Some(format!("chmod 600 {}", path.display())),
        _ => None,
    };
    let cause = std::error::Error::source(&failure.source).map_or_else(String::new, |cause| format!(": {cause}"));
    Finding {
        check: "secret".to_owned(),
        subject: failure.whose.clone(),
        severity: Severity::Error,
        expected: "can be read".to_owned(),
        actual: format!("{}{cause}", failure.source),
        remedy,
    }
}

fn show(run: &Run, findings: &[Finding]) -> Result<()> {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if run.output.json {
        for finding in findings {
            run.output.record("finding", finding)?;
        }
        let result = json!({ "checks": findings.len(), "errors": errors, "warnings": warnings });
        return run.output.record("result", &result);
    }
    for finding in findings {
        let Finding {
            check,
            subject,
            severity,
            expected,
            actual,
            remedy,
        } = finding;
        let word = severity_word(*severity);
        if *severity == Severity::Ok {
            let wanted = if actual == expected {
                String::new()
            } else {
                format!(" (expected: {expected})")
            };
            run.output
                .line(format!("{word:8} {subject}: {check}: {actual}{wanted}"))?;
            continue;
        }
        run.output.line(format!("{word:8} {subject}: {check}"))?;
        run.output.line(format!("           expected: {expected}"))?;
        run.output.line(format!("           actual:   {actual}"))?;
        if let Some(remedy) = remedy {
            run.output.line(format!("           remedy:   {remedy}"))?;
        }
    }
    run.output.say(format!(
        "checks: {}, errors: {errors}, warnings: {warnings}",
        findings.len()
    ));
    Ok(())
}
