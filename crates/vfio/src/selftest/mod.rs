//! Proof in a moment, and without a guest, that a card can be driven through VFIO.
//!
//! No register of the card is read or written outside its configuration space, because a read can
//! have effects; its ROM is left alone for the same reason. Bus mastering stays off, so the card
//! does no DMA and sends no message. What is set up is undone, and a failure to undo it fails the
//! check. What the kernel does of its own accord remains: it resets the function when it is opened
//! and when it is closed, if it can do so without touching others.

mod report;

pub use report::{
    BarMapping, BarReport, Check, ConfigReport, DmaReport, InterruptReport, Outcome, Report,
    ResetReport, Subject,
};

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use host::{Measured, Sysroot};
use pci::config::{Capability, CapabilityWalk, ConfigSpace};
use pci::{Address, Function, Ids, Region, RegionKind};

use crate::device::Device;
use crate::dma::{Access, Memory};
use crate::error::{Error, Result};
use crate::group::Choice;
use crate::interrupt::{Event, Interrupt};
use crate::region::{BAR0, CONFIG, RegionInfo};
use crate::space::AddressSpace;
use crate::sys::Width;

/// Offset of the command register, and its bus master bit (PCI Local Bus 3.0, 6.2.2).
const COMMAND: u16 = 0x04;
const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Offset of the first base address register, and the bits that say what it is (ibid., 6.2.5.1).
const BAR_REGISTERS: u16 = 0x10;
const BAR_IO: u32 = 1;
const BAR_TYPE: u32 = 0b110;
const BAR_TYPE_64: u32 = 0b100;
const BAR_PREFETCHABLE: u32 = 1 << 3;
/// Base address registers of an endpoint.
const BARS: u8 = 6;
/// DMA is tried above the addresses that platforms keep for themselves.
const DMA_ABOVE: u64 = 1 << 20;
/// An event of our own making is there at once; this is for a machine that is very busy.
const EVENT_LIMIT: Duration = Duration::from_millis(500);

/// What a self-test may do beyond looking.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Reset the function, and only it.
    pub reset: bool,
}

/// Tests a function that is on vfio-pci.
///
/// It always returns a report: what could not be done is in there.
pub fn run(host: &Sysroot, address: Address, options: Options) -> Report {
    let choice = Choice::of_host(host, address);
    let open =
        |choice: &Choice| AddressSpace::new(host, address, choice.interface)?.open(host, address);
    run_with(host, address, options, choice, open)
}

fn run_with(
    host: &Sysroot,
    address: Address,
    options: Options,
    choice: Result<Choice>,
    open: impl FnOnce(&Choice) -> Result<Device>,
) -> Report {
    let mut report = Report {
        address,
        interface: None,
        group: None,
        checks: Vec::new(),
        config: None,
        bars: Vec::new(),
        interrupts: Vec::new(),
        dma: None,
        reset: None,
        refusal: None,
    };
    let opened = choice.and_then(|choice| {
        let opened = open(&choice);
        report.interface = Some(choice);
        opened
    });
    match opened {
        Ok(device) => {
            report.group = Some(device.group());
            report.add(Subject::Open, Ok(()));
            Test { host, device: &device, report: &mut report }.all(options);
        }
        Err(error) => {
            report.add(Subject::Open, Err(describe(&error)));
            report.refusal = Some(error);
        }
    }
    report
}

impl Report {
    fn add(&mut self, what: Subject, result: Result<(), String>) {
        let outcome = result.map_or_else(Outcome::Fail, |()| Outcome::Pass);
        self.checks.push(Check { what, outcome });
    }

    fn add_unmeasured(&mut self, what: Subject, why: &str) {
        self.checks.push(Check { what, outcome: Outcome::Unmeasured(why.to_owned()) });
    }
}

/// An error and what is behind it, in one line.
fn describe(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

struct Test<'a> {
    host: &'a Sysroot,
    device: &'a Device,
    report: &'a mut Report,
}

