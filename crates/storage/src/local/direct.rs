//! Large objects are written past the page cache.
//!
//! A pack is written once and read again on the worst day only. By way of the page cache it would push out what the database
//! on the same machine needs there, and cost a copy besides. Memory, length and place of such a write must be multiples of a
//! block, so the body goes through a small buffer that stands right, and its last bytes go the ordinary way. File systems
//! that cannot do it say so, at once or at the first write, and get all of it the ordinary way.

use std::fs::File;
use std::io::{self, Write as _};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// A multiple of every block size in use.
const BLOCK_BYTES: usize = 4096;
/// One write, and the memory one object takes beside its body.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Writes `body` to `file`, which is empty.
pub(super) fn write_whole(file: &mut File, body: &[u8]) -> io::Result<()> {
    let direct = if body.len() < BUFFER_BYTES {
        0
    } else {
        let written = write_blocks(file, body)?;
        set_direct(file, false)?;
        written
    };
    file.write_all(body.get(direct..).unwrap_or_default())
}

/// Writes whole blocks from the start of `body`, as many as the file system takes past its cache; gives their bytes.
fn write_blocks(file: &mut File, body: &[u8]) -> io::Result<usize> {
    if set_direct(file, true).is_err() {
        return Ok(0);
    }
    let mut memory = vec![0; BUFFER_BYTES + BLOCK_BYTES];
    let aligned = memory.as_ptr().align_offset(BLOCK_BYTES);
    let Some(buffer) = memory.get_mut(aligned..).and_then(|rest| rest.get_mut(..BUFFER_BYTES)) else {
        return Ok(0);
    };
    let mut written = 0;
    while let Some(rest) = body.get(written..).filter(|rest| rest.len() >= BLOCK_BYTES) {
        let length = (rest.len() / BLOCK_BYTES * BLOCK_BYTES).min(BUFFER_BYTES);
        let (Some(part), Some(blocks)) = (rest.get(..length), buffer.get_mut(..length)) else {
            break;
        };
        blocks.copy_from_slice(part);
        match file.write(blocks) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(bytes) => written += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
        // A write cut short, as by a disk that is nearly full, leaves the place off a block: the rest goes the ordinary way.
        if !written.is_multiple_of(BLOCK_BYTES) {
            break;
        }
    }
    Ok(written)
}

fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    let flags = if direct {
        flags | OFlags::DIRECT
    } else {
        flags - OFlags::DIRECT
    };
    Ok(fcntl_setfl(file, flags)?)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_body_of_every_kind_of_length_is_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        let beside = [
            0,
            1,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES + 1,
            3 * BLOCK_BYTES + 17,
        ];
        let lengths = beside
            .iter()
            .flat_map(|more| [*more, BUFFER_BYTES - 1 + more, 3 * BUFFER_BYTES + more]);
        for length in lengths {
            let body: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let path = folder.path().join(length.to_string());
            write_whole(&mut File::create(&path).unwrap(), &body).unwrap();
            let mut found = Vec::new();
            File::open(&path).unwrap().read_to_end(&mut found).unwrap();
            assert!(found == body, "{length}");
        }
    }

    /// `/dev/shm` is memory; where a kernel takes direct writes there, this shows nothing and is true all the same.
    #[test]
    fn a_file_system_without_direct_writes_gets_them_the_ordinary_way() {
        let folder = tempfile::Builder::new().prefix("bl-").tempdir_in("/dev/shm").unwrap();
        let body = vec![7; 2 * BUFFER_BYTES + 5];
        let path = folder.path().join("object");
        write_whole(&mut File::create(&path).unwrap(), &body).unwrap();
        assert!(std::fs::read(&path).unwrap() == body);
    }
}
