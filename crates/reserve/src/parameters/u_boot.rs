//! U-Boot with a menu of extlinux that u-boot-menu makes.
//!
//! u-boot-update sources `/etc/default/u-boot` and then the files of `conf.d` below
//! `/usr/share/u-boot-menu` and `/etc/u-boot-menu`. Where none of them sets the parameters, it takes
//! those of `/etc/kernel/cmdline`, or else its own (u-boot-menu 4.2.2, u-boot-update).

use std::path::{Path, PathBuf};

use host::{ReadError, Sysroot};

use super::{ParameterError, Source, kernel_cmdline};
use crate::boot::{Boot, entries::extlinux};
use crate::config::Change;
use crate::config::shell::Script;
use crate::generator::Confidence;
use crate::plan::{Command, Contents, Plan};

const PROGRAM: &str = "u-boot-update";
const DEFAULTS: &str = "/etc/default/u-boot";
const PARTS: [&str; 2] = ["/usr/share/u-boot-menu/conf.d", "/etc/u-boot-menu/conf.d"];
/// Ours among them, read behind all others.
const PART: &str = "/etc/u-boot-menu/conf.d/zz-kireji.conf";
const VARIABLE: &str = "U_BOOT_PARAMETERS";
/// What the program takes where nothing is said.
const OF_PROGRAM: &str = "ro quiet";

/// u-boot-menu.
#[derive(Debug)]
pub(super) struct UBootMenu;

/// Whether the menu is one that the program makes: it says so in its head.
///
/// # Errors
/// The menu cannot be read.
pub(super) fn is_made(host: &Sysroot) -> Result<bool, ReadError> {
    for menu in extlinux::MENUS {
        if let Some(text) = host.optional_text(menu)? {
            return Ok(text.lines().any(|line| line.starts_with('#') && line.contains(PROGRAM)));
        }
    }
    Ok(false)
}

impl Source for UBootMenu {
    fn name(&self) -> &'static str {
        "U-Boot with u-boot-menu"
    }

    fn confidence(&self) -> Confidence {
        Confidence::Source
    }

    fn plan(
        &self,
        host: &Sysroot,
        _: &Boot,
        change: &Change,
        plan: &mut Plan,
    ) -> Result<bool, ParameterError> {
        let before = plan.files.len();
        let remove = Change::remove(change.remove.iter().cloned());
        let mut is_set = false;
        for path in sourced(host)? {
            let text = host.optional_text(&path)?.unwrap_or_default();
            let sets = |line: &str| line.trim_start().starts_with(VARIABLE);
            if !text.lines().any(sets) {
                continue;
            }
            is_set = true;
            // What a package brings is not the person's to have edited.
            if path.starts_with("/etc") && !remove.is_empty() {
                super::edit(host, &path, plan, |text| {
                    Script::parse(text)
                        .change(VARIABLE, &remove)
                        .map_err(|source| ParameterError::Edit { path: path.clone(), source })
                })?;
            }
        }
        if !is_set && host.exists(kernel_cmdline::FILE) {
            kernel_cmdline::whole(host, change, plan)?;
        } else {
            let text = (!change.add.is_empty()).then(|| {
                format!(
                    "# What the reserved cards need. Written by `kireji reserve`; `kireji undo` \
                     removes it.\n{VARIABLE}=\"${{{VARIABLE}:-{OF_PROGRAM}}} {}\"\n",
                    change.add.join(" ")
                )
            });
            plan.file(host, PART, text.map(Contents::text))?;
        }
        if plan.files.len() > before {
            plan.command(Command::new([PROGRAM]));
        }
        Ok(false)
    }
}

/// The files that the program sources, in order, but for ours.
fn sourced(host: &Sysroot) -> Result<Vec<PathBuf>, ReadError> {
    let mut found = vec![PathBuf::from(DEFAULTS)];
    for directory in PARTS {
        let names = host.optional_names(directory)?.into_iter();
        let paths = names.filter(|name| name.ends_with(".conf"));
        found.extend(paths.map(|name| Path::new(directory).join(name)));
    }
    found.retain(|path| path != Path::new(PART));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use testkit::tree::Tree;

    use super::*;

    fn planned(tree: &Tree, change: &Change) -> String {
        let mut plan = Plan::default();
        let host = tree.sysroot();
        UBootMenu.plan(&host, &Boot::read(&host).unwrap(), change, &mut plan).unwrap();
        let mut text = Vec::new();
        crate::plan::write_diff(&plan, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn words_go_where_the_person_wrote_them_and_come_behind_all_files() {
        let tree = Tree::new();
        tree.write(DEFAULTS, "## comment\n#U_BOOT_PARAMETERS=\"ro quiet\"\n");
        tree.write("/etc/u-boot-menu/conf.d/mine.conf", "U_BOOT_PARAMETERS='ro iommu=off'\n");
        let change =
            Change { add: vec!["iommu.passthrough=0".into()], remove: vec!["iommu=off".into()] };
        insta::assert_snapshot!(planned(&tree, &change), @r#"
        --- a/etc/u-boot-menu/conf.d/mine.conf
        +++ b/etc/u-boot-menu/conf.d/mine.conf
        @@ -1 +1 @@
        -U_BOOT_PARAMETERS='ro iommu=off'
        +U_BOOT_PARAMETERS='ro'
        # mode: 0644 /etc/u-boot-menu/conf.d/zz-kireji.conf
        --- /dev/null
        +++ b/etc/u-boot-menu/conf.d/zz-kireji.conf
        @@ -0,0 +1,2 @@
        +# What the reserved cards need. Written by `kireji reserve`; `kireji undo` removes it.
        +U_BOOT_PARAMETERS="${U_BOOT_PARAMETERS:-ro quiet} iommu.passthrough=0"
        # run: u-boot-update
        "#);
    }

    #[test]
    fn what_is_said_to_all_loaders_is_said_there() {
        let tree = Tree::new();
        tree.write("/etc/kernel/cmdline", "root=UUID=1 ro\n");
        insta::assert_snapshot!(planned(&tree, &Change::add(["intel_iommu=on"])), @r"
        --- a/etc/kernel/cmdline
        +++ b/etc/kernel/cmdline
        @@ -1 +1 @@
        -root=UUID=1 ro
        +root=UUID=1 ro intel_iommu=on
        # run: u-boot-update
        ");
    }
}
