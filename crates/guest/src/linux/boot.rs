//! Puts the reference guest together.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use host::atomic::WriteError;
use host::modules::{Modules, ModulesError};
use host::{ReadError, Sysroot};

use super::choose::choose;
use super::command_line::command_line;
use super::plan::{Expected, Nonce, PLAN_PATH, Plan};
use super::{firmware, image};
use crate::initramfs::{Initramfs, InitramfsError};
use crate::kernel::{IMAGE_LIMIT, Kernel, KernelError};
use crate::machine;

/// Memory for what runs beside the kernel's image and the initramfs, in MiB.
const WORKING_MEMORY: u64 = 96;
/// More for a display card: its driver keeps buffers in the guest's memory.
const DISPLAY_MEMORY: u64 = 512;
/// What a kernel is taken to need if its image does not say, in MiB.
const KERNEL_MEMORY: u64 = 128;

/// What the files are called.
pub(crate) const KERNEL: &str = "kernel";
pub(crate) const INITRAMFS: &str = "initramfs";

/// How long drivers get, in seconds of the guest, on a processor and on an emulated one. A network
/// card may take some to find its link; Linux itself waits up to 12 for an address by DHCP
/// (net/ipv4/ipconfig.c, CONF_CARRIER_TIMEOUT aside).
const PATIENCE: u64 = 15;
const PATIENCE_EMULATED: u64 = 60;

/// The reference guest could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// There is no kernel to boot.
    #[error("no kernel for the guest")]
    Kernel(#[from] KernelError),
    /// The kernel's modules cannot be used.
    #[error("no drivers for the guest")]
    Modules(#[from] ModulesError),
    /// The initramfs cannot be built.
    #[error("no initramfs for the guest")]
    Initramfs(#[from] InitramfsError),
    /// A file of the host cannot be read.
    #[error("the host cannot be read")]
    Read(#[from] ReadError),
    /// No function was named.
    #[error("the reference guest needs a card to look at")]
    NoFunction,
}

impl BootError {
    /// Returns what the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Kernel(error) => error.hint(),
            Self::NoFunction => Some("name a card of this host with --device".to_owned()),
            _ => None,
        }
    }
}

/// A function that the guest gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name for the user: its address on the host, or the model of QEMU's own device.
    pub name: String,
    /// What sysfs calls `modalias`.
    pub modalias: String,
}

/// What the reference guest is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// kireji itself, which becomes the first process.
    pub program: &'a Path,
    /// The functions, in the order of their addresses in the guest.
    pub functions: &'a [Wanted],
    /// Whether a network card may ask its network for an address.
    pub network: bool,
    /// Whether there is no processor but a program.
    pub emulated: bool,
    /// What marks the lines of the report.
    pub nonce: &'a Nonce,
}

/// A reference guest that can be started.
#[derive(Debug)]
pub struct Boot {
    /// The kernel.
    pub kernel: KernelImage,
    /// Its first file system.
    pub initramfs: Initramfs,
    /// Its command line.
    pub command_line: String,
    /// The least memory that it starts in, in MiB.
    pub memory_mib: u64,
    /// What its first process will do. The drivers that the kernel has for each function are in it.
    pub plan: Plan,
}

/// A kernel for QEMU.
#[derive(Clone, PartialEq, Eq)]
pub enum KernelImage {
    /// The file as it is.
    File(PathBuf),
    /// The kernel out of that file, an ELF file.
    Unpacked(Vec<u8>),
}

impl std::fmt::Debug for KernelImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Unpacked(bytes) => write!(f, "Unpacked({} bytes)", bytes.len()),
        }
    }
}

