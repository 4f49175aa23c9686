//! extlinux: Alpine makes its menu from `/etc/update-extlinux.conf`, which a shell sources
//! (update-extlinux of syslinux in Alpine).

use std::path::Path;

use host::Sysroot;

use super::{ParameterError, Source};
use crate::boot::Boot;
use crate::config::Change;
use crate::config::shell::Script;
use crate::generator::Confidence;
use crate::plan::{Command, Plan};

const FILE: &str = "/etc/update-extlinux.conf";

/// extlinux of Alpine.
#[derive(Debug)]
pub(super) struct Extlinux;

impl Source for Extlinux {
    fn name(&self) -> &'static str {
        "extlinux with update-extlinux"
    }

    fn confidence(&self) -> Confidence {
        Confidence::Hearsay
    }

    fn plan(
        &self,
        host: &Sysroot,
        _: &Boot,
        change: &Change,
        plan: &mut Plan,
    ) -> Result<bool, ParameterError> {
        let Some(contents) = plan.contents(host, FILE)? else {
            return Err(ParameterError::Unsupported(format!("extlinux without {FILE}")));
        };
        let text = String::from_utf8_lossy(&contents.bytes);
        // The script goes on only with this (update-extlinux).
        if Script::parse(&text).value("overwrite").as_deref() != Some("1") {
            let what = format!("extlinux whose {FILE} says that its menu is not to be made again");
            return Err(ParameterError::Unsupported(what));
        }
        let before = plan.files.len();
        super::edit(host, Path::new(FILE), plan, |text| {
            Script::parse(text)
                .change("default_kernel_opts", change)
                .map_err(|source| ParameterError::Edit { path: FILE, source })
        })?;
        if plan.files.len() > before {
            plan.command(Command::new(["update-extlinux"]));
        }
        Ok(false)
    }
}
