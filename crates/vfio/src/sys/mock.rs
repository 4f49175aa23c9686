//! A kernel that answers as Linux's VFIO and iommufd do, and checks what it is asked.
//!
//! It stands below the ioctls, so it sees their very bytes. It panics where a real kernel would
//! find a request malformed, keeps a log of what it was asked, and can be told to refuse or to
//! answer with nonsense.

use std::collections::HashMap;
use std::ffi::{CStr, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::ioctl::{IoctlOutput, Opcode};

use super::kernel::Kernel;

/// Offset of a region in the device's file (`VFIO_PCI_OFFSET_SHIFT`).
const REGION_SHIFT: u32 = 40;
const CONFIG: u32 = 7;
const ROM: u32 = 6;

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Container,
    Group,
    Device,
    Iommufd,
}

/// A region: flags, size, and capabilities with their pointers.
#[derive(Clone, Debug, Default)]
pub(crate) struct MockRegion {
    pub(crate) flags: u32,
    pub(crate) size: u64,
    pub(crate) capabilities: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct State {
    roles: HashMap<RawFd, Role>,
    pub(crate) log: Vec<String>,
    refusals: HashMap<&'static str, Errno>,
    returns: HashMap<&'static str, i32>,
    patches: Vec<(&'static str, usize, Vec<u8>)>,
    pub(crate) missing: HashMap<String, Errno>,
    pub(crate) viable: bool,
    pub(crate) extensions: Vec<u32>,
    pub(crate) device_flags: u32,
    pub(crate) regions: HashMap<u32, MockRegion>,
    /// Vectors of each kind of interrupt.
    pub(crate) vectors: [u32; 5],
    events: HashMap<u32, Vec<Option<OwnedFd>>>,
    /// Configuration space of the function.
    pub(crate) config: Vec<u8>,
    /// What the ROM region begins with.
    pub(crate) rom: Vec<u8>,
    /// What follows the `vfio_iommu_type1_info`.
    pub(crate) iommu_capabilities: Vec<u8>,
    pub(crate) iova_ranges: Vec<[u64; 2]>,
    /// Each mapping: address and size.
    pub(crate) mapped: Vec<(u64, u64)>,
    /// Segment, bus, function and id of what a bus reset touches; `None` if there is none.
    pub(crate) bus: Option<Vec<(u16, u8, u8, u32)>>,
}

/// The kernel.
#[derive(Debug)]
pub(crate) struct Mock(Mutex<State>);

impl Mock {
    /// A kernel with one function: an MSI-X card with two BARs behind an Intel IOMMU.
    pub(crate) fn new() -> Self {
        let mut config = vec![0; 256];
        config[..4].copy_from_slice(&[0x86, 0x80, 0xd3, 0x10]);
        let bar = |flags, size| MockRegion { flags, size, capabilities: Vec::new() };
        let regions = [(0, bar(7, 0x2_0000)), (1, bar(3, 32)), (CONFIG, bar(3, 256))];
        Self(Mutex::new(State {
            roles: HashMap::new(),
            log: Vec::new(),
            refusals: HashMap::new(),
            returns: HashMap::new(),
            patches: Vec::new(),
            missing: HashMap::new(),
            viable: true,
            extensions: vec![1, 3],
            device_flags: 3,
            regions: regions.into(),
            vectors: [1, 0, 5, 1, 1],
            events: HashMap::new(),
            config,
            rom: Vec::new(),
            iommu_capabilities: Vec::new(),
            iova_ranges: vec![[0, 0xfedf_ffff], [0xfef0_0000, u64::MAX >> 16]],
            mapped: Vec::new(),
            bus: Some(vec![(0, 1, 0, 7)]),
        }))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Lets a request fail.
    pub(crate) fn refuse(&self, request: &'static str, errno: Errno) {
        self.state().refusals.insert(request, errno);
    }

    /// Lets a request return a value without doing anything.
    pub(crate) fn returns(&self, request: &'static str, value: i32) {
        self.state().returns.insert(request, value);
    }

    /// Overwrites an answer at `offset`, after it was given.
    pub(crate) fn patch(&self, request: &'static str, offset: usize, bytes: &[u8]) {
        self.state().patches.push((request, offset, bytes.to_vec()));
    }

    /// Takes what was logged.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }
}

impl Kernel for Mock {
    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = path.to_str().unwrap().to_owned();
        let mut state = self.state();
        state.log.push(format!("open {path}"));
        if let Some(errno) = state.missing.get(&path) {
            return Err(*errno);
        }
        let role = match path.as_str() {
            "/dev/vfio/vfio" => Role::Container,
            "/dev/iommu" => Role::Iommufd,
            _ if path.starts_with("/dev/vfio/devices/vfio") => Role::Device,
            _ => Role::Group,
        };
        Ok(state.new_fd(role))
    }

    unsafe fn ioctl(
        &self,
        fd: BorrowedFd<'_>,
        request: Opcode,
        argument: *mut c_void,
    ) -> Result<IoctlOutput, Errno> {
        let mut state = self.state();
        let role = state.roles[&fd.as_raw_fd()];
        let name = name(role, request);
        let state = &mut *state;
        if let Some(errno) = state.refusals.get(name) {
            state.log.push(format!("{name} {errno:?}"));
            return Err(*errno);
        }
        if let Some(value) = state.returns.get(name) {
            state.log.push(format!("{name} -> {value}"));
            return Ok(*value);
        }
        match name {
            "VFIO_GET_API_VERSION" | "VFIO_DEVICE_RESET" => {
                assert_eq!(argument.addr(), 0);
                state.log.push(name.to_owned());
                return Ok(0);
            }
            "VFIO_CHECK_EXTENSION" => {
                let extension = u32::try_from(argument.addr()).unwrap();
                return Ok(i32::from(state.extensions.contains(&extension)));
            }
            "VFIO_SET_IOMMU" => {
                state.log.push(format!("{name} {}", argument.addr()));
                return Ok(0);
            }
            "VFIO_GROUP_SET_CONTAINER" => {
                // SAFETY: this request is given a descriptor number.
                let container = unsafe { argument.cast::<RawFd>().read() };
                assert_eq!(state.roles[&container], Role::Container);
                state.log.push(name.to_owned());
                return Ok(0);
            }
            "VFIO_GROUP_GET_DEVICE_FD" => {
                // SAFETY: this request is given a string.
                let function = unsafe { CStr::from_ptr(argument.cast()) };
                state.log.push(format!("{name} {}", function.to_str().unwrap()));
                return Ok(state.new_fd(Role::Device).into_raw_fd());
            }
            _ => {}
        }
        // SAFETY: every other request is given a structure that begins with its size.
        let bytes = unsafe {
            let size = argument.cast::<u32>().read_unaligned();
            std::slice::from_raw_parts_mut(argument.cast::<u8>(), usize::try_from(size).unwrap())
        };
        let answer = state.answer(name, bytes);
        for (patched, offset, patch) in &state.patches {
            if *patched == name {
                bytes[*offset..*offset + patch.len()].copy_from_slice(patch);
            }
        }
        answer
    }
}

fn name(role: Role, request: Opcode) -> &'static str {
    let number = u8::try_from(request & 0xff).unwrap();
    assert_eq!(request, u32::from(b';') << 8 | u32::from(number), "no size, no direction");
    match (role, number) {
        (Role::Container, 100) => "VFIO_GET_API_VERSION",
        (Role::Container, 101) => "VFIO_CHECK_EXTENSION",
        (Role::Container, 102) => "VFIO_SET_IOMMU",
        (Role::Container, 112) => "VFIO_IOMMU_GET_INFO",
        (Role::Container, 113) => "VFIO_IOMMU_MAP_DMA",
        (Role::Container, 114) => "VFIO_IOMMU_UNMAP_DMA",
        (Role::Group, 103) => "VFIO_GROUP_GET_STATUS",
        (Role::Group, 104) => "VFIO_GROUP_SET_CONTAINER",
        (Role::Group, 106) => "VFIO_GROUP_GET_DEVICE_FD",
        (Role::Device, 107) => "VFIO_DEVICE_GET_INFO",
        (Role::Device, 108) => "VFIO_DEVICE_GET_REGION_INFO",
        (Role::Device, 109) => "VFIO_DEVICE_GET_IRQ_INFO",
        (Role::Device, 110) => "VFIO_DEVICE_SET_IRQS",
        (Role::Device, 111) => "VFIO_DEVICE_RESET",
        (Role::Device, 112) => "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO",
        (Role::Device, 113) => "VFIO_DEVICE_PCI_HOT_RESET",
        (Role::Device, 118) => "VFIO_DEVICE_BIND_IOMMUFD",
        (Role::Device, 119) => "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
        (Role::Iommufd, 0x81) => "IOMMU_IOAS_ALLOC",
        (Role::Iommufd, 0x84) => "IOMMU_IOAS_IOVA_RANGES",
        (Role::Iommufd, 0x85) => "IOMMU_IOAS_MAP",
        (Role::Iommufd, 0x86) => "IOMMU_IOAS_UNMAP",
        _ => panic!("request {number} on {role:?}"),
    }
}

/// The address space that `IOMMU_IOAS_ALLOC` makes.
const IOAS: u32 = 2;

impl State {
    fn new_fd(&mut self, role: Role) -> OwnedFd {
        let fd = rustix::fs::memfd_create("mock", MemfdFlags::CLOEXEC).unwrap();
        if role == Role::Device {
            for (index, region) in &self.regions {
                let start = u64::from(*index) << REGION_SHIFT;
                if *index == CONFIG {
                    rustix::io::pwrite(&fd, &self.config, start).unwrap();
                } else if region.size > 0 {
                    let end = start + region.size;
                    rustix::io::pwrite(&fd, &[0], end - 1).unwrap();
                    if *index == ROM {
                        rustix::io::pwrite(&fd, &self.rom, start).unwrap();
                    }
                }
            }
        }
        self.roles.insert(fd.as_raw_fd(), role);
        fd
    }

