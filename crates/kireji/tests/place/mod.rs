//! A place for runs of a fake guest.

use std::path::Path;
use std::process::{Command, Output};

/// The fake QEMU.
pub fn fake() -> &'static Path {
    testkit::fake_guest::program(Path::new(env!("CARGO_BIN_EXE_kireji")))
}

/// A directory with an image that holds a volume.
#[derive(Debug)]
pub struct Place(pub tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let image = place.0.path().join("haiku.image");
        testkit::image::volume(Path::new(env!("CARGO_BIN_EXE_kireji")), &image, "12M");
        place
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_string_lossy().into_owned()
    }

    pub fn kireji(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_kireji"))
            .args(args)
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .output()
            .unwrap()
    }
}

/// What a program wrote.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
