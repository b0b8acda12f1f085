//! A directory that a stock server loads by itself: a snapshot, alone or with the commands after it.
//!
//! # Forms
//! [`DataForm::Snapshot`] is `dump.rdb`. [`DataForm::MultiPart`] is what Redis since 7 and every Valkey write themselves with
//! `appendonly yes`: a folder with the snapshot as it is, the commands as they are, and a manifest that names both.
//! [`DataForm::SingleFile`] is `appendonly.aof`, the snapshot with the commands behind it, for servers before 7; later ones take
//! it over into their own form.
//!
//! Commands are the bytes of the stream, nothing added and nothing left out: the offset in the file, less the length of what was put
//! before, is the offset in the stream. They must end at a border: a server undoes a transaction that is not whole, and ends
//! when it finds one in a file that is not the last.
//!
//! What is not finished does not look finished: the file that makes a server load anything gets its name last, after all else is
//! durable.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ballast_base::{DurableError, create_private_dir, sync_dir, write_durable};

use crate::command::select_command;
use crate::{RedisError, ServerVersion};

const SNAPSHOT: &str = "dump.rdb";
const SINGLE: &str = "appendonly.aof";
const FOLDER: &str = "appendonlydir";
const BASE: &str = "appendonly.aof.1.base.rdb";
const COMMANDS: &str = "appendonly.aof.1.incr.aof";
const MANIFEST: &str = "appendonly.aof.manifest";
/// The name of a file that is not whole.
const UNFINISHED: &str = ".unfinished";
const WRITE_BYTES: usize = 1024 * 1024;

/// How the directory is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataForm {
    Snapshot,
    MultiPart,
    SingleFile,
}

impl DataForm {
    /// The one that a server loads which keeps an append-only file, or none. With such a file switched on it does not look at
    /// `dump.rdb`, and the other way round.
    pub fn for_setting(version: &ServerVersion, append_only: bool) -> Self {
        match (append_only, version.has_multi_part_log()) {
            (false, _) => Self::Snapshot,
            (true, true) => Self::MultiPart,
            (true, false) => Self::SingleFile,
        }
    }

    /// The file, below the directory, that begins with the snapshot.
    pub fn snapshot_file(self) -> PathBuf {
        match self {
            Self::Snapshot => SNAPSHOT.into(),
            Self::MultiPart => [FOLDER, BASE].iter().collect(),
            Self::SingleFile => SINGLE.into(),
        }
    }

    /// The file, below the directory, that holds the commands.
    pub fn commands_file(self) -> Option<PathBuf> {
        match self {
            Self::Snapshot => None,
            Self::MultiPart => Some([FOLDER, COMMANDS].iter().collect()),
            Self::SingleFile => Some(SINGLE.into()),
        }
    }

    /// What a server must be started with to load it, beside the directory.
    pub fn arguments(self) -> [&'static str; 2] {
        match self {
            Self::Snapshot => ["--appendonly", "no"],
            Self::MultiPart | Self::SingleFile => ["--appendonly", "yes"],
        }
    }
}

/// Writes one such directory. Dropped before [`DataWriter::finish`], it leaves files that no server loads.
#[derive(Debug)]
pub struct DataWriter {
    folder: PathBuf,
    form: DataForm,
    open: Open,
    path: PathBuf,
    is_in_commands: bool,
}

#[derive(Debug)]
struct Open(BufWriter<File>);