    fn answer(&mut self, name: &'static str, bytes: &mut [u8]) -> Result<i32, Errno> {
        // The sizes are those of include/uapi/linux/{vfio,iommufd}.h.
        let exact = |size| assert_eq!(bytes.len(), size, "{name}");
        match name {
            "VFIO_GROUP_GET_STATUS" => {
                exact(8);
                put(bytes, 4, u32::from(self.viable).to_ne_bytes());
            }
            "VFIO_DEVICE_GET_INFO" => {
                exact(24);
                for (at, value) in [(4, self.device_flags), (8, 9), (12, 5)] {
                    put(bytes, at, value.to_ne_bytes());
                }
            }
            "VFIO_DEVICE_GET_REGION_INFO" => return self.region_info(bytes),
            "VFIO_DEVICE_GET_IRQ_INFO" => {
                exact(16);
                let index = u32_at(bytes, 8);
                let count = self.vectors.get(usize::try_from(index).unwrap());
                let count = *count.ok_or(Errno::INVAL)?;
                put(bytes, 4, (if index == 0 { 7u32 } else { 1 }).to_ne_bytes());
                put(bytes, 12, count.to_ne_bytes());
            }
            "VFIO_DEVICE_SET_IRQS" => return self.set_irqs(bytes),
            "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO" => return self.hot_reset_info(bytes),
            "VFIO_DEVICE_PCI_HOT_RESET" => {
                let count = usize::try_from(u32_at(bytes, 8)).unwrap();
                exact(12 + 4 * count);
                for at in (12..bytes.len()).step_by(4) {
                    assert_eq!(self.roles[&u32_at(bytes, at).cast_signed()], Role::Group);
                }
                self.log.push(format!("{name} with {count} groups"));
            }
            "VFIO_DEVICE_BIND_IOMMUFD" => {
                exact(24);
                assert_eq!(u32_at(bytes, 4), 0, "flags");
                assert_eq!(self.roles[&u32_at(bytes, 8).cast_signed()], Role::Iommufd);
                assert_eq!(u64_at(bytes, 16), 0, "token");
                put(bytes, 12, 1u32.to_ne_bytes());
                self.log.push(name.to_owned());
            }
            "VFIO_DEVICE_ATTACH_IOMMUFD_PT" => {
                exact(16);
                assert_eq!((u32_at(bytes, 4), u32_at(bytes, 12)), (0, 0), "flags and pasid");
                self.log.push(format!("{name} {}", u32_at(bytes, 8)));
                put(bytes, 8, 9u32.to_ne_bytes());
            }
            "VFIO_IOMMU_GET_INFO" => return self.iommu_info(bytes),
            "VFIO_IOMMU_MAP_DMA" => {
                exact(32);
                assert_eq!(u64_at(bytes, 8) % 4096, 0, "address of the memory");
                return self.map(name, u32_at(bytes, 4), u64_at(bytes, 16), u64_at(bytes, 24));
            }
            "VFIO_IOMMU_UNMAP_DMA" => {
                exact(24);
                assert_eq!(u32_at(bytes, 4), 0, "flags");
                let size = self.unmap(name, u64_at(bytes, 8), u64_at(bytes, 16));
                put(bytes, 16, size.to_ne_bytes());
            }
            "IOMMU_IOAS_ALLOC" => {
                exact(12);
                assert_eq!(u32_at(bytes, 4), 0, "flags");
                put(bytes, 8, IOAS.to_ne_bytes());
                self.log.push(name.to_owned());
            }
            "IOMMU_IOAS_IOVA_RANGES" => return self.ioas_ranges(bytes),
            "IOMMU_IOAS_MAP" => {
                exact(40);
                assert_eq!((u32_at(bytes, 8), u32_at(bytes, 12)), (IOAS, 0));
                assert_eq!(u64_at(bytes, 16) % 4096, 0, "address of the memory");
                return self.map(name, u32_at(bytes, 4), u64_at(bytes, 32), u64_at(bytes, 24));
            }
            "IOMMU_IOAS_UNMAP" => {
                exact(24);
                assert_eq!(u32_at(bytes, 4), IOAS);
                let size = self.unmap(name, u64_at(bytes, 8), u64_at(bytes, 16));
                put(bytes, 16, size.to_ne_bytes());
            }
            _ => panic!("{name} takes no structure"),
        }
        Ok(0)
    }

