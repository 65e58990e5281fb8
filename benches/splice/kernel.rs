//! bpf(2): one map and one program of some instructions, which need no compiler.

use std::{
    ffi::{CStr, c_long},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// Sockets by the cookies of those that are redirected to them.
pub(crate) struct SockHash(OwnedFd);

impl SockHash {
    /// For so many.
    pub(crate) fn new(entries: u32) -> io::Result<Self> {
        let attributes = [SOCKHASH, 8, 4, entries, 0, 0];
        // SAFETY: type, sizes of key and value, entries and flags, as bpf(2) has them for this command.
        unsafe { descriptor(MAP_CREATE, &attributes) }.map(Self)
    }

    /// What comes to the socket of this cookie goes out at `to`. `to` is in the map then: what comes to it meets the program, too.
    pub(crate) fn insert(&self, cookie: u64, to: BorrowedFd<'_>) -> io::Result<()> {
        let value = to.as_raw_fd().cast_unsigned();
        let attributes = [
            u64::from(self.0.as_raw_fd().cast_unsigned()),
            (&raw const cookie).expose_provenance() as u64,
            (&raw const value).expose_provenance() as u64,
            0,
        ];
        // SAFETY: map, key, value and flags, as bpf(2) has them for this command; key and value are as large as the map says, and
        // outlive the call.
        unsafe { bpf(MAP_UPDATE, &attributes) }.map(drop)
    }
}

/// A loaded program.
pub(crate) struct Program(OwnedFd);

impl Program {
    /// `return bpf_sk_redirect_hash(skb, &sockets, &cookie, 0)`, with the cookie of the socket that it has come to.
    pub(crate) fn redirecting_by(sockets: &SockHash) -> io::Result<Self> {
        let map = sockets.0.as_raw_fd();
        let code = [
            instruction(0xbf, 6, 1, 0, 0), // r6 = r1, the context
            // An end has no bytes. To send nothing is an error for the kernel, which it reports at the other socket.
            instruction(0x61, 0, 6, 0, 0),   // r0 = skb->len
            instruction(0x55, 0, 0, 2, 0),   // if r0 != 0, the next two are left out
            instruction(0xb7, 0, 0, 0, 1),   // r0 = SK_PASS
            instruction(0x95, 0, 0, 0, 0),   // return r0
            instruction(0xbf, 1, 6, 0, 0),   // r1 = r6
            instruction(0x85, 0, 0, 0, 46),  // r0 = bpf_get_socket_cookie(r1)
            instruction(0x7b, 10, 0, -8, 0), // *(r10 - 8) = r0
            instruction(0xbf, 1, 6, 0, 0),   // r1 = r6
            instruction(0x18, 2, 1, 0, map), // r2 = the map, of two words
            instruction(0, 0, 0, 0, 0),
            instruction(0xbf, 3, 10, 0, 0), // r3 = r10
            instruction(0x07, 3, 0, 0, -8), // r3 -= 8
            instruction(0xb7, 4, 0, 0, 0),  // r4 = 0: out of the other socket, not into it
            instruction(0x85, 0, 0, 0, 72), // r0 = bpf_sk_redirect_hash(r1, r2, r3, r4)
            instruction(0x95, 0, 0, 0, 0),  // return r0
        ];
        const LICENCE: &CStr = c"Apache-2.0";
        let attributes = Load {
            kind: SK_SKB,
            instructions: u32::try_from(code.len()).map_err(io::Error::other)?,
            code: code.as_ptr().expose_provenance() as u64,
            licence: LICENCE.as_ptr().expose_provenance() as u64,
            attach: STREAM_VERDICT,
            ..Load::default()
        };
        // SAFETY: as bpf(2) has them for this command; code and licence outlive the call.
        unsafe { descriptor(PROG_LOAD, &attributes) }.map(Self)
    }

    /// Has it run for sockets of this map.
    pub(crate) fn attach(&self, to: &SockHash) -> io::Result<()> {
        let attributes = [to.0.as_raw_fd().cast_unsigned(), self.0.as_raw_fd().cast_unsigned(), STREAM_VERDICT, 0];
        // SAFETY: target, program, type and flags, as bpf(2) has them for this command.
        unsafe { bpf(PROG_ATTACH, &attributes) }.map(drop)
    }
}

/// What bpf(2) takes to load a program.
#[derive(Default)]
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    licence: u64,
    log: [u32; 2],
    log_at: u64,
    kernel_and_flags: [u32; 2],
    name: [u8; 16],
    device: u32,
    attach: u32,
}

/// One instruction, as struct bpf_insn lies in memory.
fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> [u8; 8] {
    let registers = if cfg!(target_endian = "little") { to | from << 4 } else { to << 4 | from };
    let ([o0, o1], [v0, v1, v2, v3]) = (offset.to_ne_bytes(), value.to_ne_bytes());
    [code, registers, o0, o1, v0, v1, v2, v3]
}

/// # Safety
/// As for [`bpf`]; the command makes a descriptor.
unsafe fn descriptor<A>(command: c_long, attributes: &A) -> io::Result<OwnedFd> {
    // SAFETY: as the caller says.
    let made = unsafe { bpf(command, attributes) }?;
    let made = i32::try_from(made).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

/// # Safety
/// The attributes are laid out as bpf(2) has them for the command, and what they point to outlives the call.
unsafe fn bpf<A>(command: c_long, attributes: &A) -> io::Result<c_long> {
    // SAFETY: as the caller says.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

const MAP_CREATE: c_long = 0;
const MAP_UPDATE: c_long = 2;
const PROG_LOAD: c_long = 5;
const PROG_ATTACH: c_long = 8;
const SOCKHASH: u32 = 18;
const SK_SKB: u32 = 14;
const STREAM_VERDICT: u32 = 5;
