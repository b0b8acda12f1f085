//! What must hold before a backup starts, and which engine takes it.

use ballast_mysql::{
    Connection, Facts, Requirement, ServerAddress, Severity as RequirementSeverity, clone_requirements,
    tool_requirements,
};

use super::external::tools;
use crate::context::Context;
use crate::error::{ProtectError, Result};
use crate::settings::{Engine, SourceSettings};

/// The address of a source, with its password.
pub(crate) fn address(source: &SourceSettings) -> Result<ServerAddress> {
    let address: ServerAddress = source
        .url
        .parse()
        .map_err(|error| ProtectError::usage_of(error).about(&format!("source \"{}\"", source.name)))?;
    Ok(match &source.password {
        Some(password) => address.with_password(password.clone()),
        None => address,
    })
}

/// Reads the server's facts, decides for an engine, and refuses what would give a backup that is not one.
pub(crate) async fn preflight(
    context: &Context,
    source: &SourceSettings,
    address: &ServerAddress,
) -> Result<(Facts, Engine)> {
    let mut connection = Connection::open(address, &context.cancel).await?;
    let facts = Facts::read(&mut connection).await?;
    connection.close().await;
    let lacking = unmet(clone_requirements(&facts));
    match source.engine {
        Engine::Logical => Ok((facts, Engine::Logical)),
        Engine::External => {
            let tool = tools::find(context, &source.tools, facts.version.flavour).await?;
            match unmet(tool_requirements(&facts, &tool)) {
                lacking if lacking.is_empty() => Ok((facts, Engine::External)),
                lacking => Err(refusal(source, &format!("backed up by {}", tool.name()), &lacking)),
            }
        }
        Engine::Auto | Engine::Physical if lacking.is_empty() => Ok((facts, Engine::Physical)),
        Engine::Auto if is_another_kind(&facts) => Ok((facts, Engine::Logical)),
        Engine::Auto | Engine::Physical | Engine::Snapshot => Err(refusal(source, "copied physically", &lacking)),
    }
}

fn unmet(list: Vec<Requirement>) -> Vec<Requirement> {
    list.into_iter()
        .filter(|requirement| !requirement.ok && requirement.severity == RequirementSeverity::Must)
        .collect()
}

/// A server that can never be copied physically. One that could be, and lacks something, is told what: rows alone would
/// be another backup than the one that was counted on.
pub(crate) fn is_another_kind(facts: &Facts) -> bool {
    clone_requirements(facts).first().is_some_and(|version| !version.ok)
}

fn refusal(source: &SourceSettings, how: &str, lacking: &[Requirement]) -> ProtectError {
    let problems: Vec<_> = lacking
        .iter()
        .map(|requirement| {
            format!(
                "{}: expected {}, found {}",
                requirement.name, requirement.expected, requirement.actual
            )
        })
        .collect();
    let remedies: Vec<_> = lacking.iter().map(|requirement| requirement.remedy.clone()).collect();
    ProtectError::failed(format!(
        "source \"{}\" cannot be {how}: {}",
        source.name,
        problems.join("; ")
    ))
    .hint(format!(
        "{}; or take rows instead of files with: --engine logical",
        remedies.join("; ")
    ))
}