    fn region_info(&self, bytes: &mut [u8]) -> Result<i32, Errno> {
        assert!(bytes.len() >= 32);
        let index = u32_at(bytes, 8);
        if index == 8 {
            return Err(Errno::INVAL);
        }
        let region = self.regions.get(&index).cloned().unwrap_or_default();
        let mut flags = region.flags;
        if !region.capabilities.is_empty() {
            flags |= 8;
            let size = 32 + region.capabilities.len();
            if bytes.len() < size {
                put(bytes, 0, u32::try_from(size).unwrap().to_ne_bytes());
                put(bytes, 12, 0u32.to_ne_bytes());
            } else {
                put(bytes, 12, 32u32.to_ne_bytes());
                bytes[32..size].copy_from_slice(&region.capabilities);
            }
        }
        put(bytes, 4, flags.to_ne_bytes());
        put(bytes, 16, region.size.to_ne_bytes());
        put(bytes, 24, (u64::from(index) << REGION_SHIFT).to_ne_bytes());
        Ok(0)
    }

    fn set_irqs(&mut self, bytes: &[u8]) -> Result<i32, Errno> {
        let [flags, index, first, count] = [4, 8, 12, 16].map(|at| u32_at(bytes, at));
        let data: Vec<RawFd> =
            (20..bytes.len()).step_by(4).map(|at| u32_at(bytes, at).cast_signed()).collect();
        let shown: Vec<_> = data.iter().map(|fd| if *fd < 0 { "-" } else { "fd" }).collect();
        self.log.push(format!(
            "VFIO_DEVICE_SET_IRQS {flags:#x} {index}: {first}+{count} [{}]",
            shown.join(" ")
        ));
        let expected = if flags & 4 != 0 { count } else { 0 };
        assert_eq!(u32::try_from(data.len()).unwrap(), expected, "data follow their count");
        if first + count > self.vectors[usize::try_from(index).unwrap()] {
            return Err(Errno::INVAL);
        }
        match flags {
            0x24 => {
                // SAFETY: the descriptors are the caller's, and open for this call.
                let dup = |fd: RawFd| unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
                let events = data.into_iter().map(|fd| (fd >= 0).then(|| dup(fd).unwrap()));
                self.events.insert(index, events.collect());
            }
            0x21 if count == 0 => {
                self.events.remove(&index).ok_or(Errno::INVAL)?;
            }
            0x21 => {
                let events = self.events.get(&index).ok_or(Errno::INVAL)?;
                for event in events.iter().flatten() {
                    rustix::io::write(event.as_fd(), &1u64.to_ne_bytes()).unwrap();
                }
            }
            0x09 | 0x11 | 0x14 if index == 0 => {}
            _ => return Err(Errno::NOTTY),
        }
        Ok(0)
    }

