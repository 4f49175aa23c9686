//! A block device, and a read through its driver.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use host::Sysroot;
use sha2::{Digest, Sha256};

use crate::linux::line::hex;
use crate::linux::report::{Block, BlockRead};

/// How much is read, in bytes: several requests, yet quick on an emulated processor.
const READ: u64 = 64 << 10;

/// The unit of sysfs' `size` (Documentation/ABI/stable/sysfs-block).
const SECTOR: u64 = 512;

/// Reads the beginning of a block device. The thread that reads is left behind if it takes longer
/// than `patience`: a request whose interrupt never comes cannot be taken back.
pub(super) fn read(host: &Sysroot, name: String, patience: Duration) -> Block {
    let sectors = host.text(format!("/sys/block/{name}/size"));
    let sectors = sectors.ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let size = sectors.saturating_mul(SECTOR);
    if size == 0 {
        return Block { name, size, read: BlockRead::Empty };
    }
    // sysfs writes `!` for the slash of a device file in a directory.
    let path = format!("/dev/{}", name.replace('!', "/"));
    let length = usize::try_from(size.min(READ)).unwrap_or(usize::MAX);
    let (sender, receiver) = mpsc::channel();
    let reader = thread::Builder::new().spawn(move || {
        let data = Sysroot::host().and_then(|host| host.read_at(&path, 0, length));
        drop(sender.send(data));
    });
    let failed = |reason: String| BlockRead::Failed { reason };
    let read = match (reader, receiver.recv_timeout(patience)) {
        (Err(error), _) => failed(format!("cannot start to read: {error}")),
        (_, Ok(Ok(data))) => BlockRead::Read {
            bytes: u64::try_from(data.len()).unwrap_or(u64::MAX),
            sha256: hex(&Sha256::digest(&data)),
        },
        (_, Ok(Err(error))) => failed(error.source.to_string()),
        (_, Err(_)) => failed(format!("no answer within {} s", patience.as_secs())),
    };
    Block { name, size, read }
}
