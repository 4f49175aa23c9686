use std::io::Write;

use super::*;
use crate::image::Limits;

fn image(files: &[(&str, u32, &[u8])]) -> Image {
    let mut bytes = Vec::new();
    for (name, mode, contents) in files {
        let size = u32::try_from(contents.len()).unwrap();
        let mut writer = cpio::NewcBuilder::new(name).mode(*mode).write(bytes, size);
        writer.write_all(contents).unwrap();
        bytes = writer.finish().unwrap();
    }
    let bytes = cpio::newc::trailer(bytes).unwrap();
    Image::read(&bytes[..], |_| true, Limits::default()).unwrap()
}

#[test]
fn initramfs_tools_must_call_the_hook_before_udev() {
    let generator = of(Builder::InitramfsTools).unwrap();
    let hook = generator.files()[0].1.bytes.clone();
    let with = |order: &str, mode, hook: &[u8]| {
        generator.hook(&image(&[
            ("scripts/init-top/ORDER", 0o100_644, order.as_bytes()),
            ("scripts/init-top/00-kireji", mode, hook),
        ]))
    };
    let line = |name: &str| {
        format!("/scripts/init-top/{name} \"$@\"\n[ -e /conf/param.conf ] && . /conf/param.conf\n")
    };
    let good = line("00-kireji") + &line("all_generic_ide") + &line("udev");
    assert!(with(&good, 0o100_755, &hook).is_ok());
    for (order, mode, contents, expected) in [
        (line("udev"), 0o100_755, &hook[..], "does not call /scripts/init-top/00-kireji"),
        (line("udev") + &line("00-kireji"), 0o100_755, &hook, "calls udev before"),
        (good.clone(), 0o100_644, &hook, "there is no program"),
        (good, 0o100_755, b"#!/bin/sh\n", "is another one"),
    ] {
        let error = with(&order, mode, contents).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    assert!(generator.hook(&image(&[])).is_err());
}

#[test]
fn dracut_must_have_the_hook_at_its_point() {
    let generator = of(Builder::Dracut).unwrap();
    let hook = generator.files()[1].1.bytes.clone();
    for place in ["var/lib/dracut", "usr/lib/dracut", "lib/dracut"] {
        let path = format!("{place}/hooks/pre-udev/00-kireji.sh");
        let found = generator.hook(&image(&[(&path, 0o100_755, &hook)]));
        assert_eq!(found.unwrap(), format!("{path}, the first before udev"));
        assert!(generator.hook(&image(&[(&path, 0o100_755, b"other")])).is_err());
    }
    assert!(generator.hook(&image(&[])).is_err());
}

#[test]
fn mkinitcpio_must_call_the_hook_early_or_start_its_unit() {
    const UNITS: &str = "usr/lib/systemd/system";
    let generator = of(Builder::Mkinitcpio).unwrap();
    let hook = generator.files()[1].1.bytes.clone();
    let busybox = |config: &str, hook: &[u8]| {
        generator.hook(&image(&[
            ("hooks/kireji", 0o100_755, hook),
            ("config", 0o100_644, config.as_bytes()),
        ]))
    };
    assert!(busybox("MODULES=\"\"\nEARLYHOOKS=\"kireji udev\"\n", &hook).is_ok());
    assert!(busybox("EARLYHOOKS=\"udev\"\nHOOKS=\"kireji\"\n", &hook).is_err());
    assert!(busybox("EARLYHOOKS=\"kireji\"\n", b"other").is_err());
    assert!(generator.hook(&image(&[])).is_err());

    let unit = format!("{UNITS}/kireji.service");
    let wanted = format!("{UNITS}/sysinit.target.wants/kireji.service");
    let with = |text: &[u8], wanted: &str| {
        generator.hook(&image(&[
            ("usr/lib/systemd/systemd", 0o100_755, b""),
            ("hooks/kireji", 0o100_755, &hook),
            ("config", 0o100_644, b"EARLYHOOKS=\"kireji\"\n"),
            (&unit, 0o100_644, text),
            (wanted, 0o120_777, b"../kireji.service"),
        ]))
    };
    let text = b"[Unit]\nBefore=systemd-udevd.service systemd-udev-trigger.service\n";
    assert!(with(text, &wanted).is_ok());
    assert!(with(b"[Unit]\nAfter=systemd-udevd.service\n", &wanted).is_err());
    assert!(with(text, "elsewhere").is_err());
}

#[test]
fn modules_are_found_in_their_kernel() {
    let kernel = Kernel { release: "6.1.0".into(), is_running: false, image: None, package: None };
    let found = |path| has_module(&image(&[(path, 0o100_644, b"")]), &kernel, "vfio_pci");
    assert!(found("usr/lib/modules/6.1.0/kernel/drivers/vfio/pci/vfio-pci.ko.xz"));
    assert!(found("lib/modules/6.1.0/kernel/vfio_pci.ko"));
    assert!(!found("lib/modules/6.1.0/kernel/vfio-pci-core.ko"));
    assert!(!found("lib/modules/6.1.1/kernel/vfio-pci.ko"));
}

#[test]
fn every_shell_understands_what_is_written() {
    for generator in all() {
        for (path, contents) in generator.files() {
            let text = String::from_utf8(contents.bytes).unwrap();
            // mkinitcpio itself, and so what it sources, is written for bash.
            let is_for_bash = text.starts_with("#!/bin/bash") || path.ends_with(".conf");
            let shells: &[&str] = if is_for_bash { &["bash"] } else { &["dash", "bash"] };
            for shell in shells {
                let done = std::process::Command::new(shell).args(["-n", "-c", &text]).status();
                assert!(done.unwrap().success(), "{path} in {shell}");
            }
        }
    }
}