    fn hot_reset_info(&mut self, bytes: &mut [u8]) -> Result<i32, Errno> {
        let bus = self.bus.as_ref().ok_or(Errno::NODEV)?;
        let with_ids = self.roles.values().any(|role| *role == Role::Iommufd);
        put(bytes, 4, (if with_ids { 3u32 } else { 0 }).to_ne_bytes());
        put(bytes, 8, u32::try_from(bus.len()).unwrap().to_ne_bytes());
        if bytes.len() < 12 + 8 * bus.len() {
            return Err(Errno::NOSPC);
        }
        for (at, (segment, number, function, id)) in (12..).step_by(8).zip(bus) {
            put(bytes, at, id.to_ne_bytes());
            put(bytes, at + 4, segment.to_ne_bytes());
            put(bytes, at + 6, [*number]);
            put(bytes, at + 7, [*function]);
        }
        Ok(0)
    }

    fn iommu_info(&self, bytes: &mut [u8]) -> Result<i32, Errno> {
        assert!(bytes.len() >= 24);
        put(bytes, 8, 0xffff_ffff_ffff_f000_u64.to_ne_bytes());
        put(bytes, 4, 1u32.to_ne_bytes());
        if !self.iommu_capabilities.is_empty() {
            put(bytes, 4, 3u32.to_ne_bytes());
            let size = 24 + self.iommu_capabilities.len();
            if bytes.len() < size {
                put(bytes, 0, u32::try_from(size).unwrap().to_ne_bytes());
            } else {
                put(bytes, 16, 24u32.to_ne_bytes());
                bytes[24..size].copy_from_slice(&self.iommu_capabilities);
            }
        }
        Ok(0)
    }

