//! Getting published images: what is published where, downloads that resume, checks by SHA-256 and
//! minisign, unpacking, and a cache.
//!
//! Servers and what they send are hostile: everything is bounded, nothing is believed about
//! lengths, and a file gets its name only when all that can be checked about it has been. The crate
//! knows nothing of images; it must never depend on another one of the workspace.

mod checks;
mod names;
mod transfer;
mod unpack;
mod web;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

pub use checks::HAIKU_KEY;
pub use names::{Sources, What, WhatError};

use checks::Check;
use web::Web;

/// Bytes of a file that are downloaded or unpacked at most; images have 1 to 2 GiB.
pub const LARGEST: u64 = 16 << 30;

/// Something cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server does not answer as it should.
    #[error("cannot get {url}")]
    Request {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The server answers that it has not, or does not give, what is asked for.
    #[error("{url} answers with status {status}")]
    Status {
        /// The address.
        url: String,
        /// HTTP's number for it.
        status: u16,
    },
    /// Nothing came for a while.
    #[error("{url} sent nothing for {seconds} s")]
    Stalled {
        /// The address.
        url: String,
        /// How long.
        seconds: u64,
    },
    /// The download ended early, again and again.
    #[error("{url} ended after {received} of {announced} bytes")]
    Truncated {
        /// The address.
        url: String,
        /// What came.
        received: u64,
        /// What the server said would come.
        announced: u64,
    },
    /// It is larger than is believed.
    #[error("{url} has more than {LARGEST} bytes")]
    TooLarge {
        /// The address.
        url: String,
    },
    /// The server says something that makes no sense.
    #[error("{url} answers with {problem}")]
    Nonsense {
        /// The address.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// An address does not end with the name of a file.
    #[error("{url} does not end with the name of a file")]
    NoName {
        /// The address.
        url: String,
    },
    /// The page does not have what is asked for.
    #[error("{url} lists no image {wanted}")]
    NotListed {
        /// The page.
        url: String,
        /// What was looked for.
        wanted: String,
    },
    /// The file is not what its publisher says.
    #[error("{url} is not what its publisher says: {problem}")]
    Wrong {
        /// The address.
        url: String,
        /// What does not fit.
        problem: String,
    },
    /// What is needed to check it is not published.
    #[error("{url} has no signature, which releases of Haiku have")]
    Unsigned {
        /// The address.
        url: String,
    },
    /// The archive cannot be unpacked.
    #[error("{path} cannot be unpacked: {problem}")]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A file of this machine cannot be read or written.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Another process fetches the same.
    #[error("another process is fetching {0}")]
    Busy(PathBuf),
}

fn file_failed<'p>(
    action: &'static str,
    path: &'p Path,
) -> impl Fn(io::Error) -> FetchError + use<'p> {
    move |source| FetchError::File { action, path: path.to_owned(), source }
}

/// How to fetch.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where images are published.
    pub sources: Sources,
    /// The public key that signatures are made with.
    pub key: String,
    /// The directory where what was fetched is kept.
    pub cache: PathBuf,
    /// How long nothing may come before the server is asked again.
    pub patience: Duration,
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fetched {
    /// The image.
    pub path: PathBuf,
    /// Where it came from.
    pub url: String,
    /// SHA-256 of what came, in hexadecimal.
    pub sha256: String,
    /// Whether the publisher's SHA-256 was compared.
    pub hash_checked: bool,
    /// Whether the publisher's signature was verified.
    pub signature_checked: bool,
    /// Whether it was there already.
    pub cached: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A download begins, or goes on after some bytes.
    Begins {
        /// The address.
        url: &'a str,
        /// Bytes that are there from an earlier time.
        from: u64,
        /// Bytes of all, if the server says.
        total: Option<u64>,
    },
    /// Bytes are there.
    At {
        /// How many.
        bytes: u64,
        /// Bytes of all, if the server says.
        total: Option<u64>,
    },
    /// The server is asked again.
    Again {
        /// Why.
        reason: &'a str,
    },
    /// What came is compared with what its publisher says.
    Checking,
    /// The image is unpacked.
    Unpacking,
}

/// Fetches an image, unless it is in the cache.
///
/// # Errors
/// It cannot be found, downloaded, checked, unpacked or kept.
pub fn fetch(
    what: &What,
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Fetched, FetchError> {
    let cache = &options.cache;
    std::fs::create_dir_all(cache).map_err(file_failed("make", cache))?;
    let web = Web::new(options.patience);
    let url = names::address(what, &options.sources, &web)?;
    let name = names::file_name(&url).ok_or_else(|| FetchError::NoName { url: url.clone() })?;
    let path = cache.join(&name);
    // Two processes would write one file.
    let lock_path = cache.join(format!("{name}.lock"));
    let lock = File::create(&lock_path).map_err(file_failed("make", &lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(FetchError::Busy(path)),
        Err(std::fs::TryLockError::Error(error)) => {
            return Err(file_failed("lock", &lock_path)(error));
        }
    }
    let record = cache.join(format!("{name}.json"));
    if let Some(known) = cached(&record, &url) {
        return Ok(known);
    }
    let part = cache.join(format!("{name}.part"));
    transfer::download(&web, &url, &part, progress)?;
    progress(Progress::Checking);
    let must_sign = matches!(what, What::Beta(_));
    let check = match checks::check(&web, &url, &part, &options.key, must_sign) {
        Ok(check) => check,
        Err(error) => {
            // What is wrong once stays wrong, however often it is resumed.
            if matches!(error, FetchError::Wrong { .. }) {
                transfer::forget(&part)?;
            }
            return Err(error);
        }
    };
    let Check { sha256, hash_checked, signature_checked } = check;
    let path = if unpack::is_archive(&part)? {
        progress(Progress::Unpacking);
        let path = unpack::unpack(&part, cache)?;
        transfer::forget(&part)?;
        path
    } else {
        transfer::finish(&part, &path)?;
        path
    };
    let fetched = Fetched { path, url, sha256, hash_checked, signature_checked, cached: false };
    let text = serde_json::to_vec_pretty(&Kept::from(&fetched)).map_err(io::Error::from);
    text.and_then(|text| std::fs::write(&record, text)).map_err(file_failed("write", &record))?;
    Ok(fetched)
}

/// What is written down of an image in the cache.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    url: String,
    path: PathBuf,
    size: u64,
    sha256: String,
    hash_checked: bool,
    signature_checked: bool,
}

impl From<&Fetched> for Kept {
    fn from(fetched: &Fetched) -> Self {
        Self {
            url: fetched.url.clone(),
            path: fetched.path.clone(),
            size: fetched.path.metadata().map_or(0, |metadata| metadata.len()),
            sha256: fetched.sha256.clone(),
            hash_checked: fetched.hash_checked,
            signature_checked: fetched.signature_checked,
        }
    }
}

/// An image in the cache, if it is of this address and has its size still.
fn cached(record: &Path, url: &str) -> Option<Fetched> {
    let Kept { url: of, path, size, sha256, hash_checked, signature_checked } =
        serde_json::from_slice(&std::fs::read(record).ok()?).ok()?;
    let same = of == url && path.metadata().is_ok_and(|there| there.len() == size);
    same.then_some(Fetched { path, url: of, sha256, hash_checked, signature_checked, cached: true })
}
