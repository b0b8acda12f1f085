//! The repositories of one configuration, opened. Some may be out of reach: work goes on with the others, and they are named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ballast_repository::{Lock, Presence, Repository, RepositoryError, copy_head, create_all};
use ballast_storage::{Presence as StorePresence, Storage};

use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result, chain};
use crate::settings::{KeyMaterial, RepositorySettings};

/// Opened repositories.
#[derive(Debug)]
pub struct Vault {
    opened: Vec<Repository>,
    lost: Vec<LostRepository>,
}

/// A repository that could not be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LostRepository {
    pub name: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// It answered, and what it holds is damaged.
    #[serde(skip)]
    pub damaged: bool,
}

/// What `init` did at one place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct InitOutcome {
    pub name: String,
    pub location: String,
    pub repository_id: String,
    /// `false`: it was there, and is the same.
    pub created: bool,
}

impl Vault {
    /// Creates the repositories that are not there yet. All or an error: nothing is created beside one that does not fit.
    pub async fn init(
        context: &Context,
        repositories: &[RepositorySettings],
        key: &KeyMaterial,
    ) -> Result<Vec<InitOutcome>> {
        let mut places = Vec::new();
        for repository in repositories {
            let store = ballast_storage::open(&repository.storage, StorePresence::MayCreate);
            let store = context
                .cancel
                .race(store)
                .await?
                .map_err(|error| named(&repository.name, error.into()))?;
            let tested = context.cancel.race(ballast_storage::self_test(&*store)).await?;
            tested.map_err(|error| named(&repository.name, error.into()))?;
            places.push((repository.name.clone(), store));
        }
        refuse_same_place(places.iter().map(|(name, store)| (name.as_str(), store.location())))?;
        let created = create_all(places, &lock(key), &context.cancel).await?;
        Ok(created
            .into_iter()
            .map(|(repository, presence)| InitOutcome {
                name: repository.name().to_owned(),
                location: repository.location(),
                repository_id: repository.id().to_string(),
                created: presence == Presence::Created,
            })
            .collect())
    }

