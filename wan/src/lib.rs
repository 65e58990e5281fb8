//! A WAN in userspace, for network namespaces on kernels without netem: delay, jitter, loss, reordering, rate, MTU, UDP that is
//! blocked, and black holes.
//!
//! ```text
//!  west ── TUN ──┐            one thread            ┌── TUN ── east
//!                ├── route ── a path each way ──────┤
//!                └──────────────────────────────────┴── TUN ── relay
//! ```
//!
//! Each place gets a TUN device as its uplink ([`Tun`]), whose other end is [`Wan`]: a router that is one thread. It forwards IP
//! packets by their destination, and between each two attachments there is a [`path::Path`] for each direction, which decides what
//! becomes of a packet, and when: pure, with `now` as an argument. [`Impairments`] say how bad it is, and can be changed while it
//! runs.
//!
//! TUN without offloads rather than veth and AF_PACKET: the kernel then hands over what a wire would carry, segmented to the MTU
//! and with whole checksums, so that loss and MTU mean what they mean elsewhere. The price is throughput: docs/wan.md has figures.
//!
//! What it leaves to others: addresses and routes of the devices (`ip` in the namespace), NAT (nftables in a namespace behind an
//! attachment), fragmentation (it drops what is too large, whatever the packet says), the TTL (it is a wire, not a hop).

pub mod error;
pub mod icmp;
pub mod impairments;
pub mod packet;
pub mod path;
pub mod prefix;
pub mod random;
mod relay;
pub mod spec;
pub mod tun;
pub mod wan;

pub use error::Error;
pub use impairments::{Impairments, Mtu, UdpBlock};
pub use path::{Counters, Path};
pub use prefix::Prefix;
pub use spec::InvalidSpec;
pub use tun::Tun;
pub use wan::{Attachment, Wan};
