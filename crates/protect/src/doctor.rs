//! Every check of repositories and sources: what was expected, what is there, and what to type.

use ballast_mysql::{
    Connection, Facts, FollowFacts, Requirement, ServerAddress, Severity as RequirementSeverity, clone_requirements,
    follow_requirements, log_requirements, row_requirements, tool_requirements,
};

use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result, chain};
use crate::mysql::commit_pause::read_tables;
use crate::mysql::external::tools;
use crate::mysql::preflight::{address, is_another_kind};
use crate::redis::doctor::look_at_redis;
use crate::settings::{Engine, KeyMaterial, RepositorySettings, SourceKind, SourceSettings};
use crate::vault::Vault;

/// A repository with less room than this share of its volume is running full.
const FREE_SHARE_MIN: f64 = 0.2;
/// Moments are compared between machines: their clocks may differ by this much.
const CLOCK_SKEW_SECONDS_MAX: f64 = 2.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Ok,
    Warning,
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub check: String,
    /// The source or repository it is about.
    pub subject: String,
    pub severity: Severity,
    pub expected: String,
    pub actual: String,
    /// What mends it.
    pub remedy: Option<String>,
}

/// Looks at everything. An error only if the work itself was stopped: what does not work is a finding.
pub async fn doctor(
    context: &Context,
    repositories: &[RepositorySettings],
    key: &KeyMaterial,
    sources: &[SourceSettings],
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for repository in repositories {
        findings.extend(look_at_repository(context, repository, key).await?);
    }
    for source in sources {
        match source.kind {
            SourceKind::Mysql => findings.extend(look_at_mysql(context, source).await?),
            SourceKind::Redis => findings.extend(look_at_redis(context, source).await?),
        }
    }
    Ok(findings)
}

async fn look_at_repository(
    context: &Context,
    settings: &RepositorySettings,
    key: &KeyMaterial,
) -> Result<Vec<Finding>> {
    let one = std::slice::from_ref(settings);
    let vault = match Vault::open(context, one, key).await {
        Ok(vault) => vault,
        Err(error) => {
            return stopped(error).map(|error| vec![unusable("opens", &settings.name, "it opens with [key]", &error)]);
        }
    };
    let mut findings = vec![fine("opens", &settings.name, "it opens with [key]")];
    for repository in vault.repositories() {
        let space = context.cancel.race(repository.storage().space()).await?;
        match space {
            Ok(Some(space)) if space.total_bytes > 0 => {
                #[expect(clippy::cast_precision_loss, reason = "a share of a volume")]
                let share = space.free_bytes as f64 / space.total_bytes as f64;
                findings.push(Finding {
                    check: "free space".to_owned(),
                    subject: settings.name.clone(),
                    severity: if share < FREE_SHARE_MIN {
                        Severity::Warning
                    } else {
                        Severity::Ok
                    },
                    expected: format!("at least {:.0} % of the volume", FREE_SHARE_MIN * 100.0),
                    actual: format!(
                        "{:.0} %, {}",
                        share * 100.0,
                        ballast_base::format_bytes(space.free_bytes)
                    ),
                    remedy: (share < FREE_SHARE_MIN).then(|| "make room on the volume".to_owned()),
                });
            }
            Ok(_) => {}
            Err(error) => findings.push(unusable(
                "free space",
                &settings.name,
                "the store answers",
                &error.into(),
            )),
        }
    }
    Ok(findings)
}

