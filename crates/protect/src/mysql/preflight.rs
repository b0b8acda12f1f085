//! What must hold before a physical backup starts.

use ballast_mysql::{
    Connection, Facts, Requirement, ServerAddress, Severity as RequirementSeverity, clone_requirements,
};

use crate::context::Context;
use crate::error::{ProtectError, Result};
use crate::settings::SourceSettings;

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

/// Reads the donor's facts and refuses what would give a backup that is not one.
pub(crate) async fn preflight(context: &Context, source: &SourceSettings, address: &ServerAddress) -> Result<Facts> {
    let mut connection = Connection::open(address, &context.cancel).await?;
    let facts = Facts::read(&mut connection).await?;
    connection.close().await;
    let failed: Vec<Requirement> = clone_requirements(&facts)
        .into_iter()
        .filter(|requirement| !requirement.ok && requirement.severity == RequirementSeverity::Must)
        .collect();
    if failed.is_empty() {
        return Ok(facts);
    }
    let problems: Vec<_> = failed
        .iter()
        .map(|requirement| {
            format!(
                "{}: expected {}, found {}",
                requirement.name, requirement.expected, requirement.actual
            )
        })
        .collect();
    let remedies: Vec<_> = failed.iter().map(|requirement| requirement.remedy.clone()).collect();
    Err(ProtectError::failed(format!(
        "source \"{}\" cannot be copied physically: {}",
        source.name,
        problems.join("; ")
    ))
    .hint(remedies.join("; ")))
}
