//! `take`, `return`, `status` and `recover` as a user sees them, on a fake kernel.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{kireji, kireji_as};
use kireji::Exit;
use testkit::fake_kernel::{FakeKernel, HELPER_PID, HUNG_PID, Kill};
use testkit::tree::{Function, Port, Tree};

const NIC: &str = "0000:01:00.0";

/// A NIC of two functions below a port, and an IOMMU that isolates them or not.
fn kernel(isolated: bool) -> FakeKernel {
    let mut tree = Tree::new();
    tree.write("/proc/self/mountinfo", "");
    tree.write("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
    tree.add(Function::port("0000:00:1c.0", Port::Root, 1).slot().driver("pcieport").group(1));
    for (number, address) in [NIC, "0000:01:00.1"].into_iter().enumerate() {
        let function = Function::new(address, 0x8086, 0x10d3)
            .class(if number == 0 { 0x02_0000 } else { 0x07_0002 })
            .below("0000:00:1c.0");
        let function = if isolated { function.group(2) } else { function };
        tree.add(if number == 0 { function.driver("e1000e") } else { function });
    }
    let mut kernel = FakeKernel::new(tree);
    kernel.natural(NIC, "e1000e");
    kernel
}

#[test]
fn a_card_goes_and_comes_back() {
    let kernel = kernel(true);
    let taken = kireji(&kernel, &["take", "01:00"]);
    assert_eq!(taken.exit, Exit::Done, "{}", taken.err);
    insta::assert_snapshot!(taken.out, @r"
    0000:01:00.0 went from e1000e to vfio-pci
    0000:01:00.1 went from no driver to vfio-pci
    ");
    let status = kireji(&kernel, &["status"]);
    assert_eq!(status.exit, Exit::Done);
    insta::assert_snapshot!(status.out, @r"
    CARD          FUNCTIONS                  FORMER DRIVER  STATE
    0000:01:00.0  0000:01:00.0 0000:01:00.1  e1000e none    held until `kireji return`
    ");
    let again = kireji(&kernel, &["take", "01:00"]);
    assert_eq!(again.exit, Exit::Busy);
    insta::assert_snapshot!(again.err, @r"
    error: 0000:01:00.0 is taken already [E-BUSY]
      hint: `kireji status` shows how it is held
    ");
    let back = kireji(&kernel, &["return", "01:00"]);
    assert_eq!(back.exit, Exit::Done);
    insta::assert_snapshot!(back.out, @r"
    0000:01:00.0 is back on e1000e
    0000:01:00.1 has no driver again
    ");
    let not_held = kireji(&kernel, &["return", "01:00"]);
    assert_eq!(not_held.exit, Exit::HostCannot);
    insta::assert_snapshot!(not_held.err, @r"
    error: 0000:01:00.0 is not held by kireji [E-NOT-HELD]
      hint: it is on its driver e1000e
    ");
}

/// The same as documents: a lease as `status` has it, and what became of each function.
#[test]
fn a_card_goes_and_comes_back_for_programs() {
    let kernel = kernel(true);
    let document = |args: &[&str]| -> serde_json::Value {
        let ended = kireji(&kernel, args);
        assert_eq!(ended.exit, Exit::Done, "{}", ended.err);
        serde_json::from_str(&ended.out).expect("one document")
    };
    let taken = document(&["take", "01:00", "--json"]);
    let status = document(&["status", "--json"]);
    assert_eq!((&taken["schema"], &taken["nodes"]), (&1.into(), &serde_json::json!([])));
    assert_eq!(taken["taken"][0]["drivers_before"], serde_json::json!(["e1000e", null]));
    assert_eq!(taken["taken"], status["leases"]);
    let back = document(&["return", "01:00", "--json"]);
    assert_eq!(
        back["returned"][0],
        serde_json::json!({
            "function": NIC,
            "outcome": "back",
            "driver": "e1000e",
            "words": "0000:01:00.0 is back on e1000e",
        })
    );
    assert_eq!(back["returned"][1]["driver"], serde_json::Value::Null);
    let nothing = document(&["recover", "--json"]);
    assert_eq!(nothing["returned"], serde_json::json!([]));
}

#[test]
fn without_an_iommu_it_is_refused_and_when_allowed_rolled_back() {
    let kernel = kernel(false);
    let refused = kireji(&kernel, &["take", "01:00"]);
    assert_eq!(refused.exit, Exit::Refused);
    insta::assert_snapshot!(refused.err);
    let tried = kireji(&kernel, &["take", "01:00", "--allow", "E-NO-IOMMU-GROUP"]);
    assert_eq!(tried.exit, Exit::HostCannot);
    insta::assert_snapshot!(tried.err);
    assert_eq!(kernel.binding(NIC), (Some("e1000e".into()), "(null)".into()));
}

#[test]
fn a_dry_run_writes_nothing() {
    let kernel = kernel(true);
    kernel.kill(None);
    let ended = kireji_as(&kernel, &["take", "01:00", "--dry-run"], false);
    assert_eq!(ended.exit, Exit::Done, "{}", ended.err);
    insta::assert_snapshot!(ended.out, @r"
    0000:01:00.0 would go from e1000e to vfio-pci
    0000:01:00.1 would go from no driver to vfio-pci
    ");
    assert_eq!(kernel.writes(), []);
    assert!(!kernel.tree.locate("/run").exists());
}

#[test]
fn an_ordinary_user_is_given_the_line_for_root() {
    let kernel = kernel(true);
    for words in [&["take", "01:00"][..], &["return", "01:00"], &["recover"]] {
        let ended = kireji_as(&kernel, words, false);
        assert_eq!(ended.exit, Exit::Permission);
        let line = format!("sudo /usr/bin/kireji {}", words.join(" "));
        assert!(ended.err.contains(&line), "{}", ended.err);
    }
}

#[test]
fn a_hanging_unbind_is_explained() {
    let mut kernel = kernel(true);
    kernel.hang_on_unbind(NIC);
    let ended = kireji(&kernel, &["take", "01:00"]);
    assert_eq!(ended.exit, Exit::HostCannot);
    insta::assert_snapshot!(ended.err);
    let status = kireji(&kernel, &["status"]);
    assert_eq!(status.exit, Exit::Done);
    assert!(status.out.contains(&HUNG_PID.to_string()), "{}", status.out);
    let retried = kireji(&kernel, &["take", "01:00"]);
    assert_eq!(retried.exit, Exit::HostCannot);
    assert!(retried.err.contains("E-HUNG"), "{}", retried.err);
}

#[test]
fn what_a_dead_process_left_is_recovered_by_the_next_that_writes() {
    let kernel = kernel(true);
    let host = kernel.tree.sysroot();
    let keeper = vfio::take::Keeper::new(&host, &kernel);
    keeper
        .take(&[NIC.parse().expect("an address")], vfio::take::Purpose::Run)
        .expect("the fake kernel lets it");
    kernel.be_alive(2000);
    let status = kireji(&kernel, &["status"]);
    assert_eq!(status.exit, Exit::Done);
    assert!(status.out.contains("run `kireji recover`"), "{}", status.out);
    let taken = kireji(&kernel, &["take", "01:00"]);
    assert_eq!(taken.exit, Exit::Done, "{}", taken.err);
    assert!(taken.err.contains("which died"), "{}", taken.err);
    let nothing = kireji(&kernel, &["recover"]);
    assert_eq!(nothing.exit, Exit::Done);
    assert_eq!(nothing.out, "Nothing to recover.\n");
}

#[test]
fn a_card_is_prepared_for_a_user() {
    let kernel = kernel(true);
    kernel
        .tree
        .write("/etc/passwd", "root:x:0:0::/root:\ntester:x:1000:100::/home/tester:/bin/sh\n");
    kernel.kill(None);
    let unknown = kireji(&kernel, &["take", "01:00", "--for", "no such user"]);
    assert_eq!(unknown.exit, Exit::Usage);
    insta::assert_snapshot!(unknown.err, @r"
    error: there is no user no such user [E-NO-USER]
      hint: `getent passwd` lists the users of this host
    ");
    assert_eq!(kernel.writes(), []);
    let planned = kireji_as(&kernel, &["take", "01:00", "--for", "tester", "--dry-run"], false);
    assert!(planned.out.ends_with("would be given to tester\n"), "{}", planned.out);
    let taken = kireji(&kernel, &["take", "01:00", "--for", "tester"]);
    assert_eq!(taken.exit, Exit::Done, "{}", taken.err);
    insta::assert_snapshot!(taken.out, @r"
    0000:01:00.0 went from e1000e to vfio-pci
    0000:01:00.1 went from no driver to vfio-pci
    /dev/vfio/2 belongs to tester until the card is returned
    ");
    let status = kireji(&kernel, &["status"]);
    insta::assert_snapshot!(status.out, @r"
    CARD          FUNCTIONS                  FORMER DRIVER  STATE
    0000:01:00.0  0000:01:00.0 0000:01:00.1  e1000e none    held for tester until `kireji return`
    ");
    let json = kireji(&kernel, &["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    let user = serde_json::json!({ "name": "tester", "uid": 1000, "gid": 100 });
    assert_eq!(json["leases"][0]["user"], user);
    let back = kireji(&kernel, &["return", "01:00"]);
    assert_eq!(back.exit, Exit::Done, "{}", back.err);
    let owners: Vec<_> = kernel.owners().into_iter().map(|(node, uid, _)| (node, uid)).collect();
    let first = kernel.tree.sysroot().node("/dev").expect("a directory").uid;
    assert_eq!(owners, [("/dev/vfio/2".to_owned(), 1000), ("/dev/vfio/2".to_owned(), first)]);
}

#[test]
fn a_card_whose_helper_still_writes_is_busy() {
    let kernel = kernel(true);
    let host = kernel.tree.sysroot();
    let keeper = vfio::take::Keeper::new(&host, &kernel);
    // The second write of a take is the unbind.
    kernel.kill(Some(Kill::Within(1)));
    let card = [NIC.parse().expect("an address")];
    let take = || keeper.take(&card, vfio::take::Purpose::Hold);
    assert!(catch_unwind(AssertUnwindSafe(take)).is_err());
    kernel.kill(None);
    kernel.be_alive(2000);
    let status = kireji(&kernel, &["status"]);
    let working = format!("still writes: process {HELPER_PID} writes");
    assert!(status.out.contains(&working), "{}", status.out);
    let busy = kireji(&kernel, &["recover"]);
    assert_eq!(busy.exit, Exit::Busy);
    insta::assert_snapshot!(busy.err);
    assert_eq!(kernel.writes(), []);
    assert!(kernel.finish());
    let recovered = kireji(&kernel, &["recover"]);
    assert_eq!(recovered.exit, Exit::Done, "{}", recovered.err);
    assert_eq!(kernel.binding(NIC), (Some("e1000e".into()), "(null)".into()));
}

/// A second card, below a port of its own.
fn with_second_card(mut kernel: FakeKernel) -> FakeKernel {
    let port = "0000:00:1d.0";
    kernel.tree.add(Function::port(port, Port::Root, 2).slot().driver("pcieport").group(3));
    kernel.tree.add(Function::new(SECOND, 0x1af4, 0x1100).class(0x07_0000).below(port).group(4));
    kernel
}

const SECOND: &str = "0000:02:00.0";

#[test]
fn each_card_is_returned_by_itself() {
    let kernel = with_second_card(kernel(true));
    let taken = kireji(&kernel, &["take", "02:00", "01:00"]);
    assert_eq!(taken.exit, Exit::Done, "{}", taken.err);
    insta::assert_snapshot!(taken.err, @r"
    return it with `kireji return 0000:01:00.0`
    return it with `kireji return 0000:02:00.0`
    ");
    let back = kireji(&kernel, &["return", "02:00"]);
    assert_eq!(back.out, "0000:02:00.0 has no driver again\n", "{}", back.err);
    let status = kireji(&kernel, &["status"]);
    assert!(status.out.contains(NIC) && !status.out.contains(SECOND), "{}", status.out);
    assert_eq!(kernel.binding(NIC).0.as_deref(), Some("vfio-pci"));
}

#[test]
fn a_dry_run_says_what_the_command_would() {
    let kernel = kernel(true);
    assert_eq!(kireji(&kernel, &["take", "01:00"]).exit, Exit::Done);
    let real = kireji(&kernel, &["take", "01:00"]);
    let planned = kireji(&kernel, &["take", "01:00", "--dry-run"]);
    assert_eq!((planned.exit, &planned.err), (Exit::Busy.into(), &real.err));
    assert_eq!(planned.out, "");
    assert_eq!(kireji(&kernel, &["return", "01:00"]).exit, Exit::Done);

    let host = kernel.tree.sysroot();
    let keeper = vfio::take::Keeper::new(&host, &kernel);
    let card = [NIC.parse().expect("an address")];
    keeper.take(&card, vfio::take::Purpose::Run).expect("the fake kernel lets it");
    kernel.be_alive(2000);
    let planned = kireji(&kernel, &["take", "01:00", "--dry-run"]);
    assert_eq!(planned.exit, Exit::Done, "{}", planned.err);
    assert!(planned.err.contains("would first be recovered"), "{}", planned.err);
    assert!(planned.out.contains("would go from e1000e to vfio-pci"), "{}", planned.out);
}

#[test]
fn commands_that_look_say_what_is_pending() {
    let kernel = kernel(true);
    let host = kernel.tree.sysroot();
    let keeper = vfio::take::Keeper::new(&host, &kernel);
    let card = [NIC.parse().expect("an address")];
    let looks = [&["list"][..], &["show", "01:00"], &["status"], &["status", "--json"]];
    keeper.take(&card, vfio::take::Purpose::Run).expect("the fake kernel lets it");
    for words in looks {
        assert_eq!(kireji(&kernel, words).err, "", "{words:?}: its process lives");
    }
    kernel.be_alive(2000);
    kernel.tree.write("/run/kireji/leases/0000:07:00.0.journal", "junk\n\n");
    kernel.kill(None);
    for words in looks {
        let looked = kireji(&kernel, words);
        assert_eq!(looked.exit, Exit::Done, "{}", looked.err);
        insta::allow_duplicates! { insta::assert_snapshot!(looked.err, @r"
        pending: processes that died left 0000:01:00.0 behind, which `kireji recover` restores; the lease of 0000:07:00.0 cannot be used, as `kireji status` explains
        "); }
    }
    assert_eq!(kernel.writes(), []);
}

#[test]
fn a_damaged_lease_is_told_and_in_no_other_ones_way() {
    let kernel = with_second_card(kernel(true));
    let lease = format!("/run/kireji/leases/{SECOND}.journal");
    kernel.tree.write("/run/kireji/leases/junk.journal", "junk\n\n");
    kernel.tree.write(&lease, "{\"header\":{\"schema\":9}}\n");
    assert_eq!(kireji(&kernel, &["take", "01:00"]).exit, Exit::Done);
    let status = kireji(&kernel, &["status"]);
    assert_eq!(status.exit, Exit::Done, "{}", status.err);
    for part in ["held until", "0000:02:00.0", "has version 9", "junk.journal"] {
        assert!(status.out.contains(part), "{}", status.out);
    }
    assert_eq!(kireji(&kernel, &["return", "01:00"]).exit, Exit::Done);
    for words in [&["take", "02:00"][..], &["take", "02:00", "--dry-run"], &["return", "02:00"]] {
        let ended = kireji(&kernel, words);
        assert_eq!(ended.exit, Exit::HostCannot);
        assert!(ended.err.contains("[E-LEASE-DAMAGED]"), "{words:?}: {}", ended.err);
        assert!(ended.err.contains("sudo rm"), "{words:?}: {}", ended.err);
    }
    let recovered = kireji(&kernel, &["recover"]);
    assert_eq!(recovered.exit, Exit::HostCannot);
    assert_eq!(recovered.err.matches("[E-LEASE-DAMAGED]").count(), 2, "{}", recovered.err);
    kernel.tree.remove(&lease);
    assert_eq!(kireji(&kernel, &["take", "02:00"]).exit, Exit::Done);
}

#[test]
fn the_rom_of_a_card_that_a_run_has_is_left_alone() {
    let mut kernel = kernel(true);
    let rom = Function::new("0000:00:03.0", 0x8086, 0x10d3).rom(0xfeb0_0000, 0x1000, &[0x55]);
    kernel.tree.add(rom.group(4));
    let host = kernel.tree.sysroot();
    let keeper = vfio::take::Keeper::new(&host, &kernel);
    let card = ["0000:00:03.0".parse().expect("an address")];
    keeper.take(&card, vfio::take::Purpose::Run).expect("the fake kernel lets it");
    kernel.kill(None);
    let file = kernel.tree.locate("/saved.rom");
    let busy = kireji(&kernel, &["show", "00:03.0", "--rom", &file.to_string_lossy()]);
    assert_eq!(busy.exit, Exit::Busy, "{}", busy.err);
    assert!(busy.err.contains("E-BUSY"), "{}", busy.err);
    assert_eq!(kernel.writes(), []);
}

#[test]
fn bind_and_unbind_do_nothing_but_ask() {
    for (word, meaning) in [("bind", "attaches"), ("unbind", "takes the driver")] {
        let ended = kireji(&kernel(true), &[word, "01:00.0"]);
        assert_eq!(ended.exit, Exit::Usage);
        assert!(ended.err.contains(meaning), "{}", ended.err);
    }
}
