//! Whether a card may be given away: pure functions from facts to reasons why not.
//!
//! Each reason names the way from the function to what would be lost. What would decide but could
//! not be measured is a reason too; nothing is guessed.

mod code;
mod display;
mod explain;
pub(crate) mod network;
mod select;
pub(crate) mod storage;

#[cfg(test)]
mod tests;

pub use code::{Allow, Code, ParseAllowError, ParseCodeError};
pub use display::headless;
pub use explain::Explanation;
pub use select::{Selection, Target, select};

use std::collections::BTreeMap;

use ::host::Measured;
use serde::Serialize;

use crate::uses::{InputKind, Uses};
use crate::{Address, Function, Holder, Holders, Host};

/// How a refusal is overridden.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Overriding {
    /// In no way: what is in the way must go first.
    Never,
    /// By allowing its code.
    Code,
    /// By allowing the loss of the data on one disk.
    DataLoss {
        /// The disk's serial number.
        serial: String,
    },
    /// By naming the other cards too, or the whole group.
    Naming,
    /// By insisting on the unbinding.
    ForceUnbind,
}

/// A reason why a card is not given away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// What kind of reason it is.
    pub code: Code,
    /// The function that it is about.
    pub function: Address,
    /// The way from the function to what would be lost, or what could not be measured: one line.
    pub reason: String,
    /// How it is overridden.
    pub overriding: Overriding,
}

impl Refusal {
    /// Returns a refusal that is overridden by its code, or else not at all.
    fn new(code: Code, function: Address, reason: String) -> Self {
        let overriding = if code.is_allowable() { Overriding::Code } else { Overriding::Never };
        Self { code, function, reason, overriding }
    }

    fn overridden(mut self, overriding: Overriding) -> Self {
        self.overriding = overriding;
        self
    }

    /// The option of the command line that overrides it.
    pub fn option(&self) -> Option<String> {
        match &self.overriding {
            Overriding::Never => None,
            Overriding::Code => Some(format!("--allow {}", self.code)),
            Overriding::DataLoss { serial } => Some(format!("--allow data-loss={serial}")),
            Overriding::Naming => Some("--with-group".to_owned()),
            Overriding::ForceUnbind => Some("--force-unbind".to_owned()),
        }
    }
}

/// What a person allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The values of `--allow`.
    pub allow: Vec<Allow>,
    /// Whether a display may be taken from its native driver.
    pub force_unbind: bool,
}

impl Options {
    fn allow(&self, refusal: &Refusal) -> bool {
        match &refusal.overriding {
            Overriding::Never | Overriding::Naming => false,
            Overriding::Code => self.allow.contains(&Allow::Code(refusal.code)),
            Overriding::DataLoss { serial } => {
                self.allow.contains(&Allow::DataLoss(serial.clone()))
            }
            Overriding::ForceUnbind => self.force_unbind,
        }
    }
}

/// What stands against giving functions away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What forbids it.
    pub refused: Vec<Refusal>,
    /// What would forbid it, and was allowed.
    pub allowed: Vec<Refusal>,
}

impl Verdict {
    /// Whether nothing forbids it.
    pub fn is_free(&self) -> bool {
        self.refused.is_empty()
    }
}

/// Judges whether the selected functions may be given away.
///
/// `holders` is `None` where it is only asked what would be lost, and not whether now is the time.
pub fn judge(
    host: &Host,
    selection: &Selection,
    uses: &Uses,
    holders: Option<&Holders>,
    options: &Options,
) -> Verdict {
    let case = Case { host, functions: &selection.functions, uses };
    let mut refusals = selection.refusals.clone();
    refusals.extend(case.function_refusals());
    refusals.extend(storage::refusals(&case));
    refusals.extend(display::refusals(&case));
    refusals.extend(network::refusals(&case));
    refusals.extend(case.keyboard_refusals());
    refusals.extend(holders.into_iter().flat_map(|holders| case.holder_refusals(holders)));
    refusals.sort_by_key(|refusal| (refusal.code, refusal.function));
    let (allowed, refused) = refusals.into_iter().partition(|refusal| options.allow(refusal));
    Verdict { refused, allowed }
}

