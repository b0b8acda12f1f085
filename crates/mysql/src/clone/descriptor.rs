//! InnoDB's descriptors, the inner layer of the clone protocol: big-endian, each with version, length and kind.
//!
//! A kind, state or version that is not known is an error: guessing here would make a copy that looks right.
#![deny(clippy::indexing_slicing)]

use bytes::Bytes;

use super::event::{
    CloneState, FileChange, FileDescriptor, PageCompression, REDO_INDEX_FIRST, REDO_SPACE_ID, StateDescriptor,
};
use crate::MysqlError;
use crate::wire::reader::{Reader, text};

/// The descriptor version since 8.0.17.
const VERSION: u32 = 100;

const KIND_LOCATOR: u32 = 1;
const KIND_TASK: u32 = 2;
const KIND_STATE: u32 = 3;
const KIND_FILE: u32 = 4;
const KIND_DATA: u32 = 5;

const STATE_STARTS: u16 = 1 << 0;
const STATE_ACKNOWLEDGE: u16 = 1 << 1;
/// Where the flags stand in a STATE descriptor.
const STATE_FLAGS_AT: usize = 44;

const FILE_ZLIB: u16 = 1 << 0;
const FILE_LZ4: u16 = 1 << 1;
const FILE_ENCRYPTED: u16 = 1 << 2;
const FILE_RENAMED: u16 = 1 << 3;
const FILE_DELETED: u16 = 1 << 4;
const FILE_HAS_KEY: u16 = 1 << 5;
/// A path is not longer than this on any file system.
const NAME_BYTES_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Descriptor {
    Locator,
    Task,
    State(StateDescriptor),
    File(FileDescriptor),
    Data(DataHeader),
}

/// What the data that follows belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataHeader {
    pub(crate) state: CloneState,
    pub(crate) file_index: u32,
    pub(crate) length: usize,
    pub(crate) offset: u64,
    pub(crate) file_size: u64,
}

impl Descriptor {
    pub(crate) fn decode(raw: &Bytes) -> Result<Self, MysqlError> {
        let mut reader = Reader::new("clone descriptor", raw);
        let version = reader.u32_be()?;
        if version != VERSION {
            return Err(reader.wrong(format_args!("version {version}, known is {VERSION}")));
        }
        let length = reader.u32_be()?;
        if usize::try_from(length) != Ok(raw.len()) {
            return Err(reader.wrong(format_args!("length {length} in {} bytes", raw.len())));
        }
        match reader.u32_be()? {
            KIND_LOCATOR => Ok(Self::Locator),
            KIND_TASK => Ok(Self::Task),
            KIND_STATE => decode_state(reader, raw).map(Self::State),
            KIND_FILE => decode_file(reader).map(Self::File),
            KIND_DATA => decode_data(reader).map(Self::Data),
            other => Err(reader.wrong(format_args!("unknown kind {other}"))),
        }
    }
}

fn decode_clone_state(reader: &mut Reader<'_>) -> Result<CloneState, MysqlError> {
    Ok(match reader.u32_be()? {
        1 => CloneState::Init,
        2 => CloneState::FileCopy,
        3 => CloneState::PageCopy,
        4 => CloneState::RedoCopy,
        5 => CloneState::Done,
        other => return Err(reader.wrong(format_args!("unknown state {other}"))),
    })
}

fn decode_state(mut reader: Reader<'_>, raw: &Bytes) -> Result<StateDescriptor, MysqlError> {
    let state = decode_clone_state(&mut reader)?;
    reader.u32_be()?; // task
    let chunks = reader.u32_be()?;
    let files = reader.u32_be()?;
    let estimated_bytes = reader.u64_be()?;
    let estimated_disk = reader.u64_be()?;
    let flags = reader.u16_be()?;
    Ok(StateDescriptor {
        state,
        started: flags & STATE_STARTS != 0,
        repeated: flags & STATE_ACKNOWLEDGE != 0,
        chunks,
        files,
        estimated_bytes,
        estimated_disk,
        raw: raw.clone(),
    })
}

/// The end of a state, sent back as acknowledged.
pub(crate) fn acknowledged(state: &StateDescriptor) -> Vec<u8> {
    let mut bytes = state.raw.to_vec();
    if let Some(flags) = bytes.get_mut(STATE_FLAGS_AT + 1) {
        *flags |= STATE_ACKNOWLEDGE.to_be_bytes()[1];
    }
    bytes
}

fn decode_file(mut reader: Reader<'_>) -> Result<FileDescriptor, MysqlError> {
    let state = decode_clone_state(&mut reader)?;
    let size = reader.u64_be()?;
    let allocated = reader.u64_be()?;
    let fsp_flags = reader.u32_be()?;
    let fs_block = reader.u32_be()?;
    let flags = reader.u16_be()?;
    let space_id = reader.u32_be()?;
    let index = reader.u32_be()?;
    let index = number_file(&reader, space_id == REDO_SPACE_ID, index)?;
    reader.take(8)?; // first and last chunk
    let name_bytes = reader.u32_be()?;
    let name_bytes = usize::try_from(name_bytes)
        .ok()
        .filter(|bytes| *bytes <= NAME_BYTES_MAX);
    let Some(name_bytes) = name_bytes else {
        return Err(reader.wrong(format_args!("file {index} has an endless name")));
    };
    let name = reader.take(name_bytes)?;
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    if name.contains(&0) {
        return Err(reader.wrong(format_args!("file name \"{}\" holds a NUL", text(name))));
    }
    let known = FILE_ZLIB | FILE_LZ4 | FILE_ENCRYPTED | FILE_RENAMED | FILE_DELETED | FILE_HAS_KEY;
    if flags & !known != 0 {
        return Err(reader.wrong(format_args!("file \"{}\" has unknown flags 0x{flags:x}", text(name))));
    }
    // Both flags together: it was renamed and then deleted.
    let change = if flags & FILE_DELETED != 0 {
        FileChange::Deleted
    } else if flags & FILE_RENAMED != 0 {
        FileChange::Renamed
    } else {
        FileChange::Present
    };
    let compression = if flags & FILE_ZLIB != 0 {
        Some(PageCompression::Zlib)
    } else if flags & FILE_LZ4 != 0 {
        Some(PageCompression::Lz4)
    } else {
        None
    };
    Ok(FileDescriptor {
        state,
        index,
        space_id,
        name: name.to_vec(),
        size,
        allocated,
        fsp_flags,
        fs_block,
        change,
        compression,
        encrypted: flags & (FILE_ENCRYPTED | FILE_HAS_KEY) != 0,
    })
}

