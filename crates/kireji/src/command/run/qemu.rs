//! The QEMU of a run, asked as whoever it will run as.

use guest::launch::AsUser;
use guest::machine::PlanError;
use guest::qemu::{self, Cache, Capabilities, Family, Part, QemuError};
use host::Runner;

use crate::{CommandError, Context, Exit, user};

use super::{Args, request, session, window};

/// Calls `ask` with what runs programs as the user whom QEMU will belong to.
pub(in crate::command) fn with_runner<T>(
    context: &Context<'_>,
    ask: impl FnOnce(&dyn Runner) -> T,
) -> T {
    let Some(user) = &context.vars.user else { return ask(context.runner) };
    let kept = |name: &str| std::env::var(name).ok();
    let mut environment = window::environment(context.host, user, &kept);
    if let Some(path) = user::path_of_sudo(context.host, user.uid) {
        environment.insert("PATH".to_owned(), Some(path));
    }
    let launcher = session::launcher(context);
    let runner = context.runner;
    ask(&AsUser { runner, launcher: &launcher, user, environment: &environment })
}

/// Finds QEMU, and what it can do.
pub(super) fn capabilities(
    args: &Args,
    context: &Context<'_>,
) -> Result<(Capabilities, Cache), CommandError> {
    let cache = Cache {
        directory: context.vars.cache.join("qemu"),
        writable: !args.dry_run && context.vars.may_keep(&context.vars.cache),
        owner: context.vars.user.clone(),
    };
    if let Some(file) = &args.qemu_caps {
        let loaded = Capabilities::load(file);
        let loaded = loaded.map_err(|error| CommandError::from_source(Exit::Qemu, error))?;
        return Ok((loaded, cache));
    }
    let explicit = args.qemu.as_deref().or(context.vars.qemu.as_deref());
    let path = std::env::var_os("PATH");
    let executable = qemu::locate(explicit, path.as_deref());
    let executable = executable.map_err(|error| failed(error, context, explicit.is_some()))?;
    let asked = with_runner(context, |runner| cache.capabilities(runner, &executable));
    let capabilities = asked.map_err(|error| failed(error, context, explicit.is_some()))?;
    Ok((capabilities, cache))
}

fn failed(error: QemuError, context: &Context<'_>, is_named: bool) -> CommandError {
    let hint = match is_named {
        true => Some("check `--qemu`, or the variable KIREJI_QEMU".to_owned()),
        false => Family::read(context.host).ok().map(|family| family.remedy(Part::System)),
    };
    hint.into_iter().fold(CommandError::from_source(Exit::Qemu, error), CommandError::hint)
}

/// The error of a machine that cannot be planned, with what helps.
pub(super) fn plan_error(error: PlanError, context: &Context<'_>) -> CommandError {
    let remedy = |part| Family::read(context.host).ok().map(|family| family.remedy(part));
    let hint = match &error {
        PlanError::UnknownModel { similar, .. } if similar.is_empty() => {
            Some("`qemu-system-x86_64 -device help` lists what it has".to_owned())
        }
        PlanError::UnknownModel { similar, .. } => Some(format!("it has {}", similar.join(", "))),
        PlanError::Unfit { part: Some(part), .. } => remedy(*part),
        PlanError::Unfit { part: None, .. } => {
            Some("leave out what it has not got, or name another QEMU with `--qemu`".to_owned())
        }
        PlanError::NoUefi => remedy(Part::Uefi),
        _ => None,
    };
    let error = CommandError::from_source(request::exit(&error), error);
    hint.into_iter().fold(error, CommandError::hint)
}
