//! Looks at everything in a repository with fresh eyes: reads every byte back and names every damaged, missing or unknown object.
//!
//! Nothing is taken from what another part of the program believes: objects come from the store's own list, contents are
//! opened with the keys, and each extent of each manifest must be what the directory of its pack says. A pack that is damaged is
//! marked, so that no later backup uses it; one that is whole again is marked no longer.

mod logs;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ballast_base::{Cancel, TaskSet, run_blocking};
use ballast_storage::ObjectName;

use crate::chunk::{ChunkId, Location};
use crate::error::{RepositoryError, Result};
use crate::extent::Extent;
use crate::format::decode_stamp;
use crate::keys::check_slot;
use crate::manifest::{Layout, ListPlace, Manifest};
use crate::names::{self, BackupId, Named, PackId, SegmentPlace, StreamId};
use crate::pack::{PackEntry, PackKey};
use crate::reader::read_list;
use crate::repository::{PAGE_OBJECTS, Repository};

/// Packs read and opened at once.
const PACKS_AT_ONCE: usize = 3;

/// What to look at.
#[derive(Debug, Clone, Copy)]
pub enum CheckScope<'a> {
    /// Every object there is.
    Everything,
    /// These backups and the packs they name, and these streams.
    Chosen {
        backups: &'a [BackupId],
        streams: &'a [StreamId],
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingKind {
    /// Its bytes are not what was written.
    Damaged,
    /// Something names it and it is not there.
    Missing,
    /// It is not ours: nothing uses it.
    Unknown,
    /// A pack that no backup names: an interrupted backup left it, the next one uses it. Or a segment whose bytes another one holds.
    Unused,
}

/// One thing that `check` saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckFinding {
    pub object: String,
    pub kind: FindingKind,
    pub message: String,
    /// The backups that cannot be restored because of it.
    pub backups: Vec<BackupId>,
    /// The stream of a log it is of.
    pub stream: Option<StreamId>,
}

#[derive(Debug, Default)]
pub struct CheckReport {
    pub objects: u64,
    pub bytes: u64,
    pub backups: Vec<BackupId>,
    pub streams: Vec<StreamId>,
    pub findings: Vec<CheckFinding>,
}

/// The directories of the packs that were read: chunk by place, or that the pack is not usable.
type Directories = HashMap<PackId, Option<HashMap<u32, PackEntry>>>;

