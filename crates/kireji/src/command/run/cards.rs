//! The cards of a run: chosen before anything is changed, taken, and given back at the end.

use std::collections::BTreeMap;

use guest::launch::{User, as_user};
use guest::machine::{Card, Function as Passed, Rom, RomFile};
use pci::{Address, Function, Host, Region, RegionKind};
use vfio::take::{Binding, Held, Keeper, Purpose, Recipient};

use crate::command::{outcome, recover, refuse, take};
use crate::{CommandError, Context, Exit};

use super::checks::{self, denied};
use super::inhibit::Inhibitor;
use super::record::{Ended, Record, Said, Told};
use super::{Args, guarded, leased, rom};

/// The cards that a guest gets.
#[derive(Debug, Default)]
pub(super) struct Cards {
    /// As QEMU is told of them.
    pub(super) cards: Vec<Card>,
    /// Those that this run takes, if it may.
    functions: Vec<Address>,
    /// Those that were taken before, by their leases.
    leased: Vec<Held>,
}

/// Cards that are to be given back.
#[must_use = "the cards must be given back"]
#[derive(Default)]
pub(super) struct Taken {
    held: Option<Held>,
    _inhibitor: Option<Inhibitor>,
}

/// Chooses the functions of the cards that were named, if nothing forbids giving them away.
pub(super) fn select(args: &Args, context: &mut Context<'_>) -> Result<Cards, CommandError> {
    if args.device.is_empty() {
        return Ok(Cards::default());
    }
    if !args.dry_run && context.vars.is_root {
        recover::first(context)?;
    }
    let host = Host::read(context.host)?;
    let (leased, named) = leased::split(args, context)?;
    let mut all: Vec<Address> = leased.iter().flat_map(|one| one.functions.clone()).collect();
    let functions = if named.is_empty() {
        Vec::new()
    } else {
        refuse::check(context, &host, &named, &args.allowed)?
    };
    all.extend(&functions);
    if !args.dry_run && !context.vars.is_root {
        for address in &functions {
            if !Binding::read(context.host, *address)?.is_vfio() {
                crate::command::need_root(context)?;
            }
        }
        leased::may_open(context, &all)?;
    }
    // Under `--watch` it was taken before the first round.
    let takes = args.goal.watch || !functions.is_empty();
    if args.reset.is_some() && !(takes && (context.vars.is_root || args.dry_run)) {
        return Err(checks::none_to_limit());
    }
    if !functions.is_empty() {
        checks::reset(context.host, args.reset, &functions)?;
    }
    let mut cards: BTreeMap<Address, Vec<Address>> = BTreeMap::new();
    for address in &all {
        // A user may not read what makes up a card, but those of a device number always go together.
        let device = || address.with_function(0).unwrap_or(*address);
        let name = host.card(*address).known().map_or_else(device, |card| card.address());
        cards.entry(name).or_default().push(*address);
    }
    let cards = cards
        .into_values()
        .map(|functions| card(args, context, &host, &functions))
        .collect::<Result<_, _>>()?;
    let leased = leased.into_iter().map(|one| one.held).collect();
    Ok(Cards { cards, functions, leased })
}

fn card(
    args: &Args,
    context: &Context<'_>,
    host: &Host,
    functions: &[Address],
) -> Result<Card, CommandError> {
    let mut passed = Vec::new();
    let mut express = false;
    for function in functions.iter().filter_map(|address| host.function(*address)) {
        // The port above may tell what the function itself cannot be asked.
        express |= function.is_express(context.host)?.known() == Some(&true)
            || host.is_below_port(function.address).known() == Some(&true);
        let regions = Region::read_all(context.host, function.address)?;
        let has_rom = regions.iter().any(|region| region.kind == RegionKind::Rom);
        // A ROM file is for the function that has a ROM of its own, or else for the first.
        let takes_file = has_rom || passed.is_empty();
        let rom_file = args.romfile.as_ref().filter(|_| takes_file);
        passed.push(Passed {
            address: function.address,
            class: function.class,
            rom: match rom_file {
                Some(path) => {
                    let user = context.vars.user.as_ref();
                    as_user(user, || rom::of_file(path)).map_err(|error| denied(error, user))??
                }
                None if has_rom => Rom::Unmeasured,
                None => Rom::Absent,
            },
            rom_file: rom_file.cloned().map(RomFile::File),
            character_device: None,
        });
    }
    Ok(Card { functions: passed, express })
}

