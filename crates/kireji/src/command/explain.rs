//! `kireji explain`: what a code means and what to do.

use std::str::FromStr;

use reserve::boot::Boot;
use reserve::rescue;

use crate::table::Table;
use crate::trouble::Known;
use crate::{CommandError, Context, Exit};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The code, such as E-GROUP-SHARED; without it, all are listed. `rescue` shows the keys that
    /// boot this machine once without what is reserved
    code: Option<Topic>,
}

/// What can be explained.
#[derive(Clone, Copy, Debug)]
enum Topic {
    /// A code.
    Code(Known),
    /// How to boot without what is reserved.
    Rescue,
}

impl FromStr for Topic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "rescue" => Ok(Self::Rescue),
            code => code.parse().map(Self::Code),
        }
    }
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
    let code = match code {
        Topic::Code(code) => code,
        Topic::Rescue => {
            let boot = Boot::read(context.host)?;
            write!(context.out, "{}", rescue::card(context.host, &boot)?)?;
            return Ok(Exit::Done);
        }
    };
    let text = code.explanation();
    writeln!(
        context.out,
        "{code}: {}\n\n{}\n\nWhat to do: {}",
        text.title, text.meaning, text.remedy
    )?;
    Ok(Exit::Done)
}
