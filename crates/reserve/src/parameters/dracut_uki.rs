//! Unified kernel images that dracut makes by itself: the command line is `kernel_cmdline` of its
//! configuration (dracut.conf(5)).

use host::Sysroot;

use super::{ParameterError, Source};
use crate::boot::Boot;
use crate::config::Change;
use crate::generator::Confidence;
use crate::plan::{Contents, Plan};

const DROP_IN: &str = "/etc/dracut.conf.d/50-kireji.conf";

/// dracut with `uefi="yes"`.
#[derive(Debug)]
pub(super) struct DracutUki;

impl Source for DracutUki {
    fn name(&self) -> &'static str {
        "unified kernel images of dracut"
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
        if !change.remove.is_empty() && change.add.is_empty() && !host.exists(DROP_IN) {
            let what = "words that stand in dracut's own configuration".to_owned();
            return Err(ParameterError::Unsupported(what));
        }
        let before = plan.files.len();
        let text = (!change.add.is_empty()).then(|| {
            format!(
                "# What the reserved cards need. Written by `kireji reserve`; `kireji undo` removes \
                 it.\nkernel_cmdline+=\" {} \"\n",
                change.add.join(" ")
            )
        });
        plan.file(host, DROP_IN, text.map(Contents::text))?;
        Ok(plan.files.len() > before)
    }
}
