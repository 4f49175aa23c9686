//! The inside of the reference guest: what kireji does as its first process.
//!
//! Nothing of this may run anywhere else.

mod block;
mod dhcp;
mod echo;
mod functions;
mod interrupts;
mod kernel_log;
mod netlink;
mod network;

use std::convert::Infallible;
use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use host::{ReadError, Sysroot};
use pci::{Address, Function};

use super::line::encode;
use super::plan::{Expected, Nonce, PLAN_PATH, Plan};
use super::report::{FunctionReport, Record, Refused, SeenFunction};
use crate::inside::{self, FILE_SYSTEMS, InsideError, with_causes};
use kernel_log::KernelLog;

/// The line on which the report goes.
const SERIAL: &str = "/dev/ttyS0";

/// How often sysfs is asked for what the kernel does not announce.
const TICK: Duration = Duration::from_millis(20);

/// How long a driver that is loaded may put off taking its card. A module's loading ends when the
/// driver has looked at every card (kernel/module/main.c, do_init_module), unless it waits for
/// another driver.
const DEFERRED: Duration = Duration::from_secs(2);

/// The reference guest could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The machine could not be made ready or ended.
    #[error(transparent)]
    Machine(#[from] InsideError),
    /// A file of the kernel's cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The plan is not one.
    #[error("{PLAN_PATH} is not a plan")]
    Plan(#[source] serde_json::Error),
    /// A record cannot be written as JSON.
    #[error("a record cannot be written")]
    Record(#[source] serde_json::Error),
}

/// Whether this process is the first process of a reference guest.
pub fn is_inside() -> bool {
    inside::is_first_with(PLAN_PATH)
}

/// Follows the plan, sends the report, and powers the guest off. To be called only where
/// [`is_inside`] says so.
///
/// # Errors
/// The serial line cannot be used or the guest cannot be powered off; other failures go over the
/// line. The process then ends, the kernel panics, and the guest with it.
pub fn run() -> Result<Infallible, InitError> {
    inside::mount(&FILE_SYSTEMS)?;
    let host = Sysroot::host()?;
    let plan: Plan = serde_json::from_slice(&host.read(PLAN_PATH)?).map_err(InitError::Plan)?;
    let mut guest = Guest { host, port: inside::open_serial(SERIAL)?, nonce: plan.nonce.clone() };
    if let Err(error) = guest.follow(&plan) {
        guest.send(&Record::Failed { reason: with_causes(&error) })?;
    }
    rustix::termios::tcdrain(&guest.port).map_err(InsideError::file(SERIAL))?;
    Ok(inside::power_off()?)
}

struct Guest {
    host: Sysroot,
    port: File,
    nonce: Nonce,
}

impl Guest {
    fn follow(&mut self, plan: &Plan) -> Result<(), InitError> {
        let kernel = self.host.text("/proc/sys/kernel/osrelease")?;
        let uptime_ms = self.uptime_ms()?;
        self.send(&Record::Started { kernel, uptime_ms })?;
        let refused = inside::load_modules(parameters)?
            .into_iter()
            .map(|(module, errno)| Refused { module, reason: errno.to_string() })
            .collect();
        let uptime_ms = self.uptime_ms()?;
        self.send(&Record::Loaded { refused, uptime_ms })?;
        let places = functions::find(&self.host, &plan.functions)?;
        for (index, (expected, address)) in plan.functions.iter().zip(places).enumerate() {
            let seen = match address {
                Some(address) => Some(self.look_at(address, expected, plan)?),
                None => None,
            };
            self.send(&Record::Function(Box::new(FunctionReport {
                index,
                name: expected.name.clone(),
                candidates: expected.drivers.clone(),
                seen,
            })))?;
        }
        let uptime_ms = self.uptime_ms()?;
        self.send(&Record::Ended { functions: plan.functions.len(), uptime_ms })
    }

    fn look_at(
        &self,
        address: Address,
        expected: &Expected,
        plan: &Plan,
    ) -> Result<SeenFunction, InitError> {
        let host = &self.host;
        let patience = Duration::from_secs(plan.patience_s);
        let is_bound =
            || Function::read(host, address).is_ok_and(|function| function.driver.is_some());
        if !expected.drivers.is_empty() {
            wait(DEFERRED, is_bound);
        }
        let function = Function::read(host, address)?;
        if function.driver.is_some() {
            // What a driver makes may come after it has taken its card.
            if function.class.is_network() {
                wait(patience, || !functions::networks(host, address).is_empty());
            } else if function.class.is_storage() {
                wait(patience, || !functions::blocks(host, address).is_empty());
            }
        }
        let mut interfaces = Vec::new();
        for interface in functions::networks(host, address) {
            interfaces.push(network::Interface::up(host, interface, plan, patience));
        }
        let blocks: Vec<_> = functions::blocks(host, address)
            .into_iter()
            .map(|name| block::read(host, name, patience))
            .collect();
        // A driver may give its interrupts back when its interface goes down.
        let interrupts = interrupts::of(host, address)?;
        let networks: Vec<_> = interfaces.into_iter().map(network::Interface::down).collect();
        let mut words: Vec<&str> = expected.drivers.iter().map(String::as_str).collect();
        words.extend(function.driver.as_deref());
        words.extend(networks.iter().map(|network| network.interface.as_str()));
        words.extend(blocks.iter().map(|block| block.name.as_str()));
        let log = KernelLog::read()?.about(address, &words);
        Ok(SeenFunction {
            address: address.to_string(),
            ids: function.ids.to_string(),
            class: function.class.to_string(),
            driver: function.driver,
            interrupts,
            networks,
            blocks,
            log,
        })
    }

    fn uptime_ms(&self) -> Result<u64, InitError> {
        let text = self.host.text("/proc/uptime")?;
        let seconds = text.split(' ').next().and_then(|word| word.parse::<f64>().ok());
        let uptime = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(uptime.map_or(0, milliseconds))
    }

    /// Sends one record. Meanwhile the kernel may say only that it dies: its messages go out on
    /// the same line, wherever the record has just come.
    fn send(&mut self, record: &Record) -> Result<(), InitError> {
        const LEVELS: &str = "/proc/sys/kernel/printk";
        let line = encode(&self.nonce, record).map_err(InitError::Record)?;
        let levels = self.host.text(LEVELS)?;
        std::fs::write(LEVELS, "1").map_err(InsideError::file(LEVELS))?;
        self.port.write_all(line.as_bytes()).map_err(InsideError::file(SERIAL))?;
        rustix::termios::tcdrain(&self.port).map_err(InsideError::file(SERIAL))?;
        std::fs::write(LEVELS, levels).map_err(InsideError::file(LEVELS))?;
        Ok(())
    }
}

/// Without this a NVMe disk is a child of its subsystem, not of its controller
/// (drivers/nvme/host/multipath.c). On the command line it would be for modprobe to pass on.
fn parameters(module: &str) -> &'static CStr {
    match module {
        "nvme_core" => c"multipath=N",
        _ => c"",
    }
}

/// Waits until something is so, but no longer than `limit`.
fn wait(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(TICK);
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
