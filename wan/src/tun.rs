//! A TUN device: a network interface whose wire ends in this process.
//!
//! By two ioctls of our own rather than by a crate: those that there are bring asynchronous runtimes, or the setting of addresses,
//! which `ip` does.

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    ioctl::{Opcode, Setter, ioctl},
    net::{AddressFamily, SocketType, socket},
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// linux/if_tun.h
const TUNSETIFF: Opcode = 0x4004_54ca;
/// linux/sockios.h
const SIOCSIFTXQLEN: Opcode = 0x8943;
/// Layer 3, and nothing in front of the packet. Without IFF_VNET_HDR the kernel segments and sums before it hands a packet over.
const IFF_TUN_NO_PI: i16 = 0x0001 | 0x1000;
/// How many packets wait in the device while the relay is busy. The kernel's 500 are 2 ms of 3 Gbit/s, and what does not fit is lost.
const TX_QUEUE: i32 = 20_000;
/// With the byte that ends it, what the kernel allows for a name.
const NAME: usize = 16;

/// A device, which goes away with this value.
#[derive(Debug)]
pub struct Tun {
    fd: OwnedFd,
}

/// linux/if.h: `struct ifreq`, with its union as plain bytes.
#[repr(C, align(8))]
struct IfReq {
    name: [u8; NAME],
    value: [u8; 24],
}

impl Tun {
    /// Makes a device called `name` in the calling thread's network namespace; needs CAP_NET_ADMIN there. It is down, and without
    /// addresses.
    ///
    /// # Errors
    /// As open(2) and ioctl(2) have them, and `InvalidInput` for a name that the kernel would not take.
    pub fn create(name: &str) -> io::Result<Self> {
        if name.is_empty() || name.len() >= NAME {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} is no name of a device: 1 to 15 bytes"),
            ));
        }
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
        set::<TUNSETIFF>(fd.as_fd(), name, &IFF_TUN_NO_PI.to_ne_bytes())?;
        let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        set::<SIOCSIFTXQLEN>(any.as_fd(), name, &TX_QUEUE.to_ne_bytes())?;
        Ok(Self { fd })
    }

    /// A packet that the namespace sends, if there is one.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        match rustix::io::read(&self.fd, buffer) {
            Ok(n) => Ok(Some(n)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Gives the namespace a packet.
    pub(crate) fn write(&self, packet: &[u8]) -> Result<(), Errno> {
        rustix::io::write(&self.fd, packet).map(drop)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn set<const OPCODE: Opcode>(fd: BorrowedFd<'_>, device: &str, value: &[u8]) -> io::Result<()> {
    let mut request = IfReq { name: [0; NAME], value: [0; 24] };
    request.name[..device.len()].copy_from_slice(device.as_bytes());
    request.value[..value.len()].copy_from_slice(value);
    // SAFETY: both opcodes take a pointer to a `struct ifreq`, of 40 bytes on 64-bit systems and 32 on others, which the kernel reads.
    // TUNSETIFF writes the device's name back into it: it lies in the Setter, on this thread's stack, until the call is over.
    unsafe { ioctl(fd, Setter::<OPCODE, _>::new(request)) }?;
    Ok(())
}
