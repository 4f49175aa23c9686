//! `kireji explain`: what a code means and what to do.

use crate::table::Table;
use crate::trouble::Known;
use crate::{CommandError, Context, Exit};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The code, such as E-GROUP-SHARED; without it, all are listed
    code: Option<Known>,
}

/// Explains a code.
///
/// # Errors
/// The output cannot be written.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let Some(code) = args.code else {
        let mut table = Table::new(["CODE", "WHAT IT SAYS"]);
        for code in Known::all() {
            table.row([code.to_string(), code.explanation().title.to_owned()]);
        }
        table.write(context.out, context.width)?;
        return Ok(Exit::Done);
    };
    let text = code.explanation();
    writeln!(
        context.out,
        "{code}: {}\n\n{}\n\nWhat to do: {}",
        text.title, text.meaning, text.remedy
    )?;
    Ok(Exit::Done)
}
