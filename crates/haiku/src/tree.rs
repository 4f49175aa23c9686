//! A checkout of Haiku's sources that was configured to be built.
//!
//! `configure` makes an output directory with `build/BuildConfig` and a `Jamfile` in it, by default
//! `generated` in the checkout; jam runs in either (the help of `configure`, "Non-default output
//! directories"). What is linked of `src/add-ons/kernel/…` is in
//! `objects/haiku/ARCHITECTURE/LEVEL/add-ons/kernel/…` of the output directory, where the level is
//! `release` or `debug_1` and so on (build/jam/BuildSetup, `HAIKU_DEBUG_0_OBJECT_DIR`), unstripped.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Entries of directories that are looked at; a whole build of Haiku has some hundred thousand.
const MOST_ENTRIES: usize = 2_000_000;
/// The largest `Jamfile` of an output directory, in bytes; `configure` writes some hundred.
const LARGEST_JAMFILE: u64 = 64 << 10;
/// What `configure` writes last but one.
const CONFIGURED: &str = "build/BuildConfig";
/// The output directory where nobody names another.
const GENERATED: &str = "generated";
/// Where add-ons of the kernel are below a level of objects.
const ADD_ONS: &str = "add-ons/kernel";

/// A directory is no tree that something can be built in, or nothing was.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It is neither a checkout nor an output directory.
    #[error("{} is no checkout of Haiku", .0.display())]
    NotTree(PathBuf),
    /// It has no output directory.
    #[error("the tree {} is not configured", .0.display())]
    NotConfigured(PathBuf),
    /// It has more than one output directory, none of which is the usual one.
    #[error("the tree {} is configured more than once", tree.display())]
    Several {
        /// The checkout.
        tree: PathBuf,
        /// Its output directories.
        outputs: Vec<PathBuf>,
    },
    /// A directory or file of it cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no file of this name among the objects.
    #[error("nothing called `{0}` was built")]
    NotBuilt(String),
    /// What has this name is no add-on of the kernel.
    #[error("`{name}` is no add-on of the kernel: {}", path.display())]
    NotAddOn {
        /// The name.
        name: String,
        /// What was found.
        path: PathBuf,
    },
}

/// A configured tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Where jam is to run.
    pub directory: PathBuf,
    /// The root of the sources.
    pub sources: PathBuf,
    /// The output directory.
    pub output: PathBuf,
}

