//! Downloads from a server that does everything wrong.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod server;

use std::path::Path;
use std::time::{Duration, Instant};

use fetch::{FetchError, Fetched, Options, Progress, Sources, What, fetch};
use server::{Reply, Server};

/// A key and what was signed with it, made for these tests.
const KEY: &str = "RWRraXJlamlUVNksxmuUqwS++o1+WrRxqt9VU/dVwDA65co1/CWaY3+q";
const SIGNATURE: &str = "untrusted comment: x\n\
    RURraXJlamlUVHTCn5ByRGx1fVCYrW+2HRaQz+OkZYNvPUp28+zHBtux6dhK04rvjbrbCztGXtLR7p2WS3ok4LpPFjt+\
    b2M1yw0=\n\
    trusted comment: a file for tests\n\
    30GWiKf4XmBU9OrqTJjJqataJMm9hQUZcEXkerYZ9dKQw+gqHBh8+3wq6tbOU57kV935o4HZbmHC6YF5QfG/DQ==\n";
const HASH: &str = "5a5d1daeeaa10c665f1e6f1f7b205487131b6e3fe98b20f64881a6280770d322";

/// What was signed.
fn content() -> Vec<u8> {
    (0..300_000_u32).map(|i| u8::try_from((i * 31 + i / 251) % 251).unwrap()).collect()
}

fn options(server: &Server, cache: &Path) -> Options {
    let base = server.base();
    Options {
        sources: Sources {
            nightly: format!("{base}/nightly/"),
            releases: format!("{base}/releases"),
            ..Sources::default()
        },
        key: KEY.to_owned(),
        cache: cache.to_owned(),
        patience: Duration::from_millis(400),
    }
}

fn get(server: &Server, cache: &Path, what: &What) -> Result<Fetched, FetchError> {
    fetch(what, &options(server, cache), &mut |_| {})
}

fn url(server: &Server) -> What {
    What::Url(format!("{}/x.iso", server.base()))
}

/// No part of a file is left that a later download would take for a good one.
fn names(cache: &Path) -> Vec<String> {
    let entries = cache.read_dir().unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.ends_with(".lock"));
    names.sort_unstable();
    names
}

#[test]
fn a_release_is_checked_and_kept() {
    let server = Server::start(|request| match request.path.as_str() {
        "/releases/r1beta5/haiku-r1beta5-x86_64-anyboot.iso" => Reply::whole(content()),
        path if path.ends_with(".sha256") => {
            Reply::text(&format!("SHA256 (haiku-r1beta5-x86_64-anyboot.iso) = {HASH}\n"))
        }
        path if path.ends_with(".minisig") => Reply::text(SIGNATURE),
        _ => Reply::status(404),
    });
    let cache = tempfile::tempdir().unwrap();
    let first = get(&server, cache.path(), &What::Beta(None)).unwrap();
    assert!(first.hash_checked && first.signature_checked && !first.cached, "{first:?}");
    assert_eq!(first.sha256, HASH);
    assert!(std::fs::read(&first.path).unwrap() == content());
    let asked = server.requests().len();
    let again = get(&server, cache.path(), &What::Beta(None)).unwrap();
    assert_eq!(again, Fetched { cached: true, ..first });
    assert_eq!(server.requests().len(), asked, "the cache asks nobody");
    let name = "haiku-r1beta5-x86_64-anyboot.iso";
    assert_eq!(names(cache.path()), [name.to_owned(), format!("{name}.json")]);
}

#[test]
fn a_download_that_is_cut_off_goes_on() {
    let server = Server::start(|request| match (request.path.as_str(), request.range) {
        ("/x.iso", None) => Reply::whole(content()).cut(100_000).etag("\"one\""),
        ("/x.iso", Some(from)) => {
            assert_eq!(request.if_range.as_deref(), Some("\"one\""));
            let left = content().len() - from;
            let reply = Reply::range(content(), from).etag("\"one\"");
            if left > 150_000 { reply.cut(90_000) } else { reply }
        }
        _ => Reply::status(404),
    });
    let cache = tempfile::tempdir().unwrap();
    let mut from = Vec::new();
    let fetched = fetch(&url(&server), &options(&server, cache.path()), &mut |progress| {
        if let Progress::Begins { from: at, total, .. } = progress {
            assert_eq!(total, Some(300_000));
            from.push(at);
        }
    });
    assert_eq!(fetched.unwrap().sha256, HASH);
    assert_eq!(from[..2], [0, 100_000], "{from:?}");
    assert!(from.len() >= 3, "{from:?}");
}

