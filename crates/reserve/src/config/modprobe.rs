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
    let command = |(first, lines): (usize, Vec<&str>)| {
        let words = words(&lines);
        let is_one = words.first().is_some_and(|word| !word.starts_with('#'));
        is_one.then(|| Command { path: path.to_owned(), line: first + 1, words })
    };
    commands(text).into_iter().filter_map(command).collect()
}

/// The lines of each command, with the index of its first; a backslash at the end goes on.
fn commands(text: &str) -> Vec<(usize, Vec<&str>)> {
    let mut found: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut goes_on = false;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        match found.last_mut() {
            Some((_, lines)) if goes_on => lines.push(line),
            _ => found.push((index, vec![line])),
        }
        goes_on = line.trim_end_matches(['\n', '\r']).ends_with('\\');
    }
    found
}

fn words(lines: &[&str]) -> Vec<String> {
    let whole: String = lines
        .iter()
        .map(|line| line.trim_end_matches(['\n', '\r']))
        .map(|line| line.strip_suffix('\\').unwrap_or(line))
        .collect();
    whole.split_whitespace().map(str::to_owned).collect()
}

/// Returns a file without an option of a module: without its word, or without the whole command
/// where that says nothing else. Every other byte stays.
pub fn without_option(text: &str, module: &str, option: &str) -> String {
    let mut result = String::new();
    for (_, lines) in commands(text) {
        let command = Command { path: PathBuf::new(), line: 0, words: words(&lines) };
        let is_ours = command.is_about("options", module) && command.option(option).is_some();
        if !is_ours {
            result.extend(lines);
            continue;
        }
        let is_option =
            |word: &str| word.strip_prefix(option).is_some_and(|rest| rest.starts_with('='));
        if command.words.iter().skip(2).all(|word| is_option(word)) {
            continue;
        }
        for line in lines {
            let gone: Vec<_> = line.split_whitespace().filter(|word| is_option(word)).collect();
            let change = super::Change::remove(gone);
            result.push_str(&change.apply(line));
        }
    }
    result
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

    #[test]
    fn an_option_goes_and_the_rest_stays() {
        for (before, after) in [
            ("options vfio-pci ids=1:2\nblacklist x\n", "blacklist x\n"),
            ("options vfio_pci ids=1:2 disable_vga=1\n", "options vfio_pci disable_vga=1\n"),
            ("options vfio-pci \\\n  ids=1:2\n# end", "# end"),
            ("options vfio-pci \\\n  ids=1:2 \\\n a=b\n", "options vfio-pci \\\n  \\\n a=b\n"),
            ("# options vfio-pci ids=1:2\n", "# options vfio-pci ids=1:2\n"),
            ("options kvm ids=1:2\n", "options kvm ids=1:2\n"),
        ] {
            assert_eq!(without_option(before, "vfio-pci", "ids"), after, "{before:?}");
        }
    }
}
