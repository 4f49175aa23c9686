//! The modules of a kernel: which there are, what they need, what they drive.
//!
//! The index is what depmod(8) writes beside the modules: `modules.dep`, `modules.alias` and
//! `modules.softdep` (modules.dep(5), modprobe.d(5)), and what the kernel's build says of what is
//! built in: `modules.builtin` and `modules.builtin.modinfo` (the kernel's
//! Documentation/kbuild/kbuild.rst).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::{ReadError, Sysroot};

/// What one index file may hold at most, in bytes; the largest seen hold two million.
const INDEX_LIMIT: u64 = 32 << 20;

/// What one module may hold at most, in bytes, packed or not; the largest seen hold ten million.
const MODULE_LIMIT: u64 = 128 << 20;

/// Whether a name is fit to be that of a kernel's release, and part of paths and commands: as
/// distributions name them, and no longer than the kernel's own (`__NEW_UTS_LEN`).
pub fn is_release(name: &str) -> bool {
    let fine = |char: char| char.is_ascii_alphanumeric() || "._-+~".contains(char);
    name.starts_with(|char: char| char.is_ascii_digit())
        && name.len() < 65
        && name.chars().all(fine)
}

/// The modules of a kernel could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// An index file or a module could not be read.
    #[error("the kernel's modules cannot be read")]
    Read(#[from] ReadError),
    /// The kernel has no module of this name, built in or not.
    #[error("no module {name} in {}", dir.display())]
    Unknown {
        /// The name or alias asked for.
        name: String,
        /// The directory of the modules.
        dir: PathBuf,
    },
    /// A packed module cannot be unpacked, or is larger than a module may be.
    #[error("cannot unpack {}", path.display())]
    Unpack {
        /// The module's file.
        path: PathBuf,
        /// What the unpacker said.
        #[source]
        source: io::Error,
    },
}

/// A module that is a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Module {
    /// The name, with `_` where the file name has `-`, as the kernel has it.
    pub name: String,
    /// The file, as the host names it.
    pub path: PathBuf,
}

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    // In the order of modules.dep: the last must be loaded first, and the list is complete.
    needs: Vec<String>,
}

#[derive(Debug, Default)]
struct Soft {
    before: Vec<String>,
    after: Vec<String>,
}

/// The index of a kernel's modules.
#[derive(Debug)]
pub struct Modules {
    dir: PathBuf,
    files: BTreeMap<String, Entry>,
    built_in: BTreeSet<String>,
    aliases: Vec<(String, String)>,
    soft: BTreeMap<String, Soft>,
}

