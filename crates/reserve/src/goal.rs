//! From what shall be reserved to a plan.

use std::path::PathBuf;

use host::modules::{Modules, ModulesError};
use host::{ReadError, Sysroot};

use crate::boot::{Boot, Builder, Clue, Kernel, Loader, Verdict};
use crate::by_hand::Adoption;
use crate::config::{Change, words};
use crate::generator::{self, Generator};
use crate::parameters::{self, ParameterError};
use crate::plan::{Contents, Knowledge, Plan};
use crate::reservation::{self, Reservations};
use crate::trial::{self, TrialError};

/// The module that has what is reserved.
const VFIO_PCI: &str = "vfio_pci";

/// The parameters that were added for what is reserved, a word a line: they go with the last
/// reservation.
const PARAMETERS: &str = "/etc/kireji/parameters";

/// What shall be so at the next boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Goal {
    /// What shall be reserved.
    pub reservations: Reservations,
    /// How kernel parameters shall change: what is added is there as long as anything is reserved.
    pub parameters: Change,
    /// What is taken over from.
    pub adoption: Adoption,
}

impl Goal {
    /// The goal that a host has just these reservations, and the parameters that are `needed` for
    /// them beside those that were added before. Without reservations, the latter are taken out.
    ///
    /// # Errors
    /// What was added before cannot be read.
    pub fn of(
        host: &Sysroot,
        reservations: Reservations,
        needed: Change,
    ) -> Result<Self, ReadError> {
        let added = host.optional_text(PARAMETERS)?.unwrap_or_default();
        let added: Vec<_> = words::split(&added).into_iter().map(str::to_owned).collect();
        let parameters = if reservations.functions.is_empty() {
            Change::remove(added)
        } else {
            let more = needed.add.into_iter().filter(|word| !added.contains(word));
            let remove = needed.remove;
            Change { add: added.iter().cloned().chain(more).collect(), remove }
        };
        Ok(Self { reservations, parameters, adoption: Adoption::default() })
    }

    /// The same goal with what reserves by hand gone.
    #[must_use]
    pub fn adopting(mut self, adoption: Adoption) -> Self {
        self.parameters.remove.extend(adoption.words.iter().cloned());
        self.adoption = adoption;
        self
    }
}

