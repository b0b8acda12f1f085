//! A recipient as small as can be: it keeps what comes in arrival order, and makes the directory in the end.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use ballast_base::Cancel;
use ballast_mysql::{
    ChecksumAlgorithm, CloneEvent, CloneStream, DirectoryLayout, Disposition, FileMap, FilePath, MysqlError,
    PageChecker, RecoveryStatus, ServerBinary, ThrowawayOptions, ThrowawayServer,
};

pub(crate) struct Received {
    pub(crate) layout: DirectoryLayout,
    pub(crate) kib_checked: u64,
    spool: File,
    /// File, offset in it, place in the spool, length; in arrival order.
    extents: Vec<(u32, u64, u64, usize)>,
}

/// Takes a whole clone in, checking every page.
pub(crate) async fn receive(stream: &mut CloneStream) -> Result<Received, MysqlError> {
    let spool = tempfile::tempfile().unwrap();
    let (mut map, mut extents, mut at, mut kib_checked) = (FileMap::new(), Vec::new(), 0, 0);
    let mut checkers: HashMap<u32, Option<PageChecker>> = HashMap::new();
    while let Some(event) = stream.next().await? {
        let disposition = map.apply(&event)?;
        if let CloneEvent::Data(block) = event
            && disposition == Disposition::Keep
        {
            let checker = checkers
                .entry(block.file_index)
                .or_insert_with(|| map.checker(block.file_index, ChecksumAlgorithm::Crc32));
            if let Some(checker) = checker {
                let name = map.file_name(block.file_index).unwrap();
                if let Err(bad) = checker.check(block.offset, &block.bytes) {
                    panic!(
                        "{name}: {bad} in {:?} at {} +{}",
                        block.state,
                        block.offset,
                        block.bytes.len()
                    );
                }
                kib_checked += block.bytes.len() as u64 / 1024;
            }
            spool.write_all_at(&block.bytes, at).unwrap();
            extents.push((block.file_index, block.offset, at, block.bytes.len()));
            at += block.bytes.len() as u64;
        }
    }
    Ok(Received {
        layout: map.finish()?,
        kib_checked,
        spool,
        extents,
    })
}

impl Received {
    /// Where a file goes. What lay outside the donor's data directory goes below `outside`.
    fn place(folder: &Path, path: &FilePath) -> PathBuf {
        match path {
            FilePath::Inside(path) => folder.join("data").join(path),
            FilePath::External(path) => folder.join("outside").join(path.strip_prefix("/").unwrap()),
        }
    }

    /// Makes `folder/data` and `folder/outside`.
    pub(crate) fn write(&self, folder: &Path) -> BTreeMap<String, String> {
        let data = folder.join("data");
        for path in &self.layout.folders {
            std::fs::create_dir_all(data.join(path)).unwrap();
        }
        std::fs::create_dir_all(folder.join("outside")).unwrap();
        let mut files = HashMap::new();
        for file in &self.layout.files {
            let path = Self::place(folder, &file.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let made = File::create_new(&path).unwrap();
            made.set_len(file.size).unwrap();
            if let Some(page) = file.initial_page() {
                made.write_all_at(&page, 0).unwrap();
            }
            files.insert(file.index, made);
        }
        let mut buffer = Vec::new();
        for (index, offset, at, length) in &self.extents {
            if let Some(file) = files.get(index) {
                buffer.resize(*length, 0);
                self.spool.read_exact_at(&mut buffer, *at).unwrap();
                file.write_all_at(&buffer, *offset).unwrap();
            }
        }
        for path in &self.layout.markers {
            File::create_new(data.join(path)).unwrap();
        }
        BTreeMap::from([(
            "innodb_directories".to_owned(),
            folder.join("outside").display().to_string(),
        )])
    }
}

/// Starts a private server on what was written.
pub(crate) async fn boot(
    folder: &Path,
    program: &Path,
    settings: BTreeMap<String, String>,
) -> Result<ThrowawayServer, MysqlError> {
    let cancel = Cancel::new();
    let binary = ServerBinary::probe(program, &cancel).await?;
    let options = ThrowawayOptions {
        settings,
        ..ThrowawayOptions::new(folder.join("data"))
    };
    ThrowawayServer::start(&binary, options, &cancel).await
}

pub(crate) fn recovery_status(folder: &Path) -> RecoveryStatus {
    let text = std::fs::read_to_string(folder.join("data").join(RecoveryStatus::PATH)).unwrap();
    RecoveryStatus::parse(&text).unwrap()
}

/// Reads to the end; the files and numbers of the pages that do not hold, at most one of each block.
pub(crate) async fn bad_pages(stream: &mut CloneStream) -> Vec<(String, u64)> {
    let (mut map, mut found) = (FileMap::new(), Vec::new());
    while let Some(event) = stream.next().await.unwrap() {
        map.apply(&event).unwrap();
        if let CloneEvent::Data(block) = event
            && let Some(checker) = map.checker(block.file_index, ChecksumAlgorithm::Crc32)
            && let Err(bad) = checker.check(block.offset, &block.bytes)
        {
            found.push((map.file_name(block.file_index).unwrap().into_owned(), bad.page_number));
        }
    }
    found
}
