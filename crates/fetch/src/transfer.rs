//! Downloads that go on where they ended.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};

use serde::{Deserialize, Serialize};
use ureq::Body;
use ureq::http::Response;

use crate::web::{Resume, Web};
use crate::{FetchError, LARGEST, Progress, file_failed};

/// How often a server is asked again without anything having come.
const ATTEMPTS: u32 = 3;
/// What part of the patience goes by before that.
const PAUSE: u32 = 15;
/// Bytes that are read at once.
const PIECE: usize = 128 << 10;

/// What is known of a part of a file, so that the rest fits it.
#[derive(Default, Serialize, Deserialize)]
struct Note {
    url: String,
    /// The server's mark of the file's content: a strong `ETag`, or `Last-Modified`.
    validator: String,
}

fn note_path(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(".note");
    name.into()
}

/// Downloads what is at an address into `part`.
pub(crate) fn download(
    web: &Web,
    url: &str,
    part: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), FetchError> {
    let mut left = ATTEMPTS;
    loop {
        let before = part.metadata().map_or(0, |metadata| metadata.len());
        let error = match attempt(web, url, part, progress) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let temporary = match &error {
            FetchError::Truncated { .. } | FetchError::Stalled { .. } => true,
            FetchError::Request { source, .. } => matches!(**source, ureq::Error::Io(_)),
            FetchError::Status { status, .. } => *status >= 500,
            _ => false,
        };
        let came = part.metadata().map_or(0, |metadata| metadata.len()) > before;
        // As long as something comes, it is worth while.
        left = if came { ATTEMPTS } else { left - 1 };
        if !temporary || left == 0 {
            return Err(error);
        }
        progress(Progress::Again { reason: &error.to_string() });
        if !came {
            std::thread::sleep(web.patience / PAUSE);
        }
    }
}

fn attempt(
    web: &Web,
    url: &str,
    part: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), FetchError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(part)
        .map_err(file_failed("write", part))?;
    let size = file.metadata().map_err(file_failed("read", part))?.len();
    let note = read_note(part).filter(|note| note.url == url && size > 0);
    let resume = note.as_ref().map(|note| Resume { from: size, validator: &note.validator });
    let response = web.get(url, resume.as_ref())?;
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let nonsense = |problem: String| FetchError::Nonsense { url: url.to_owned(), problem };
    let (from, total) = match (response.status().as_u16(), &resume) {
        (200, _) => (0, header("content-length").and_then(|length| length.parse::<u64>().ok())),
        (206, Some(resume)) => {
            let range = header("content-range").unwrap_or_default();
            let (from, total) =
                content_range(range).ok_or_else(|| nonsense(format!("the range `{range}`")))?;
            if from != resume.from {
                return Err(nonsense(format!("bytes from {from}, asked for {}", resume.from)));
            }
            (from, total)
        }
        // Nothing is left to come, or the file is another one now.
        (416, Some(_)) => {
            let range = header("content-range").unwrap_or_default();
            if range.strip_prefix("bytes */").and_then(|all| all.parse().ok()) == Some(size) {
                return Ok(());
            }
            drop(response);
            forget(part)?;
            return Err(FetchError::Truncated {
                url: url.to_owned(),
                received: 0,
                announced: size,
            });
        }
        (status, _) => return Err(FetchError::Status { url: url.to_owned(), status }),
    };
    if total.is_some_and(|total| total > LARGEST) {
        return Err(FetchError::TooLarge { url: url.to_owned() });
    }
    if from == 0 {
        file.set_len(0).map_err(file_failed("write", part))?;
        write_note(part, url, &response)?;
    }
    file.seek(SeekFrom::Start(from)).map_err(file_failed("write", part))?;
    progress(Progress::Begins { url, from, total });
    let mut at = from;
    let pieces = pieces(response);
    loop {
        match pieces.recv_timeout(web.patience) {
            Ok(Ok(piece)) => {
                at += piece.len() as u64;
                if at > total.unwrap_or(LARGEST) {
                    return Err(FetchError::TooLarge { url: url.to_owned() });
                }
                file.write_all(&piece).map_err(file_failed("write", part))?;
                progress(Progress::At { bytes: at, total });
            }
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = web.patience.as_secs();
                return Err(FetchError::Stalled { url: url.to_owned(), seconds });
            }
        }
    }
    match total {
        Some(total) if at < total => {
            Err(FetchError::Truncated { url: url.to_owned(), received: at, announced: total })
        }
        _ => file.sync_all().map_err(file_failed("write", part)),
    }
}

/// Reads a body in a thread of its own, so that a server that sends nothing is noticed. The thread
/// ends with the connection, or with the process.
fn pieces(response: Response<Body>) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = sync_channel(4);
    std::thread::spawn(move || {
        let mut reader = response.into_body().into_reader();
        loop {
            let mut piece = vec![0; PIECE];
            let read = match reader.read(&mut piece) {
                Ok(0) => return,
                Ok(length) => {
                    piece.truncate(length);
                    Ok(piece)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let ends = read.is_err();
            if sender.send(read).is_err() || ends {
                return;
            }
        }
    });
    receiver
}

/// `bytes FROM-TO/TOTAL` (RFC 9110, section 14.4).
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, to) = range.split_once('-')?;
    let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
    let total = match total {
        "*" => None,
        total => Some(total.parse::<u64>().ok()?),
    };
    let fits = from <= to && total.is_none_or(|total| to < total);
    fits.then_some((from, total))
}

fn read_note(part: &Path) -> Option<Note> {
    let mut text = Vec::new();
    File::open(note_path(part)).ok()?.take(1 << 16).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Writes down what the rest of a file must fit; without a mark of the server's there is no rest.
fn write_note(part: &Path, url: &str, response: &Response<Body>) -> Result<(), FetchError> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    // A weak mark does not tell that every byte is the same (RFC 9110, section 13.1.5).
    let strong = header("etag").filter(|mark| !mark.starts_with("W/"));
    let path = note_path(part);
    let Some(validator) = strong.or_else(|| header("last-modified")) else {
        return removed(&path);
    };
    let note = Note { url: url.to_owned(), validator: validator.to_owned() };
    let text = serde_json::to_vec(&note).map_err(io::Error::from);
    text.and_then(|text| std::fs::write(&path, text)).map_err(file_failed("write", &path))
}

fn removed(path: &Path) -> Result<(), FetchError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(file_failed("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a part, and what is known of it.
pub(crate) fn forget(part: &Path) -> Result<(), FetchError> {
    removed(part)?;
    removed(&note_path(part))
}

/// Gives a whole file its name.
pub(crate) fn finish(part: &Path, path: &Path) -> Result<(), FetchError> {
    std::fs::rename(part, path).map_err(file_failed("write", path))?;
    removed(&note_path(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_servers_write_them() {
        for (text, range) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes 5-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("5-9/10", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), range, "{text}");
        }
    }
}
