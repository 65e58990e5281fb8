//! The local hop in the kernel: **not built yet**.
//!
//! This crate will load the programs of `ebpf/programs/` (sockops and sk_msg over a sockhash, sk_lookup) with aya. Until then it
//! exports nothing, nothing depends on it, and the gateway's local hop is an ordinary socket.

#![forbid(unsafe_code)]
