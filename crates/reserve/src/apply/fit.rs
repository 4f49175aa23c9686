//! A plan on top of what somebody else made of files that kireji wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::record::contents;
use super::{Applier, ApplyError, Conflict, merge};
use crate::plan::{Contents, Plan};
use crate::reservation;

impl Applier<'_> {
    /// Returns the plan with what somebody else changed since in files that are all kireji's. The
    /// files of others are edited as they are, and the lists that kireji reads are read.
    ///
    /// # Errors
    /// Somebody changed what is to change, or what was applied cannot be read.
    pub fn fit(&self, plan: Plan) -> Result<Plan, ApplyError> {
        let ours = self.ours()?;
        let had_files = !plan.files.is_empty();
        let mut fitted = Plan { files: Vec::new(), ..plan };
        for mut change in plan.files {
            let is_read = change.path.parent() == Path::new(reservation::PATH).parent();
            let left = ours.get(&change.path).filter(|_| !is_read);
            let (Some(left), Some(now)) = (left, &change.before) else {
                fitted.files.push(change);
                continue;
            };
            if left.bytes == now.bytes {
                fitted.files.push(change);
                continue;
            }
            let merged = change.after.as_ref().and_then(|wanted| {
                let bytes = merge::three_way(&left.bytes, &wanted.bytes, &now.bytes)?;
                Some(Contents { bytes, mode: wanted.mode })
            });
            let Some(merged) = merged else {
                return Err(ApplyError::Foreign(Box::new(Conflict {
                    path: change.path,
                    left: Some(left.clone()),
                    wanted: change.after,
                    now: change.before,
                })));
            };
            if merged != *now {
                change.after = Some(merged);
                fitted.files.push(change);
            }
        }
        // Nothing new is built then.
        if had_files && fitted.files.is_empty() {
            fitted.commands.clear();
        }
        Ok(fitted)
    }

    /// The files that kireji made, each as it was left last.
    fn ours(&self) -> Result<BTreeMap<PathBuf, Contents>, ApplyError> {
        let mut found = BTreeMap::new();
        for record in self.records()? {
            for file in record.files {
                let is_ours = file.before.is_none() || found.contains_key(&file.path);
                match contents(&file.after) {
                    Some(after) if is_ours => drop(found.insert(file.path, after)),
                    _ => drop(found.remove(&file.path)),
                }
            }
        }
        Ok(found)
    }
}
