//! InnoDB's pages: how large they are, and whether their checksums hold.
//!
//! A page carries the CRC-32C of itself. The check takes bytes as they pass, in whole pages, and names the first page
//! that does not hold. What legally has no checksum:
//! - a page of zeroes only: allocated, never written;
//! - a page of a tablespace whose server writes other checksums than crc32 ([`ChecksumAlgorithm::Unchecked`]).
//!
//! A page-compressed page (`COMPRESSION=…`) carries the checksum of what it was, so it is unpacked for the check.
#![deny(clippy::indexing_slicing)]

/// Page types whose content was transformed after the checksum was made: compressed, encrypted, both, encrypted R-tree.
const COMPRESSED: u16 = 14;
const ENCRYPTED: u16 = 15;
const COMPRESSED_AND_ENCRYPTED: u16 = 16;
const ENCRYPTED_RTREE: u16 = 17;
/// Where things stand in a page.
const TYPE_AT: usize = 24;
/// Of a page-compressed page: how, the type it was of, and how long it was and is, without the header.
const ALGORITHM_AT: usize = 27;
const ORIGINAL_TYPE_AT: usize = 28;
const ORIGINAL_SIZE_AT: usize = 30;
const COMPRESSED_SIZE_AT: usize = 32;
const ZLIB: u8 = 1;
const LZ4: u8 = 2;
const HEADER_BYTES: usize = 38;
const TRAILER_BYTES: usize = 8;
/// The page size when a tablespace's flags say none.
const DEFAULT_PAGE_BYTES: u32 = 16 * 1024;

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The size of a tablespace's pages, from its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageSize {
    logical: u32,
    /// `ROW_FORMAT=COMPRESSED`: the size as it lies in the file.
    compressed: Option<u32>,
}

impl PageSize {
    pub(crate) fn of(fsp_flags: u32) -> Self {
        let size = |shift: u32| 512u32 << shift;
        let compressed = fsp_flags >> 1 & 0xF;
        let logical = fsp_flags >> 6 & 0xF;
        Self {
            logical: if logical == 0 {
                DEFAULT_PAGE_BYTES
            } else {
                size(logical)
            },
            compressed: (compressed != 0).then(|| size(compressed)),
        }
    }

    pub(crate) fn physical(self) -> u32 {
        self.compressed.unwrap_or(self.logical)
    }

    pub(crate) fn is_compressed(self) -> bool {
        self.compressed.is_some()
    }
}

/// What the server's `innodb_checksum_algorithm` lets us compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumAlgorithm {
    Crc32,
    /// The server writes none, or one of the old kinds, or may have done so before.
    Unchecked,
}

impl ChecksumAlgorithm {
    /// By the value of the variable. The two that name crc32 are the default of every server that can be cloned.
    pub fn from_variable(value: &str) -> Self {
        match value {
            "crc32" | "strict_crc32" => Self::Crc32,
            _ => Self::Unchecked,
        }
    }
}

/// A page whose checksum does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "page {page_number} at offset {offset} is damaged: its checksum is 0x{found:08x}, its content has 0x{expected:08x}"
)]
pub struct BadPage {
    pub page_number: u64,
    pub offset: u64,
    /// What the content gives.
    pub expected: u32,
    /// What the page says.
    pub found: u32,
}

/// Checks the pages of one tablespace.
#[derive(Debug, Clone, Copy)]
pub struct PageChecker {
    size: PageSize,
    algorithm: ChecksumAlgorithm,
}

impl PageChecker {
    pub fn new(fsp_flags: u32, algorithm: ChecksumAlgorithm) -> Self {
        Self {
            size: PageSize::of(fsp_flags),
            algorithm,
        }
    }

    /// Bytes of one page in the file.
    pub fn page_bytes(&self) -> u64 {
        u64::from(self.size.physical())
    }

