//! The only table from an error to its message, causes, hint and exit code.

use ballast_protect::{ErrorKind, ProtectError};
use serde::Serialize;

use crate::config::settings::SecretFailure;
use crate::config::{ConfigError, Mistake};
use crate::output::Output;

pub(crate) const DONE: u8 = 0;
pub(crate) const FAILED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const PARTIAL: u8 = 3;
pub(crate) const DAMAGED: u8 = 4;
pub(crate) const NOT_RESTORABLE: u8 = 5;
pub(crate) const NO_REPOSITORY: u8 = 10;
pub(crate) const HELD: u8 = 11;
pub(crate) const WRONG_KEY: u8 = 12;
pub(crate) const INTERRUPTED: u8 = 130;

/// Everything that can end a verb early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    #[error(transparent)]
    Protect(#[from] ProtectError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Secret(#[from] SecretFailure),
    #[error("{message}")]
    Usage { message: String, hint: Option<String> },
    /// The command line; clap words and prints it.
    #[error("{}", first_line(.0))]
    Arguments(clap::Error),
    #[error("write to standard output")]
    Output(#[source] std::io::Error),
    #[error("{step}")]
    System { step: &'static str, source: std::io::Error },
    /// A mistake of ours.
    #[error("internal error: {message}")]
    Panicked { message: String },
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned()
}

/// The JSON form of an error.
#[derive(Debug, Serialize)]
struct Report<'a> {
    code: u8,
    message: String,
    hint: Option<String>,
    causes: Vec<String>,
    /// Each mistake in the configuration.
    #[serde(skip_serializing_if = "<[Mistake]>::is_empty")]
    mistakes: &'a [Mistake],
}

impl AppError {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Protect(error) => match error.kind() {
                ErrorKind::Failed => FAILED,
                ErrorKind::Usage => USAGE,
                ErrorKind::Damaged => DAMAGED,
                ErrorKind::NotRestorable => NOT_RESTORABLE,
                ErrorKind::NoRepository => NO_REPOSITORY,
                ErrorKind::Held => HELD,
                ErrorKind::WrongKey => WRONG_KEY,
                ErrorKind::Interrupted => INTERRUPTED,
            },
            Self::Config(_) | Self::Secret(_) | Self::Usage { .. } | Self::Arguments(_) => USAGE,
            Self::Output(_) | Self::System { .. } | Self::Panicked { .. } => FAILED,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Protect(error) => error.hint_text().map(str::to_owned),
            Self::Config(ConfigError::Absent { .. }) => {
                Some("ballast --config FILE, or write ./ballast.toml".to_owned())
            }
            Self::Usage { hint, .. } => hint.clone(),
            Self::Panicked { .. } => {
                Some("this is a mistake in Ballast; nothing that was reported done is lost".to_owned())
            }
            _ => None,
        }
    }

    /// What led to it, the nearest first. A cause that only repeats what was said before it is left out.
    fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut said = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            let text = error.to_string();
            if !said.contains(&text) {
                causes.push(text.clone());
                said = text;
            }
            next = error.source();
        }
        causes
    }

    fn mistakes(&self) -> &[Mistake] {
        match self {
            Self::Config(ConfigError::Mistakes { mistakes, .. }) => mistakes,
            _ => &[],
        }
    }

    fn details(&self) -> Vec<String> {
        if let Self::Config(ConfigError::Mistakes { file, mistakes }) = self {
            return mistakes.iter().flat_map(|mistake| mistake.lines(file)).collect();
        }
        self.causes()
            .into_iter()
            .map(|cause| format!("because: {cause}"))
            .collect()
    }
}

impl Mistake {
    fn lines(&self, file: &std::path::Path) -> Vec<String> {
        let mut lines = vec![format!(
            "{}:{}:{}: {}",
            file.display(),
            self.line,
            self.column,
            self.message
        )];
        lines.extend(self.hint.as_ref().map(|hint| format!("  hint: {hint}")));
        lines
    }
}

/// Tells of the error, to people always and as JSON if asked, and gives its exit code.
pub(crate) fn report(output: &Output, error: &AppError) -> u8 {
    // Nobody reads any more: nothing is left to tell, and nobody to tell it to.
    if matches!(error, AppError::Output(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe) {
        return error.code();
    }
    match error {
        // The colour and the usage line are clap's own.
        AppError::Arguments(wrong) => drop(wrong.print()),
        _ => output.error(&error.to_string(), &error.details(), error.hint().as_deref()),
    }
    if output.json {
        let (message, hint, causes) = (error.to_string(), error.hint(), error.causes());
        let report = Report {
            code: error.code(),
            message,
            hint,
            causes,
            mistakes: error.mistakes(),
        };
        // The exit code and standard error say it too.
        drop(output.record("error", &report));
    }
    error.code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once_and_in_order() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let error = AppError::Config(ConfigError::Unreadable {
            file: "b.toml".into(),
            source,
        });
        assert_eq!(error.to_string(), "read configuration \"b.toml\"");
        assert_eq!(error.causes(), ["no such file"]);
        assert_eq!(error.code(), USAGE);
    }

    #[test]
    fn the_document_names_every_code() {
        let document = include_str!("../../../docs/exit-codes.md");
        let named: Vec<u8> = document
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
            .collect();
        let codes = [
            DONE,
            FAILED,
            USAGE,
            PARTIAL,
            DAMAGED,
            NOT_RESTORABLE,
            NO_REPOSITORY,
            HELD,
            WRONG_KEY,
            INTERRUPTED,
        ];
        assert_eq!(named, codes);
    }
}
