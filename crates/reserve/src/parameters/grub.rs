//! GRUB with a menu that grub-mkconfig makes.
//!
//! grub-mkconfig sources `/etc/default/grub`, and on Debian and what is made of it also
//! `/etc/default/grub.d/*.cfg` (util/grub-mkconfig.in with Debian's patch default-grub-d.patch). A
//! file of our own there leaves the person's file as it is.

use std::path::Path;

use host::Sysroot;

use super::{ParameterError, Source};
use crate::boot::Boot;
use crate::config::Change;
use crate::config::shell::Script;
use crate::generator::Confidence;
use crate::plan::{Command, Contents, Plan};

pub(super) const DEFAULTS: &str = "/etc/default/grub";
const DROP_INS: &str = "/etc/default/grub.d";
/// The drop-ins are sourced by name, and one that comes later may set the words anew.
const DROP_IN: &str = "/etc/default/grub.d/zz-kireji.cfg";
/// The words of all entries, those of recovery included.
pub(super) const VARIABLE: &str = "GRUB_CMDLINE_LINUX";
/// The words of ordinary entries; where persons write too.
const ORDINARY: &str = "GRUB_CMDLINE_LINUX_DEFAULT";
/// The script that makes the menu, by its names.
const MKCONFIG: [&str; 4] = [
    "/usr/sbin/grub-mkconfig",
    "/usr/bin/grub-mkconfig",
    "/usr/sbin/grub2-mkconfig",
    "/usr/bin/grub2-mkconfig",
];

/// GRUB with grub-mkconfig.
#[derive(Debug)]
pub(super) struct Grub;

impl Source for Grub {
    fn name(&self) -> &'static str {
        "GRUB with a menu of grub-mkconfig"
    }

    fn confidence(&self) -> Confidence {
        Confidence::Lab
    }

    fn plan(
        &self,
        host: &Sysroot,
        _: &Boot,
        change: &Change,
        plan: &mut Plan,
    ) -> Result<bool, ParameterError> {
        let files = plan.files.len();
        remove(host, change, plan)?;
        if sources_drop_ins(host)? {
            drop_in(host, change, plan)?;
        } else if !change.add.is_empty() {
            let only = Change::add(change.add.iter().cloned());
            edit(host, VARIABLE, &only, plan)?;
        }
        if plan.files.len() > files {
            plan.command(make_menu(host)?);
        }
        Ok(false)
    }
}

fn sources_drop_ins(host: &Sysroot) -> Result<bool, ParameterError> {
    for path in MKCONFIG {
        if let Some(text) = host.optional_text(path)? {
            let sources = |line: &str| !line.starts_with('#') && line.contains("/default/grub.d/");
            return Ok(text.lines().map(str::trim).any(sources));
        }
    }
    Ok(false)
}

/// The words to take out are in the person's file, or in drop-ins that have them.
fn remove(host: &Sysroot, change: &Change, plan: &mut Plan) -> Result<(), ParameterError> {
    if change.remove.is_empty() {
        return Ok(());
    }
    let only = Change::remove(change.remove.iter().cloned());
    edit(host, VARIABLE, &only, plan)?;
    edit(host, ORDINARY, &only, plan)?;
    if !sources_drop_ins(host)? {
        return Ok(());
    }
    for name in host.optional_names(DROP_INS)? {
        let path = Path::new(DROP_INS).join(&name);
        // A script that has none of the words need not be understood.
        let has = |text: &str| {
            text.lines()
                .flat_map(|line| line.split(['\'', '"', '=', ' ', '\t']))
                .any(|word| only.remove.iter().any(|other| is_same_name(word, other)))
        };
        if name.ends_with(".cfg")
            && path != Path::new(DROP_IN)
            && has(&host.optional_text(&path)?.unwrap_or_default())
        {
            edit_at(host, &path, VARIABLE, &only, plan)?;
            edit_at(host, &path, ORDINARY, &only, plan)?;
        }
    }
    Ok(())
}

/// Whether a word begins as a parameter does, whose name is written in two ways.
fn is_same_name(word: &str, parameter: &str) -> bool {
    let name = parameter.split('=').next().unwrap_or_default();
    word.replace('-', "_") == name.replace('-', "_")
}

/// Edits a variable of the person's file; where there is none, one is made.
pub(super) fn edit(
    host: &Sysroot,
    variable: &str,
    change: &Change,
    plan: &mut Plan,
) -> Result<(), ParameterError> {
    if plan.contents(host, DEFAULTS)?.is_none() && !change.add.is_empty() {
        let text = changed("", Path::new(DEFAULTS), variable, change)?;
        plan.file(host, DEFAULTS, Some(Contents::text(text)))?;
        return Ok(());
    }
    edit_at(host, Path::new(DEFAULTS), variable, change, plan)
}

fn edit_at(
    host: &Sysroot,
    path: &Path,
    variable: &str,
    change: &Change,
    plan: &mut Plan,
) -> Result<(), ParameterError> {
    super::edit(host, path, plan, |text| changed(text, path, variable, change))
}

fn changed(
    text: &str,
    path: &Path,
    variable: &str,
    change: &Change,
) -> Result<String, ParameterError> {
    Script::parse(text)
        .change(variable, change)
        .map_err(|source| ParameterError::Edit { path: path.to_owned(), source })
}

