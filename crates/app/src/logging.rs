//! Our own messages: to standard error, warnings only unless `-v` or `BALLAST_LOG` asks for more.

use std::io::Write;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::Global;
use crate::config::environment::variable;
use crate::exit::AppError;
use crate::output::Output;

pub(crate) fn start(global: &Global, output: &Output) -> Result<(), AppError> {
    let wanted = variable("BALLAST_LOG").map(|text| text.to_string_lossy().into_owned());
    // Other people's libraries stay at warnings: what they tell below that is not ours to promise free of secrets.
    let filter = wanted.clone().unwrap_or_else(|| match global.verbose {
        0 => "warn".to_owned(),
        1 => "warn,ballast=info".to_owned(),
        2 => "warn,ballast=debug".to_owned(),
        _ => "warn,ballast=trace".to_owned(),
    });
    let filter = EnvFilter::try_new(&filter).map_err(|error| AppError::Usage {
        message: format!("BALLAST_LOG is not a filter: {error}"),
        hint: Some("BALLAST_LOG=debug, or BALLAST_LOG=warn,ballast_protect=debug".to_owned()),
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(output.color)
        .with_writer(AboveBar(output.clone()))
        .init();
    Ok(())
}

/// Writes messages above the bar, if one is drawn.
#[derive(Debug, Clone)]
struct AboveBar(Output);

impl<'a> MakeWriter<'a> for AboveBar {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for AboveBar {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write_message(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
