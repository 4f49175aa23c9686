//! `kireji completions` and `man`: what packages install beside the program.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::{CommandError, Context, Exit};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Where to write the pages
    directory: PathBuf,
}

/// Prints the completions of a shell.
///
/// # Errors
/// The output cannot be written.
pub fn completions(
    args: &CompletionsArgs,
    context: &mut Context<'_>,
) -> Result<Exit, CommandError> {
    // The generator panics where its output cannot be written, so it never sees the real one.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kireji", &mut script);
    context.out.write_all(&script)?;
    Ok(Exit::Done)
}

/// Writes one manual page for the program and one for each command that is not hidden, and for each
/// command of such a command.
///
/// # Errors
/// A page cannot be written.
pub fn man(args: &ManArgs, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let failed = |path: &Path, source| {
        CommandError::from_source(
            Exit::HostCannot,
            host::atomic::WriteError { path: path.to_owned(), source },
        )
    };
    std::fs::create_dir_all(&args.directory).map_err(|error| failed(&args.directory, error))?;
    let mut program = Cli::command();
    program.build();
    let mut pages = Vec::new();
    let mut rest = vec![("kireji".to_owned(), program)];
    while let Some((name, command)) = rest.pop() {
        let is_own =
            |command: &&clap::Command| !command.is_hide_set() && command.get_name() != "help";
        let below = command.get_subcommands().filter(is_own);
        rest.extend(below.map(|one| (format!("{name}-{}", one.get_name()), one.clone())));
        pages.push((name, command));
    }
    pages.sort_by(|one, other| one.0.cmp(&other.0));
    for (name, command) in pages {
        let path = args.directory.join(format!("{name}.1"));
        let mut page = Vec::new();
        clap_mangen::Man::new(command.disable_help_flag(true)).title(name).render(&mut page)?;
        host::atomic::write(&path, &page, 0o644)
            .map_err(|error| CommandError::from_source(Exit::HostCannot, error))?;
        writeln!(context.out, "{}", path.display())?;
    }
    Ok(Exit::Done)
}
