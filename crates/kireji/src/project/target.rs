//! One target of the project file: keys that are the options of `kireji run` by the same names.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What `kireji run` is to do. Each field is the option of its name; the exceptions are named, with
/// their reasons, in the test that compares the two.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Target {
    image: Option<PathBuf>,
    /// By ids or a local alias: `--device` with the address.
    pub(super) card: Vec<String>,
    emulate: Vec<String>,
    romfile: Option<String>,
    reset: Option<String>,
    function: bool,
    with_group: bool,
    allow: Vec<String>,
    force_unbind: bool,
    driver: Vec<String>,
    #[serde(rename = "as")]
    place: Option<String>,
    boot_driver: bool,
    put: Vec<String>,
    build: Option<String>,
    haiku_tree: Option<String>,
    jam: Vec<String>,
    until: Option<String>,
    fail: Vec<String>,
    test: Option<String>,
    get: Vec<String>,
    keep: bool,
    state: Option<String>,
    disk_bus: Option<String>,
    no_prepared: bool,
    accel: Option<String>,
    firmware: Option<String>,
    net: Option<String>,
    display: Option<String>,
    primary_display: bool,
    sound: bool,
    usb: Vec<String>,
    forward: Vec<String>,
    memory: Option<u64>,
    cpus: Option<u16>,
    timeout: Option<u64>,
    idle_timeout: Option<u64>,
    /// Handed to QEMU as they are.
    qemu_args: Vec<String>,
}

/// What a project may not do before somebody who has read it trusts it: it goes beyond what a build
/// command could do as well, for under sudo it reaches what is the machine's and not the project's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doubtful<'a> {
    /// The key in the file.
    pub(super) key: &'static str,
    /// One of its values; empty where the key is enough.
    pub(super) value: &'a str,
}

impl fmt::Display for Doubtful<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key, self.value) {
            ("qemu-args", value) => f.write_str(value),
            (key, "") => write!(f, "--{key}"),
            (key, value) => write!(f, "--{key}={value}"),
        }
    }
}

