//! Genuine logs, whole and damaged.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use memchr::memmem;
use proptest::prelude::*;

use super::*;

/// Every genuine log, by its name.
pub(super) fn logs() -> BTreeMap<String, Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/serial");
    let mut logs = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if let Some(name) = path.to_str().unwrap().strip_suffix(".log.zst") {
            let name = super::report::leaf(name).to_owned();
            logs.insert(name, zstd::decode_all(&*std::fs::read(&path).unwrap()).unwrap());
        }
    }
    logs
}

pub(super) fn panics(log: &[u8]) -> Vec<Panic> {
    let mut found = Vec::new();
    let mut reader = Reader::default();
    let mut keep = |event: Event<'_>| {
        if let Event::Complete(panic) = event {
            found.push(*panic);
        }
    };
    reader.push(log, &mut keep);
    reader.finish(&mut keep);
    found
}

fn in_words(panic: &Panic) -> String {
    let mut text = String::new();
    let optional = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let guilty = panic.guilty.as_ref().map_or("-".to_owned(), |frame| {
        format!(
            "{} {} (nearest {}) offset {:x?} at {:#x}{}",
            optional(frame.image.as_deref()),
            optional(frame.symbol.as_deref()),
            optional(frame.nearest_symbol.as_deref()),
            frame.offset,
            frame.address,
            if frame.is_exact { ", exact" } else { "" }
        )
    });
    let _ = write!(
        text,
        "title:    {}\nkind:     {:?}\nwhole:    {} {:?}\nguilty:   {guilty}\n",
        panic.title, panic.kind, !panic.corrupted, panic.damage,
    );
    let thread = panic.thread.as_ref().map(|thread| format!("{} {}", thread.id, thread.name));
    let _ = write!(
        text,
        "thread:   {} cpu {:?} {}\nframes:   {} registers: {} others: {}\n",
        optional(thread.as_deref()),
        panic.cpu,
        optional(panic.revision.as_deref()),
        panic.frames.len(),
        panic.registers.len(),
        panic.other_threads.len(),
    );
    for sentence in &panic.explanation {
        let _ = writeln!(text, "          {sentence}");
    }
    text
}

#[test]
fn every_log_has_its_report() {
    for (name, log) in logs() {
        let found = panics(&log);
        let text: Vec<_> = found.iter().map(in_words).collect();
        let text = if text.is_empty() { "no panic\n".to_owned() } else { text.join("\n") };
        insta::assert_snapshot!(name, text);
    }
}

/// The frames that are blamed; where their images are is not always told.
fn blamed(panics: &[Panic]) -> Vec<Frame> {
    let guilty = panics.iter().filter_map(|panic| panic.guilty.clone());
    guilty.map(|frame| Frame { offset: None, ..frame }).collect()
}

/// What a damaged log says must be what the whole one says, or be marked.
fn check_damaged(name: &str, whole: &[u8], damaged: &[u8]) -> Result<(), TestCaseError> {
    let expected = blamed(&panics(whole));
    for panic in panics(damaged).iter().filter(|panic| !panic.corrupted) {
        for blame in blamed(std::slice::from_ref(panic)) {
            prop_assert!(
                expected.contains(&blame),
                "{name}: {blame:?} is blamed\n{}",
                in_words(panic)
            );
        }
    }
    Ok(())
}

/// The part of a log that matters: from some lines before the panic on, until the debugger is left.
fn report(log: &[u8]) -> &[u8] {
    let at = memmem::find(log, b"PANIC: ").unwrap_or_default();
    let end = memmem::find(log, b"kdebug> es\r").unwrap_or(log.len());
    &log[at.saturating_sub(400)..end]
}

