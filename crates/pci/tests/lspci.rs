//! Capabilities are decoded as `lspci -vvv` decodes them, field by field, on generated
//! configuration spaces.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use pci::config::ConfigSpace;
use testkit::lspci;

/// How many functions are generated.
const FUNCTIONS: usize = 400;

/// Numbers that look random and are the same every time (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next().to_le_bytes()[0])
    }
}

/// A configuration space of an endpoint with one capability of each kind that is decoded, and
/// random registers.
fn space(numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0x00, &[0x86, 0x80, 0xd3, 0x10]);
    put(0x06, &[0x10]);
    put(0x0a, &[0x00, 0x02]);
    put(0x34, &[0x40]);
    put(0x40, &[0x01, 0x50]);
    put(0x42, &numbers.bytes::<6>());
    put(0x50, &[0x05, 0x70]);
    put(0x52, &numbers.bytes::<18>());
    put(0x70, &[0x11, 0x80]);
    put(0x72, &numbers.bytes::<10>());
    put(0x80, &[0x09, 0xa0, 0x10]);
    put(0xa0, &[0x10, 0xe0]);
    put(0xa2, &numbers.bytes::<0x3a>());
    // An endpoint or legacy endpoint of version 2, for an upstream port is no type 0 function.
    put(0xa2, &[0x02 | (numbers.next().to_le_bytes()[0] & 1) << 4, 0]);
    put(0xe0, &[0x13, 0x00, 0x06]);
    put(0xe3, &numbers.bytes::<3>());
    put(0x100, &[0x01, 0x00, 0x02, 0x14]);
    put(0x104, &numbers.bytes::<0x28>());
    put(0x140, &[0x0d, 0x00, 0x01, 0x16]);
    // The egress control vector is announced by the capability and not decoded here.
    let [low, high] = numbers.bytes::<2>();
    put(0x144, &[low & 0x5f, 0, high & 0x7f, 0]);
    put(0x160, &[0x10, 0x00, 0x01, 0x20]);
    put(0x164, &numbers.bytes::<0x3c>());
    put(0x200, &[0x15, 0x00, 0x01, 0x00]);
    let count = 1 + numbers.next().to_le_bytes()[0] % 6;
    for number in 0..usize::from(count) {
        let [a, b, c, d] = numbers.bytes::<4>();
        put(0x204 + 8 * number, &[a & 0xf0, b, c, d]);
        let exponent = numbers.next().to_le_bytes()[0] % 28;
        put(0x208 + 8 * number, &[count << 5 | u8::try_from(number).unwrap(), exponent, 0, 0]);
    }
    bytes
}

#[test]
fn every_field_agrees() {
    let mut numbers = Numbers(1);
    let spaces: Vec<_> = (0..FUNCTIONS).map(|_| space(&mut numbers)).collect();
    for bytes in &spaces {
        let config = ConfigSpace::new(bytes.clone());
        let lists = config.capabilities();
        let standard = lists.standard.iter().map(|one| config.detail(*one));
        let extended = lists.extended.iter().map(|one| config.extended_detail(*one));
        assert_eq!(standard.chain(extended).flatten().count(), 10);
    }
    assert!(lspci::compare(&spaces) > 20 * FUNCTIONS);
}
