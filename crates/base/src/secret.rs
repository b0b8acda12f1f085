//! Secrets: not printable, wiped when dropped, and never spelled out in the configuration, which only says where
//! they are kept.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

/// A secret file may be this large, and a secret command may print this much.
const SECRET_BYTES_MAX: usize = 64 * 1024;
/// A secret command must answer within this time.
const COMMAND_WAIT_MAX: Duration = Duration::from_secs(30);

/// A secret value. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    pub fn new(value: String) -> Self {
        Self(SecretString::from(value))
    }

    /// The value itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// Where a secret is kept: exactly one of an environment variable, a file only its owner can read, or a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretRef {
    Env(String),
    File(PathBuf),
    Command(Vec<String>),
}

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("environment variable \"{name}\" is not set")]
    NotSet { name: String },
    #[error("environment variable \"{name}\" is not UTF-8 text")]
    NotText { name: String },
    #[error("read secret file \"{}\"", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("secret file \"{}\" can be read by others (mode {mode:04o}); type: chmod 600 {}", path.display(), path.display())]
    FileMode { path: PathBuf, mode: u32 },
    #[error("secret {place} is not UTF-8 text of at most {SECRET_BYTES_MAX} bytes")]
    Content { place: String },
    #[error("secret {place} is empty")]
    Empty { place: String },
    #[error("run secret command \"{program}\"")]
    Command { program: String, source: std::io::Error },
    #[error("secret command \"{program}\" failed: {outcome}")]
    CommandFailed { program: String, outcome: String },
    #[error("a secret command needs at least a program")]
    NoProgram,
}

impl SecretRef {
    /// Reads the secret. `env` is how the program reads its environment. One trailing line break is taken off.
    pub async fn read(&self, env: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<Secret, SecretError> {
        let (place, raw) = match self {
            Self::Env(name) => {
                let value = env(name).ok_or_else(|| SecretError::NotSet { name: name.clone() })?;
                let text = value
                    .into_string()
                    .map_err(|_| SecretError::NotText { name: name.clone() })?;
                (format!("variable \"{name}\""), text.into_bytes())
            }
            Self::File(path) => (format!("file \"{}\"", path.display()), read_private_file(path)?),
            Self::Command(argv) => (
                format!("command \"{}\"", argv.first().map_or("", String::as_str)),
                run(argv).await?,
            ),
        };
        if raw.len() > SECRET_BYTES_MAX {
            return Err(SecretError::Content { place });
        }
        let mut text = String::from_utf8(raw).map_err(|_| SecretError::Content { place: place.clone() })?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.is_empty() {
            return Err(SecretError::Empty { place });
        }
        Ok(Secret::new(text))
    }
}

fn read_private_file(path: &std::path::Path) -> Result<Vec<u8>, SecretError> {
    use std::io::Read as _;
    let failed = |source| SecretError::File {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::FileMode {
            path: path.to_owned(),
            mode,
        });
    }
    let mut raw = Vec::new();
    file.take(SECRET_BYTES_MAX as u64 + 1)
        .read_to_end(&mut raw)
        .map_err(failed)?;
    Ok(raw)
}

async fn run(argv: &[String]) -> Result<Vec<u8>, SecretError> {
    let (program, arguments) = argv.split_first().ok_or(SecretError::NoProgram)?;
    let child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let failed = |outcome| SecretError::CommandFailed {
        program: program.clone(),
        outcome,
    };
    let output = tokio::time::timeout(COMMAND_WAIT_MAX, child)
        .await
        .map_err(|_| failed(format!("no answer within {} s", COMMAND_WAIT_MAX.as_secs())))?
        .map_err(|source| SecretError::Command {
            program: program.clone(),
            source,
        })?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_env(_: &str) -> Option<std::ffi::OsString> {
        None
    }

    #[tokio::test]
    async fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::File::create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = SecretRef::File(path).read(no_env).await.unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[tokio::test]
    async fn a_command_answers_and_one_line_break_is_taken_off() {
        let echo = SecretRef::Command(vec!["printf".into(), "tide \\n".into()]);
        assert_eq!(echo.read(no_env).await.unwrap().expose(), "tide ");
        let error = SecretRef::Command(vec!["false".into()]).read(no_env).await.unwrap_err();
        assert!(error.to_string().contains("exit status: 1"), "{error}");
    }

    #[tokio::test]
    async fn an_unset_variable_is_named_and_nothing_prints_a_secret() {
        let error = SecretRef::Env("TIDE".into()).read(no_env).await.unwrap_err();
        assert_eq!(error.to_string(), "environment variable \"TIDE\" is not set");
        let secret = SecretRef::Env("TIDE".into())
            .read(|_| Some("hush".into()))
            .await
            .unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(hidden)");
    }
}
