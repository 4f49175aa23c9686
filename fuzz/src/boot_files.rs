//! Files that a host boots with.

use std::io::Cursor;

use host::Sysroot;
use reserve::image::{Image, Limits, Uki};

use crate::scratch::Scratch;

/// An initramfs image.
pub fn initramfs(data: &[u8]) {
    let limits = Limits { members: 1000, unpacked: 1 << 20, kept: 1 << 16 };
    let Ok(image) = Image::read(Cursor::new(data), |_| true, limits) else { return };
    assert!(image.members().len() <= limits.members);
    for member in image.members() {
        assert!(!member.path.is_absolute());
        image.find(&member.path);
        image.contents(&member.path);
        image.below(&member.path);
    }
}

/// A unified kernel image.
pub fn uki(data: &[u8]) {
    let file = Scratch::with(data);
    let path = file.path();
    let host = Sysroot::host().expect("the root directory");
    let Ok(uki) = Uki::open(&host, &path) else { return };
    for section in uki.sections() {
        // A text is no longer than the file, whatever its section claims.
        if let Ok(Some(text)) = uki.text(&host, &section.name) {
            assert!(text.len() <= 3 * data.len());
        }
    }
    drop(uki.initramfs(&host, |_| false));
}
