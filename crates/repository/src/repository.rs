//! One repository: created, opened, and what lies in it.

use std::collections::HashMap;
use std::sync::Arc;

use ballast_base::{Cancel, run_blocking};
use ballast_storage::{ObjectFacts, ObjectName, Storage, StorageError};
use bytes::Bytes;

use crate::cipher::Keys;
use crate::error::{RepositoryError, Result};
use crate::format::{Unreadable, decode_stamp, encode_stamp};
use crate::keys::{Lock, MasterKey, encode_slot, open_slot};
use crate::manifest::{MAGIC, Manifest, ManifestFacts};
use crate::names::{self, BackupId, Named, PackId, RepositoryId, SlotId};
use crate::sealed::{FACTS_BYTES_MAX, HEADER_BYTES, Header, Magic};

/// Objects asked for in one page.
pub(crate) const PAGE_OBJECTS: usize = 1000;
/// What the store's self-test calls its objects.
const SELF_TEST: &str = "self-test-";
/// Enough of a manifest to list it, in most cases.
const FACTS_GUESS_BYTES: u64 = 16 * 1024;

/// An opened repository.
#[derive(Debug, Clone)]
pub struct Repository {
    name: Arc<str>,
    storage: Arc<dyn Storage>,
    id: RepositoryId,
    keys: Arc<Keys>,
}

/// What `create_all` found at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Created,
    WasThere,
}

impl Repository {
    /// Opens what lies in `storage`; `name` is what the configuration calls it.
    pub async fn open(name: &str, storage: Arc<dyn Storage>, lock: &Lock, cancel: &Cancel) -> Result<Self> {
        open_with_master(name, storage, lock, cancel)
            .await
            .map(|(repository, _)| repository)
    }