/// Puts a reference guest together: the same host and request give the same bytes.
///
/// # Errors
/// No function was named; the kernel, its modules, kireji or a firmware file cannot be read.
pub fn prepare(host: &Sysroot, request: Request<'_>) -> Result<Boot, BootError> {
    if request.functions.is_empty() {
        return Err(BootError::NoFunction);
    }
    let modules = Modules::read(host, &request.kernel.modules)?;
    let choice = choose(host, &modules, request.functions)?;
    let drivers = request.functions.iter().zip(choice.drivers);
    let plan = Plan {
        nonce: request.nonce.clone(),
        functions: drivers
            .map(|(wanted, drivers)| Expected {
                name: wanted.name.clone(),
                modalias: wanted.modalias.clone(),
                drivers,
            })
            .collect(),
        network: request.network,
        patience_s: if request.emulated { PATIENCE_EMULATED } else { PATIENCE },
    };
    let initramfs = initramfs(host, request, &modules, &choice.load, &plan)?;
    let packed =
        host.read_limited(&request.kernel.image, IMAGE_LIMIT).map_err(KernelError::from)?;
    let unpacked = if request.emulated { image::unpack(&packed) } else { None };
    let kernel = match unpacked {
        Some(kernel) => KernelImage::Unpacked(kernel),
        None => KernelImage::File(host.locate(&request.kernel.image)),
    };
    Ok(Boot {
        kernel,
        command_line: command_line(request.emulated),
        memory_mib: memory_mib(&packed, &initramfs, request.functions),
        initramfs,
        plan,
    })
}

fn initramfs(
    host: &Sysroot,
    request: Request<'_>,
    modules: &Modules,
    load: &[String],
    plan: &Plan,
) -> Result<Initramfs, BootError> {
    let mut tree = Initramfs::new();
    for directory in ["dev", "proc", "sys"] {
        tree.directory(directory)?;
    }
    tree.program(host, request.program, "init")?;
    let release = modules.release().to_string_lossy();
    let mut images = Vec::new();
    for module in modules.closure(load)? {
        let image = modules.image(host, &module)?;
        firmware::add(&mut tree, host, &release, &image)?;
        images.push((module.name, image));
    }
    tree.module_images(images)?;
    let plan = serde_json::to_vec(plan).unwrap_or_default();
    tree.file(PLAN_PATH, 0o644, plan)?;
    Ok(tree)
}

/// The archive and what is unpacked from it are in memory at the same time.
fn memory_mib(image: &[u8], initramfs: &Initramfs, functions: &[Wanted]) -> u64 {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let kernel = image::memory(image).map_or(KERNEL_MEMORY, mib);
    let display = functions.iter().any(|wanted| wanted.modalias.contains("bc03"));
    let display = if display { DISPLAY_MEMORY } else { 0 };
    let total = kernel + 2 * mib(initramfs.size()) + WORKING_MEMORY + display;
    total.next_multiple_of(32)
}

impl Boot {
    /// Returns what starts in the machine, once [`Boot::write`] has made its files in `directory`.
    pub fn of(&self, directory: &Path) -> machine::Boot {
        machine::Boot::Kernel {
            kernel: match &self.kernel {
                KernelImage::File(path) => path.clone(),
                KernelImage::Unpacked(_) => directory.join(KERNEL),
            },
            initrd: directory.join(INITRAMFS),
            command_line: self.command_line.clone(),
        }
    }

    /// Returns the files that [`Boot::write`] makes in `directory`.
    pub fn files(&self, directory: &Path) -> Vec<PathBuf> {
        let kernel = matches!(self.kernel, KernelImage::Unpacked(_)).then_some(KERNEL);
        kernel.into_iter().chain([INITRAMFS]).map(|name| directory.join(name)).collect()
    }

    /// Writes what QEMU loads into `directory`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), WriteError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| WriteError { path, source }
        };
        if let KernelImage::Unpacked(bytes) = &self.kernel {
            let path = directory.join(KERNEL);
            std::fs::write(&path, bytes).map_err(at(&path))?;
        }
        let path = directory.join(INITRAMFS);
        self.write_initramfs(&path).map_err(at(&path))
    }

    fn write_initramfs(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        self.initramfs.write(&mut file)?;
        file.flush()
    }
}
