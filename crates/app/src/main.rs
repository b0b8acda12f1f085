//! Floor 4: the program. The only floor that talks to a person and reads flags, files and the environment.

mod cli;
mod commands;
mod config;
mod exit;
mod live;
mod logging;
mod moment;
mod output;
mod process;
mod progress;

use std::process::ExitCode;

fn main() -> ExitCode {
    let output = output::Output::from_arguments(std::env::args_os());
    let code = match process::guarded(|| run(&output)) {
        Ok(code) => code,
        Err(error) => exit::report(&output, &error),
    };
    ExitCode::from(code)
}

fn run(output: &output::Output) -> Result<u8, exit::AppError> {
    process::refuse_core_dumps()?;
    let Some(cli) = commands::parse(output)? else {
        return Ok(exit::DONE);
    };
    logging::start(&cli.global, output)?;
    process::run_to_end(output, |cancel| commands::run(cli, output.clone(), cancel))
}