async fn look_at_mysql(context: &Context, source: &SourceSettings) -> Result<Vec<Finding>> {
    let read = async {
        let address = address(source)?;
        let mut connection = Connection::open(&address, &context.cancel).await?;
        let facts = Facts::read(&mut connection).await?;
        let follow = if source.log.follow {
            Some(FollowFacts::read(&mut connection).await?)
        } else {
            None
        };
        let tables = read_tables(&mut connection).await?;
        let skew = clock_skew(context, &mut connection).await?;
        let encrypted = connection.is_tls();
        connection.close().await;
        Ok((address, facts, follow, tables, skew, encrypted))
    };
    let (address, facts, follow, tables, skew, encrypted) = match read.await {
        Ok(read) => read,
        Err(error) => {
            return stopped(error).map(|error| vec![unusable("answers", &source.name, "the server answers", &error)]);
        }
    };
    let mut findings = vec![
        fine("answers", &source.name, "the server answers"),
        transport(source, &address, encrypted),
    ];
    let by_rows = source.engine == Engine::Logical || source.engine == Engine::Auto && is_another_kind(&facts);
    let copied = if source.engine == Engine::External {
        match tools::find(context, &source.tools, facts.version.flavour).await {
            Ok(tool) => tool_requirements(&facts, &tool),
            Err(error) => {
                let error = stopped(error)?;
                findings.push(unusable("backup tool", &source.name, "it is there", &error));
                Vec::new()
            }
        }
    } else if by_rows {
        row_requirements(&facts)
    } else {
        clone_requirements(&facts)
    };
    let followed = follow.map_or_else(Vec::new, |follow| {
        follow_requirements(&facts, &follow, source.log.semi_sync)
    });
    // What both need is said once, as strictly as following needs it.
    let named: Vec<_> = followed.iter().map(|requirement| requirement.name).collect();
    let copied = copied
        .into_iter()
        .filter(|requirement| !named.contains(&requirement.name));
    let requirements = copied.chain(log_requirements(&facts)).chain(followed);
    findings.extend(requirements.map(|requirement| from_requirement(source, requirement)));
    let missing: Vec<_> = source
        .expect
        .iter()
        .flat_map(|pattern| pattern.missing(&tables))
        .collect();
    findings.push(Finding {
        check: "expected tables".to_owned(),
        subject: source.name.clone(),
        severity: if missing.is_empty() {
            Severity::Ok
        } else {
            Severity::Error
        },
        expected: source
            .expect
            .iter()
            .map(|pattern| pattern.as_str().to_owned())
            .collect::<Vec<_>>()
            .join(", "),
        actual: if missing.is_empty() {
            format!("all there, of {} tables", tables.len())
        } else {
            format!("missing: {}", missing.join(", "))
        },
        remedy: (!missing.is_empty()).then(|| "create the tables, or correct \"expect\" of the source".to_owned()),
    });
    let far = skew.abs() > CLOCK_SKEW_SECONDS_MAX;
    findings.push(Finding {
        check: "clock".to_owned(),
        subject: source.name.clone(),
        severity: if far { Severity::Warning } else { Severity::Ok },
        expected: format!("within {CLOCK_SKEW_SECONDS_MAX} s of this machine"),
        actual: format!("{:+.2} s", (skew * 100.0).round() / 100.0 + 0.0),
        remedy: far.then(|| "set both machines' clocks by NTP".to_owned()),
    });
    Ok(findings)
}

/// Seconds the server's clock is ahead of ours, half the way there and back allowed for.
async fn clock_skew(context: &Context, connection: &mut Connection) -> Result<f64> {
    let before = context.clock.now();
    let answer = connection.value("SELECT UNIX_TIMESTAMP(NOW(6))").await?;
    let after = context.clock.now();
    let server: f64 = answer.and_then(|text| text.parse().ok()).unwrap_or_default();
    let seconds = |at: jiff::Timestamp| at.as_duration().as_secs_f64();
    Ok(server - f64::midpoint(seconds(before), seconds(after)))
}

fn transport(source: &SourceSettings, address: &ServerAddress, encrypted: bool) -> Finding {
    let local = address.socket.is_some() || matches!(address.host.as_str(), "localhost" | "127.0.0.1" | "::1");
    let open = !encrypted && !local;
    Finding {
        check: "transport".to_owned(),
        subject: source.name.clone(),
        severity: if open { Severity::Error } else { Severity::Ok },
        expected: "TLS, or the same machine".to_owned(),
        actual: match (encrypted, local) {
            (true, _) => "TLS".to_owned(),
            (false, true) => "the same machine".to_owned(),
            (false, false) => "plain text over the network".to_owned(),
        },
        remedy: open.then(|| "write ?tls=required or ?tls=verify&ca=PATH in the url".to_owned()),
    }
}

fn from_requirement(source: &SourceSettings, requirement: Requirement) -> Finding {
    let severity = match (requirement.ok, requirement.severity == RequirementSeverity::Must) {
        (true, _) => Severity::Ok,
        (false, true) => Severity::Error,
        (false, false) => Severity::Warning,
    };
    Finding {
        check: requirement.name.to_owned(),
        subject: source.name.clone(),
        severity,
        expected: requirement.expected,
        actual: requirement.actual,
        remedy: (!requirement.ok).then_some(requirement.remedy),
    }
}

pub(crate) fn fine(check: &str, subject: &str, expected: &str) -> Finding {
    Finding {
        check: check.to_owned(),
        subject: subject.to_owned(),
        severity: Severity::Ok,
        expected: expected.to_owned(),
        actual: "yes".to_owned(),
        remedy: None,
    }
}

pub(crate) fn unusable(check: &str, subject: &str, expected: &str, error: &ProtectError) -> Finding {
    Finding {
        check: check.to_owned(),
        subject: subject.to_owned(),
        severity: Severity::Error,
        expected: expected.to_owned(),
        actual: chain(error),
        remedy: error.hint_text().map(str::to_owned),
    }
}

/// Passes an interruption on; everything else is to be shown.
pub(crate) fn stopped(error: ProtectError) -> Result<ProtectError> {
    if error.kind() == ErrorKind::Interrupted {
        Err(error)
    } else {
        Ok(error)
    }
}