impl Repository {
    /// Checks what is in scope. `progress` is told of bytes read and the sum of bytes to read.
    pub async fn check(
        &self,
        scope: CheckScope<'_>,
        progress: Arc<dyn Fn(u64, u64) + Send + Sync>,
        cancel: &Cancel,
    ) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        let mut found = self.sort_objects(&mut report, cancel).await?;
        if let CheckScope::Chosen { streams, .. } = scope {
            found.streams.retain(|id, _| streams.contains(id));
            found.segment_marks.retain(|(id, _)| streams.contains(id));
            for id in streams {
                // One that is wanted and of which nothing is here is missing.
                found.streams.entry(*id).or_default();
            }
        }
        let manifests = self.read_manifests(&found, scope, &mut report, cancel).await?;
        let mut users: BTreeMap<PackId, Vec<BackupId>> = BTreeMap::new();
        for manifest in &manifests {
            for (pack, _) in &manifest.packs {
                users.entry(*pack).or_default().push(manifest.id.clone());
            }
        }
        if matches!(scope, CheckScope::Everything) {
            for pack in found.packs.keys() {
                users.entry(*pack).or_default();
            }
        }
        let packs = users.keys().filter_map(|pack| found.packs.get(pack));
        let segments = found.streams.values().flat_map(|stream| stream.segments.values());
        let mut meter = Meter {
            done: 0,
            total: packs.chain(segments).sum(),
            progress,
        };
        meter.add(0);
        let directories = self.read_packs(&found, &users, &mut report, &mut meter, cancel).await?;
        self.settle_marks(&found, &directories, &mut report, cancel).await?;
        for manifest in &manifests {
            self.check_extents(manifest, &directories, &mut report, cancel).await?;
        }
        self.check_logs(&found.streams, &found.segment_marks, &mut report, &mut meter, cancel)
            .await?;
        report.findings.sort_by(|a, b| a.object.cmp(&b.object));
        report.backups = manifests.into_iter().map(|manifest| manifest.id).collect();
        Ok(report)
    }

    /// Sorts the store's objects into kinds; the small ones are read at once.
    async fn sort_objects(&self, report: &mut CheckReport, cancel: &Cancel) -> Result<Found> {
        let mut found = Found::default();
        let mut keys = Vec::new();
        self.each_object("", cancel, |object| {
            report.objects += 1;
            match names::parse(&object.name) {
                Named::Stamp => {}
                Named::Key(_) => keys.push(object.name),
                Named::Pack(id) => drop(found.packs.insert(id, object.bytes)),
                Named::Manifest(id) => found.manifests.push((id, object.bytes)),
                Named::Mark(id) => drop(found.marks.insert(id)),
                log @ (Named::Stream(id) | Named::Segment(id, _) | Named::Seen(id, _)) => {
                    found.streams.entry(id).or_default().take(&log, object.bytes);
                }
                Named::SegmentMark(id, place) => drop(found.segment_marks.insert((id, place))),
                Named::Unknown => report.stranger(object.name.as_str()),
            }
        })
        .await?;
        for stranger in cancel.race(self.storage().strangers(PAGE_OBJECTS)).await?? {
            report.stranger(&stranger);
        }
        let stamp = names::stamp();
        if let Some(bytes) = self.read_or_report(&stamp, &[], report, cancel).await?
            && let Err(cause) = decode_stamp(&bytes)
        {
            report.damaged(&stamp, &cause.at(&self.location(), &stamp), Vec::new());
        }
        if keys.is_empty() {
            report.missing(
                "keys/".to_owned(),
                "no key slot is left: nothing can be opened any more",
                Vec::new(),
            );
        }
        for name in keys {
            if let Some(bytes) = self.read_or_report(&name, &[], report, cancel).await?
                && let Err(cause) = check_slot(&bytes)
            {
                report.damaged(&name, &cause.at(&self.location(), &name), Vec::new());
            }
        }
        Ok(found)
    }

    async fn read_manifests(
        &self,
        found: &Found,
        scope: CheckScope<'_>,
        report: &mut CheckReport,
        cancel: &Cancel,
    ) -> Result<Vec<Manifest>> {
        let mut manifests = Vec::new();
        for (id, _) in &found.manifests {
            if let CheckScope::Chosen { backups: wanted, .. } = scope
                && !wanted.contains(id)
            {
                continue;
            }
            let name = names::manifest(id);
            let affected = [id.clone()];
            let Some(bytes) = self.read_or_report(&name, &affected, report, cancel).await? else {
                continue;
            };
            match Manifest::open(self.keys(), id, &bytes) {
                Ok(manifest) => manifests.push(manifest),
                Err(cause) => report.damaged(&name, &cause.at(&self.location(), &name), affected.to_vec()),
            }
        }
        if let CheckScope::Chosen { backups: wanted, .. } = scope {
            let there: HashSet<&BackupId> = found.manifests.iter().map(|(id, _)| id).collect();
            for id in wanted.iter().filter(|id| !there.contains(id)) {
                report.missing(
                    names::manifest(id).to_string(),
                    "there is no such backup here",
                    vec![id.clone()],
                );
            }
        }
        Ok(manifests)
    }

    /// Reads every pack in `users` whole, opens every chunk, and keeps the directories.
    async fn read_packs(
        &self,
        found: &Found,
        users: &BTreeMap<PackId, Vec<BackupId>>,
        report: &mut CheckReport,
        meter: &mut Meter,
        cancel: &Cancel,
    ) -> Result<Directories> {
        let mut directories = Directories::new();
        let mut running = TaskSet::new("check pack");
        let mut todo = users.keys().copied();
        loop {
            while running.len() < PACKS_AT_ONCE
                && let Some(pack) = todo.next()
            {
                if let Some(size) = found.packs.get(&pack).copied() {
                    let (repository, cancel) = (self.clone(), cancel.clone());
                    running.spawn(async move { (pack, size, repository.check_pack(pack, &cancel).await) });
                } else {
                    directories.insert(pack, None);
                    let affected = users.get(&pack).cloned().unwrap_or_default();
                    report.missing(
                        names::pack(pack).to_string(),
                        "backups name it and it is not there",
                        affected,
                    );
                }
            }
            let Some(checked) = running.join_next().await else {
                break;
            };
            let (pack, size, outcome) = checked?;
            meter.add(size);
            let affected = users.get(&pack).cloned().unwrap_or_default();
            let directory = match outcome {
                Ok(entries) => {
                    report.bytes += size;
                    if affected.is_empty() {
                        report.findings.push(CheckFinding {
                            object: names::pack(pack).to_string(),
                            kind: FindingKind::Unused,
                            message:
                                "no backup names it: an interrupted one left it, and the next one uses what is in it"
                                    .to_owned(),
                            backups: Vec::new(),
                            stream: None,
                        });
                    }
                    Some(entries.into_iter().map(|entry| (entry.offset, entry)).collect())
                }
                Err(error) => {
                    report.error(names::pack(pack), error, affected)?;
                    None
                }
            };
            directories.insert(pack, directory);
        }
        Ok(directories)
    }

    /// Brings the marks to what was seen. A store that cannot be written to is no reason to keep back what was found.
    async fn settle_marks(
        &self,
        found: &Found,
        directories: &Directories,
        report: &mut CheckReport,
        cancel: &Cancel,
    ) -> Result<()> {
        for (pack, directory) in directories {
            if directory.is_some() || !found.packs.contains_key(pack) {
                continue;
            }
            let outcome = match self.mark(*pack, cancel).await {
                Ok(()) => "it is marked, and later backups do not use what is in it".to_owned(),
                Err(RepositoryError::Cancelled(cancelled)) => return Err(cancelled.into()),
                Err(error) => format!("later backups may use what is in it, as it could not be marked: {error}"),
            };
            let object = names::pack(*pack).to_string();
            let of_it = report.findings.iter_mut().filter(|finding| finding.object == object);
            for finding in of_it {
                finding.message = format!("{}; {outcome}", finding.message);
            }
        }
        for pack in &found.marks {
            let whole = directories.get(pack).is_some_and(Option::is_some);
            if (whole || !found.packs.contains_key(pack))
                && let Err(error) = self.unmark(*pack, cancel).await
            {
                cancel.check()?;
                tracing::warn!(%error, %pack, "the mark of a pack that is whole stays");
            }
        }
        Ok(())
    }

    pub(crate) async fn check_pack(&self, pack: PackId, cancel: &Cancel) -> Result<Vec<PackEntry>> {
        let name = names::pack(pack);
        let bytes = self.get(&name, cancel).await?;
        let keys = Arc::clone(self.keys());
        let checked = run_blocking("check pack", move || {
            PackKey::new(&keys, pack).check_whole(&mut bytes.to_vec(), Some(&keys))
        });
        checked.await?.map_err(|cause| cause.at(&self.location(), &name))
    }

    /// Each extent must be what the directory of its pack says. A pack that is not usable was told already.
    async fn check_extents(
        &self,
        manifest: &Manifest,
        directories: &Directories,
        report: &mut CheckReport,
        cancel: &Cancel,
    ) -> Result<()> {
        let name = names::manifest(&manifest.id);
        let fits = |id: ChunkId, location: Location, least: u64| match directories.get(&location.pack) {
            None => Err(format!("it does not list pack {} that it uses", location.pack)),
            Some(None) => Ok(false),
            Some(Some(entries)) => match entries.get(&location.offset) {
                Some(entry) if entry.id == id && entry.stored == location.stored && u64::from(entry.raw) >= least => {
                    Ok(true)
                }
                _ => Err(format!(
                    "pack {} holds something else at offset {}",
                    location.pack, location.offset
                )),
            },
        };
        let check = |extents: &[Extent], size: u64| -> std::result::Result<(), String> {
            for extent in extents {
                if extent.offset + u64::from(extent.length) > size {
                    return Err("an extent ends beyond its file".to_owned());
                }
                if let Some(piece) = extent.chunk {
                    fits(
                        piece.id,
                        piece.location,
                        u64::from(piece.skip) + u64::from(extent.length),
                    )?;
                }
            }
            Ok(())
        };
        for file in &manifest.files {
            let outcome = match &file.layout {
                Layout::Inline(extents) => check(extents, file.size),
                Layout::Lists(lists) => {
                    let mut outcome = Ok(());
                    let mut end = 0;
                    for list in lists {
                        outcome = match fits(list.id, list.location, 0) {
                            Ok(false) => Ok(()),
                            Err(cause) => Err(cause),
                            Ok(true) => {
                                let extents = self.list_or_report(list, &manifest.id, report, cancel).await?;
                                let begins = extents.first().map_or(end, |first| first.offset);
                                let ordered = begins >= end;
                                end = extents.last().map_or(end, |last| last.offset + u64::from(last.length));
                                if ordered {
                                    check(&extents, file.size)
                                } else {
                                    Err("its lists are not in order".to_owned())
                                }
                            }
                        };
                        if outcome.is_err() {
                            break;
                        }
                    }
                    outcome
                }
            };
            if let Err(cause) = outcome {
                let cause = format!("file \"{}\": {cause}", String::from_utf8_lossy(&file.name));
                report.damaged(&name, &self.damaged(&name, cause), vec![manifest.id.clone()]);
                return Ok(());
            }
        }
        Ok(())
    }

    async fn list_or_report(
        &self,
        list: &ListPlace,
        backup: &BackupId,
        report: &mut CheckReport,
        cancel: &Cancel,
    ) -> Result<Vec<Extent>> {
        match read_list(self, list, cancel).await {
            Ok(extents) => Ok(extents),
            Err(error) => {
                report.error(names::pack(list.location.pack), error, vec![backup.clone()])?;
                Ok(Vec::new())
            }
        }
    }

    async fn read_or_report(
        &self,
        name: &ObjectName,
        affected: &[BackupId],
        report: &mut CheckReport,
        cancel: &Cancel,
    ) -> Result<Option<bytes::Bytes>> {
        match self.get(name, cancel).await {
            Ok(bytes) => {
                report.bytes += bytes.len() as u64;
                Ok(Some(bytes))
            }
            Err(error) => report.error(name, error, affected.to_vec()).map(|()| None),
        }
    }
}

