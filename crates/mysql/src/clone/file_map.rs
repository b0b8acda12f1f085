//! Which files a copy consists of, from the donor's events. Pure: it keeps names and sizes, never bytes.
//!
//! # The rules
//! - A FILE descriptor with the number of the state that runs describes a file as it is; with the delete flag, one that
//!   was dropped while it was copied.
//! - DDL of the donor comes as FILE descriptors with the number of the *next* state, when a state has ended: an unknown
//!   index was created, else the flags say renamed or deleted.
//! - Renames come in no order and may swap names, so only the last name of each index counts, and it is looked at only
//!   in the end. Data belongs to an index, never to a name.
//! - Data of a deleted file may still come; it is read past.
//! - The size of a file only grows; data may say a larger size than its descriptor did.

use std::collections::BTreeMap;

use super::event::{CloneEvent, CloneState, DataBlock, FileChange, FileDescriptor};
use super::layout::{DirectoryLayout, FileKind, LayoutFile, PAGES_OF_A_NEW_FILE, place};
use crate::page::{ChecksumAlgorithm, PageChecker, PageSize};
use crate::{MysqlError, ServerVersion};

/// What to do with the bytes of a [`DataBlock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    Keep,
    /// They belong to a file that is gone.
    Skip,
}

#[derive(Debug)]
struct Entry {
    descriptor: FileDescriptor,
    size: u64,
    created: bool,
    deleted: bool,
}

/// Feed it every event of a clone, in order.
#[derive(Debug, Default)]
pub struct FileMap {
    files: BTreeMap<u32, Entry>,
    config: BTreeMap<String, String>,
    state: Option<CloneState>,
    complete: bool,
}

impl FileMap {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn apply(&mut self, event: &CloneEvent) -> Result<Disposition, MysqlError> {
        if self.complete {
            return Err(MysqlError::protocol("the clone went on after its end"));
        }
        match event {
            CloneEvent::Config { key, value } => {
                self.config.insert(key.clone(), value.clone());
            }
            CloneEvent::State(state) if state.started => {
                if self.state.is_some_and(|now| now >= state.state) {
                    return Err(MysqlError::protocol(format!(
                        "clone state {:?} after {:?}",
                        state.state, self.state
                    )));
                }
                self.state = Some(state.state);
            }
            CloneEvent::File(file) => self.apply_file(file)?,
            CloneEvent::Data(block) => return self.apply_data(block),
            CloneEvent::Complete => self.complete = true,
            CloneEvent::State(_) | CloneEvent::Plugin { .. } | CloneEvent::Collation(_) => {}
        }
        Ok(Disposition::Keep)
    }

    fn apply_file(&mut self, file: &FileDescriptor) -> Result<(), MysqlError> {
        let from_ddl = self.state.is_some_and(|now| file.state > now);
        let deleted = file.change == FileChange::Deleted;
        match self.files.get_mut(&file.index) {
            None => {
                let created = from_ddl && FileKind::of(file.space_id).has_pages();
                let at_least = if created {
                    PAGES_OF_A_NEW_FILE * u64::from(PageSize::of(file.fsp_flags).physical())
                } else {
                    0
                };
                let size = file.size.max(at_least);
                self.files.insert(
                    file.index,
                    Entry {
                        descriptor: file.clone(),
                        size,
                        created,
                        deleted,
                    },
                );
            }
            Some(entry) if entry.descriptor.space_id != file.space_id => {
                return Err(MysqlError::protocol(format!(
                    "clone: file {} was tablespace {} and is now {}",
                    file.index, entry.descriptor.space_id, file.space_id
                )));
            }
            Some(entry) if entry.deleted && !deleted => {
                return Err(MysqlError::protocol(format!(
                    "clone: deleted file \"{}\" came back",
                    file.display_name()
                )));
            }
            Some(entry) => {
                entry.size = entry.size.max(file.size);
                entry.deleted |= deleted;
                entry.descriptor = file.clone();
            }
        }
        Ok(())
    }

