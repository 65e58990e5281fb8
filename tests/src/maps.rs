//! Maps of eBPF programs that another process has loaded: what lies in them, and faults put into them.

use std::{
    ffi::{CStr, c_long},
    fs,
    io::{self, ErrorKind},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// One of another process's maps, by a descriptor of our own.
#[derive(Debug)]
pub struct KernelMap {
    fd: OwnedFd,
    key: usize,
    value: usize,
}

/// What the kernel tells of a map (struct bpf_map_info), as far as it is of use here.
#[derive(Debug, Default)]
#[repr(C)]
struct Info {
    kind: u32,
    id: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
    name: [u8; 16],
}

/// What bpf(2) takes to tell of something.
#[repr(C)]
struct Ask {
    of: u32,
    length: u32,
    info: u64,
}

impl KernelMap {
    /// The map of this name among those that a process holds.
    ///
    /// # Panics
    /// If there is none, or without root.
    pub fn of(pid: u32, name: &str) -> Self {
        let found = ids(pid).and_then(|ids| {
            let maps = ids.into_iter().map(Self::open).collect::<io::Result<Vec<_>>>()?;
            let named = maps.into_iter().find_map(|(map, found)| (found == name).then_some(map));
            named.ok_or_else(|| io::Error::new(ErrorKind::NotFound, "it has none of that name"))
        });
        found.unwrap_or_else(|error| panic!("the map {name} of process {pid}: {error}"))
    }

    /// How many entries there are.
    ///
    /// # Panics
    /// If the kernel does not tell.
    pub fn entries(&self) -> usize {
        self.keys().len()
    }

    /// The keys that are there now.
    ///
    /// # Panics
    /// If the kernel does not tell.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut next = vec![0; self.key];
            let last = keys.last().map_or(std::ptr::null(), Vec::as_ptr);
            match self.call(NEXT, last, next.as_mut_ptr()) {
                Ok(()) => keys.push(next),
                Err(error) if error.kind() == ErrorKind::NotFound => return keys,
                Err(error) => panic!("the next key of a map: {error}"),
            }
        }
    }

    /// The value of a key, if it is there.
    ///
    /// # Panics
    /// If the kernel does not tell.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        assert_eq!(key.len(), self.key, "bytes of a key");
        let mut value = vec![0; self.value];
        match self.call(LOOKUP, key.as_ptr(), value.as_mut_ptr()) {
            Ok(()) => Some(value),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("a value of a map: {error}"),
        }
    }

    /// Writes a value.
    ///
    /// # Errors
    /// The kernel's: E2BIG where the map is full.
    pub fn set(&self, key: &[u8], mut value: Vec<u8>) -> io::Result<()> {
        assert_eq!((key.len(), value.len()), (self.key, self.value), "bytes of key and value");
        self.call(UPDATE, key.as_ptr(), value.as_mut_ptr())
    }

    /// Puts entries into it until there is no room for more: keys that nobody else has. Returns how many.
    ///
    /// # Panics
    /// If it fails otherwise.
    pub fn fill(&self) -> u64 {
        for number in 0u64.. {
            let mut key = vec![0xff; self.key];
            key[..8].copy_from_slice(&number.to_ne_bytes());
            match self.set(&key, vec![0; self.value]) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::E2BIG) => return number,
                Err(error) => panic!("entry {number} of a map: {error}"),
            }
        }
        unreachable!("a map has a bound")
    }

    /// The map and its name.
    fn open(id: u32) -> io::Result<(Self, String)> {
        // SAFETY: BPF_MAP_GET_FD_BY_ID takes an id, two words that it does not use for that, and flags.
        let fd = unsafe { bpf(BY_ID, &[id, 0, 0, 0]) }?;
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just made it, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut info = Info::default();
        let ask = Ask {
            of: fd.as_raw_fd().cast_unsigned(),
            length: u32::try_from(size_of::<Info>()).map_err(io::Error::other)?,
            info: (&raw mut info).expose_provenance() as u64,
        };
        // SAFETY: Ask is what bpf(2) has for BPF_OBJ_GET_INFO_BY_FD; the kernel writes at most so many bytes to `info`.
        unsafe { bpf(INFO, &ask) }?;
        let name = CStr::from_bytes_until_nul(&info.name).map_err(io::Error::other)?.to_string_lossy().into_owned();
        Ok((Self { fd, key: info.key as usize, value: info.value as usize }, name))
    }

    fn call(&self, command: c_long, key: *const u8, value: *mut u8) -> io::Result<()> {
        let map = u64::from(self.fd.as_raw_fd().cast_unsigned());
        let attributes = [map, key.expose_provenance() as u64, value.expose_provenance() as u64, 0];
        // SAFETY: map, key, value (or next key) and flags, as bpf(2) has them for these commands; the callers give as many bytes as the
        // map's keys and values have, which outlive the call.
        unsafe { bpf(command, &attributes) }.map(drop)
    }
}

/// The ids of the maps that a process has descriptors of.
fn ids(pid: u32) -> io::Result<Vec<u32>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // It may have closed it meanwhile.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("map_id:"));
        ids.extend(id.and_then(|id| id.trim().parse::<u32>().ok()));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// # Safety
/// The attributes are laid out as bpf(2) has them for the command, and what they point to outlives the call.
unsafe fn bpf<A>(command: c_long, attributes: &A) -> io::Result<c_long> {
    // SAFETY: as the caller says.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

const LOOKUP: c_long = 1;
const UPDATE: c_long = 2;
const NEXT: c_long = 4;
const BY_ID: c_long = 14;
const INFO: c_long = 15;
