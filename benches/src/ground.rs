//! Where a pair of proxies stands: all of it on loopback, with an emulated WAN between the two, or each beside its clients and the
//! origin as nodes of Kubernetes are beside their pods.
//!
//! ```text
//!  west                                                      east
//!  clients, egress proxy ── TUN ── emulated WAN ── TUN ── ingress proxy, origin
//!
//!  clients                   west and east                   origin
//!  wrk ───────────── veth ── both proxies ── veth ─────────── nginx
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use isthmus_wan::{Attachment, Impairments, Prefix, Tun, Wan};

use crate::error::{Error, Result};
use crate::netns::Netns;

/// West's address on the WAN (RFC 5737, as all of them).
const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// East's, one for each path that leads to it.
const FAR: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 2), Ipv4Addr::new(198, 51, 100, 2)];
/// The WAN's name for west.
pub const WEST: &str = "west";
/// The WAN's names for the paths to east.
pub const EAST: [&str; 2] = ["east-a", "east-b"];
/// What a socket's buffers may grow to, for everybody: more than the path holds, as on any host that is set up for one.
const TCP_BUFFER: u32 = 32 << 20;
/// Where clients and the origin are apart: each with the proxies' end of its pair of devices.
const CLIENTS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 10), Ipv4Addr::new(192, 0, 2, 1)];
const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 51, 100, 10), Ipv4Addr::new(198, 51, 100, 1)];
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Both ends, and what is between them.
#[derive(Debug)]
pub struct Ground {
    west: Netns,
    east: Netns,
    far: Vec<IpAddr>,
    wan: Option<Wan>,
    /// Where clients and the origin are, if not beside the proxies.
    apart: Option<[Netns; 2]>,
}

impl Ground {
    /// Both ends on the loopback of the network that the harness was started in.
    pub fn loopback() -> Self {
        Self { west: Netns::here(), east: Netns::here(), far: vec![LOOPBACK], wan: None, apart: None }
    }

    /// Both proxies in one namespace, clients and the origin each in another one, as pods are on their node. Needs root.
    pub fn apart() -> Result<Self> {
        let (node, clients, servers) = (Netns::new()?, Netns::new()?, Netns::new()?);
        for end in [&node, &clients, &servers] {
            end.exec("ip", "link set lo up")?;
            end.within(reuse_ports)?;
        }
        for (pod, name, [theirs, ours]) in [(&clients, "clients", CLIENTS), (&servers, "servers", SERVERS)] {
            // It is there as long as its namespace is.
            let holder = pod.hold()?;
            node.exec("ip", &format!("link add {name} type veth peer name eth0 netns {}", holder.pid()))?;
            node.exec("ip", &format!("address add {ours}/24 dev {name}"))?;
            node.exec("ip", &format!("link set {name} up"))?;
            pod.exec("ip", &format!("address add {theirs}/24 dev eth0"))?;
            pod.exec("ip", "link set eth0 up")?;
            pod.exec("ip", &format!("route add default via {ours}"))?;
        }
        node.within(forward)?;
        Ok(Self { west: node.clone(), east: node, far: vec![LOOPBACK], wan: None, apart: Some([clients, servers]) })
    }

    /// Two namespaces, and an emulated WAN with so many paths from west to east (1 or 2), each direction of each as bad
    /// as `each_way`. Needs root and /dev/net/tun.
    pub fn over(each_way: Impairments, paths: usize, seed: u64) -> Result<Self> {
        let (west, east) = (Netns::new()?, Netns::new()?);
        for end in [&west, &east] {
            end.exec("ip", "link set lo up")?;
            end.within(allow_large_buffers)?;
        }
        let mut attachments = vec![attach(&west, WEST, NEAR)?];
        west.exec("ip", "route add default dev west")?;
        let far: Vec<_> = EAST.into_iter().zip(FAR).take(paths).collect();
        for (n, &(name, address)) in far.iter().enumerate() {
            attachments.push(attach(&east, name, address)?);
            // What is sent from an address leaves by its own path, so that a path dies in both directions.
            east.exec("ip", &format!("route add default dev {name} table {}", 101 + n))?;
            east.exec("ip", &format!("rule add from {address} table {}", 101 + n))?;
        }
        east.exec("ip", &format!("route add default dev {}", EAST[0]))?;
        let wan = Wan::start(attachments, each_way, seed).map_err(|error| Error::Load(error.to_string()))?;
        let far = far.into_iter().map(|(_, address)| address.into()).collect();
        Ok(Self { west, east, far, wan: Some(wan), apart: None })
    }

