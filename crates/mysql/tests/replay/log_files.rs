//! Log files cut into transactions, by a few lines that share nothing with the program.

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

pub(crate) struct LogFile {
    pub(crate) name: String,
    /// Without the four bytes it begins with.
    pub(crate) bytes: Bytes,
    /// Up to the first transaction.
    pub(crate) head: Range<usize>,
    pub(crate) transactions: Vec<Transaction>,
    /// Behind the last one.
    pub(crate) tail: Range<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    pub(crate) range: Range<usize>,
    pub(crate) kind: u8,
    /// Of MySQL without a tag: number and microseconds.
    pub(crate) number: u64,
    pub(crate) committed_at: u64,
    pub(crate) server_id: u32,
    pub(crate) timestamp: u32,
}

fn number(bytes: &[u8], at: usize, count: usize) -> u64 {
    bytes[at..at + count]
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

impl LogFile {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = Bytes::from(std::fs::read(path).unwrap()).slice(4..);
        let (mut at, mut begins, mut end) = (0, Vec::new(), bytes.len());
        while at < bytes.len() {
            let (kind, size) = (bytes[at + 4], usize::try_from(number(&bytes, at + 9, 4)).unwrap());
            match kind {
                33 | 34 | 42 | 162 => begins.push((at, kind)),
                // A ROTATE, or that the server stopped.
                4 | 3 => {
                    end = at;
                    break;
                }
                _ => {}
            }
            at += size;
        }
        let starts: Vec<usize> = begins.iter().map(|(at, _)| *at).chain([end]).collect();
        let transactions = begins.iter().enumerate().map(|(index, (at, kind))| {
            let body = at + 19;
            let (number, committed_at) = match kind {
                33 => (number(&bytes, body + 17, 8), number(&bytes, body + 42, 7) & !(1 << 55)),
                162 => (number(&bytes, body, 8), 0),
                _ => (0, 0),
            };
            Transaction {
                range: *at..starts[index + 1],
                kind: *kind,
                number,
                committed_at,
                server_id: u32::try_from(self::number(&bytes, at + 5, 4)).unwrap(),
                timestamp: u32::try_from(self::number(&bytes, *at, 4)).unwrap(),
            }
        });
        Self {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            transactions: transactions.collect(),
            head: 0..starts[0],
            tail: end..bytes.len(),
            bytes,
        }
    }

    /// All of a server's, in order.
    pub(crate) fn of(folder: &Path) -> Vec<Self> {
        let index = std::fs::read_to_string(folder.join("binlog.index")).unwrap();
        index
            .lines()
            .map(|line| Self::read(&folder.join(line.trim_start_matches("./"))))
            .collect()
    }
}
