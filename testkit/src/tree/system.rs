//! What a synthetic host is besides its PCI functions: processor, firmware, kernel, rights.

use host::{MANIFEST, Manifest};

use super::Tree;

impl Tree {
    /// Says what the host's QEMU answered: its version and whether it has vfio-pci; nothing for a
    /// host without QEMU (`doctor/qemu.rs` of the command).
    pub fn qemu(&self, answer: Option<(&str, bool)>) {
        let text = match answer {
            Some((version, vfio)) => format!(
                "{{\"qemu\":\"known\",\"executable\":\"/usr/bin/qemu-system-x86_64\",\
                 \"version\":\"{version}\",\"vfio_pci\":{vfio},\"vfio_user_pci\":false,\
                 \"iommufd\":{vfio},\"kvm_broken\":null}}\n"
            ),
            None => "{\"qemu\":\"absent\",\"why\":\"QEMU for x86 was not found in PATH\"}\n".into(),
        };
        self.write("/kireji-qemu.json", text);
    }

    /// Sets the processor, as `/proc/cpuinfo` shows it.
    pub fn processor(&self, vendor: &str, family: u32, model: u32, name: &str, flags: &str) {
        let text = format!(
            "processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\n\
             model name\t: {name}\nflags\t\t: fpu msr {flags}\n\n"
        );
        self.write("/proc/cpuinfo", text);
    }

    /// Sets the running kernel: release, command line and configuration.
    pub fn kernel(&self, release: &str, command_line: &str, config: &str) {
        self.write("/proc/sys/kernel/osrelease", format!("{release}\n"));
        self.write("/proc/sys/kernel/modules_disabled", "0\n");
        self.write("/proc/cmdline", format!("{command_line}\n"));
        self.write(&format!("/boot/config-{release}"), config);
        self.installed_kernel(release, true);
    }

    /// Adds an installed kernel, with vfio-pci as a module or without it.
    pub fn installed_kernel(&self, release: &str, has_vfio_pci: bool) {
        let line = if has_vfio_pci {
            "kernel/drivers/vfio/pci/vfio-pci.ko.zst: kernel/drivers/vfio/vfio.ko.zst\n"
        } else {
            "kernel/drivers/net/dummy.ko.zst:\n"
        };
        self.write(&format!("/lib/modules/{release}/modules.dep"), line);
        self.write(&format!("/lib/modules/{release}/modules.builtin"), "");
        // A few lines of what depmod writes for drivers/net, drivers/nvme and drivers/gpu.
        self.write(
            &format!("/lib/modules/{release}/modules.alias"),
            "alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e\n\
             alias pci:v*d*sv*sd*bc01sc08i02* nvme\n\
             alias pci:v00001002d000068C8sv*sd*bc*sc*i* radeon\n",
        );
    }

    /// Adds the directory of firmware tables, with a table in it if one is named.
    pub fn firmware_table(&self, table: Option<(&str, &[u8])>) {
        self.write("/sys/firmware/acpi/tables/FACP", "");
        if let Some((name, bytes)) = table {
            self.write(&format!("/sys/firmware/acpi/tables/{name}"), bytes);
        }
    }

    /// Sets the interrupts, remapped or not.
    pub fn interrupts(&self, remapped: bool) {
        let prefix = if remapped { "IR-" } else { "" };
        let text = format!(
            "           CPU0\n  1:   9  {prefix}IO-APIC   1-edge   i8042\n\
             \x20120:   0  {prefix}PCI-MSI-0000:00:1f.2   0-edge   ahci\n"
        );
        self.write("/proc/interrupts", text);
    }

    /// Sets what this process may do: root's capabilities, or none and so much locked memory.
    pub fn rights(&self, locked_bytes: Option<u64>) {
        let (capabilities, limit) = match locked_bytes {
            None => ("000001ffffffffff", "unlimited".to_owned()),
            Some(bytes) => ("0000000000000000", bytes.to_string()),
        };
        self.write("/proc/self/status", format!("Name:\tkireji\nCapEff:\t{capabilities}\n"));
        let line =
            format!("Max locked memory         {limit}              {limit}              bytes");
        self.write(
            "/proc/self/limits",
            format!("Limit   Soft Limit   Hard Limit   Units\n{line}\n"),
        );
        self.write("/proc/self/cgroup", "0::/\n");
    }

    /// Sets whether Secure Boot is on, and the mode of lockdown.
    pub fn secure_boot(&self, on: bool, lockdown: &str) {
        let variable = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
        let bytes = [6, 0, 0, 0, u8::from(on)];
        self.write(&format!("/sys/firmware/efi/efivars/{variable}"), bytes);
        let modes = ["none", "integrity", "confidentiality"];
        let shown = modes.map(|mode| match mode == lockdown {
            true => format!("[{mode}]"),
            false => mode.to_owned(),
        });
        self.write("/sys/kernel/security/lockdown", format!("{}\n", shown.join(" ")));
    }

    /// Adds a device node that this user may use or not.
    pub fn node(&self, path: &str, may_use: bool) {
        self.write(path, "");
        self.change_manifest(|manifest| {
            manifest.nodes.insert(path.to_owned(), may_use);
        });
    }

    /// Lets nothing tell who may use a device node.
    pub fn forget_node(&self, path: &str) {
        self.change_manifest(|manifest| {
            manifest.nodes.remove(path);
        });
    }

    /// Makes a file one that this user may not read.
    pub fn unreadable(&self, path: &str) {
        self.change_manifest(|manifest| {
            manifest.unreadable.insert(path.to_owned());
        });
    }

    /// Says where the host's values come from.
    pub fn source(&self, text: &str) {
        self.change_manifest(|manifest| text.clone_into(&mut manifest.source));
    }

    fn change_manifest(&self, change: impl FnOnce(&mut Manifest)) {
        let mut manifest = self.sysroot().manifest().clone();
        manifest.schema = Manifest::SCHEMA;
        change(&mut manifest);
        let text = serde_json::to_string(&manifest).expect("a document");
        self.write(&format!("/{MANIFEST}"), text);
    }
}
