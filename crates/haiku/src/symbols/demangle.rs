//! Names of C++ functions.

use cpp_demangle::{DemangleOptions, Symbol};

/// The longest name that is looked into, in bytes; those of templates can be long.
const LONGEST: usize = 4096;

/// What compilers add to the name of a function that they have split or changed.
const SUFFIXES: [&str; 5] = [".isra.", ".constprop.", ".part.", ".cold", ".lto_priv."];

/// A function's name as it is written in the source; one that is not of C++ stays as it is.
pub fn demangle(name: &str) -> String {
    // Before its demangler is loaded, the kernel writes the arguments that it does not know so.
    let mangled = source_name(name.strip_suffix("()").unwrap_or(name));
    text(mangled).unwrap_or_else(|| source_name(name).to_owned())
}

fn source_name(name: &str) -> &str {
    let ends = SUFFIXES.iter().filter_map(|suffix| name.find(suffix));
    ends.min().map_or(name, |end| &name[..end])
}

/// Whether a mangled name is that of a function as the kernel writes it, with or without its
/// arguments.
pub(super) fn is_same(mangled: &str, written: &str) -> bool {
    let Some(name) = text(source_name(mangled)) else {
        // The name of a C function has no arguments in the file.
        return written.split('(').next() == Some(mangled);
    };
    name == written || without_arguments(&name) == without_arguments(written)
}

fn text(mangled: &str) -> Option<String> {
    if !mangled.starts_with("_Z") || mangled.len() > LONGEST {
        return None;
    }
    let symbol = Symbol::new(mangled).ok()?;
    symbol.demangle_with_options(&DemangleOptions::default()).ok()
}

fn without_arguments(name: &str) -> &str {
    crate::kdl::without_arguments(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_source() {
        for (name, expected) in [
            ("panic", "panic"),
            ("panic()", "panic()"),
            ("_ZN16ExpressionParser17_ParseCommandPipeERi()", {
                "ExpressionParser::_ParseCommandPipe(int&)"
            }),
            ("_ZN16ExpressionParser17_ParseCommandPipeERi", {
                "ExpressionParser::_ParseCommandPipe(int&)"
            }),
            ("_Znonsense", "_Znonsense"),
            ("edu_find.constprop.0", "edu_find"),
            ("_ZN3Edu5WriteEPKvPm.isra.0.cold", "Edu::Write(void const*, unsigned long*)"),
        ] {
            assert_eq!(demangle(name), expected);
        }
        let mangled = "_ZN16ExpressionParser17_ParseCommandPipeERi";
        assert!(is_same(mangled, "ExpressionParser::_ParseCommandPipe(int&)"));
        assert!(is_same(mangled, "ExpressionParser::_ParseCommandPipe"));
        assert!(is_same("panic", "panic(char const*)"));
        assert!(!is_same("panic", "panics()"));
    }
}
