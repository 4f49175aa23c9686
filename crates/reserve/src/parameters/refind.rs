//! rEFInd's `refind_linux.conf`, whose first line is what is booted by default.

use std::path::Path;

use host::Sysroot;

use super::{ParameterError, Source};
use crate::boot::{Boot, entries::refind};
use crate::config::Change;
use crate::generator::Confidence;
use crate::plan::Plan;

/// rEFInd.
#[derive(Debug)]
pub(super) struct Refind;

impl Source for Refind {
    fn name(&self) -> &'static str {
        "rEFInd with refind_linux.conf"
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
        super::edit(host, Path::new(refind::LIST), plan, |text| Ok(edited(text, change)))?;
        Ok(false)
    }
}

/// Changes every line that has options; what else is in the file stays.
fn edited(text: &str, change: &Change) -> String {
    let line = |line: &str| match refind::parts(line) {
        Some((_, options)) => {
            // The options are between the last two quotes.
            let end = line.rfind('"').unwrap_or(line.len());
            let start = end - options.len();
            format!("{}{}{}", &line[..start], change.apply(options), &line[end..])
        }
        None => line.to_owned(),
    };
    text.split_inclusive('\n').map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_options_changes_between_its_quotes() {
        let before =
            "# \"a\" \"b\"\n\"Boot\"  \"root=UUID=1 ro quiet\"\n\"To a shell\" \"ro single\"";
        let change = Change { add: vec!["intel_iommu=on".into()], remove: vec!["quiet".into()] };
        let after = edited(before, &change);
        assert_eq!(
            after,
            "# \"a\" \"b\"\n\"Boot\"  \"root=UUID=1 ro intel_iommu=on\"\n\
             \"To a shell\" \"ro single intel_iommu=on\""
        );
        assert_eq!(edited(&after, &change), after);
    }
}
