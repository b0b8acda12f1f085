//! What the demo shows: numbered steps with their time, commands as they are typed, what they answer, and a table.

use std::fmt::Display;
use std::time::{Duration, Instant};

use ballast_testkit::program::{Output, Program};

/// A longer line is cut, with a mark.
const WIDTH_MAX: usize = 180;
/// More lines of one answer are counted, not shown.
pub(crate) const LINES_MAX: usize = 12;

pub(crate) struct Screen {
    began: Instant,
    steps: Vec<(String, Duration)>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            steps: Vec::new(),
        }
    }

    /// Runs one step under its title.
    pub(crate) fn step<T>(&mut self, title: &str, work: impl FnOnce() -> T) -> T {
        println!("\n{}. {title}", self.steps.len() + 1);
        let began = Instant::now();
        let result = work();
        let took = began.elapsed();
        println!("   [{:.1} s]", took.as_secs_f64());
        self.steps.push((title.to_owned(), took));
        result
    }

    /// The table at the end.
    pub(crate) fn table(&self) {
        let width = self.steps.iter().map(|(title, _)| title.len()).max().unwrap_or(0);
        println!("\n{:width$}   seconds", "step");
        for (title, took) in &self.steps {
            println!("{title:width$}  {:8.1}", took.as_secs_f64());
        }
        println!("{:width$}  {:8.1}", "all", self.began.elapsed().as_secs_f64());
    }
}

/// One sentence about what happened.
pub(crate) fn say(text: impl Display) {
    println!("   {text}");
}

/// Something that was promised and has just been seen to hold.
pub(crate) fn good(text: impl Display) {
    println!("   ok  {text}");
}

/// A command that is not the program's, as it is typed.
pub(crate) fn typed(command: impl Display) {
    println!("   $ {command}");
}

/// The first lines of a file or an answer.
pub(crate) fn lines(text: &str, most: usize) {
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in all.iter().take(most) {
        if line.chars().count() > WIDTH_MAX {
            println!("     {}…", line.chars().take(WIDTH_MAX).collect::<String>());
        } else {
            println!("     {line}");
        }
    }
    if all.len() > most {
        println!("     … {} more lines", all.len() - most);
    }
}

/// Types a command of the program, shows the answer, and panics unless it ends with this code.
#[track_caller]
pub(crate) fn ballast(program: &Program, args: &str, code: i32) -> Output {
    typed(format_args!("ballast {args}"));
    let output = program.run(args.split(' ')).expect(code);
    lines(&output.stderr, LINES_MAX);
    lines(&output.stdout, LINES_MAX);
    if code != 0 {
        say(format_args!("exit code {code}"));
    }
    output
}
