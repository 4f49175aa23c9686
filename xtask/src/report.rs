//! What a person sees while a command works: stages with their times, and a progress line.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;

/// A progress line is redrawn this often at most.
const REDRAW: Duration = Duration::from_millis(100);

/// How far apart progress lines are where they cannot be overwritten, in hundredths of the whole.
const LOG_STEP: u64 = 25;

/// Tells a person what happens, on standard error.
#[derive(Debug)]
pub struct Report {
    terminal: bool,
    started: Instant,
    drawn: Cell<Option<Instant>>,
    logged: Cell<u64>,
}

impl Report {
    /// Returns a report that begins now.
    pub fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            started: Instant::now(),
            drawn: Cell::new(None),
            logged: Cell::new(0),
        }
    }

    /// Does a piece of work, and tells its name before and its time after.
    pub fn stage<T>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.line(&format!("{} {name}", clock(self.started.elapsed())));
        let started = Instant::now();
        let result = work();
        let outcome = if result.is_ok() { "done" } else { "failed" };
        self.note(&format!("{outcome} in {:.1} s", started.elapsed().as_secs_f32()));
        self.logged.set(0);
        result
    }

    /// Tells something that stands by itself.
    pub fn say(&self, text: &str) {
        self.line(text);
    }

    /// Tells something of the stage at hand.
    pub fn note(&self, text: &str) {
        self.line(&format!("        {text}"));
    }

    /// Tells how far the stage at hand is.
    pub fn progress(&self, done: u64, total: u64, what: &str) {
        let percent = (done * 100).checked_div(total).unwrap_or(100).min(100);
        let text = format!("        {percent:3} % of {}: {what}", size(total));
        if self.terminal {
            let now = Instant::now();
            if self.drawn.get().is_none_or(|drawn| now - drawn >= REDRAW) {
                self.drawn.set(Some(now));
                self.write(&format!("\r\x1b[K{text}"));
            }
        } else if percent >= self.logged.get() + LOG_STEP {
            self.logged.set(percent);
            self.line(&text);
        }
    }

    fn line(&self, text: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        self.write(&format!("{clear}{text}\n"));
    }

    fn write(&self, text: &str) {
        // Somebody who closed standard error does not want to be told.
        drop(std::io::stderr().write_all(text.as_bytes()));
    }
}

fn clock(time: Duration) -> String {
    format!("[{:02}:{:02}]", time.as_secs() / 60, time.as_secs() % 60)
}

/// Returns a number of bytes in words.
pub fn size(bytes: u64) -> String {
    let mebibytes = bytes >> 20;
    if mebibytes > 0 { format!("{mebibytes} MiB") } else { format!("{} KiB", bytes.div_ceil(1024)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_told_in_words() {
        assert_eq!(size(100), "1 KiB");
        assert_eq!(size(154 << 20), "154 MiB");
        assert_eq!(clock(Duration::from_secs(61)), "[01:01]");
    }
}
