//! Random sequences of operations, on a volume and on a model of it in memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use bfs::{Error, Kind, NodeId, Volume};
use common::{SIZES, make, pattern, sound};
use proptest::prelude::*;

/// A node of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    content: Content,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    File(Vec<u8>),
    Link(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, Node>),
}

impl Node {
    fn new(content: Content) -> Self {
        Self { content, attributes: BTreeMap::new() }
    }

    fn entries(&mut self) -> Option<&mut BTreeMap<Vec<u8>, Self>> {
        match &mut self.content {
            Content::Directory(entries) => Some(entries),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize, usize),
    Directory(usize, usize),
    Link(usize, usize, usize),
    Write(usize, usize, usize, usize),
    Truncate(usize, usize, usize),
    Remove(usize, usize),
    Rename(usize, usize, usize, usize),
    Attribute(usize, usize, usize, usize),
    NoAttribute(usize, usize, usize),
}

/// Directories are one of a few, two levels deep, some of which may not exist.
const DIRECTORIES: [&[&[u8]]; 5] = [&[], &[b"0"], &[b"1"], &[b"0", b"1"], &[b"1", b"2"]];
const ATTRIBUTES: [&[u8]; 4] = [b"BEOS:APP_SIG", b"BEOS:TYPE", b"large", b"x"];

fn name(index: usize) -> Vec<u8> {
    match index {
        0..=5 => index.to_string().into_bytes(),
        _ => vec![b"abcdefghijkl"[index]; index * 25 + 5],
    }
}

fn step() -> impl Strategy<Value = Step> {
    let (place, entry) = (0..DIRECTORIES.len(), 0_usize..11);
    let size = prop_oneof![0_usize..3000, 3000_usize..40_000];
    prop_oneof![
        4 => (place.clone(), entry.clone(), size.clone()).prop_map(|(p, n, s)| Step::Put(p, n, s)),
        2 => (place.clone(), 0_usize..4).prop_map(|(p, n)| Step::Directory(p, n)),
        1 => (place.clone(), entry.clone(), 1_usize..2000).prop_map(|(p, n, s)| Step::Link(p, n, s)),
        2 => (place.clone(), entry.clone(), size.clone(), 1_usize..9000)
            .prop_map(|(p, n, s, l)| Step::Write(p, n, s, l)),
        2 => (place.clone(), entry.clone(), size).prop_map(|(p, n, s)| Step::Truncate(p, n, s)),
        3 => (place.clone(), entry.clone()).prop_map(|(p, n)| Step::Remove(p, n)),
        3 => (place.clone(), entry.clone(), place.clone(), entry.clone())
            .prop_map(|(p, n, q, m)| Step::Rename(p, n, q, m)),
        4 => (place.clone(), entry.clone(), 0..ATTRIBUTES.len(), 0_usize..3000)
            .prop_map(|(p, n, a, s)| Step::Attribute(p, n, a, s)),
        1 => (place, entry, 0..ATTRIBUTES.len()).prop_map(|(p, n, a)| Step::NoAttribute(p, n, a)),
    ]
}

fn directory(root: &mut Node, place: usize) -> Option<&mut BTreeMap<Vec<u8>, Node>> {
    let mut at = root;
    for name in DIRECTORIES[place] {
        at = at.entries()?.get_mut(*name)?;
    }
    at.entries()
}

fn find(volume: &mut Volume<Vec<u8>>, place: usize) -> Option<NodeId> {
    let node = volume.lookup(&DIRECTORIES[place].join(&b'/')).ok()?;
    (volume.metadata(node).unwrap().kind == Kind::Directory).then_some(node)
}

/// Does a step on both. Both must agree on whether it can be done.
fn apply(volume: &mut Volume<Vec<u8>>, root: &mut Node, step: &Step) {
    let (place, entry) = match step {
        Step::Put(p, n, _)
        | Step::Directory(p, n)
        | Step::Link(p, n, _)
        | Step::Write(p, n, ..)
        | Step::Truncate(p, n, _)
        | Step::Remove(p, n)
        | Step::Rename(p, n, ..)
        | Step::Attribute(p, n, ..)
        | Step::NoAttribute(p, n, _) => (*p, name(*n)),
    };
    let parent = find(volume, place);
    let known = directory(root, place);
    assert_eq!(parent.is_some(), known.is_some());
    let (Some(parent), Some(known)) = (parent, known) else { return };
    let node = volume.entry(parent, &entry).ok();
    assert_eq!(node.is_some(), known.contains_key(&entry));
    match step {
        Step::Put(_, seed, size) => {
            let content = pattern(*size, *seed);
            let mut source = content.as_slice();
            let done = volume.write_file(parent, &entry, 0o644, &mut source, *size as u64);
            match known.get_mut(&entry) {
                None => {
                    done.unwrap();
                    known.insert(entry, Node::new(Content::File(content)));
                }
                Some(Node { content: Content::File(old), .. }) => {
                    done.unwrap();
                    *old = content;
                }
                Some(_) => assert!(done.is_err()),
            }
        }
        Step::Directory(..) | Step::Link(..) => {
            let (done, content) = match step {
                Step::Link(_, _, length) => {
                    let target = vec![b't'; *length];
                    (volume.create_symlink(parent, &entry, &target), Content::Link(target))
                }
                _ => {
                    let done = volume.create_directory(parent, &entry, 0o755);
                    (done, Content::Directory(BTreeMap::new()))
                }
            };
            if node.is_some() {
                assert!(matches!(done, Err(Error::Exists(_))));
            } else {
                done.unwrap();
                known.insert(entry, Node::new(content));
            }
        }
        Step::Write(_, _, offset, length) => {
            let Some(node) = node else { return };
            let bytes = pattern(*length, 77);
            let done = volume.write(node, *offset as u64, &bytes);
            if let Content::File(content) = &mut known.get_mut(&entry).unwrap().content {
                done.unwrap();
                content.resize(content.len().max(offset + length), 0);
                content[*offset..offset + length].copy_from_slice(&bytes);
            } else {
                assert!(matches!(done, Err(Error::NotAFile(_))));
            }
        }
        Step::Truncate(_, _, size) => {
            let Some(node) = node else { return };
            let done = volume.truncate(node, *size as u64);
            if let Content::File(content) = &mut known.get_mut(&entry).unwrap().content {
                done.unwrap();
                content.resize(*size, 0);
            } else {
                assert!(matches!(done, Err(Error::NotAFile(_))));
            }
        }
        Step::Remove(..) => {
            let done = volume.remove(parent, &entry);
            match known.get_mut(&entry).map(|node| node.entries()) {
                None => assert!(matches!(done, Err(Error::NotFound(_)))),
                Some(Some(entries)) if !entries.is_empty() => {
                    assert!(matches!(done, Err(Error::NotEmpty(_))));
                }
                Some(_) => {
                    done.unwrap();
                    known.remove(&entry);
                }
            }
        }
        Step::Rename(_, _, to, new_name) => {
            rename(volume, root, (place, entry), (*to, name(*new_name)))
        }
        Step::Attribute(_, _, attribute, size) => {
            let Some(node) = node else { return };
            let (attribute, value) = (ATTRIBUTES[*attribute], pattern(*size, 5));
            volume.set_attribute(node, attribute, 0x4353_5452, &value).unwrap();
            known.get_mut(&entry).unwrap().attributes.insert(attribute.to_vec(), value);
        }
        Step::NoAttribute(_, _, attribute) => {
            let Some(node) = node else { return };
            let done = volume.remove_attribute(node, ATTRIBUTES[*attribute]);
            let known = known.get_mut(&entry).unwrap().attributes.remove(ATTRIBUTES[*attribute]);
            assert_eq!(done.is_ok(), known.is_some());
        }
    }
}

fn rename(
    volume: &mut Volume<Vec<u8>>,
    root: &mut Node,
    (place, entry): (usize, Vec<u8>),
    (to, new_name): (usize, Vec<u8>),
) {
    let (Some(from_node), Some(to_node)) = (find(volume, place), find(volume, to)) else { return };
    let done = volume.rename(from_node, &entry, to_node, &new_name);
    // The model without the moved node tells whether the target is within it.
    let mut after = root.clone();
    let Some(moved) = directory(&mut after, place).unwrap().remove(&entry) else {
        assert!(matches!(done, Err(Error::NotFound(_))));
        return;
    };
    if (place, &entry) == (to, &new_name) {
        done.unwrap();
        return;
    }
    let is_directory = matches!(moved.content, Content::Directory(_));
    let Some(target) = directory(&mut after, to) else {
        assert!(matches!(done, Err(Error::IntoItself(_))), "{done:?}");
        return;
    };
    let fits = match target.get_mut(&new_name).map(|node| node.entries()) {
        None => true,
        Some(None) => !is_directory,
        Some(Some(entries)) => is_directory && entries.is_empty(),
    };
    assert_eq!(done.is_ok(), fits, "{done:?}");
    if fits {
        target.insert(new_name, moved);
        *root = after;
    }
}

/// Reads all of a volume into a model.
fn read(volume: &mut Volume<Vec<u8>>, node: NodeId) -> Node {
    let metadata = volume.metadata(node).unwrap();
    let content = match metadata.kind {
        Kind::Symlink => Content::Link(volume.read_link(node).unwrap()),
        Kind::File => {
            let mut content = vec![0; usize::try_from(metadata.size).unwrap()];
            volume.read(node, 0, &mut content).unwrap();
            Content::File(content)
        }
        Kind::Directory => {
            let entries: Vec<_> = volume.entries(node).unwrap().map(Result::unwrap).collect();
            let entries = entries.into_iter().map(|entry| (entry.name, read(volume, entry.node)));
            Content::Directory(entries.collect())
        }
    };
    let mut attributes = BTreeMap::new();
    for info in volume.attributes(node).unwrap() {
        attributes.insert(info.name.clone(), volume.attribute(node, &info.name).unwrap().value);
    }
    Node { content, attributes }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_volume_does_what_the_model_does(
        size in 0_usize..4,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut volume = make(SIZES[size], 16 << 20);
        let mut root = Node::new(Content::Directory(BTreeMap::new()));
        for step in &steps {
            apply(&mut volume, &mut root, step);
            volume = sound(volume);
        }
        let node = volume.root();
        prop_assert_eq!(read(&mut volume, node), root);
    }

    /// Several operations in a transaction, on a volume with hardly room for them.
    #[test]
    fn a_batch_does_what_the_model_does(
        size in 0_usize..4,
        steps in proptest::collection::vec(step(), 1..120),
        pause in 1_usize..40,
    ) {
        let mut volume = make(SIZES[size], 11 << 20);
        let mut root = Node::new(Content::Directory(BTreeMap::new()));
        for part in steps.chunks(pause) {
            volume.batch();
            for step in part {
                apply(&mut volume, &mut root, step);
            }
            let node = volume.root();
            prop_assert_eq!(read(&mut volume, node), root.clone());
            volume.sync().unwrap();
            volume = sound(volume);
        }
    }
}