impl Tree {
    /// Finds the output directory of a checkout, or the checkout of an output directory.
    /// `variable` is the value of `HAIKU_OUTPUT_DIR`, which jam heeds in a checkout.
    ///
    /// # Errors
    /// It is no checkout, or is not configured.
    pub fn find(directory: &Path, variable: Option<&Path>) -> Result<Self, TreeError> {
        let failed = |source| TreeError::Read { path: directory.to_owned(), source };
        let directory = directory.canonicalize().map_err(failed)?;
        if is_output(&directory) {
            let sources = sources_of(&directory)?;
            return Ok(Self { sources, output: directory.clone(), directory });
        }
        if !directory.join("src/system/kernel").is_dir() {
            return Err(TreeError::NotTree(directory));
        }
        let named = variable.map(|path| directory.join(path)).filter(|path| is_output(path));
        let usual = Some(directory.join(GENERATED)).filter(|path| is_output(path));
        if let Some(output) = named.or(usual) {
            return Ok(Self { sources: directory.clone(), output, directory });
        }
        let mut outputs: Vec<_> = entries(&directory)?
            .into_iter()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(GENERATED))
            .map(|entry| entry.path())
            .filter(|path| is_output(path))
            .collect();
        outputs.sort();
        match outputs.pop() {
            None => Err(TreeError::NotConfigured(directory)),
            Some(output) if outputs.is_empty() => {
                Ok(Self { directory: output.clone(), sources: directory, output })
            }
            Some(last) => {
                outputs.push(last);
                Err(TreeError::Several { tree: directory, outputs })
            }
        }
    }

    /// Finds the add-on of the kernel that a target of jam makes: where there is one of each level,
    /// that which was linked last. A name in angle brackets before the target's is jam's own.
    ///
    /// # Errors
    /// There is none, or it is something else.
    pub fn add_on(&self, target: &str) -> Result<PathBuf, TreeError> {
        let name = target.rsplit('>').next().unwrap_or(target);
        let levels = self.levels()?;
        let mut left = MOST_ENTRIES;
        let mut found = Vec::new();
        for level in &levels {
            found.extend(files_called(&level.join(ADD_ONS), name, &mut left)?);
        }
        if let Some(newest) = newest(found) {
            return Ok(newest);
        }
        let mut found = Vec::new();
        for level in &levels {
            found.extend(files_called(level, name, &mut left)?);
        }
        match newest(found) {
            Some(path) => Err(TreeError::NotAddOn { name: name.to_owned(), path }),
            None => Err(TreeError::NotBuilt(name.to_owned())),
        }
    }

    /// The kernels that were built, the last linked first.
    ///
    /// # Errors
    /// The tree cannot be read.
    pub fn kernels(&self) -> Result<Vec<PathBuf>, TreeError> {
        let path = |level: PathBuf| level.join("system/kernel/kernel_x86_64");
        let mut kernels: Vec<_> =
            self.levels()?.into_iter().map(path).filter(|path| path.is_file()).collect();
        kernels.sort_by_key(|path| std::cmp::Reverse(linked(path)));
        Ok(kernels)
    }

    /// The directories of objects, one for each architecture and level.
    fn levels(&self) -> Result<Vec<PathBuf>, TreeError> {
        let objects = self.output.join("objects/haiku");
        let mut levels = Vec::new();
        for architecture in entries(&objects)? {
            levels.extend(entries(&architecture.path())?.into_iter().map(|level| level.path()));
        }
        Ok(levels)
    }
}

fn is_output(directory: &Path) -> bool {
    directory.join(CONFIGURED).is_file()
}

/// The root of the sources, which an output directory's `Jamfile` names (`HAIKU_TOP = … ;`).
fn sources_of(output: &Path) -> Result<PathBuf, TreeError> {
    let path = output.join("Jamfile");
    let read = || {
        let file = fs::File::open(&path)?;
        io::read_to_string(io::Read::take(file, LARGEST_JAMFILE))
    };
    let text = match read() {
        Ok(text) => text,
        // The usual one is in its checkout, and configured by an older `configure`.
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(TreeError::Read { path, source }),
    };
    let named = text.lines().find_map(|line| {
        let value = line.trim().strip_prefix("HAIKU_TOP")?.trim_start().strip_prefix('=')?;
        Some(value.trim().trim_end_matches(';').trim())
    });
    let sources = output.join(named.unwrap_or(".."));
    sources.canonicalize().map_err(|source| TreeError::Read { path: sources, source })
}

/// The entries of a directory; none where there is no such directory.
fn entries(directory: &Path) -> Result<Vec<DirEntry>, TreeError> {
    let read = || fs::read_dir(directory)?.collect();
    match read() {
        Ok(entries) => Ok(entries),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(Vec::new()),
            _ => Err(TreeError::Read { path: directory.to_owned(), source: error }),
        },
    }
}

