//! Maps by their descriptors, from any thread. aya's own types want a `&mut` for every write.

use crate::{
    command::bpf,
    shared::{Door, End, Flow, Mark, Place, Settings},
};
use std::{
    ffi::c_long,
    io,
    marker::PhantomData,
    mem::MaybeUninit,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
};

/// A type without padding, of which every pattern of bits is a value.
///
/// # Safety
/// That is so.
pub(crate) unsafe trait Plain: Copy + 'static {}

// SAFETY: integers, and structures of integers whose padding is written out in programs/shared.h.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for Flow {}
// SAFETY: as above.
unsafe impl Plain for Mark {}
// SAFETY: as above.
unsafe impl Plain for End {}
// SAFETY: as above.
unsafe impl Plain for Door {}
// SAFETY: as above.
unsafe impl Plain for Settings {}
// SAFETY: as above.
unsafe impl Plain for Place {}

/// An address as keys have it: an IPv4 address as ::ffff:a.b.c.d, or its prefix alone where it is the unspecified one.
pub(crate) fn words(address: IpAddr) -> [u32; 4] {
    let octets = match address {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
    .octets();
    let mut words = [0; 4];
    for (word, octets) in words.iter_mut().zip(octets.as_chunks::<4>().0) {
        // In network byte order in memory, whatever ours is.
        *word = u32::from_ne_bytes(*octets);
    }
    words
}

/// A map with these keys and values.
#[derive(Debug)]
pub(crate) struct Map<K, V> {
    fd: OwnedFd,
    of: PhantomData<fn(K) -> V>,
}

/// Whether an entry must be new, when it is written.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(crate) enum Write {
    Any = 0,
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// `fd` is a map of keys and values of these sizes: as the object says that the loader has made it of.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, of: PhantomData }
    }

    pub(crate) fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = MaybeUninit::<V>::uninit();
        let found = self.call(LOOKUP, std::ptr::from_ref(key).addr(), value.as_mut_ptr().expose_provenance(), 0);
        match found {
            // SAFETY: the kernel has written a whole value.
            Ok(()) => Ok(Some(unsafe { value.assume_init() })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn set(&self, key: &K, value: &V, write: Write) -> io::Result<()> {
        let value = std::ptr::from_ref(value).addr();
        self.call(UPDATE, std::ptr::from_ref(key).addr(), value, write as u64)
    }

    /// Whether it was there.
    pub(crate) fn remove(&self, key: &K) -> io::Result<bool> {
        match self.call(DELETE, std::ptr::from_ref(key).addr(), 0, 0) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The key after this one, or the first.
    pub(crate) fn next(&self, after: Option<&K>) -> io::Result<Option<K>> {
        let mut next = MaybeUninit::<K>::uninit();
        let after = after.map_or(0, |key| std::ptr::from_ref(key).addr());
        match self.call(NEXT, after, next.as_mut_ptr().expose_provenance(), 0) {
            // SAFETY: the kernel has written a whole key.
            Ok(()) => Ok(Some(unsafe { next.assume_init() })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn call(&self, command: c_long, key: usize, value: usize, flags: u64) -> io::Result<()> {
        let attributes = Attributes {
            map: self.fd.as_raw_fd().cast_unsigned(),
            padding: 0,
            key: key as u64,
            value: value as u64,
            flags,
        };
        // SAFETY: the attributes are laid out as bpf(2) has them for these commands; key and value are addresses of whole values of
        // the map's types, or 0 where the command has none, and outlive the call.
        unsafe { bpf(command, &raw const attributes) }
    }
}

/// What bpf(2) takes for elements of maps.
#[repr(C)]
struct Attributes {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

const LOOKUP: c_long = 1;
const UPDATE: c_long = 2;
const DELETE: c_long = 3;
const NEXT: c_long = 4;
