//! The files that were written to a moment ago, kept open for the next piece. Not all of them: there may be more than a process
//! may hold open.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// The pieces of a few files lie in turns in a pack.
const OPEN_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct OpenFiles {
    paths: Vec<PathBuf>,
    open: Mutex<VecDeque<(usize, Arc<File>)>>,
}

impl OpenFiles {
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        let open = Mutex::new(VecDeque::with_capacity(OPEN_MAX));
        Self { paths, open }
    }

    /// The file of this number, which must be there, to write to.
    pub(super) fn get(&self, number: usize) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = open.iter().find(|(other, _)| *other == number) {
            return Ok(Arc::clone(file));
        }
        let path = self.paths.get(number).ok_or(io::ErrorKind::NotFound)?;
        let file = Arc::new(OpenOptions::new().write(true).open(path)?);
        if open.len() == OPEN_MAX {
            open.pop_front();
        }
        open.push_back((number, Arc::clone(&file)));
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn each_file_gets_what_is_its_own_however_many_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..2 * OPEN_MAX)
            .map(|number| folder.path().join(number.to_string()))
            .collect();
        for path in &paths {
            File::create(path).unwrap();
        }
        let files = OpenFiles::new(paths.clone());
        for offset in 0..3 {
            for number in 0..paths.len() {
                let bytes = [u8::try_from(number).unwrap()];
                files.get(number).unwrap().write_all_at(&bytes, offset).unwrap();
            }
        }
        assert!(files.open.lock().unwrap().len() == OPEN_MAX && files.get(paths.len()).is_err());
        for (number, path) in paths.iter().enumerate() {
            assert_eq!(std::fs::read(path).unwrap(), [u8::try_from(number).unwrap(); 3]);
        }
    }
}
