//! What a tool's stream holds, as far as it is to be known: the tables' definitions, the tool's own notes, and what lies elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use ballast_mysql::{XbKind, XbPart};

use crate::error::{ProtectError, Result};
use crate::position::Position;

/// By the names of different releases.
const POSITION_NAMES: [&str; 2] = ["xtrabackup_binlog_info", "mariadb_backup_binlog_info"];
/// A note may be this long: a set of transactions of many servers.
const NOTE_BYTES_MAX: usize = 1024 * 1024;
/// How the definition of a view begins.
const VIEW: &[u8] = b"TYPE=VIEW";
/// Definitions of the server's own.
const OWN: [&str; 3] = ["mysql/", "sys/", "performance_schema/"];

#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The file whose payload passes, if it is one to be looked at.
    watched: Option<String>,
    /// The beginnings of definitions, by path without the end of the name.
    definitions: BTreeMap<String, Vec<u8>>,
    /// Definitions that came, and were removed again.
    lost: BTreeSet<String>,
    note: Vec<u8>,
    /// Files that say that a table lies outside the data directory.
    elsewhere: BTreeSet<String>,
}

impl Contents {
    pub(super) fn see(&mut self, part: &XbPart) {
        match part {
            XbPart::Head { chunk, .. } => {
                self.watched = None;
                match chunk.kind {
                    XbKind::Payload | XbKind::Sparse => {}
                    XbKind::Remove => return self.remove(&chunk.path),
                    XbKind::Rename => return self.rename(&chunk.path, chunk.to.as_deref()),
                    XbKind::Seek | XbKind::End => return,
                }
                if let Some(name) = chunk.path.strip_suffix(".frm") {
                    if !OWN.iter().any(|own| name.starts_with(own)) {
                        self.definitions.entry(name.to_owned()).or_default();
                        self.lost.remove(name);
                        self.watched = Some(chunk.path.clone());
                    }
                } else if let Some(name) = chunk.path.strip_suffix(".isl") {
                    self.elsewhere.insert(name.to_owned());
                } else if POSITION_NAMES.contains(&chunk.path.as_str()) {
                    if chunk.offset == 0 {
                        self.note.clear();
                    }
                    self.watched = Some(chunk.path.clone());
                }
            }
            XbPart::Payload { raw, .. } => {
                let Some(path) = &self.watched else { return };
                let (kept, most) = match path.strip_suffix(".frm") {
                    Some(name) => (self.definitions.get_mut(name), VIEW.len()),
                    None => (Some(&mut self.note), NOTE_BYTES_MAX),
                };
                if let Some(kept) = kept {
                    let room = most.saturating_sub(kept.len());
                    kept.extend(raw.iter().take(room));
                }
            }
        }
    }

    /// A file, or a folder with all that is in it. Definitions come when no other can be made or dropped any more, so one that is removed
    /// after it came is lost: MariaDB's tool does so with a database that was dropped and made again while it copied.
    fn remove(&mut self, path: &str) {
        let (inside, own) = (format!("{path}/"), path.strip_suffix(".frm"));
        let gone = |name: &String| name.starts_with(&inside) || Some(name.as_str()) == own;
        self.lost
            .extend(self.definitions.keys().filter(|name| gone(name)).cloned());
        self.definitions.retain(|name, _| !gone(name));
        self.elsewhere
            .retain(|name| !name.starts_with(&inside) && Some(name.as_str()) != path.strip_suffix(".isl"));
    }

    /// What the tool had copied and removed again.
    pub(super) fn lost(&self) -> impl Iterator<Item = &str> {
        self.lost.iter().map(String::as_str)
    }

    /// The beginning of the definition, if the file was one.
    fn forget(&mut self, path: &str) -> Option<Vec<u8>> {
        if let Some(name) = path.strip_suffix(".isl") {
            self.elsewhere.remove(name);
        }
        self.definitions.remove(path.strip_suffix(".frm")?)
    }

    fn rename(&mut self, path: &str, to: Option<&str>) {
        let begin = self.forget(path);
        if let (Some(begin), Some(name)) = (begin, to.and_then(|to| to.strip_suffix(".frm"))) {
            self.definitions.insert(name.to_owned(), begin);
        }
        if let Some(name) = to.and_then(|to| to.strip_suffix(".isl")) {
            self.elsewhere.insert(name.to_owned());
        }
    }

    /// File names of tables, `folder/name`; views are none.
    pub(super) fn definitions(&self) -> impl Iterator<Item = &str> {
        let tables = self.definitions.iter().filter(|(_, begin)| begin.as_slice() != VIEW);
        tables.map(|(name, _)| name.as_str())
    }

