//! Hosts that the lab makes for real, captured there by `kireji snapshot`.
//!
//! A lab test captures each of them afresh and compares; with `KIREJI_CAPTURE=1` it replaces the
//! files.

use std::path::{Path, PathBuf};
use std::process::Command;

use host::Sysroot;

/// Each rig, with the card that commands about one card are run on.
pub const CAPTURED: [(&str, &str); 7] = [
    ("amd", "01:00.0"),
    ("bridge", "02:02.0"),
    ("multifunction", "01:00.0"),
    ("no-acs", "01:00.0"),
    ("no-remap", "01:00.0"),
    ("none", "01:00.0"),
    ("twins", "01:00.0"),
];

/// Returns where the capture of a rig lies.
pub fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/captured/{name}.tar.zst"))
}

/// All that the commands which look say of a captured host, without what differs from capture to
/// capture: the masks of serial numbers, and the kernel's release.
pub fn said(file: &Path, card: &str) -> String {
    let mut text = String::new();
    for args in [
        &["list"][..],
        &["list", "--tree"],
        &["doctor", "--verbose"],
        &["doctor", card, "--verbose"],
        &["show", card],
        &["status"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kireji"));
        let ended = command.arg("--sysroot").arg(file).args(args).output().expect("kireji runs");
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = ended.status.code();
        text += &format!("$ kireji {} → {code:?}\n{}", args.join(" "), shown(&ended.stdout));
        text += &format!("{}\n", shown(&ended.stderr));
    }
    let mut parts = text.split("serial ");
    let first = parts.next().unwrap_or_default().to_owned();
    let masked = parts.fold(first, |text, rest| {
        let end = rest.find(|char: char| !char.is_alphanumeric()).unwrap_or(rest.len());
        text + "serial SERIAL" + &rest[end..]
    });
    let packed = std::fs::read(file).expect("the capture");
    let host = Sysroot::unpack(&packed[..]).expect("a captured host");
    let release = host.text("/proc/sys/kernel/osrelease").expect("a release");
    masked.replace(&release, "RELEASE")
}