#[test]
fn a_file_that_changed_meanwhile_is_taken_anew() {
    for (mark, changed) in [("\"two\"", true), ("\"one\"", false)] {
        let server = Server::start(move |request| match (request.path.as_str(), request.range) {
            ("/x.iso", None) => Reply::whole(vec![7; 200_000]).cut(100_000).etag("\"one\""),
            // What If-Range names is not there any more: the server sends all of the new one.
            ("/x.iso", Some(_)) if changed => Reply::whole(content()).etag(mark),
            ("/x.iso", Some(from)) => Reply::range(vec![7; 200_000], from).etag(mark),
            _ => Reply::status(404),
        });
        let cache = tempfile::tempdir().unwrap();
        let fetched = get(&server, cache.path(), &url(&server)).unwrap();
        let expected = if changed { content() } else { vec![7; 200_000] };
        assert!(std::fs::read(fetched.path).unwrap() == expected, "{mark}");
    }
}

#[test]
fn without_a_strong_mark_it_begins_again() {
    for mark in [None, Some("W/\"weak\"")] {
        let server = Server::start(move |request| match request.path.as_str() {
            "/x.iso" => {
                assert_eq!(request.range, None);
                let reply = Reply::whole(content());
                let reply = match mark {
                    Some(mark) => reply.etag(mark),
                    None => reply,
                };
                if request.number == 0 { reply.cut(1000) } else { reply }
            }
            _ => Reply::status(404),
        });
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(get(&server, cache.path(), &url(&server)).unwrap().sha256, HASH);
    }
}

