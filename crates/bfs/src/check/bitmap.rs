//! The block bitmap against what is in use.

use crate::bytes::{i64_at, to_usize};
use crate::error::Result;
use crate::storage::Storage;

use super::{Check, Class};

/// What is said of a run of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Agrees,
    Unreserved,
    Missing,
    Lost,
}

impl<S: Storage> Check<'_, S> {
    pub(super) fn compare_bitmap(&mut self) -> Result<()> {
        let count = self.super_block.num_blocks;
        let per_block = 8_u64 << self.super_block.block_shift;
        let (mut state, mut start) = (State::Agrees, 0);
        for block in 0..self.super_block.bitmap_blocks() {
            let bitmap = self.block(1 + block)?;
            for word in 0..per_block / 64 {
                let first = block * per_block + word * 64;
                if first >= count {
                    break;
                }
                let said = i64_at(&bitmap, to_usize(word * 8)) as u64;
                let used = self.used[to_usize(first / 64)];
                let end = (count - first).min(64);
                self.report.used_blocks += u64::from(used.count_ones());
                if state == State::Agrees && said & mask(end) == used {
                    continue;
                }
                for bit in 0..end {
                    let at = first + bit;
                    let now = match (said >> bit & 1 == 1, used >> bit & 1 == 1) {
                        (false, true) if at < self.super_block.reserved() => State::Unreserved,
                        (false, true) => State::Missing,
                        (true, false) => State::Lost,
                        _ => State::Agrees,
                    };
                    if now != state {
                        self.differs(state, start, at);
                        (state, start) = (now, at);
                    }
                }
            }
        }
        self.differs(state, start, count);
        let said = self.super_block.raw_used_blocks();
        if said != self.report.used_blocks as i64 {
            let problem = format!("{said}, but {} are in use", self.report.used_blocks);
            self.find(Class::Bitmap, None, 0, "used_blocks", problem);
        }
        Ok(())
    }

    fn differs(&mut self, state: State, start: u64, end: u64) {
        let length = end - start;
        let what = match state {
            State::Agrees => return,
            State::Unreserved => {
                self.report.unreserved_blocks += length;
                "free, but reserved"
            }
            State::Missing => {
                self.report.missing_blocks += length;
                "free, but in use"
            }
            State::Lost => {
                self.report.lost_blocks += length;
                "used, but by nothing"
            }
        };
        let block = 1 + start / (8 << self.super_block.block_shift);
        let problem = format!("{length} blocks from {start} on are {what}");
        self.find(Class::Bitmap, None, block, "block bitmap", problem);
    }
}

fn mask(bits: u64) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}