impl Test<'_> {
    fn all(mut self, options: Options) {
        match self.read_config() {
            Ok(config) => {
                self.config(&config);
                self.bars(&config);
            }
            Err(error) => self.report.add(Subject::Config, Err(describe(&error))),
        }
        for kind in Interrupt::ALL {
            self.interrupt(kind);
        }
        let dma = self.dma();
        self.report.add(Subject::Dma, dma.map_err(|error| describe(&error)));
        self.reset(options);
    }

    fn read_config(&self) -> Result<ConfigSpace> {
        let size = self.device.region(CONFIG)?.size;
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(ConfigSpace::MAX);
        let mut bytes = vec![0; size];
        self.device.read_bytes(CONFIG, 0, &mut bytes)?;
        Ok(ConfigSpace::new(bytes))
    }

    fn config(&mut self, config: &ConfigSpace) {
        let ids = config.vendor().zip(config.device());
        let ids = ids.map(|(vendor, device)| Ids { vendor, device });
        self.report.add(Subject::Config, self.answers(config, ids));
        let capabilities = config.capabilities();
        let broken = |walk: &CapabilityWalk| match walk {
            CapabilityWalk::Whole => None,
            CapabilityWalk::Unread => Some("the capability list leaves the space".to_owned()),
            CapabilityWalk::Broken(error) => Some(error.to_string()),
        };
        let broken =
            broken(&capabilities.standard_walk).or_else(|| broken(&capabilities.extended_walk));
        self.report.add(Subject::Capabilities, broken.map_or(Ok(()), Err));
        match config.u16(COMMAND).unwrap_or_default() & COMMAND_BUS_MASTER {
            0 => self.report.add(Subject::BusMaster, Ok(())),
            _ => self.report.add(Subject::BusMaster, Err("bus mastering is on".to_owned())),
        }
        self.report.config = Some(ConfigReport {
            size: u64::try_from(config.bytes().len()).unwrap_or_default(),
            ids,
            header: config.header_type(),
            capabilities,
        });
    }

    fn answers(&self, config: &ConfigSpace, ids: Option<Ids>) -> Result<(), String> {
        if config.is_all_ones() {
            return Err("the configuration space reads as all ones".to_owned());
        }
        let function = Function::read(self.host, self.device.address());
        let known = function.map_err(|error| error.to_string())?.ids;
        match ids {
            Some(ids) if ids == known => Ok(()),
            Some(ids) => Err(format!("VFIO shows {ids} where sysfs shows {known}")),
            None => Err("the configuration space ends before the ids".to_owned()),
        }
    }

    fn bars(&mut self, config: &ConfigSpace) {
        let known = Region::read_all(self.host, self.device.address());
        let known = known.map_err(|error| error.to_string());
        let mut upper_half = false;
        for index in 0..BARS {
            if std::mem::take(&mut upper_half) {
                continue;
            }
            let register = config.u32(BAR_REGISTERS + u16::from(index) * 4).unwrap_or_default();
            let kind = match register {
                _ if register & BAR_IO != 0 => RegionKind::Io,
                _ if register & BAR_TYPE == BAR_TYPE_64 => RegionKind::Memory64,
                _ => RegionKind::Memory32,
            };
            upper_half = kind == RegionKind::Memory64;
            let info = match self.device.region(BAR0 + u32::from(index)) {
                Ok(info) if info.size == 0 => continue,
                Ok(info) => info,
                Err(error) => {
                    self.report.add(Subject::Bar(index), Err(describe(&error)));
                    continue;
                }
            };
            let prefetchable = kind != RegionKind::Io && register & BAR_PREFETCHABLE != 0;
            let mapping = self.map_bar(info, kind);
            let size = info.size;
            let msix_table = info.msix_mappable || holds_msix_table(config, index);
            let result = match (&mapping, &known) {
                (BarMapping::Failed(why), _) => Err(why.clone()),
                (_, Err(why)) => Err(why.clone()),
                (_, Ok(known)) => match known.iter().find(|region| region.index == index) {
                    Some(region) if region.size == size => Ok(()),
                    Some(region) => {
                        Err(format!("VFIO shows {size} bytes where sysfs shows {}", region.size))
                    }
                    None => Err(format!("VFIO shows {size} bytes where sysfs shows none")),
                },
            };
            self.report.add(Subject::Bar(index), result);
            let bar = BarReport { index, kind, prefetchable, size, msix_table, mapping };
            self.report.bars.push(bar);
        }
    }

    fn map_bar(&self, info: &RegionInfo, kind: RegionKind) -> BarMapping {
        if kind == RegionKind::Io {
            return BarMapping::Not("I/O ports cannot be mapped".to_owned());
        }
        if !info.map {
            return BarMapping::Not(info.why_not_mappable().to_owned());
        }
        let first = match &info.sparse {
            None => 0,
            Some(areas) => match areas.first() {
                Some(area) => area.offset,
                None => return BarMapping::Not("the kernel lists no part of it".to_owned()),
            },
        };
        // Mapping touches nothing of the card; only an access would.
        match self.device.map_region(info.index, first, rustix::param::page_size()) {
            Ok(_) => BarMapping::Mapped,
            Err(error) => BarMapping::Failed(describe(&error)),
        }
    }

    fn interrupt(&mut self, kind: Interrupt) {
        let what = Subject::Interrupt(kind);
        let info = match self.device.interrupt(kind) {
            Ok(info) => info,
            Err(error) => return self.report.add(what, Err(describe(&error))),
        };
        if info.count == 0 {
            return;
        }
        self.report.interrupts.push(InterruptReport { kind, info });
        if info.eventfd {
            self.report.add(what, self.loopback(kind));
        } else {
            self.report.add_unmeasured(what, "the kernel does not deliver it to descriptors");
        }
    }

    /// Has the kernel signal an interrupt in the card's stead. Enabling sets the capability up and
    /// disabling clears it; without bus mastering the card sends nothing in between, and a pin
    /// that is asserted is masked by the kernel when it fires.
    fn loopback(&self, kind: Interrupt) -> Result<(), String> {
        let attempt = || {
            let event = Event::new()?;
            self.device.enable_interrupts(kind, 0, &[Some(event.as_fd())])?;
            let heard = self.device.trigger(kind, 0, 1).and_then(|()| event.wait(EVENT_LIMIT));
            let disabled = self.device.disable_interrupts(kind);
            heard.and_then(|count| disabled.map(|()| count))
        };
        match attempt() {
            Ok(0) => Err("it was triggered, but no event arrived".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(describe(&error)),
        }
    }

    fn dma(&mut self) -> Result<()> {
        let space = self.device.space();
        let aperture = space.aperture()?;
        self.report.dma = Some(aperture.clone().into());
        let page = usize::try_from(aperture.alignment).unwrap_or(usize::MAX);
        let memory = Memory::anonymous(page)?;
        let size = u64::try_from(memory.size()).unwrap_or(u64::MAX);
        let iova = aperture.place(size, DMA_ABOVE).ok_or_else(|| {
            let what = "addresses that leave no room for a page";
            Error::answer(self.device.address(), "the IOMMU", what)
        })?;
        space.map(iova, Arc::new(memory), Access::Both)?.unmap()
    }

    fn reset(&mut self, options: Options) {
        let alone = self.device.has_reset();
        let path = format!("{}/reset_method", Function::path(self.device.address()));
        let methods = match self.host.optional_text(path) {
            // Since Linux 5.15, the attribute is there where there is a method.
            Ok(None) if alone => Measured::unmeasured("the kernel does not list them"),
            Ok(text) => Measured::Known(
                text.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
            ),
            Err(error) => Measured::unmeasured(error.to_string()),
        };
        let bus_scope = self.device.bus_reset_scope().map_err(|error| describe(&error));
        let report = ResetReport { alone, methods, bus_scope: bus_scope.into() };
        let methods = &self.report.reset.insert(report).methods;
        if !alone {
            let tried = methods.known().is_some_and(|methods| !methods.is_empty());
            let why = match tried {
                true => "none of them worked when the kernel tried",
                false => "the function has no reset of its own",
            };
            return self.report.add_unmeasured(Subject::Reset, why);
        }
        if !options.reset {
            return self.report.add_unmeasured(Subject::Reset, "a reset was not asked for");
        }
        let result = self.device.reset().and_then(|()| self.device.read(CONFIG, 0, Width::Double));
        self.report.add(
            Subject::Reset,
            match result {
                Ok(value) if value == u64::from(u32::MAX) => {
                    Err("the function does not answer after the reset".to_owned())
                }
                Ok(_) => Ok(()),
                Err(error) => Err(describe(&error)),
            },
        );
    }
}

/// Whether the MSI-X capability points at this register (PCI Local Bus 3.0, 6.8.2.4).
fn holds_msix_table(config: &ConfigSpace, index: u8) -> bool {
    let at = config.capabilities().find(Capability::MSI_X);
    let table = at.and_then(|at| config.u32(at.checked_add(4)?));
    table.is_some_and(|table| table & 0b111 == u32::from(index))
}

#[cfg(test)]
mod tests;
