//! Debug information that nobody's compiler makes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::process::{Command, Stdio};

use haiku::symbols::Symbols;

/// One unit with one function at 0x1000, in DWARF 4. `more` is what stands in the function, with the
/// abbreviation 3 for an inlined function and 4 for one with a list of ranges.
const UNIT: &str = r#"
	.section .debug_abbrev
	.uleb128 1, 0x11; .byte 1; .uleb128 0x11, 0x01, 0x12, 0x07, 0, 0
	.uleb128 2, 0x2e; .byte 1; .uleb128 0x11, 0x01, 0x12, 0x07, 0x03, 0x08, 0, 0
	.uleb128 3, 0x1d; .byte 1; .uleb128 0, 0
	.uleb128 4, 0x1d; .byte 0; .uleb128 0x55, 0x17, 0, 0
	.byte 0
	.section .debug_line
	.byte 0
	.section .debug_info
	.long end - begin
begin:
	.short 4
	.long 0
	.byte 8
	.uleb128 1; .quad 0x1000, 0x1000
	.uleb128 2; .quad 0x1000, 0x1000; .asciz "function"
MORE
	.byte 0, 0
end:
	.section .debug_ranges
RANGES
	.quad 0, 0
	.text
	.skip 16
"#;

/// The object file that an assembler makes of the unit.
fn assembled(more: &str, ranges: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("unit.o");
    let mut child = Command::new("as")
        .args(["--64", "-o"])
        .arg(&path)
        .arg("-")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let text = UNIT.replace("MORE", more).replace("RANGES", ranges);
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    std::fs::read(path).unwrap()
}

#[test]
fn what_is_nested_without_end_is_not_followed() {
    let name = |more: &str, ranges: &str| {
        let symbols = Symbols::parse("x", &assembled(more, ranges)).unwrap();
        let lines = symbols.lines(0x1008);
        (symbols.has_lines(), lines.into_iter().find_map(|line| line.function))
    };
    let known = (true, Some("function".to_owned()));
    assert_eq!(name("", ""), known);
    assert_eq!(name("	.rept 20\n	.byte 3\n	.endr\n	.fill 20", ""), known);
    assert_eq!(name("	.fill 1000000, 1, 3", ""), (false, None));
    // Each of many functions has the same many ranges.
    let range = "	.rept 1000\n	.quad 1, 2\n	.endr";
    let function = "	.rept 100\n	.byte 4\n	.long 0\n	.endr";
    assert_eq!(name(function, range), known);
    let (functions, ranges) = (function.replace("100", "1000000"), range.replace("1000", "100000"));
    assert_eq!(name(&functions, &ranges), (false, None));
}
