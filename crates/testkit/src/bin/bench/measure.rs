//! Runs programs and takes what they cost: time on the clock, time of processors, memory.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// How often memory is looked at. What the kernel tells is the highest so far, so only growth in the last moment is missed.
const POLL: Duration = Duration::from_millis(5);

/// More than anything measured writes in its first seconds.
const TOUCHED_MAX: usize = 6 << 30;

/// What a run took.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) seconds: f64,
    /// Of the programs and those they started and waited for, user and system.
    pub(crate) cpu_seconds: f64,
    /// The highest resident memory of the programs, added up; of nothing they started.
    pub(crate) peak_bytes: u64,
    /// What the last program printed, unless it went to a file.
    pub(crate) stdout: String,
}

/// Programs that run at the same time, each one's output being the next one's input.
#[derive(Debug)]
pub(crate) struct Pipeline {
    commands: Vec<Command>,
    from: Stdio,
    to: Option<File>,
}

impl Pipeline {
    pub(crate) fn new(commands: impl IntoIterator<Item = Command>) -> Self {
        Self {
            commands: commands.into_iter().collect(),
            from: Stdio::null(),
            to: None,
        }
    }

    /// What the first reads.
    pub(crate) fn from(mut self, file: File) -> Self {
        self.from = file.into();
        self
    }

    /// Where the last writes.
    pub(crate) fn to(mut self, file: File) -> Self {
        self.to = Some(file);
        self
    }

    /// Runs to the end of all; panics, with what was said, unless all end well.
    pub(crate) fn run(self) -> Taken {
        let printed = tempfile::tempfile().unwrap();
        let (count, kept) = (self.commands.len(), self.to.is_some());
        let mut output = Some(self.to.unwrap_or_else(|| printed.try_clone().unwrap()));
        let mut input = self.from;
        let mut parts = Vec::new();
        touch_memory();
        let begin = Instant::now();
        for (at, mut command) in self.commands.into_iter().enumerate() {
            let errors = tempfile::tempfile().unwrap();
            command.stdin(input).stderr(errors.try_clone().unwrap());
            match output.take_if(|_| at + 1 == count) {
                Some(file) => command.stdout(file),
                None => command.stdout(Stdio::piped()),
            };
            let mut child = command
                .spawn()
                .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
            input = child.stdout.take().map_or_else(Stdio::null, Stdio::from);
            parts.push(Part {
                name: format!("{command:?}"),
                child,
                errors,
                cpu_seconds: None,
                peak_bytes: 0,
            });
        }
        while !parts.iter_mut().all(Part::look) {
            thread::sleep(POLL);
        }
        let seconds = begin.elapsed().as_secs_f64();
        let stdout = if kept { String::new() } else { text(printed) };
        Taken {
            seconds,
            cpu_seconds: parts.iter().filter_map(|part| part.cpu_seconds).sum(),
            peak_bytes: parts.iter().map(|part| part.peak_bytes).sum(),
            stdout,
        }
    }
}

/// One program while it runs. Dropping it kills it.
#[derive(Debug)]
struct Part {
    name: String,
    child: Child,
    errors: File,
    /// Known once it has ended.
    cpu_seconds: Option<f64>,
    peak_bytes: u64,
}

impl Part {
    /// Notes memory; `true` once it has ended.
    fn look(&mut self) -> bool {
        if self.cpu_seconds.is_some() {
            return true;
        }
        self.peak_bytes = self.peak_bytes.max(peak_bytes(self.child.id()).unwrap_or(0));
        let pid = Pid::from_child(&self.child);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        if waitid(WaitId::Pid(pid), options).unwrap().is_none() {
            return false;
        }
        // It has ended but is not waited for yet, so the kernel still has its numbers.
        self.cpu_seconds = Some(cpu_seconds(self.child.id()));
        let status = self.child.wait().unwrap();
        assert!(
            status.success(),
            "{} ended with {status}:\n{}",
            self.name,
            text(self.errors.try_clone().unwrap())
        );
        true
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.cpu_seconds.is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

fn text(mut file: File) -> String {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Memory that nobody uses is taken once and given back, before anything is measured. A virtual machine may have given it to its host, and
/// then the first who takes it waits for the host: 2.4 GiB of new files took 4.3 s, and 1.3 s when written again. Who is measured first in
/// such memory would pay for all others.
fn touch_memory() {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: usize = line
        .and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap();
    drop(std::hint::black_box(vec![1u8; TOUCHED_MAX.min(kib / 3 * 1024)]));
}

/// The highest resident memory so far; none of a process that has ended.
pub(crate) fn peak_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// User and system time of a process and of the children it waited for.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in brackets, may hold anything; counted from the third field, these are fields 14 to 17.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    float(ticks) / float(rustix::param::clock_ticks_per_second())
}

/// For ratios and tables.
#[expect(clippy::cast_precision_loss, reason = "numbers to print")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}
