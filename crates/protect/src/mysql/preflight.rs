//! What must hold before a backup starts, and which engine takes it.

use ballast_mysql::{
    Connection, Facts, Requirement, ServerAddress, Severity as RequirementSeverity, clone_requirements,
};

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
    let lacking: Vec<Requirement> = clone_requirements(&facts)
        .into_iter()
        .filter(|requirement| !requirement.ok && requirement.severity == RequirementSeverity::Must)
        .collect();
    match source.engine {
        Engine::Logical => Ok((facts, Engine::Logical)),
        Engine::External => {
            let message = format!("source \"{}\": this version has no external engine", source.name);
            Err(ProtectError::usage(message).hint("write engine = \"physical\" or \"logical\", or leave it out"))
        }
        Engine::Auto | Engine::Physical if lacking.is_empty() => Ok((facts, Engine::Physical)),
        Engine::Auto if is_another_kind(&facts) => Ok((facts, Engine::Logical)),
        Engine::Auto | Engine::Physical => Err(refusal(source, &lacking)),
    }
}

/// A server that can never be copied physically. One that could be, and lacks something, is told what: rows alone would
/// be another backup than the one that was counted on.
pub(crate) fn is_another_kind(facts: &Facts) -> bool {
    clone_requirements(facts).first().is_some_and(|version| !version.ok)
}

fn refusal(source: &SourceSettings, lacking: &[Requirement]) -> ProtectError {
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
        "source \"{}\" cannot be copied physically: {}",
        source.name,
        problems.join("; ")
    ))
    .hint(format!(
        "{}; or take rows instead of files with: --engine logical",
        remedies.join("; ")
    ))
}
