//! What a run is to show: the options of the driver loop.

use std::path::PathBuf;
use std::time::Duration;

use guest::guests::{Driver, Goal, Pattern};
use guest::machine::Accelerator;
use haiku::test_run::Test;

use crate::{CommandError, Exit};

use super::super::YEAR;
use super::Args;

/// How long a guest that is to show something may say nothing, where nothing else is said: longer
/// than any pause of a start. A translated processor is slow.
const IDLE: Duration = Duration::from_secs(60);
const IDLE_TRANSLATED: Duration = Duration::from_secs(180);

/// Options of the driver loop.
#[derive(Debug, clap::Args)]
#[command(
    next_help_heading = "Driver loop",
    group(clap::ArgGroup::new("drivers").args(["driver", "jam"]).multiple(true))
)]
pub(super) struct GoalArgs {
    /// Put this driver into the guest's disk, and show that it is loaded and takes the card (can
    /// be repeated)
    #[arg(long, value_name = "FILE")]
    pub(super) driver: Vec<PathBuf>,
    /// Where the driver goes: for a legacy one below `/dev`, else below `drivers`
    #[arg(long = "as", value_name = "CATEGORY/NAME", requires = "drivers")]
    pub(super) place: Option<String>,
    /// Let the boot loader load the driver, as those of disks and buses
    #[arg(long, requires = "drivers")]
    pub(super) boot_driver: bool,
    /// Put a file into the guest's disk (can be repeated)
    #[arg(long, value_name = "SOURCE:DESTINATION", value_parser = put)]
    pub(super) put: Vec<Put>,
    /// Run this program first, with its arguments and without a shell; if it fails, nothing runs
    #[arg(long, value_name = "COMMAND", value_parser = words)]
    pub(super) build: Option<Words>,
    /// A configured checkout of Haiku, or its output directory, for `--jam`; the kernel's symbols
    /// come from it too if its kernel is the guest's
    #[arg(long, value_name = "DIRECTORY", requires = "jam")]
    pub(super) haiku_tree: Option<PathBuf>,
    /// Build this target of the checkout first, an add-on of the kernel, and use it as a driver (can
    /// be repeated)
    #[arg(long, value_name = "TARGET", requires = "haiku_tree", value_parser = target)]
    pub(super) jam: Vec<String>,
    /// The run has passed when a line of the guest's matches this expression
    #[arg(long, value_name = "REGEX")]
    pub(super) until: Option<Pattern>,
    /// The run has failed when a line of the guest's matches this expression (can be repeated)
    #[arg(long, value_name = "REGEX")]
    pub(super) fail: Vec<Pattern>,
    /// Run this command of the shell in the guest once it has booted, and pass if it succeeds; its
    /// output comes back over the serial line
    #[arg(long, value_name = "COMMAND")]
    pub(super) test: Option<String>,
    /// Run again whenever a driver or a file of `--put` has changed, or with `--build` a file below
    /// this directory, or with `--jam` a kernel add-on's source or a header of the checkout; the card is held from the first run to the last
    #[arg(long, conflicts_with_all = ["keep", "dry_run", "persist"])]
    pub(super) watch: bool,
    /// The guest hangs when it says nothing for this long: 60, or 180 without KVM, for a run that
    /// waits for something to be shown
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=YEAR))]
    pub(super) idle_timeout: Option<u64>,
    /// Leave the guest running once its verdict is known
    #[arg(long)]
    pub(super) keep: bool,
    /// Copy a file out of the guest's disk when the run has ended, whatever its end; the system
    /// log comes by itself (can be repeated)
    #[arg(long, value_name = "GUESTPATH[:FILE]")]
    pub(super) get: Vec<String>,
    /// Write the verdict to this file, in the form of JUnit
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
    /// Print the verdict as an annotation of a GitHub workflow; so by itself in one
    #[arg(long)]
    pub(super) github: bool,
}

impl GoalArgs {
    /// Whether drivers are put into the guest's disk.
    pub(super) fn has_drivers(&self) -> bool {
        !self.driver.is_empty() || !self.jam.is_empty()
    }

    /// Whether the run is to show something.
    pub(super) fn is_any(&self) -> bool {
        let Self { until, fail, test, .. } = self;
        self.has_drivers() || until.is_some() || !fail.is_empty() || test.is_some()
    }
}

/// A file to put into the guest's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) source: PathBuf,
    /// From the root of the volume.
    pub(super) destination: String,
}

impl Put {
    /// The same, into a directory that is its destination.
    pub(super) fn in_directory(&self) -> Option<Self> {
        let name = self.source.file_name()?.to_str()?;
        let destination = match &*self.destination {
            "" => name.to_owned(),
            above => format!("{above}/{name}"),
        };
        Some(Self { source: self.source.clone(), destination })
    }
}

/// A command line, cut into words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words(pub(super) Vec<String>);

fn put(text: &str) -> Result<Put, String> {
    let parts = text.split_once(':').filter(|(source, to)| !source.is_empty() && !to.is_empty());
    let (source, destination) = parts.ok_or("SOURCE:DESTINATION takes two paths")?;
    let source = std::path::absolute(source).map_err(|error| error.to_string())?;
    let path = of_volume(destination).to_owned();
    if path.split('/').any(|part| part == "." || part == "..") {
        return Err(
            "DESTINATION begins at the root of the guest's disk, without `.` or `..`".into()
        );
    }
    let put = Put { source, destination: path };
    // A directory, so the file keeps its name.
    match put.destination.is_empty() || destination.ends_with('/') {
        true => put
            .in_directory()
            .ok_or_else(|| "SOURCE has no name that the guest could use".to_owned()),
        false => Ok(put),
    }
}

