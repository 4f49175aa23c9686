use std::process::{Command as Process, Stdio};

use proptest::prelude::*;
use testkit::tree::Tree;

use super::*;

fn patch(tree: &Tree, plan: &Plan) {
    let mut text = Vec::new();
    write_diff(plan, &mut text).unwrap();
    let mut child = Process::new("patch")
        .args(["-p1", "--silent"])
        .current_dir(tree.locate("/"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    io::Write::write_all(&mut child.stdin.take().unwrap(), &text).unwrap();
    assert!(child.wait().unwrap().success(), "{}", String::from_utf8_lossy(&text));
}

#[test]
fn links_are_followed_and_kept() {
    let tree = Tree::new();
    tree.write("/etc/default/grub", "A=1\n");
    tree.link_text("/etc/sysconfig/grub", "../default/grub");
    let host = tree.sysroot();
    let mut plan = Plan::default();
    plan.file(&host, "/etc/sysconfig/grub", Some(Contents::text("A=2\n"))).unwrap();
    assert_eq!(plan.files[0].path, Path::new("/etc/default/grub"));
    let planned = plan.contents(&host, "/etc/default/grub").unwrap();
    assert_eq!(planned, Some(Contents::text("A=2\n")));
    plan.file(&host, "/etc/default/grub", Some(Contents::text("A=1\n"))).unwrap();
    assert!(plan.is_empty());
    tree.link_text("/etc/loop", "loop");
    assert!(plan.file(&host, "/etc/loop", None).is_err());
}

#[test]
fn names_that_need_care_stay_one_line_and_are_patched() {
    let tree = Tree::new();
    let names = ["a b", "+++ b\n+++ b/etc/x", "\"q\"", "back\\slash", "\u{7}bell", "größe"];
    let host = tree.sysroot();
    let mut plan = Plan::default();
    for (index, name) in names.iter().enumerate() {
        let path = format!("/boot/{name}.conf");
        if index % 2 == 0 {
            tree.write(&path, "old\n");
        }
        plan.file(&host, path, Some(Contents::text("new\n"))).unwrap();
    }
    plan.command(Command::new(["dracut", "/boot/it's\n# run: x"]));
    let mut text = Vec::new();
    write_diff(&plan, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.ends_with("# run: dracut $'/boot/it\\'s\\012# run: x'\n"), "{text}");
    patch(&tree, &plan);
    for name in names {
        assert_eq!(tree.read(&format!("/boot/{name}.conf")), "new\n", "{text}");
    }
}

#[test]
fn a_plan_is_a_patch_and_commands() {
    let tree = Tree::new();
    tree.write("/etc/old", "1\n2\n3\n4\n5\n6\n7\n8");
    tree.write("/etc/gone", "x\n");
    let host = tree.sysroot();
    let mut plan = Plan::default();
    plan.file(&host, "/etc/old", Some(Contents::text("1\n2\n3\n4\nfive\n6\n7\n8"))).unwrap();
    plan.file(&host, "/etc/new dir/hook", Some(Contents::program("#!/bin/sh\n"))).unwrap();
    plan.file(&host, "/etc/gone", None).unwrap();
    plan.command(Command::new(["update-initramfs", "-u", "-k", "all"]));
    plan.command(Command::new(["grubby", "--args=a b"]));
    plan.command(Command::new(["update-initramfs", "-u", "-k", "all"]));
    let mut text = Vec::new();
    write_diff(&plan, &mut text).unwrap();
    insta::assert_snapshot!(String::from_utf8(text).unwrap(), @r"
    --- a/etc/old
    +++ b/etc/old
    @@ -2,7 +2,7 @@
     2
     3
     4
    -5
    +five
     6
     7
     8
    \ No newline at end of file
    # mode: 0755 /etc/new dir/hook
    --- /dev/null
    +++ b/etc/new dir/hook	
    @@ -0,0 +1 @@
    +#!/bin/sh
    --- a/etc/gone
    +++ /dev/null
    @@ -1 +0,0 @@
    -x
    # run: update-initramfs -u -k all
    # run: grubby '--args=a b'
    ");
    patch(&tree, &plan);
    assert_eq!(tree.read("/etc/old"), "1\n2\n3\n4\nfive\n6\n7\n8");
    assert_eq!(tree.read("/etc/new dir/hook"), "#!/bin/sh\n");
    assert!(!host.exists("/etc/gone"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn patch_makes_of_it_what_was_planned(
        files in prop::collection::vec(
            (prop::option::of("([a-c\\\\ -]{0,3}\n){0,8}[a-c]{0,2}"),
             prop::option::of("([a-c\\\\ -]{0,3}\n){0,8}[a-c]{0,2}")), 1..4),
    ) {
        let tree = Tree::new();
        tree.directory("/etc");
        let mut plan = Plan::default();
        for (index, (before, after)) in files.iter().enumerate() {
            // A patch cannot tell an empty file from one that is not there.
            prop_assume!(before.as_deref() != Some("") && after.as_deref() != Some(""));
            let path = format!("/etc/{index}");
            if let Some(before) = before {
                tree.write(&path, before);
            }
            plan.file(&tree.sysroot(), &path, after.as_deref().map(Contents::text)).unwrap();
        }
        if plan.files.is_empty() {
            return Ok(());
        }
        patch(&tree, &plan);
        for (index, (_, after)) in files.iter().enumerate() {
            let found = std::fs::read(tree.locate(&format!("/etc/{index}"))).ok();
            prop_assert_eq!(found.as_deref(), after.as_ref().map(String::as_bytes));
        }
    }
}
