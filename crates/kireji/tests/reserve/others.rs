//! What somebody else changed since: shown, merged or refused, and never overwritten.

use testkit::boot::{ALL, Builders, CARD};

use super::*;

const YES: [&str; 7] =
    ["reserve", CARD, "--yes", "--allow", "E-UNMEASURED", "--allow", "E-NO-IOMMU-GROUP"];
const GRUB: &str = "/etc/default/grub";

/// Arch with GRUB, whose defaults are edited since its IOMMU is off for want of a parameter.
fn arch() -> FakeKernel {
    let distribution = ALL.iter().find(|one| one.name == "arch-grub").expect("a distribution");
    let tree = distribution.tree();
    tree.write("/sys/firmware/acpi/tables/DMAR", "");
    let kernel = FakeKernel::new(tree);
    let (exit, err) = kireji_with(&kernel, &YES, true, &Builders::new(&kernel.tree));
    assert_eq!(exit, Exit::Done, "{err}");
    assert!(kernel.tree.read(GRUB).contains("GRUB_CMDLINE_LINUX='intel_iommu=on'"));
    kernel
}

fn edit(tree: &Tree, path: &str, from: &str, to: &str) {
    let text = tree.read(path);
    assert!(text.contains(from), "{text}");
    tree.write(path, text.replace(from, to));
}

fn undo(kernel: &FakeKernel) -> Ended {
    kireji_asked(kernel, &["undo"], true, &Builders::new(&kernel.tree), None)
}

#[test]
fn undo_keeps_another_line_of_the_same_file() {
    let kernel = arch();
    let tree = &kernel.tree;
    edit(tree, GRUB, "MODULES=\"part_gpt\"", "MODULES=\"part_gpt part_msdos\"");
    let ended = undo(&kernel);
    assert_eq!(ended.exit, Exit::Done, "{}", ended.err);
    assert!(
        ended.out.contains("/etc/default/grub keeps what somebody else changed"),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains("-GRUB_CMDLINE_LINUX='intel_iommu=on'\n+GRUB_CMDLINE_LINUX=''\n"),
        "{}",
        ended.out
    );
    let text = tree.read(GRUB);
    assert!(text.contains("LINUX=''") && text.contains("part_msdos"), "{text}");
    assert!(!tree.locate("/etc/kireji").exists());
}

#[test]
fn undo_refuses_what_two_changed_and_shows_both() {
    let kernel = arch();
    edit(&kernel.tree, GRUB, "'intel_iommu=on'", "'intel_iommu=on iommu=pt'");
    let ended = undo(&kernel);
    assert_eq!(ended.exit, Exit::Refused);
    let changed: Vec<_> =
        ended.err.lines().filter(|line| line.starts_with(['+', '-', 'w'])).collect();
    insta::assert_snapshot!(changed.join("\n"), @r"
    what somebody else changed in /etc/default/grub:
    --- a/etc/default/grub
    +++ b/etc/default/grub
    -GRUB_CMDLINE_LINUX='intel_iommu=on'
    +GRUB_CMDLINE_LINUX='intel_iommu=on iommu=pt'
    what kireji would change in it:
    --- a/etc/default/grub
    +++ b/etc/default/grub
    -GRUB_CMDLINE_LINUX='intel_iommu=on'
    +GRUB_CMDLINE_LINUX=''
    ");
    assert!(ended.err.contains("was changed by somebody else, in what is to change"));
    assert_eq!(ended.out, "");
    assert!(kernel.tree.locate("/etc/kireji/reservations").exists(), "nothing is touched");
    // As kireji left it, it goes.
    edit(&kernel.tree, GRUB, " iommu=pt", "");
    assert_eq!(undo(&kernel).exit, Exit::Done);
}

#[test]
fn release_does_not_remove_what_somebody_made_of_a_file_of_ours() {
    let kernel = arch();
    let hook = "/etc/initcpio/hooks/kireji";
    let ours = kernel.tree.read(hook);
    kernel.tree.write(hook, format!("{ours}# theirs\n"));
    let release = ["release", CARD, "--yes"];
    let programs = Builders::new(&kernel.tree);
    let (exit, err) = kireji_with(&kernel, &release, true, &programs);
    assert_eq!(exit, Exit::Refused, "{err}");
    assert!(err.contains("+# theirs\n"), "{err}");
    assert!(err.contains("+++ /dev/null"), "{err}");
    assert!(programs.ran().is_empty());
    assert!(kernel.tree.read(hook).ends_with("# theirs\n"));
    kernel.tree.write(hook, ours);
    let (exit, err) = kireji_with(&kernel, &release, true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    assert!(!kernel.tree.locate(hook).exists());
}

/// The programs of the distribution, of which the first to run also leaves something behind.
#[derive(Debug)]
struct Untidy<'a>(Builders<'a>, &'a Tree);

impl Runner for Untidy<'_> {
    fn run(&self, program: &Program) -> Result<Finished, RunError> {
        let done = self.0.run(program);
        self.1.write("/boot/initramfs-linux.img", image("buildconfig"));
        done
    }
}

#[test]
fn undo_tells_what_is_not_built_as_it_was() {
    let kernel = arch();
    let programs = Untidy(Builders::new(&kernel.tree), &kernel.tree);
    let ended = kireji_asked(&kernel, &["undo"], true, &programs, None);
    assert_eq!(ended.exit, Exit::Unproven, "{}", ended.err);
    let told: Vec<_> =
        ended.err.lines().skip_while(|line| !line.contains("is not as it was")).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    /boot/initramfs-linux.img is not as it was:
      config is gone from it
      init is gone from it
    not all that was built again is as it was: see above before you reboot
    ");
}
