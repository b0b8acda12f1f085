//! From the configuration to the settings of the floors below, with the secrets a verb needs read.

use ballast_base::{Secret, SecretError, SecretRef};
use ballast_protect::{KeyMaterial, RepositorySettings, SourceSettings, ToolPlaces};
use ballast_storage::StorageSettings;

use super::environment::{program_folders, variable};
use super::reader::nearest;
use super::{Config, KeyRef, Repository, Source};
use crate::exit::AppError;

/// A secret that could not be had, and whose it is.
#[derive(Debug, thiserror::Error)]
#[error("read {whose}")]
pub(crate) struct SecretFailure {
    pub(crate) whose: String,
    pub(crate) source: SecretError,
}

async fn read(whose: impl Into<String>, secret: &SecretRef) -> Result<Secret, SecretFailure> {
    secret.read(variable).await.map_err(|source| SecretFailure {
        whose: whose.into(),
        source,
    })
}

async fn read_optional(whose: String, secret: Option<&SecretRef>) -> Result<Option<Secret>, SecretFailure> {
    match secret {
        Some(secret) => read(whose, secret).await.map(Some),
        None => Ok(None),
    }
}

impl KeyRef {
    pub(crate) async fn material(&self) -> Result<KeyMaterial, SecretFailure> {
        Ok(match self {
            Self::Passphrase(secret) => KeyMaterial::Passphrase(read("passphrase of [key]", secret).await?),
            Self::KeyFile(secret) => KeyMaterial::KeyFile(read("key_file of [key]", secret).await?),
        })
    }
}

impl Repository {
    pub(crate) async fn settings(&self) -> Result<RepositorySettings, SecretFailure> {
        let whose = |key: &str| format!("{key} of repository \"{}\"", self.name);
        Ok(RepositorySettings {
            name: self.name.clone(),
            storage: StorageSettings {
                url: self.url.clone(),
                endpoint: self.endpoint.clone(),
                region: self.region.clone(),
                access_key: read_optional(whose("access_key"), self.access_key.as_ref()).await?,
                secret_key: read_optional(whose("secret_key"), self.secret_key.as_ref()).await?,
                session_token: read_optional(whose("session_token"), self.session_token.as_ref()).await?,
                ca_file: self.ca_file.clone(),
                insecure: self.insecure,
            },
        })
    }
}

impl Source {
    pub(crate) async fn settings(&self) -> Result<SourceSettings, SecretFailure> {
        let whose = format!("password of source \"{}\"", self.name);
        let password = read_optional(whose, self.password.as_ref()).await?;
        Ok(SourceSettings {
            password,
            ..self.described()
        })
    }

    /// The settings without the password, for verbs that do not talk to the server.
    pub(crate) fn described(&self) -> SourceSettings {
        SourceSettings {
            name: self.name.clone(),
            kind: self.kind,
            url: self.url.clone(),
            password: None,
            databases: self.databases.clone(),
            expect: self.expect.clone(),
            engine: self.engine,
            tools: ToolPlaces {
                named: self.tool.clone(),
                folders: program_folders(),
            },
            limit: self.limit,
            log: self.log,
        }
    }
}

impl Config {
    /// The settings of every repository.
    pub(crate) async fn repository_settings(&self) -> Result<Vec<RepositorySettings>, SecretFailure> {
        let mut settings = Vec::new();
        for repository in &self.repositories {
            settings.push(repository.settings().await?);
        }
        Ok(settings)
    }

    /// The source of that name.
    pub(crate) fn source(&self, name: &str) -> Result<&Source, AppError> {
        self.sources
            .iter()
            .find(|source| source.name == name)
            .ok_or_else(|| self.unknown("source", name, self.sources.iter().map(|source| source.name.as_str())))
    }

    /// The repository of that name.
    pub(crate) fn repository(&self, name: &str) -> Result<&Repository, AppError> {
        let names = self.repositories.iter().map(|repository| repository.name.as_str());
        self.repositories
            .iter()
            .find(|repository| repository.name == name)
            .ok_or_else(|| self.unknown("repository", name, names))
    }

    fn unknown<'a>(&self, kind: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> AppError {
        let hint = nearest(name, known.clone()).map_or_else(
            || match known.collect::<Vec<_>>().join(", ") {
                names if names.is_empty() => format!("add a [[{kind}]] to the configuration"),
                names => format!("it has {names}"),
            },
            |known| format!("did you mean \"{known}\"?"),
        );
        let message = format!(
            "there is no {kind} \"{name}\" in configuration \"{}\"",
            self.file.display()
        );
        AppError::Usage {
            message,
            hint: Some(hint),
        }
    }
}
