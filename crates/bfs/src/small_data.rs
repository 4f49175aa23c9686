//! The small attributes of an inode, which follow its fixed part in the block.

use crate::bytes::{put, u16_at, u32_at};
use crate::error::{Result, damaged};
use crate::inode::{Inode, SMALL_DATA};

/// The name of the item that holds the node's own name (FILE_NAME_NAME of Haiku's bfs.h).
pub(crate) const NAME: &[u8] = &[0x13];
/// Its type, `CSTR` (FILE_NAME_TYPE there).
pub(crate) const STRING_TYPE: u32 = 0x4353_5452;

/// Bytes of an item besides its name and data: struct small_data, 3 bytes between the two and a
/// zero at the end.
const AROUND: usize = 8 + 3 + 1;

/// One attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) kind: u32,
    pub(crate) name: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl Item {
    fn size(&self) -> usize {
        AROUND + self.name.len() + self.data.len()
    }
}

/// Takes the area apart, the item with the node's name included.
pub(crate) fn parse(inode: &Inode) -> Result<Vec<Item>> {
    let raw = &inode.raw;
    let mut items = Vec::new();
    let mut at = SMALL_DATA;
    while at + AROUND <= raw.len() {
        let (name, data) = (usize::from(u16_at(raw, at + 4)), usize::from(u16_at(raw, at + 6)));
        if name == 0 {
            break;
        }
        let data_at = at + 8 + name + 3;
        if data_at + data + 1 > raw.len() {
            let problem = format!("item of {name} and {data} bytes at byte {at} does not fit");
            return Err(damaged(inode.block, inode.block, "small_data", problem));
        }
        items.push(Item {
            kind: u32_at(raw, at),
            name: raw[at + 8..at + 8 + name].to_vec(),
            data: raw[data_at..data_at + data].to_vec(),
        });
        at = data_at + data + 1;
    }
    Ok(items)
}

/// Whether items fit into an inode.
pub(crate) fn fit(inode: &Inode, items: &[Item]) -> bool {
    items.iter().map(Item::size).sum::<usize>() <= inode.raw.len() - SMALL_DATA
}

/// Replaces the area; the items must fit.
pub(crate) fn write(inode: &mut Inode, items: &[Item]) {
    let raw = &mut inode.raw;
    raw[SMALL_DATA..].fill(0);
    let mut at = SMALL_DATA;
    for item in items {
        put(raw, at, &item.kind.to_le_bytes());
        put(raw, at + 4, &(item.name.len() as u16).to_le_bytes());
        put(raw, at + 6, &(item.data.len() as u16).to_le_bytes());
        put(raw, at + 8, &item.name);
        put(raw, at + 8 + item.name.len() + 3, &item.data);
        at += item.size();
    }
}
