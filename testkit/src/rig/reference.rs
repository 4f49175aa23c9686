//! The reference guest inside a rig: the cards' own Linux drivers, two levels deep.

use std::path::PathBuf;

use pci::Address;
use sha2::{Digest, Sha256};
use vfio::take::Binding;

use super::{Outcome, Rig, said};

/// What the reference guest reads of a disk, in bytes.
const READ: usize = 65_536;

impl Rig<'_> {
    /// The disk of an NVMe controller.
    fn disk(&self, address: Address) -> Result<PathBuf, String> {
        let controllers = format!("/sys/bus/pci/devices/{address}/nvme");
        let controller = self.host.names(&controllers).map_err(said)?;
        let controller = controller.first().ok_or("the NVMe controller has no driver")?;
        Ok(PathBuf::from(format!("/dev/{controller}n1")))
    }
}

/// An inner guest's own e1000e counts MSI-X interrupts and talks to the network through both
/// levels, its own nvme reads what the host read, and both cards come back.
pub(super) fn works(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let [network, disk] = *functions else { return Err("two functions are needed".to_owned()) };
    let bindings = || {
        let binding = |address| Binding::read(&rig.host, address).map_err(said);
        Ok::<_, String>((binding(network)?, binding(disk)?))
    };
    let before = bindings()?;
    let bytes = rig.host.read_at(rig.disk(disk)?, 0, READ).map_err(said)?;
    rig.same("bytes of the disk", bytes.len(), READ)?;
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let refused = rig.expect(&format!("run --guest linux --device {disk}"), 10)?;
    let serial = refused.err.split("data-loss=").nth(1).and_then(|rest| rest.split('`').next());
    let serial = serial.ok_or("the refusal does not name the disk")?;
    let line = format!(
        "run --guest linux --device {network} --device {disk} --dhcp --accel tcg \
         --allow data-loss={serial}"
    );
    let ended = rig.expect(&line, 0)?;
    rig.says(&ended.out, &format!("{network} in the guest: e1000e drives it"))?;
    rig.says(&ended.out, "MSI-X eth0-rx-0: ")?;
    rig.says(&ended.out, "3 of 3 echoes from")?;
    rig.says(&ended.out, &format!("{disk} in the guest: nvme drives it"))?;
    rig.says(&ended.out, "MSI-X nvme0q0: ")?;
    rig.says(&ended.out, &format!("{READ} bytes read, SHA-256 {}", &hash[..16]))?;
    rig.says(&ended.err, "The card works in the reference guest.")?;
    rig.same("the bindings", bindings()?, before)
}
