//! `kireji image fetch`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fetch::{FetchError, Options, Progress, Sources, What, fetch};

use super::human;
use super::progress::OFTEN;
use crate::command::owner::Owner;
use crate::{CommandError, Context, Exit};

/// How long a server may send nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of `image fetch`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// nightly, nightly@hrevNNNNN, beta, beta@r1betaN, or an address of http or https
    #[arg(default_value = "nightly")]
    what: What,
    /// Where to keep it (default: kireji/images in the user's cache)
    #[arg(long, value_name = "DIRECTORY")]
    cache: Option<PathBuf>,
    /// The page that lists images of the development branch
    #[arg(long, value_name = "ADDRESS", env = "KIREJI_NIGHTLY_PAGE")]
    nightly_page: Option<String>,
    /// The directory that has one directory a release; a mirror
    #[arg(long, value_name = "ADDRESS", env = "KIREJI_RELEASES")]
    releases: Option<String>,
    /// The public key of minisign that signatures are checked with (default: that of Haiku)
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let mut sources = Sources::default();
    if let Some(page) = &args.nightly_page {
        sources.nightly.clone_from(page);
    }
    if let Some(releases) = &args.releases {
        sources.releases.clone_from(releases);
    }
    let options = Options {
        sources,
        key: args.key.clone().unwrap_or_else(|| fetch::HAIKU_KEY.to_owned()),
        cache: args.cache.clone().unwrap_or_else(|| context.vars.cache.join("images")),
        patience: PATIENCE,
    };
    context.vars.check_home(&options.cache)?;
    let mut last = Instant::now();
    let err = &mut *context.err;
    // A terminal that has gone must not end a download.
    let mut tell = |progress: Progress<'_>| {
        drop(match progress {
            Progress::Begins { url, from, .. } if from > 0 => {
                writeln!(err, "{url} goes on after {}.", human(from))
            }
            Progress::Begins { url, total, .. } => match total {
                Some(total) => writeln!(err, "{url} has {}.", human(total)),
                None => writeln!(err, "{url} comes, of unknown size."),
            },
            Progress::At { .. } if last.elapsed() < OFTEN => Ok(()),
            Progress::At { bytes, total } => {
                last = Instant::now();
                match total {
                    Some(total) => writeln!(err, "  {} of {}", human(bytes), human(total)),
                    None => writeln!(err, "  {}", human(bytes)),
                }
            }
            Progress::Again { reason } => writeln!(err, "{reason}; it is asked again."),
            Progress::Checking => writeln!(err, "It is compared with what its publisher says."),
            Progress::Unpacking => writeln!(err, "It is unpacked."),
        })
    };
    let fetched = fetch(&args.what, &options, &mut tell);
    give(Owner::of(&context.vars), &options.cache);
    let fetched = fetched.map_err(failed)?;
    if args.json {
        super::super::print_json(context, &fetched)?;
        return Ok(Exit::Done);
    }
    let checked = match (fetched.hash_checked, fetched.signature_checked) {
        (_, true) => "Its signature is good.",
        (true, false) => "Its SHA-256 is the published one; no signature is published.",
        (false, false) => "Neither a SHA-256 nor a signature is published: nothing was checked.",
    };
    let cached = if fetched.cached { "It was there already. " } else { "" };
    writeln!(context.err, "{cached}{checked}")?;
    writeln!(context.out, "{}", fetched.path.display())?;
    Ok(Exit::Done)
}

/// Gives the cache to the user, half a download too: the next command may be the user's own.
fn give(owner: Owner, cache: &Path) {
    let mut above: Vec<_> = cache.ancestors().take(3).collect();
    above.reverse();
    above.into_iter().for_each(|path| owner.give(path));
    for entry in cache.read_dir().into_iter().flatten().flatten() {
        owner.give(&entry.path());
    }
}

fn failed(error: FetchError) -> CommandError {
    let (exit, hint) = match &error {
        FetchError::Wrong { .. } => {
            (Exit::Image, Some("it was thrown away; another mirror may have a good one"))
        }
        FetchError::Archive { .. } => (Exit::Image, None),
        FetchError::Unsigned { .. } => {
            (Exit::Image, Some("`kireji image fetch ADDRESS` takes it without one"))
        }
        FetchError::File { source, .. } => (Exit::of_io(source), None),
        FetchError::NoName { .. } => (Exit::Usage, None),
        FetchError::Busy(_) => (Exit::Refused, None),
        FetchError::Stalled { .. } | FetchError::Truncated { .. } => {
            (Exit::HostCannot, Some("the same command goes on where it ended"))
        }
        FetchError::NotListed { .. } | FetchError::Status { .. } => {
            (Exit::No, Some("`--releases` and `--nightly-page` say where images are published"))
        }
        _ => (Exit::HostCannot, None),
    };
    let error = CommandError::from_source(exit, error);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
