//! Where a guest's writes go: into an overlay that is thrown away, into one that lasts, or into the
//! image itself.
//!
//! Overlays are qcow2 files made by `qemu-img` with the image as their backing file, which is then
//! never written. A backing file that changes under its overlay gives a damaged disk, so a lasting
//! overlay remembers which state of the image it was made for.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use host::{Program, RunError, Runner, atomic};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::qemu::DiskFormat;

/// What is kept of `qemu-img`'s standard error for a message, in characters.
const SHOWN: usize = 400;
/// The longest name of a lasting overlay, in bytes, so that it fits a file name with its suffixes.
const LONGEST_NAME: usize = 100;

/// A disk image, as it is to be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file, absolute.
    pub path: PathBuf,
    /// Its format.
    pub format: DiskFormat,
    /// Where the disk begins in a raw file, in bytes.
    pub offset: u64,
}

/// An overlay could not be made, or an image not be used.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// There is no `qemu-img`.
    #[error("cannot find qemu-img")]
    NoTool,
    /// `qemu-img` could not be run to its end.
    #[error("cannot run qemu-img")]
    Run(#[source] RunError),
    /// `qemu-img` refused.
    #[error("qemu-img cannot {verb} {}: {stderr}", path.display())]
    Refused {
        /// What it was to do.
        verb: &'static str,
        /// With which file.
        path: PathBuf,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The disk is full.
    #[error("no space for the overlay {}", path.display())]
    Full {
        /// The overlay, of which nothing is left.
        path: PathBuf,
    },
    /// Another process has the image open.
    #[error("the image {} is in use by another process", path.display())]
    Busy {
        /// The image.
        path: PathBuf,
    },
    /// The image is not what it was when the overlay was made.
    #[error("the image {} has changed since the overlay {name} was made", image.display())]
    Changed {
        /// The image.
        image: PathBuf,
        /// Name of the overlay.
        name: String,
    },
    /// The overlay belongs to another image.
    #[error("the overlay {name} was made for the image {}", image.display())]
    OtherImage {
        /// The image that it was made for.
        image: PathBuf,
        /// Name of the overlay.
        name: String,
    },
    /// A name that cannot be a file's.
    #[error("`{name}` is no name for an overlay: use letters, digits, `-`, `_` and `.`")]
    Name {
        /// The name.
        name: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// `read`, `write` and so on.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl OverlayError {
    fn at(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { verb, path, source }
    }
}

/// `qemu-img`, found.
#[derive(Clone, Debug)]
pub struct Tool<'a> {
    runner: &'a dyn Runner,
    program: PathBuf,
}

impl<'a> Tool<'a> {
    /// Finds `qemu-img`: beside the QEMU binary, else in `path`, the value of the environment
    /// variable `PATH`.
    ///
    /// # Errors
    /// There is none.
    pub fn locate(
        runner: &'a dyn Runner,
        qemu: &Path,
        path: Option<&OsStr>,
    ) -> Result<Self, OverlayError> {
        let beside = qemu.parent().map(Path::to_owned);
        let dirs = beside.into_iter().chain(std::env::split_paths(path.unwrap_or_default()));
        let program = dirs.map(|dir| dir.join("qemu-img")).find(|file| file.is_file());
        Ok(Self { runner, program: program.ok_or(OverlayError::NoTool)? })
    }

    /// Makes an overlay over `image`.
    ///
    /// # Errors
    /// It cannot be made; nothing is left of it then.
    pub fn create(&self, image: &Source, overlay: &Path) -> Result<(), OverlayError> {
        let program = Program::new(&self.program)
            .args(["create", "-q", "-f", "qcow2", "-F", image.format.driver(), "-b"])
            .arg(backing(image))
            .arg(overlay);
        let result = self.run("make an overlay over", &image.path, &program);
        if result.is_err() {
            // What matters is the error being returned; a file that was never made is no other.
            drop(std::fs::remove_file(overlay));
        }
        result.map_err(|error| match error {
            OverlayError::Refused { stderr, .. } if stderr.contains("No space left on device") => {
                OverlayError::Full { path: overlay.to_owned() }
            }
            other => other,
        })
    }

    fn run(&self, verb: &'static str, path: &Path, program: &Program) -> Result<(), OverlayError> {
        let finished = self.runner.run(program).map_err(|error| match error {
            RunError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                OverlayError::NoTool
            }
            error => OverlayError::Run(error),
        })?;
        if finished.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&finished.stderr);
        let stderr: String = text.trim().chars().take(SHOWN).collect();
        Err(OverlayError::Refused { verb, path: path.to_owned(), stderr })
    }

    /// Returns the lasting overlay `name` below `directory`, made if it is not there yet.
    ///
    /// # Errors
    /// It was made for another image or another state of this one, or cannot be made.
    pub fn lasting(
        &self,
        directory: &Path,
        name: &str,
        image: &Source,
    ) -> Result<PathBuf, OverlayError> {
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let fits = (1..=LONGEST_NAME).contains(&name.len()) && !name.starts_with('.');
        if !fits || !name.bytes().all(is_plain) {
            return Err(OverlayError::Name { name: name.to_owned() });
        }
        let overlay = directory.join(format!("{name}.qcow2"));
        let about = directory.join(format!("{name}.json"));
        let state = State::of(&image.path)?;
        match State::load(&about)? {
            Some(known) if known.path != state.path => {
                Err(OverlayError::OtherImage { image: known.path, name: name.to_owned() })
            }
            Some(known) if known != state => {
                Err(OverlayError::Changed { image: state.path, name: name.to_owned() })
            }
            Some(_) if overlay.exists() => Ok(overlay),
            // The description is written last, so an overlay without one was never finished.
            _ => {
                std::fs::create_dir_all(directory)
                    .map_err(OverlayError::at("create", directory))?;
                self.create(image, &overlay)?;
                state.save(&about)?;
                Ok(overlay)
            }
        }
    }
}

