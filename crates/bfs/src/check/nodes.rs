//! Inodes of every kind, from the two roots down.

use crate::bytes::{u16_at, u32_at};
use crate::error::Result;
use crate::storage::Storage;
use crate::super_block::Run;

use super::streams::Content;
use super::tree::Keys;
use super::{Check, Class};

// The offsets of struct bfs_inode, and the mode bits of headers/posix/sys/stat.h of Haiku.
const MODE: usize = 20;
const FLAGS: usize = 24;
const LAST_MODIFIED: usize = 36;
const PARENT: usize = 44;
const ATTRIBUTES: usize = 52;
const LINK: usize = 72;
const SMALL: usize = 232;
const TYPE: u32 = 0o170_000;
const ATTR_DIR: u32 = 0o1_000_000_000;
const ATTR: u32 = 0o2_000_000_000;
const INDEX: u32 = 0o4_000_000_000;
const LONG_LINK: u32 = 0x40;

/// An inode to visit, and what it must be.
#[derive(Debug)]
struct Visit {
    block: u64,
    parent: u64,
    name: Vec<u8>,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Root,
    Entry,
    Indices,
    Index,
    AttributeDirectory,
    /// An attribute of the inode with this number.
    Attribute(u64),
}

impl What {
    /// The bits that tell the kind in the mode.
    fn special(self) -> u32 {
        match self {
            Self::Root | Self::Entry => 0,
            Self::Indices | Self::Index => INDEX,
            Self::AttributeDirectory => ATTR_DIR,
            Self::Attribute(_) => ATTR,
        }
    }
}

