//! The tool on a real kernel: each test boots a rig and runs scenarios of `testkit::rig` in it.
//!
//! They need a provisioned lab (`cargo xtask test` makes one) and fail without it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program that runs scenarios inside a rig.
fn rigtest() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let kireji = Path::new(env!("CARGO_BIN_EXE_kireji"));
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "kireji-testkit", "--bin", "rigtest"])
            .status()
            .expect("cargo runs");
        assert!(built.success(), "rigtest cannot be built");
        kireji.with_file_name("rigtest")
    })
}

/// Boots `rig` and runs one scenario after the other in it.
fn scenarios(rig: &str, scenarios: &[&str]) {
    let put = format!("{}:/bin/rigtest", rigtest().display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_kireji"));
    command.args(["lab", "run", rig, "--put", &put, "--", "rigtest"]);
    for (number, scenario) in scenarios.iter().enumerate() {
        if number > 0 {
            command.arg("+");
        }
        command.args(scenario.split_whitespace());
    }
    let output = command.output().expect("kireji runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{rig}: {}\n{text}{err}", output.status);
    for scenario in scenarios {
        let name = scenario.split(' ').next().unwrap_or_default();
        assert!(text.contains(&format!("passed {name}")), "{rig}: {name} did not run\n{text}{err}");
    }
}

const EDU: &str = "0000:00:04.0";
const NIC: &str = "0000:01:00.0";
const NVME: &str = "0000:02:00.0";

#[test]
fn intel_drives_cards_through_vfio() {
    scenarios(
        "intel",
        &[
            &format!("selftest {NIC}"),
            &format!("edu {EDU}"),
            &format!("busy {EDU}"),
            &format!("denied {EDU}"),
            &format!("locked-memory {EDU}"),
            &format!("not-on-vfio {NVME}"),
        ],
    );
}

#[test]
fn amd_drives_cards_through_vfio() {
    scenarios("amd", &[&format!("selftest {NIC}"), &format!("edu {EDU}")]);
}

#[test]
fn intel_hands_cards_to_an_inner_machine() {
    scenarios("intel", &[&format!("inner-machine {EDU} {NIC} {NVME}")]);
}

#[test]
fn amd_hands_cards_to_an_inner_machine() {
    scenarios("amd", &[&format!("inner-machine {EDU} {NIC} {NVME}")]);
}

#[test]
fn intel_hands_cards_to_the_drivers_of_an_inner_linux() {
    scenarios("intel", &[&format!("inner-linux {NIC} {NVME}")]);
}

#[test]
fn intel_takes_and_returns() {
    scenarios(
        "intel",
        &[
            &format!("comes-back {NIC} {EDU}"),
            &format!("proof-in-one-command {NIC}"),
            &format!("disk-data {NVME}"),
            &format!("rom {NIC} {EDU}"),
            &format!("probe-is-silent {NIC}"),
            &format!("is-interrupted {NIC}"),
            &format!("stays-while-unwell {NIC}"),
            &format!("user-is-named {EDU}"),
        ],
    );
}

#[test]
fn a_user_runs_guests_with_a_card_that_was_taken_for_them() {
    scenarios("intel", &[&format!("runs-as-user {NIC}")]);
}

#[test]
fn the_ways_to_reset_a_card_are_limited_and_restored() {
    let limited = |card| format!("resets-are-limited {card}");
    scenarios("intel", &[&limited(NIC), &limited(NVME), &format!("resets-of-a-run {NIC}")]);
}

#[test]
fn a_card_is_reset_between_guests_if_it_can_be() {
    scenarios("intel", &[&format!("resets-between-guests {NIC} {NVME} {EDU}")]);
}

#[test]
fn cards_are_held_over_the_guests_of_a_watch() {
    scenarios("intel", &[&format!("watch-holds {NIC} {EDU}")]);
}

#[test]
fn a_default_route_outside_of_the_main_table_is_not_overlooked() {
    // Linux lists the routes of all tables of IPv6 with their interfaces, and of IPv4 without.
    let script = "ip link set eth0 up; ip route add default dev eth0 table 200
        kireji take 01:00.0 --allow NIC-UP; echo $?
        ip route del default table 200; ip -6 route add default dev eth0 table 201
        kireji take 01:00.0 --allow NIC-UP; echo $?";
    let output = Command::new(env!("CARGO_BIN_EXE_kireji"))
        .args(["lab", "run", "intel", "--", "/bin/sh", "-c", script])
        .output()
        .expect("kireji runs");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "10\n10\n", "{err}");
    assert!(err.contains("whether eth0 carries the default route of table 200"), "{err}");
    assert!(err.contains("eth0 → the default route [E-NIC-DEFAULT-ROUTE]"), "{err}");
}

#[test]
fn a_write_that_outlives_kireji_is_waited_for() {
    scenarios("intel", &[&format!("late-write {NIC} {EDU}")]);
}

#[test]
fn a_write_that_hangs_is_given_up_and_what_ended_after_all_recovered() {
    scenarios("intel", &[&format!("hung-and-ended {NIC}")]);
}

#[test]
fn a_card_survives_a_hundred_kills() {
    scenarios("intel", &[&format!("survives-kills {NIC}")]);
}

#[test]
fn a_guest_runs_with_the_card_and_whatever_dies_it_comes_back() {
    scenarios(
        "intel",
        &[
            &format!("runs-and-returns {NIC}"),
            &format!("survives-qemus-death {NIC}"),
            &format!("survives-its-own-death {NIC}"),
            &format!("stops-on-a-signal {NIC}"),
            &format!("tells-a-fault {EDU}"),
        ],
    );
}

#[test]
fn a_run_survives_random_kills_of_itself_and_of_qemu() {
    scenarios("intel", &[&format!("survives-random-kills {NIC}")]);
}

#[test]
fn without_an_iommu_a_take_is_refused_and_rolled_back() {
    scenarios("none", &[&format!("rolls-back {NIC}"), &format!("no-iommu {NIC}")]);
}

#[test]
fn functions_of_one_card_move_together_and_those_of_another_not() {
    scenarios(
        "multifunction",
        &["shared 0000:00:04.0 0000:00:04.1", "whole-card 0000:01:00.0 0000:01:00.1"],
    );
}

#[test]
fn of_twins_only_the_named_one_moves() {
    scenarios("twins", &["twins 0000:01:00.0 0000:02:00.0"]);
}

#[test]
fn behind_a_bridge_all_is_one_group() {
    let both = "0000:02:01.0 0000:02:02.0";
    let of_both = ["whole-card", "shared-group"].map(|name| format!("{name} {both}"));
    scenarios("bridge", &of_both.each_ref().map(String::as_str));
}

#[test]
fn a_port_in_the_group_is_in_nobodys_way() {
    scenarios("no-acs", &["selftest 0000:01:00.0"]);
}

#[test]
fn without_interrupt_remapping_the_reason_is_named() {
    scenarios(
        "no-remap",
        &[&format!("proof-without-remapping {NIC}"), &format!("no-remapping {NIC}")],
    );
}
