//! The option ROM of an open function.

use pci::rom::{End, Rom};

use crate::device::Device;
use crate::error::Result;
use crate::region::ROM;

/// The largest ROM that a region can hold, in bytes (PCI Local Bus 3.0, 6.2.5.2).
const MOST: u64 = 16 << 20;
/// Images are counted in these units, in bytes (PCI Firmware Specification 3.3, 5.1.1).
const BLOCK: u64 = 512;

impl Device {
    /// Reads the option ROM as far as its images say that it reaches, which is what a guest will
    /// see of it; `None` if the kernel shows none. The rest of the region is not read, for that
    /// takes long, byte by byte over the bus.
    ///
    /// # Errors
    /// The kernel refuses, or transfers less.
    pub fn option_rom(&self) -> Result<Option<Vec<u8>>> {
        let size = self.region(ROM)?.size.min(MOST);
        if size == 0 {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut wanted = BLOCK;
        // Each turn reads at least a block more.
        loop {
            let have = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let end = wanted.next_multiple_of(BLOCK).min(size);
            let more = usize::try_from(end.saturating_sub(have)).unwrap_or_default();
            if more == 0 {
                break;
            }
            let at = bytes.len();
            bytes.resize(at + more, 0);
            self.read_bytes(ROM, have, &mut bytes[at..])?;
            let Ok(Rom { end: End::Short { missing }, .. }) = Rom::parse(&bytes) else { break };
            wanted = end.saturating_add(u64::try_from(missing).unwrap_or(u64::MAX));
        }
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use crate::fixture::Fixture;
    use crate::region::ROM;
    use crate::sys::mock::MockRegion;

    /// An image of so many blocks for a PC BIOS, with its data structure at 0x1c.
    fn image(blocks: u8, last: bool) -> Vec<u8> {
        let mut bytes = vec![blocks; 512 * usize::from(blocks)];
        bytes[..3].copy_from_slice(&[0x55, 0xaa, blocks]);
        bytes[0x18..0x20].copy_from_slice(&[0x1c, 0, 0, 0, b'P', b'C', b'I', b'R']);
        bytes[0x2c..0x32].copy_from_slice(&[blocks, 0, 0, 0, 0, u8::from(last) << 7]);
        bytes
    }

    fn fixture(rom: &[u8], size: u64) -> Fixture {
        let fixture = Fixture::new();
        let mut state = fixture.mock.state();
        state.regions.insert(ROM, MockRegion { flags: 1, size, capabilities: Vec::new() });
        state.rom = rom.to_vec();
        drop(state);
        fixture
    }

    #[test]
    fn it_is_read_to_the_end_of_its_last_image() {
        let rom = [image(3, false), image(200, true)].concat();
        let padded = [&rom[..], &[0xff; 4096]].concat();
        let device = fixture(&padded, 1 << 20).device();
        assert_eq!(device.option_rom().unwrap(), Some(rom.clone()));
        // A region that ends before the images do gives what it has.
        let device = fixture(&rom[..4096], 4096).device();
        assert_eq!(device.option_rom().unwrap().map(|bytes| bytes.len()), Some(4096));
    }

    #[test]
    fn what_is_no_rom_costs_one_block() {
        let device = fixture(&[0xff; 65536], 65536).device();
        assert_eq!(device.option_rom().unwrap(), Some(vec![0xff; 512]));
    }

    #[test]
    fn a_function_may_have_none_and_a_kernel_may_refuse() {
        assert_eq!(fixture(&[], 0).device().option_rom().unwrap(), None);
        let fixture = fixture(&image(1, true), 512);
        let device = fixture.device();
        fixture.mock.refuse("VFIO_DEVICE_GET_REGION_INFO", Errno::IO);
        assert!(device.option_rom().is_err());
    }
}
