//! Log files made by hand, for tests.

use super::event::{EventHeader, LOG_MAGIC};

/// A log that is written event by event, as a server would.
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    /// Offset of the next event in its file.
    pub(super) file_offset: u64,
    pub(super) checksums: bool,
    pub(super) time: u32,
}

impl Written {
    pub(super) fn new(checksums: bool) -> Self {
        let mut written = Self {
            bytes: Vec::new(),
            file_offset: 0,
            checksums,
            time: 1_700_000_000,
        };
        written.file();
        written
    }

    /// The magic and the format.
    pub(super) fn file(&mut self) {
        self.bytes.extend(LOG_MAGIC);
        self.file_offset = 4;
        let mut body = 4u16.to_le_bytes().to_vec();
        body.extend(b"9.7.4");
        body.resize(52, 0);
        body.extend([0; 4]);
        body.push(19);
        body.extend([0; 40]);
        body.push(u8::from(self.checksums));
        self.put(EventHeader::FORMAT_DESCRIPTION, 0, &body, true);
    }

    pub(super) fn event(&mut self, kind: u8, body: &[u8]) {
        self.put(kind, 0, body, self.checksums);
    }

    pub(super) fn query(&mut self, text: &str) {
        let mut body = vec![0; 13];
        body.push(0);
        body.extend(text.as_bytes());
        self.event(EventHeader::QUERY, &body);
    }

    /// A MySQL transaction with its length written.
    pub(super) fn transaction(&mut self, number: u64, rows: usize) {
        let checksum = if self.checksums { 4 } else { 0 };
        let length = 75 + checksum + 19 + rows + checksum + 27 + checksum;
        let mut body = vec![0];
        body.extend([0x3E; 16]);
        body.extend(number.to_le_bytes());
        body.push(2);
        body.extend([0; 16]);
        body.extend(&(1_700_000_000_000_000 + number).to_le_bytes()[..7]);
        body.push(0xFD);
        body.extend(&u32::try_from(length).unwrap().to_le_bytes()[..3]);
        body.extend([0; 3]);
        assert_eq!(body.len() + 19, 75, "the length counts the head");
        self.event(EventHeader::GTID, &body);
        self.event(30, &vec![0xA5; rows]);
        self.event(EventHeader::XID, &number.to_le_bytes());
    }

    pub(super) fn put(&mut self, kind: u8, flags: u16, body: &[u8], checksum: bool) {
        let size = 19 + body.len() + if checksum { 4 } else { 0 };
        let end = (self.file_offset + size as u64) & u64::from(u32::MAX);
        let mut event = self.time.to_le_bytes().to_vec();
        event.push(kind);
        event.extend(7u32.to_le_bytes());
        event.extend(u32::try_from(size).unwrap().to_le_bytes());
        event.extend(u32::try_from(end).unwrap().to_le_bytes());
        event.extend(flags.to_le_bytes());
        event.extend(body);
        if checksum {
            event.extend(crc_fast::crc32_iso_hdlc(&event).to_le_bytes());
        }
        self.file_offset += size as u64;
        self.bytes.extend(event);
    }
}