impl Target {
    /// What of it is to be trusted first.
    pub(super) fn doubtful(&self) -> Vec<Doubtful<'_>> {
        let lists = [("qemu-args", &self.qemu_args), ("allow", &self.allow), ("usb", &self.usb)];
        let lists = lists.into_iter().flat_map(|(key, values)| {
            values.iter().map(move |value| Doubtful { key, value: value.as_str() })
        });
        let flags = [("with-group", self.with_group), ("force-unbind", self.force_unbind)];
        let flags = flags.into_iter().filter(|(_, is_given)| *is_given);
        lists.chain(flags.map(|(key, _)| Doubtful { key, value: "" })).collect()
    }

    /// The words that it stands for; its paths begin at `directory`.
    pub(super) fn words(&self, cards: &[String], directory: &Path) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut add = |option: &str, value: &dyn fmt::Display| {
            // In one word, for a value may begin with a dash.
            words.push(format!("--{option}={value}").into());
        };
        let within = |path: &str| directory.join(path).to_string_lossy().into_owned();
        let drivers: Vec<_> = self.driver.iter().map(|path| within(path)).collect();
        // What has no path on this side is for the option itself to refuse.
        let put = |put: &String| match put.split_once(':') {
            Some((source, to)) if !source.is_empty() => format!("{}:{to}", within(source)),
            _ => put.clone(),
        };
        let get = |get: &String| match get.split_once(':') {
            Some((from, file)) => format!("{from}:{}", within(file)),
            None => get.clone(),
        };
        let (puts, gets): (Vec<_>, Vec<_>) =
            (self.put.iter().map(put).collect(), self.get.iter().map(get).collect());
        let haiku_tree = self.haiku_tree.as_deref().map(within);
        let romfile = self.romfile.as_deref().map(within);
        let lists = [
            ("device", cards),
            ("emulate", &self.emulate),
            ("allow", &self.allow),
            ("driver", &drivers),
            ("put", &puts),
            ("jam", &self.jam),
            ("fail", &self.fail),
            ("get", &gets),
            ("usb", &self.usb),
            ("forward", &self.forward),
            ("extra-qemu-arg", &self.qemu_args),
        ];
        for (option, values) in lists {
            values.iter().for_each(|value| add(option, value));
        }
        let texts = [
            ("romfile", &romfile),
            ("reset", &self.reset),
            ("as", &self.place),
            ("build", &self.build),
            ("haiku-tree", &haiku_tree),
            ("until", &self.until),
            ("test", &self.test),
            ("state", &self.state),
            ("disk-bus", &self.disk_bus),
            ("accel", &self.accel),
            ("firmware", &self.firmware),
            ("net", &self.net),
            ("display", &self.display),
        ];
        for (option, value) in texts {
            value.iter().for_each(|value| add(option, value));
        }
        let cpus = self.cpus.map(u64::from);
        let numbers = [
            ("memory", self.memory),
            ("cpus", cpus),
            ("timeout", self.timeout),
            ("idle-timeout", self.idle_timeout),
        ];
        for (option, value) in numbers {
            value.iter().for_each(|value| add(option, value));
        }
        let flags = [
            ("function", self.function),
            ("with-group", self.with_group),
            ("force-unbind", self.force_unbind),
            ("boot-driver", self.boot_driver),
            ("keep", self.keep),
            ("no-prepared", self.no_prepared),
            ("primary-display", self.primary_display),
            ("sound", self.sound),
        ];
        let flags = flags.into_iter().filter(|(_, is_given)| *is_given);
        words.extend(flags.map(|(option, _)| OsString::from(format!("--{option}"))));
        words.extend(self.image.iter().map(|image| directory.join(image).into_os_string()));
        words
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::command::run;

    #[derive(Debug, Parser)]
    #[command(no_binary_name = true)]
    struct Line {
        #[command(flatten)]
        args: run::Args,
    }

    /// A target with every key.
    const WHOLE: &str = r#"
        image = "haiku.iso"
        card = ["8086:10d3"]
        emulate = ["edu"]
        romfile = "card.rom"
        reset = "flr"
        function = true
        with-group = true
        allow = ["data-loss=S3R1AL"]
        force-unbind = true
        driver = ["a", "/b"]
        as = "misc/a"
        boot-driver = true
        put = ["c:/boot/home/c", "/d:e"]
        build = "make"
        haiku-tree = "../haiku"
        jam = ["poke"]
        until = "-x"
        fail = ["FAIL"]
        test = "true"
        get = ["/boot/home/f:f", "/boot/home/g"]
        keep = true
        state = "mine"
        disk-bus = "nvme"
        no-prepared = true
        accel = "tcg"
        firmware = "uefi"
        net = "user"
        display = "none"
        primary-display = true
        sound = true
        usb = ["046d:c31c"]
        forward = ["2222:22"]
        memory = 1024
        cpus = 2
        timeout = 30
        idle-timeout = 10
        qemu-args = ["-x"]
    "#;

    /// Options of `run` that a target has no key for, and why.
    const WITHOUT_KEY: [(&str, &str); 17] = [
        ("device", "an address is of one machine: `card` names ids or an alias"),
        ("extra-qemu-arg", "`qemu-args` holds them all"),
        ("guest", "a target is a run of Haiku"),
        ("kernel", "of the reference guest"),
        ("dhcp", "of the reference guest"),
        ("persist", "what writes the image itself is said each time"),
        ("input", "a device node is of one machine"),
        ("qemu", "a path to a program is of one machine, and KIREJI_QEMU names it there"),
        ("qemu-caps", "for tests"),
        ("watch", "how one run is made, not what it is"),
        ("gdb", "how one run is looked at"),
        ("dry-run", "how one run is looked at"),
        ("quiet", "how one run is told"),
        ("json", "how one run is told"),
        ("junit", "how one run is told"),
        ("github", "how one run is told"),
        ("help", "no option of a run"),
    ];

    fn whole() -> Target {
        toml::from_str(WHOLE).unwrap()
    }

    /// The keys, by the words of who refuses another one.
    fn keys() -> BTreeSet<String> {
        let error = toml::from_str::<Target>("other-key = 1").unwrap_err().to_string();
        let (_, keys) = error.split_once("expected one of ").unwrap();
        keys.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_option_of_a_run_is_a_key_or_has_a_reason_not_to_be() {
        let table: toml::Table = WHOLE.parse().unwrap();
        assert_eq!(table.keys().cloned().collect::<BTreeSet<_>>(), keys(), "WHOLE has every key");
        let words = whole().words(&["0000:29:00.0".into()], Path::new("/p"));
        let given = words.iter().filter_map(|word| word.to_str()?.strip_prefix("--"));
        let given: BTreeSet<_> =
            given.map(|word| word.split_once('=').map_or(word, |(option, _)| option)).collect();
        let mut command = Line::command();
        command.build();
        let options: BTreeSet<_> =
            command.get_arguments().filter_map(clap::Arg::get_long).collect();
        let without: BTreeSet<_> = WITHOUT_KEY.iter().map(|(option, _)| *option).collect();
        assert!(without.is_subset(&options), "{:?}", without.difference(&options));
        for option in &options {
            let has_key = keys().contains(*option);
            assert_ne!(has_key, without.contains(option), "--{option}");
            assert!(!has_key || given.contains(option), "--{option} is not handed on");
        }
        assert!(given.is_subset(&options), "{:?}", given.difference(&options));
        // Each is what the option of its name takes.
        let line = Line::try_parse_from(&words).unwrap();
        assert!(format!("{line:?}").contains("S3R1AL"));
    }

    #[test]
    fn the_guide_has_every_key() {
        let guide = include_str!("../../../../docs/src/loop.md");
        for key in keys() {
            assert!(guide.contains(&format!("`{key}`")), "{key}");
        }
    }

    #[test]
    fn paths_begin_where_the_file_is() {
        let words = whole().words(&["0000:29:00.0".into()], Path::new("/p"));
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        for word in [
            "--device=0000:29:00.0",
            "--romfile=/p/card.rom",
            "--driver=/p/a",
            "--driver=/b",
            "--put=/p/c:/boot/home/c",
            "--put=/d:e",
            "--get=/boot/home/f:/p/f",
            "--get=/boot/home/g",
            "--haiku-tree=/p/../haiku",
            "--until=-x",
            "--keep",
            "--allow=data-loss=S3R1AL",
        ] {
            assert!(words.contains(&word), "{word}: {words:?}");
        }
        assert_eq!(words.last(), Some(&"/p/haiku.iso"));
        assert_eq!(Target::default().words(&[], Path::new("/p")), Vec::<OsString>::new());
    }

    #[test]
    fn what_reaches_beyond_the_project_is_to_be_trusted() {
        let whole = whole();
        let shown: Vec<_> = whole.doubtful().iter().map(ToString::to_string).collect();
        let expected =
            ["-x", "--allow=data-loss=S3R1AL", "--usb=046d:c31c", "--with-group", "--force-unbind"];
        assert_eq!(shown, expected);
        assert_eq!(Target::default().doubtful(), []);
    }
}
