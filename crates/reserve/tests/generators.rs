//! What a plan writes is given to the distributions' own generators, and what they build is proved.
//!
//! Each runs in a mount namespace in which the planned files lie over this machine's own, with the
//! modules of the kernel that the lab boots. `cargo xtask test` provides both.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pci::Host;
use reserve::boot::{Boot, Builder, Placer, Verdict};
use reserve::built::{Built, Marks};
use reserve::config::Change;
use reserve::goal::{self, Goal};
use reserve::image::Image;
use reserve::plan::Plan;
use reserve::proof::{self, Outcome};
use reserve::reservation::Reservations;
use testkit::tree::{Function, Port, Tree};

const CARD: &str = "0000:01:00.0";

/// The modules of the kernel that the lab boots, and its release.
fn modules() -> (PathBuf, String) {
    let lab = std::env::var_os("KIREJI_LAB_DIR").map_or_else(
        || {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache");
            cache.unwrap_or_else(home).join("kireji/lab/current")
        },
        PathBuf::from,
    );
    let modules = lab.join("root/usr/lib/modules");
    let releases = std::fs::read_dir(&modules)
        .unwrap_or_else(|error| panic!("{}: {error}: run `cargo xtask test`", modules.display()));
    let release = releases.map(|entry| entry.unwrap().file_name()).next().unwrap();
    (modules, release.into_string().unwrap())
}

struct Machine {
    tree: Tree,
    modules: PathBuf,
    release: String,
}

impl Machine {
    fn new() -> Self {
        let mut tree = Tree::new();
        tree.add(Function::port("0000:00:1c.0", Port::Root, 1).slot());
        tree.add(Function::new(CARD, 0x8086, 0x10d3).class(0x02_0000).below("0000:00:1c.0"));
        let (modules, release) = modules();
        for file in ["modules.dep", "modules.builtin"] {
            let bytes = std::fs::read(modules.join(&release).join(file)).unwrap_or_default();
            tree.write(&format!("/lib/modules/{release}/{file}"), bytes);
        }
        let config = "CONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\n";
        tree.write(&format!("/boot/config-{release}"), config);
        let short = "MODULES=list\nCOMPRESS=gzip\nCOMPRESSLEVEL=1\n";
        tree.write("/etc/initramfs-tools/conf.d/short", short);
        for directory in ["/etc", "/usr/lib/modules", "/boot"] {
            tree.directory(directory);
        }
        Self { tree, modules, release }
    }

    fn image(&self) -> PathBuf {
        self.tree.locate(&format!("/boot/initrd.img-{}", self.release))
    }

    /// Runs a command with this machine's files over those of the real one, and returns what it
    /// says. Nothing of the real one is changed: the layers are all read.
    fn run(&self, command: &[&str]) -> String {
        self.run_with("mount -t overlay -o lowerdir=$1/boot:/boot overlay /boot", command)
    }

    /// The same where the command writes to this machine's `/boot`.
    fn run_on_boot(&self, command: &[&str]) -> String {
        self.run_with("mount --bind $1/boot /boot", command)
    }

