//! What a copied data directory consists of in the end: names, sizes, and what a file holds before its content.
//!
//! A directory made of this starts under a server of the donor's release series. The server finds the empty marker
//! files, recovers, makes what no file came for (folders of empty schemas, tables of other engines, empty), and writes
//! [`super::RecoveryStatus`].

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::event::REDO_SPACE_ID;
use crate::MysqlError;
use crate::page::{PageSize, crc32c};

/// The buffer pool's list of pages, which is no tablespace.
const BUFFER_POOL_SPACE_ID: u32 = u32::MAX;
/// Undo tablespaces have the numbers below the redo log's: 127 of them, each with 400,000 numbers to renew itself.
const UNDO_SPACE_IDS: std::ops::Range<u32> = REDO_SPACE_ID - 127 * 400_000..REDO_SPACE_ID;
/// A new tablespace is this long before anything is in it.
pub(crate) const PAGES_OF_A_NEW_FILE: u64 = 7;
/// The release that first put the redo log into a folder of its own.
const REDO_FOLDER_SINCE: (u16, u16, u16) = (8, 0, 30);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// `ibdata1` and its continuations.
    System,
    /// Tables: one's own file, a general tablespace, or `mysql.ibd`.
    Tablespace,
    Undo,
    Redo,
    /// Which pages were in memory: a help for a quick start, not data.
    BufferPoolDump,
}

impl FileKind {
    pub(crate) fn of(space_id: u32) -> Self {
        match space_id {
            0 => Self::System,
            BUFFER_POOL_SPACE_ID => Self::BufferPoolDump,
            REDO_SPACE_ID => Self::Redo,
            id if UNDO_SPACE_IDS.contains(&id) => Self::Undo,
            _ => Self::Tablespace,
        }
    }

    pub(crate) fn has_pages(self) -> bool {
        !matches!(self, Self::Redo | Self::BufferPoolDump)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilePath {
    /// Relative to the data directory; never leads out of it.
    Inside(PathBuf),
    /// An absolute path on the donor. The server that starts on the copy must be told where it is now, with
    /// `innodb_directories`.
    External(PathBuf),
}

/// One file of the copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutFile {
    /// The number its data came under.
    pub index: u32,
    pub space_id: u32,
    pub kind: FileKind,
    pub path: FilePath,
    /// Its length; what no data came for is zeroes.
    pub size: u64,
    pub fsp_flags: u32,
    /// Created while it was copied: [`LayoutFile::initial_page`] goes in before any content.
    pub created: bool,
}

/// The whole directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryLayout {
    pub files: Vec<LayoutFile>,
    /// Folders to make, parents first.
    pub folders: Vec<PathBuf>,
    /// Empty files to make.
    pub markers: Vec<PathBuf>,
}

impl DirectoryLayout {
    pub(crate) fn new(mut files: Vec<LayoutFile>) -> Result<Self, MysqlError> {
        let mut paths = BTreeSet::new();
        // Without this folder the server says "System schema directory does not exist" and stops.
        let mut folders = BTreeSet::from([PathBuf::from("mysql"), PathBuf::from("#clone")]);
        for file in &files {
            if !paths.insert(&file.path) {
                return Err(MysqlError::protocol(format!(
                    "two files of the clone are named {:?}",
                    file.path
                )));
            }
            if let FilePath::Inside(path) = &file.path {
                let parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
                folders.extend(parents.map(Path::to_path_buf));
            }
        }
        for needed in [FileKind::System, FileKind::Redo] {
            if !files.iter().any(|file| file.kind == needed) {
                return Err(MysqlError::protocol(format!(
                    "the clone brought no file of kind {needed:?}"
                )));
            }
        }
        files.sort_by_key(|file| file.index);
        Ok(Self {
            files,
            // Sorted, so that a parent comes before what is in it.
            folders: folders.into_iter().collect(),
            markers: vec![
                PathBuf::from("#clone/#status_fix"),
                PathBuf::from("#clone/#replace_files"),
            ],
        })
    }
}

impl LayoutFile {
    /// The size of its pages as they lie in the file; `None` where it has none.
    pub fn page_size(&self) -> Option<u32> {
        self.kind.has_pages().then(|| PageSize::of(self.fsp_flags).physical())
    }

