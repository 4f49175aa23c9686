//! Taking, returning and recovering cards.

use std::time::Duration;

use host::{Owner, ReadError, Sysroot};
use pci::Address;

use super::lease::{Found, Lease, Leases, SCHEMA, Step};
use super::ledger::Ledger;
use super::node::{self, Node};
use super::restore::Hand;
use super::{
    Binding, Damaged, Held, LeaseError, Purpose, Recipient, RestoreError, Restored, State,
    SysfsWriter, VFIO_PCI,
};

/// How long the last write of a process that died is waited for: what a busy device needs to let go.
const HELPER_PATIENCE: Duration = Duration::from_secs(5);
/// A card could not be taken. Unless the error says otherwise, every function is as it was.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The leases could not be used.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// No function was named.
    #[error("there is no function to take")]
    Nothing,
    /// A function of the card is held under another lease.
    #[error("{address} is already taken")]
    Taken {
        /// The function.
        address: Address,
        /// How its lease stands.
        state: State,
    },
    /// The lease of the card cannot be read, so that nobody knows how the card was.
    #[error("{0}")]
    Damaged(Damaged),
    /// Its lease was ended by another process meanwhile.
    #[error("{address} was returned meanwhile")]
    Gone {
        /// The function.
        address: Address,
    },
    /// Sysfs could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// vfio-pci did not bind, though the kernel reported no error; rolled back.
    #[error("vfio-pci did not bind {address}: it is on {}", got.as_deref().unwrap_or("no driver"))]
    NotBound {
        /// The function.
        address: Address,
        /// The driver that it had after the probe.
        got: Option<String>,
    },
    /// The kernel has no such reset for any function of the card.
    #[error("the kernel has no reset `{method}` for this card")]
    NoSuchReset {
        /// The name of the reset.
        method: String,
    },
    /// A step failed; rolled back.
    #[error("cannot take {address}")]
    Step {
        /// The function.
        address: Address,
        /// What failed.
        #[source]
        source: RestoreError,
    },
    /// A step failed, and so did the way back; the lease stays, for `recover`.
    #[error("cannot take {address}, nor bring it back: {failure}")]
    NotRolledBack {
        /// The function.
        address: Address,
        /// What failed first.
        failure: Box<TakeError>,
        /// What failed on the way back.
        #[source]
        source: RestoreError,
    },
}

impl TakeError {
    /// Whether a write hangs in the kernel.
    pub fn is_hung(&self) -> bool {
        match self {
            Self::Step { source, .. } => source.is_hung(),
            Self::NotRolledBack { failure, source, .. } => source.is_hung() || failure.is_hung(),
            _ => false,
        }
    }
}

impl RestoreError {
    /// Whether a write hangs in the kernel.
    pub fn is_hung(&self) -> bool {
        matches!(self, Self::Write(super::WriteFailure::Hung { .. }))
    }
}

/// What became of a card whose process was gone.
#[derive(Debug)]
pub struct Recovery {
    /// Its lease.
    pub lease: Lease,
    /// What became of each function; or why the lease stays.
    pub outcome: Result<Vec<Restored>, TakeError>,
}

/// Changes who drives a function.
#[derive(Clone, Copy)]
pub struct Keeper<'a> {
    host: &'a Sysroot,
    writer: &'a dyn SysfsWriter,
    patience: Duration,
}

impl std::fmt::Debug for Keeper<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("host", self.host).finish_non_exhaustive()
    }
}

impl<'a> Keeper<'a> {
    /// Returns a keeper that reads `host` and writes through `writer`.
    pub fn new(host: &'a Sysroot, writer: &'a dyn SysfsWriter) -> Self {
        Self { host, writer, patience: HELPER_PATIENCE }
    }

    /// Sets how long the last write of a process that died is waited for.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Returns all leases that can be used.
    ///
    /// # Errors
    /// The leases cannot be listed, or the state of a process not be read.
    pub fn leases(&self) -> Result<Vec<Held>, LeaseError> {
        Ok(Leases::new(self.host).read()?.held)
    }

    /// Returns the files among the leases that cannot be used.
    ///
    /// # Errors
    /// The leases cannot be listed.
    pub fn damaged(&self) -> Result<Vec<Damaged>, LeaseError> {
        Ok(Leases::new(self.host).read()?.damaged)
    }