    /// File, offset and transactions, apart by blanks; the last may take several lines or be absent.
    pub(super) fn position(&self) -> Option<Position> {
        let text = std::str::from_utf8(&self.note).ok()?;
        let mut words = text.split_whitespace();
        Some(Position {
            file: Some(words.next()?.trim_start_matches("./").to_owned()),
            offset: Some(words.next()?.parse().ok()?),
            gtid_executed: words.collect(),
            exact: true,
            at_least: None,
            replication_id: None,
        })
    }

    /// A restored table whose file is said to lie elsewhere would be the source's own: the copy would open, and change, what is there.
    pub(super) fn refuse_elsewhere(&self) -> Result<()> {
        let Some(first) = self.elsewhere.first() else {
            return Ok(());
        };
        let more = self.elsewhere.len() - 1;
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        Err(ProtectError::failed(format!(
            "tables that lie outside the data directory cannot be restored from a tool's backup: {first}{more}"
        ))
        .hint("take rows instead, with: --engine logical; or make the table again without DATA DIRECTORY"))
    }
}

#[cfg(test)]
mod tests {
    use ballast_mysql::XbChunk;
    use bytes::Bytes;

    use super::*;

    fn file(contents: &mut Contents, path: &str, content: &[u8]) {
        contents.see(&XbPart::Head {
            raw: Bytes::new(),
            chunk: XbChunk {
                path: path.to_owned(),
                kind: XbKind::Payload,
                offset: 0,
                length: content.len() as u64,
                to: None,
            },
        });
        for part in content.chunks(4) {
            contents.see(&XbPart::Payload {
                raw: Bytes::copy_from_slice(part),
                offset: 0,
            });
        }
    }

    #[test]
    fn tables_positions_and_what_lies_elsewhere_are_seen() {
        let mut contents = Contents::default();
        file(&mut contents, "a/t.frm", b"\xfe\x01\x0a and more");
        file(&mut contents, "a/v.frm", b"TYPE=VIEW\nquery=select 1");
        file(&mut contents, "mysql/db.frm", b"\xfe\x01");
        file(&mut contents, "a/t.ibd", &[0; 100]);
        assert_eq!(contents.definitions().collect::<Vec<_>>(), ["a/t"]);
        assert_eq!(contents.position(), None);
        file(
            &mut contents,
            "xtrabackup_binlog_info",
            b"binlog.000001\t2718\t0-7-8,1-2-3\n",
        );
        let position = contents.position().unwrap();
        assert_eq!(position.to_string(), "binlog.000001:2718 0-7-8,1-2-3");
        let change = |kind, path: &str, to: Option<&str>| XbPart::Head {
            raw: Bytes::new(),
            chunk: XbChunk {
                path: path.to_owned(),
                kind,
                offset: 0,
                length: 0,
                to: to.map(str::to_owned),
            },
        };
        contents.see(&change(XbKind::Rename, "a/t.frm", Some("a/u.frm")));
        contents.see(&change(XbKind::Rename, "a/t.ibd", Some("a/u.ibd")));
        assert_eq!(contents.definitions().collect::<Vec<_>>(), ["a/u"]);
        file(&mut contents, "b/one.frm", b"\xfe\x01");
        file(&mut contents, "b/two.frm", b"\xfe\x01");
        file(&mut contents, "b2/three.frm", b"\xfe\x01");
        contents.see(&change(XbKind::Remove, "a/u.frm", None));
        contents.see(&change(XbKind::Remove, "b", None));
        assert_eq!(contents.definitions().collect::<Vec<_>>(), ["b2/three"]);
        assert_eq!(contents.lost().collect::<Vec<_>>(), ["a/u", "b/one", "b/two"]);
        contents.refuse_elsewhere().unwrap();
        file(&mut contents, "a/dd.isl", b"/elsewhere/a/dd.ibd");
        assert!(contents.refuse_elsewhere().unwrap_err().to_string().contains("a/dd"));
    }

    #[test]
    fn a_set_of_several_lines_and_none_at_all_are_read() {
        for (text, gtids) in [
            ("./binlog.000002\t157\n", ""),
            ("binlog.000002\t157\ta:1-5,\nb:1-2\n", "a:1-5,b:1-2"),
        ] {
            let mut contents = Contents::default();
            file(&mut contents, "mariadb_backup_binlog_info", text.as_bytes());
            let position = contents.position().unwrap();
            assert_eq!(
                (position.file.unwrap(), position.offset),
                ("binlog.000002".to_owned(), Some(157))
            );
            assert_eq!(position.gtid_executed, gtids);
        }
    }
}
