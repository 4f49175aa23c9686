//! `kireji image fetch` and `convert`, as a person uses them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use kireji::Exit;

fn kireji(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kireji"))
        .args(args)
        .current_dir(directory)
        .env_clear()
        .env("XDG_CACHE_HOME", directory.join("cache"))
        .output()
        .unwrap()
}

fn done(directory: &Path, args: &[&str]) -> String {
    let output = kireji(directory, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[test]
fn an_image_keeps_its_files_through_every_format() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    done(path, &["image", "mkfs", "disk", "--size", "16M", "--name", "Sample"]);
    std::fs::write(path.join("file"), vec![7; 100_000]).unwrap();
    done(path, &["image", "put", "disk", "file", "file"]);
    // A disk with a partition table, whose volume begins at 1 MiB.
    let volume = std::fs::read(path.join("disk")).unwrap();
    let mut whole = vec![0; 1 << 20];
    whole.extend(&volume);
    let mut entry = [0_u8; 16];
    entry[0] = 0x80;
    entry[4] = 0xeb;
    entry[8..12].copy_from_slice(&2048_u32.to_le_bytes());
    entry[12..16].copy_from_slice(&u32::try_from(volume.len() / 512).unwrap().to_le_bytes());
    whole[446..462].copy_from_slice(&entry);
    whole[510..512].copy_from_slice(&[0x55, 0xaa]);
    // The boot block says where its partition is.
    whole[(1 << 20) + 506..][..4].copy_from_slice(&2048_u32.to_le_bytes());
    std::fs::write(path.join("whole.image"), &whole).unwrap();

    done(path, &["image", "convert", "whole.image", "a.qcow2"]);
    done(path, &["image", "convert", "a.qcow2", "b.image"]);
    assert!(std::fs::read(path.join("b.image")).unwrap() == whole);
    assert!(path.join("a.qcow2").metadata().unwrap().len() < 4 << 20);
    for (from, to, more) in [("a.qcow2", "c", Some("--volume")), ("whole.image:1", "d.qcow2", None)]
    {
        let mut args = vec!["image", "convert", from, to];
        args.extend(more);
        done(path, &args);
        assert_eq!(done(path, &["image", "cat", to, "file"]).len(), 100_000);
        done(path, &["image", "check", to]);
    }
    assert!(std::fs::read(path.join("c")).unwrap() == volume, "but for the boot block");

    let before = std::fs::read(path.join("c")).unwrap();
    let output = kireji(path, &["image", "convert", "whole.image", "c"]);
    assert_eq!(code(&output), Some(i32::from(Exit::Usage as u8)));
    assert!(std::fs::read(path.join("c")).unwrap() == before);
    std::fs::write(path.join("text"), "text").unwrap();
    let output = kireji(path, &["image", "convert", "text", "e"]);
    assert_eq!(code(&output), Some(i32::from(Exit::Image as u8)));
    let left: Vec<_> = path.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let hidden = |name: &&std::ffi::OsString| name.to_string_lossy().starts_with('.');
    assert_eq!(left.iter().find(hidden), None);
    assert!(!path.join("e").exists());
}

/// Answers every request for a path with what there is for it.
fn serve(files: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            let asked = first.split(' ').nth(1).unwrap();
            let found = files.iter().find(|(path, _)| *path == asked);
            let (status, body) = found.map_or((404, &[][..]), |(_, body)| (200, body));
            let length = body.len();
            for _ in lines.map(Result::unwrap).take_while(|line| !line.is_empty()) {}
            write!(
                stream,
                "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            )
            .and_then(|()| stream.write_all(body))
            .unwrap();
        }
    });
    base
}

#[test]
fn an_image_is_fetched_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let page = "<a href=\"/x/haiku-master-hrev59001-x86_64-anyboot.zip\">".into();
    let base = serve(vec![
        ("/x.iso", b"an image".to_vec()),
        ("/nightly/", page),
        ("/bad.iso", b"an image".to_vec()),
        ("/bad.iso.sha256", "0".repeat(64).into()),
    ]);
    let address = format!("{base}/x.iso");
    let output = kireji(path, &["image", "fetch", &address]);
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("nothing was checked"), "{text}");
    let kept = String::from_utf8(output.stdout).unwrap();
    assert_eq!(std::fs::read(kept.trim_end()).unwrap(), b"an image");
    assert!(kept.starts_with(path.join("cache").to_str().unwrap()), "{kept}");
    let json: serde_json::Value =
        serde_json::from_str(&done(path, &["image", "fetch", "--json", &address])).unwrap();
    assert_eq!(json["cached"], true);
    assert_eq!(json["hash_checked"], false);

    let output = kireji(path, &["image", "fetch", &format!("{base}/bad.iso")]);
    assert_eq!(code(&output), Some(i32::from(Exit::Image as u8)));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("its SHA-256 is"), "{text}");
    let page = format!("{base}/nightly/");
    let output = kireji(path, &["image", "fetch", "nightly@hrev1", "--nightly-page", &page]);
    assert_eq!(code(&output), Some(i32::from(Exit::No as u8)));
    for what in ["alpha", "nightly@1", "beta@../x", "file:///etc/passwd"] {
        let output = kireji(path, &["image", "fetch", what]);
        assert_eq!(code(&output), Some(i32::from(Exit::Usage as u8)), "{what}");
    }
}

#[test]
fn under_sudo_what_is_made_in_the_users_directory_is_the_users() {
    use std::os::unix::fs::{MetadataExt, chown};
    if !testkit::only_root::is_root() {
        // Only root can make a file for somebody else.
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let sudo = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_kireji"))
            .args(args)
            .current_dir(path)
            .env_clear()
            .envs([("SUDO_UID", "12345"), ("SUDO_GID", "12346")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let owner = |name: &str| path.join(name).symlink_metadata().unwrap().uid();
    sudo(&["image", "mkfs", "roots", "--size", "12M"]);
    assert_eq!(owner("roots"), 0);
    chown(path, Some(12345), Some(12346)).unwrap();
    sudo(&["image", "mkfs", "disk", "--size", "12M"]);
    sudo(&["image", "convert", "disk", "disk.qcow2"]);
    sudo(&["driver", "new", "one", "--output", "project"]);
    sudo(&["image", "put", "-r", "disk", "project", "/"]);
    sudo(&["image", "ln", "disk", "/boot", "project/link"]);
    sudo(&["image", "get", "-r", "disk", "project", "back"]);
    let names =
        ["disk", "disk.qcow2", "project", "project/one.c", "back", "back/link", "back/one.c"];
    for name in names {
        assert_eq!(owner(name), 12345, "{name}");
    }
    assert_eq!(path.join("back/one.c").metadata().unwrap().gid(), 12346);
}
