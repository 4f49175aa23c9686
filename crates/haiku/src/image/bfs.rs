//! The super block of a Be File System volume.

/// A volume, as its super block describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    block_size: u32,
    blocks: u64,
}

// Layout and magic numbers: src/add-ons/kernel/file_systems/bfs/bfs.h of Haiku, disk_super_block;
// what is valid: Volume.cpp there, disk_super_block::IsMagicValid and IsValid. Only little-endian
// volumes, those of x86, are known to boot.
const MAGIC_1: u32 = 0x4246_5331;
const LITTLE_ENDIAN: u32 = 0x4249_4745;
const MAGIC_2: u32 = 0xdd12_1031;
const MAGIC_3: u32 = 0x15b6_830e;

/// Whether a super block is one of PowerPC.
pub(super) fn is_big_endian(block: &[u8]) -> bool {
    block.get(32..36) == Some(&MAGIC_1.to_be_bytes())
}

impl Volume {
    /// Parses the super block, which lies at byte 512 of a volume.
    pub(super) fn parse(block: &[u8]) -> Option<Self> {
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(block.get(at..at + 4)?.try_into().ok()?))
        };
        let blocks = u64::from_le_bytes(block.get(48..56)?.try_into().ok()?);
        let (block_size, block_shift) = (word(40)?, word(44)?);
        let valid = word(32)? == MAGIC_1
            && word(36)? == LITTLE_ENDIAN
            && word(68)? == MAGIC_2
            && word(112)? == MAGIC_3
            && matches!(block_size, 1024 | 2048 | 4096 | 8192)
            && 1_u32.checked_shl(block_shift) == Some(block_size)
            && word(64)? == block_size
            && i64::try_from(blocks).is_ok();
        valid.then_some(Self { block_size, blocks })
    }

    /// Size of the volume in bytes.
    pub(super) fn size(self) -> u64 {
        self.blocks.saturating_mul(u64::from(self.block_size))
    }
}
