//! What was built, against what is built again.

use std::collections::BTreeSet;
use std::fmt;

use host::Sysroot;

use super::product::{Contents, Members, Product, mark};
use super::{Built, Marks};

/// A file that is not built again as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The file.
    pub path: String,
    /// Whether somebody else changed it since, or what it is built from.
    pub is_foreign: bool,
    /// What differs.
    pub details: Vec<Detail>,
    /// What the file said and what it says, where it is a text.
    pub texts: Option<(String, String)>,
}

/// One thing that differs in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// What differs.
    pub what: String,
    /// Whether it is just as the host's own file of this name now is.
    pub is_hosts: bool,
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = if self.is_hosts { ", which are those of the host's own file" } else { "" };
        write!(f, "{}{own}", self.what)
    }
}

impl Detail {
    fn plain(what: impl Into<String>) -> Self {
        Self { what: what.into(), is_hosts: false }
    }
}

impl Built {
    /// Compares what was built with what is built `now`, of which the programs made the host's files.
    ///
    /// `left` are the marks that a change left behind, and `found` those that its reversal found:
    /// what they do not agree on, somebody else changed.
    pub fn differences(
        &self,
        now: &Self,
        (left, found): (&Marks, &Marks),
        host: &Sysroot,
    ) -> Vec<Difference> {
        let paths: BTreeSet<_> = self.files.keys().chain(now.files.keys()).collect();
        let different = paths.into_iter().filter_map(|path| {
            let (old, new) = (self.files.get(path), now.files.get(path));
            if old == new {
                return None;
            }
            let mut difference = Difference {
                path: path.clone(),
                is_foreign: !left.agree(found, path),
                details: details(old, new, host),
                texts: None,
            };
            if let (Some(Contents::Text(old)), Some(Contents::Text(new))) =
                (old.map(|file| &file.contents), new.map(|file| &file.contents))
                && old != new
            {
                difference.texts = Some((old.clone(), new.clone()));
            }
            difference.is_foreign |= difference.details.iter().all(|detail| detail.is_hosts);
            Some(difference)
        });
        different.collect()
    }
}

fn details(old: Option<&Product>, new: Option<&Product>, host: &Sysroot) -> Vec<Detail> {
    let (old, new) = match (old, new) {
        (Some(_), None) => return vec![Detail::plain("it is gone")],
        (None, _) => return vec![Detail::plain("it was not there")],
        (Some(old), Some(new)) => (old, new),
    };
    let mut found = Vec::new();
    if (old.mode, old.owner) != (new.mode, new.owner) {
        let access = |file: &Product| {
            let (user, group) = file.owner;
            format!("mode {:04o} of {user}:{group}", file.mode)
        };
        found.push(Detail::plain(format!("{}, and was {}", access(new), access(old))));
    }
    match (&old.contents, &new.contents) {
        (old, new) if old == new => {}
        (Contents::Image(old), Contents::Image(new)) => found.extend(members(old, new, host)),
        (
            Contents::Unified { sections: old, images: old_images },
            Contents::Unified { sections: new, images: new_images },
        ) => {
            let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for name in names.into_iter().filter(|name| old.get(*name) != new.get(*name)) {
                found.push(Detail::plain(match (old.get(name), new.get(name)) {
                    (Some(_), None) => format!("section {name} is gone"),
                    (None, _) => format!("section {name} was not there"),
                    _ => format!("section {name} has other contents"),
                }));
            }
            let none = Members::new();
            let names: BTreeSet<_> = old_images.keys().chain(new_images.keys()).collect();
            for name in names {
                let old = old_images.get(name).unwrap_or(&none);
                found.extend(members(old, new_images.get(name).unwrap_or(&none), host));
            }
        }
        (_, Contents::Unread(why)) => found.push(Detail::plain(format!("cannot be read: {why}"))),
        (Contents::Link(old), Contents::Link(new)) => {
            found.push(Detail::plain(format!("it leads to {new}, and led to {old}")));
        }
        _ => found.push(Detail::plain("it has other contents")),
    }
    found
}

fn members(old: &Members, new: &Members, host: &Sysroot) -> Vec<Detail> {
    let paths: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let different = paths.into_iter().filter(|path| old.get(*path) != new.get(*path));
    let described = different.map(|path| match (old.get(path), new.get(path)) {
        (Some(_), None) => Detail::plain(format!("{path} is gone from it")),
        (None, _) => Detail::plain(format!("{path} was not in it")),
        (Some(old), Some(new)) if old.kind != new.kind => {
            Detail::plain(format!("{path} is of another kind"))
        }
        (Some(old), Some(new)) if old.mode != new.mode => {
            Detail::plain(format!("{path} has mode {:04o}, and had {:04o}", new.mode, old.mode))
        }
        (_, Some(new)) => {
            let own = mark(host, &format!("/{path}")).map(|digest| digest.to_string());
            Detail {
                what: format!("{path} has other contents"),
                is_hosts: own.is_some() && own == new.contents,
            }
        }
    });
    described.collect()
}
