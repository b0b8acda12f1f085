//! What must hold before a snapshot is asked for: the server would have to fork for it.

use ballast_redis::{Connection, Facts, ServerAddress, Severity, fork_room, snapshot_requirements};

use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::settings::SourceSettings;

/// The address of a source, with its password.
pub(crate) fn address(source: &SourceSettings) -> Result<ServerAddress> {
    let parsed = source.url.parse::<ServerAddress>();
    let address = parsed.map_err(|error| {
        let error = ProtectError::from(error).of_kind(ErrorKind::Usage);
        error.about(&format!("source \"{}\"", source.name))
    })?;
    Ok(match &source.password {
        Some(password) => address.with_password(password.clone()),
        None => address,
    })
}

pub(super) fn is_local(address: &ServerAddress) -> bool {
    address.socket.is_some() || matches!(address.host.as_str(), "localhost" | "127.0.0.1" | "::1")
}

pub(super) async fn read(context: &Context, address: &ServerAddress) -> Result<Facts> {
    let mut connection = Connection::open(address, &context.cancel).await?;
    let facts = Facts::read(&mut connection, is_local(address)).await?;
    connection.close().await;
    Ok(facts)
}

/// Reads the server's facts and refuses what would give no whole snapshot, or would endanger the server.
pub(super) async fn preflight(context: &Context, source: &SourceSettings, address: &ServerAddress) -> Result<Facts> {
    let facts = read(context, address).await?;
    let about = format!("source \"{}\"", source.name);
    fork_room(&facts).map_err(|error| ProtectError::from(error).about(&about))?;
    let lacking: Vec<_> = snapshot_requirements(&facts)
        .into_iter()
        .filter(|point| !point.ok && point.severity == Severity::Must)
        .collect();
    if lacking.is_empty() {
        return Ok(facts);
    }
    let problems = lacking
        .iter()
        .map(|point| format!("{}: expected {}, found {}", point.name, point.expected, point.actual));
    let remedies: Vec<_> = lacking.iter().map(|point| point.remedy.clone()).collect();
    let message = format!(
        "{about} cannot be backed up: {}",
        problems.collect::<Vec<_>>().join("; ")
    );
    Err(ProtectError::failed(message).hint(remedies.join("; ")))
}