    /// Takes functions from their drivers and binds them to vfio-pci.
    ///
    /// The caller has checked that nothing is lost by it: this only does it, journalled. After an
    /// error the functions have their first drivers and overrides again.
    ///
    /// # Errors
    /// A function is held already, or the kernel refused or ignored a step.
    pub fn take(&self, functions: &[Address], purpose: Purpose) -> Result<Held, TakeError> {
        self.take_for(functions, purpose, None)
    }

    /// Does the same and gives the device nodes to a user, until the card is given back.
    ///
    /// # Errors
    /// As [`Keeper::take`]; or a node's owner could not be changed.
    pub fn take_for(
        &self,
        functions: &[Address],
        purpose: Purpose,
        user: Option<&Recipient>,
    ) -> Result<Held, TakeError> {
        let taken = self.take_all(&[functions.to_vec()], purpose, user)?;
        taken.into_iter().next().ok_or(TakeError::Nothing)
    }

    /// Does the same for several cards, each under a lease of its own: all of them or none.
    ///
    /// # Errors
    /// As [`Keeper::take_for`], of the first card that could not be taken.
    pub fn take_all(
        &self,
        cards: &[Vec<Address>],
        purpose: Purpose,
        user: Option<&Recipient>,
    ) -> Result<Vec<Held>, TakeError> {
        let mut begun = Vec::new();
        for functions in cards {
            match self.begin(functions, purpose, user) {
                Ok(one) => begun.push(one),
                Err(failure) => return Err(self.undo_all(begun, failure)),
            }
        }
        // Until this is noted, whoever comes after a crash brings the card back.
        let noted = begun.iter_mut().try_for_each(|one| one.ledger.note(&Step::Taken));
        if let Err(error) = noted {
            return Err(self.undo_all(begun, LeaseError::from(error).into()));
        }
        let leases = Leases::new(self.host);
        Ok(begun.into_iter().map(|one| leases.held(one.lease, one.nodes)).collect())
    }