    /// Opens what can be opened. An error if nothing can, or if what opens are not copies of one repository.
    pub async fn open(context: &Context, repositories: &[RepositorySettings], key: &KeyMaterial) -> Result<Self> {
        let (mut opened, mut failed): (Vec<Repository>, Vec<(String, ProtectError)>) = (Vec::new(), Vec::new());
        for settings in repositories {
            match open_one(context, settings, key).await {
                Ok(repository) => {
                    if let Some(first) = opened.first() {
                        refuse_different(first, &repository)?;
                    }
                    opened.push(repository);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(error) => failed.push((settings.name.clone(), error)),
            }
        }
        refuse_same_place(
            opened
                .iter()
                .map(|repository| (repository.name(), repository.location())),
        )?;
        if opened.is_empty() {
            // The first failure decides the exit code; the others are named with it.
            let mut failed = failed.into_iter();
            let Some((name, first)) = failed.next() else {
                return Err(ProtectError::usage("the configuration names no repository").hint("add a [[repository]]"));
            };
            let others: Vec<_> = failed
                .map(|(name, error)| format!("repository \"{name}\": {}", chain(&error)))
                .collect();
            let first = named(&name, first);
            return Err(if others.is_empty() {
                first
            } else {
                first.and(&others.join("; "))
            });
        }
        let whole = opened.first().map(Repository::name).unwrap_or_default();
        let lost = failed
            .into_iter()
            .map(|(name, error)| {
                let mut lost = LostRepository::new(name, &error);
                if lost.damaged {
                    let command = format!("ballast copy --from {whole} --to {}", lost.name);
                    lost.hint = Some(format!("bring back what opens it with: {command}"));
                }
                lost
            })
            .collect();
        Ok(Self { opened, lost })
    }

    /// Opens the two repositories of a copy, and no others. With `mend`, what opens `to` is brought back from `from` where it is
    /// missing or damaged.
    pub async fn open_pair(
        context: &Context,
        from: &RepositorySettings,
        to: &RepositorySettings,
        key: &KeyMaterial,
        mend: bool,
    ) -> Result<Self> {
        let about = |error| named(&to.name, error);
        let source = open_one(context, from, key)
            .await
            .map_err(|error| named(&from.name, error))?;
        let target = match open_one(context, to, key).await {
            Err(error) if mend && error.kind() == ErrorKind::Damaged => {
                let store = open_store(context, to).await.map_err(about)?;
                let brought = copy_head(&source, store, &context.cancel).await;
                let brought = brought.map_err(|error| about(error.into()))?;
                context.note(format!(
                    "repository \"{}\" was given back what opens it: {}",
                    to.name,
                    brought.join(", ")
                ));
                open_one(context, to, key).await
            }
            opened => opened,
        };
        let target = target.map_err(about)?;
        refuse_different(&source, &target)?;
        let opened = vec![source, target];
        refuse_same_place(
            opened
                .iter()
                .map(|repository| (repository.name(), repository.location())),
        )?;
        Ok(Self {
            opened,
            lost: Vec::new(),
        })
    }

    /// Names of the repositories that opened.
    pub fn names(&self) -> Vec<String> {
        self.opened
            .iter()
            .map(|repository| repository.name().to_owned())
            .collect()
    }

    /// Those that did not.
    pub fn lost(&self) -> &[LostRepository] {
        &self.lost
    }

    pub(crate) fn repositories(&self) -> &[Repository] {
        &self.opened
    }

    pub(crate) fn named(&self, name: &str) -> Result<&Repository> {
        if let Some(repository) = self.opened.iter().find(|repository| repository.name() == name) {
            return Ok(repository);
        }
        match self.lost.iter().find(|lost| lost.name == name) {
            Some(lost) => Err(ProtectError::failed(format!(
                "repository \"{name}\" cannot be used: {}",
                lost.message
            ))),
            None => Err(
                ProtectError::usage(format!("there is no repository \"{name}\" in the configuration"))
                    .hint(format!("the configuration names: {}", self.names().join(", "))),
            ),
        }
    }
}

impl LostRepository {
    pub(crate) fn new(name: String, error: &ProtectError) -> Self {
        Self {
            name,
            message: chain(error),
            hint: error.hint_text().map(str::to_owned),
            damaged: error.kind() == ErrorKind::Damaged,
        }
    }
}

async fn open_store(context: &Context, settings: &RepositorySettings) -> Result<Arc<dyn Storage>> {
    let store = ballast_storage::open(&settings.storage, StorePresence::MustExist);
    match context.cancel.race(store).await? {
        Ok(store) => Ok(store),
        Err(ballast_storage::StorageError::NoRoot { location }) => {
            Err(RepositoryError::NoRepository { location }.into())
        }
        Err(error) => Err(error.into()),
    }
}

async fn open_one(context: &Context, settings: &RepositorySettings, key: &KeyMaterial) -> Result<Repository> {
    let store = open_store(context, settings).await?;
    Ok(Repository::open(&settings.name, store, &lock(key), &context.cancel).await?)
}

/// Opens one that was out of reach; it must be a copy of `other`, at another place.
pub(crate) async fn reopen(
    context: &Context,
    settings: &RepositorySettings,
    key: &KeyMaterial,
    other: &Repository,
) -> Result<Repository> {
    let repository = open_one(context, settings, key).await?;
    refuse_different(other, &repository)?;
    let both = [other, &repository].map(|repository| (repository.name(), repository.location()));
    refuse_same_place(both.into_iter())?;
    Ok(repository)
}

fn lock(key: &KeyMaterial) -> Lock {
    match key {
        KeyMaterial::Passphrase(secret) => Lock::Passphrase(secret.clone()),
        KeyMaterial::KeyFile(secret) => Lock::KeyFile(secret.clone()),
    }
}

/// Says which repository an error is about.
fn named(name: &str, error: ProtectError) -> ProtectError {
    error.about(&format!("repository \"{name}\""))
}

/// Only copies of one repository have the same chunks under the same ids.
fn refuse_different(first: &Repository, other: &Repository) -> Result<()> {
    if first.id() == other.id() {
        return Ok(());
    }
    Err(RepositoryError::Different {
        location: other.location(),
        found: other.id().to_string(),
        expected: first.id().to_string(),
    }
    .into())
}

/// Two repositories at one place are one: counted as two they would be a lie.
fn refuse_same_place<'a>(places: impl Iterator<Item = (&'a str, String)>) -> Result<()> {
    let mut seen: Vec<(String, &str)> = Vec::new();
    for (name, location) in places {
        let place = match location.strip_prefix("file://") {
            Some(path) => real_path(Path::new(path)).display().to_string(),
            None => location.trim_end_matches('/').to_owned(),
        };
        if let Some((_, other)) = seen.iter().find(|(known, _)| *known == place) {
            let message = format!("repositories \"{other}\" and \"{name}\" are the same place: {location}");
            return Err(ProtectError::usage(message).hint("give each repository a place of its own"));
        }
        seen.push((place, name));
    }
    Ok(())
}

/// The path without links, as far as it is there.
pub(crate) fn real_path(path: &Path) -> PathBuf {
    for there in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (there.canonicalize(), path.strip_prefix(there)) {
            return if rest.as_os_str().is_empty() {
                real
            } else {
                real.join(rest)
            };
        }
    }
    path.to_owned()
}