impl<S: Storage> Check<'_, S> {
    pub(super) fn visit_all(&mut self) -> Result<()> {
        let root = self.super_block.root;
        let visit = |block, what| Visit { block, parent: block, name: Vec::new(), what };
        let mut stack = vec![visit(root, What::Root)];
        // The indices first, so that it is known which there are when the files come.
        stack.extend(self.super_block.indices.map(|block| visit(block, What::Indices)));
        while let Some(visit) = stack.pop() {
            self.visit(&visit, &mut stack)?;
        }
        Ok(())
    }

    fn visit(&mut self, visit: &Visit, stack: &mut Vec<Visit>) -> Result<()> {
        let block = visit.block;
        if !self.super_block.is_data_block(block) {
            let problem = format!("{block} cannot be the inode of {:?}", text(&visit.name));
            self.find(Class::Directory, visit.parent, visit.parent, "value", problem);
            return Ok(());
        }
        if !self.set_used(block) {
            self.report.shared_blocks += 1;
            let problem = format!("the inode of {:?} is in use already", text(&visit.name));
            self.find(Class::Directory, visit.parent, block, "value", problem);
            return Ok(());
        }
        let raw = self.block(block)?;
        if !self.fields(visit, &raw) {
            return Ok(());
        }
        let mode = u32_at(&raw, MODE);
        let kind = mode & TYPE;
        let in_inode = kind == 0o120_000 && u32_at(&raw, FLAGS) & LONG_LINK == 0;
        let directory = kind == 0o040_000;
        let content = if in_inode {
            if !raw[LINK..LINK + 144].contains(&0) {
                self.find(Class::Inode, block, block, "short_symlink", "has no end");
            }
            Content::default()
        } else {
            let keep = directory || visit.what.special() == ATTR;
            self.stream(block, &raw, keep)?
        };
        match visit.what {
            What::Root | What::Entry => self.regular(visit, &raw, &content, stack)?,
            What::Index => {
                let keys = keys_of_mode(mode);
                self.report.indices += 1;
                self.expected.add_index(&visit.name, block, keys);
                let mut found = Vec::new();
                self.tree(block, &content, keys, true, &mut |key, value| {
                    found.push((key.to_vec(), value));
                })?;
                for (key, value) in found {
                    self.expected.find(&visit.name, &key, value);
                }
            }
            What::Indices => self.children(visit, &content, What::Index, stack)?,
            What::AttributeDirectory => {
                let what = What::Attribute(visit.parent);
                self.children(visit, &content, what, stack)?;
            }
            What::Attribute(owner) => {
                self.report.large_attributes += 1;
                if self.expected.has(&visit.name) && !content.broken {
                    let length = content.size.min(super::indices::KEY as u64 + 1);
                    let value = self.content_at(&content, 0, crate::bytes::to_usize(length))?;
                    self.expected.say(&visit.name, owner, &value);
                }
            }
        }
        Ok(())
    }

    /// Checks the fields that every inode has. Returns whether the rest can be believed.
    fn fields(&mut self, visit: &Visit, raw: &[u8]) -> bool {
        let block = visit.block;
        let before = self.report.findings.len() as u64 + self.report.omitted;
        let mut wrong = |field, problem: String| {
            self.find(Class::Inode, block, block, field, problem);
        };
        if u32_at(raw, 0) != 0x3bbe_0ad9 {
            wrong("magic1", format!("{:#x}", u32_at(raw, 0)));
            return false;
        }
        let mode = u32_at(raw, MODE);
        let flags = u32_at(raw, FLAGS);
        let size = u32_at(raw, 64);
        if size as usize != raw.len() {
            wrong("inode_size", size.to_string());
        }
        if flags & 1 == 0 {
            wrong("flags", format!("{flags:#x}: not in use"));
        }
        if flags & 0x10 != 0 {
            wrong("flags", format!("{flags:#x}: deleted"));
        }
        let (kind, special) = (mode & TYPE, mode & (ATTR_DIR | ATTR | INDEX));
        let right = match visit.what {
            What::Entry => matches!(kind, 0o040_000 | 0o100_000 | 0o120_000),
            What::Attribute(_) => kind == 0o100_000,
            What::AttributeDirectory => matches!(kind, 0o040_000 | 0),
            _ => kind == 0o040_000,
        };
        if !right || special != visit.what.special() {
            wrong("mode", format!("{mode:o} for a node of the kind {:?}", visit.what));
        }
        let number = Run::parse(raw, 4);
        if number != self.super_block.run(block) {
            let problem = format!("{number} in place of {}", self.super_block.run(block));
            self.find(Class::Inode, block, block, "inode_num", problem);
        }
        let sound = self.report.findings.len() as u64 + self.report.omitted == before;
        let parent = Run::parse(raw, PARENT);
        if parent != self.super_block.run(visit.parent) {
            let problem = format!("{parent} in place of {}", self.super_block.run(visit.parent));
            self.find(Class::Directory, block, block, "parent", problem);
        }
        sound
    }

    fn regular(
        &mut self,
        visit: &Visit,
        raw: &[u8],
        content: &Content,
        stack: &mut Vec<Visit>,
    ) -> Result<()> {
        let block = visit.block;
        let kind = u32_at(raw, MODE) & TYPE;
        if visit.what == What::Entry {
            self.expected.say(b"name", block, &visit.name);
            if kind != 0o040_000 {
                self.expected.say(b"last_modified", block, &raw[LAST_MODIFIED..LAST_MODIFIED + 8]);
            }
            if kind == 0o120_000 && u32_at(raw, FLAGS) & LONG_LINK != 0 {
                self.expected.long_link(block);
            }
            if kind == 0o100_000 {
                self.expected.say(b"size", block, &raw[208..216]);
            }
        }
        self.small_data(visit, raw);
        let attributes = Run::parse(raw, ATTRIBUTES);
        if !attributes.is_zero() {
            match self.super_block.inode_block(attributes) {
                Some(directory) => stack.push(Visit {
                    block: directory,
                    parent: block,
                    name: Vec::new(),
                    what: What::AttributeDirectory,
                }),
                None => {
                    let problem = format!("{attributes} cannot be an inode");
                    self.find(Class::Attribute, block, block, "attributes", problem);
                }
            }
        }
        match kind {
            0o040_000 => {
                self.report.directories += 1;
                self.children(visit, content, What::Entry, stack)?;
            }
            0o120_000 => self.report.symlinks += 1,
            _ => self.report.files += 1,
        }
        Ok(())
    }

    /// Checks a tree of names and notes what it leads to.
    fn children(
        &mut self,
        visit: &Visit,
        content: &Content,
        what: What,
        stack: &mut Vec<Visit>,
    ) -> Result<()> {
        let block = visit.block;
        let (mut own, mut above) = (None, None);
        self.tree(block, content, Keys(0), false, &mut |key, value| match key {
            b"." if what == What::Entry => own = Some(value),
            b".." if what == What::Entry => above = Some(value),
            _ => stack.push(Visit {
                block: u64::try_from(value).unwrap_or_default(),
                parent: block,
                name: key.to_vec(),
                what,
            }),
        })?;
        if what == What::Entry && !content.broken {
            for (name, found, right) in [(".", own, block), ("..", above, visit.parent)] {
                if found != Some(right as i64) {
                    let found = found.map_or("nothing".to_owned(), |found| found.to_string());
                    let problem = format!("`{name}` leads to {found} in place of {right}");
                    self.find(Class::Directory, block, block, "value", problem);
                }
            }
        }
        Ok(())
    }

    fn small_data(&mut self, visit: &Visit, raw: &[u8]) {
        let block = visit.block;
        let (mut at, mut name) = (SMALL, None);
        let mut seen: Vec<&[u8]> = Vec::new();
        while at + 12 <= raw.len() && u16_at(raw, at + 4) != 0 {
            let (names, data) =
                (usize::from(u16_at(raw, at + 4)), usize::from(u16_at(raw, at + 6)));
            let end = at + 8 + names + 3 + data + 1;
            if end > raw.len() {
                let problem = format!("the item at byte {at} does not fit");
                self.find(Class::Attribute, block, block, "small_data", problem);
                return;
            }
            let item = &raw[at + 8..at + 8 + names];
            let value = &raw[end - 1 - data..end - 1];
            if seen.contains(&item) {
                let problem = format!("{:?} is there twice", text(item));
                self.find(Class::Attribute, block, block, "small_data", problem);
            }
            seen.push(item);
            if item == [0x13] {
                name = Some(value);
            } else {
                self.report.small_attributes += 1;
                self.expected.say(item, block, value);
            }
            at = end;
        }
        if visit.what == What::Entry && name != Some(&visit.name[..]) {
            let found = name.map_or("none".to_owned(), |name| format!("{:?}", text(name)));
            let problem = format!("{found} in place of {:?}", text(&visit.name));
            self.find(Class::Directory, block, block, "name", problem);
        }
    }
}

fn keys_of_mode(mode: u32) -> Keys {
    let known = [
        (0o200_000_000, 1),
        (0o400_000_000, 2),
        (0o010_000_000, 3),
        (0o020_000_000, 4),
        (0o040_000_000, 5),
        (0o001_000_000, 6),
    ];
    Keys(known.into_iter().find(|(bit, _)| mode & bit != 0).map_or(0, |(_, number)| number))
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