    /// What stands at the start of a file that was created while it was copied, unless data came for it: enough for
    /// recovery to know the tablespace and to fill it from the redo log.
    pub fn initial_page(&self) -> Option<Vec<u8>> {
        const SERVER_VERSION: u32 = 80_000;
        const SPACE_VERSION: u32 = 1;
        if !self.created {
            return None;
        }
        let bytes = usize::try_from(self.page_size()?).ok()?;
        let mut page = vec![0; bytes];
        for (at, value) in [
            (8, SERVER_VERSION),
            (12, SPACE_VERSION),
            (34, self.space_id),
            (38, self.space_id),
            (54, self.fsp_flags),
        ] {
            page.get_mut(at..at + 4)?.copy_from_slice(&value.to_be_bytes());
        }
        let end = bytes.checked_sub(8)?;
        let checksum = if PageSize::of(self.fsp_flags).is_compressed() {
            crate::page::compressed_checksum(&page)?
        } else {
            crc32c(page.get(4..26)?) ^ crc32c(page.get(38..end)?)
        };
        page.get_mut(..4)?.copy_from_slice(&checksum.to_be_bytes());
        page.get_mut(end..end + 4)?.copy_from_slice(&checksum.to_be_bytes());
        Some(page)
    }
}

/// Where a file of the donor goes. Its name comes from outside: it may not lead out of the data directory.
pub(crate) fn place(
    kind: FileKind,
    index: u32,
    name: &[u8],
    version: Option<(u16, u16, u16)>,
) -> Result<FilePath, MysqlError> {
    if kind == FileKind::Redo {
        let number = index.wrapping_sub(super::event::REDO_INDEX_FIRST);
        let in_folder = version.is_none_or(|version| version >= REDO_FOLDER_SINCE);
        let path = if in_folder {
            format!("#innodb_redo/#ib_redo{number}")
        } else {
            format!("ib_logfile{number}")
        };
        return Ok(FilePath::Inside(path.into()));
    }
    let strange =
        |why: &str| MysqlError::protocol(format!("clone: file name \"{}\" {why}", String::from_utf8_lossy(name)));
    let text = std::str::from_utf8(name).map_err(|_| strange("is not UTF-8"))?;
    if text.contains('\\') {
        return Err(strange("is a path of another operating system"));
    }
    let path = Path::new(text);
    if kind == FileKind::BufferPoolDump && path.is_absolute() {
        return Ok(FilePath::Inside("ib_buffer_pool".into()));
    }
    let clean: PathBuf = path
        .components()
        .filter(|part| !matches!(part, Component::CurDir))
        .collect();
    let steps_are_plain = clean
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::RootDir));
    if clean.file_name().is_none() || !steps_are_plain {
        return Err(strange("is no plain path"));
    }
    Ok(if clean.is_absolute() {
        FilePath::External(clean)
    } else {
        FilePath::Inside(clean)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_donor_stay_inside_or_are_external() {
        let place = |name: &str| place(FileKind::Tablespace, 1, name.as_bytes(), None);
        assert_eq!(place("./a/b.ibd").unwrap(), FilePath::Inside("a/b.ibd".into()));
        assert_eq!(place("/x/./a.ibd").unwrap(), FilePath::External("/x/a.ibd".into()));
        for name in ["", ".", "../a.ibd", "a/../../b", "/x/../etc/passwd", "/", "C:\\a.ibd"] {
            assert!(place(name).is_err(), "{name}");
        }
        let redo = |version| super::place(FileKind::Redo, (1 << 31) + 3, b"", version).unwrap();
        assert_eq!(redo(Some((9, 7, 4))), FilePath::Inside("#innodb_redo/#ib_redo3".into()));
        assert_eq!(redo(Some((8, 0, 29))), FilePath::Inside("ib_logfile3".into()));
    }

    #[test]
    fn kinds_follow_the_space_ids() {
        for (id, kind) in [
            (0, FileKind::System),
            (1, FileKind::Tablespace),
            (0xFFFF_FFFE, FileKind::Tablespace),
            (0xFFFF_FFEF, FileKind::Undo),
            (0xFFFF_FFF0, FileKind::Redo),
            (0xFFFF_FFFF, FileKind::BufferPoolDump),
        ] {
            assert_eq!(FileKind::of(id), kind, "{id:x}");
        }
    }
}
