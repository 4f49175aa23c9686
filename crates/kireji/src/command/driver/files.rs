//! The files of a driver, as they are given.

use std::path::PathBuf;

use haiku::driver::Severity;
use haiku::install::{File, PlanError};

use super::check::{failed, read};
use crate::{CommandError, Exit};

/// Files and what they hold.
pub(crate) struct Files<'a> {
    files: Vec<(&'a PathBuf, &'a str, Vec<u8>)>,
}

impl<'a> Files<'a> {
    pub(crate) fn read(paths: &'a [PathBuf]) -> Result<Self, CommandError> {
        let read = |path: &'a PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            Ok((path, name, read(path)?))
        };
        Ok(Self { files: paths.iter().map(read).collect::<Result<_, CommandError>>()? })
    }

    pub(crate) fn list(&self) -> Vec<File<'_>> {
        self.files.iter().map(|(_, name, bytes)| File { name, bytes }).collect()
    }

    /// The name of the first file, without what it ends with.
    pub(crate) fn first_name(&self) -> &str {
        let name = self.files.first().map_or("", |(_, name, _)| name);
        name.strip_suffix(".so").unwrap_or(name)
    }

    /// An error of a plan, as the user sees it.
    pub(crate) fn not_planned(&self, error: PlanError) -> CommandError {
        let path = |name: &str| {
            let found = self.files.iter().find(|(_, known, _)| *known == name);
            found.map_or_else(|| PathBuf::from(name), |(path, _, _)| (*path).clone())
        };
        match error {
            PlanError::Elf { file, source } => failed(&path(&file), Exit::DriverNotLoaded, source),
            PlanError::NotLoadable { ref file, ref report } => {
                let hint =
                    format!("`kireji driver check {}` says what to do", path(file).display());
                let errors =
                    report.findings.iter().filter(|found| found.severity == Severity::Error);
                let problems: Vec<_> = errors.map(|found| found.problem.clone()).collect();
                let error = CommandError::new(Exit::DriverNotLoaded, error.to_string());
                problems.into_iter().fold(error, CommandError::reason).hint(hint)
            }
            error => CommandError::new(Exit::Usage, error.to_string()),
        }
    }
}
