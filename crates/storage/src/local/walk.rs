//! Listing in byte order of full names, holding one page and one path of folders in memory.
//!
//! Inside a folder, entries are taken in the order of their names, folders with their `/` at the end. That is the
//! order of the full names: two of them first differ inside the same folder, or where one has the `/`.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::write::INCOMING;
use super::{Root, facts, failed, folder};
use crate::name::is_part;
use crate::{ObjectFacts, ObjectName, StorageError};

/// File systems put this at the root of a volume; it is theirs.
const LOST_AND_FOUND: &[u8] = b"lost+found";

impl Root {
    pub(super) fn list(
        &self,
        prefix: &str,
        after: Option<ObjectName>,
        limit: usize,
    ) -> Result<Vec<ObjectFacts>, StorageError> {
        let mut page = Page {
            prefix,
            after,
            limit,
            found: Vec::new(),
            vanished: false,
        };
        while page.found.len() < limit {
            page.vanished = false;
            folder::open(self.folder.as_fd(), &[])
                .and_then(|root| page.take_folder(root, ""))
                .map_err(|error| failed(&self.location, "list objects".to_owned(), error))?;
            // Files that vanished leave the page short although there may be more: go on behind the last one found.
            if !page.vanished {
                break;
            }
            page.after = page.found.last().map(|facts| facts.name.clone()).or(page.after);
        }
        Ok(page.found)
    }

    pub(super) fn strangers(&self, limit: usize) -> Result<Vec<String>, StorageError> {
        let mut strangers = Vec::new();
        folder::open(self.folder.as_fd(), &[])
            .and_then(|root| find_strangers(root, "", limit, &mut strangers))
            .map_err(|error| failed(&self.location, "look for strangers".to_owned(), error))?;
        Ok(strangers)
    }
}

struct Page<'a> {
    prefix: &'a str,
    after: Option<ObjectName>,
    limit: usize,
    found: Vec<ObjectFacts>,
    vanished: bool,
}

impl Page<'_> {
    /// `path` is empty or ends with `/`.
    fn take_folder(&mut self, folder: OwnedFd, path: &str) -> io::Result<()> {
        let wanted = self.limit - self.found.len();
        let mut files = BTreeSet::new();
        let mut folders = BTreeSet::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let Some(part) = entry.file_name().to_str().ok().filter(|part| is_part(part)) else {
                continue;
            };
            match kind_of(folder.as_fd(), &entry)? {
                Some(FileType::RegularFile) if self.wants_file(&format!("{path}{part}")) => {
                    files.insert(part.to_owned());
                    // Those behind the page are not held.
                    if files.len() > wanted {
                        files.pop_last();
                    }
                }
                Some(FileType::Directory) if self.wants_folder(&format!("{path}{part}/")) => {
                    folders.insert(format!("{part}/"));
                }
                _ => {}
            }
        }
        files.append(&mut folders);
        for entry in files {
            if self.found.len() == self.limit {
                break;
            }
            let full = format!("{path}{entry}");
            match entry.strip_suffix('/') {
                Some(part) => match folder::open(folder.as_fd(), &[part]) {
                    Ok(inner) => self.take_folder(inner, &full)?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                },
                None => self.take_file(folder.as_fd(), &entry, &full)?,
            }
        }
        Ok(())
    }

    fn take_file(&mut self, folder: BorrowedFd<'_>, part: &str, full: &str) -> io::Result<()> {
        let Ok(name) = ObjectName::new(full) else { return Ok(()) };
        match rustix::fs::statat(folder, part, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => self.found.push(facts(name, &stat)),
            Err(Errno::NOENT) => self.vanished = true,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn wants_file(&self, full: &str) -> bool {
        full.starts_with(self.prefix) && self.after.as_ref().is_none_or(|after| full > after.as_str())
    }

    /// Whether a name that starts with `full` (which ends with `/`) can be wanted.
    fn wants_folder(&self, full: &str) -> bool {
        let in_prefix = full.starts_with(self.prefix) || self.prefix.starts_with(full);
        in_prefix
            && self
                .after
                .as_ref()
                .is_none_or(|after| full > after.as_str() || after.as_str().starts_with(full))
    }
}

/// What the entry is; `None` if it is gone.
fn kind_of(folder: BorrowedFd<'_>, entry: &rustix::fs::DirEntry) -> io::Result<Option<FileType>> {
    if entry.file_type() != FileType::Unknown {
        return Ok(Some(entry.file_type()));
    }
    match rustix::fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn find_strangers(folder: OwnedFd, path: &str, limit: usize, strangers: &mut Vec<String>) -> io::Result<()> {
    let mut empty = true;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        if strangers.len() == limit {
            break;
        }
        let raw = entry.file_name().to_bytes();
        let ours = path.is_empty() && (raw == INCOMING.as_bytes() || raw == LOST_AND_FOUND);
        if ours || raw == b"." || raw == b".." {
            continue;
        }
        empty = false;
        let full = format!("{path}{}", String::from_utf8_lossy(raw));
        let named = ObjectName::new(&full);
        match kind_of(folder.as_fd(), &entry)? {
            Some(FileType::RegularFile) if named.is_ok() => {}
            Some(FileType::Directory) if named.is_ok() => {
                let Ok(part) = entry.file_name().to_str() else { continue };
                match folder::open(folder.as_fd(), &[part]) {
                    Ok(inner) => find_strangers(inner, &format!("{full}/"), limit, strangers)?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Some(_) => strangers.push(full),
            None => {}
        }
    }
    if empty && !path.is_empty() && strangers.len() < limit {
        strangers.push(path.to_owned());
    }
    Ok(())
}