impl Modules {
    /// Reads the index in `dir`, which is `/lib/modules/RELEASE` on most hosts.
    ///
    /// # Errors
    /// `modules.dep` is absent or an index file cannot be read.
    pub fn read(host: &Sysroot, dir: &Path) -> Result<Self, ModulesError> {
        let text = |name: &str| -> Result<String, ReadError> {
            let bytes = host.read_limited(dir.join(name), INDEX_LIMIT)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let optional = |name: &str| match text(name) {
            Err(error) if error.is_absent() => Ok(String::new()),
            other => other,
        };
        let dep = text("modules.dep")?;
        let mut aliases = aliases(&optional("modules.alias")?);
        aliases.extend(built_in_aliases(&optional("modules.builtin.modinfo")?));
        Ok(Self {
            dir: dir.to_owned(),
            files: dependencies(&dep, dir),
            built_in: optional("modules.builtin")?.lines().filter_map(name_of).collect(),
            aliases,
            soft: soft_dependencies(&optional("modules.softdep")?),
        })
    }

    /// Returns the directory that holds the modules.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the kernel release that the modules belong to.
    pub fn release(&self) -> &OsStr {
        self.dir.file_name().unwrap_or_default()
    }

    /// Whether the kernel has the module, built in or as a file.
    pub fn has(&self, name: &str) -> bool {
        let name = normal(name);
        self.built_in.contains(&name) || self.files.contains_key(&name)
    }

    /// Whether the kernel has the module built in.
    pub fn is_built_in(&self, name: &str) -> bool {
        self.built_in.contains(&normal(name))
    }

    /// Returns the names of the modules that drive the device with this modalias, sorted; those
    /// that are built in are among them.
    pub fn matching(&self, modalias: &str) -> Vec<&str> {
        let found: BTreeSet<&str> = self
            .aliases
            .iter()
            .filter(|(pattern, _)| matches_pattern(pattern.as_bytes(), modalias.as_bytes()))
            .map(|(_, name)| name.as_str())
            .collect();
        found.into_iter().collect()
    }

    /// Returns the files to load for the named modules, in the order in which to load them: what
    /// a module needs comes before it. What is built in needs no loading. Soft dependencies
    /// are included where the kernel has them; loading one may fail without harm.
    ///
    /// # Errors
    /// A name is neither a module nor an alias of one.
    pub fn closure<S: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Module>, ModulesError> {
        let mut order = Order { modules: self, seen: BTreeSet::new(), loaded: Vec::new() };
        for name in names {
            let name = name.as_ref();
            let resolved = self.resolve(name);
            if resolved.is_empty() {
                return Err(ModulesError::Unknown { name: name.to_owned(), dir: self.dir.clone() });
            }
            order.add(resolved);
        }
        Ok(order.loaded)
    }

    /// Returns the names of a module and of all that it cannot be loaded without, sorted; what is
    /// built in is not among them.
    pub fn hard_closure(&self, name: &str) -> Vec<String> {
        let own = normal(name);
        let Some(entry) = self.files.get(&own) else { return Vec::new() };
        let needs = entry.needs.iter().filter(|need| self.files.contains_key(*need)).cloned();
        let all: BTreeSet<String> = needs.chain([own]).collect();
        all.into_iter().collect()
    }

    /// Returns a module as the kernel takes it, unpacked if the file is packed.
    ///
    /// # Errors
    /// The file cannot be read or unpacked, or is larger than a module may be.
    pub fn image(&self, host: &Sysroot, module: &Module) -> Result<Vec<u8>, ModulesError> {
        let packed = host.read_limited(&module.path, MODULE_LIMIT)?;
        let unpack = |source| ModulesError::Unpack { path: module.path.clone(), source };
        match module.path.extension().and_then(OsStr::to_str) {
            Some("xz") => bounded(liblzma::read::XzDecoder::new_multi_decoder(&packed[..])),
            Some("gz") => bounded(flate2::read::MultiGzDecoder::new(&packed[..])),
            Some("zst") => zstd::stream::read::Decoder::new(&packed[..]).and_then(bounded),
            _ => return Ok(packed),
        }
        .map_err(unpack)
    }

    // A name stands for itself; an alias for every module that has it.
    fn resolve(&self, name: &str) -> Vec<String> {
        let own = normal(name);
        if self.has(&own) {
            return vec![own];
        }
        self.matching(name).into_iter().map(str::to_owned).collect()
    }
}

/// The load order under construction. An explicit stack, because the files that say what needs
/// what are input.
struct Order<'a> {
    modules: &'a Modules,
    seen: BTreeSet<String>,
    loaded: Vec<Module>,
}

enum Task {
    Visit(String),
    Load(String),
}

impl Order<'_> {
    fn add(&mut self, names: Vec<String>) {
        let mut stack: Vec<Task> = names.into_iter().rev().map(Task::Visit).collect();
        while let Some(task) = stack.pop() {
            match task {
                Task::Visit(name) => self.visit(name, &mut stack),
                Task::Load(name) => {
                    if let Some(entry) = self.modules.files.get(&name) {
                        self.loaded.push(Module { path: entry.path.clone(), name });
                    }
                }
            }
        }
    }

    // What is pushed last is done first, so a module's list is pushed from its end.
    fn visit(&mut self, name: String, stack: &mut Vec<Task>) {
        if !self.seen.insert(name.clone()) {
            return;
        }
        let soft = self.modules.soft.get(&name);
        let resolve = |names: &[String]| -> Vec<String> {
            names.iter().flat_map(|name| self.modules.resolve(name)).collect()
        };
        let after = soft.map(|soft| resolve(&soft.after)).unwrap_or_default();
        let before = soft.map(|soft| resolve(&soft.before)).unwrap_or_default();
        let needs = self.modules.files.get(&name).map(|entry| &entry.needs[..]).unwrap_or_default();
        stack.extend(after.into_iter().rev().map(Task::Visit));
        stack.push(Task::Load(name));
        stack.extend(needs.iter().cloned().map(Task::Visit));
        stack.extend(before.into_iter().rev().map(Task::Visit));
    }
}

