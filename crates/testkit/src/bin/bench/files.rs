//! What lies in a data directory.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

const PAGE_BYTES: usize = 16 << 10;
const REDO_LOG: &str = "#innodb_redo";

/// Pages of Balance's tables that differ between two data directories, and all pages.
pub(crate) fn pages_changed(before: &Path, after: &Path) -> (u64, u64) {
    let (mut changed, mut all) = (0, 0);
    for file in files(&after.join("balance")) {
        let mut old = File::open(before.join("balance").join(file.file_name().unwrap())).unwrap();
        let mut new = File::open(&file).unwrap();
        let (mut old_page, mut new_page) = (vec![0; PAGE_BYTES], vec![0; PAGE_BYTES]);
        for _ in 0..new.metadata().unwrap().len() / PAGE_BYTES as u64 {
            new.read_exact(&mut new_page).unwrap();
            let same = old.read_exact(&mut old_page).is_ok() && old_page == new_page;
            changed += u64::from(!same);
            all += 1;
        }
    }
    (changed, all)
}

/// Bytes of all files of a data directory but the redo log, whose size is a setting.
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    files(folder).iter().map(|file| fs::metadata(file).unwrap().len()).sum()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() == REDO_LOG {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found
}