/// There is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A file cannot be read.
    #[error("what this host boots with cannot be read")]
    Read(#[from] ReadError),
    /// The images contradict each other about who built them.
    #[error("the images of this host were built by several generators")]
    Disagreed {
        /// What each image says.
        clues: Vec<Clue<Builder>>,
    },
    /// Several boot loaders seem to have started this system.
    #[error("several boot loaders seem to have started this system")]
    Loaders {
        /// What says so.
        clues: Vec<Clue<Loader>>,
    },
    /// It is not known who builds the images.
    #[error("which generator builds the images of this host is unmeasured: {why}")]
    Unmeasured {
        /// Why.
        why: String,
    },
    /// There is no backend for the generator.
    #[error("images of {0} are not changed by kireji yet")]
    Unsupported(Builder),
    /// No kernel is installed below `/lib/modules`.
    #[error("no kernel with modules is installed")]
    NoKernel,
    /// A kernel has no vfio-pci.
    #[error("kernel {release} has no vfio-pci")]
    NoModule {
        /// Its release.
        release: String,
        /// What was looked at.
        #[source]
        source: Option<ModulesError>,
    },
    /// The commands that build the images again cannot be told.
    #[error("how the images are built again is not known: {0}")]
    Rebuild(String),
    /// The kernel's parameters cannot be changed.
    #[error("the kernel's parameters cannot be changed")]
    Parameters(#[from] ParameterError),
    /// There is no trial boot.
    #[error(transparent)]
    Trial(#[from] TrialError),
}

/// Returns who builds the images of this host.
///
/// # Errors
/// It is not known, contradictory, or has no backend.
pub fn generator(boot: &Boot) -> Result<&'static dyn Generator, PlanError> {
    match &boot.builder {
        Verdict::Agreed { says, .. } => generator::of(*says).ok_or(PlanError::Unsupported(*says)),
        Verdict::Disagreed { clues } => Err(PlanError::Disagreed { clues: clues.clone() }),
        Verdict::Unmeasured { why } => Err(PlanError::Unmeasured { why: why.clone() }),
    }
}

/// Plans how a host gets to a goal. Where it is there already, the plan is empty.
///
/// # Errors
/// There is none, and why.
pub fn plan(host: &Sysroot, boot: &Boot, goal: &Goal) -> Result<Plan, PlanError> {
    let generator = generator(boot)?;
    if let Verdict::Disagreed { clues } = &boot.loader {
        return Err(PlanError::Loaders { clues: clues.clone() });
    }
    if boot.kernels.is_empty() {
        return Err(PlanError::NoKernel);
    }
    let text = goal.reservations.text();
    let mut plan = Plan::default();
    let is_wanted = text.is_some();
    if is_wanted {
        for kernel in &boot.kernels {
            needed_modules(host, kernel)?;
        }
    }
    plan.file(host, reservation::PATH, text.map(Contents::text))?;
    let added = &goal.parameters.add;
    let added = (is_wanted && !added.is_empty()).then(|| added.join("\n") + "\n");
    let list_only = plan.files.len();
    plan.file(host, PARAMETERS, added.map(Contents::text))?;
    let remembered = plan.files.len() - list_only;
    for (path, contents) in generator.files() {
        plan.file(host, path, Some(contents).filter(|_| is_wanted))?;
    }
    goal.adoption.plan(host, &mut plan)?;
    // What is remembered of parameters is in no image.
    let mut is_stale = plan.files.len() > remembered;
    plan.known(Knowledge::of(generator.builder(), generator.confidence()));
    // In a trial, the entry that is started once has the parameters, and no other.
    let trial = goal.reservations.trial.as_deref().filter(|_| is_wanted);
    if !goal.parameters.is_empty() && trial.is_none() {
        is_stale |= parameters::plan(host, boot, &goal.parameters, &mut plan)?;
    }
    // The boot loader forgets a trial by itself; it is told anew only with a new list.
    if trial.is_none() || is_stale {
        trial::plan(host, boot, trial, &goal.parameters, &mut plan)?;
    }
    if is_stale {
        let build = || generator.rebuild(host, boot);
        let commands = boot.placer.commands(host, &boot.kernels, build);
        plan.commands.splice(0..0, commands.map_err(PlanError::Rebuild)?);
        if let Some(known) = boot.placer.knowledge() {
            plan.known(known);
        }
    }
    Ok(plan)
}

/// Reads the modules of a kernel, and sees that vfio-pci is one of them or built in.
fn modules(host: &Sysroot, kernel: &Kernel) -> Result<Modules, PlanError> {
    let release = &kernel.release;
    let missing = |source| PlanError::NoModule { release: release.clone(), source };
    let directory = ["/lib/modules", "/usr/lib/modules"]
        .map(|modules| PathBuf::from(format!("{modules}/{release}")))
        .into_iter()
        .find(|directory| host.exists(directory.join("modules.dep")))
        .unwrap_or_default();
    let modules = Modules::read(host, &directory).map_err(|error| missing(Some(error)))?;
    if modules.has(VFIO_PCI) { Ok(modules) } else { Err(missing(None)) }
}

/// The modules that a kernel has to load for vfio-pci, by name; none where it is built in.
///
/// # Errors
/// The index of its modules cannot be read, or has no vfio-pci.
pub(crate) fn needed_modules(host: &Sysroot, kernel: &Kernel) -> Result<Vec<String>, PlanError> {
    Ok(modules(host, kernel)?.hard_closure(VFIO_PCI))
}
