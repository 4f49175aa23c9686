use testkit::boot::ALL;
use testkit::tree::Tree;

use super::*;

fn planned(tree: &Tree, id: Option<&str>) -> Result<Plan, TrialError> {
    let host = tree.sysroot();
    let boot = Boot::read(&host).unwrap();
    let mut made = Plan::default();
    plan(&host, &boot, id, &Change::add(["intel_iommu=on"]), &mut made).map(|()| made)
}

fn host(name: &str) -> Tree {
    ALL.iter().find(|one| one.name == name).unwrap().tree()
}

fn shown(plan: &Plan) -> String {
    let mut text = Vec::new();
    crate::plan::write_diff(plan, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn systemd_boot_starts_a_copy_of_the_entry_once() {
    let tree = host("arch-systemd-boot");
    let plan = planned(&tree, Some("7")).unwrap();
    insta::assert_snapshot!(shown(&plan), @r"
    # mode: 0644 /boot/loader/entries/kireji-trial.conf
    --- /dev/null
    +++ b/boot/loader/entries/kireji-trial.conf
    @@ -0,0 +1,4 @@
    +title Arch Linux (trial)
    +linux   /vmlinuz-linux
    +initrd  /initramfs-linux.img
    +options root=UUID=1 rw intel_iommu=on kireji.trial=7
    # run: bootctl set-oneshot kireji-trial.conf
    ");
    assert_eq!(plan.commands[0].to_take_back().to_string(), "bootctl set-oneshot ''");
    tree.write("/boot/loader/entries/kireji-trial.conf", "title x\n");
    let gone = planned(&tree, None).unwrap();
    assert_eq!(gone.files.len(), 1);
    assert_eq!(gone.files[0].after, None);
}

const ROOT: &str = "25 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw\n";

fn debian() -> Tree {
    let tree = host("debian-12");
    let menu = tree.read("/boot/grub/grub.cfg");
    let tail = "if [ -f  ${config_directory}/custom.cfg ]; then\n  source \
                ${config_directory}/custom.cfg\nfi\n";
    tree.write("/boot/grub/grub.cfg", format!("{ONCE}{menu}{tail}"));
    tree.write("/proc/self/mountinfo", ROOT);
    tree
}

#[test]
fn grub_starts_a_copy_of_the_entry_once() {
    let tree = debian();
    let plan = planned(&tree, Some("7")).unwrap();
    insta::assert_snapshot!(shown(&plan), @r"
    # mode: 0644 /boot/grub/custom.cfg
    --- /dev/null
    +++ b/boot/grub/custom.cfg
    @@ -0,0 +1,4 @@
    +menuentry 'kireji-trial' --id kireji-trial {
    +	linux	/boot/vmlinuz-6.1.0-28-amd64 root=UUID=1 ro quiet intel_iommu=on kireji.trial=7
    +	initrd	/boot/initrd.img-6.1.0-28-amd64
    +}
    # run: grub-reboot kireji-trial
    ");
}

#[test]
fn what_would_not_go_back_by_itself_is_refused() {
    let refused = |change: fn(&Tree)| {
        let tree = debian();
        change(&tree);
        planned(&tree, Some("7")).unwrap_err().to_string()
    };
    for (change, expected) in [
        (
            (|tree| {
                let text = ROOT.replace("ext4", "btrfs");
                tree.write("/proc/self/mountinfo", text);
            }) as fn(&Tree),
            "environment to btrfs on /dev/sda2",
        ),
        (
            |tree| {
                let text = ROOT.replace("/dev/sda2", "/dev/mapper/vg-root");
                tree.write("/proc/self/mountinfo", text);
            },
            "environment to ext4 on /dev/mapper/vg-root",
        ),
        (|tree| tree.write("/proc/self/mountinfo", ""), "is not seen"),
        (
            |tree| tree.write("/etc/default/grub", "GRUB_SAVEDEFAULT=true\n"),
            "GRUB_SAVEDEFAULT would make the trial the default",
        ),
        (|tree| tree.write("/boot/grub/custom.cfg", "menuentry x {\n}\n"), "is yours"),
    ] {
        let error = refused(change);
        assert!(error.contains(expected), "{error}");
    }
}

const ONCE: &str = "if [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\nfi\n";

fn fedora() -> Tree {
    let tree = host("fedora-43");
    tree.write("/boot/grub2/grub.cfg", format!("{ONCE}insmod blscfg\nblscfg\n"));
    let boot = "26 25 8:1 / /boot rw,relatime shared:2 - ext4 /dev/sda1 rw\n";
    tree.write("/proc/self/mountinfo", ROOT.replace("ext4", "btrfs") + boot);
    tree
}

#[test]
fn grub_starts_a_copy_of_an_entry_of_the_specification_once() {
    let tree = fedora();
    let plan = planned(&tree, Some("7")).unwrap();
    insta::assert_snapshot!(shown(&plan), @r"
    # mode: 0644 /boot/loader/entries/0123456789abcdef0123456789abcdef-0-kireji-trial.conf
    --- /dev/null
    +++ b/boot/loader/entries/0123456789abcdef0123456789abcdef-0-kireji-trial.conf
    @@ -0,0 +1,8 @@
    +title kireji-trial
    +version 6.17.1-300.fc43.x86_64
    +linux /vmlinuz-6.17.1-300.fc43.x86_64
    +initrd /initramfs-6.17.1-300.fc43.x86_64.img
    +options root=UUID=1 ro rhgb quiet intel_iommu=on kireji.trial=7
    +grub_users $grub_users
    +grub_arg --unrestricted
    +grub_class fedora
    # run: grub2-reboot kireji-trial
    ");
    assert_eq!(plan.commands[0].to_take_back().to_string(), "grub2-editenv - unset next_entry");
    let file = &plan.files[0];
    tree.write(file.path.to_str().unwrap(), &file.after.as_ref().unwrap().bytes);
    let boot = Boot::read(&tree.sysroot()).unwrap();
    let trials = boot.entries.iter().filter(|entry| is_entry(entry));
    let trials: Vec<_> = trials.map(|entry| entry.options.as_str()).collect();
    assert_eq!(trials, ["root=UUID=1 ro rhgb quiet intel_iommu=on kireji.trial=7"]);
    let gone = planned(&tree, None).unwrap();
    assert_eq!(gone.files[0].path, file.path);
    assert_eq!(gone.files[0].after, None);

    // The menu is not one that forgets.
    tree.write("/boot/grub2/grub.cfg", "blscfg\n");
    let error = planned(&tree, Some("7")).unwrap_err().to_string();
    assert!(error.contains("grub.cfg is not one of grub-mkconfig"), "{error}");
    let tree = fedora();
    tree.write("/proc/self/mountinfo", ROOT.replace("ext4", "btrfs"));
    let error = planned(&tree, Some("7")).unwrap_err().to_string();
    assert!(error.contains("environment to btrfs"), "{error}");
}

#[test]
fn systemd_boot_starts_a_unified_image_with_another_command_line_once() {
    let tree = host("fedora-43-uki");
    insta::assert_snapshot!(shown(&planned(&tree, Some("7")).unwrap()), @r"
    # mode: 0644 /boot/loader/entries/kireji-trial.conf
    --- /dev/null
    +++ b/boot/loader/entries/kireji-trial.conf
    @@ -0,0 +1,3 @@
    +title 0123456789abcdef0123456789abcdef-6.17.1-300.fc43.x86_64.efi (trial)
    +efi /EFI/Linux/0123456789abcdef0123456789abcdef-6.17.1-300.fc43.x86_64.efi
    +options root=UUID=1 ro intel_iommu=on kireji.trial=7
    # run: bootctl set-oneshot kireji-trial.conf
    ");
    let entries = tree.sysroot().names("/boot/EFI/Linux").unwrap();
    let image = format!("/boot/EFI/Linux/{}", entries[0]);
    let secure_boot = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    tree.write(secure_boot, [6, 0, 0, 0, 1]);
    let error = planned(&tree, Some("7")).unwrap_err().to_string();
    assert!(error.contains("takes no other command line than its own"), "{error}");
    tree.write(secure_boot, [6]);
    let error = planned(&tree, Some("7")).unwrap_err().to_string();
    assert!(error.contains("is unmeasured"), "{error}");
    tree.remove(secure_boot);
    for counted in ["+3.efi", "+2-1.efi"] {
        let path = image.replace(".efi", counted);
        std::fs::rename(tree.locate(&image), tree.locate(&path)).unwrap();
        let error = planned(&tree, Some("7")).unwrap_err().to_string();
        assert!(error.contains("are counted"), "{error}");
        std::fs::rename(tree.locate(&path), tree.locate(&image)).unwrap();
    }
}

#[test]
fn boot_loaders_that_start_no_entry_once_have_no_trial() {
    for (name, why) in [
        ("alpine", "extlinux starts no entry just once"),
        ("cachyos-limine", "Limine starts no entry just once"),
        ("opensuse-tumbleweed", "no entry of the running kernel was found"),
    ] {
        let error = planned(&host(name), Some("7")).unwrap_err().to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
}

#[test]
fn a_copy_has_its_title_whatever_the_entry_had() {
    let change = Change::add(["kireji.trial=7"]);
    for text in [
        "title A B\nlinux /k\noptions ro\n",
        "linux /k\ntitle\t7\noptions ro\n",
        "linux /k\noptions ro\n",
    ] {
        let copy = copied(text, "x", &change);
        assert_eq!(copy, "title x\nlinux /k\noptions ro kireji.trial=7\n", "{text}");
    }
}
