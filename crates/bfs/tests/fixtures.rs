//! Volumes that Haiku's own tools made read back exactly.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use bfs::{Access, Kind, NodeId, Options, Volume};
use common::{fixture, sha256, table, type_name};

type Nodes = BTreeMap<String, (String, u64, String)>;

fn walk(
    volume: &mut Volume<&[u8]>,
    node: NodeId,
    path: &str,
    found: &mut Nodes,
    attributes: &mut Nodes,
) {
    for entry in volume.entries(node).unwrap().collect::<Result<Vec<_>, _>>().unwrap() {
        let name = String::from_utf8(entry.name.clone()).unwrap();
        let path = if path.is_empty() { name } else { format!("{path}/{name}") };
        assert_eq!(volume.name(entry.node).unwrap(), entry.name);
        let metadata = volume.metadata(entry.node).unwrap();
        let known = match metadata.kind {
            Kind::Directory => {
                walk(volume, entry.node, &path, found, attributes);
                ("dir".to_owned(), 0, "-".to_owned())
            }
            Kind::Symlink => {
                let target = String::from_utf8(volume.read_link(entry.node).unwrap()).unwrap();
                ("link".to_owned(), metadata.size, target)
            }
            Kind::File => {
                let mut content = vec![0; usize::try_from(metadata.size).unwrap() + 1];
                let length = volume.read(entry.node, 0, &mut content).unwrap();
                ("file".to_owned(), length as u64, sha256(&content[..length]))
            }
        };
        for info in volume.attributes(entry.node).unwrap() {
            let name = String::from_utf8(info.name.clone()).unwrap();
            let attribute = volume.attribute(entry.node, &info.name).unwrap();
            assert_eq!((attribute.kind, attribute.value.len() as u64), (info.kind, info.size));
            let known = (type_name(info.kind), info.size, sha256(&attribute.value));
            attributes.insert(format!("{path}\t{name}"), known);
        }
        found.insert(path, known);
    }
}

fn reads_back(name: &str, access: Access) {
    let bytes = fixture(name);
    let options = Options { access, cache: 65536, ..Options::default() };
    let mut volume = Volume::open(bytes.as_slice(), &options).unwrap();
    let root = volume.root();
    let (mut found, mut attributes) = (Nodes::new(), Nodes::new());
    walk(&mut volume, root, "", &mut found, &mut attributes);
    let listed = if name == "dirtylog2048" { "dirtylog2048-replayed" } else { name };
    let expected: Nodes = table(&format!("{listed}.contents.tsv"))
        .unwrap()
        .into_iter()
        .map(|row| {
            let size = if row[0] == "link" { row[3].len() as u64 } else { row[2].parse().unwrap() };
            (row[1].clone(), (row[0].clone(), size, row[3].clone()))
        })
        .collect();
    assert_eq!(found.len(), expected.len());
    for (path, known) in &expected {
        assert_eq!(found.get(path), Some(known), "{path}");
    }
    if let Some(rows) = table(&format!("{name}.attributes.tsv")) {
        for row in &rows {
            let key = format!("{}\t{}", row[0], row[1]);
            let known = (row[2].clone(), row[3].parse().unwrap(), row[4].clone());
            assert_eq!(attributes.get(&key), Some(&known), "{key}");
        }
        assert_eq!(attributes.len(), rows.len());
    }
}

#[test]
fn a_volume_of_every_kind_of_node_reads_back() {
    reads_back("std2048", Access::Read);
}

#[test]
fn a_volume_with_many_indexed_attributes_reads_back() {
    reads_back("index2048", Access::Read);
}

#[test]
fn the_smallest_and_the_largest_blocks_read_back() {
    reads_back("v1024", Access::Read);
    reads_back("v8192", Access::Read);
}

#[test]
fn a_volume_that_was_not_unmounted_reads_as_after_a_replay() {
    reads_back("dirtylog2048-replayed", Access::Read);
    reads_back("dirtylog2048", Access::Read);
}

/// What a replay writes is, block for block, what Haiku's own replay wrote, but for what that
/// changed when it mounted and unmounted the volume.
#[test]
fn a_replay_writes_what_haikus_own_writes() {
    let mut volume = Volume::open(fixture("dirtylog2048"), &Options::default()).unwrap();
    assert!(!volume.info().clean);
    volume.sync().unwrap();
    let ours = volume.into_storage();
    let theirs = fixture("dirtylog2048-replayed");
    let different: Vec<_> = (0..ours.len() / 2048)
        .filter(|block| {
            let range = block * 2048..(block + 1) * 2048;
            ours[range.clone()] != theirs[range]
        })
        .collect();
    // The super block, the bitmap, the next entry of the log, and the two directories whose
    // preallocated blocks were freed when the volume was unmounted.
    assert_eq!(different, [0, 1, 1040, 1041, 1042, 1043, 2051, 2973]);
    let again = Volume::open(ours, &Options::default()).unwrap();
    assert!(again.info().clean);
}