fn at(step: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RedisError {
    let path = path.to_owned();
    move |source| RedisError::File { step, path, source }
}

fn durable(path: &Path) -> impl FnOnce(DurableError) -> RedisError {
    let path = path.to_owned();
    move |error| RedisError::File {
        step: "make durable",
        path,
        source: error.source,
    }
}

impl Open {
    fn create(path: &Path) -> Result<Self, RedisError> {
        let file = File::options().create_new(true).write(true).mode(0o600).open(path);
        let file = file.map_err(at("create file", path))?;
        Ok(Self(BufWriter::with_capacity(WRITE_BYTES, file)))
    }

    fn end(mut self, path: &Path) -> Result<(), RedisError> {
        self.0.flush().map_err(at("write file", path))?;
        self.0.get_ref().sync_all().map_err(at("sync file", path))
    }
}

impl DataWriter {
    /// Begins with the snapshot. `folder` is there and holds nothing of ours.
    pub fn create(folder: &Path, form: DataForm) -> Result<Self, RedisError> {
        let path = match form {
            DataForm::Snapshot => folder.join(format!("{SNAPSHOT}{UNFINISHED}")),
            DataForm::SingleFile => folder.join(format!("{SINGLE}{UNFINISHED}")),
            DataForm::MultiPart => {
                let inner = folder.join(FOLDER);
                create_private_dir(&inner).map_err(durable(&inner))?;
                inner.join(BASE)
            }
        };
        Ok(Self {
            folder: folder.to_owned(),
            form,
            open: Open::create(&path)?,
            path,
            is_in_commands: false,
        })
    }

    /// Bytes of the snapshot, or after [`DataWriter::begin_commands`] of the stream.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), RedisError> {
        self.open.0.write_all(bytes).map_err(at("write file", &self.path))
    }

    /// The snapshot is whole. The commands that follow begin in `database`: 0, unless the stream was entered in its middle.
    pub fn begin_commands(&mut self, database: u32) -> Result<(), RedisError> {
        if self.is_in_commands || self.form == DataForm::Snapshot {
            return Err(RedisError::protocol("commands where the form has no place for them"));
        }
        if self.form == DataForm::MultiPart {
            let path = self.folder.join(FOLDER).join(COMMANDS);
            let base = std::mem::replace(&mut self.open, Open::create(&path)?);
            base.end(&self.path)?;
            self.path = path;
        }
        self.is_in_commands = true;
        if database != 0 {
            self.write(&select_command(database))?;
        }
        Ok(())
    }

    /// Makes all durable and gives it its name.
    pub fn finish(self) -> Result<(), RedisError> {
        self.open.end(&self.path)?;
        match self.form {
            DataForm::Snapshot | DataForm::SingleFile => {
                let name = if self.form == DataForm::Snapshot {
                    SNAPSHOT
                } else {
                    SINGLE
                };
                let target = self.folder.join(name);
                rename(&self.path, &target)?;
            }
            DataForm::MultiPart => {
                let inner = self.folder.join(FOLDER);
                let mut manifest = format!("file {BASE} seq 1 type b\n");
                if self.is_in_commands {
                    manifest.push_str(&format!("file {COMMANDS} seq 1 type i\n"));
                }
                sync_dir(&inner).map_err(durable(&inner))?;
                let path = inner.join(MANIFEST);
                write_durable(&path, manifest.as_bytes()).map_err(durable(&path))?;
            }
        }
        sync_dir(&self.folder).map_err(durable(&self.folder))
    }
}

/// No file that is there is replaced.
fn rename(from: &Path, to: &Path) -> Result<(), RedisError> {
    let here = rustix::fs::CWD;
    let renamed = rustix::fs::renameat_with(here, from, here, to, rustix::fs::RenameFlags::NOREPLACE);
    renamed.map_err(|error| at("rename file", to)(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_gets_what_makes_a_server_load_it_last() {
        for (form, before, after) in [
            (DataForm::Snapshot, vec!["dump.rdb.unfinished"], vec!["dump.rdb"]),
            (
                DataForm::SingleFile,
                vec!["appendonly.aof.unfinished"],
                vec!["appendonly.aof"],
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = DataWriter::create(folder.path(), form).unwrap();
            writer.write(b"snapshot").unwrap();
            assert_eq!(names(folder.path()), before);
            if form == DataForm::SingleFile {
                writer.begin_commands(3).unwrap();
                writer.write(b"commands").unwrap();
            }
            writer.finish().unwrap();
            assert_eq!(names(folder.path()), after);
            assert!(
                DataWriter::create(folder.path(), form).unwrap().finish().is_err(),
                "nothing is replaced"
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join(FOLDER);
        let mut writer = DataWriter::create(folder.path(), DataForm::MultiPart).unwrap();
        writer.write(b"snapshot").unwrap();
        writer.begin_commands(0).unwrap();
        writer.write(b"commands").unwrap();
        assert_eq!(names(&inner), [BASE, COMMANDS]);
        writer.finish().unwrap();
        assert_eq!(names(&inner), [BASE, COMMANDS, MANIFEST]);
        assert_eq!(std::fs::read(inner.join(COMMANDS)).unwrap(), b"commands");
        let manifest = "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n";
        assert_eq!(std::fs::read_to_string(inner.join(MANIFEST)).unwrap(), manifest);
    }
}
