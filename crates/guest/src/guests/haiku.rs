//! Haiku, from an image.

mod claim;
mod evidence;
mod goal;
mod judge;
mod observer;
mod words;

pub use self::goal::{Driver, Goal, Pattern, PatternError};

use std::path::{Path, PathBuf};
use std::time::Duration;

use haiku::image::{Container, Image};

use self::observer::HaikuObserver;
use super::{Guest, Observer, PrepareError, Wants};
use crate::login;
use crate::machine::{Boot, Disk, DiskBus};
use crate::overlay::{self, Source, check_free};
use crate::qemu::DiskFormat;

/// The throw-away overlay, in the run's directory.
pub(super) const OVERLAY: &str = "overlay.qcow2";

/// How long Haiku may take to shut down: it gives applications 5 s to quit and its own 3 s
/// (src/servers/registrar/ShutdownProcess.cpp of Haiku), and a translated processor is slow.
const POWER_DOWN: Duration = Duration::from_secs(30);

/// Memory that it gets where nobody says, in mebibytes.
pub const MEMORY_MIB: u64 = 2048;

/// The port of the ssh server that its image may start.
const SSH: u16 = 22;

/// Where what Haiku writes goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Into an overlay that belongs to the run.
    ThrowAway,
    /// Into an overlay that lasts.
    Lasting {
        /// Its name.
        name: String,
        /// The directory of lasting overlays.
        directory: PathBuf,
    },
    /// Into the image.
    InPlace,
}

/// Haiku on a disk image.
#[derive(Clone, Debug)]
pub struct Haiku {
    /// The image's file, absolute.
    pub path: PathBuf,
    /// What it is.
    pub image: Image,
    /// What has been made of it by booting it once, for an overlay that is thrown away.
    pub base: Option<PathBuf>,
    /// Where writes go.
    pub storage: Storage,
    /// What the disk is attached to.
    pub bus: DiskBus,
    /// Whether it gets an ssh server of the run's own.
    pub login: bool,
    /// What the run is to show.
    pub goal: Goal,
}

impl Haiku {
    /// The image, as an overlay takes it.
    pub fn source(&self) -> Source {
        let (format, offset) = match self.image.container {
            Container::Raw => (DiskFormat::Raw, 0),
            Container::Vmdk { header } => (DiskFormat::Raw, header),
            Container::Qcow2 { .. } => (DiskFormat::Qcow2, 0),
        };
        Source { path: self.path.clone(), format, offset }
    }
}

impl Guest for Haiku {
    fn name(&self) -> &'static str {
        "haiku"
    }

    fn wants(&self) -> Wants {
        Wants {
            memory_mib: MEMORY_MIB,
            cpus: 2,
            counted_clock: false,
            // A run that is to show something ends with a reset: nothing but a fault asks for one.
            may_reboot: !self.goal.is_any() || self.goal.keep,
            screen: true,
            serial: true,
            network: true,
            ssh: Some(if self.login { haiku::login::PORT } else { SSH }),
            // A disk that lasts is to be unmounted; one that is thrown away need not be.
            power_down: (self.storage != Storage::ThrowAway).then_some(POWER_DOWN),
        }
    }

    fn boot(&self, run: &Path) -> Boot {
        let (file, format, offset) = match &self.storage {
            Storage::ThrowAway => (run.join(OVERLAY), DiskFormat::Qcow2, 0),
            Storage::Lasting { name, directory } => {
                (overlay::path(directory, name), DiskFormat::Qcow2, 0)
            }
            Storage::InPlace => {
                let Source { path, format, offset } = self.source();
                (path, format, offset)
            }
        };
        Boot::Disk(Disk {
            file,
            format,
            offset,
            image: self.path.clone(),
            boots: self.image.boots(),
            bus: self.bus,
        })
    }

    fn check(&self) -> Result<(), PrepareError> {
        match &self.storage {
            Storage::ThrowAway => {}
            Storage::Lasting { name, directory } => {
                overlay::check(directory, name, &self.source())?;
            }
            Storage::InPlace => check_free(&self.path)?,
        }
        Ok(())
    }

    fn prepare(&self, run: &Path) -> Result<Vec<PathBuf>, PrepareError> {
        match &self.storage {
            Storage::ThrowAway => {
                let overlay = run.join(OVERLAY);
                let base = self.base.clone();
                let base = base.map(|path| Source { path, format: DiskFormat::Qcow2, offset: 0 });
                overlay::create(&base.unwrap_or_else(|| self.source()), &overlay)?;
                Ok(vec![overlay])
            }
            Storage::Lasting { name, directory } => {
                let overlay = overlay::lasting(directory, name, &self.source())?;
                Ok(vec![overlay.with_extension("json"), overlay, directory.clone()])
            }
            Storage::InPlace => {
                check_free(&self.path)?;
                Ok(Vec::new())
            }
        }
    }

    fn leftovers(&self, run: &Path) -> Vec<PathBuf> {
        vec![run.join(OVERLAY), run.join(login::KEY)]
    }

    fn observer(&self) -> Box<dyn Observer> {
        Box::new(HaikuObserver::new(self.goal.clone()))
    }
}

#[cfg(test)]
mod tests {
    use haiku::image::Content;

    use super::*;

    fn haiku(container: Container, storage: Storage) -> Haiku {
        Haiku {
            path: "/images/haiku.iso".into(),
            image: Image {
                container,
                content: Some(Content::Bare { boot_code: true }),
                disk_size: 1 << 20,
            },
            base: None,
            storage,
            bus: DiskBus::Ahci,
            login: true,
            goal: Goal::default(),
        }
    }

    #[test]
    fn the_disk_is_the_overlay_or_the_image_itself() {
        let lasting = || Storage::Lasting { name: "work".into(), directory: "/state".into() };
        let vmdk = Container::Vmdk { header: 65536 };
        let qcow2 = Container::Qcow2 { version: 3 };
        for (container, storage, expected) in [
            (vmdk, Storage::ThrowAway, ("/run/overlay.qcow2", DiskFormat::Qcow2, 0)),
            (vmdk, lasting(), ("/state/work.qcow2", DiskFormat::Qcow2, 0)),
            (vmdk, Storage::InPlace, ("/images/haiku.iso", DiskFormat::Raw, 65536)),
            (qcow2, Storage::InPlace, ("/images/haiku.iso", DiskFormat::Qcow2, 0)),
        ] {
            let Boot::Disk(disk) = haiku(container, storage).boot(Path::new("/run")) else {
                panic!("no disk")
            };
            let found = (&*disk.file.to_string_lossy(), disk.format, disk.offset);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_it_prepares_is_what_it_boots_from_and_the_image_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("haiku.image");
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let state = dir.path().join("state");
        let lasting = Storage::Lasting { name: "work".into(), directory: state.clone() };
        for storage in [Storage::ThrowAway, lasting, Storage::InPlace] {
            let haiku = Haiku { path: path.clone(), ..haiku(Container::Raw, storage.clone()) };
            let made = haiku.prepare(dir.path()).unwrap();
            let Boot::Disk(disk) = haiku.boot(dir.path()) else { panic!("no disk") };
            assert!(disk.file.exists(), "{storage:?}");
            assert_eq!(made.contains(&disk.file), storage != Storage::InPlace, "{storage:?}");
            let gone = haiku.leftovers(dir.path()).contains(&disk.file);
            assert_eq!(gone, storage == Storage::ThrowAway, "{storage:?}");
            assert_eq!(haiku.wants().power_down.is_none(), gone, "{storage:?}");
        }
        assert!(std::fs::read(&path).unwrap() == vec![7; 1 << 20], "the image was written");
    }
}
