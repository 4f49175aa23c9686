//! Disk images that look like Haiku's from outside and hold a guest of a few instructions.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// What the guest does after it has written its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It switches the machine off.
    PowerOff,
    /// It halts, with interrupts as the firmware left them.
    Halt,
    /// It resets the machine.
    Reset,
    /// It sends back each byte that it receives.
    Echo,
    /// It has the BIOS write the second sector of the first disk, and halts.
    Write,
    /// It lets QEMU's `edu` read memory that a guest of less than 128 MiB has not got, and halts.
    WrongDma,
}

/// [`Then::WrongDma`]: finds the card by its ids in configuration space, and writes its registers
/// (docs/specs/edu.rst of QEMU), which are beyond what real mode reaches.
const WRONG_DMA: &[u8] = &[
    0xeb, 0x16, // jmp start
    0x0f, 0x00, 0x1b, 0x7c, 0x00, 0x00, // table: two descriptors at 0x7c1b
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // none
    0xff, 0xff, 0x00, 0x00, 0x00, 0x92, 0xcf, 0x00, // data, all of 4 GiB
    0xfa, // start: cli
    0x66, 0x0f, 0x01, 0x16, 0x15, 0x7c, // lgdt table
    0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, // protected mode on
    0xbb, 0x08, 0x00, 0x8e, 0xc3, // mov es, data
    0x24, 0xfe, 0x0f, 0x22, 0xc0, // protected mode off; es stays as large
    0x66, 0xbb, 0x00, 0x00, 0x00, 0x80, // mov ebx, 0x80000000
    0xba, 0xf8, 0x0c, 0x66, 0x89, 0xd8, 0x66, 0xef, // scan: out 0xcf8, ebx
    0xb2, 0xfc, 0x66, 0xed, // in eax, 0xcfc
    0x66, 0x3d, 0x34, 0x12, 0xe8, 0x11, // cmp eax, 0x11e81234
    0x74, 0x09, // je found
    0x66, 0x81, 0xc3, 0x00, 0x08, 0x00, 0x00, // add ebx, 0x800: the next device
    0xeb, 0xe3, // jmp scan
    0xb3, 0x10, 0xb2, 0xf8, 0x66, 0x89, 0xd8, 0x66, 0xef, // found: its first region
    0xb2, 0xfc, 0x66, 0xed, 0x24, 0xf0, 0x66, 0x89, 0xc7, // mov edi, the region
    0xb3, 0x04, 0xb2, 0xf8, 0x66, 0x89, 0xd8, 0x66, 0xef, // its command register
    0xb2, 0xfc, 0x66, 0xb8, 0x06, 0x00, 0x00, 0x00, 0x66, 0xef, // memory, bus master
    // mov dword es:[edi + 0x80], 0x8000000: the source
    0x26, 0x67, 0x66, 0xc7, 0x87, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08,
    // mov dword es:[edi + 0x88], 0x40000: the destination, its own buffer
    0x26, 0x67, 0x66, 0xc7, 0x87, 0x88, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,
    // mov dword es:[edi + 0x90], 4: the length
    0x26, 0x67, 0x66, 0xc7, 0x87, 0x90, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00,
    // mov dword es:[edi + 0x98], 1: go
    0x26, 0x67, 0x66, 0xc7, 0x87, 0x98, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00,
];

/// Where the volume begins, and how large the disk is, in sectors of 512 bytes.
const VOLUME: u32 = 2048;
const SECTORS: u32 = 8192;

/// Writes an image with a master boot record whose code writes `text` to the first serial port,
/// and with a BFS partition that holds nothing but its super block.
///
/// # Panics
/// The file cannot be written, or the text is too long for the boot record.
pub fn write(path: &Path, text: &str, then: Then) {
    let mut image = boot_record(text, then);
    image.resize(512 * SECTORS as usize, 0);
    // Active, type BFS (src/add-ons/kernel/partitioning_systems/intel/PartitionMap.cpp of Haiku).
    let mut entry = [0x80, 0xff, 0xff, 0xff, 0xeb, 0xff, 0xff, 0xff].to_vec();
    entry.extend(VOLUME.to_le_bytes());
    entry.extend((SECTORS - VOLUME).to_le_bytes());
    image[0x1be..0x1be + entry.len()].copy_from_slice(&entry);
    let at = 512 * VOLUME as usize + 512;
    image[at..at + 512].copy_from_slice(&super_block());
    std::fs::write(path, image).expect("the image can be written");
}