#[test]
fn a_server_that_stalls_is_left_and_asked_again_later() {
    let server = Server::start(|request| match (request.path.as_str(), request.range) {
        ("/x.iso", None) => Reply::whole(content()).etag("\"one\"").stall(50_000),
        ("/x.iso", Some(from)) if request.number < 8 => {
            Reply::range(content(), from).etag("\"one\"").stall(0)
        }
        ("/x.iso", Some(from)) => Reply::range(content(), from).etag("\"one\""),
        _ => Reply::status(404),
    });
    let cache = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let error = get(&server, cache.path(), &url(&server)).unwrap_err();
    assert!(matches!(error, FetchError::Stalled { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(names(cache.path()), ["x.iso.part", "x.iso.part.note"]);
    // What is there is kept: another try goes on.
    while server.requests().len() < 8 {
        drop(get(&server, cache.path(), &url(&server)));
    }
    assert_eq!(get(&server, cache.path(), &url(&server)).unwrap().sha256, HASH);
    let ranges: Vec<_> = server.requests().iter().filter_map(|request| request.range).collect();
    assert!(ranges.iter().all(|from| *from == 50_000), "{ranges:?}");
}

#[test]
fn lies_about_the_length_are_found_out() {
    // More is announced than comes, each time.
    let server = Server::start(|request| match request.path.as_str() {
        "/x.iso" => Reply::whole(content()).announce(400_000),
        _ => Reply::status(404),
    });
    let cache = tempfile::tempdir().unwrap();
    let error = get(&server, cache.path(), &url(&server)).unwrap_err();
    let truncated =
        matches!(error, FetchError::Truncated { received: 300_000, announced: 400_000, .. });
    assert!(truncated, "{error}");

    // Less is announced: the hash tells.
    let server = Server::start(|request| match request.path.as_str() {
        "/x.iso" => Reply::whole(content()).announce(200_000),
        "/x.iso.sha256" => Reply::text(HASH),
        _ => Reply::status(404),
    });
    let cache = tempfile::tempdir().unwrap();
    let error = get(&server, cache.path(), &url(&server)).unwrap_err();
    assert!(matches!(error, FetchError::Wrong { .. }), "{error}");
    assert_eq!(names(cache.path()), [""; 0]);

    // More than can be.
    let server = Server::start(|_| Reply::whole(content()).announce(usize::MAX / 2));
    let error = get(&server, cache.path(), &url(&server)).unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error}");

    // Another part than was asked for.
    let server = Server::start(|request| match request.range {
        None => Reply::whole(content()).etag("\"one\"").cut(1000),
        Some(_) => Reply::range(content(), 5000).etag("\"one\""),
    });
    let error = get(&server, cache.path(), &url(&server)).unwrap_err();
    assert!(matches!(error, FetchError::Nonsense { .. }), "{error}");
}

#[test]
fn a_wrong_hash_or_signature_leaves_nothing() {
    let other = HASH.replace('5', "6");
    let forged = SIGNATURE.replace("a file for tests", "another file");
    for (hash, signature) in [
        (Some(other.as_str()), None),
        (Some("<html>not found</html>"), None),
        (Some(HASH), Some(forged.as_str())),
        (None, Some("nonsense")),
    ] {
        let hash = hash.map(str::to_owned);
        let signature = signature.map(str::to_owned);
        let reply = |text: &Option<String>| match text {
            Some(text) => Reply::text(text),
            None => Reply::status(404),
        };
        let server = Server::start(move |request| match request.path.as_str() {
            "/x.iso.sha256" => reply(&hash),
            "/x.iso.minisig" => reply(&signature),
            _ => Reply::whole(content()).etag("\"one\""),
        });
        let cache = tempfile::tempdir().unwrap();
        let error = get(&server, cache.path(), &url(&server)).unwrap_err();
        assert!(matches!(error, FetchError::Wrong { .. }), "{error}");
        assert_eq!(names(cache.path()), [""; 0]);
    }
    // Another file with the right hash of its own, but signed as this one.
    let server = Server::start(|request| match request.path.as_str() {
        "/x.iso.minisig" => Reply::text(SIGNATURE),
        "/x.iso.sha256" => Reply::status(403),
        _ => Reply::whole(vec![1; 1000]),
    });
    let cache = tempfile::tempdir().unwrap();
    let error = get(&server, cache.path(), &url(&server)).unwrap_err();
    assert!(matches!(error, FetchError::Wrong { .. }), "{error}");
}

#[test]
fn a_release_without_a_signature_is_refused() {
    let server = Server::start(|request| match request.path.as_str() {
        path if path.ends_with(".iso") => Reply::whole(content()),
        _ => Reply::status(404),
    });
    let cache = tempfile::tempdir().unwrap();
    let error = get(&server, cache.path(), &What::Beta(None)).unwrap_err();
    assert!(matches!(error, FetchError::Unsigned { .. }), "{error}");
    // At an address that was given, it is said that nothing was checked.
    let what = What::Url(format!("{}/x.iso", server.base()));
    let fetched = get(&server, cache.path(), &what).unwrap();
    assert!(!fetched.hash_checked && !fetched.signature_checked);
}

#[test]
fn redirects_are_followed_but_not_in_a_circle() {
    let server = Server::start(|request| match request.path.as_str() {
        "/x.iso" => Reply::redirect("/y"),
        "/y" => Reply::whole(content()),
        "/circle.iso" => Reply::redirect("/circle2.iso"),
        "/circle2.iso" => Reply::redirect("/circle.iso"),
        _ => Reply::status(404),
    });
    let cache = tempfile::tempdir().unwrap();
    assert_eq!(get(&server, cache.path(), &url(&server)).unwrap().sha256, HASH);
    let circle = What::Url(format!("{}/circle.iso", server.base()));
    let error = get(&server, cache.path(), &circle).unwrap_err();
    assert!(matches!(error, FetchError::Request { .. }), "{error}");
    assert!(server.requests().len() < 40);
}

#[test]
fn what_is_not_there_is_told() {
    let server = Server::start(|request| match request.path.as_str() {
        "/nightly/" => Reply::text("<a href=\"haiku-master-hrev7-x86_64-anyboot.zip\">"),
        _ => Reply::status(404),
    });
    let cache = tempfile::tempdir().unwrap();
    let error = get(&server, cache.path(), &url(&server)).unwrap_err();
    assert!(matches!(error, FetchError::Status { status: 404, .. }), "{error}");
    let error = get(&server, cache.path(), &What::Nightly(Some(8))).unwrap_err();
    assert!(matches!(error, FetchError::NotListed { .. }), "{error}");
    let nobody = What::Url("http://127.0.0.1:1/x.iso".to_owned());
    assert!(matches!(get(&server, cache.path(), &nobody).unwrap_err(), FetchError::Request { .. }));
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated);
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn the_newest_nightly_is_unpacked() {
    let directory = "haiku-master-hrev59002-x86_64-anyboot";
    let iso = format!("{directory}/haiku-master-hrev59002-x86_64-anyboot.iso");
    let readme = format!("{directory}/README.md");
    let zip = archive(&[(&readme, b"read me"), (&iso, &content())]);
    let server = Server::start(move |request| match request.path.as_str() {
        "/nightly/" => Reply::text(
            "<a href=\"/files/haiku-master-hrev59002-x86_64-anyboot.zip\">\
             <a href=\"/files/haiku-master-hrev59001-x86_64-anyboot.zip\">",
        ),
        "/files/haiku-master-hrev59002-x86_64-anyboot.zip" => Reply::whole(zip.clone()),
        _ => Reply::status(404),
    });
    let cache = tempfile::tempdir().unwrap();
    let fetched = get(&server, cache.path(), &What::Nightly(None)).unwrap();
    assert!(std::fs::read(&fetched.path).unwrap() == content());
    let name = "haiku-master-hrev59002-x86_64-anyboot";
    assert_eq!(names(cache.path()), [format!("{name}.iso"), format!("{name}.zip.json")]);
    assert!(get(&server, cache.path(), &What::Nightly(None)).unwrap().cached);
}

#[test]
fn archives_cannot_write_elsewhere_or_lie() {
    let mut damaged = archive(&[("a.iso", &content())]);
    damaged[100] ^= 0xff;
    // The size in the central directory, which is what is believed.
    let mut lying = archive(&[("a.iso", &content())]);
    let central = lying.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    lying[central + 24..central + 28].copy_from_slice(&1000_u32.to_le_bytes());
    for zip in [
        archive(&[("readme", b"x")]),
        archive(&[("a.iso", b"x"), ("b.iso", b"y")]),
        archive(&[("../.iso", b"x")]),
        damaged,
        lying,
    ] {
        let zip_ = zip.clone();
        let server = Server::start(move |request| match request.path.as_str() {
            "/x.iso" => Reply::whole(zip_.clone()),
            _ => Reply::status(404),
        });
        let cache = tempfile::tempdir().unwrap();
        let error = get(&server, cache.path(), &url(&server)).unwrap_err();
        assert!(matches!(error, FetchError::Archive { .. }), "{error}");
        let left = names(cache.path());
        assert!(left.iter().all(|name| name.starts_with("x.iso.part")), "{left:?}");
    }
    let zip = archive(&[("../../a.iso", b"x")]);
    let server = Server::start(move |request| match request.path.as_str() {
        "/x.iso" => Reply::whole(zip.clone()),
        _ => Reply::status(404),
    });
    let cache = tempfile::tempdir().unwrap();
    let fetched = get(&server, cache.path(), &url(&server)).unwrap();
    assert_eq!(fetched.path, cache.path().join("a.iso"));
}

#[test]
fn two_do_not_fetch_the_same_at_once() {
    let server = Server::start(|_| Reply::status(404));
    let cache = tempfile::tempdir().unwrap();
    let lock = std::fs::File::create(cache.path().join("x.iso.lock")).unwrap();
    lock.lock().unwrap();
    let error = get(&server, cache.path(), &url(&server)).unwrap_err();
    assert!(matches!(error, FetchError::Busy(_)), "{error}");
}