fn bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MODULE_LIMIT + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MODULE_LIMIT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// The module's name out of its file's: `kernel/fs/ext4/ext4.ko.xz` is `ext4`.
fn name_of(path: &str) -> Option<String> {
    let file = path.trim().rsplit('/').next()?;
    let (name, _) = file.split_once(".ko")?;
    (!name.is_empty()).then(|| normal(name))
}

fn dependencies(text: &str, dir: &Path) -> BTreeMap<String, Entry> {
    let entry = |line: &str| {
        let (path, needs) = line.split_once(':')?;
        let needs = needs.split_whitespace().filter_map(name_of).collect();
        Some((name_of(path)?, Entry { path: dir.join(path.trim()), needs }))
    };
    text.lines().filter_map(entry).collect()
}

fn aliases(text: &str) -> Vec<(String, String)> {
    let alias = |line: &str| {
        let mut words = line.split_whitespace();
        match (words.next()?, words.next()?, words.next()?) {
            ("alias", pattern, name) => Some((pattern.to_owned(), normal(name))),
            _ => None,
        }
    };
    text.lines().filter_map(alias).collect()
}

/// Each entry is `MODULE.KEY=VALUE`, ended by a zero byte.
fn built_in_aliases(text: &str) -> Vec<(String, String)> {
    let alias = |entry: &str| {
        let (key, pattern) = entry.split_once('=')?;
        Some((pattern.to_owned(), normal(key.strip_suffix(".alias")?)))
    };
    text.split('\0').filter_map(alias).collect()
}

fn soft_dependencies(text: &str) -> BTreeMap<String, Soft> {
    let mut all: BTreeMap<String, Soft> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some("softdep"), Some(name)) = (words.next(), words.next()) else { continue };
        let soft = all.entry(normal(name)).or_default();
        let mut list = None;
        for word in words {
            match (word, &mut list) {
                ("pre:", _) => list = Some(true),
                ("post:", _) => list = Some(false),
                (word, Some(true)) => soft.before.push(word.to_owned()),
                (word, Some(false)) => soft.after.push(word.to_owned()),
                (_, None) => {}
            }
        }
    }
    all
}

/// Whether `text` matches a pattern of fnmatch(3) without flags: `*`, `?` and `[…]`. On a
/// mismatch only the last `*` is widened, so the time is bounded by the product of the lengths.
fn matches_pattern(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut done) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while done < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, done));
            at += 1;
        } else if let Some(next) = matches_one(pattern, at, text[done]) {
            at = next;
            done += 1;
        } else if let Some((after, from)) = star {
            star = Some((after, from + 1));
            at = after;
            done = from + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// If the element of the pattern at `at` matches `byte`, where the next element begins.
fn matches_one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => {
            let inside = &pattern[at + 1..];
            // A bracket that closes at once is a member of its set.
            let close = 1 + inside.iter().skip(1).position(|byte| *byte == b']')?;
            let (negated, set) = match inside[..close].split_first() {
                Some((b'!' | b'^', rest)) => (true, rest),
                _ => (false, &inside[..close]),
            };
            (in_set(set, byte) != negated).then_some(at + close + 2)
        }
        literal => (*literal == byte).then_some(at + 1),
    }
}

