//! `kireji lab`: rigs, virtual machines with an IOMMU and cards.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use ::lab::rig::{Rig, SHIPPED};
use ::lab::run::{LabError, Request};
use ::lab::tools::{LAB_DIR_VARIABLE, Tools, ToolsError};
use clap::Subcommand;

use crate::command::run::launcher;
use crate::signals::Signals;
use crate::streams::Narration;
use crate::table::Table;
use crate::{Code, CommandError, Context, Exit};

use super::YEAR;

/// Arguments of `lab`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the rigs that ship with kireji
    List,
    /// Print a shipped rig's description, to begin one of your own with
    Show {
        /// The rig's name
        rig: String,
    },
    /// Run a command in a rig
    ///
    /// The rig is booted from a kernel and an initramfs that holds kireji as `/bin/kireji`, the
    /// command is run in it, its standard input is passed on to it, and so are its output and exit
    /// code. A terminal is not read: that is what `kireji lab shell` is for. A failure of the rig
    /// itself has exit code 90.
    Run(RunArgs),
    /// Give a shell in a rig
    ///
    /// The shell is busybox's. It ends the rig when it ends; Ctrl-] ends both from outside.
    Shell(ShellArgs),
}

#[derive(Debug, clap::Args)]
struct RigArgs {
    /// A shipped rig (see `kireji lab list`) or a TOML file
    #[arg(value_parser = rig_name)]
    rig: String,
    /// Put a file into the rig (can be repeated)
    #[arg(long, value_name = "FILE:PATH", value_parser = put)]
    put: Vec<(PathBuf, String)>,
    /// Boot this kernel rather than the rig's, the lab's or the host's
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    kernel: Option<PathBuf>,
    /// A provisioned lab's directory
    #[arg(long, value_name = "DIRECTORY", env = LAB_DIR_VARIABLE, value_parser = absolute)]
    lab_dir: Option<PathBuf>,
    /// Use KVM rather than emulate the processor
    #[arg(long)]
    kvm: bool,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    #[command(flatten)]
    rig: RigArgs,
    /// Set an environment variable of the command (can be repeated)
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// How long the command may take once the rig is up
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=YEAR))]
    time_limit: Option<u64>,
    /// Keep the kernel's console in this file
    #[arg(long, value_name = "FILE")]
    console: Option<PathBuf>,
    /// Say how long each part took
    #[arg(long)]
    times: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct ShellArgs {
    #[command(flatten)]
    rig: RigArgs,
}

fn put(text: &str) -> Result<(PathBuf, String), String> {
    let (file, path) = text.rsplit_once(':').ok_or("FILE:PATH needs a colon")?;
    if !path.starts_with('/') {
        return Err(format!("the path in the rig, `{path}`, must begin with a slash"));
    }
    let hidden = ["/dev", "/proc", "/run", "/sys", "/tmp"];
    if hidden.iter().any(|dir| std::path::Path::new(path).starts_with(dir)) {
        return Err(format!("`{path}` would be hidden: the rig mounts a file system there"));
    }
    Ok((absolute(file)?, path.to_owned()))
}

/// A file that the user names is relative to where the user is, not to the host's root.
fn absolute(path: &str) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| error.to_string())
}

/// The name of a shipped rig, or the path of a file.
fn rig_name(text: &str) -> Result<String, String> {
    if SHIPPED.iter().any(|shipped| shipped.name == text) || !text.contains(['/', '.']) {
        return Ok(text.to_owned());
    }
    absolute(text).map(|path| path.to_string_lossy().into_owned())
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE needs an equals sign")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs a command of the lab.
///
/// # Errors
/// The rig failed, or the output could not be written.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Code, CommandError> {
    match &args.what {
        What::List => Ok(list(context)?.into()),
        What::Show { rig } => Ok(show(rig, context)?.into()),
        What::Run(args) => run_in(args, context),
        What::Shell(args) => Ok(shell_in(&args.rig, context)?.into()),
    }
}

fn list(context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let mut table = Table::new(["RIG", "WHAT IT IS"]);
    for shipped in SHIPPED {
        let rig = Rig::parse(shipped.name, shipped.text)
            .map_err(|error| failed(error.into(), context))?;
        table.row([shipped.name.to_owned(), rig.description]);
    }
    table.write(context.out, context.width)?;
    Ok(Exit::Done)
}

fn show(name: &str, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let Some(shipped) = SHIPPED.iter().find(|shipped| shipped.name == name) else {
        let unknown = ::lab::rig::RigError::Unknown { name: name.to_owned() };
        return Err(failed(unknown.into(), context));
    };
    write!(context.out, "{}", shipped.text)?;
    Ok(Exit::Done)
}

fn tools(args: &RigArgs, context: &Context<'_>) -> Result<Tools, CommandError> {
    let path = std::env::var_os("PATH");
    Tools::find(context.host, args.lab_dir.as_deref(), &context.vars.cache, path.as_deref())
        .map_err(|error| failed(error.into(), context))
}

