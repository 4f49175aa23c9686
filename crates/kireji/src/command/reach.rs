//! Reaching the guest of a run that goes on, with programs of ssh.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use guest::launch::as_user;
use guest::login::{self, Access, CONFIG};
use guest::qemu::{Family, Part};
use guest::rundir::{self, Run, State};
use host::Program;

use crate::{Code, CommandError, Context, Exit};

use super::run::{denied, run_error};
use super::runs;

/// How long a guest may take to answer where nobody says: a translated processor is slow.
const LIMIT: u64 = 120;
/// How long one attempt may take. QEMU takes a connection before the guest does.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long nothing is done between attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// How often it is told that it is still waited.
const WORD: Duration = Duration::from_secs(5);

/// How long to wait.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Wait {
    /// How long the guest may take to answer: it may still be booting
    #[arg(long, value_name = "SECONDS", default_value_t = LIMIT, value_parser = clap::value_parser!(u64).range(..=super::YEAR))]
    wait: u64,
}

/// Finds a run that goes on: the one that is named, or the last.
pub(super) fn find(name: Option<&str>, context: &Context<'_>) -> Result<Run, CommandError> {
    let base = context.vars.state.join("runs");
    let runs = rundir::list(context.host, &base).map_err(run_error)?;
    let running = runs.into_iter().rfind(|run| name.is_none() && run.state == State::Running);
    let run = running.map_or_else(|| runs::find(name, context), Ok)?;
    if run.state != State::Running {
        let message = format!("run {} does not go on", run.id);
        return Err(CommandError::new(Exit::HostCannot, message).hint("`kireji runs` lists them"));
    }
    Ok(run)
}

/// Waits until the guest of the run answers. Returns what ssh is to be configured by.
pub(super) fn open(
    run: &Run,
    Wait { wait }: Wait,
    context: &mut Context<'_>,
) -> Result<PathBuf, CommandError> {
    let (started, limit) = (Instant::now(), Duration::from_secs(wait));
    let mut told = started;
    loop {
        match login::access(&run.path).map_err(run_error)? {
            Some(Access::None { why }) => {
                let message = format!("nobody can log in to the guest of run {}", run.id);
                return Err(CommandError::new(Exit::HostCannot, message).reason(why));
            }
            Some(Access::Open { port, .. }) if login::answers(port, ATTEMPT) => {
                return Ok(run.path.join(CONFIG));
            }
            _ => {}
        }
        find(Some(&run.id), context)?;
        let waited = started.elapsed();
        if waited >= limit {
            let message = format!("the guest of run {} did not answer within {wait} s", run.id);
            return Err(CommandError::new(Exit::HostCannot, message)
                .reason("no ssh server spoke at the port that leads to the guest")
                .hint("`kireji log` shows what the guest said; `--wait` waits longer"));
        }
        if told.elapsed() >= WORD {
            told = Instant::now();
            writeln!(context.err, "waiting for the guest's ssh server: {} s", waited.as_secs())?;
        }
        thread::sleep(PAUSE);
    }
}

/// Runs a program of ssh's on the terminal, as the user whom the run belongs to; its exit code is
/// passed on.
pub(super) fn attach<A: AsRef<OsStr>>(
    name: &str,
    args: impl IntoIterator<Item = A>,
    context: &Context<'_>,
) -> Result<Code, CommandError> {
    let program = Program::new(name).args(args);
    let user = context.vars.user.as_ref();
    let ended = as_user(user, || host::attach(&program)).map_err(|error| denied(error, user))?;
    let status = ended.map_err(|error| {
        let is_missing = matches!(&error, host::RunError::Start { source, .. }
            if source.kind() == std::io::ErrorKind::NotFound);
        let error = CommandError::from_source(Exit::HostCannot, error);
        let family = Family::read(context.host).ok().filter(|_| is_missing);
        family.into_iter().fold(error, |error, family| error.hint(family.remedy(Part::Ssh)))
    })?;
    // As a shell tells of a program that a signal ended.
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(Code::inner(code.unwrap_or(255)))
}