/// One thing that happens to bytes on a line.
#[derive(Clone, Debug)]
enum Harm {
    /// What is after this is not there.
    End(usize),
    /// What is before this is not there.
    Start(usize),
    /// So many bytes are lost.
    Lost(usize, usize),
    /// A byte is another.
    Changed(usize, u8),
    /// Something is written in between.
    Between(usize, &'static str),
    /// A part comes once more, later.
    Again(usize, usize, usize),
}

impl Harm {
    fn apply(&self, log: &mut Vec<u8>) {
        let place = |at: usize| if log.is_empty() { 0 } else { at % log.len() };
        match *self {
            Self::End(at) => log.truncate(place(at)),
            Self::Start(at) => drop(log.drain(..place(at))),
            Self::Lost(at, count) => {
                let at = place(at);
                log.drain(at..log.len().min(at + count));
            }
            Self::Changed(at, byte) => {
                let at = place(at);
                if let Some(old) = log.get_mut(at) {
                    *old = byte;
                }
            }
            Self::Between(at, text) => {
                let at = place(at);
                log.splice(at..at, text.bytes());
            }
            Self::Again(from, count, to) => {
                let (from, to) = (place(from), place(to));
                let part = log[from..log.len().min(from + count)].to_vec();
                log.splice(to..to, part);
            }
        }
    }
}

fn harm() -> impl Strategy<Value = Harm> {
    let at = || any::<prop::sample::Index>().prop_map(|index| index.index(1 << 24));
    let noise = prop::sample::select(vec![
        "KERN: ",
        "\x1b[33m",
        "\r",
        "\n",
        "\r\n",
        "ahci: Probe: port 2 link speed 1.5Gb/s\r\n",
        "Last message repeated 3 times.\r\n",
        "kdebug> ",
        "Welcome to Kernel Debugging Land...\r\n",
        "\0\0\u{7f}",
        " 7 ffffffff8130ff20 (+  80) ffffffff800f8ec1   <kernel_x86_64> x + 0x1d1\r\n",
    ]);
    prop_oneof![
        at().prop_map(Harm::End),
        at().prop_map(Harm::Start),
        (at(), 1_usize..400).prop_map(|(at, count)| Harm::Lost(at, count)),
        (at(), 1_usize..3).prop_map(|(at, count)| Harm::Lost(at, count)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Harm::Changed(at, byte)),
        (at(), b'0'..=b'f').prop_map(|(at, byte)| Harm::Changed(at, byte)),
        (at(), noise).prop_map(|(at, text)| Harm::Between(at, text)),
        (at(), 1_usize..400, at()).prop_map(|(from, count, to)| Harm::Again(from, count, to)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_wrong_frame_is_never_blamed_without_a_mark(
        harms in prop::collection::vec(harm(), 1..6),
    ) {
        for (name, log) in reports() {
            let mut damaged = log.clone();
            for harm in &harms {
                harm.apply(&mut damaged);
            }
            check_damaged(name, log, &damaged)?;
        }
    }

    #[test]
    fn pieces_do_not_matter(sizes in prop::collection::vec(1_usize..300, 1..40)) {
        let log = &reports()["kdl-null-smp2"];
        let events = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let (mut reader, mut events) = (Reader::default(), Vec::new());
            let mut keep = |event: Event<'_>| events.push(format!("{event:?}"));
            for piece in pieces {
                reader.push(piece, &mut keep);
            }
            reader.finish(&mut keep);
            events
        };
        let mut rest = &log[..];
        let mut sizes = sizes.iter().cycle();
        let mut pieces = std::iter::from_fn(|| {
            let (piece, more) = rest.split_at(rest.len().min(*sizes.next()?));
            rest = more;
            (!piece.is_empty()).then_some(piece)
        });
        prop_assert_eq!(events(&mut pieces), events(&mut std::iter::once(&log[..])));
    }
}

/// Reports as the kernel gives them before it is asked, so that its stack is told once: what stands
/// in one place only, such as a name, may be changed without a trace.
#[test]
fn a_report_without_questions_is_whole_too() {
    for (name, log) in reports() {
        let at = memmem::find(log, b"kdebug> ").unwrap();
        let told = panics(&log[..at + 8]);
        assert_eq!(blamed(&told), blamed(&panics(log)), "{name}");
        assert!(!told[0].corrupted, "{name}: {:?}", told[0].damage);
        // Without the prompt, nobody knows whether it goes on.
        for cut in [&log[..at], &log[..at - 200]] {
            let told = panics(cut);
            assert!(!told.is_empty(), "{name}");
            assert!(told.iter().all(|panic| panic.corrupted), "{name}");
        }
    }
}

/// The reports of all logs that have one.
fn reports() -> &'static BTreeMap<String, Vec<u8>> {
    static REPORTS: std::sync::OnceLock<BTreeMap<String, Vec<u8>>> = std::sync::OnceLock::new();
    REPORTS.get_or_init(|| {
        let logs = logs().into_iter().filter(|(_, log)| !panics(log).is_empty());
        let mut reports: BTreeMap<_, _> =
            logs.map(|(name, log)| (name, report(&log).to_vec())).collect();
        // No log at hand has one, which begins with other words and is the same from there on.
        let fault = double_fault(&reports["kdl-null"]);
        assert_eq!(panics(&fault)[0].kind, Kind::DoubleFault);
        reports.insert("double-fault".to_owned(), fault);
        reports
    })
}

/// A report with the words of a double fault where the panic's were.
fn double_fault(log: &[u8]) -> Vec<u8> {
    let at = memmem::find(log, b"PANIC: ").unwrap();
    let end = at + memmem::find(&log[at..], b"\r").unwrap();
    [&log[..at], b"Double Fault!", &log[end..]].concat()
}