/// Writes a disk with the same code and nothing else.
///
/// # Panics
/// As [`write()`].
pub fn write_bare(path: &Path, text: &str, then: Then) {
    let mut disk = boot_record(text, then);
    // SeaBIOS does not start disks of less than a cylinder.
    disk.resize(1 << 20, 0);
    std::fs::write(path, disk).expect("the disk can be written");
}

/// A master boot record whose code writes `text` to COM1 and then does as told.
fn boot_record(text: &str, then: Then) -> Vec<u8> {
    let mut code = vec![
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xfc, // cld
        0xbe, 0, 0,    // mov si, text
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x06, // jz done
        0xba, 0xf8, 0x03, // mov dx, COM1
        0xee, // out dx, al
        0xeb, 0xf5, // jmp next
    ];
    let rest: &[u8] = match then {
        // mov dx, PM1a_CNT of q35 as SeaBIOS places it; mov ax, SLP_EN; out dx, ax
        Then::PowerOff => &[0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef],
        Then::Halt => &[],
        Then::WrongDma => WRONG_DMA,
        // mov al, 0xfe; out 0x64, al: the keyboard controller pulls the reset line
        Then::Reset => &[0xb0, 0xfe, 0xe6, 0x64],
        // mov ax, 0x0301; mov cx, 2; mov dx, 0x0080; mov bx, 0x7c00; int 0x13
        Then::Write => {
            &[0xb8, 0x01, 0x03, 0xb9, 0x02, 0x00, 0xba, 0x80, 0x00, 0xbb, 0x00, 0x7c, 0xcd, 0x13]
        }
        // wait: mov dx, COM1+5; in al, dx; test al, 1; jz wait; mov dx, COM1; in al, dx;
        // out dx, al; jmp wait
        Then::Echo => &[
            0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8, 0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb,
            0xf1,
        ],
    };
    code.extend(rest);
    code.extend([0xf4, 0xeb, 0xfd]); // halt: hlt; jmp halt
    let text_at = u16::try_from(0x7c00 + code.len()).expect("short code");
    code[6..8].copy_from_slice(&text_at.to_le_bytes());
    code.extend(text.as_bytes());
    code.push(0);
    assert!(code.len() <= 440, "the text is too long");
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    code
}

/// The super block of a clean volume (src/add-ons/kernel/file_systems/bfs/bfs.h of Haiku,
/// `disk_super_block`).
fn super_block() -> [u8; 512] {
    const BLOCK: u32 = 2048;
    let blocks = u64::from(SECTORS - VOLUME) * 512 / u64::from(BLOCK);
    let mut bytes = [0; 512];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"Haiku");
    put(32, &0x4246_5331u32.to_le_bytes());
    put(36, &0x4249_4745u32.to_le_bytes());
    put(40, &BLOCK.to_le_bytes());
    put(44, &BLOCK.trailing_zeros().to_le_bytes());
    put(48, &blocks.to_le_bytes());
    put(56, &100u64.to_le_bytes());
    put(64, &BLOCK.to_le_bytes());
    put(68, &0xdd12_1031u32.to_le_bytes());
    put(72, &1u32.to_le_bytes());
    put(76, &14u32.to_le_bytes());
    put(80, &1u32.to_le_bytes());
    put(84, &0x434c_454eu32.to_le_bytes());
    put(112, &0x15b6_830eu32.to_le_bytes());
    bytes
}

/// Makes an image that has a volume of this size (as `kireji image mkfs` takes it), and what a BIOS
/// takes for boot code.
///
/// # Panics
/// It cannot be made.
pub fn volume(kireji: &Path, path: &Path, size: &str) {
    let made = Command::new(kireji).args(["image", "mkfs", "--size", size]).arg(path).output();
    let made = made.expect("kireji runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let image = std::fs::File::options().write(true).open(path).expect("the image");
    image.write_all_at(&[0xeb, 0xfe], 0).expect("bytes");
    // The signature of a boot sector.
    image.write_all_at(&[0x55, 0xaa], 510).expect("a signature");
}
