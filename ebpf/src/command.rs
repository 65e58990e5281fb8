//! bpf(2), where aya has nothing that would do.

use crate::shared::Flow;
use std::{
    ffi::c_long,
    io,
    os::fd::{AsRawFd, OwnedFd},
};

/// Runs a command of bpf(2).
///
/// # Safety
/// The attributes are laid out as bpf(2) has them for this command, and what they point to is there as long as the call takes.
pub(crate) unsafe fn bpf<A>(command: c_long, attributes: *const A) -> io::Result<()> {
    // SAFETY: as the caller says.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<A>()) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A program of the kind of a raw tracepoint that is run by hand, with a flow and two numbers for its arguments.
#[derive(Debug)]
pub(crate) struct ByHand(OwnedFd);

impl ByHand {
    pub(crate) fn new(program: OwnedFd) -> Self {
        Self(program)
    }

    /// What it returns.
    pub(crate) fn run(&self, flow: &Flow, ask: u32, more: u64) -> io::Result<u32> {
        let mut arguments = Arguments { flow: *flow, padding: 0, ask: ask.into(), more };
        let mut attributes = TestRun {
            program: self.0.as_raw_fd().cast_unsigned(),
            arguments_length: u32::try_from(size_of::<Arguments>()).map_err(io::Error::other)?,
            arguments: (&raw mut arguments).expose_provenance() as u64,
            ..TestRun::default()
        };
        // SAFETY: TestRun is what bpf(2) has for BPF_PROG_TEST_RUN; the arguments outlive the call, and the kernel writes the result
        // into the attributes alone.
        unsafe { bpf(BPF_PROG_TEST_RUN, (&raw mut attributes).cast_const()) }?;
        Ok(attributes.result)
    }
}

/// The arguments of a tracepoint: whole words.
#[repr(C)]
struct Arguments {
    flow: Flow,
    padding: u32,
    ask: u64,
    more: u64,
}

/// What bpf(2) takes to run a program.
#[derive(Default)]
#[repr(C)]
struct TestRun {
    program: u32,
    result: u32,
    data_length: [u32; 2],
    data: [u64; 2],
    repeat: u32,
    duration: u32,
    arguments_length: u32,
    arguments_out_length: u32,
    arguments: u64,
    arguments_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

const BPF_PROG_TEST_RUN: c_long = 10;
