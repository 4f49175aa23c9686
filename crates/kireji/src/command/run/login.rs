//! How a run lets a person in with `kireji ssh`.

use guest::launch::as_user;
use guest::login::{self, Access};
use guest::machine::Machine;
use guest::rundir::RunDirectory;
use haiku::login::{Login, PORT};
use host::SystemRunner;

use crate::{CommandError, Context};

use super::checks::denied;
use super::session::run_error;
use super::{Args, GuestKind};

/// Why the guest gets no ssh server of the run's own, if the arguments say so: it is for runs that
/// go on until somebody ends them, and is put where the guest's writes go.
pub(super) fn why_not(args: &Args) -> Option<&'static str> {
    if args.guest == GuestKind::Linux {
        Some("the reference guest has no ssh server")
    } else if args.persist {
        Some("the run writes the image itself, into which no key is put")
    } else if args.goal.is_any() && !args.goal.keep {
        Some("the run ends by itself; with `--keep` it goes on")
    } else {
        None
    }
}

/// Makes the run's keys, where there is a use for them. Without ssh-keygen the run goes on without.
pub(super) fn keys(
    args: &Args,
    machine: &Machine,
    run: &RunDirectory,
    context: &Context<'_>,
) -> Result<Option<Login>, CommandError> {
    let has_port = machine.forwards.iter().any(|forward| forward.guest == PORT);
    let why = match why_not(args) {
        Some(why) => why.to_owned(),
        None if !has_port => "the guest has no network of QEMU's; `--net user` gives it one".into(),
        None => {
            let user = context.vars.user.as_ref();
            let made = as_user(user, || login::make_keys(&SystemRunner, run));
            match made.map_err(|error| denied(error, user))? {
                Ok(login) => return Ok(Some(login)),
                Err(error) => format!("its keys could not be made: {error}"),
            }
        }
    };
    login::record(run, &Access::None { why }).map_err(run_error)?;
    Ok(None)
}

/// Records what became of the keys in the guest's disk. Returns the user to log in as.
pub(super) fn installed(
    login: Option<Result<String, CommandError>>,
    run: &RunDirectory,
) -> Result<Option<String>, CommandError> {
    let (access, user) = match login {
        None => return Ok(None),
        Some(Ok(user)) => (Access::Prepared { user: user.clone() }, Some(user)),
        Some(Err(error)) => {
            let why = format!("its key could not be put into the guest's disk: {error}");
            (Access::None { why }, None)
        }
    };
    login::record(run, &access).map_err(run_error)?;
    Ok(user)
}

/// Records the port that leads to the guest, and says how to use it.
pub(super) fn open(
    user: &str,
    port: u16,
    json: bool,
    run: &RunDirectory,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    let access = Access::Open { user: user.to_owned(), port };
    login::record(run, &access).map_err(run_error)?;
    if !json {
        writeln!(context.err, "`kireji ssh` logs in once the guest is up, `kireji cp` copies")?;
    }
    Ok(())
}