/// The facts of one case.
struct Case<'a> {
    host: &'a Host,
    /// The functions that would be given away.
    functions: &'a [Address],
    uses: &'a Uses,
}

impl Case<'_> {
    /// Returns the function through which a device would be lost, given those that it needs.
    fn lost_with(&self, needed: &[Address]) -> Option<Address> {
        needed.iter().copied().find(|function| self.functions.contains(function))
    }

    /// Returns the functions that would be given away and are not yet.
    fn taken(&self) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter_map(|address| self.host.function(*address))
    }

    fn function_refusals(&self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for function in self.taken() {
            let address = function.address;
            if function.group.is_none() {
                let reason = format!("{address} is in no IOMMU group");
                refusals.push(Refusal::new(Code::NoGroup, address, reason));
            }
            let virtual_functions = self.host.virtual_functions(address);
            if let Some(first) = virtual_functions.first() {
                let reason = match virtual_functions.len() {
                    1 => format!("{address} → virtual function {first}"),
                    count => format!("{address} → {count} virtual functions from {first} on"),
                };
                refusals.push(Refusal::new(Code::VirtualFunctions, address, reason));
            }
        }
        refusals
    }

    fn keyboard_refusals(&self) -> Vec<Refusal> {
        let inputs = match &self.uses.inputs {
            Measured::Known(inputs) => inputs,
            Measured::Unmeasured { unmeasured } => {
                let controllers = self.taken().filter(|function| function.class.is_usb());
                return controllers
                    .map(|function| {
                        unmeasured_fact(function.address, "whether the last keyboard", unmeasured)
                    })
                    .collect();
            }
        };
        let keyboards = inputs.iter().filter(|input| input.kind == InputKind::Keyboard);
        let (lost, remaining): (Vec<_>, Vec<_>) =
            keyboards.partition(|keyboard| self.lost_with(&keyboard.functions).is_some());
        if !remaining.is_empty() {
            return Vec::new();
        }
        // One reason for each controller, with the first keyboard on it.
        let mut refusals = BTreeMap::new();
        for keyboard in lost {
            if let Some(function) = self.lost_with(&keyboard.functions) {
                refusals.entry(function).or_insert_with(|| {
                    let reason = format!("{function} → {}", keyboard.name);
                    Refusal::new(Code::LastKeyboard, function, reason)
                });
            }
        }
        refusals.into_values().collect()
    }

    fn holder_refusals(&self, holders: &Holders) -> Vec<Refusal> {
        let mut by_process: BTreeMap<(u32, bool), Vec<&Holder>> = BTreeMap::new();
        for holder in &holders.found {
            if self.functions.contains(&holder.function) {
                by_process.entry((holder.pid, holder.is_vfio)).or_default().push(holder);
            }
        }
        let mut refusals = Vec::new();
        for ((pid, is_vfio), held) in by_process {
            let Some(first) = held.first() else { continue };
            let more = match held.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            let Holder { function, node, command, .. } = first;
            let reason = format!("{function} → {node}{more} → {command} (pid {pid})");
            let code = if is_vfio { Code::VfioInUse } else { Code::InUse };
            refusals.push(Refusal::new(code, *function, reason));
        }
        if holders.unseen > 0
            && let Some(function) = self.functions.first()
        {
            let why = format!("{} processes can be looked into by root only", holders.unseen);
            refusals.push(unmeasured_fact(*function, "whether a process has it open", &why));
        }
        refusals
    }
}

/// A fact that decides and could not be measured.
fn unmeasured_fact(function: Address, fact: &str, why: &str) -> Refusal {
    Refusal::new(Code::Unmeasured, function, format!("{function}: {fact} is unmeasured: {why}"))
}
