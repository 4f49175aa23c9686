//! `kireji driver check`.

use std::path::{Path, PathBuf};

use haiku::driver::{ElfError, Kernel, Kind, Report, check};
use haiku::symbols::{Remark, Symbols};
use serde::Serialize;

use super::super::image::{self, ImageArg};
use crate::{CommandError, Context, Exit};

/// Bytes of a driver or kernel; what is larger is something else.
const LARGEST: u64 = 64 << 20;

/// Arguments of `driver check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The driver's file
    file: PathBuf,
    /// Look into the kernel of this image (can be repeated)
    #[arg(long, value_name = "IMAGE")]
    image: Vec<ImageArg>,
    /// Look into this kernel (can be repeated)
    #[arg(long, value_name = "FILE")]
    kernel: Vec<PathBuf>,
    /// Where the driver is to go, below `add-ons/kernel`
    #[arg(long = "as", value_name = "PLACE")]
    place: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document {
    file: PathBuf,
    results: Vec<ResultOf>,
}

#[derive(Serialize)]
struct ResultOf {
    /// The package or file of the kernel.
    kernel: Option<String>,
    loadable: bool,
    #[serde(flatten)]
    report: Report,
    /// What a panic will not show of it.
    #[serde(skip)]
    stripped: Option<Remark>,
}

/// What a panic of a stripped driver will not show; nothing of other files.
pub(crate) fn is_stripped(name: &str, bytes: &[u8]) -> Option<Remark> {
    let lost = Symbols::parse(name, bytes).ok()?.lacks()?;
    matches!(lost, Remark::Stripped(_)).then_some(lost)
}

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let bytes = read(&args.file)?;
    let mut kernels = Vec::new();
    for path in &args.kernel {
        let kernel =
            Kernel::parse(&read(path)?).map_err(|error| failed(path, Exit::Usage, error))?;
        kernels.push((Some(path.display().to_string()), Some(kernel), Vec::new()));
    }
    for image in &args.image {
        let target = image::target(image, context)?;
        let (package, kernel) = target.kernel.ok_or_else(|| {
            let text = format!("{} has no kernel to look into", image.path.display());
            CommandError::new(Exit::Image, text)
        })?;
        kernels.push((Some(package), Some(kernel), target.packaged));
    }
    if kernels.is_empty() {
        kernels.push((None, None, Vec::new()));
    }
    let mut results = Vec::new();
    for (name, kernel, packaged) in kernels {
        let mut report = check(&bytes, kernel.as_ref(), args.place.as_deref())
            .map_err(|error| failed(&args.file, Exit::DriverNotLoaded, error))?;
        report.compare(&packaged);
        let name_of_file = args.file.file_name().unwrap_or_default().to_string_lossy();
        let stripped = is_stripped(&name_of_file, &bytes).filter(|_| report.kind.is_kernel());
        results.push(ResultOf { kernel: name, loadable: report.is_loadable(), report, stripped });
    }
    let all = results.iter().all(|result| result.loadable);
    // What is not loaded is told by the same code wherever it is found out.
    let exit = if all { Exit::Done } else { Exit::DriverNotLoaded };
    if args.json {
        super::super::print_json(context, Document { file: args.file.clone(), results })?;
        return Ok(exit);
    }
    for result in &results {
        tell(&args.file, result, context)?;
    }
    Ok(exit)
}

fn tell(file: &Path, result: &ResultOf, context: &mut Context<'_>) -> Result<(), CommandError> {
    let report = &result.report;
    let out = &mut *context.out;
    let verdict = match (result.loadable, &result.kernel, report.kind.is_kernel()) {
        (true, _, false) => "which the kernel does not load, but a program".to_owned(),
        (false, _, false) => "which no program loads".to_owned(),
        (true, Some(kernel), _) => format!("which {kernel} loads"),
        (true, None, _) => "with nothing against it in the file itself".to_owned(),
        (false, Some(kernel), _) => format!("which {kernel} does not load"),
        (false, None, _) => "which the kernel does not load".to_owned(),
    };
    writeln!(out, "{} is {}, {verdict}", file.display(), report.kind)?;
    if let Some(lost) = &result.stripped {
        writeln!(out, "  note: {lost}")?;
    }
    for module in &report.modules {
        writeln!(out, "  module: {}", image::shown(module.as_bytes()))?;
    }
    for (what, names) in
        [("asks for", &report.uses), ("its other half, the accelerant", &report.accelerants)]
    {
        for name in names {
            writeln!(out, "  {what}: {}", image::shown(name.as_bytes()))?;
        }
    }
    if !report.kind.is_kernel() {
        for name in &report.libraries {
            writeln!(out, "  library: {}", image::shown(name.as_bytes()))?;
        }
    }
    if report.kind == Kind::Accelerant {
        writeln!(out, "  its other half: the kernel's driver that names it")?;
    }
    for finding in &report.findings {
        let problem = image::shown(finding.problem.as_bytes());
        writeln!(out, "  {}: {problem} ({})", finding.severity, finding.rule.source())?;
        writeln!(out, "    {}", finding.rule.remedy())?;
    }
    if !report.unchecked_symbols.is_empty() {
        writeln!(
            out,
            "  not checked: {} symbols that the kernel must have; `--image` or `--kernel` says \
             where to look",
            report.unchecked_symbols.len()
        )?;
    }
    Ok(())
}

/// Reads a file that is to be an add-on or a kernel.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    let failed = |source| image::host_failed("read", path, source);
    let metadata = path.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        let text = format!("{} is not the file of a driver or kernel", path.display());
        return Err(CommandError::new(Exit::Usage, text));
    }
    std::fs::read(path).map_err(failed)
}

pub(super) fn failed(path: &Path, exit: Exit, error: ElfError) -> CommandError {
    let narrow = error == ElfError::Bits32;
    let text = format!("{}: {error}", path.display());
    let error = CommandError::new(exit, text);
    if narrow { error.code("E-X86-GCC2") } else { error }
}
