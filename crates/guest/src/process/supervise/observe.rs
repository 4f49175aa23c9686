//! The observer of a guest: what it is told, and what it has done.

use std::io::Write;
use std::time::Instant;

use super::{Loop, Measure, Waiting};
use crate::guests::{Action, Fact, Wish};
use crate::process::{Ending, Event, GuestEnd};

impl Loop<'_, '_> {
    /// Lets the observer see what has come over the serial line.
    pub(super) fn follow(&mut self) {
        let Some(follow) = &mut self.follow else { return };
        let signs = follow.turn();
        let ms = self.ms(Instant::now());
        for sign in signs {
            (self.notice)(Event::Sign { sign, ms });
        }
    }

    /// Tells the observer something, and others what it makes of it.
    pub(super) fn learn(&mut self, fact: &Fact) {
        let Some(follow) = &mut self.follow else { return };
        let signs = follow.observer().learn(fact);
        let ms = self.ms(Instant::now());
        for sign in signs {
            (self.notice)(Event::Sign { sign, ms });
        }
    }

    pub(super) fn read_host_log(&mut self) {
        let Some(log) = &mut self.rules.host_log else { return };
        match log.read() {
            Ok(lines) => {
                for line in lines {
                    self.learn(&Fact::Host(line));
                }
            }
            // A log that cannot be read any more would be ready for ever.
            Err(_) => self.rules.host_log = None,
        }
    }

    /// Tells what the run means so far.
    fn conclude(&mut self) {
        let Some(follow) = &mut self.follow else { return };
        let verdict = follow.observer().judge(GuestEnd::Decided);
        let ms = self.ms(Instant::now());
        (self.notice)(Event::Concluded { verdict, ms });
    }

    /// Does what the observer wants, as long as the guest runs.
    pub(super) fn act(&mut self) {
        self.next_act = None;
        let Some(up) = self.qemu.stages.up() else { return };
        if self.measure != Measure::None || !self.is_connected {
            return;
        }
        let Some(follow) = &mut self.follow else { return };
        let Wish { actions, again } = follow.observer().act(up.elapsed());
        self.next_act = again.and_then(|again| up.checked_add(again));
        for action in actions {
            match action {
                // A guest that does not read has its debugger elsewhere; nothing is lost.
                Action::Send(bytes) => drop((&self.qemu.serial_in).write_all(&bytes)),
                Action::Interrupt => self.send("inject-nmi", None, None),
                Action::AskPlaces => self.ask("query-pci", None, Waiting::Places),
                Action::Conclude => self.conclude(),
                Action::End { orderly } => {
                    self.ending.get_or_insert(Ending::Guest(GuestEnd::Decided));
                    if !orderly {
                        self.measure = Measure::PowerDown;
                    }
                    self.escalate();
                    return;
                }
            }
        }
    }
}
