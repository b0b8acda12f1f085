//! What a donor tells while it is cloned, in the order it tells it.

use bytes::Bytes;

/// One thing the donor said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloneEvent {
    /// A setting of the donor that the copy depends on.
    Config {
        key: String,
        value: String,
    },
    /// A plugin the copy needs to start.
    Plugin {
        name: String,
        library: Option<String>,
    },
    /// A collation the copy needs.
    Collation(String),
    State(StateDescriptor),
    File(FileDescriptor),
    Data(DataBlock),
    /// Everything was sent.
    Complete,
}

/// The stages of a clone, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloneState {
    Init,
    /// The files, page by page, while the server writes to them.
    FileCopy,
    /// The pages that changed during the file copy.
    PageCopy,
    /// The redo log since the page copy began.
    RedoCopy,
    Done,
}

/// A stage starts or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDescriptor {
    pub state: CloneState,
    pub started: bool,
    /// The donor repeats the end of a stage while it waits for our acknowledgement.
    pub repeated: bool,
    pub chunks: u32,
    pub files: u32,
    /// How many bytes the stage will send, about.
    pub estimated_bytes: u64,
    /// How many bytes the files take on disk, about.
    pub estimated_disk: u64,
    /// The descriptor as it came, which is what is acknowledged.
    pub(crate) raw: Bytes,
}

/// The file index of the redo log's first file. Tablespaces stay far below it.
pub(crate) const REDO_INDEX_FIRST: u32 = 1 << 31;
/// The redo log's number among the tablespaces.
pub(crate) const REDO_SPACE_ID: u32 = 0xFFFF_FFF0;

/// A file of the donor, or a change of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDescriptor {
    pub state: CloneState,
    /// One number per file of this clone. The donor counts the redo log's files from 0 again; here they begin at
    /// 2³¹.
    pub index: u32,
    pub space_id: u32,
    /// The path as the donor has it: relative to its data directory, or absolute.
    pub name: Vec<u8>,
    pub size: u64,
    pub allocated: u64,
    pub fsp_flags: u32,
    pub fs_block: u32,
    pub change: FileChange,
    pub compression: Option<PageCompression>,
    pub encrypted: bool,
}

impl FileDescriptor {
    /// The name for messages; the redo log has none.
    pub fn display_name(&self) -> std::borrow::Cow<'_, str> {
        if self.name.is_empty() {
            "redo log".into()
        } else {
            String::from_utf8_lossy(&self.name)
        }
    }

    /// Its pages are encrypted, by the descriptor or by the tablespace's own flags.
    pub fn is_encrypted(&self) -> bool {
        const FSP_FLAG_ENCRYPTION: u32 = 1 << 13;
        self.encrypted || (self.fsp_flags != u32::MAX && self.fsp_flags & FSP_FLAG_ENCRYPTION != 0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChange {
    /// It is there. When its index is new and the copy is past its start, it was created meanwhile.
    Present,
    Renamed,
    Deleted,
}

/// How the pages of a file are compressed in place (`COMPRESSION=…`), with holes behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageCompression {
    Zlib,
    Lz4,
}

/// A piece of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataBlock {
    pub state: CloneState,
    /// As [`FileDescriptor::index`].
    pub file_index: u32,
    pub offset: u64,
    /// The size of the file at that time.
    pub file_size: u64,
    pub bytes: Bytes,
}
