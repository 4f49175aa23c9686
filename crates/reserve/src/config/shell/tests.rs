use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::config::{Change, words};

const NAME: &str = "GRUB_CMDLINE_LINUX";

fn change() -> Change {
    Change { add: vec!["intel_iommu=on".into()], remove: vec!["quiet".into()] }
}

fn changed(source: &str) -> Result<String, EditError> {
    Script::parse(source).change(NAME, &change())
}

#[test]
fn each_way_of_writing_a_value_is_kept() {
    for (before, after) in [
        ("", "GRUB_CMDLINE_LINUX=\"intel_iommu=on\"\n"),
        ("A=1", "A=1\nGRUB_CMDLINE_LINUX=\"intel_iommu=on\"\n"),
        ("GRUB_CMDLINE_LINUX=\"\"\n", "GRUB_CMDLINE_LINUX=\"intel_iommu=on\"\n"),
        ("GRUB_CMDLINE_LINUX=\n", "GRUB_CMDLINE_LINUX=\"intel_iommu=on\"\n"),
        ("GRUB_CMDLINE_LINUX='a quiet' # c\n", "GRUB_CMDLINE_LINUX='a intel_iommu=on' # c\n"),
        ("GRUB_CMDLINE_LINUX=a\nB=2\n", "GRUB_CMDLINE_LINUX=\"a intel_iommu=on\"\nB=2\n"),
        ("GRUB_CMDLINE_LINUX=a\\ b\n", "GRUB_CMDLINE_LINUX=a\\ b\" intel_iommu=on\"\n"),
        ("GRUB_CMDLINE_LINUX=\"a \"b\n", "GRUB_CMDLINE_LINUX=\"a \"b\" intel_iommu=on\"\n"),
        ("GRUB_CMDLINE_LINUX=\"a $X \"\n", "GRUB_CMDLINE_LINUX=\"a $X intel_iommu=on\"\n"),
        ("GRUB_CMDLINE_LINUX=quiet\n", "GRUB_CMDLINE_LINUX=\"intel_iommu=on\"\n"),
        (
            "GRUB_CMDLINE_LINUX=\"a \\\n  quiet b\"\n",
            "GRUB_CMDLINE_LINUX=\"a \\\n  b intel_iommu=on\"\n",
        ),
        (
            "GRUB_CMDLINE_LINUX='a'\nGRUB_CMDLINE_LINUX+=' b'\n",
            "GRUB_CMDLINE_LINUX='a'\nGRUB_CMDLINE_LINUX+=' b intel_iommu=on'\n",
        ),
        (
            "GRUB_CMDLINE_LINUX=quiet\nGRUB_CMDLINE_LINUX=\"${GRUB_CMDLINE_LINUX} b\"\n",
            "GRUB_CMDLINE_LINUX=\nGRUB_CMDLINE_LINUX=\"${GRUB_CMDLINE_LINUX}b intel_iommu=on\"\n",
        ),
        ("GRUB_CMDLINE_LINUX=\"a -- quiet\"\n", "GRUB_CMDLINE_LINUX=\"a intel_iommu=on --\"\n"),
        ("GRUB_CMDLINE_LINUX=intel_iommu=on", "GRUB_CMDLINE_LINUX=intel_iommu=on"),
        (
            "GRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`\n",
            "GRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`\n\
             GRUB_CMDLINE_LINUX=\"intel_iommu=on\"\n",
        ),
        (
            "export A=1 GRUB_CMDLINE_LINUX=\"a\"; echo hi > x\n",
            "export A=1 GRUB_CMDLINE_LINUX=\"a intel_iommu=on\"; echo hi > x\n",
        ),
        (
            "if true; then\nB=1\nfi\n",
            "GRUB_CMDLINE_LINUX=\"intel_iommu=on\"\nif true; then\nB=1\nfi\n",
        ),
    ] {
        let result = changed(before).unwrap();
        assert_eq!(result, after, "{before:?}");
        assert_eq!(changed(after).unwrap(), after, "again");
    }
}

#[test]
fn what_only_a_shell_can_tell_is_not_edited() {
    for (source, line) in [
        ("A=1\n[ -f x ] && GRUB_CMDLINE_LINUX=a\n", 2),
        ("if true; then GRUB_CMDLINE_LINUX=a; fi\n", 1),
        ("cat <<E\nGRUB_CMDLINE_LINUX=a\nE\n", 1),
        ("GRUB_CMDLINE_LINUX=a\n\n. /etc/other\n", 3),
        ("unset GRUB_CMDLINE_LINUX\n", 1),
        ("GRUB_CMDLINE_LINUX=(a b)\n", 1),
        ("GRUB_CMDLINE_LINUX=a command\n", 1),
        ("exit 0\nGRUB_CMDLINE_LINUX=a\n", 1),
        ("GRUB_CMDLINE_LINUX=\"a\n", 1),
        ("false &&\nGRUB_CMDLINE_LINUX=a\n", 1),
    ] {
        let expected = EditError::Uncertain { name: NAME.into(), line };
        assert_eq!(changed(source), Err(expected), "{source:?}");
        assert_eq!(Script::parse(source).value(NAME), None);
    }
    let script = Script::parse("GRUB_CMDLINE_LINUX='a'");
    let error = script.change(NAME, &Change::add(["it's"])).unwrap_err();
    assert_eq!(error, EditError::Unquotable { word: "it's".into() });
}