/// One number per file: the donor numbers the redo log's files and the tablespaces each from 0.
fn number_file(reader: &Reader<'_>, is_redo: bool, index: u32) -> Result<u32, MysqlError> {
    if index >= REDO_INDEX_FIRST {
        return Err(reader.wrong(format_args!("file number {index}")));
    }
    Ok(if is_redo { REDO_INDEX_FIRST + index } else { index })
}

fn decode_data(mut reader: Reader<'_>) -> Result<DataHeader, MysqlError> {
    let state = decode_clone_state(&mut reader)?;
    reader.take(12)?; // task, chunk, block
    // In REDO_COPY all data is the redo log's.
    let file_index = reader.u32_be()?;
    let file_index = number_file(&reader, state == CloneState::RedoCopy, file_index)?;
    let length = reader.u32_be()?;
    let length = usize::try_from(length).map_err(|_| reader.wrong(format_args!("{length} bytes of data")))?;
    let offset = reader.u64_be()?;
    let file_size = reader.u64_be()?;
    Ok(DataHeader {
        state,
        file_index,
        length,
        offset,
        file_size,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A descriptor as the donor writes it: the header before `body`.
    fn descriptor(kind: u32, body: &[u8]) -> Bytes {
        let length = u32::try_from(body.len()).unwrap() + 12;
        [
            &VERSION.to_be_bytes()[..],
            &length.to_be_bytes(),
            &kind.to_be_bytes(),
            body,
        ]
        .concat()
        .into()
    }

    fn file(flags: u16, name: &[u8]) -> Bytes {
        let mut body = Vec::new();
        body.extend(3u32.to_be_bytes());
        body.extend(114_688u64.to_be_bytes());
        body.extend(65_536u64.to_be_bytes());
        body.extend(0x4021u32.to_be_bytes());
        body.extend(4096u32.to_be_bytes());
        body.extend(flags.to_be_bytes());
        body.extend(17u32.to_be_bytes());
        body.extend(5u32.to_be_bytes());
        body.extend([0; 8]);
        body.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
        body.extend(name);
        descriptor(KIND_FILE, &body)
    }

    #[test]
    fn a_file_reads_with_its_change_and_compression() {
        let Descriptor::File(read) = Descriptor::decode(&file(FILE_LZ4 | FILE_RENAMED, b"./a/b.ibd\0")).unwrap() else {
            unreachable!("a file was written");
        };
        assert_eq!((read.state, read.index, read.space_id), (CloneState::PageCopy, 5, 17));
        assert_eq!((read.size, read.allocated, read.fsp_flags), (114_688, 65_536, 0x4021));
        assert_eq!(
            (read.change, read.compression),
            (FileChange::Renamed, Some(PageCompression::Lz4))
        );
        assert_eq!((read.name.as_slice(), read.encrypted), (&b"./a/b.ibd"[..], false));
        let Descriptor::File(read) =
            Descriptor::decode(&file(FILE_DELETED | FILE_RENAMED | FILE_ENCRYPTED, b"x")).unwrap()
        else {
            unreachable!("a file was written");
        };
        assert_eq!((read.change, read.encrypted), (FileChange::Deleted, true));
    }

    #[test]
    fn the_end_of_a_state_goes_back_with_one_flag_more() {
        let mut body = Vec::new();
        body.extend(2u32.to_be_bytes());
        body.extend([0; 12]);
        body.extend([0; 16]);
        body.extend(0u16.to_be_bytes());
        let raw = descriptor(KIND_STATE, &body);
        let Descriptor::State(state) = Descriptor::decode(&raw).unwrap() else {
            unreachable!("a state was written");
        };
        assert!(!state.started && !state.repeated);
        let back = Bytes::from(acknowledged(&state));
        let Descriptor::State(back) = Descriptor::decode(&back).unwrap() else {
            unreachable!("a state was written");
        };
        assert!(back.repeated && back.state == state.state);
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        for (bytes, named) in [
            (descriptor(6, &[]), "unknown kind 6"),
            (descriptor(KIND_STATE, &9u32.to_be_bytes()), "unknown state 9"),
            (file(1 << 6, b"x"), "unknown flags"),
            (file(0, b"a\0b"), "holds a NUL"),
            (descriptor(KIND_DATA, &[0, 0, 0, 2]), "12 bytes expected, 0 left"),
        ] {
            let error = Descriptor::decode(&bytes).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(kind in 0u32..7, body: Vec<u8>, raw: Vec<u8>) {
            let _ = Descriptor::decode(&Bytes::from(raw)).is_ok();
            if let Ok(Descriptor::State(state)) = Descriptor::decode(&descriptor(kind, &body)) {
                drop(acknowledged(&state));
            }
        }
    }
}
