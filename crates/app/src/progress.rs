//! Progress has four faces, chosen once: a bar, a line of text, a line of JSON, or none.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ballast_base::{Clock, format_bytes, format_duration};
use ballast_protect::{Event, LogNews, Observer, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use crate::cli::Global;
use crate::output::Output;

/// Where there is no terminal, a line is enough this often.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// A program that reads JSON wants it more often.
const JSON_INTERVAL: Duration = Duration::from_secs(1);
/// The bar redraws itself this often, also when nothing moves.
const BAR_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Face {
    Bar,
    Line,
    Json,
    None,
}

impl Face {
    fn choose(output: &Output, global: &Global) -> Self {
        match (output.json, global.no_progress || output.quiet, output.terminal) {
            (_, true, _) => Self::None,
            (true, false, _) => Self::Json,
            (false, false, true) => Self::Bar,
            (false, false, false) => Self::Line,
        }
    }

    fn interval(self) -> Duration {
        match self {
            Self::Bar => Duration::ZERO,
            Self::Json => JSON_INTERVAL,
            Self::Line | Self::None => LINE_INTERVAL,
        }
    }
}

/// Shows what the work tells.
#[derive(Debug)]
pub(crate) struct Show {
    output: Output,
    clock: Arc<dyn Clock>,
    face: Face,
    /// The verb prints one object a line; one that prints a single object tells of warnings on standard error only.
    lines: bool,
    step: Mutex<Option<Step>>,
}

/// The step that runs now.
#[derive(Debug)]
struct Step {
    name: &'static str,
    started: Duration,
    shown: Duration,
    bar: Option<ProgressBar>,
    shape: Shape,
}

/// What a bar can show by what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Waiting,
    Counting,
    Measured,
    /// Rows and bytes.
    Rows,
}

impl Shape {
    fn style(self) -> ProgressStyle {
        let template = match self {
            Self::Waiting => "{prefix:>12} {spinner} {elapsed}",
            Self::Counting => "{prefix:>12} {spinner} {binary_bytes}, {binary_bytes_per_sec}",
            Self::Measured => {
                "{prefix:>12} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left"
            }
            Self::Rows => {
                "{prefix:>12} [{bar:30}] {msg}, {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left"
            }
        };
        ProgressStyle::with_template(template)
            .expect("the template is fixed and tested")
            .progress_chars("=> ")
    }
}

impl Step {
    /// Shows `progress` on the bar; `false` if there is none.
    fn draw(&mut self, progress: &Progress) -> bool {
        let Some(bar) = &self.bar else { return false };
        let rows = rows_text(progress);
        let shape = match (progress.total_bytes, &rows) {
            (Some(_), Some(_)) => Shape::Rows,
            (Some(_), None) => Shape::Measured,
            (None, _) => Shape::Counting,
        };
        if let Some(rows) = rows {
            bar.set_message(rows);
        }
        if let Some(total) = progress.total_bytes {
            bar.set_length(total);
        }
        if self.shape != shape {
            self.shape = shape;
            bar.set_style(shape.style());
            // What was there before says nothing of the speed.
            bar.set_position(progress.before_bytes);
            bar.reset_eta();
        }
        bar.set_position(progress.done_bytes);
        true
    }
}

/// `1200 of 5000 rows`, of a step that counts them.
fn rows_text(progress: &Progress) -> Option<String> {
    let done = progress.done_rows?;
    Some(
        progress
            .total_rows
            .map_or_else(|| format!("{done} rows"), |total| format!("{done} of {total} rows")),
    )
}

/// One line of progress.
#[derive(Debug, Serialize)]
struct Line {
    #[serde(flatten)]
    progress: Progress,
    bytes_per_second: f64,
    seconds_left: Option<f64>,
}

impl Show {
    pub(crate) fn new(output: Output, global: &Global, lines: bool, clock: Arc<dyn Clock>) -> Self {
        let face = match Face::choose(&output, global) {
            Face::Json if !lines => Face::None,
            face => face,
        };
        Self {
            output,
            clock,
            face,
            lines,
            step: Mutex::new(None),
        }
    }

    fn begin(&self, name: &'static str) -> Step {
        let now = self.clock.elapsed();
        let bar = (self.face == Face::Bar).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
            bar.set_style(Shape::Waiting.style());
            bar.set_prefix(name);
            bar.enable_steady_tick(BAR_INTERVAL);
            bar
        });
        if bar.is_some() {
            self.output.set_bar(bar.clone());
        }
        Step {
            name,
            started: now,
            shown: now,
            bar,
            shape: Shape::Waiting,
        }
    }

    fn tell(&self, progress: &Progress, running: Duration) {
        let line = Line::new(*progress, running);
        if self.face == Face::Json {
            self.output.live_record("progress", &line);
        } else {
            self.output.say(line.text());
        }
    }
}

