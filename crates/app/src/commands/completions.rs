//! `completions`: the script that completes verbs and flags in a shell.

use clap::CommandFactory as _;
use clap_complete::Shell;
use serde_json::json;

use super::{Result, Run};
use crate::cli::Cli;
use crate::exit::{AppError, DONE};

pub(super) fn run(run: &Run, shell: Shell) -> Result<u8> {
    // Into memory first: the generator would panic when nobody reads standard output.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ballast", &mut script);
    let script = String::from_utf8(script).map_err(|error| AppError::Output(std::io::Error::other(error)))?;
    if run.output.json {
        run.output
            .object(&json!({ "shell": shell.to_string(), "script": script }))?;
    } else {
        run.output.data(&script)?;
    }
    Ok(DONE)
}