impl Cards {
    /// Takes the cards, unless vfio-pci has them already.
    pub(super) fn take(
        &mut self,
        args: &Args,
        context: &mut Context<'_>,
        user: Option<&User>,
        record: &mut Record,
    ) -> Result<Taken, CommandError> {
        if self.cards.is_empty() {
            return Ok(Taken::default());
        }
        let keeper = Keeper::new(context.host, context.writer);
        let user = user.map(|user| Recipient { name: None, uid: user.uid, gid: user.gid });
        let inhibitor = Inhibitor::start(context.host).and_then(|started| {
            started
                .map_err(|error| {
                    writeln!(
                        context.err,
                        "WARNING: nothing keeps this host from going to sleep: {error}"
                    )
                })
                .ok()
        });
        let mut taken = Taken { held: None, _inhibitor: inhibitor };
        if !self.functions.is_empty() && context.vars.is_root {
            take::load_vfio(context)?;
            let held = keeper.take_for(&self.functions, Purpose::Run, user.as_ref());
            taken.held = Some(held.map_err(outcome::take_error)?);
            record.tell(&Told::Taken { functions: &self.functions }, context);
        }
        if let (true, Some(user)) = (context.vars.is_root, &user) {
            for held in &self.leased {
                if let Err(error) = keeper.hand_over(held, user) {
                    let error = Err(outcome::take_error(error));
                    return taken.give_back(error, record, context).map(|_| Taken::default());
                }
            }
        }
        match guarded(|| self.prepare(args, context, taken.held.as_ref())) {
            Ok(()) => Ok(taken),
            Err(error) => taken.give_back(Err(error), record, context).map(|_| Taken::default()),
        }
    }

    /// Makes taken cards ready for QEMU: the way they may be reset, how they are opened, and what
    /// the ROMs of display cards can do.
    fn prepare(
        &mut self,
        args: &Args,
        context: &Context<'_>,
        held: Option<&Held>,
    ) -> Result<(), CommandError> {
        let keeper = Keeper::new(context.host, context.writer);
        if let (Some(held), Some(reset)) = (held, args.reset) {
            keeper.limit_resets(held, reset.name()).map_err(|error| {
                outcome::take_error(error)
                    .hint("`kireji show` lists the resets that the kernel has")
            })?;
        }
        // With the group interface, a kernel has /dev/vfio/vfio; without it, each function has a
        // character device of its own.
        let by_group = context.host.exists("/dev/vfio/vfio");
        for function in self.cards.iter_mut().flat_map(|card| &mut card.functions) {
            let path = format!("{}/vfio-dev", Function::path(function.address));
            let names = context.host.optional_names(path)?;
            if let (false, Some(name)) = (by_group, names.first()) {
                function.character_device = Some(format!("/dev/vfio/devices/{name}").into());
            }
        }
        let functions = self.cards.iter_mut().flat_map(|card| &mut card.functions);
        for passed in functions.filter(|passed| passed.class.is_display()) {
            if passed.rom == Rom::Unmeasured {
                let function = Function::read(context.host, passed.address)?;
                passed.rom = rom::of_card(context.host, &function);
            }
        }
        Ok(())
    }
}

impl Cards {
    /// The functions of the host that the guest gets.
    pub(super) fn functions(&self) -> Vec<Address> {
        let functions = self.cards.iter().flat_map(|card| &card.functions);
        functions.map(|function| function.address).collect()
    }
}

impl Taken {
    /// Gives the cards back, whatever became of the run.
    pub(super) fn give_back(
        self,
        ended: Ended,
        record: &mut Record,
        context: &mut Context<'_>,
    ) -> Ended {
        let Some(held) = &self.held else { return ended };
        let keeper = Keeper::new(context.host, context.writer);
        let restored = match keeper.give_back(held, &[]) {
            Ok(restored) => restored,
            Err(error) => {
                let error =
                    outcome::take_error(error).hint("the lease stays: `kireji return` tries again");
                if let Err(first) = ended {
                    first.report(context.err);
                }
                return Err(error);
            }
        };
        for one in &restored {
            record.tell_restored(one, context);
            writeln!(context.err, "{}", outcome::restored_in_words(one))?;
        }
        match outcome::restored_exit(&restored) {
            Exit::Done => ended,
            fault => ended.map(|said| {
                let words = format!("{} The card is unwell.", said.words);
                Said { exit: fault, words, ..said }
            }),
        }
    }
}