    fn run_with(&self, mount_boot: &str, command: &[&str]) -> String {
        let script = format!(
            "mount -t overlay -o lowerdir=$1/etc:/etc overlay /etc\n\
             mount -t overlay -o lowerdir=$1/usr/lib:/usr/lib overlay /usr/lib\n\
             {mount_boot}\n\
             mount --bind $2 /usr/lib/modules\n\
             shift 2\n\
             exec \"$@\"\n"
        );
        let done = Command::new("unshare")
            .args(["-rm", "sh", "-euc", &script, "sh"])
            .args([self.tree.root(), &self.modules])
            .args(command)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{command:?}: {said}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    fn build(&self, builder: Builder) {
        let image = self.image();
        let image = image.to_str().unwrap();
        let has_ours = self.tree.locate("/usr/lib/dracut/modules.d/50kireji/kireji.sh").exists();
        match builder {
            Builder::InitramfsTools => self.run(&["mkinitramfs", "-o", image, &self.release]),
            // Not all that a machine could need, which takes minutes: exactly these modules. Ours
            // is one as soon as it is there.
            Builder::Dracut => self.run(&[
                "dracut",
                "--quiet",
                "--force",
                "--no-hostonly",
                "--no-compress",
                "--modules",
                if has_ours { "base udev-rules kireji" } else { "base udev-rules" },
                image,
                &self.release,
            ]),
            other => panic!("{other} has no backend"),
        };
    }

    fn goal(&self) -> Goal {
        let host = Host::read(&self.tree.sysroot()).unwrap();
        let reservations = Reservations::default().with(&host, &[CARD.parse().unwrap()]).unwrap();
        Goal { reservations, ..Goal::default() }
    }

    fn plan(&self, goal: &Goal) -> Plan {
        let host = self.tree.sysroot();
        goal::plan(&host, &Boot::read(&host).unwrap(), goal).unwrap()
    }

    fn write(&self, plan: &Plan) {
        use std::os::unix::fs::PermissionsExt;
        for change in &plan.files {
            let path = change.path.to_str().unwrap();
            match &change.after {
                Some(after) => {
                    self.tree.write(path, &after.bytes);
                    let mode = std::fs::Permissions::from_mode(after.mode);
                    std::fs::set_permissions(self.tree.locate(path), mode).unwrap();
                }
                None => self.tree.remove(path),
            }
        }
    }

    fn failures(&self, goal: &Goal) -> Vec<String> {
        let host = self.tree.sysroot();
        let claims = proof::prove(&host, &Boot::read(&host).unwrap(), goal).unwrap();
        assert!(!claims.is_empty());
        let failed = claims.into_iter().filter_map(|claim| match claim.outcome {
            Outcome::Pass(_) => None,
            Outcome::Fail(why) | Outcome::Unmeasured(why) => {
                Some(format!("{}: {why}", claim.claim))
            }
        });
        failed.collect()
    }
}

fn listing(path: &Path, host: &Machine) -> Vec<String> {
    let image = format!("/boot/{}", path.file_name().unwrap().to_str().unwrap());
    let image = Image::open(&host.tree.sysroot(), image, |_| false).unwrap();
    let mut names: Vec<_> =
        image.members().iter().map(|member| member.path.display().to_string()).collect();
    names.sort_unstable();
    names
}

/// Builds without and with a reservation, and without again.
fn reserve_prove_release(builder: Builder) -> Machine {
    let machine = Machine::new();
    machine.build(builder);
    let goal = machine.goal();
    let host = machine.tree.sysroot();
    let Verdict::Agreed { says, clues } = Boot::read(&host).unwrap().builder else {
        panic!("{builder} is not known by its image");
    };
    assert_eq!(says, builder, "{clues:?}");
    assert!(machine.failures(&goal).len() >= 2, "nothing is reserved yet");
    assert_eq!(machine.failures(&Goal::default()), Vec::<String>::new());
    let (built, marks) = (Built::read(&host).unwrap(), Marks::read(&host).unwrap());

    let plan = machine.plan(&goal);
    machine.write(&plan);
    machine.build(builder);
    assert_eq!(machine.failures(&goal), Vec::<String>::new());
    assert!(machine.plan(&goal).is_empty(), "a second time");
    assert_eq!(machine.failures(&Goal::default()).len(), 1, "it is not free of ours");

    let release = machine.plan(&Goal::default());
    assert_eq!(release.files.len(), plan.files.len());
    let reserved = listing(&machine.image(), &machine);
    machine.write(&release);
    machine.build(builder);
    assert_eq!(machine.failures(&Goal::default()), Vec::<String>::new());
    assert!(listing(&machine.image(), &machine).len() < reserved.len());
    // What the program builds without it again is what it built before.
    let again = Built::read(&host).unwrap();
    assert_eq!(built.differences(&again, (&marks, &marks), &host), []);
    machine
}

#[test]
fn initramfs_tools_builds_what_is_proved() {
    let machine = reserve_prove_release(Builder::InitramfsTools);
    let listed = machine.run(&["lsinitramfs", machine.image().to_str().unwrap()]);
    let mut listed: Vec<_> = listed.lines().map(str::to_owned).collect();
    listed.sort_unstable();
    assert_eq!(listing(&machine.image(), &machine), listed);
}

#[test]
fn dracut_builds_what_is_proved() {
    let machine = reserve_prove_release(Builder::Dracut);
    let image = machine.image();
    let ours = listing(&image, &machine);
    assert_eq!(lsinitrd(&machine), ours);
    // The same image, packed in every way that lsinitrd knows.
    let plain = std::fs::read(&image).unwrap();
    for packer in ["gzip -1", "xz -0 --check=crc32", "lzma -0", "zstd -q -1", "lz4 -lq", "bzip2 -1"]
    {
        let mut words = packer.split(' ');
        let packing = Command::new(words.next().unwrap())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(&image).unwrap())
            .spawn();
        let mut packing = packing.unwrap_or_else(|error| panic!("{packer}: {error}"));
        packing.stdin.take().unwrap().write_all(&plain).unwrap();
        assert!(packing.wait().unwrap().success(), "{packer}");
        assert_eq!(listing(&image, &machine), ours, "{packer}");
        assert_eq!(lsinitrd(&machine), ours, "{packer}");
    }
}