impl Line {
    fn new(progress: Progress, running: Duration) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let (done, total) = (
            progress.done_bytes as f64,
            progress.total_bytes.map(|total| total as f64),
        );
        let seconds = running.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let carried = progress.done_bytes.saturating_sub(progress.before_bytes) as f64;
        let bytes_per_second = if seconds > 0.0 { carried / seconds } else { 0.0 };
        let left = total
            .filter(|_| bytes_per_second > 0.0)
            .map(|total| (total - done).max(0.0) / bytes_per_second);
        Self {
            progress,
            bytes_per_second,
            seconds_left: left,
        }
    }

    fn text(&self) -> String {
        let Progress {
            step,
            done_bytes,
            total_bytes,
            ..
        } = self.progress;
        let rows = rows_text(&self.progress).map_or_else(String::new, |rows| format!("{rows}, "));
        let total = total_bytes.map_or_else(String::new, |total| format!(" of {}", format_bytes(total)));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate of bytes, never negative"
        )]
        let rate = format_bytes(self.bytes_per_second as u64);
        let left = self
            .seconds_left
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let left = left.map_or_else(String::new, |left| format!(", {} left", format_duration(left)));
        format!("{step}: {rows}{}{total}, {rate}/s{left}", format_bytes(done_bytes))
    }
}

impl Observer for Show {
    fn progress(&self, progress: &Progress) {
        if self.face == Face::None {
            return;
        }
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        if step.as_ref().is_none_or(|step| step.name != progress.step) {
            *step = Some(self.begin(progress.step));
        }
        let Some(step) = step.as_mut() else { return };
        if step.draw(progress) {
            return;
        }
        let now = self.clock.elapsed();
        if now.saturating_sub(step.shown) >= self.face.interval() {
            step.shown = now;
            self.tell(progress, now.saturating_sub(step.started));
        }
    }

    fn event(&self, event: &Event) {
        match event {
            Event::StepStarted { step: name } => {
                *self.step.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.begin(name));
                tracing::info!(step = name, "started");
            }
            Event::StepFinished { step: name, seconds } => {
                *self.step.lock().unwrap_or_else(PoisonError::into_inner) = None;
                if self.face == Face::Bar {
                    self.output.set_bar(None);
                }
                tracing::info!(step = name, seconds, "finished");
                if self.face == Face::Json {
                    self.output
                        .live_record("step", &json!({ "step": name, "seconds": seconds }));
                }
            }
            Event::Warning { message, hint } => {
                self.output.warn(message, hint.as_deref());
                if self.output.json && self.lines {
                    self.output
                        .live_record("warning", &json!({ "message": message, "hint": hint }));
                }
            }
            Event::Note { message } => self.output.say(message),
            Event::Log(news) => {
                if let Some(text) = log_text(news) {
                    self.output.say(text);
                }
                if self.output.json && self.lines {
                    self.output.live_record(news.name(), news);
                }
            }
        }
    }
}

/// What people want to know of a log that is followed. Segments come every second: those are for programs.
fn log_text(news: &LogNews) -> Option<String> {
    Some(match news {
        LogNews::Connected {
            server,
            version,
            file,
            offset,
            semi_sync,
            ..
        } => {
            let how = if *semi_sync { ", and acknowledged" } else { "" };
            format!("the log of {server} ({version}) is followed from {file}:{offset}{how}")
        }
        LogNews::Disconnected { cause, wait_seconds } => {
            format!("the log is not followed: {cause}; trying again in {wait_seconds:.1} s")
        }
        LogNews::StreamBegun { stream, first_file, .. } => format!("stream {stream} begins with {first_file}"),
        LogNews::RepositoryLost { repository, message } => {
            format!("repository \"{repository}\" does not take the log, which stays in the spool: {message}")
        }
        LogNews::RepositoryBack { repository } => format!("repository \"{repository}\" takes the log again"),
        LogNews::Sealed { .. } | LogNews::Uploaded { .. } | LogNews::Spool { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_bytes_rate_and_time_left() {
        let progress = Progress::of_bytes("copy", 1 << 30, Some(3 << 30));
        let line = Line::new(progress, Duration::from_secs(4));
        assert_eq!(line.text(), "copy: 1.00 GiB of 3.00 GiB, 256 MiB/s, 8.0 s left");
        let going_on = Progress {
            before_bytes: 1 << 29,
            done_rows: Some(700),
            total_rows: Some(2100),
            ..progress
        };
        let line = Line::new(going_on, Duration::from_secs(4));
        assert_eq!(
            line.text(),
            "copy: 700 of 2100 rows, 1.00 GiB of 3.00 GiB, 128 MiB/s, 16.0 s left"
        );
        let unknown = Line::new(Progress::of_bytes("copy", 0, None), Duration::ZERO);
        assert_eq!(unknown.text(), "copy: 0 B, 0 B/s");
        assert_eq!(
            serde_json::to_value(&unknown).unwrap()["seconds_left"],
            serde_json::Value::Null
        );
    }

    #[test]
    fn the_face_follows_the_flags_and_the_terminal() {
        use clap::Parser as _;
        for (arguments, terminal, face) in [
            (&["ballast", "list"][..], true, Face::Bar),
            (&["ballast", "list"], false, Face::Line),
            (&["ballast", "list", "--json"], true, Face::Json),
            (&["ballast", "list", "--json", "--no-progress"], true, Face::None),
            (&["ballast", "list", "--quiet"], true, Face::None),
            (&["ballast", "list", "--no-progress"], true, Face::None),
        ] {
            let mut output = Output::from_arguments(arguments.iter().map(Into::into));
            output.terminal = terminal;
            let global = crate::cli::Cli::parse_from(arguments).global;
            assert_eq!(Face::choose(&output, &global), face, "{arguments:?} {terminal}");
        }
    }

    #[test]
    fn every_shape_has_a_template() {
        for shape in [Shape::Waiting, Shape::Counting, Shape::Measured, Shape::Rows] {
            shape.style();
        }
    }
}
