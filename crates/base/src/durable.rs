//! Local files that survive a crash, readable by their owner only.
//!
//! A durable file is written beside its place, synced, moved there in one step, and then its folder is synced: after a
//! power cut the place holds the old content or the new, never a part.
#![allow(clippy::disallowed_methods, reason = "this is the door the lint points to")]

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::random_hex;

/// Which step on which path failed.
#[derive(Debug, thiserror::Error)]
#[error("{step} \"{}\"", path.display())]
pub struct DurableError {
    step: &'static str,
    path: PathBuf,
    #[source]
    pub source: std::io::Error,
}

impl DurableError {
    /// That `step` on `path` failed; for steps on local files that have no door here.
    pub fn at<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Self + 'a {
        at(step, path)
    }
}

fn at<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> DurableError + 'a {
    move |source| DurableError {
        step,
        path: path.to_owned(),
        source,
    }
}

/// Creates `path` and its missing parents with mode 0700. One that is there already is left as it is.
pub fn create_private_dir(path: &Path) -> Result<(), DurableError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(at("create folder", path))
}

/// Makes new, renamed and removed names in `path` durable.
pub fn sync_dir(path: &Path) -> Result<(), DurableError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(at("sync folder", path))
}

/// Puts `content` at `path` (mode 0600), replacing what was there.
pub fn write_durable(path: &Path, content: &[u8]) -> Result<(), DurableError> {
    by_way_of_a_part(path, content, |part| std::fs::rename(part, path)).map(drop)
}

/// Puts `content` at `path` (mode 0600), where nothing may be yet, and gives the file to go on writing behind it. It has its name only when
/// all of `content` is durable.
pub fn create_durable(path: &Path, content: &[u8]) -> Result<File, DurableError> {
    by_way_of_a_part(path, content, |part| {
        std::fs::hard_link(part, path)?;
        std::fs::remove_file(part)
    })
}

/// Gives `from`, which is durable, the name `to`, in place of what has it.
pub fn replace_durable(from: &Path, to: &Path) -> Result<(), DurableError> {
    std::fs::rename(from, to).map_err(at("rename file", from))?;
    sync_dir(to.parent().unwrap_or(Path::new(".")))
}

fn by_way_of_a_part(
    path: &Path,
    content: &[u8],
    place: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<File, DurableError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", random_hex(4)));
    let part = folder.join(name);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)
            .map_err(at("create file", &part))?;
        file.write_all(content).map_err(at("write file", &part))?;
        file.sync_all().map_err(at("sync file", &part))?;
        place(&part).map_err(at("name file", path))?;
        Ok(file)
    })();
    match written {
        Ok(file) => sync_dir(folder).map(|()| file),
        Err(error) => {
            // The part may not exist; the first error is the one to tell.
            drop(std::fs::remove_file(&part));
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_durable_file_is_private_replaces_and_leaves_no_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_durable(&path, b"one").unwrap();
        write_durable(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
