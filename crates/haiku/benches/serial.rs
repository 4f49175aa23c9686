//! How fast panics are found in a serial line. `cargo bench -p kireji-haiku`.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::path::Path;

use divan::Bencher;
use divan::counter::BytesCount;
use haiku::kdl::{Event, Reader};

fn main() {
    divan::main();
}

/// 64 MiB of what a guest says, without the panic.
#[divan::bench(sample_count = 10)]
fn boots(bencher: Bencher<'_, '_>) {
    read(bencher, "q35-many-devices");
}

/// 64 MiB of panics with all that the debugger is asked.
#[divan::bench(sample_count = 10)]
fn panics(bencher: Bencher<'_, '_>) {
    read(bencher, "edu-driver-crash-kdl-session");
}

fn read(bencher: Bencher<'_, '_>, name: &str) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/serial/{name}.log.zst"));
    let once = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    let log = once.repeat((64 << 20) / once.len());
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
