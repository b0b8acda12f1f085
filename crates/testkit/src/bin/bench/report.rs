//! What a bench found: rows, targets, and the machine it ran on.

use std::fmt;
use std::fs;

use serde_json::{Value, json};

use crate::measure::{Taken, float};

const MIB: f64 = 1_048_576.0;

/// One thing that was measured.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) seconds: f64,
    /// Of the programs that ran.
    pub(crate) cpu_seconds: f64,
    /// Of the database server they worked with.
    pub(crate) server_cpu_seconds: f64,
    pub(crate) peak_bytes: u64,
    /// Written to disk by it.
    pub(crate) bytes: u64,
}

impl Row {
    pub(crate) fn new(name: &'static str, taken: &Taken, server_cpu_seconds: f64, bytes: u64) -> Self {
        Self {
            name,
            seconds: taken.seconds,
            cpu_seconds: taken.cpu_seconds,
            server_cpu_seconds,
            peak_bytes: taken.peak_bytes,
            bytes,
        }
    }

    pub(crate) fn peak_mib(&self) -> f64 {
        float(self.peak_bytes) / MIB
    }
}

/// What the measurement is compared with.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    name: &'static str,
    target: f64,
    value: f64,
    met: bool,
}

impl Target {
    pub(crate) fn at_least(name: &'static str, target: f64, value: f64) -> Self {
        let met = value >= target;
        Self {
            name,
            target,
            value,
            met,
        }
    }

    pub(crate) fn below(name: &'static str, target: f64, value: f64) -> Self {
        let met = value < target;
        Self {
            name,
            target,
            value,
            met,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) bench: &'static str,
    pub(crate) machine: String,
    /// What was measured on, in lines for people.
    pub(crate) notes: Vec<String>,
    pub(crate) rows: Vec<Row>,
    pub(crate) targets: Vec<Target>,
}

impl Report {
    pub(crate) fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "name": row.name,
                "seconds": rounded(row.seconds),
                "cpu_seconds": rounded(row.cpu_seconds),
                "peak_mib": rounded(row.peak_mib()),
                "bytes": row.bytes,
            })
        });
        let targets = self.targets.iter().map(|target| {
            json!({
                "name": target.name,
                "target": target.target,
                "value": rounded(target.value),
                "met": target.met,
            })
        });
        json!({
            "bench": self.bench,
            "machine": self.machine,
            "rows": rows.collect::<Vec<_>>(),
            "targets": targets.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}", self.bench, self.machine)?;
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        writeln!(
            f,
            "\n{:<44} {:>9} {:>9} {:>10} {:>9} {:>11}",
            "", "seconds", "cpu s", "server cpu", "peak MiB", "MiB on disk"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<44} {:>9.2} {:>9.2} {:>10.2} {:>9.1} {:>11.2}",
                row.name,
                row.seconds,
                row.cpu_seconds,
                row.server_cpu_seconds,
                row.peak_mib(),
                float(row.bytes) / MIB
            )?;
        }
        writeln!(f, "\n{:<60} {:>9} {:>9}", "", "target", "value")?;
        for target in &self.targets {
            writeln!(
                f,
                "{:<60} {:>9} {:>9.3}  {}",
                target.name,
                target.target,
                target.value,
                if target.met { "met" } else { "MISSED" }
            )?;
        }
        Ok(())
    }
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Processor, cores, memory and how busy it was when asked.
pub(crate) fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{}, {cores} cores, memory {}, load {}",
        field("/proc/cpuinfo", "model name"),
        field("/proc/meminfo", "MemTotal"),
        load()
    )
}

/// Processes that wanted to run, on average over the last 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