/// The drop-in says all that is added, and goes where nothing is.
fn drop_in(host: &Sysroot, change: &Change, plan: &mut Plan) -> Result<(), ParameterError> {
    let text = (!change.add.is_empty()).then(|| {
        format!(
            "# What the reserved cards need. Written by `kireji reserve`; `kireji undo` removes \
             it.\n{VARIABLE}=\"${VARIABLE} {}\"\n",
            change.add.join(" ")
        )
    });
    plan.file(host, DROP_IN, text.map(Contents::text))?;
    Ok(())
}

/// The command that makes the menu again: Debian's own where it is there, since it knows the place.
fn make_menu(host: &Sysroot) -> Result<Command, ParameterError> {
    if host.exists("/usr/sbin/update-grub") {
        return Ok(Command::new(["update-grub"]));
    }
    for (program, menu) in
        [("grub2-mkconfig", "/boot/grub2/grub.cfg"), ("grub-mkconfig", "/boot/grub/grub.cfg")]
    {
        if host.exists(menu) {
            return Ok(Command::new([program, "-o", menu]));
        }
    }
    Err(ParameterError::Unsupported("GRUB without a menu below /boot".to_owned()))
}

#[cfg(test)]
mod tests {
    use testkit::tree::Tree;

    use super::*;

    fn plan(tree: &Tree, change: &Change) -> Result<Plan, ParameterError> {
        let mut plan = Plan::default();
        let boot = Boot::read(&tree.sysroot())?;
        Grub.plan(&tree.sysroot(), &boot, change, &mut plan).map(|_| plan)
    }

    fn text(plan: &Plan) -> String {
        let mut text = Vec::new();
        crate::plan::write_diff(plan, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn debian_gets_a_file_of_our_own() {
        let tree = Tree::new();
        tree.write("/usr/sbin/grub-mkconfig", "for x in ${sysconfdir}/default/grub.d/*.cfg ; do\n");
        tree.write("/usr/sbin/update-grub", "");
        tree.write(DEFAULTS, "GRUB_CMDLINE_LINUX_DEFAULT='quiet intel_iommu=off'\n");
        let change =
            Change { add: vec!["intel_iommu=on".into()], remove: vec!["intel_iommu=off".into()] };
        insta::assert_snapshot!(text(&plan(&tree, &change).unwrap()), @r#"
        --- a/etc/default/grub
        +++ b/etc/default/grub
        @@ -1 +1 @@
        -GRUB_CMDLINE_LINUX_DEFAULT='quiet intel_iommu=off'
        +GRUB_CMDLINE_LINUX_DEFAULT='quiet'
        # mode: 0644 /etc/default/grub.d/zz-kireji.cfg
        --- /dev/null
        +++ b/etc/default/grub.d/zz-kireji.cfg
        @@ -0,0 +1,2 @@
        +# What the reserved cards need. Written by `kireji reserve`; `kireji undo` removes it.
        +GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX intel_iommu=on"
        # run: update-grub
        "#);
        assert!(plan(&tree, &Change::default()).unwrap().is_empty());
    }

    #[test]
    fn words_are_taken_out_of_the_drop_ins_that_have_them() {
        let tree = Tree::new();
        tree.write("/usr/sbin/grub-mkconfig", "for x in ${sysconfdir}/default/grub.d/*.cfg ; do\n");
        tree.write("/usr/sbin/update-grub", "");
        tree.write(DEFAULTS, "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n");
        tree.write("/etc/default/grub.d/10-shell.cfg", "if true; then GRUB_CMDLINE_LINUX=a; fi\n");
        let ours = "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX vfio_pci.ids=8086:10d3 a\"\n";
        tree.write("/etc/default/grub.d/50-vfio.cfg", ours);
        tree.write("/etc/default/grub.d/60-off.cfg.bak", "vfio-pci.ids=8086:10d3\n");
        let change = Change::remove(["vfio-pci.ids=8086:10d3"]);
        insta::assert_snapshot!(text(&plan(&tree, &change).unwrap()), @r#"
        --- a/etc/default/grub.d/50-vfio.cfg
        +++ b/etc/default/grub.d/50-vfio.cfg
        @@ -1 +1 @@
        -GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX vfio_pci.ids=8086:10d3 a"
        +GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX a"
        # run: update-grub
        "#);
        // In one whose outcome only a shell can tell, nothing is guessed.
        let uncertain = "if true; then GRUB_CMDLINE_LINUX=vfio-pci.ids=8086:10d3; fi\n";
        tree.write("/etc/default/grub.d/10-shell.cfg", uncertain);
        let error = plan(&tree, &change).unwrap_err();
        assert_eq!(error.to_string(), "/etc/default/grub.d/10-shell.cfg cannot be edited");
    }

    #[test]
    fn others_get_their_file_edited() {
        let tree = Tree::new();
        tree.write("/usr/bin/grub-mkconfig", "# grub.d/ is not sourced here\n");
        tree.write("/boot/grub/grub.cfg", "");
        tree.write(DEFAULTS, "GRUB_CMDLINE_LINUX=\"\"\nGRUB_TIMEOUT=5\n");
        let change = Change::add(["intel_iommu=on"]);
        insta::assert_snapshot!(text(&plan(&tree, &change).unwrap()), @r#"
        --- a/etc/default/grub
        +++ b/etc/default/grub
        @@ -1,2 +1,2 @@
        -GRUB_CMDLINE_LINUX=""
        +GRUB_CMDLINE_LINUX="intel_iommu=on"
         GRUB_TIMEOUT=5
        # run: grub-mkconfig -o /boot/grub/grub.cfg
        "#);
        tree.write(DEFAULTS, ". /etc/other\n");
        let error = plan(&tree, &change).unwrap_err();
        assert_eq!(error.to_string(), "/etc/default/grub cannot be edited");
    }
}