    /// Where clients are.
    pub fn clients(&self) -> &Netns {
        self.apart.as_ref().map_or(&self.west, |[clients, _]| clients)
    }

    /// Where the origin is.
    pub fn servers(&self) -> &Netns {
        self.apart.as_ref().map_or(&self.east, |[_, servers]| servers)
    }

    /// Where the egress proxy listens for clients.
    pub fn front(&self, port: u16) -> SocketAddr {
        SocketAddr::new(if self.apart.is_some() { CLIENTS[1].into() } else { LOOPBACK }, port)
    }

    /// Where the ingress proxy finds the origin.
    pub fn back(&self, port: u16) -> SocketAddr {
        SocketAddr::new(if self.apart.is_some() { SERVERS[0].into() } else { LOOPBACK }, port)
    }

    /// Where clients find the origin, without proxies.
    pub fn origin(&self, port: u16) -> SocketAddr {
        if self.apart.is_some() { self.back(port) } else { self.far_socket(port) }
    }

    /// Whether clients and the origin are not beside the proxies.
    pub fn is_apart(&self) -> bool {
        self.apart.is_some()
    }

    /// Where the egress proxy is, and clients, if they are not apart.
    pub fn west(&self) -> &Netns {
        &self.west
    }

    /// Where the ingress proxy is, and the origin, if that is not apart.
    pub fn east(&self) -> &Netns {
        &self.east
    }

    /// East's addresses as west sees them: one for each path.
    pub fn far(&self) -> &[IpAddr] {
        &self.far
    }

    /// East's first address and a port.
    pub fn far_socket(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.far[0], port)
    }

    /// West's address as east sees it.
    pub fn near(&self) -> IpAddr {
        if self.wan.is_some() { NEAR.into() } else { LOOPBACK }
    }

    /// Where a server in east listens that west is to reach.
    pub fn listen(&self) -> IpAddr {
        if self.wan.is_some() || self.apart.is_some() { Ipv4Addr::UNSPECIFIED.into() } else { LOOPBACK }
    }

    /// The WAN, if there is one.
    pub fn wan(&self) -> Option<&Wan> {
        self.wan.as_ref()
    }
}

/// A port on an end's own loopback, where what is there reaches it.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::new(LOOPBACK, port)
}

/// A connection for each request takes a port each, which are used up within two seconds where they are kept for a minute. Linux reuses them
/// after a second where both ends are on loopback, and this is no more than the same.
fn reuse_ports() -> Result<()> {
    const PATH: &str = "/proc/sys/net/ipv4/tcp_tw_reuse";
    std::fs::write(PATH, "1").map_err(Error::io("setting tcp_tw_reuse"))
}

fn forward() -> Result<()> {
    let path = "/proc/sys/net/ipv4/ip_forward";
    std::fs::write(path, "1").map_err(Error::io(format!("writing {path}")))
}

fn attach(end: &Netns, name: &str, address: Ipv4Addr) -> Result<Attachment> {
    let tun = end.within(|| Tun::create(name).map_err(Error::io(format!("making the TUN device {name}"))))?;
    end.exec("ip", &format!("address add {address}/24 dev {name}"))?;
    end.exec("ip", &format!("link set {name} up"))?;
    Ok(Attachment { name: name.into(), tun, prefixes: vec![Prefix::new(address.into(), 24)] })
}

fn allow_large_buffers() -> Result<()> {
    for (name, first) in [("tcp_rmem", "4096 131072"), ("tcp_wmem", "4096 16384")] {
        let path = format!("/proc/sys/net/ipv4/{name}");
        std::fs::write(&path, format!("{first} {TCP_BUFFER}")).map_err(Error::io(format!("writing {path}")))?;
    }
    Ok(())
}