    fn ioas_ranges(&self, bytes: &mut [u8]) -> Result<i32, Errno> {
        assert_eq!(bytes.len(), 32);
        assert_eq!((u32_at(bytes, 4), u32_at(bytes, 12)), (IOAS, 0));
        let room = usize::try_from(u32_at(bytes, 8)).unwrap();
        put(bytes, 8, u32::try_from(self.iova_ranges.len()).unwrap().to_ne_bytes());
        put(bytes, 24, 4096u64.to_ne_bytes());
        let place = usize::try_from(u64_at(bytes, 16)).unwrap();
        let place = std::ptr::with_exposed_provenance_mut::<u64>(place);
        for (index, range) in self.iova_ranges.iter().take(room).enumerate() {
            for (half, value) in range.iter().enumerate() {
                // SAFETY: the caller says that there is room for so many ranges.
                unsafe { place.add(2 * index + half).write(*value) };
            }
        }
        if self.iova_ranges.len() > room { Err(Errno::MSGSIZE) } else { Ok(0) }
    }

    fn map(&mut self, name: &str, flags: u32, iova: u64, size: u64) -> Result<i32, Errno> {
        self.log.push(format!("{name} {flags:#x} {iova:#x}+{size:#x}"));
        if self.mapped.iter().any(|(at, length)| iova < at + length && *at < iova + size) {
            return Err(Errno::EXIST);
        }
        self.mapped.push((iova, size));
        Ok(0)
    }

    fn unmap(&mut self, name: &str, iova: u64, size: u64) -> u64 {
        self.log.push(format!("{name} {iova:#x}+{size:#x}"));
        let before = self.mapped.len();
        self.mapped.retain(|mapped| *mapped != (iova, size));
        if self.mapped.len() < before { size } else { 0 }
    }
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}