    /// The same repository as it may lie in another place.
    pub(crate) fn at(&self, storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            ..self.clone()
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn id(&self) -> RepositoryId {
        self.id
    }

    /// Where it is, for people.
    pub fn location(&self) -> String {
        self.storage.location()
    }

    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Ids of the backups that lie here, oldest first.
    pub async fn backups(&self, cancel: &Cancel) -> Result<Vec<BackupId>> {
        let mut found = Vec::new();
        self.each_object(names::MANIFESTS, cancel, |object| {
            if let Named::Manifest(id) = names::parse(&object.name) {
                found.push(id);
            }
        })
        .await?;
        Ok(found)
    }

    /// Reads what is needed to list one backup.
    pub async fn facts(&self, id: &BackupId, cancel: &Cancel) -> Result<ManifestFacts> {
        let (facts, manifest_bytes) = self
            .sealed_facts(MAGIC, &names::manifest(id), cancel)
            .await
            .map_err(|error| self.no_backup(id, error))?;
        Ok(ManifestFacts {
            id: id.clone(),
            facts,
            manifest_bytes,
        })
    }

    /// The facts of an object of two sealed parts, without its body, and how large the object is.
    pub(crate) async fn sealed_facts(
        &self,
        magic: Magic,
        name: &ObjectName,
        cancel: &Cancel,
    ) -> Result<(serde_json::Value, u64)> {
        let size = cancel.race(self.storage.head(name)).await??.bytes;
        let read = async |to: u64| {
            cancel
                .race(self.storage.get_range(name, 0..to.min(size)))
                .await?
                .map_err(RepositoryError::from)
        };
        let unreadable = |cause: Unreadable| cause.at(&self.location(), name);
        let mut bytes = read(FACTS_GUESS_BYTES).await?;
        let end = HEADER_BYTES + Header::read(magic, &bytes).map_err(unreadable)?.facts_bytes as usize;
        if end > bytes.len() && end <= HEADER_BYTES + FACTS_BYTES_MAX {
            bytes = read(end as u64).await?;
        }
        let header = Header::read(magic, &bytes).map_err(unreadable)?;
        let sealed = bytes
            .get(HEADER_BYTES..end)
            .ok_or_else(|| self.damaged(name, "it is too short"))?;
        let facts = header
            .open_facts(&self.keys, name, sealed)
            .map_err(|cause| self.damaged(name, cause))?;
        Ok((facts, size))
    }

    /// Reads one whole manifest.
    pub async fn manifest(&self, id: &BackupId, cancel: &Cancel) -> Result<Manifest> {
        let name = names::manifest(id);
        let bytes = cancel
            .race(self.storage.get(&name))
            .await?
            .map_err(|error| self.no_backup(id, error.into()))?;
        Manifest::open(&self.keys, id, &bytes).map_err(|cause| cause.at(&self.location(), &name))
    }

    /// Whether a manifest of this backup lies here.
    pub async fn has_backup(&self, id: &BackupId, cancel: &Cancel) -> Result<bool> {
        match cancel.race(self.storage.head(&names::manifest(id))).await? {
            Ok(_) => Ok(true),
            Err(StorageError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Every pack that lies here and its size.
    pub(crate) async fn packs(&self, cancel: &Cancel) -> Result<HashMap<PackId, u64>> {
        let mut found = HashMap::new();
        self.each_object(names::PACKS, cancel, |object| {
            if let Named::Pack(id) = names::parse(&object.name) {
                found.insert(id, object.bytes);
            }
        })
        .await?;
        Ok(found)
    }

    pub(crate) async fn each_object(
        &self,
        prefix: &str,
        cancel: &Cancel,
        mut each: impl FnMut(ObjectFacts),
    ) -> Result<()> {
        let mut after: Option<ObjectName> = None;
        loop {
            let page = cancel
                .race(self.storage.list(prefix, after.as_ref(), PAGE_OBJECTS))
                .await??;
            let last = page.len() < PAGE_OBJECTS;
            after = page.last().map(|object| object.name.clone());
            page.into_iter().for_each(&mut each);
            if last {
                return Ok(());
            }
        }
    }

    pub(crate) fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    pub(crate) async fn get_pack_range(
        &self,
        pack: PackId,
        range: std::ops::Range<u64>,
        cancel: &Cancel,
    ) -> Result<Bytes> {
        let got = cancel.race(self.storage.get_range(&names::pack(pack), range)).await?;
        got.map_err(|error| RepositoryError::must_exist(&self.location(), error))
    }

    pub(crate) async fn get(&self, name: &ObjectName, cancel: &Cancel) -> Result<Bytes> {
        cancel
            .race(self.storage.get(name))
            .await?
            .map_err(|error| RepositoryError::must_exist(&self.location(), error))
    }

    /// Stores an object that nobody else writes. One that is there with the same content counts as stored: packs and
    /// manifests are copied under their own names.
    pub(crate) async fn put(&self, name: &ObjectName, body: Bytes, cancel: &Cancel) -> Result<()> {
        match cancel.race(self.storage.put_new(name, body.clone())).await? {
            Ok(()) => Ok(()),
            Err(StorageError::AlreadyExists { .. }) if self.get(name, cancel).await? == body => Ok(()),
            Err(StorageError::AlreadyExists { .. }) => {
                Err(self.damaged(name, "it is there already and holds other bytes than its copy"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Stores an object that was just proven to be what its name says. Other bytes under that name are therefore damaged and are
    /// replaced: the one case in which something stored is removed. Tells whether it came to that.
    pub(crate) async fn put_proven(&self, name: &ObjectName, body: Bytes, cancel: &Cancel) -> Result<bool> {
        match cancel.race(self.storage.put_new(name, body.clone())).await? {
            Ok(()) => return Ok(false),
            Err(StorageError::AlreadyExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // What dies in between leaves it missing where it was damaged: the next copy brings it.
        cancel.race(self.storage.delete(name)).await??;
        cancel.race(self.storage.put_new(name, body)).await??;
        Ok(true)
    }

    pub(crate) fn damaged(&self, object: impl ToString, cause: impl ToString) -> RepositoryError {
        RepositoryError::damaged(&self.location(), object, cause)
    }

    fn no_backup(&self, id: &BackupId, error: RepositoryError) -> RepositoryError {
        match error {
            RepositoryError::Storage(StorageError::NotFound { .. }) => RepositoryError::NoBackup {
                location: self.location(),
                id: id.to_string(),
            },
            other => other,
        }
    }
}

pub(crate) async fn read_stamp(storage: &dyn Storage, cancel: &Cancel) -> Result<Option<RepositoryId>> {
    match cancel.race(storage.get(&names::stamp())).await? {
        Ok(bytes) => decode_stamp(&bytes)
            .map(Some)
            .map_err(|cause| cannot_open(cause, &storage.location(), &names::stamp())),
        Err(StorageError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a place without a stamp is: not a repository, unless backups lie in it.
pub(crate) async fn without_stamp(storage: &dyn Storage, cancel: &Cancel) -> Result<RepositoryError> {
    let location = storage.location();
    for prefix in [names::MANIFESTS, names::PACKS, names::LOGS] {
        let found = cancel.race(storage.list(prefix, None, PAGE_OBJECTS)).await??;
        let ours = |name| {
            matches!(
                names::parse(name),
                Named::Manifest(_) | Named::Pack(_) | Named::Stream(_) | Named::Segment(..) | Named::Seen(..)
            )
        };
        if found.iter().any(|object| ours(&object.name)) {
            return Ok(RepositoryError::headless(&location, names::stamp(), "is missing"));
        }
    }
    Ok(RepositoryError::NoRepository { location })
}

fn cannot_open(cause: Unreadable, location: &str, object: &ObjectName) -> RepositoryError {
    match cause {
        Unreadable::Malformed(cause) => RepositoryError::headless(location, object, format!("is damaged: {cause}")),
        too_new @ Unreadable::TooNew(_) => too_new.at(location, object),
    }
}

pub(crate) async fn slots(storage: &dyn Storage, cancel: &Cancel) -> Result<Vec<(ObjectName, Bytes)>> {
    let mut slots = Vec::new();
    for object in cancel.race(storage.list(names::KEYS, None, PAGE_OBJECTS)).await?? {
        if matches!(names::parse(&object.name), Named::Key(_)) {
            match cancel.race(storage.get(&object.name)).await? {
                Ok(bytes) => slots.push((object.name, bytes)),
                // Of an `init` that came second and took its own away.
                Err(StorageError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(slots)
}

async fn open_with_master(
    name: &str,
    storage: Arc<dyn Storage>,
    lock: &Lock,
    cancel: &Cancel,
) -> Result<(Repository, MasterKey)> {
    let location = storage.location();
    let Some(id) = read_stamp(&*storage, cancel).await? else {
        return Err(without_stamp(&*storage, cancel).await?);
    };
    let slots = slots(&*storage, cancel).await?;
    if slots.is_empty() {
        return Err(RepositoryError::headless(&location, names::KEYS, "holds no key slot"));
    }
    let lock = lock.clone();
    // A damaged slot is told only if no other one opens: the lock decides what can be done, not the order of names.
    let outcome = run_blocking("open key slot", move || {
        let mut damage = None;
        for (name, bytes) in slots {
            match open_slot(&bytes, &lock, id, &name) {
                Ok(Some(master)) => return Ok(Some(master)),
                Ok(None) => {}
                Err(cause) => damage = Some((name, cause)),
            }
        }
        damage.map_or(Ok(None), Err)
    })
    .await?;
    match outcome {
        Ok(Some(master)) => {
            let keys = Arc::new(Keys::derive(&master, id));
            Ok((
                Repository {
                    name: name.into(),
                    storage,
                    id,
                    keys,
                },
                master,
            ))
        }
        Ok(None) => Err(RepositoryError::WrongKey { location }),
        Err((slot, cause)) => Err(cannot_open(cause, &location, &slot)),
    }
}

/// Makes sure that a repository lies at every place, all of them copies of one. One that is there is opened and left as it
/// is; a new one gets the id and the key slots of those that are there, or new ones. A place that holds something else is
/// refused, before anything is written anywhere.
///
/// Of several that do this at the same time one wins at each place, the one whose stamp is there first; the others open what it made.
/// They go from place to place in the same order, so that who wins the first place is followed at the next ones.
pub async fn create_all(
    places: Vec<(String, Arc<dyn Storage>)>,
    lock: &Lock,
    cancel: &Cancel,
) -> Result<Vec<(Repository, Presence)>> {
    let mut opened: Vec<(usize, Repository, MasterKey)> = Vec::new();
    let mut absent = Vec::new();
    for (number, (name, storage)) in places.iter().enumerate() {
        if read_stamp(&**storage, cancel).await?.is_some() {
            let (repository, master) = open_with_master(name, Arc::clone(storage), lock, cancel).await?;
            opened.push((number, repository, master));
        } else {
            refuse_foreign(&**storage, cancel).await?;
            absent.push(number);
        }
    }
    if let [(_, first, master), others @ ..] = &opened[..]
        && let Some((_, other, _)) = others
            .iter()
            .find(|(_, other, m)| other.id != first.id || m.0 != master.0)
    {
        return Err(different(other, first.id));
    }
    let mut seed = match opened.first() {
        Some((_, first, _)) => Seed::of(first, cancel).await?,
        None => Seed::new(lock).await?,
    };
    let (planted, mut withdrawn) = (absent.clone(), Vec::new());
    let mut done: Vec<Option<(Repository, Presence)>> = places.iter().map(|_| None).collect();
    for (number, repository, _) in opened {
        done[number] = Some((repository, Presence::WasThere));
    }
    absent.sort_by_key(|number| places[*number].1.location());
    for number in absent {
        let (name, storage) = &places[number];
        let presence = seed.plant(&**storage, cancel).await?;
        let repository = Repository::open(name, Arc::clone(storage), lock, cancel).await?;
        if repository.id != seed.id {
            if !seed.fresh {
                return Err(different(&repository, seed.id));
            }
            withdrawn.extend(seed.slots.iter().map(|(slot, _)| slot.clone()));
            seed = Seed::of(&repository, cancel).await?;
        }
        seed.fresh = false;
        done[number] = Some((repository, presence));
    }
    for number in planted {
        seed.weed(&*places[number].1, &withdrawn, cancel).await?;
    }
    Ok(done.into_iter().flatten().collect())
}

fn different(found: &Repository, expected: RepositoryId) -> RepositoryError {
    RepositoryError::Different {
        location: found.location(),
        found: found.id.to_string(),
        expected: expected.to_string(),
    }
}

/// What a repository begins as: its id and its key slots.
struct Seed {
    id: RepositoryId,
    slots: Vec<(ObjectName, Bytes)>,
    /// Where it was read, if somebody else made it.
    origin: Option<Arc<dyn Storage>>,
    /// It is of no repository yet, so another one may be taken instead.
    fresh: bool,
}

impl Seed {
    async fn new(lock: &Lock) -> Result<Self> {
        let (id, lock) = (RepositoryId::random(), lock.clone());
        let slot = run_blocking("make key slot", move || {
            let name = names::key(SlotId::random());
            let bytes = Bytes::from(encode_slot(&MasterKey::random(), &lock, id, &name));
            (name, bytes)
        })
        .await?;
        Ok(Self {
            id,
            slots: vec![slot],
            origin: None,
            fresh: true,
        })
    }

    async fn of(repository: &Repository, cancel: &Cancel) -> Result<Self> {
        Ok(Self {
            id: repository.id,
            slots: slots(&*repository.storage, cancel).await?,
            origin: Some(Arc::clone(&repository.storage)),
            fresh: false,
        })
    }

    /// Takes away key slots that were copied from where one that came second had written its own and not yet taken it away. That one
    /// does the same with its own slots everywhere, in the end; so whichever is later sees it.
    async fn weed(&self, storage: &dyn Storage, withdrawn: &[ObjectName], cancel: &Cancel) -> Result<()> {
        let mut gone = withdrawn.to_vec();
        if let Some(origin) = &self.origin {
            for (slot, _) in &self.slots {
                match cancel.race(origin.head(slot)).await? {
                    Ok(_) => {}
                    Err(StorageError::NotFound { .. }) => gone.push(slot.clone()),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        for slot in gone {
            cancel.race(storage.delete(&slot)).await??;
        }
        Ok(())
    }

    /// Writes it, unless another repository came first: then what was written of this one is taken away again. Of two that write
    /// the same one at the same moment, both have made it.
    async fn plant(&self, storage: &dyn Storage, cancel: &Cancel) -> Result<Presence> {
        // Somebody who follows the same winner was here first.
        if read_stamp(storage, cancel).await? == Some(self.id) {
            return Ok(Presence::WasThere);
        }
        for (slot, bytes) in &self.slots {
            cancel.race(storage.put_new(slot, bytes.clone())).await??;
        }
        // The stamp last: a repository that has one can be opened.
        let stamp = encode_stamp(self.id).into();
        match cancel.race(storage.put_new(&names::stamp(), stamp)).await? {
            Ok(()) | Err(StorageError::AlreadyExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // What lies there decides: not every store tells two writers apart.
        if read_stamp(storage, cancel).await? == Some(self.id) {
            return Ok(Presence::Created);
        }
        for (slot, _) in &self.slots {
            cancel.race(storage.delete(slot)).await??;
        }
        Ok(Presence::WasThere)
    }
}

/// Key slots and test objects without a stamp are what an interrupted `init` leaves; anything else is not ours to write beside. With a
/// stamp, somebody made a repository here a moment ago.
async fn refuse_foreign(storage: &dyn Storage, cancel: &Cancel) -> Result<()> {
    let found = cancel.race(storage.list("", None, PAGE_OBJECTS)).await??;
    let ours = |name: &ObjectName| matches!(names::parse(name), Named::Key(_)) || name.as_str().starts_with(SELF_TEST);
    if found.iter().any(|object| names::parse(&object.name) == Named::Stamp) {
        return Ok(());
    }
    match without_stamp(storage, cancel).await? {
        RepositoryError::NoRepository { .. } => {}
        lost => return Err(lost),
    }
    match found.into_iter().find(|object| !ours(&object.name)) {
        None => Ok(()),
        Some(object) => Err(RepositoryError::Foreign {
            location: storage.location(),
            object: object.name.to_string(),
        }),
    }
}
