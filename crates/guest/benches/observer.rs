//! How fast a guest is followed by its serial line. `cargo bench -p kireji-guest`.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../../haiku/benches/logs/mod.rs"]
mod logs;

use divan::Bencher;
use divan::counter::BytesCount;
use guest::guests::{Driver, Goal, Guest, Haiku, Storage};
use guest::machine::DiskBus;
use guest::process::GuestEnd;
use haiku::image::{Container, Content, Image};

use logs::{LOGS, log};

fn main() {
    divan::main();
}

/// Somebody just uses the guest.
#[divan::bench(args = LOGS, sample_count = 5)]
fn used(bencher: Bencher<'_, '_>, name: &str) {
    follow(bencher, &log(name), &Goal::default());
}

/// The guest is to load a driver.
#[divan::bench(args = LOGS, sample_count = 5)]
fn driver(bencher: Bencher<'_, '_>, name: &str) {
    let driver = Driver {
        name: "edu_legacy".to_owned(),
        sha256: String::new(),
        paths: vec!["/boot/home/config/non-packaged/add-ons/kernel/drivers/bin/edu_legacy".into()],
        modules: Vec::new(),
        has_card: true,
    };
    follow(bencher, &log(name), &Goal { drivers: vec![driver], ..Goal::default() });
}

/// Each line is compared with a pattern too.
#[divan::bench(args = LOGS, sample_count = 5)]
fn pattern(bencher: Bencher<'_, '_>, name: &str) {
    let until = Some("tests? (passed|ok)".parse().unwrap());
    follow(bencher, &log(name), &Goal { until, ..Goal::default() });
}

fn follow(bencher: Bencher<'_, '_>, log: &[u8], goal: &Goal) {
    let haiku = Haiku {
        path: "haiku.image".into(),
        image: Image {
            container: Container::Raw,
            content: Some(Content::Bare { boot_code: true }),
            disk_size: 1 << 20,
        },
        base: None,
        storage: Storage::ThrowAway,
        bus: DiskBus::Ahci,
        login: false,
        goal: goal.clone(),
    };
    bencher.counter(BytesCount::new(log.len())).bench(|| {
        let mut observer = haiku.observer();
        let mut signs = 0;
        for piece in log.chunks(256 << 10) {
            signs += observer.feed(piece).len();
        }
        (signs, observer.judge(GuestEnd::Decided))
    });
}