/// Checks that no other QEMU has the image open, be it only under an overlay, so that it may be
/// written. QEMU looks again when it starts.
///
/// # Errors
/// Another process has it open, or this user may not write it.
pub fn check_free(image: &Path) -> Result<(), OverlayError> {
    let file = File::options().read(true).write(true).open(image);
    let file = file.map_err(OverlayError::at("write", image))?;
    // QEMU holds locks on bytes of a file that it has open, for reading or writing
    // (block/file-posix.c, RAW_LOCK_PERM_BASE); the lock taken here ends with the descriptor.
    match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::AGAIN | Errno::ACCESS) => Err(OverlayError::Busy { path: image.to_owned() }),
        Err(errno) => Err(OverlayError::at("lock", image)(errno.into())),
    }
}

/// The backing file as `qemu-img` takes it: a path, or a description where a path does not do.
fn backing(image: &Source) -> OsString {
    if image.offset == 0 {
        return image.path.clone().into_os_string();
    }
    let node = serde_json::json!({
        "driver": image.format.driver(),
        "offset": image.offset,
        "file": {"driver": "file", "filename": image.path.to_string_lossy()},
    });
    format!("json:{node}").into()
}

/// A state of an image: the file may not be another, nor have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    path: PathBuf,
    size: u64,
    /// Seconds and nanoseconds of the last change.
    modified: (i64, i64),
}

impl State {
    fn of(path: &Path) -> Result<Self, OverlayError> {
        let metadata = std::fs::metadata(path).map_err(OverlayError::at("read", path))?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Ok(Self { path: path.to_owned(), size: metadata.len(), modified })
    }