    /// Takes one card, and rolls back if that fails.
    fn begin(
        &self,
        functions: &[Address],
        purpose: Purpose,
        user: Option<&Recipient>,
    ) -> Result<Begun<'a>, TakeError> {
        let leases = Leases::new(self.host);
        let lock = leases.lock()?;
        let Found { held: others, damaged } = leases.read()?;
        for held in &others {
            if let Some(address) = functions.iter().find(|address| held.lease.holds(**address)) {
                return Err(TakeError::Taken { address: *address, state: held.state.clone() });
            }
        }
        if let Some(damaged) = damaged.into_iter().find(|one| one.is_about(functions)) {
            return Err(TakeError::Damaged(damaged));
        }
        let Some(card) = functions.iter().min().copied() else { return Err(TakeError::Nothing) };
        let mut before = Vec::new();
        for address in functions {
            before.push((*address, Binding::read(self.host, *address)?));
        }
        let owner = Owner::current(self.host)?;
        let user = user.cloned();
        let lease = Lease { schema: SCHEMA, card, purpose, owner, user, before };
        let ledger = Ledger::create(&leases, &lock, &lease, self.writer)?;
        // From here on the lease itself keeps others away, from this card alone.
        drop(lock);
        let mut begun = Begun { lease, ledger, nodes: Vec::new() };
        match self.carry_out(&mut begun, &others) {
            Ok(()) => Ok(begun),
            // Every further write to this device would hang as well.
            Err((_, failure)) if failure.is_hung() => Err(failure),
            Err((address, failure)) => match self.undo(begun) {
                Ok(()) => Err(failure),
                Err((gone_wrong, source)) => {
                    let (address, failure) = (gone_wrong.unwrap_or(address), Box::new(failure));
                    Err(TakeError::NotRolledBack { address, failure, source })
                }
            },
        }
    }

    /// The writes of a take; on failure, with the function that it is about.
    fn carry_out(
        &self,
        begun: &mut Begun<'_>,
        others: &[Held],
    ) -> Result<(), (Address, TakeError)> {
        let Begun { lease, ledger, nodes } = begun;
        let mut hand = Hand { host: self.host, ledger };
        for (address, binding) in &lease.before {
            take_one(&mut hand, *address, binding).map_err(|error| (*address, error))?;
        }
        let Some(user) = &lease.user else { return Ok(()) };
        let card = lease.card;
        let functions: Vec<_> = lease.before.iter().map(|(address, _)| *address).collect();
        let owned = node::owned(self.host, &functions).map_err(|error| (card, error.into()))?;
        let owned = with_first_owners(owned, others);
        if let Err(source) = ledger.hand_over(self.host, &owned, user) {
            // Nodes of functions that stay on vfio-pci outlive the lease.
            let source = ledger.take_back(self.host, &owned).err().unwrap_or(source);
            return Err((card, TakeError::Step { address: card, source }));
        }
        *nodes = owned;
        Ok(())
    }

    /// Brings a card back that was just taken; on failure the lease stays.
    fn undo(&self, begun: Begun<'_>) -> Result<(), (Option<Address>, RestoreError)> {
        let Begun { lease, mut ledger, nodes } = begun;
        ledger.take_back(self.host, &nodes).map_err(|source| (None, source))?;
        let mut hand = Hand { host: self.host, ledger: &mut ledger };
        for (address, before) in lease.before.iter().rev() {
            let failed = |source| (Some(*address), source);
            if let Restored::Unwell(why) = hand.restore(*address, before).map_err(failed)? {
                let noted = ledger.note(&Step::Unwell(why.to_string()));
                return Err(failed(noted.err().map_or(why.into(), RestoreError::from)));
            }
        }
        ledger.remove().map_err(|error| (None, error.into()))
    }

    /// Brings back the cards that were taken before one could not be. What fails in this is told
    /// with the failure that led to it.
    fn undo_all(&self, begun: Vec<Begun<'_>>, failure: TakeError) -> TakeError {
        begun.into_iter().rev().fold(failure, |failure, one| {
            let card = one.lease.card;
            match self.undo(one) {
                Ok(()) => failure,
                Err((address, source)) => {
                    let (address, failure) = (address.unwrap_or(card), Box::new(failure));
                    TakeError::NotRolledBack { address, failure, source }
                }
            }
        })
    }

    /// Gives the device nodes of a lease to a user, until the card is given back.
    ///
    /// # Errors
    /// The lease was changed by another process, or a node's owner could not be changed.
    pub fn hand_over(&self, held: &Held, user: &Recipient) -> Result<(), TakeError> {
        let address = held.lease.card;
        let functions: Vec<_> = held.lease.before.iter().map(|(address, _)| *address).collect();
        let leases = Leases::new(self.host);
        let _lock = leases.lock()?;
        let mut others = leases.read()?.held;
        let now = others.iter().position(|now| now.path == held.path);
        match now.map(|index| others.swap_remove(index)) {
            Some(now) if now.state == held.state => {}
            Some(now) => return Err(TakeError::Taken { address, state: now.state }),
            None => return Err(TakeError::Gone { address }),
        }
        let nodes = with_first_owners(node::owned(self.host, &functions)?, &others);
        let mut ledger = Ledger::reopen(&held.path, self.writer)?;
        ledger
            .hand_over(self.host, &nodes, user)
            .map_err(|source| TakeError::Step { address, source })
    }

    /// Lets the kernel reset the functions of a lease in this way only, or in none where `method`
    /// is empty, until they are given back. Functions without the method are left alone.
    ///
    /// # Errors
    /// No function has the method, or the kernel refused.
    pub fn limit_resets(&self, held: &Held, method: &str) -> Result<(), TakeError> {
        let mut ledger = Ledger::reopen(&held.path, self.writer)?;
        let mut hand = Hand { host: self.host, ledger: &mut ledger };
        let has = |binding: &Binding| {
            let methods = binding.resets.as_deref().unwrap_or_default();
            methods.split_whitespace().any(|one| one == method || method.is_empty())
        };
        let mut any = method.is_empty();
        for (address, _) in held.lease.before.iter().filter(|(_, binding)| has(binding)) {
            let address = *address;
            hand.set_resets(address, method)
                .map_err(|source| TakeError::Step { address, source })?;
            any = true;
        }
        if any { Ok(()) } else { Err(TakeError::NoSuchReset { method: method.to_owned() }) }
    }

    /// Gives the functions of a lease back to their former drivers.
    ///
    /// A function that is unwell stays on vfio-pci, and so does its whole card: `also` names what
    /// the caller knows beyond what sysfs shows.
    ///
    /// # Errors
    /// The lease is busy, or the kernel refused or ignored a step; the lease then stays.
    pub fn give_back(
        &self,
        held: &Held,
        also: &[super::Unwell],
    ) -> Result<Vec<Restored>, TakeError> {
        let leases = Leases::new(self.host);
        if matches!(held.state, State::Abandoned | State::HelperAtWork { .. }) {
            leases.wait_for_helper(held, self.patience)?;
        }
        let lock = leases.lock()?;
        let address = held.lease.card;
        let mut others = leases.read()?.held;
        let Some(index) = others.iter().position(|now| now.path == held.path) else {
            return Ok(Vec::new());
        };
        let mut current = others.swap_remove(index);
        let mine = current.lease.owner == Owner::current(self.host)?;
        let refused = match current.state {
            State::Hung { .. } | State::HelperAtWork { .. } => true,
            State::Busy { .. } => !mine,
            State::Held | State::Unwell { .. } | State::Abandoned => false,
        };
        if refused {
            return Err(TakeError::Taken { address, state: current.state });
        }
        let failed = |source| TakeError::Step { address, source };
        let mut ledger = Ledger::reopen(&held.path, self.writer)?;
        let owner = Owner::current(self.host)?;
        ledger.note(&Step::Returning(owner)).map_err(LeaseError::from)?;
        drop(lock);
        // A group's node stays with its user as long as another card of the group does.
        let resting = |one: &&Held| matches!(one.state, State::Held | State::Busy { .. });
        let still: Vec<_> = others.iter().filter(resting).flat_map(|one| &one.nodes).collect();
        current.nodes.retain(|node| still.iter().all(|one| one.path != node.path));
        ledger.take_back(self.host, &current.nodes).map_err(failed)?;
        let sick = self.sick(&current.lease, also)?;
        if let Some(first) = sick.first() {
            ledger.note(&Step::Unwell(first.to_string())).map_err(LeaseError::from)?;
            return Ok(sick.into_iter().map(Restored::Unwell).collect());
        }
        let mut hand = Hand { host: self.host, ledger: &mut ledger };
        let mut restored = Vec::new();
        let mut unwell = None;
        for (address, before) in current.lease.before.iter().rev() {
            let one = hand.restore(*address, before).map_err(failed)?;
            if let Restored::Unwell(why) = &one {
                unwell = Some(Step::Unwell(why.to_string()));
            }
            restored.push(one);
            if unwell.is_some() {
                break;
            }
        }
        match unwell {
            Some(step) => ledger.note(&step),
            None => ledger.remove(),
        }
        .map_err(LeaseError::from)?;
        restored.reverse();
        Ok(restored)
    }

    /// What is wrong with functions that would go back to a native driver.
    fn sick(&self, lease: &Lease, also: &[super::Unwell]) -> Result<Vec<super::Unwell>, TakeError> {
        let native = |binding: &Binding| binding.driver.is_some() && !binding.is_vfio();
        if !lease.before.iter().any(|(_, binding)| native(binding)) {
            return Ok(Vec::new());
        }
        let mut sick = also.to_vec();
        for (address, _) in lease.before.iter().filter(|(_, binding)| native(binding)) {
            match super::unwell(self.host, *address) {
                Ok(found) => sick.extend(found),
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sick)
    }

    /// Restores every card whose process is provably gone, and returns what became of each. One
    /// that cannot be restored is in nobody else's way.
    ///
    /// # Errors
    /// A lease could not be read.
    pub fn recover(&self) -> Result<Vec<Recovery>, LeaseError> {
        let left =
            |held: &Held| matches!(held.state, State::Abandoned | State::HelperAtWork { .. });
        let recover = |held: Held| {
            let outcome = self.give_back(&held, &[]);
            Recovery { lease: held.lease, outcome }
        };
        Ok(self.leases()?.into_iter().filter(left).map(recover).collect())
    }
}

/// A card that was taken, though its lease does not say so yet.
struct Begun<'a> {
    lease: Lease,
    ledger: Ledger<'a>,
    nodes: Vec<Node>,
}

/// The nodes as they were before any lease: of a group, another card may have been given away.
fn with_first_owners(mut nodes: Vec<Node>, others: &[Held]) -> Vec<Node> {
    for node in &mut nodes {
        let mut known = others.iter().flat_map(|held| &held.nodes);
        if let Some(first) = known.find(|known| known.path == node.path) {
            *node = first.clone();
        }
    }
    nodes
}

fn take_one(hand: &mut Hand<'_, '_>, address: Address, before: &Binding) -> Result<(), TakeError> {
    let failed = |source| TakeError::Step { address, source };
    if before.is_vfio() {
        return Ok(());
    }
    hand.set_override(address, Some(VFIO_PCI)).map_err(failed)?;
    if let Some(driver) = &before.driver {
        hand.unbind(address, driver).map_err(failed)?;
    }
    hand.probe(address).map_err(failed)?;
    // `drivers_probe` reports success whether or not a driver bound, so look.
    let now = Binding::read(hand.host, address)?;
    if now.is_vfio() { Ok(()) } else { Err(TakeError::NotBound { address, got: now.driver }) }
}
