//! The server's own clone protocol: a physical copy of its InnoDB data, taken over the ordinary port while it works.
//!
//! The server (the donor) sends files, then the pages that changed meanwhile, then the redo log written meanwhile;
//! recovery at the first start of the copy brings all to one moment. `docs/mysql-clone.md` says what is relied on.
//!
//! - [`CloneStream`] talks: it logs in, starts the clone, acknowledges each state and hands out [`CloneEvent`]s.
//! - [`FileMap`] understands: from the same events, what the data directory must look like in the end.
//! - [`RecoveryStatus`] reads what the copy's first start found: the position of the copied moment.

mod descriptor;
mod event;
mod file_map;
mod layout;
mod message;
mod recovery_status;
mod session;
mod stream;

pub use event::{CloneEvent, CloneState, DataBlock, FileChange, FileDescriptor, PageCompression, StateDescriptor};
pub use file_map::{Disposition, FileMap};
pub use layout::{DirectoryLayout, FileKind, FilePath, LayoutFile};
pub use recovery_status::RecoveryStatus;
pub use stream::{CloneOptions, CloneStream};
