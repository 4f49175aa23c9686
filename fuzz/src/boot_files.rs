//! Files that a host boots with.

use std::io::Cursor;

use host::Sysroot;
use reserve::config::shell::Script;
use reserve::config::{Change, entry, lines};
use reserve::image::{Image, Limits, Uki};

use crate::scratch::Scratch;
use crate::text;

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

/// A file of assignments that a shell sources.
pub fn assignments(data: &[u8]) {
    let source = text(data);
    let script = Script::parse(&source);
    drop(script.value("A"));
    assert!(
        script.change("A", &Change::default()).is_ok_and(|same| same == source)
            || script.value("A").is_none()
    );
    let change = Change { add: vec!["new=1".into()], remove: vec!["old".into()] };
    if let Ok(changed) = script.change("A", &change) {
        let again = Script::parse(&changed).change("A", &change);
        assert_eq!(again.as_deref(), Ok(&changed[..]));
    }
}

/// A boot entry, which is a command line over lines and a command line as well.
pub fn boot_entry(data: &[u8]) {
    let source = text(data);
    let change = Change { add: vec!["new=1".into()], remove: vec!["old".into()] };
    assert_eq!(entry::apply(&source, &Change::default()), source);
    assert_eq!(lines::apply(&source, &Change::default()), source);
    assert_eq!(Change::default().apply(&source), source);
    drop((entry::apply(&source, &change), lines::apply(&source, &change)));
    drop(change.apply(&source));
}
