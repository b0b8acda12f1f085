//! The end of what a tool says, however much it says.

use std::collections::VecDeque;

/// Lines that are kept.
const LINES_MAX: usize = 20;
/// A longer line loses its end.
const LINE_BYTES_MAX: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct ToolLog {
    lines: VecDeque<String>,
    /// The beginning of a line.
    open: Vec<u8>,
}

impl ToolLog {
    pub(super) fn take(&mut self, bytes: &[u8], on_line: &mut impl FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            let room = LINE_BYTES_MAX.saturating_sub(self.open.len()).min(text.len());
            self.open.extend(text.iter().take(room));
            if ends {
                self.end(on_line);
            }
        }
    }

    /// The line that was begun is all there is of it.
    pub(super) fn end(&mut self, on_line: &mut impl FnMut(&str)) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.open))
            .chars()
            .filter(|c| !c.is_control())
            .collect::<String>();
        if line.trim().is_empty() {
            return;
        }
        on_line(&line);
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(super) fn ends_with(&self, word: &str) -> bool {
        self.lines.back().is_some_and(|line| line.trim_end().ends_with(word))
    }

    pub(super) fn tail(&self) -> String {
        if self.lines.is_empty() {
            return "(it said nothing)".to_owned();
        }
        self.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_whatever_comes() {
        let (mut log, mut count) = (ToolLog::default(), 0);
        let mut on_line = |_: &str| count += 1;
        for number in 0..1000 {
            log.take(format!("line {number}\r\n\n").as_bytes(), &mut on_line);
        }
        log.take(&[b'x'; 10_000], &mut on_line);
        log.take(b"\ncompleted", &mut on_line);
        log.take(b" OK!", &mut on_line);
        log.end(&mut on_line);
        assert!(log.ends_with("completed OK!"));
        let tail = log.tail();
        assert_eq!(tail.lines().count(), LINES_MAX);
        assert!(tail.contains("line 999") && tail.len() < 2 * LINE_BYTES_MAX, "{tail}");
        assert_eq!(count, 1002);
    }
}
