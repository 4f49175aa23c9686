//! Where the machine gets its packages from: sources.list(5), in both of its formats.

use std::path::Path;

use anyhow::{Result, bail};
use host::Sysroot;

/// A mirror, and the keys that sign what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Its address.
    pub uri: String,
    /// The keyring that the machine names for it, if it names one.
    pub signed_by: Option<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    signed_by: Option<String>,
}

/// Returns the mirror from which the machine gets the suite `codename`.
pub fn mirror(host: &Sysroot, codename: &str) -> Result<Mirror> {
    let dir = Path::new("/etc/apt/sources.list.d");
    let mut sources = one_line(&host.optional_text("/etc/apt/sources.list")?.unwrap_or_default());
    for name in host.optional_names(dir)? {
        let Some(text) = host.optional_text(dir.join(&name))? else { continue };
        if name.ends_with(".list") {
            sources.extend(one_line(&text));
        } else if name.ends_with(".sources") {
            sources.extend(stanzas(&text));
        }
    }
    let has = |source: &&Source| source.suites.iter().any(|suite| suite == codename);
    // Third parties name their suites after the distribution's too; the mirror has the updates.
    let updates = format!("{codename}-updates");
    let main = |source: &&Source| source.suites.contains(&updates);
    let found: Vec<&Source> = sources.iter().filter(has).collect();
    let uris_with_updates: Vec<&String> =
        sources.iter().filter(main).flat_map(|source| &source.uris).collect();
    let best = found
        .iter()
        .find(|source| source.uris.iter().any(|uri| uris_with_updates.contains(&uri)))
        .or(found.first());
    match best.and_then(|source| source.uris.first().map(|uri| (uri, source))) {
        Some((uri, source)) => Ok(Mirror { uri: uri.clone(), signed_by: source.signed_by.clone() }),
        None => bail!("the machine's package sources name no mirror that has {codename}"),
    }
}

/// `deb [option=value …] uri suite component…`
fn one_line(text: &str) -> Vec<Source> {
    let source = |line: &str| {
        let line = line.split('#').next()?;
        let rest = line.trim().strip_prefix("deb")?;
        if !rest.starts_with([' ', '\t']) {
            return None;
        }
        let (options, rest) = match rest.trim_start().strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?.to_owned(), words.next()?.to_owned());
        let key = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        Some(Source { uris: vec![uri], suites: vec![suite], signed_by: key.map(str::to_owned) })
    };
    text.lines().filter_map(source).collect()
}

/// Stanzas of `Key: value`, parted by empty lines. A key that is written out in the stanza is not
/// taken over; the keys that the machine trusts by default are used then.
fn stanzas(text: &str) -> Vec<Source> {
    let plain: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    plain.split(|line| line.trim().is_empty()).filter_map(stanza).collect()
}

fn stanza(lines: &[&str]) -> Option<Source> {
    let mut source = Source::default();
    let mut is_deb = false;
    for line in lines {
        let Some((key, value)) = line.split_once(':') else { continue };
        if line.starts_with([' ', '\t']) {
            continue;
        }
        let words = || value.split_whitespace().map(str::to_owned);
        match key.trim().to_ascii_lowercase().as_str() {
            "types" => is_deb = words().any(|word| word == "deb"),
            "uris" => source.uris = words().collect(),
            "suites" => source.suites = words().collect(),
            "signed-by" => source.signed_by = words().find(|word| word.starts_with('/')),
            "enabled" if value.trim() == "no" => return None,
            _ => {}
        }
    }
    is_deb.then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc/apt/sources.list.d")).unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join("etc/apt").join(name), text).unwrap();
        }
        dir
    }

    fn found(files: &[(&str, &str)]) -> Option<(String, Option<String>)> {
        let dir = machine(files);
        let mirror = mirror(&Sysroot::at(dir.path()).unwrap(), "bookworm").ok()?;
        Some((mirror.uri, mirror.signed_by))
    }

    #[test]
    fn stanzas_are_read() {
        let text = "# a comment\nTypes: deb deb-src\n# another\nURIs: http://mirror/debian\n\
                    Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /keys.gpg\n\n\
                    Types: deb\nURIs: http://mirror/security\nSuites: bookworm-security\n";
        let expected = Some(("http://mirror/debian".to_owned(), Some("/keys.gpg".to_owned())));
        assert_eq!(found(&[("sources.list.d/debian.sources", text)]), expected);
    }

    #[test]
    fn lines_are_read_and_third_parties_passed_over() {
        let list = "# deb http://old/debian bookworm main\n\
                    deb-src http://src/debian bookworm main\n\
                    deb http://mirror/debian bookworm main # the mirror\n\
                    deb http://mirror/debian bookworm-updates main\n";
        let third = "deb [arch=amd64 signed-by=/third.gpg] http://third/apt bookworm stable\n";
        let files = [("sources.list", list), ("sources.list.d/a.list", third)];
        assert_eq!(found(&files), Some(("http://mirror/debian".to_owned(), None)));
        let options = Some(("http://third/apt".to_owned(), Some("/third.gpg".to_owned())));
        assert_eq!(found(&[("sources.list.d/a.list", third)]), options);
    }

    #[test]
    fn a_machine_without_a_mirror_is_told() {
        assert_eq!(found(&[]), None);
        let off = "Types: deb\nURIs: http://x\nSuites: bookworm\nEnabled: no\n";
        assert_eq!(found(&[("sources.list.d/x.sources", off)]), None);
        let inline =
            "Types: deb\nURIs: http://x\nSuites: bookworm\nSigned-By:\n -----BEGIN\n x: y\n";
        assert_eq!(found(&[("sources.list.d/x.sources", inline)]), Some(("http://x".into(), None)));
    }
}