    /// Checks the pages in `bytes`, which stand at `offset` of the file. A part of a page at either end, which a clone
    /// does not send, is not checked.
    pub fn check(&self, offset: u64, bytes: &[u8]) -> Result<(), BadPage> {
        if self.algorithm == ChecksumAlgorithm::Unchecked {
            return Ok(());
        }
        let page_bytes = self.size.physical();
        let wide = u64::from(page_bytes);
        let Ok(page_bytes) = usize::try_from(page_bytes) else {
            return Ok(());
        };
        let before_first = usize::try_from((wide - offset % wide) % wide).unwrap_or(usize::MAX);
        let first = offset.saturating_add(wide - 1) / wide;
        let pages = bytes.get(before_first..).unwrap_or_default().chunks_exact(page_bytes);
        for (number, page) in (first..).zip(pages) {
            let held = if self.size.is_compressed() {
                compressed_holds(page)
            } else {
                holds(page)
            };
            if let Err((expected, found)) = held {
                return Err(BadPage {
                    page_number: number,
                    offset: number.saturating_mul(wide),
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }
}

fn is_zero(page: &[u8]) -> bool {
    // Compared with itself shifted by one, a stretch is all alike; the comparison is the machine's fastest loop.
    let (Some((first, rest)), Some((_, start))) = (page.split_first(), page.split_last()) else {
        return true;
    };
    *first == 0 && rest == start
}

fn u32_at(page: &[u8], at: usize) -> u32 {
    page.get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn u16_at(page: &[u8], at: usize) -> u16 {
    page.get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

/// `Err((expected, found))` when it does not hold.
fn holds(page: &[u8]) -> Result<(), (u32, u32)> {
    let found = u32_at(page, 0);
    match u16_at(page, TYPE_AT) {
        COMPRESSED => return unpack(page).map_or(Err((!found, found)), |unpacked| holds(&unpacked)),
        // Encrypted tablespaces are refused before; a page left over from a time of encryption may still be there.
        ENCRYPTED | COMPRESSED_AND_ENCRYPTED | ENCRYPTED_RTREE => return Ok(()),
        _ => {}
    }
    let end = page.len().saturating_sub(TRAILER_BYTES);
    let expected =
        crc32c(page.get(4..26).unwrap_or_default()) ^ crc32c(page.get(HEADER_BYTES..end).unwrap_or_default());
    let at_end = u32_at(page, end);
    if expected == found && expected == at_end {
        return Ok(());
    }
    // The trailer is the second copy; say the one that differs.
    if is_zero(page) {
        Ok(())
    } else {
        Err((expected, if expected == found { at_end } else { found }))
    }
}

/// A page-compressed page as it was; `None` when it does not unpack to what it says.
fn unpack(page: &[u8]) -> Option<Vec<u8>> {
    let original_type = page.get(ORIGINAL_TYPE_AT..ORIGINAL_TYPE_AT + 2)?;
    let original_bytes = usize::from(u16_at(page, ORIGINAL_SIZE_AT));
    let packed = page.get(HEADER_BYTES..HEADER_BYTES + usize::from(u16_at(page, COMPRESSED_SIZE_AT)))?;
    // The header says page size less header; a wrong one must not make us reserve more, nor recurse.
    if original_bytes + HEADER_BYTES != page.len() || original_type == COMPRESSED.to_be_bytes() {
        return None;
    }
    let mut unpacked = vec![0; page.len()];
    unpacked
        .get_mut(..HEADER_BYTES)?
        .copy_from_slice(page.get(..HEADER_BYTES)?);
    unpacked.get_mut(TYPE_AT..TYPE_AT + 2)?.copy_from_slice(original_type);
    let body = unpacked.get_mut(HEADER_BYTES..)?;
    let written = match page.get(ALGORITHM_AT).copied()? {
        ZLIB => {
            let mut inflate = flate2::Decompress::new(true);
            inflate.decompress(packed, body, flate2::FlushDecompress::Finish).ok()?;
            usize::try_from(inflate.total_out()).ok()?
        }
        LZ4 => lz4_flex::block::decompress_into(packed, body).ok()?,
        _ => return None,
    };
    (written == original_bytes).then_some(unpacked)
}

/// The checksum of a page of a `ROW_FORMAT=COMPRESSED` table leaves out what changes without the page being packed
/// anew: its LSN and what stands between type and space id.
pub(crate) fn compressed_checksum(page: &[u8]) -> Option<u32> {
    Some(crc32c(page.get(4..16)?) ^ crc32c(page.get(24..26)?) ^ crc32c(page.get(34..)?))
}

fn compressed_holds(page: &[u8]) -> Result<(), (u32, u32)> {
    let found = u32_at(page, 0);
    let expected = compressed_checksum(page).unwrap_or(!found);
    if expected == found || is_zero(page) {
        Ok(())
    } else {
        Err((expected, found))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DYNAMIC: u32 = 0x4021;

    /// A page with a right checksum.
    fn page(seed: u8) -> Vec<u8> {
        let mut page: Vec<u8> = (0..16384usize)
            .map(|at| u8::try_from(at % 249).unwrap() ^ seed)
            .collect();
        page[24..26].copy_from_slice(&17855u16.to_be_bytes());
        let sum = (crc32c(&page[4..26]) ^ crc32c(&page[38..16376])).to_be_bytes();
        page[..4].copy_from_slice(&sum);
        page[16376..16380].copy_from_slice(&sum);
        page
    }

    #[test]
    fn page_sizes_follow_the_flags_of_real_tablespaces() {
        for (flags, physical) in [
            (0, 16384),
            (0x4021, 16384),
            (0x4029, 8192),
            (0x4027, 4096),
            (0x4023, 1024),
            (0x40E1, 4096),
        ] {
            assert_eq!(PageSize::of(flags).physical(), physical, "{flags:x}");
        }
    }

    #[test]
    fn the_damaged_page_is_named() {
        let checker = PageChecker::new(DYNAMIC, ChecksumAlgorithm::Crc32);
        let mut bytes = [page(1), vec![0; 16384], page(2)].concat();
        checker.check(16384, &bytes).unwrap();
        bytes[2 * 16384 + 500] ^= 1;
        let bad = checker.check(16384, &bytes).unwrap_err();
        assert_eq!((bad.page_number, bad.offset), (3, 3 * 16384));
        assert!(
            bad.to_string().starts_with("page 3 at offset 49152 is damaged"),
            "{bad}"
        );
        PageChecker::new(DYNAMIC, ChecksumAlgorithm::Unchecked)
            .check(16384, &bytes)
            .unwrap();
    }

    proptest! {
        #[test]
        fn every_flipped_bit_of_the_content_is_found(at in 0usize..16380, bit in 0u8..8) {
            // The flush LSN and the space id are outside the checksum; a transformed type is not checked.
            prop_assume!(!(24..38).contains(&at));
            let mut bytes = page(3);
            bytes[at] ^= 1 << bit;
            prop_assert!(PageChecker::new(DYNAMIC, ChecksumAlgorithm::Crc32).check(0, &bytes).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(flags: u32, offset: u64, bytes in proptest::collection::vec(any::<u8>(), 0..40_000)) {
            let _ = PageChecker::new(flags, ChecksumAlgorithm::Crc32).check(offset, &bytes).is_ok();
        }
    }
}
