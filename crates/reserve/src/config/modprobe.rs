//! What modprobe is told (modprobe.d(5)).

use std::path::PathBuf;

use host::{ReadError, Sysroot};
use serde::Serialize;

/// Where its files are, the first place that has a name winning.
const PLACES: [&str; 4] =
    ["/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d"];
/// How many files are read.
const MOST_FILES: usize = 1000;

/// One command of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Command {
    /// The file.
    pub path: PathBuf,
    /// The number of its first line, from 1.
    pub line: usize,
    /// Its words: `options`, `vfio-pci`, `ids=8086:10d3`.
    pub words: Vec<String>,
}

impl Command {
    /// Whether it is about a module, which its files may write with `-` or `_`.
    pub fn is_about(&self, command: &str, module: &str) -> bool {
        let normal = |name: &str| name.replace('-', "_");
        matches!(&self.words[..], [first, second, ..]
            if first == command && normal(second) == normal(module))
    }

    /// The value of an option of its module.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.words.iter().skip(2).rev().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Reads the commands of all files, in the order in which modprobe reads them.
///
/// # Errors
/// A directory or a file is there but cannot be read.
pub fn read(host: &Sysroot) -> Result<Vec<Command>, ReadError> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for place in PLACES {
        for name in host.optional_names(place)? {
            let taken = files.iter().any(|(other, _)| *other == name);
            if name.ends_with(".conf") && !taken && files.len() < MOST_FILES {
                let path = PathBuf::from(format!("{place}/{name}"));
                files.push((name, path));
            }
        }
    }
    files.sort_unstable();
    let mut commands = Vec::new();
    for (_, path) in files {
        // A link to /dev/null masks a file of another place.
        match host.read(&path) {
            Ok(bytes) => commands.extend(parse(&path, &String::from_utf8_lossy(&bytes))),
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(commands)
}

fn parse(path: &std::path::Path, text: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let mut whole = first.to_owned();
        while whole.ends_with('\\') {
            whole.pop();
            let Some((_, more)) = lines.next() else { break };
            whole.push_str(more);
        }
        let words: Vec<_> = whole.split_whitespace().map(str::to_owned).collect();
        if words.first().is_some_and(|word| !word.starts_with('#')) {
            commands.push(Command { path: path.to_owned(), line: index + 1, words });
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use testkit::tree::Tree;

    use super::*;

    #[test]
    fn files_are_read_in_their_order_and_the_first_place_wins() {
        let tree = Tree::new();
        tree.write("/usr/lib/modprobe.d/a.conf", "options vfio-pci ids=1:2\n");
        tree.write("/etc/modprobe.d/a.conf", "# off\n");
        tree.write("/etc/modprobe.d/README", "options vfio-pci ids=3:4\n");
        tree.write(
            "/etc/modprobe.d/z.conf",
            "\noptions vfio_pci disable_vga=1 \\\n  ids=5:6\nsoftdep amdgpu pre: vfio-pci\n",
        );
        let commands = read(&tree.sysroot()).unwrap();
        let about: Vec<_> =
            commands.iter().filter(|command| command.is_about("options", "vfio-pci")).collect();
        assert_eq!(about.len(), 1);
        assert_eq!((about[0].line, about[0].option("ids")), (2, Some("5:6")));
        assert_eq!(commands[1].words, ["softdep", "amdgpu", "pre:", "vfio-pci"]);
    }
}
