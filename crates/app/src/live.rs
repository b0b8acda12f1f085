//! Lines of data printed while work runs, by a thread of its own: a reader that is slow or stuck holds up nothing.

use std::io::Write as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

/// This many lines wait for the reader; with more waiting, new ones are left out.
const LINES_WAITING_MAX: usize = 256;

/// The lines on their way. The thread starts with the first one.
#[derive(Debug, Default)]
pub(crate) struct Live(Mutex<Option<Printer>>);

#[derive(Debug)]
struct Printer {
    lines: SyncSender<String>,
    thread: JoinHandle<()>,
}

impl Live {
    /// Hands a line over, or leaves it out: never waits.
    pub(crate) fn send(&self, line: String) {
        let mut printer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if printer.is_none() {
            let (lines, waiting) = sync_channel(LINES_WAITING_MAX);
            // Without a thread there is no progress to see, and the work still goes on.
            let started = std::thread::Builder::new()
                .name("live".to_owned())
                .spawn(move || print(&waiting));
            *printer = started.ok().map(|thread| Printer { lines, thread });
        }
        if let Some(printer) = printer.as_ref() {
            printer.lines.try_send(line).ok();
        }
    }

    /// Waits until every line that was handed over is printed, so that what follows comes after.
    pub(crate) fn finish(&self) {
        let printer = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Printer { lines, thread }) = printer {
            drop(lines);
            thread.join().ok();
        }
    }
}

/// A reader that has gone away is no reason to stop the work; the result will find out.
fn print(lines: &Receiver<String>) {
    for line in lines {
        let mut stdout = std::io::stdout().lock();
        if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
            return;
        }
    }
}