    fn load(path: &Path) -> Result<Option<Self>, OverlayError> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(OverlayError::at("read", path))?,
        };
        let state = serde_json::from_reader(io::Read::take(file, 1 << 16));
        state.map(Some).map_err(|error| OverlayError::at("read", path)(error.into()))
    }

    fn save(&self, path: &Path) -> Result<(), OverlayError> {
        let written = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        let written = written
            .and_then(|bytes| atomic::write(path, &bytes, 0o600).map_err(|error| error.source));
        written.map_err(OverlayError::at("write", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::{Finished, SystemRunner};
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use std::time::{Duration, SystemTime};

    fn tool(runner: &dyn Runner) -> Tool<'_> {
        let qemu = crate::qemu::for_tests();
        let path = std::env::var_os("PATH");
        Tool::locate(runner, &qemu, path.as_deref()).expect("tests need qemu-img")
    }

    fn image(path: PathBuf, size: u64) -> Source {
        File::create(&path).unwrap().set_len(size).unwrap();
        Source { path, format: DiskFormat::Raw, offset: 0 }
    }

    /// What `qemu-img info` says of a file.
    fn info(path: &Path) -> serde_json::Value {
        let program = tool(&SystemRunner).program;
        let program = Program::new(program).args(["info", "--output=json"]).arg(path);
        serde_json::from_slice(&SystemRunner.run(&program).unwrap().stdout).unwrap()
    }

    #[test]
    fn an_overlay_shows_the_image_and_takes_little_room() {
        let dir = tempfile::tempdir().unwrap();
        let image = image(dir.path().join("a, b: c.iso"), 64 << 20);
        let overlay = dir.path().join("overlay.qcow2");
        tool(&SystemRunner).create(&image, &overlay).unwrap();
        let said = info(&overlay);
        assert_eq!(said["virtual-size"], 64 << 20);
        assert_eq!(said["format"], "qcow2");
        assert_eq!(said["backing-filename"], image.path.to_str().unwrap());
        assert_eq!(said["backing-filename-format"], "raw");
        assert!(std::fs::metadata(&overlay).unwrap().len() < 1 << 20);
    }

    #[test]
    fn a_disk_behind_a_header_is_seen_without_it() {
        let dir = tempfile::tempdir().unwrap();
        let image = Source { offset: 65536, ..image(dir.path().join("haiku.vmdk"), 1 << 20) };
        let overlay = dir.path().join("overlay.qcow2");
        tool(&SystemRunner).create(&image, &overlay).unwrap();
        assert_eq!(info(&overlay)["virtual-size"], (1 << 20) - 65536);
    }

    #[derive(Debug)]
    struct FullDisk;
    impl Runner for FullDisk {
        fn run(&self, program: &Program) -> Result<Finished, RunError> {
            let overlay = program.args.last().unwrap();
            std::fs::write(overlay, "part of a header").unwrap();
            Ok(Finished {
                status: ExitStatus::from_raw(256),
                stdout: Vec::new(),
                stderr: b"qemu-img: o.qcow2: Could not write L1: No space left on device\n"
                    .to_vec(),
            })
        }
    }

    #[test]
    fn a_full_disk_is_told_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let image = image(dir.path().join("haiku.iso"), 1 << 20);
        let overlay = dir.path().join("overlay.qcow2");
        let error = tool(&FullDisk).create(&image, &overlay).unwrap_err();
        assert!(matches!(error, OverlayError::Full { .. }), "{error}");
        assert!(!overlay.exists());
        let error = tool(&FullDisk).lasting(dir.path(), "work", &image).unwrap_err();
        assert!(matches!(error, OverlayError::Full { .. }), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_lasting_overlay_is_made_once_and_for_one_state_of_one_image() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state/overlays");
        let first = image(dir.path().join("haiku.iso"), 1 << 20);
        let other = image(dir.path().join("other.iso"), 1 << 20);
        let tool = tool(&SystemRunner);
        let overlay = tool.lasting(&state, "work", &first).unwrap();
        let made = std::fs::metadata(&overlay).unwrap().ino();
        assert_eq!(tool.lasting(&state, "work", &first).unwrap(), overlay);
        assert_eq!(std::fs::metadata(&overlay).unwrap().ino(), made);
        let error = tool.lasting(&state, "work", &other).unwrap_err();
        assert!(matches!(error, OverlayError::OtherImage { .. }), "{error}");
        let later = SystemTime::now() + Duration::from_secs(60);
        File::options().write(true).open(&first.path).unwrap().set_modified(later).unwrap();
        let error = tool.lasting(&state, "work", &first).unwrap_err();
        assert!(matches!(error, OverlayError::Changed { .. }), "{error}");
        for name in ["", ".", "../work", "a/b", "a b", &"x".repeat(101)] {
            let error = tool.lasting(&state, name, &first).unwrap_err();
            assert!(matches!(error, OverlayError::Name { .. }), "{name}");
        }
    }

    #[test]
    fn what_is_no_image_is_refused_in_qemu_imgs_words() {
        let dir = tempfile::tempdir().unwrap();
        let missing =
            Source { path: dir.path().join("none.iso"), format: DiskFormat::Raw, offset: 0 };
        let tool = tool(&SystemRunner);
        let error = tool.create(&missing, &dir.path().join("overlay.qcow2")).unwrap_err();
        assert!(
            matches!(&error, OverlayError::Refused { stderr, .. }
            if stderr.contains("No such file")),
            "{error}"
        );
        let nothing = Tool::locate(&SystemRunner, Path::new("/nonexistent/qemu"), None);
        assert!(matches!(nothing, Err(OverlayError::NoTool)));
    }
}
