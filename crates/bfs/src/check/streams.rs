//! Where the content of an inode lies, and that nothing else lies there.

use crate::bytes::{i64_at, to_usize};
use crate::error::Result;
use crate::storage::Storage;
use crate::super_block::Run;

use super::{Check, Class};

// The offsets of struct data_stream within an inode (bfs.h of Haiku).
const DIRECT: usize = 72;
const MAX_DIRECT: usize = 168;
const INDIRECT: usize = 176;
const MAX_INDIRECT: usize = 184;
const DOUBLE: usize = 192;
const MAX_DOUBLE: usize = 200;
const SIZE: usize = 208;
/// An array of runs with more blocks is not read.
const LONGEST_ARRAY: u16 = 64;

/// The content of an inode: its size, and the runs that hold it where they were asked for.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) runs: Vec<(u64, u64)>,
    keep: bool,
    /// Blocks so far.
    total: u64,
    /// Something is wrong with it; it is not to be read.
    pub(super) broken: bool,
}

impl<S: Storage> Check<'_, S> {
    /// Checks and counts the blocks of an inode's content. `keep` asks for the runs.
    pub(super) fn stream(&mut self, inode: u64, raw: &[u8], keep: bool) -> Result<Content> {
        let size = i64_at(raw, SIZE);
        let mut content = Content { keep, ..Content::default() };
        for index in 0..12 {
            let run = Run::parse(raw, DIRECT + index * 8);
            if run.is_zero() {
                break;
            }
            self.data_run(inode, inode, "direct", run, &mut content);
        }
        self.limit(inode, "max_direct_range", i64_at(raw, MAX_DIRECT), &mut content);
        let indirect = Run::parse(raw, INDIRECT);
        let max_indirect = i64_at(raw, MAX_INDIRECT);
        if !indirect.is_zero() {
            self.indirect(inode, indirect, &mut content)?;
        }
        if max_indirect != 0 || !indirect.is_zero() {
            self.limit(inode, "max_indirect_range", max_indirect, &mut content);
        }
        let double = Run::parse(raw, DOUBLE);
        let max_double = i64_at(raw, MAX_DOUBLE);
        if !double.is_zero() {
            self.double(inode, double, &mut content)?;
        }
        if max_double != 0 || !double.is_zero() {
            self.limit(inode, "max_double_indirect_range", max_double, &mut content);
        }
        let bytes = self.super_block.bytes_of(content.total);
        match u64::try_from(size) {
            Ok(size) if size <= bytes => {
                content.size = size;
                let needed = self.super_block.blocks_for(size);
                self.report.preallocated_blocks += content.total - needed;
            }
            _ => {
                let problem = format!("{size} is not between 0 and the {bytes} allocated");
                self.find(Class::Stream, inode, inode, "size", problem);
                content.broken = true;
            }
        }
        Ok(content)
    }

    fn limit(&mut self, inode: u64, field: &'static str, limit: i64, content: &mut Content) {
        let bytes = self.super_block.bytes_of(content.total);
        if limit != bytes as i64 {
            let problem = format!("{limit}, but the runs so far have {bytes} bytes");
            self.find(Class::Stream, inode, inode, field, problem);
            content.broken = true;
        }
    }

    /// Counts a run of content. Returns its length, 0 if it is none.
    fn data_run(
        &mut self,
        inode: u64,
        block: u64,
        field: &'static str,
        run: Run,
        content: &mut Content,
    ) -> u64 {
        let Some((first, length)) = self.claim(inode, block, field, run) else {
            content.broken = true;
            return 0;
        };
        if content.keep {
            content.runs.push((first, length));
        }
        content.total += length;
        length
    }

    /// Notes that a run is in use; `None` if there can be no such run.
    fn claim(
        &mut self,
        inode: u64,
        block: u64,
        field: &'static str,
        run: Run,
    ) -> Option<(u64, u64)> {
        let Some((first, length)) = self.super_block.data_range(run) else {
            let problem = format!("{run} does not lie where data can be");
            self.find(Class::Stream, inode, block, field, problem);
            return None;
        };
        let mut shared = 0;
        for block in first..first + length {
            shared += u64::from(!self.set_used(block));
        }
        if shared > 0 {
            self.report.shared_blocks += shared;
            let problem = format!("{shared} blocks of {run} belong to something else too");
            self.find(Class::Stream, inode, block, field, problem);
        }
        Some((first, length))
    }

    /// Reads an array of runs, up to the first that is zero. One that shares its blocks with
    /// something is not followed, for that may be itself.
    fn run_array(
        &mut self,
        inode: u64,
        block: u64,
        field: &'static str,
        run: Run,
    ) -> Result<Vec<(u64, Run)>> {
        let shared = self.report.shared_blocks;
        let Some((first, length)) = self.claim(inode, block, field, run) else {
            return Ok(Vec::new());
        };
        if run.length > LONGEST_ARRAY {
            let problem = format!("{run} is too long for an array");
            self.find(Class::Stream, inode, block, field, problem);
            return Ok(Vec::new());
        }
        if self.report.shared_blocks != shared {
            return Ok(Vec::new());
        }
        let mut runs = Vec::new();
        for block in first..first + length {
            let array = self.block(block)?;
            for at in (0..array.len()).step_by(Run::SIZE) {
                let run = Run::parse(&array, at);
                if run.is_zero() {
                    return Ok(runs);
                }
                runs.push((block, run));
            }
        }
        Ok(runs)
    }

    fn indirect(&mut self, inode: u64, run: Run, content: &mut Content) -> Result<()> {
        for (block, run) in self.run_array(inode, inode, "indirect", run)? {
            self.data_run(inode, block, "indirect", run, content);
        }
        Ok(())
    }

    fn double(&mut self, inode: u64, run: Run, content: &mut Content) -> Result<()> {
        const FIELD: &str = "double_indirect";
        let unit = run.length;
        let per_array = to_usize(u64::from(unit)) * self.super_block.runs_per_block();
        let arrays = self.run_array(inode, inode, FIELD, run)?;
        let count = arrays.len();
        for (index, (block, run)) in arrays.into_iter().enumerate() {
            if run.length != unit {
                let problem = format!("{run} has not the length of the array above, {unit}");
                self.find(Class::Stream, inode, block, FIELD, problem);
                content.broken = true;
            }
            let runs = self.run_array(inode, block, FIELD, run)?;
            if index + 1 < count && runs.len() != per_array {
                let problem = format!("{run} has {} runs of {per_array}", runs.len());
                self.find(Class::Stream, inode, block, FIELD, problem);
                content.broken = true;
            }
            for (block, run) in runs {
                if run.length != unit {
                    let problem = format!("{run} has not the length of its array, {unit}");
                    self.find(Class::Stream, inode, block, FIELD, problem);
                    content.broken = true;
                }
                self.data_run(inode, block, FIELD, run, content);
            }
        }
        Ok(())
    }

    /// Reads bytes of a content whose runs were kept.
    pub(super) fn content_at(
        &mut self,
        content: &Content,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>> {
        let size = self.super_block.block_size();
        let mut bytes = Vec::with_capacity(length);
        let mut base = 0;
        for (first, count) in &content.runs {
            let end = base + self.super_block.bytes_of(*count);
            while bytes.len() < length && (base..end).contains(&(offset + bytes.len() as u64)) {
                let at = offset + bytes.len() as u64 - base;
                let block = self.block(first + (at >> self.super_block.block_shift))?;
                let within = to_usize(at) % size;
                let most = (size - within).min(length - bytes.len());
                bytes.extend_from_slice(&block[within..within + most]);
            }
            base = end;
        }
        Ok(bytes)
    }
}