/// The files of a name below a directory; links are not followed.
fn files_called(top: &Path, name: &str, left: &mut usize) -> Result<Vec<PathBuf>, TreeError> {
    let (mut found, mut pending) = (Vec::new(), vec![top.to_owned()]);
    while let Some(directory) = pending.pop() {
        for entry in entries(&directory)? {
            let Some(less) = left.checked_sub(1) else { return Ok(found) };
            *left = less;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(entry.path()),
                Ok(kind) if kind.is_file() && entry.file_name() == name => {
                    found.push(entry.path());
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

fn newest(paths: Vec<PathBuf>) -> Option<PathBuf> {
    paths.into_iter().max_by_key(|path| linked(path))
}

fn linked(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A made-up checkout.
    struct Made(tempfile::TempDir);

    impl Made {
        fn new() -> Self {
            let made = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(made.path("src/system/kernel")).unwrap();
            made
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(path)
        }

        fn write(&self, path: &str, text: &str) -> PathBuf {
            let path = self.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }

        fn find(&self, below: &str, variable: Option<&str>) -> Result<Tree, TreeError> {
            Tree::find(&self.path(below), variable.map(Path::new))
        }
    }

    #[test]
    fn a_tree_is_found_from_its_sources_and_from_its_output() {
        let made = Made::new();
        let error = |below: &str| made.find(below, None).unwrap_err();
        assert!(matches!(error("src"), TreeError::NotTree(_)));
        assert!(matches!(error("missing"), TreeError::Read { .. }));
        assert!(matches!(error(""), TreeError::NotConfigured(_)));
        let top = made.path("");
        let tree = |directory: &str, output: &str| Tree {
            directory: made.path(directory),
            sources: made.path(""),
            output: made.path(output),
        };
        made.write("generated.x86_64/build/BuildConfig", "");
        assert_eq!(made.find("", None).unwrap(), tree("generated.x86_64", "generated.x86_64"));
        made.write("generated.arm/build/BuildConfig", "");
        let TreeError::Several { outputs, .. } = error("") else { panic!("one of them") };
        assert_eq!(outputs, [made.path("generated.arm"), made.path("generated.x86_64")]);
        // The usual one is what jam takes by itself, and the variable's goes before it.
        made.write("generated/build/BuildConfig", "");
        assert_eq!(made.find("", None).unwrap(), tree("", "generated"));
        assert_eq!(made.find("", Some("generated.arm")).unwrap(), tree("", "generated.arm"));
        assert_eq!(made.find("", Some("/nonexistent")).unwrap(), tree("", "generated"));
        made.write("elsewhere/out/build/BuildConfig", "");
        made.write(
            "elsewhere/out/Jamfile",
            "# x\nHAIKU_TOP\t\t= ../.. ;\nHAIKU_OUTPUT_DIR = . ;\n",
        );
        let found = made.find("elsewhere/out", None).unwrap();
        assert_eq!(found, tree("elsewhere/out", "elsewhere/out"));
        assert_eq!(found.sources, top.canonicalize().unwrap());
    }

    #[test]
    fn an_add_on_is_the_newest_of_its_name() {
        let made = Made::new();
        made.write("generated/build/BuildConfig", "");
        let tree = made.find("", None).unwrap();
        assert!(matches!(tree.add_on("foo").unwrap_err(), TreeError::NotBuilt(_)));
        assert!(tree.kernels().unwrap().is_empty());
        let level = |level: &str, path: &str| {
            made.write(&format!("generated/objects/haiku/x86_64/{level}/{path}"), "ELF")
        };
        let program = level("release", "bin/foo");
        let error = tree.add_on("foo").unwrap_err();
        assert!(matches!(&error, TreeError::NotAddOn { path, .. } if *path == program), "{error}");
        let release = level("release", "add-ons/kernel/drivers/misc/foo/foo");
        let debug = level("debug_1", "add-ons/kernel/drivers/misc/foo/foo");
        level("release", "add-ons/kernel/drivers/misc/foo/foo.o");
        let old = SystemTime::now() - Duration::from_secs(3600);
        fs::File::open(&debug).unwrap().set_modified(old).unwrap();
        assert_eq!(tree.add_on("foo").unwrap(), release);
        assert_eq!(tree.add_on("<src!drivers>foo").unwrap(), release);
        fs::File::open(&release).unwrap().set_modified(old - Duration::from_secs(1)).unwrap();
        assert_eq!(tree.add_on("foo").unwrap(), debug);
        let kernel = level("debug_1", "system/kernel/kernel_x86_64");
        assert_eq!(tree.kernels().unwrap(), [kernel]);
    }
}
