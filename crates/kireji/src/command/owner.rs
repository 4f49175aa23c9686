//! Whose files are that kireji makes where the user said.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chownat, fstat, openat};
use rustix::process::{Gid, Uid};

use crate::context::Vars;

/// Who called sudo, if somebody did: what is made in a directory of theirs becomes theirs. A file
/// is made as root nevertheless, since what it is made of may be readable by root only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    user: Option<(u32, u32)>,
}

impl Owner {
    pub(crate) fn of(vars: &Vars) -> Self {
        Self { user: vars.user.as_ref().map(|user| (user.uid, user.gid)) }
    }

    /// Gives what was just made to the user, if it lies in a directory of the user's. If that
    /// cannot be, it stays root's: that is no reason to end.
    pub(crate) fn give(self, path: &Path) {
        let Some((uid, gid)) = self.user else { return };
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        if !parent.metadata().is_ok_and(|parent| parent.uid() == uid) {
            return;
        }
        // What is looked at is what changes hands, whatever takes its name meanwhile; a file that
        // has a second name elsewhere is not one that was just made.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(opened) = openat(CWD, path, flags, Mode::empty()) else { return };
        let is_ours = fstat(&opened).is_ok_and(|stat| {
            let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
            stat.st_uid == 0 && (is_directory || stat.st_nlink == 1)
        });
        if is_ours {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            chownat(&opened, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH).unwrap_or_default();
        }
    }

    /// Makes a directory and those above it that are not there.
    pub(crate) fn make_directories(self, path: &Path) -> std::io::Result<()> {
        let missing = path.ancestors().take_while(|path| *path != Path::new("") && !path.exists());
        let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        std::fs::create_dir_all(path)?;
        missing.iter().rev().for_each(|path| self.give(path));
        Ok(())
    }
}
