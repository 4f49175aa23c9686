//! What `--help` of a command says beyond its options: a paragraph, examples, exit codes.

/// After the options of `list`.
pub(crate) const LIST: &str = "\
Functions that belong to one card have the same address up to the dot. The group is the IOMMU's: \
what is in one group can only be given away together.

Examples:
  kireji list           every function, who has it and what it belongs to
  kireji list --json    the same for a program

Exit codes: 0 listed, 11 the host cannot be read.";

/// After the options of `show`.
pub(crate) const SHOW: &str = "\
`29:00` and `29:00.0` mean the whole card, `--function 29:00.0` one function of it. What only root \
may read is shown as unmeasured, never guessed.

Examples:
  kireji show 29:00
  sudo kireji show 29:00.0 --rom card.rom    save its option ROM, for `kireji run --romfile`

Exit codes: 0 shown, 2 there is no such function, 13 root's rights are needed, 15 the ROM is not what \
the card's flash holds, 16 no space for it.";

/// After the options of `take`.
pub(crate) const TAKE: &str = "\
The card's driver lets go of it and vfio-pci takes it; it stays so until `kireji return`, or until a \
reboot. What would be lost is refused, with the way from the card to what is lost: a mounted disk, \
the only screen, the network by which you are logged in. `kireji explain CODE` says more of each.

Examples:
  sudo kireji take 29:00
  sudo kireji take 29:00 --for tester    and let the user tester run guests with it, without root
  sudo kireji take 29:00.1 --function --with-group

Exit codes: 0 taken, 2 there is no such card, 10 refused, 11 the host cannot, 12 the card is in use, \
13 root's rights are needed, 130 interrupted, and the card is back.";

/// After the options of `return`.
pub(crate) const RETURN: &str = "\
Each function goes back to the driver that had it when it was taken, and its files and settings are \
as they were. A card that does not answer stays on vfio-pci: no driver is let at it.

Example:
  sudo kireji return 29:00

Exit codes: 0 returned, 11 kireji does not hold it or the host cannot, 12 a process drives it, \
13 root's rights are needed, 27 the card is unwell.";

/// After the options of `recover`.
pub(crate) const RECOVER: &str = "\
Whoever takes a card writes down beforehand what it does. Should that process be killed, what it \
wrote down is enough to put the card back; nothing is done for processes that live.

Example:
  sudo kireji recover

Exit codes: 0 nothing is left to recover, 11 the host cannot, 12 something is still at work, \
13 root's rights are needed, 27 a card is unwell.";

/// After the options of `selftest`.
pub(crate) const SELFTEST: &str = "\
Opens the card as QEMU would, reads its configuration space, maps its registers and some memory for \
it, and raises its interrupts. No guest is needed, and nothing in the card is changed.

Examples:
  sudo kireji selftest 29:00 --take    take it, test it, give it back
  kireji selftest 29:00 --json         of a card that was taken for this user

Exit codes: 0 it can be driven, 1 it cannot, 10 refused, 11 the host cannot, 12 the card is in use, \
13 more rights are needed.";

/// After the options of `run`.
pub(crate) const RUN: &str = "\
The card is taken from its driver, given to a guest, and given back when the guest has ended, \
however it ended. What can be wrong is found before that, and by `--dry-run`. What the guest writes \
is thrown away unless `--state` or `--persist` says otherwise. Ctrl-C ends the guest; the logs of a \
run are kept (`kireji runs`, `kireji log`).

Examples:
  sudo kireji run haiku.iso --device 29:00
  kireji run haiku.iso --emulate edu            a card of QEMU's own: no root, no IOMMU
  sudo kireji run haiku.iso --device 29:00 --state work
  kireji run haiku.iso --emulate edu --driver build/mydriver --build make --watch
  kireji run                                    the default target of kireji.toml
  sudo kireji run --guest linux --device 29:00  does passthrough work with this card at all?

Exit codes: 0 the guest shut down or showed what it was to, 1 the build failed, 2 usage, 10 refused, 11 the host cannot, 12 in use, 13 more rights \
are needed, 14 QEMU is missing or unfit, 15 the image is damaged, 16 no space, 20 its test failed, 21 the guest panicked, \
22 it hung, 23 it reset itself, 24 it did not boot, 25 its driver did not drive the card, 26 a program crashed, 27 the card \
is unwell, 28 it ended without proof, 29 QEMU crashed, 130 interrupted.";

/// After the options of `backtrace`.
pub(crate) const BACKTRACE: &str = "\
The log is what a serial line said, of a guest or of a real machine; it may be damaged, and of any \
size. The frame that is blamed is the first of an image other than the kernel. A report that \
contradicts itself, or is cut short, says so.

Examples:
  kireji backtrace                                 the last run
  kireji backtrace serial.log --driver build/mine  with the lines of a driver
  kireji backtrace - --image haiku.iso --json      from standard input, for a program

Exit codes: 0 there is a panic, 1 there is none, 2 a file is none with symbols, 11 the log cannot be \
read, 15 the image is unreadable.";

/// After the options of `ssh`.
pub(crate) const SSH: &str = "\
Each run of Haiku that goes on until somebody ends it has a key of its own, and its guest an ssh \
server that takes it. While the guest boots, it is waited for.

Examples:
  kireji ssh                     a shell in the guest of the last run
  kireji ssh -- listdev          one command
  kireji ssh 20261122-2345 -- uname -a

Exit codes: those of ssh, which are those of the command and 255 for ssh itself; before that 2 there \
is no such run, 11 the run is over, has no such server, or the guest does not answer.";

/// After the options of `cp`.
pub(crate) const CP: &str = "\
Paths of the guest begin with `:`, or with the name of a run and `:`.

Examples:
  kireji cp mydriver :/boot/home/
  kireji cp :/boot/system/var/log/syslog .
  kireji cp -r 20261122-2345:/boot/home/results results

Exit codes: those of scp; before that 2 the paths are wrong or there is no such run, 11 the run is \
over, has no ssh server, or the guest does not answer.";

/// After the options of `image prepare`.
pub(crate) const PREPARE: &str = "\
What a first boot does takes its time at every start of an image that is never written: so it is \
done once, in an overlay that is kept in the user's cache, and runs start from there. Those with \
`--state`, `--persist` or `--no-prepared` take the image itself; so do all when it has changed.

Examples:
  kireji image prepare haiku.iso
  kireji image prepare haiku.iso --remove

Exit codes: 0 prepared, removed, or nothing was left to do, 15 the image cannot be read or was not \
unmounted, 20 the guest asked something, 21 its kernel panicked, 22 it hung or did not shut down, 24 it \
did not boot, 28 its time was up, 130 interrupted.";