#[test]
fn values_are_told_where_they_can_be() {
    let script = Script::parse("A=\"x\\\"y\" B='1 2'\nB+=3\nC=$A\nD=\"$D z\"\n");
    assert_eq!(script.value("A").as_deref(), Some("x\"y"));
    assert_eq!(script.value("B").as_deref(), Some("1 23"));
    assert_eq!(script.value("C"), None);
    assert_eq!(script.value("D").as_deref(), Some(" z"));
    assert_eq!(script.value("E"), None);
}

/// All variables of interest after a shell has sourced the file.
fn sourced(shell: &str, source: &str) -> Vec<String> {
    let names = [NAME, "GRUB_TIMEOUT", "GRUB_DISTRIBUTOR", "GRUB_CMDLINE_LINUX_DEFAULT"];
    let shown: String = names.iter().map(|name| format!("printf '%s\\0' \"${name}\"\n")).collect();
    let mut child = Command::new(shell)
        .env_clear()
        .env("X", "from outside")
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(source.as_bytes()).unwrap();
    stdin.write_all(b"\n").unwrap();
    stdin.write_all(shown.as_bytes()).unwrap();
    drop(stdin);
    let done = child.wait_with_output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    text.split('\0').map(str::to_owned).collect()
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("quiet".to_owned()),
        Just("intel_iommu=on".to_owned()),
        Just("$X".to_owned()),
        "[a-z]{1,4}(=[a-z0-9,:/.]{1,6})?",
    ]
}

/// A value as one of the ways to write it.
fn value() -> impl Strategy<Value = String> {
    let words = prop::collection::vec((word(), "[ \t]{1,2}"), 0..4);
    (words, 0..7_u8, any::<bool>()).prop_map(|(words, style, leading)| {
        let mut text = if leading { " ".to_owned() } else { String::new() };
        for (word, space) in &words {
            text += word;
            text += space;
        }
        let first = words.first().map_or("", |(word, _)| word.as_str());
        match style {
            0 => format!("'{}'", text.replace('$', "")),
            1 => format!("\"{text}\""),
            2 => first.to_owned(),
            3 => format!("\"{}\"", text.replacen(' ', " \\\n", 1)),
            4 => format!("'{}'\"{text}\"", text.replace('$', "")),
            5 => format!("{first}\\ {first}\" {text}\""),
            _ => format!("\"{} {text}\"{first}", "${GRUB_CMDLINE_LINUX}"),
        }
    })
}

fn line(append: bool) -> impl Strategy<Value = String> {
    let operators = if append { vec!["=", "+="] } else { vec!["="] };
    prop_oneof![
        3 => (prop::sample::select(operators), value(), "( # quiet \"|;|)")
            .prop_map(|(operator, value, end)| format!("{NAME}{operator}{value}{end}")),
        1 => value().prop_map(|value| {
            let value = value.replace("${GRUB_CMDLINE_LINUX}", "$X");
            format!("GRUB_CMDLINE_LINUX_DEFAULT={value}")
        }),
        1 => Just("# GRUB_CMDLINE_LINUX=\"quiet".to_owned()),
        1 => Just("GRUB_DISTRIBUTOR=`echo \"it's\" || echo Debian`".to_owned()),
        1 => Just("GRUB_DISTRIBUTOR=$(echo ')' | cat)".to_owned()),
        1 => Just("export GRUB_TIMEOUT=5 # it's five".to_owned()),
        1 => Just("test -e /nonexistent && GRUB_TIMEOUT=7 || :".to_owned()),
        1 => Just(String::new()),
    ]
}

fn check(shell: &str, lines: &[String], end: bool, change: &Change) -> Result<(), TestCaseError> {
    let source = lines.join("\n") + if end { "\n" } else { "" };
    let after = Script::parse(&source)
        .change(NAME, change)
        .map_err(|error| TestCaseError::fail(format!("{error}: {source}")))?;
    let one = sourced(shell, &source);
    let other = sourced(shell, &after);
    prop_assert_eq!(&one[1..], &other[1..], "{}\n=>\n{}", source, after);
    let mut expected: Vec<_> = words::split(&one[0]);
    // A word that is partly of a variable is no word of the file.
    expected.retain(|word| !change.removes(word));
    for word in &change.add {
        if !expected.contains(&word.as_str()) {
            expected.push(word);
        }
    }
    prop_assert_eq!(words::split(&other[0]), expected, "{}\n=>\n{}", source, after);
    let again = Script::parse(&after).change(NAME, change);
    prop_assert_eq!(again.as_deref(), Ok(&after[..]), "a second time");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_shell_sees_only_the_intended_words_change(
        lines in prop::collection::vec(line(false), 0..6), end in any::<bool>()
    ) {
        check("sh", &lines, end, &change())?;
    }

    #[test]
    fn so_does_bash(lines in prop::collection::vec(line(true), 0..6), end in any::<bool>()) {
        check("bash", &lines, end, &change())?;
    }

    #[test]
    fn nothing_panics(source in "[A=+\"'\\\\$`(){};&|<# \n]{0,30}") {
        let source = format!("{source}\nA=1");
        drop(Script::parse(&source).change("A", &change()));
        let unchanged = Script::parse(&source).change("A", &Change::default());
        prop_assert!(unchanged.is_err() || unchanged == Ok(source));
    }
}