/// A target of jam; what begins with a dash would be an option of it.
fn target(text: &str) -> Result<String, String> {
    match text.is_empty() || text.starts_with('-') {
        true => Err("it is no target of jam".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// A path of the guest's, from the root of its volume.
pub(super) fn of_volume(path: &str) -> &str {
    path.strip_prefix("/boot")
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        .unwrap_or(path)
        .trim_matches('/')
}

/// Cuts a command line into words as a POSIX shell does without anything special: at blanks, but
/// for those in quotes or after a backslash (2.2, Quoting). Nothing is expanded.
fn words(text: &str) -> Result<Words, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = text.chars();
    while let Some(c) = letters.next() {
        match (quote, c) {
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                let next = letters.next().ok_or("a backslash at its end")?;
                word.get_or_insert_default().push(next);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quotation that does not end".to_owned());
    }
    words.extend(word);
    if words.is_empty() {
        return Err("a program is missing".to_owned());
    }
    Ok(Words(words))
}

/// Refuses options that contradict others.
pub(super) fn check(args: &Args) -> Result<(), CommandError> {
    let goal = &args.goal;
    let writes = goal.has_drivers() || !goal.put.is_empty() || goal.test.is_some();
    let usage = |message| Err(CommandError::new(Exit::Usage, message));
    if writes && args.persist {
        return usage(
            "a run puts drivers and files into an overlay: leave out `--persist`, or use \
                      `kireji driver install`",
        );
    }
    Ok(())
}

/// Returns the goal that the arguments mean.
pub(super) fn goal(
    args: &Args,
    drivers: Vec<Driver>,
    test: Option<Test>,
    accelerator: Accelerator,
    memory_mib: u64,
) -> Goal {
    let GoalArgs { until, fail, idle_timeout, keep, .. } = &args.goal;
    let mut goal = Goal {
        drivers,
        until: until.clone(),
        fail: fail.clone(),
        test,
        idle: idle_timeout.map(Duration::from_secs),
        keep: *keep,
        // Who looks with gdb stops the guest, and looks longer than a run lasts.
        hands_off: args.gdb.is_some(),
        memory: memory_mib << 20,
    };
    // One that nothing is awaited of may be silent, and at a breakpoint for as long as somebody looks.
    if goal.idle.is_none() && goal.awaits_any() && args.gdb.is_none() {
        let is_native = accelerator == Accelerator::Kvm;
        goal.idle = Some(if is_native { IDLE } else { IDLE_TRANSLATED });
    }
    goal
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_command_is_cut_into_words_as_a_shell_does() {
        for (text, expected) in [
            ("make -j4 driver", Ok(&["make", "-j4", "driver"][..])),
            (r#"make CFLAGS="-O2 -g" 'a b'c"#, Ok(&["make", "CFLAGS=-O2 -g", "a bc"])),
            (r"a\ b '' $HOME;x", Ok(&["a b", "", "$HOME;x"])),
            ("  ", Err("a program is missing")),
            ("make 'x", Err("a quotation that does not end")),
            (r"make \", Err("a backslash at its end")),
        ] {
            let expected = expected.map(|words| words.iter().map(ToString::to_string).collect());
            assert_eq!(words(text), expected.map(Words).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn who_looks_with_gdb_has_time() {
        let goal = |words: &[&str]| {
            let words = [&["x.iso", "--until", "x"], words].concat();
            let line = super::super::project::Line::try_parse_from(words).unwrap();
            super::goal(&line.args, Vec::new(), None, Accelerator::Kvm, 1)
        };
        let port = |words: &[&str]| {
            let line = super::super::project::Line::try_parse_from(words);
            line.map(|line| (line.args.gdb, line.args.image.is_some())).ok()
        };
        // What follows is no port.
        assert_eq!(port(&["--gdb", "x.iso"]), Some((Some(1234), true)));
        assert_eq!(port(&["--gdb=0"]), None);
        assert_eq!(goal(&[]).idle, Some(IDLE));
        assert_eq!(goal(&["--gdb"]).idle, None);
        assert_eq!(goal(&["--gdb=1", "--idle-timeout", "9"]).idle, Some(Duration::from_secs(9)));
    }

    #[test]
    fn paths_of_the_guest_are_of_its_volume() {
        for (path, expected) in [
            ("/boot/home/x", "home/x"),
            ("home/x", "home/x"),
            ("/bootstrap/x", "bootstrap/x"),
            ("/boot", ""),
            ("boot", "boot"),
        ] {
            assert_eq!(of_volume(path), expected);
        }
        let put = put("/tmp/a:/boot/home/b").unwrap();
        assert_eq!((put.source, &*put.destination), (PathBuf::from("/tmp/a"), "home/b"));
        for (text, expected) in [
            ("/tmp/a:/boot/home/", Some("home/a")),
            ("/tmp/a:/boot", Some("a")),
            ("/tmp/a:/", Some("a")),
            ("/:/boot/", None),
            ("a:", None),
            ("a:../../x", None),
            ("a:home/./x", None),
        ] {
            let put = super::put(text).ok().map(|put| put.destination);
            assert_eq!(put.as_deref(), expected, "{text}");
        }
    }
}