    fn apply_data(&mut self, block: &DataBlock) -> Result<Disposition, MysqlError> {
        let unknown = || MysqlError::protocol(format!("clone: data for unknown file {}", block.file_index));
        let entry = self.files.get_mut(&block.file_index).ok_or_else(unknown)?;
        if self.state != Some(block.state) {
            return Err(MysqlError::protocol(format!(
                "clone: data of {:?} in {:?}",
                block.state, self.state
            )));
        }
        if entry.deleted {
            return Ok(Disposition::Skip);
        }
        let end = u64::try_from(block.bytes.len())
            .ok()
            .and_then(|length| block.offset.checked_add(length));
        let end = end.ok_or_else(|| MysqlError::protocol(format!("clone: data at offset {}", block.offset)))?;
        entry.size = entry.size.max(end).max(block.file_size);
        Ok(Disposition::Keep)
    }

    /// The donor's name of a file, for messages.
    pub fn file_name(&self, index: u32) -> Option<std::borrow::Cow<'_, str>> {
        Some(self.files.get(&index)?.descriptor.display_name())
    }

    /// What the donor said about itself, such as `version` or `innodb_page_size`.
    pub fn config(&self, key: &str) -> Option<&str> {
        self.config.get(key).map(String::as_str)
    }

    /// What checks the pages of a file; `None` where it has none.
    pub fn checker(&self, index: u32, algorithm: ChecksumAlgorithm) -> Option<PageChecker> {
        let file = &self.files.get(&index)?.descriptor;
        FileKind::of(file.space_id)
            .has_pages()
            .then(|| PageChecker::new(file.fsp_flags, algorithm))
    }

    /// The directory to make. Refused unless the clone came to its end.
    pub fn finish(self) -> Result<DirectoryLayout, MysqlError> {
        if !self.complete || self.state != Some(CloneState::Done) {
            return Err(MysqlError::protocol("the clone has not come to its end"));
        }
        let version = self.config("version").and_then(|text| ServerVersion::parse(text, ""));
        let version = version.map(|version| version.numeric());
        let live = self.files.values().filter(|entry| !entry.deleted);
        let files = live.map(|entry| {
            let file = &entry.descriptor;
            let kind = FileKind::of(file.space_id);
            Ok(LayoutFile {
                index: file.index,
                space_id: file.space_id,
                kind,
                path: place(kind, file.index, &file.name, version)?,
                size: entry.size,
                fsp_flags: file.fsp_flags,
                created: entry.created,
            })
        });
        DirectoryLayout::new(files.collect::<Result<_, MysqlError>>()?)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::event::{REDO_INDEX_FIRST, REDO_SPACE_ID, StateDescriptor};
    use super::super::layout::FilePath;
    use super::*;

    const FLAGS: u32 = 0x4021;

    fn state(state: CloneState, started: bool) -> CloneEvent {
        CloneEvent::State(StateDescriptor {
            state,
            started,
            repeated: false,
            chunks: 0,
            files: 0,
            estimated_bytes: 0,
            estimated_disk: 0,
            raw: Bytes::new(),
        })
    }

    fn file(state: CloneState, index: u32, space_id: u32, name: &str, change: FileChange) -> CloneEvent {
        CloneEvent::File(FileDescriptor {
            state,
            index,
            space_id,
            name: name.into(),
            size: 16384,
            allocated: 0,
            fsp_flags: FLAGS,
            fs_block: 4096,
            change,
            compression: None,
            encrypted: false,
        })
    }

    fn data(state: CloneState, index: u32, offset: u64) -> CloneEvent {
        let bytes = Bytes::from_static(&[1; 16384]);
        CloneEvent::Data(DataBlock {
            state,
            file_index: index,
            offset,
            file_size: 16384,
            bytes,
        })
    }

    fn run(events: &[CloneEvent]) -> Result<(FileMap, Vec<Disposition>), MysqlError> {
        let mut map = FileMap::new();
        let dispositions = events.iter().map(|event| map.apply(event)).collect::<Result<_, _>>()?;
        Ok((map, dispositions))
    }

    /// A whole clone with `ddl` after the file copy.
    fn clone_with(ddl: &[CloneEvent]) -> Result<DirectoryLayout, MysqlError> {
        use CloneState::*;
        let mut events = vec![
            state(FileCopy, true),
            file(FileCopy, 0, 0, "ibdata1", FileChange::Present),
            file(FileCopy, 1, 7, "./a/one.ibd", FileChange::Present),
            file(FileCopy, 2, 8, "./a/two.ibd", FileChange::Present),
            state(FileCopy, false),
        ];
        events.extend_from_slice(ddl);
        events.extend([state(PageCopy, true), state(PageCopy, false), state(RedoCopy, true)]);
        events.extend([
            file(RedoCopy, REDO_INDEX_FIRST, REDO_SPACE_ID, "", FileChange::Present),
            file(RedoCopy, REDO_INDEX_FIRST, REDO_SPACE_ID, "", FileChange::Present),
            data(RedoCopy, REDO_INDEX_FIRST, 0),
            state(RedoCopy, false),
            state(Done, true),
            CloneEvent::Complete,
        ]);
        run(&events)?.0.finish()
    }

    fn names(layout: &DirectoryLayout) -> Vec<String> {
        layout
            .files
            .iter()
            .map(|file| match &file.path {
                FilePath::Inside(path) | FilePath::External(path) => path.display().to_string(),
            })
            .collect()
    }

    #[test]
    fn names_may_be_swapped_files_dropped_and_created_while_copied() {
        use CloneState::PageCopy;
        let layout = clone_with(&[
            file(PageCopy, 1, 7, "./a/two.ibd", FileChange::Renamed),
            file(PageCopy, 2, 8, "./a/one.ibd", FileChange::Renamed),
            file(PageCopy, 3, 9, "./b/new.ibd", FileChange::Present),
            file(PageCopy, 4, 10, "./b/short-lived.ibd", FileChange::Deleted),
        ])
        .unwrap();
        assert_eq!(
            names(&layout),
            [
                "ibdata1",
                "a/two.ibd",
                "a/one.ibd",
                "b/new.ibd",
                "#innodb_redo/#ib_redo0"
            ]
        );
        let new = &layout.files[3];
        assert_eq!((new.created, new.size), (true, 7 * 16384));
        let page = new.initial_page().unwrap();
        assert_eq!(
            (&page[34..38], &page[38..42], &page[54..58]),
            (&[0, 0, 0, 9][..], &[0, 0, 0, 9][..], &FLAGS.to_be_bytes()[..])
        );
        PageChecker::new(FLAGS, ChecksumAlgorithm::Crc32)
            .check(0, &page)
            .unwrap();
        let folders: Vec<_> = layout.folders.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(folders, ["#clone", "#innodb_redo", "a", "b", "mysql"]);
    }

    #[test]
    fn data_of_a_dropped_file_is_skipped_and_the_size_grows_with_the_data() {
        use CloneState::FileCopy;
        let (map, dispositions) = run(&[
            state(FileCopy, true),
            file(FileCopy, 1, 7, "./a/one.ibd", FileChange::Present),
            data(FileCopy, 1, 3 * 16384),
            file(FileCopy, 1, 7, "./a/one.ibd", FileChange::Deleted),
            data(FileCopy, 1, 0),
        ])
        .unwrap();
        assert_eq!(
            (dispositions[2], dispositions[4]),
            (Disposition::Keep, Disposition::Skip)
        );
        assert_eq!(map.files[&1].size, 4 * 16384);
        assert!(map.finish().is_err(), "not complete");
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        use CloneState::{FileCopy, PageCopy};
        let swapped = [file(PageCopy, 1, 7, "./a/two.ibd", FileChange::Renamed)];
        assert!(
            clone_with(&swapped).unwrap_err().to_string().contains("two files"),
            "one name twice"
        );
        for events in [
            vec![state(FileCopy, true), data(FileCopy, 9, 0)],
            vec![state(PageCopy, true), state(FileCopy, true)],
            vec![
                state(FileCopy, true),
                file(FileCopy, 1, 7, "a", FileChange::Present),
                data(PageCopy, 1, 0),
            ],
            vec![
                state(FileCopy, true),
                file(FileCopy, 1, 7, "a", FileChange::Present),
                data(FileCopy, 1, u64::MAX),
            ],
            vec![
                file(FileCopy, 1, 7, "a", FileChange::Present),
                file(FileCopy, 1, 8, "a", FileChange::Present),
            ],
            vec![
                file(FileCopy, 1, 7, "a", FileChange::Deleted),
                file(FileCopy, 1, 7, "a", FileChange::Present),
            ],
            vec![CloneEvent::Complete, CloneEvent::Complete],
        ] {
            assert!(run(&events).is_err(), "{events:?}");
        }
    }
}
