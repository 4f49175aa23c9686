//! What the host's kernel says of a card during a run, through the whole command: a fake kernel, its
//! log, and a fake guest.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod card;

use std::io::Write;

use kireji::{Code, Exit};
use rustix::fs::{CWD, FileType, Mode};
use testkit::fake_guest::Script;
use testkit::image::{self, Then};

const NIC: &str = "0000:00:03.0";
const BOOT: &str = "Welcome to the Haiku boot loader!\r\nWelcome to kernel debugger output!\r\n\
    Mounted boot partition: /dev/disk/scsi/0/5/0/1\r\n";

/// Runs a guest with the card while the host's kernel says this; returns the exit code and all that
/// was written.
fn run(script: &Script, kernel_says: &str, more: &[&str]) -> (Code, String) {
    let directory = tempfile::tempdir().unwrap();
    let kernel = card::host(&[NIC]);
    let log = kernel.tree.locate("/dev/kmsg");
    rustix::fs::mknodat(CWD, &log, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    // A pipe without a writer has an end.
    let mut log = std::fs::File::options().read(true).write(true).open(&log).unwrap();
    log.write_all(kernel_says.as_bytes()).unwrap();
    let image = directory.path().join("image");
    image::write(&image, "", Then::Halt);
    let words = [&[image.to_str().unwrap(), "--device", NIC], more].concat();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut plain = anstream::StripStream::new(&mut err);
    let code = card::run(&kernel, script, directory.path(), &words, (&mut out, &mut plain));
    assert_eq!(kernel.binding(NIC).0.as_deref(), Some("e1000e"), "the card is not back");
    let said = [out, err].concat();
    (code, String::from_utf8(said).unwrap())
}

#[test]
fn what_the_kernel_says_of_the_card_is_the_verdict() {
    let boot = Script::default().say(BOOT);
    let dma = "DMAR: [DMA Read NO_PASID] Request device [00:03.0] fault addr 0x8000000 [fault \
               reason 0x06] PTE Read access is not set";
    for (message, explained) in [
        (dma.to_owned(), "access to 0x8000000, which is no memory of the guest's"),
        (dma.replace("0x8000000", "0x2000000"), "0x2000000, which is within the guest's memory"),
        (
            format!(
                "vfio-pci {NIC}: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000e \
                 address=0xffff800000001000 flags=0x0000]"
            ),
            "access to 0xffff800000001000, which is no memory of the guest's",
        ),
        (
            format!("pcieport 0000:00:1c.0: AER: Uncorrected (Fatal) error received: {NIC}"),
            "the card's link reported an error that was not corrected",
        ),
        (
            format!("vfio-pci {NIC}: not ready 1023ms after bus reset; waiting"),
            "the card does not answer any more: it fell off the bus",
        ),
    ] {
        let record = format!("4,1027,123456789,-;{message}\n SUBSYSTEM=pci\n");
        let (code, said) = run(&boot, &record, &["--until", "never", "--quiet"]);
        assert_eq!(code, Exit::CardFault, "{message}: {said}");
        assert!(said.contains(explained), "{message}: {said}");
        assert!(said.contains(&format!("because the host's kernel said: {message}")), "{said}");
        assert!(said.contains(&format!("host: {message}")), "{said}");
    }
}

#[test]
fn a_fault_explains_a_panic_and_other_cards_do_not_matter() {
    let panic = "PANIC: driver: the card did not answer\r\nWelcome to Kernel Debugging Land...\r\n";
    let fault = "3,1,1,-;DMAR: [DMA Write] Request device [00:03.0] fault addr 0x8000000\n";
    let script = Script::default().say(BOOT).await_places().say(panic).debugger("");
    let (code, said) = run(&script, fault, &["--until", "never", "--quiet"]);
    // Which of the two is heard first is not certain; that both are told is.
    if code == Exit::Panic {
        assert!(said.contains("the host's kernel said: DMAR"), "{said}");
    } else {
        assert_eq!(code, Exit::CardFault, "{said}");
    }
    for harmless in [
        "3,1,1,-;DMAR: [DMA Write] Request device [00:04.0] fault addr 0x8000000\n",
        "6,1,1,-;vfio-pci 0000:00:03.0: resetting\n",
        "no record at all\n",
        "4,1,1,-;pcieport 0000:00:1c.0: AER: Corrected error received: 0000:00:03.0\n",
    ] {
        let script = Script::default().say(&format!("{BOOT}all well\r\n"));
        let (code, said) = run(&script, harmless, &["--until", "all well", "--quiet"]);
        assert_eq!(code, Exit::Done, "{harmless}: {said}");
    }
}

#[test]
fn without_a_goal_the_guest_goes_on_after_a_fault_and_the_verdict_is_the_fault() {
    let fault = "3,1,1,-;DMAR: [DMA Write] Request device [00:03.0] fault addr 0x8000000\n";
    let script = Script::default().say(BOOT).await_places().shut_down();
    let (code, said) = run(&script, fault, &[]);
    assert_eq!(code, Exit::CardFault, "{said}");
    assert!(said.contains("host: DMAR: [DMA Write]"), "{said}");
}