fn run_in(args: &RunArgs, context: &mut Context<'_>) -> Result<Code, CommandError> {
    let rig =
        Rig::find(context.host, &args.rig.rig).map_err(|error| failed(error.into(), context))?;
    let tools = tools(&args.rig, context)?;
    let signals = Signals::catch()?;
    let input = std::io::stdin();
    let request = Request {
        rig: &rig,
        tools: &tools,
        program: &context.vars.program,
        launcher: &launcher(context),
        command: &args.command,
        environment: &args.env,
        put: &args.rig.put,
        kernel: args.rig.kernel.as_deref(),
        time_limit: args.time_limit.map(Duration::from_secs),
        kvm: args.rig.kvm,
        console: args.console.as_deref(),
        input: Some(input.as_fd()).filter(|_| !input.is_terminal()),
        cancel: Some(signals.as_fd()),
    };
    // Not the context's streams: they take colours away where there is no terminal, and what the
    // command writes is to arrive byte by byte.
    let (mut out, mut err) = (std::io::stdout(), Narration::new(std::io::stderr()));
    let ended = ::lab::run::run(context.host, context.runner, request, &mut out, &mut err);
    let ended = match ended {
        // Nobody reads what the command writes, which ends a command outside of a rig too.
        Err(LabError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            return Ok(Exit::Done.into());
        }
        other => other.map_err(|error| failed(error, context))?,
    };
    if args.times {
        let times = ended.times;
        let parts = [
            ("prepare", times.prepare),
            ("boot", times.boot),
            ("ready", times.ready),
            ("command", times.command),
        ];
        for (name, time) in parts {
            writeln!(context.err, "{name:<8} {:>7.2} s", time.as_secs_f32())?;
        }
    }
    Ok(Code::inner(ended.code))
}

fn shell_in(args: &RigArgs, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let rig = Rig::find(context.host, &args.rig).map_err(|error| failed(error.into(), context))?;
    let tools = tools(args, context)?;
    let signals = Signals::catch()?;
    let terminal = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
    let request = Request {
        rig: &rig,
        tools: &tools,
        program: &context.vars.program,
        launcher: &launcher(context),
        command: &["/bin/sh".to_owned(), "-l".to_owned()],
        environment: &[("TERM".to_owned(), terminal)],
        put: &args.put,
        kernel: args.kernel.as_deref(),
        time_limit: None,
        kvm: args.kvm,
        console: None,
        input: None,
        cancel: Some(signals.as_fd()),
    };
    writeln!(context.err, "Booting the rig {}. Ctrl-] ends it.", rig.name)?;
    let (input, mut output) = (std::io::stdin(), std::io::stdout());
    ::lab::shell::shell(context.host, context.runner, request, input.as_fd(), &mut output)
        .map_err(|error| failed(error, context))?;
    Ok(Exit::Done)
}

/// What helps where a lab lacks a part.
const PROVISION: &str =
    "`cargo xtask provision`, in kireji's own source tree, makes a lab with a kernel and a QEMU";

fn failed(error: LabError, context: &Context<'_>) -> CommandError {
    let exit = match &error {
        LabError::Rig(_) | LabError::NoCommand => Exit::Usage,
        LabError::Cancelled => Exit::Interrupted,
        LabError::Tools(_)
        | LabError::NoToolsDisk { .. }
        | LabError::NoDevice { .. }
        | LabError::Launch(_) => Exit::Qemu,
        LabError::Output(source) if source.kind() == std::io::ErrorKind::StorageFull => {
            Exit::NoSpace
        }
        _ => Exit::Rig,
    };
    let hints = match &error {
        LabError::NoToolsDisk { rig } => vec![
            "`cargo xtask provision`, in kireji's own source tree, makes a lab with that disk where \
             it is found by itself"
                .to_owned(),
            format!("`--lab-dir` or {LAB_DIR_VARIABLE} names a lab that is elsewhere"),
            format!(
                "without guests in the rig it needs no disk: `kireji lab show {rig} | grep -v \
                 '^qemu' > mine.toml`, then `kireji lab run ./mine.toml -- COMMAND`"
            ),
        ],
        LabError::Tools(ToolsError::NoQemu { .. }) => {
            let remedy = guest::qemu::Family::read(context.host);
            let remedy = remedy.map(|family| family.remedy(guest::qemu::Part::System));
            let provision = "or, in kireji's own source tree, `cargo xtask provision`".to_owned();
            remedy.into_iter().chain([provision]).collect()
        }
        LabError::Tools(_) => vec![PROVISION.to_owned()],
        LabError::Kernel(error) => {
            let own = error.hint().or_else(|| Some("name a kernel with `--kernel`".to_owned()));
            own.into_iter().chain([format!("or {PROVISION}")]).collect()
        }
        LabError::NoDevice { .. } => {
            vec!["a newer QEMU has it; `--lab-dir` can name another one".to_owned()]
        }
        _ => Vec::new(),
    };
    hints.into_iter().fold(CommandError::from_source(exit, error), CommandError::hint)
}