/// The members of the machine's image as lsinitrd lists them, by name.
fn lsinitrd(machine: &Machine) -> Vec<String> {
    let listed = machine.run(&["lsinitrd", machine.image().to_str().unwrap()]);
    // As `ls -l` does it: the name is the ninth word, and a link's target follows.
    let names = listed.lines().filter(|line| {
        line.split_whitespace().count() >= 9 && line.starts_with(['-', 'd', 'l', 'c', 'b', 'p'])
    });
    let mut names: Vec<_> = names
        .map(|line| {
            let name = line.split_whitespace().skip(8).collect::<Vec<_>>().join(" ");
            name.split(" -> ").next().unwrap().to_owned()
        })
        .collect();
    names.sort_unstable();
    names
}

/// kernel-install, in a mount namespace in which the machine's /boot is a partition of its own.
#[test]
fn kernel_install_places_what_is_proved() {
    let machine = Machine::new();
    machine.build(Builder::InitramfsTools);
    let release = &machine.release;
    machine.tree.write(&format!("/boot/vmlinuz-{release}"), "MZ");
    machine.tree.write("/etc/kernel/cmdline", "root=UUID=1 ro\n");
    machine.tree.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    machine.tree.write("/etc/kernel/install.conf", "layout=bls\n");
    let info: Vec<u8> = [6, 0, 0, 0]
        .into_iter()
        .chain("systemd-boot 252\0".encode_utf16().flat_map(u16::to_le_bytes))
        .collect();
    let variable = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    machine.tree.write(variable, info);
    let place = || {
        let file = format!("/boot/vmlinuz-{release}");
        let image = format!("/boot/initrd.img-{release}");
        machine.run_on_boot(&["kernel-install", "add", release, &file, &image]);
    };
    place();
    let host = machine.tree.sysroot();
    assert_eq!(Boot::read(&host).unwrap().placer, Placer::KernelInstall);
    assert_eq!(machine.failures(&Goal::default()), Vec::<String>::new());

    let goal = Goal::of(&host, machine.goal().reservations, Change::add(["intel_iommu=on"]));
    let goal = goal.unwrap();
    let plan = machine.plan(&goal);
    let commands: Vec<_> = plan.commands.iter().map(ToString::to_string).collect();
    let expected =
        format!("kernel-install add {release} /boot/vmlinuz-{release} /boot/initrd.img-{release}");
    assert_eq!(commands, ["update-initramfs -u -k all", &expected]);
    machine.write(&plan);
    machine.build(Builder::InitramfsTools);
    // What was built is not yet what is booted.
    assert_eq!(machine.failures(&goal).len(), 4);
    place();
    assert_eq!(machine.failures(&goal), Vec::<String>::new());
    assert!(machine.plan(&goal).is_empty());
}
