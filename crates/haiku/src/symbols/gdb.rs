//! What gdb needs to debug a guest's kernel with symbols.

use std::path::Path;

use crate::kdl::Panic;

use super::Symbols;

/// The arguments that make gdb read these files at the places that a panic tells, and connect to
/// the stub of QEMU at `target` (`HOST:PORT`, as `-gdb tcp::PORT` opens it). A file whose place is
/// not known is left out. The kernel stands where it is linked for; an add-on is moved as a whole,
/// which gdb's `-o` does.
pub fn gdb_arguments(target: &str, panic: &Panic, files: &[(&Path, &Symbols)]) -> Vec<String> {
    let mut commands = Vec::new();
    for (path, symbols) in files {
        let Ok(base) = symbols.place(panic) else { continue };
        let path = quoted(path);
        commands.push(if base == 0 {
            format!("symbol-file {path}")
        } else {
            format!("add-symbol-file {path} -o {base:#x}")
        });
    }
    arguments(commands, target)
}

/// The arguments that make gdb read the symbols of the kernel alone, if its file is there. The
/// kernel is the same at all times of a run, and so is its place.
pub fn gdb_kernel_arguments(target: &str, kernel: Option<&Path>) -> Vec<String> {
    let commands = kernel.map(|path| format!("symbol-file {}", quoted(path)));
    arguments(commands.into_iter().collect(), target)
}

fn arguments(mut commands: Vec<String>, target: &str) -> Vec<String> {
    commands.push(format!("target remote {target}"));
    commands.into_iter().flat_map(|command| ["-ex".to_owned(), command]).collect()
}

/// A path as gdb reads it: in quotes, with what is special in them escaped.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted() {
        assert_eq!(quoted(Path::new("a b/\"c\"")), r#""a b/\"c\"""#);
        let arguments = gdb_kernel_arguments("127.0.0.1:1234", Some(Path::new("k")));
        assert_eq!(arguments, ["-ex", "symbol-file \"k\"", "-ex", "target remote 127.0.0.1:1234"]);
    }
}