#[derive(Default)]
struct Found {
    packs: HashMap<PackId, u64>,
    manifests: Vec<(BackupId, u64)>,
    marks: HashSet<PackId>,
    streams: BTreeMap<StreamId, logs::FoundStream>,
    segment_marks: HashSet<(StreamId, SegmentPlace)>,
}

/// Tells how far reading is.
struct Meter {
    done: u64,
    total: u64,
    progress: Arc<dyn Fn(u64, u64) + Send + Sync>,
}

impl Meter {
    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        (self.progress)(self.done, self.total);
    }
}

impl CheckReport {
    /// Whether a backup, or the repository, is not what it should be. What is unknown or unused harms nothing.
    pub fn is_damaged(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| matches!(finding.kind, FindingKind::Damaged | FindingKind::Missing))
    }

    /// Something that is no object of ours. In the place of one, or in a folder there, it is damage: that object can neither be read
    /// nor written. An empty folder elsewhere is not worth a word.
    fn stranger(&mut self, name: &str) {
        let ends = name.match_indices('/').map(|(end, _)| end).chain([name.len()]);
        let place = ends
            .filter_map(|end| ObjectName::new(name.get(..end)?).ok())
            .find(|place| names::parse(place) != Named::Unknown);
        if let Some(place) = place {
            let (backups, stream) = match names::parse(&place) {
                Named::Manifest(id) => (vec![id], None),
                Named::Stream(id) | Named::Segment(id, _) | Named::Seen(id, _) => (Vec::new(), Some(id)),
                _ => (Vec::new(), None),
            };
            let taken = CheckFinding {
                object: place.to_string(),
                kind: FindingKind::Damaged,
                message: "something that is no object (a folder, a link, a pipe) stands in its place".to_owned(),
                backups,
                stream,
            };
            if !self.findings.contains(&taken) {
                self.findings.push(taken);
            }
        } else if !name.ends_with('/') {
            self.unknown(name.to_owned());
        }
    }

    fn unknown(&mut self, object: String) {
        let message = "it is not an object of this repository; nothing uses it".to_owned();
        self.findings.push(CheckFinding {
            object,
            kind: FindingKind::Unknown,
            message,
            backups: Vec::new(),
            stream: None,
        });
    }

    fn missing(&mut self, object: String, message: &str, backups: Vec<BackupId>) {
        self.findings.push(CheckFinding {
            object,
            kind: FindingKind::Missing,
            message: message.to_owned(),
            backups,
            stream: None,
        });
    }

    fn damaged(&mut self, object: impl ToString, error: &RepositoryError, backups: Vec<BackupId>) {
        let message = match error {
            RepositoryError::Damaged { cause, .. } => cause.clone(),
            other => other.to_string(),
        };
        self.findings.push(CheckFinding {
            object: object.to_string(),
            kind: FindingKind::Damaged,
            message,
            backups,
            stream: None,
        });
    }

    /// An error about one object is a finding; one about the store or the run ends the check.
    fn error(&mut self, object: impl ToString, error: RepositoryError, backups: Vec<BackupId>) -> Result<()> {
        match error {
            RepositoryError::Missing { .. } => self.missing(object.to_string(), "it is not there", backups),
            RepositoryError::Damaged { .. } | RepositoryError::TooNew { .. } => self.damaged(object, &error, backups),
            RepositoryError::Storage(ballast_storage::StorageError::Corrupt { .. }) => {
                self.damaged(object, &error, backups);
            }
            other => return Err(other),
        }
        Ok(())
    }
}
