//! What another process has open, by kind.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
};

/// How many descriptors of which kind a process has: `TCP listeners`, `files`, and as the kernel calls them: `anon_inode:[eventpoll]`.
///
/// # Errors
/// It has ended.
pub fn by_kind(pid: u32) -> io::Result<BTreeMap<String, usize>> {
    let mut sockets = HashMap::new();
    for (table, is_tcp) in [("tcp", true), ("tcp6", true), ("udp", false), ("udp6", false)] {
        // Of its network namespace. A kernel without IPv6 has no tables of it.
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        sockets.extend(text.lines().filter_map(|line| socket(line, is_tcp)));
    }
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // It may have closed it meanwhile.
        let Ok(link) = fs::read_link(entry?.path()) else { continue };
        *kinds.entry(kind(&link.to_string_lossy(), &sockets)).or_default() += 1;
    }
    Ok(kinds)
}

/// The inode and kind of a socket in one of the kernel's tables (proc_net_tcp.rst).
fn socket(line: &str, is_tcp: bool) -> Option<(u64, &'static str)> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let kind = match (is_tcp, *fields.get(3)?) {
        (true, "0A") => "TCP listeners",
        (true, _) => "TCP connections",
        (false, _) => "UDP sockets",
    };
    Some((fields.get(9)?.parse().ok()?, kind))
}

/// The kind of what a descriptor's link says.
fn kind(link: &str, sockets: &HashMap<u64, &'static str>) -> String {
    if let Some(inode) = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
        // Of Unix, of netlink, not bound yet, or closed by the other side and not by this one.
        let known = inode.parse().ok().and_then(|inode: u64| sockets.get(&inode));
        return (*known.unwrap_or(&"other sockets")).to_owned();
    }
    match link.split_once(":[") {
        _ if link.starts_with('/') => "files".to_owned(),
        Some((pipe @ "pipe", _)) => format!("{pipe}s"),
        _ => link.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn kinds_are_those_of_the_kernels_tables() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        let listener = "   0: 0100007F:4650 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 711 1 0 100 0 0 10 0";
        assert_eq!(socket(head, true), None);
        assert_eq!(socket(listener, true), Some((711, "TCP listeners")));
        assert_eq!(socket(&listener.replace(" 0A ", " 08 "), true), Some((711, "TCP connections")));
        let sockets = HashMap::from([(711, "TCP listeners")]);
        for (link, expected) in [
            ("socket:[711]", "TCP listeners"),
            ("socket:[712]", "other sockets"),
            ("pipe:[9]", "pipes"),
            ("/dev/null", "files"),
            ("anon_inode:[eventpoll]", "anon_inode:[eventpoll]"),
            ("anon_inode:bpf-map", "anon_inode:bpf-map"),
        ] {
            assert_eq!(kind(link, &sockets), expected);
        }
    }

    #[test]
    fn a_leak_is_seen_by_its_kind() {
        let own = std::process::id();
        let count = |kind: &str| by_kind(own).unwrap().get(kind).copied().unwrap_or(0);
        // Other tests of this process open some, too: never as many. All wait to be accepted, for which there is room for 128.
        const MANY: usize = 100;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listeners: Vec<_> = (0..MANY).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        assert!(count("TCP listeners") > MANY);
        drop(listeners);
        let connections: Vec<_> = (0..MANY).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert!(count("TCP connections") >= MANY && count("TCP listeners") < MANY);
        drop(connections);
        let _sockets: Vec<_> = (0..MANY).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        assert!(count("UDP sockets") >= MANY && count("TCP connections") < MANY);
    }
}
