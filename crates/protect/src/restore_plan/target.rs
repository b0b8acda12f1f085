//! The folder a restore goes to: what stands there, how much room it has, and whether it may be touched at all.

use std::path::Path;

use super::UNFINISHED;
use crate::error::{ProtectError, Result};
use crate::vault::real_path;

/// A target that is, holds or lies in a repository would destroy it.
pub(crate) fn refuse_repository(repositories: &[(String, String)], target: &Path) -> Result<()> {
    let real = real_path(target);
    for (name, url) in repositories {
        let Some(folder) = url.strip_prefix("file://").map(|path| real_path(Path::new(path))) else {
            continue;
        };
        if folder.starts_with(&real) || real.starts_with(&folder) {
            let message = format!(
                "target \"{}\" and repository \"{name}\" lie in each other",
                target.display()
            );
            return Err(ProtectError::usage(message).hint("restore to a folder of its own"));
        }
    }
    Ok(())
}

/// A target must be a folder or not there.
fn refuse_no_folder(target: &Path) -> Result<()> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let wrong = |what: &str| {
        let message = format!("target \"{}\" {what}", target.display());
        Err(ProtectError::usage(message).hint("name a folder that is empty or not there"))
    };
    match (std::fs::symlink_metadata(target), std::fs::metadata(target)) {
        (Ok(_), Ok(facts)) if facts.is_dir() => Ok(()),
        (Ok(_), Ok(_)) => wrong("is no folder"),
        (Ok(link), Err(error)) if link.is_symlink() && error.kind() == NotFound => {
            let to = std::fs::read_link(target).unwrap_or_default();
            wrong(&format!("is a link to \"{}\", which is not there", to.display()))
        }
        (Err(error), _) if error.kind() == NotFound => Ok(()),
        (Err(error), _) if error.kind() == NotADirectory => wrong("lies in something that is no folder"),
        (Err(error), _) | (_, Err(error)) => {
            Err(ProtectError::failed(format!("look at target \"{}\"", target.display())).because(error))
        }
    }
}

/// What stands in the target's place; refused unless it may go. What an interrupted restore left is always taken away.
pub(crate) fn look(target: &Path, replace: bool) -> Result<Vec<String>> {
    refuse_no_folder(target)?;
    let failed = |error| ProtectError::failed(format!("look at target \"{}\"", target.display())).because(error);
    let mut held = match std::fs::read_dir(target) {
        Ok(entries) => {
            let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
            names.collect::<std::io::Result<Vec<_>>>().map_err(failed)?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed(error)),
    };
    held.retain(|name| name != UNFINISHED && name != "lost+found");
    held.sort();
    if held.is_empty() || replace {
        return Ok(held);
    }
    let shown = held.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if held.len() > 5 {
        format!(" and {} more", held.len() - 5)
    } else {
        String::new()
    };
    Err(ProtectError::usage(format!(
        "target \"{}\" is not empty: it holds {shown}{more}",
        target.display()
    ))
    .hint("restore to an empty folder, or add --replace to remove what it holds"))
}

/// Free bytes on the volume the target will lie on.
pub(crate) fn free_bytes(target: &Path) -> Result<u64> {
    let there = target.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let facts = rustix::fs::statvfs(there).map_err(|error| {
        ProtectError::failed(format!("ask for the free space at \"{}\"", there.display()))
            .because(std::io::Error::from(error))
    })?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_target_that_holds_something_is_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(&dir.path().join("absent"), false).unwrap(), Vec::<String>::new());
        std::fs::create_dir(dir.path().join(UNFINISHED)).unwrap();
        assert_eq!(look(dir.path(), false).unwrap(), Vec::<String>::new());
        std::fs::create_dir(dir.path().join("balance")).unwrap();
        let error = look(dir.path(), false).unwrap_err();
        assert!(
            error.to_string().contains("balance") && error.hint_text().unwrap().contains("--replace"),
            "{error}"
        );
        assert_eq!(look(dir.path(), true).unwrap(), ["balance"]);
    }

    #[test]
    fn a_target_that_can_be_no_folder_is_refused_and_said_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::File::create(at("file")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        for (link, to) in [("dangling", "nowhere"), ("to-file", "file"), ("to-folder", "folder")] {
            std::os::unix::fs::symlink(at(to), at(link)).unwrap();
        }
        for (name, what) in [
            ("file", "is no folder"),
            ("to-file", "is no folder"),
            ("dangling", "nowhere\", which is not there"),
            ("file/below", "lies in something that is no folder"),
        ] {
            for replace in [false, true] {
                let error = look(&at(name), replace).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Usage, "{name}: {error}");
                assert!(error.to_string().contains(what), "{name}: {error}");
            }
        }
        assert_eq!(look(&at("to-folder"), false).unwrap(), Vec::<String>::new());
        assert!(!at("nowhere").exists());
    }
}
