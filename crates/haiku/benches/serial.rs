//! How fast panics are found in a serial line and in a log. `cargo bench -p kireji-haiku`.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod logs;

use divan::Bencher;
use divan::counter::BytesCount;
use haiku::kdl::{Event, LogReader, Reader};

use logs::{LOGS, log};

fn main() {
    divan::main();
}

/// A guest's serial line.
#[divan::bench(args = LOGS, sample_count = 10)]
fn line(bencher: Bencher<'_, '_>, name: &str) {
    let log = log(name);
    bencher.counter(BytesCount::new(log.len())).bench(|| {
        let mut found = 0;
        let mut reader = Reader::default();
        let mut count = |event: Event<'_>| found += u32::from(matches!(event, Event::Complete(_)));
        for piece in log.chunks(64 << 10) {
            reader.push(piece, &mut count);
        }
        reader.finish(&mut count);
        found
    });
}

/// A log as it is.
#[divan::bench(args = LOGS, sample_count = 10)]
fn plain(bencher: Bencher<'_, '_>, name: &str) {
    record(bencher, &log(name));
}

/// A log with what a recorder put before each line.
#[divan::bench(args = LOGS, sample_count = 10)]
fn prefixed(bencher: Bencher<'_, '_>, name: &str) {
    let mut prefixed = Vec::new();
    for (number, line) in log(name).split_inclusive(|byte| *byte == b'\n').enumerate() {
        prefixed.extend_from_slice(format!("[{:5}.{:06}] ", number / 99, number % 99).as_bytes());
        prefixed.extend_from_slice(line);
    }
    record(bencher, &prefixed);
}

/// Panics, each line quoted in a letter.
#[divan::bench(sample_count = 10)]
fn quoted(bencher: Bencher<'_, '_>) {
    let log = log(LOGS[1]);
    let lines: Vec<_> = log.split(|byte| *byte == b'\n').collect();
    record(bencher, &lines.join(&b"\n> "[..]));
}

fn record(bencher: Bencher<'_, '_>, log: &[u8]) {
    bencher.counter(BytesCount::new(log.len())).bench(|| {
        let mut found = 0;
        let mut reader = LogReader::default();
        let mut count = |event: Event<'_>| found += u32::from(matches!(event, Event::Complete(_)));
        for piece in log.chunks(256 << 10) {
            reader.push(piece, &mut count);
        }
        reader.finish(&mut count);
        found
    });
}