fn in_set(mut set: &[u8], byte: u8) -> bool {
    while let Some((first, rest)) = set.split_first() {
        if let [b'-', last, rest @ ..] = rest {
            if (*first..=*last).contains(&byte) {
                return true;
            }
            set = rest;
        } else {
            if *first == byte {
                return true;
            }
            set = rest;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const DEP: &str = "\
kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/mbcache.ko.xz kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/fs/mbcache.ko.xz:
kernel/lib/crc16.ko.xz:
kernel/arch/x86/crypto/crc32c-intel.ko.xz:
kernel/drivers/vfio/vfio.ko: kernel/virt/lib/irqbypass.ko
kernel/virt/lib/irqbypass.ko:
kernel/drivers/vfio/vfio_iommu_type1.ko: kernel/drivers/vfio/vfio.ko kernel/virt/lib/irqbypass.ko
kernel/net/e1000e.ko.gz:
";
    const SOFT: &str = "# a comment
softdep ext4 pre: crypto-crc32c
softdep jbd2 pre: crypto-crc32c ext4
softdep vfio post: vfio_iommu_type1 vfio_iommu_spapr_tce
";
    const ALIAS: &str = "\
# Aliases extracted from modules themselves.
alias crypto-crc32c crc32c_intel
alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e
alias pci:v00008086d000010D[0-2]sv*sd*bc*sc*i* other
";

    fn modules(dir: &Path) -> (Sysroot, Modules) {
        let at = dir.join("lib/modules/6.12.1");
        std::fs::create_dir_all(&at).unwrap();
        std::fs::write(at.join("modules.dep"), DEP).unwrap();
        std::fs::write(at.join("modules.softdep"), SOFT).unwrap();
        std::fs::write(at.join("modules.alias"), ALIAS).unwrap();
        std::fs::write(at.join("modules.builtin"), "kernel/drivers/virtio/virtio_pci.ko\n")
            .unwrap();
        let modinfo = "virtio_pci.author=x\0virtio_pci.alias=pci:v00001AF4d*sv*sd*bc*sc*i*\0";
        std::fs::write(at.join("modules.builtin.modinfo"), modinfo).unwrap();
        let host = Sysroot::at(dir).unwrap();
        let modules = Modules::read(&host, Path::new("/lib/modules/6.12.1")).unwrap();
        (host, modules)
    }

    fn names(modules: &[Module]) -> Vec<&str> {
        modules.iter().map(|module| module.name.as_str()).collect()
    }

    #[test]
    fn what_a_module_cannot_do_without_is_told_apart_from_what_it_would_like() {
        let dir = tempfile::tempdir().unwrap();
        let (_, modules) = modules(dir.path());
        let needed = modules.hard_closure("vfio-iommu-type1");
        assert_eq!(needed, ["irqbypass", "vfio", "vfio_iommu_type1"]);
        assert!(modules.hard_closure("virtio_pci").is_empty());
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let (_, modules) = modules(dir.path());
        let order = modules.closure(["ext4", "virtio-pci"]).unwrap();
        assert_eq!(names(&order), ["crc32c_intel", "jbd2", "mbcache", "crc16", "ext4"]);
        let order = modules.closure(["vfio"]).unwrap();
        assert_eq!(names(&order), ["irqbypass", "vfio", "vfio_iommu_type1"]);
        assert_eq!(modules.release(), "6.12.1");
    }

    #[test]
    fn a_name_that_is_no_module_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (_, modules) = modules(dir.path());
        let error = modules.closure(["edu"]).unwrap_err();
        assert_eq!(error.to_string(), "no module edu in /lib/modules/6.12.1");
    }

    #[test]
    fn a_modalias_finds_its_driver() {
        let dir = tempfile::tempdir().unwrap();
        let (_, modules) = modules(dir.path());
        let modalias = "pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00";
        assert_eq!(modules.matching(modalias), ["e1000e"]);
        assert_eq!(modules.matching("pci:v00001234d000011E8"), Vec::<&str>::new());
        let built_in = modules.matching("pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00");
        assert_eq!(built_in, ["virtio_pci"]);
        assert!(modules.is_built_in("virtio-pci") && !modules.is_built_in("e1000e"));
    }

    #[test]
    fn patterns_match_as_fnmatch_does() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXbYYd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]x]", "]", true),
            ("[a-", "a", false),
            ("[", "[", false),
            ("*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(matches_pattern(pattern.as_bytes(), text.as_bytes()), expected, "{pattern}");
        }
    }

    #[test]
    fn packed_modules_are_unpacked() {
        let dir = tempfile::tempdir().unwrap();
        let (host, modules) = modules(dir.path());
        let plain = b"\x7fELF and so on".repeat(100);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&plain).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
        xz.write_all(&plain).unwrap();
        let cases = [
            ("m.ko", plain.clone()),
            ("m.ko.gz", gz.finish().unwrap()),
            ("m.ko.xz", xz.finish().unwrap()),
            ("m.ko.zst", zstd::encode_all(&plain[..], 1).unwrap()),
        ];
        for (file, bytes) in cases {
            std::fs::write(dir.path().join(file), bytes).unwrap();
            let module = Module { name: "m".into(), path: Path::new("/").join(file) };
            assert_eq!(modules.image(&host, &module).unwrap(), plain, "{file}");
        }
        std::fs::write(dir.path().join("bad.ko.xz"), b"not xz").unwrap();
        let module = Module { name: "bad".into(), path: "/bad.ko.xz".into() };
        assert!(matches!(modules.image(&host, &module), Err(ModulesError::Unpack { .. })));
    }
}
