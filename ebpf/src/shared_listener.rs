//! The shared listener's program, in the kernel.

use crate::{
    LoadError, capabilities,
    map::{Map, Write, words},
    object::{descriptor, program, refused, take},
    release,
    shared::{self, Place},
};
use aya::{
    Ebpf, EbpfLoader,
    maps::{self, SockMap},
    programs::SkLookup,
};
use std::{
    fmt,
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd},
};

mod proof;

const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sk_lookup.o"));
/// The first Linux that asks programs for listeners.
const FIRST: (u32, u32) = (5, 9);
/// This thread's network namespace.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Listeners that take TCP connections to other addresses than their own, in their network namespace, until this is dropped or its
/// process ends however it may. What they have taken goes on then.
pub struct SharedListener {
    places: Map<Place, u32>,
    /// What detaches it.
    _loaded: Ebpf,
}

impl fmt::Debug for SharedListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedListener").finish_non_exhaustive()
    }
}

impl SharedListener {
    /// The most places at once.
    pub const MOST: usize = 65_536;

    /// Loads it, and attaches it to this thread's network namespace. No place is open yet. Each of `v4` and `v6` are the listeners of a
    /// family, non-blocking, of one address and port (`SO_REUSEPORT`): the kernel spreads connections over them, and over those that are bound there later.
    /// It keeps none of them open. A connection of each family is made to see that it does what it should.
    ///
    /// # Errors
    /// See [`LoadError`]; the kernel is as before.
    pub fn load(v4: &[BorrowedFd<'_>], v6: &[BorrowedFd<'_>]) -> Result<Self, LoadError> {
        capabilities::check(&capabilities::SHARED_LISTENER)?;
        release::check(FIRST)?;
        let namespace = File::open(NAMESPACE).map_err(|error| LoadError::Namespace(NAMESPACE, error))?;
        // It reads nothing of the kernel's own types, which take tens of megabytes to look at.
        let mut ebpf = EbpfLoader::new().btf(None).load(OBJECT).map_err(|error| refused(&error))?;
        let lookup: &mut SkLookup = program(&mut ebpf, "shared_listener")?;
        lookup.load().map_err(|error| refused(&error))?;
        let listeners = take(&mut ebpf, "listeners")?;
        let mut listeners: SockMap<_> = listeners.try_into().map_err(|error: maps::MapError| refused(&error))?;
        let spares = (shared::IPV6 - shared::IPV4) as usize;
        for (first, of_family) in [(shared::IPV4, v4), (shared::IPV6, v6)] {
            for (slot, listener) in (first..).zip(of_family.iter().take(spares)) {
                listeners.set(slot, &listener.as_raw_fd(), 0).map_err(|error| refused(&error))?;
            }
        }
        let places = Map::new(descriptor(&mut ebpf, "places")?);
        let lookup: &mut SkLookup = program(&mut ebpf, "shared_listener")?;
        lookup.attach(namespace).map_err(|error| refused(&error))?;
        let shared = Self { places, _loaded: ebpf };
        for (host, listeners) in [(IpAddr::from(Ipv4Addr::LOCALHOST), v4), (Ipv6Addr::LOCALHOST.into(), v6)] {
            if !listeners.is_empty() {
                proof::check(&shared, host, listeners).map_err(|error| LoadError::Fault(format!("{host}: {error}")))?;
            }
        }
        Ok(shared)
    }

    /// The listeners take connections to `address` from now on, whoever else listens there. An unspecified host is every address of its
    /// family. Opening it twice is opening it once.
    ///
    /// # Errors
    /// [`Self::MOST`] are open, or the kernel has no memory.
    pub fn open(&self, address: SocketAddr) -> io::Result<()> {
        self.places.set(&place(address), &1, Write::Any)
    }

    /// They take no more connections there; whether they did. What they have taken goes on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn close(&self, address: SocketAddr) -> io::Result<bool> {
        self.places.remove(&place(address))
    }
}

fn place(address: SocketAddr) -> Place {
    Place { address: words(address.ip()), port: address.port().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_is_the_prefix_of_its_family() {
        let of = |address: &str| place(address.parse().unwrap());
        assert_eq!(of("0.0.0.0:80"), Place { address: [0, 0, 0xffff_u32.to_be(), 0], port: 80 });
        assert_eq!(of("[::]:80"), Place { address: [0; 4], port: 80 });
        assert_eq!(of("10.1.2.3:80").address[3].to_ne_bytes(), [10, 1, 2, 3]);
    }
}
