//! What Haiku says over the serial line of drivers that it loads and of cards that it finds.
//!
//! Facts about single lines, as in [`crate::serial`]; a program in the guest can forge them all.
//! The words are those of Haiku's kernel (src/system/kernel): each variant names its place.

/// A function of the guest's PCI buses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Bus number.
    pub bus: u8,
    /// Device number.
    pub device: u8,
    /// Function number.
    pub function: u8,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

/// Something that a line says of drivers or cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A legacy driver was loaded from this path (device_manager/legacy_drivers.cpp).
    Loaded(&'a str),
    /// A device was published by a module (device_manager/device_manager.cpp).
    Published {
        /// Its path below `/dev`.
        path: &'a str,
        /// The module's name.
        module: &'a str,
    },
    /// The file cannot be loaded (elf.cpp).
    Rejected {
        /// The file.
        path: &'a str,
        /// What the kernel said.
        error: &'a str,
    },
    /// A symbol is not there, or of another type (elf.cpp).
    Unresolved {
        /// The file.
        path: &'a str,
        /// The symbol.
        symbol: &'a str,
    },
    /// A segment of the file is left out (elf.cpp).
    OddSegment(&'a str),
    /// Two files have modules of one name, of which the first wins (module.cpp).
    Duplicate(&'a str),
    /// A PCI function was found (bus_managers/pci/pci_info.cpp).
    Function {
        /// Where.
        place: Place,
        /// Its vendor's id.
        vendor: u16,
        /// Its own id.
        device: u16,
    },
    /// The address of a base register of the function before, where it is not 0.
    Region(u64),
    /// A program came to its end by a fault, with or without a debug server to say so
    /// (src/servers/debug/DebugServer.cpp, debug/user_debugger.cpp).
    ProgramCrashed(&'a str),
}

/// What a line has in it that says something; one that has none of these says nothing.
pub const WORDS: [&str; 11] = [
    "loaded driver /",
    "publish device: node ",
    "Could not load kernel add-on \"",
    "load_module_image(",
    "\": could not resolve symbol '",
    ": weird program header flags ",
    "Duplicate module name (",
    "PCI: [dom ",
    "PCI:   base reg ",
    "debug_server: Thread ",
    "thread_hit_serious_debug_event(): Failed to install debugger",
];

/// Returns what a line says, given without its end and without control sequences.
pub fn event(line: &str) -> Option<Event<'_>> {
    let line = line.trim_end();
    if let Some((_, path)) = line.split_once("loaded driver /") {
        // The slash belongs to the path.
        let start = line.len() - path.len() - 1;
        return line.get(start..).map(Event::Loaded);
    }
    if let Some((_, rest)) = line.split_once("publish device: node ") {
        let (_, rest) = rest.split_once(", path ")?;
        let (path, module) = rest.split_once(", module ")?;
        return Some(Event::Published { path, module });
    }
    if let Some((_, rest)) = line.split_once("Could not load kernel add-on \"") {
        let (path, error) = rest.split_once("\": ")?;
        return Some(Event::Rejected { path, error });
    }
    if let Some((_, rest)) = line.split_once("load_module_image(") {
        let (path, error) = rest.split_once(") failed: ")?;
        return Some(Event::Rejected { path, error });
    }
    if let Some((before, symbol)) = line.split_once("\": could not resolve symbol '") {
        let (_, path) = before.rsplit_once('"')?;
        return Some(Event::Unresolved { path, symbol: symbol.trim_end_matches('\'') });
    }
    if let Some((path, _)) = line.split_once(": weird program header flags ") {
        return Some(Event::OddSegment(path));
    }
    if let Some((_, rest)) = line.split_once("Duplicate module name (") {
        return rest.split_once(") detected").map(|(name, _)| Event::Duplicate(name));
    }
    if let Some((_, rest)) = line.split_once("PCI: [dom ") {
        return function(rest);
    }
    if let Some((_, rest)) = line.split_once("PCI:   base reg ") {
        let (_, address) = rest.split_once(": host ")?;
        let digits = address.split(',').next()?;
        return u64::from_str_radix(digits, 16).ok().filter(|at| *at != 0).map(Event::Region);
    }
    let crashed = line.contains("debug_server: Thread ") && line.contains("entered the debugger")
        || line.contains("thread_hit_serious_debug_event(): Failed to install debugger");
    crashed.then_some(Event::ProgramCrashed(line))
}

/// Reads `0, bus  0] bus   0, device  2, function  0: vendor 1234, device 11e8, revision 10`.
fn function(rest: &str) -> Option<Event<'_>> {
    let (_, rest) = rest.split_once("] bus ")?;
    let (bus, rest) = rest.split_once(", device ")?;
    let (device, rest) = rest.split_once(", function ")?;
    let (number, rest) = rest.split_once(": vendor ")?;
    let (vendor, rest) = rest.split_once(", device ")?;
    let id = rest.split(',').next()?;
    let place = Place {
        bus: bus.trim().parse().ok()?,
        device: device.trim().parse().ok()?,
        function: number.trim().parse().ok()?,
    };
    let hex = |text: &str| u16::from_str_radix(text.trim(), 16).ok();
    Some(Event::Function { place, vendor: hex(vendor)?, device: hex(id)? })
}

/// The numbers of a line by which it may name a function, in either base.
#[derive(Clone, Debug, Default)]
pub struct Numbers<'a> {
    places: Vec<[&'a str; 3]>,
    addresses: Vec<u64>,
}

impl<'a> Numbers<'a> {
    /// Reads a line.
    pub fn of(line: &'a str) -> Self {
        let mut places = Vec::new();
        let written = line.split(|c: char| !c.is_ascii_hexdigit() && !matches!(c, ':' | '.' | '/'));
        for word in written {
            // Three numbers with dots alone are a version.
            if !word.contains([':', '/']) {
                continue;
            }
            let mut parts = word.trim_end_matches([':', '.', '/']).rsplit([':', '.', '/']);
            if let (Some(function), Some(device), Some(bus)) =
                (parts.next(), parts.next(), parts.next())
                && parts.count() <= 1
            {
                places.push([bus, device, function]);
            }
        }
        let number_after = |word: &str| {
            let (_, rest) = line.split_once(word)?;
            let rest = rest.trim_start_matches([' ', '=', ':']);
            rest.split(|c: char| !c.is_ascii_hexdigit()).next()
        };
        let in_words =
            || Some([number_after("bus")?, number_after("device")?, number_after("function")?]);
        places.extend(in_words());
        let addresses = line.split(|c: char| !c.is_ascii_alphanumeric()).filter_map(|word| {
            let digits = word.strip_prefix("0x").unwrap_or(word);
            // Short numbers are anything.
            (digits.len() >= 6).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        });
        let addresses = addresses.collect();
        Self { places, addresses }
    }

    /// Whether they name a function by its place, in any of the ways that drivers write one:
    /// `0:2.0`, `0000:00:02.0`, `0/2/0` or `bus 0, device 2, function 0`.
    pub fn name_place(&self, place: Place) -> bool {
        let wanted = [place.bus, place.device, place.function];
        let is = |text: &str, number: u8| {
            text.parse() == Ok(number) || u8::from_str_radix(text, 16) == Ok(number)
        };
        let mut places = self.places.iter();
        places.any(|place| place.iter().zip(wanted).all(|(text, number)| is(text, number)))
    }

    /// Whether they name an address of the guest's memory, as hexadecimal digits.
    pub fn name_address(&self, address: u64) -> bool {
        self.addresses.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EDU: Place = Place { bus: 0, device: 2, function: 0 };

    fn names_place(line: &str, place: Place) -> bool {
        Numbers::of(line).name_place(place)
    }

    fn names_address(line: &str, address: u64) -> bool {
        Numbers::of(line).name_address(address)
    }

    fn has_word(line: &str) -> bool {
        WORDS.iter().any(|word| line.contains(word))
    }

    #[test]
    fn lines_say_what_they_say() {
        let bin = "/boot/home/config/non-packaged/add-ons/kernel/drivers/bin/x";
        for (line, expected) in [
            ("loaded driver /boot/x/dev/misc/edu_test\r", {
                Some(Event::Loaded("/boot/x/dev/misc/edu_test"))
            }),
            ("cutloaded driver /a", Some(Event::Loaded("/a"))),
            (
                "publish device: node 0xffffffff829399c0, path power/button/power_fixed, module \
                 drivers/power/acpi_button/device_v1",
                Some(Event::Published {
                    path: "power/button/power_fixed",
                    module: "drivers/power/acpi_button/device_v1",
                }),
            ),
            (
                &format!("Could not load kernel add-on \"{bin}\": No such symbol"),
                Some(Event::Rejected { path: bin, error: "No such symbol" }),
            ),
            (
                "load_module_image(/boot/x) failed: Not an executable",
                Some(Event::Rejected { path: "/boot/x", error: "Not an executable" }),
            ),
            (
                &format!("\"{bin}\": could not resolve symbol 'frob'"),
                Some(Event::Unresolved { path: bin, symbol: "frob" }),
            ),
            (&format!("{bin}: weird program header flags 0x4"), Some(Event::OddSegment(bin))),
            (
                "Duplicate module name (drivers/disk/x/driver_v1) detected... ignoring new one",
                Some(Event::Duplicate("drivers/disk/x/driver_v1")),
            ),
            (
                "PCI: [dom 0, bus  0] bus   0, device  2, function  0: vendor 1234, device 11e8, \
                 revision 10",
                Some(Event::Function { place: EDU, vendor: 0x1234, device: 0x11e8 }),
            ),
            (
                "PCI:   base reg 0: host c1000000, pci c1000000, size 00100000, flags 00",
                Some(Event::Region(0xc100_0000)),
            ),
            ("PCI:   base reg 1: host 00000000, pci 00000000, size 00000000, flags 00", None),
            ("PCI: [dom 0, bus 0] bus 999, device 2, function 0: vendor 1, device 2", None),
            ("publish device: node", None),
            ("", None),
        ] {
            assert_eq!(event(line), expected, "{line}");
            assert!(has_word(line) || expected.is_none(), "{line}");
        }
        for crash in [
            "debug_server: Thread 84 entered the debugger: Segment violation",
            "thread_hit_serious_debug_event(): Failed to install debugger: thread 84",
        ] {
            assert_eq!(event(crash), Some(Event::ProgramCrashed(crash)));
            assert!(has_word(crash));
        }
    }

    #[test]
    fn a_driver_names_its_card_in_many_ways() {
        for line in [
            "edu_test: found at 0:2.0 bar0 0xc1000000 size 0x100000 irq 22",
            "edu: 0000:00:02.0: hello",
            "edu: using 00:02.0",
            "edu: device at 0/2/0",
            "edu: bus 0, device 2, function 0",
            "edu: bus=0 device=0x2 function=0".replace("0x2", "2").as_str(),
        ] {
            assert!(names_place(line, EDU), "{line}");
        }
        for line in [
            "edu: version 0.2.0",
            "edu: found at 0:3.0",
            "edu: at 1:2.0",
            "edu: 0:2",
            "edu: 2.0",
            "edu: device 2",
        ] {
            assert!(!names_place(line, EDU), "{line}");
        }
        let high = Place { bus: 0x29, device: 0x1f, function: 3 };
        assert!(names_place("found 29:1f.3", high));
        assert!(names_place("found 41:31.3", high));
        assert!(names_address("mapped bar at 0xc1000000.", 0xc100_0000));
        assert!(names_address("mapped 00000000c1000000", 0xc100_0000));
        assert!(!names_address("mapped 0xc1000001", 0xc100_0000));
        assert!(!names_address("count 2", 2));
    }

    #[test]
    fn a_genuine_boot_says_which_functions_and_drivers_there_are() {
        let log = include_bytes!("../fixtures/serial/q35-ahci-boot-userland-shutdown.log.zst");
        let text = String::from_utf8_lossy(&zstd::decode_all(&log[..]).unwrap()).into_owned();
        let events: Vec<_> = text.lines().filter_map(event).collect();
        let functions = events.iter().filter(|event| matches!(event, Event::Function { .. }));
        assert!(functions.count() > 3);
        assert!(events.contains(&Event::Loaded("/boot/system/add-ons/kernel/drivers/dev/null")));
        assert!(events.iter().any(|event| matches!(event, Event::Published { .. })));
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "(PCI: \\[dom |loaded driver /|\"|: |bus |[0-9a-f:./, ]){0,12}.*") {
            let found = event(&line).map(|found| format!("{found:?}"));
            prop_assert!(found.is_none() || has_word(&line));
            let _ = names_place(&line, EDU) && names_address(&line, 0xc100_0000);
        }
    }
}
