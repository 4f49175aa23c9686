//! What is published, and where.

use std::str::FromStr;

use crate::FetchError;
use crate::web::Web;

/// Bytes of a page that lists images.
const LARGEST_PAGE: u64 = 8 << 20;

/// What to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An image of the development branch: of a revision, or the newest one.
    Nightly(Option<u32>),
    /// A release: of a name such as `r1beta5`, or the newest one that is known.
    Beta(Option<String>),
    /// The image at an address.
    Url(String),
}

/// It cannot be told what is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is none of nightly, nightly@hrevNNNNN, beta, beta@r1betaN and an address of http or https"
)]
pub struct WhatError(String);

impl FromStr for What {
    type Err = WhatError;

    fn from_str(text: &str) -> Result<Self, WhatError> {
        let bad = || WhatError(text.to_owned());
        if text.starts_with("https://") || text.starts_with("http://") {
            return Ok(Self::Url(text.to_owned()));
        }
        match text.split_once('@') {
            None if text == "nightly" => Ok(Self::Nightly(None)),
            None if text == "beta" => Ok(Self::Beta(None)),
            Some(("nightly", revision)) => {
                let number = revision.strip_prefix("hrev").and_then(|number| number.parse().ok());
                number.map(|number| Self::Nightly(Some(number))).ok_or_else(bad)
            }
            Some(("beta", name)) => {
                let fine = |c: char| c.is_ascii_alphanumeric();
                let ok = name.starts_with('r') && name.chars().all(fine);
                if ok { Ok(Self::Beta(Some(name.to_owned()))) } else { Err(bad()) }
            }
            _ => Err(bad()),
        }
    }
}

/// Where images are published. The defaults are what Haiku's web site said in 2026; a mirror or a
/// change needs no new version of this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The page that lists images of the development branch, with links to them.
    pub nightly: String,
    /// The directory that has one directory a release.
    pub releases: String,
    /// The newest release.
    pub release: String,
    /// The architecture, by Haiku's names.
    pub architecture: String,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            nightly: "https://download.haiku-os.org/nightly-images/x86_64/".to_owned(),
            releases: "https://s3.us-east-1.wasabisys.com/haiku-release/".to_owned(),
            release: "r1beta5".to_owned(),
            architecture: "x86_64".to_owned(),
        }
    }
}

/// The address of an image.
pub(crate) fn address(what: &What, sources: &Sources, web: &Web) -> Result<String, FetchError> {
    let architecture = &sources.architecture;
    match what {
        What::Url(url) => Ok(url.clone()),
        What::Beta(name) => {
            let name = name.as_ref().unwrap_or(&sources.release);
            let base = sources.releases.trim_end_matches('/');
            Ok(format!("{base}/{name}/haiku-{name}-{architecture}-anyboot.iso"))
        }
        What::Nightly(revision) => {
            let page = &sources.nightly;
            let text = web
                .text(page, LARGEST_PAGE)?
                .ok_or_else(|| FetchError::Status { url: page.clone(), status: 404 })?;
            newest(&text, architecture, *revision).and_then(|link| joined(page, link)).ok_or_else(
                || FetchError::NotListed {
                    url: page.clone(),
                    wanted: revision.map_or_else(
                        || format!("for {architecture}"),
                        |number| format!("hrev{number} for {architecture}"),
                    ),
                },
            )
        }
    }
}

/// The link of a page to the image of a revision, or of the newest one.
fn newest<'p>(page: &'p str, architecture: &str, revision: Option<u32>) -> Option<&'p str> {
    let end = format!("-{architecture}-anyboot.zip");
    let links = page.split(['"', '\'', '<', '>', ' ']).filter_map(|link| {
        let name = link.rsplit('/').next()?;
        let number = name.strip_prefix("haiku-master-hrev")?.strip_suffix(end.as_str())?;
        Some((number.parse::<u32>().ok()?, link))
    });
    let wanted = links.filter(|(number, _)| revision.is_none_or(|wanted| wanted == *number));
    wanted.max_by_key(|(number, _)| *number).map(|(_, link)| link)
}

/// A link of a page as a whole address.
fn joined(page: &str, link: &str) -> Option<String> {
    let (scheme, rest) = page.split_once("://")?;
    if link.starts_with("https://") || link.starts_with("http://") {
        return Some(link.to_owned());
    }
    if link.contains(':') {
        return None;
    }
    if let Some(host) = link.strip_prefix("//") {
        return Some(format!("{scheme}://{host}"));
    }
    if link.starts_with('/') {
        let host = rest.split('/').next()?;
        return Some(format!("{scheme}://{host}{link}"));
    }
    let base = rest.split(['?', '#']).next()?;
    let directory = base.rsplit_once('/').map_or(base, |(directory, _)| directory);
    Some(format!("{scheme}://{directory}/{link}"))
}

/// The name of the file at an address: what can be the name of a file here.
pub(crate) fn file_name(url: &str) -> Option<String> {
    let path = url.split_once("://")?.1.split(['?', '#']).next()?;
    let (_, name) = path.rsplit_once('/')?;
    is_name(name).then(|| name.to_owned())
}

/// Whether a server's name for a file can be the name of a file here.
pub(crate) fn is_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '~');
    !name.is_empty() && !name.starts_with('.') && name.len() < 200 && name.chars().all(fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_understood() {
        for (text, what) in [
            ("nightly", What::Nightly(None)),
            ("nightly@hrev59001", What::Nightly(Some(59001))),
            ("beta", What::Beta(None)),
            ("beta@r1beta4", What::Beta(Some("r1beta4".to_owned()))),
            ("http://x/y.iso", What::Url("http://x/y.iso".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(what));
        }
        for bad in ["", "nightly@59001", "nightly@hrevx", "beta@../x", "ftp://x/y", "x@y", "alpha"]
        {
            assert!(bad.parse::<What>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_newest_image_of_a_page_is_found() {
        let page = "<a href=\"haiku-master-hrev9-x86_64-anyboot.zip\">x</a>\
                    <a href='https://cdn/haiku-master-hrev59010-x86_64-anyboot.zip'>\
                    <a href=\"/a/haiku-master-hrev59009-x86_64-anyboot.zip\">\
                    <a href=\"haiku-master-hrev99999-riscv64-anyboot.zip\">\
                    <a href=\"haiku-master-hrev99999-x86_64-anyboot.zip.sha256\">";
        let find = |revision| {
            newest(page, "x86_64", revision).and_then(|link| joined("https://h:1/p/q?x=/y", link))
        };
        let cdn = "https://cdn/haiku-master-hrev59010-x86_64-anyboot.zip";
        assert_eq!(find(None).as_deref(), Some(cdn));
        let rooted = "https://h:1/a/haiku-master-hrev59009-x86_64-anyboot.zip";
        assert_eq!(find(Some(59009)).as_deref(), Some(rooted));
        let beside = "https://h:1/p/haiku-master-hrev9-x86_64-anyboot.zip";
        assert_eq!(find(Some(9)).as_deref(), Some(beside));
        assert_eq!(find(Some(1)), None);
        assert_eq!(joined("https://h/p", "file:///etc/x"), None);
        assert_eq!(joined("https://h/p", "//other/x").as_deref(), Some("https://other/x"));
    }

    #[test]
    fn a_file_gets_no_odd_name() {
        assert_eq!(file_name("https://h/a/b.iso?x=y/z").as_deref(), Some("b.iso"));
        for bad in
            ["https://h/", "https://h", "https://h/..", "https://h/.x", "https://h/a%2fb", "x"]
        {
            assert_eq!(file_name(bad), None, "{bad}");
        }
    }
}
