//! `init`: creates the repositories of the configuration.

use ballast_protect::{InitOutcome, Vault};
use serde_json::json;

use super::{Result, Run};
use crate::exit::DONE;

pub(super) async fn run(run: &Run) -> Result<u8> {
    let config = run.config()?;
    let repositories = run.secrets(config.repository_settings()).await?;
    let key = run.secrets(config.key.material()).await?;
    let outcomes = Vault::init(&run.context, &repositories, &key).await?;
    if run.output.json {
        let repositories: Vec<_> = outcomes
            .iter()
            .map(
                |InitOutcome {
                     name,
                     location,
                     repository_id,
                     created,
                 }| {
                    json!({ "name": name, "location": location, "repository_id": repository_id, "created": created })
                },
            )
            .collect();
        run.output.object(&json!({ "repositories": repositories }))?;
        return Ok(DONE);
    }
    for InitOutcome {
        name,
        location,
        repository_id,
        created,
    } in &outcomes
    {
        let done = if *created { "created" } else { "is there already" };
        run.output
            .line(format!("repository \"{name}\" {done}: {location} ({repository_id})"))?;
    }
    if outcomes.iter().any(|outcome| outcome.created) {
        run.output
            .say("keep a copy of the passphrase or key file elsewhere: without it nothing can be restored");
    }
    Ok(DONE)
}
