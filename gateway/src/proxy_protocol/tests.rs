use super::{v2::SIGNATURE, *};
use isthmus_certs::SpiffeId;
use isthmus_control_api::{ClusterName, ServiceName};
use proptest::prelude::*;

struct Told {
    service: ServiceName,
    cluster: ClusterName,
    id: SpiffeId,
}

fn told() -> Told {
    Told {
        service: "shop/api".parse().unwrap(),
        cluster: "west".parse().unwrap(),
        id: "spiffe://west.demo/ns/shop/sa/web".parse().unwrap(),
    }
}

impl Told {
    fn header(&self, client: Option<SocketAddr>, endpoint: SocketAddr) -> Vec<u8> {
        encode(&About { client, endpoint, service: &self.service, cluster: &self.cluster, id: Some(&self.id) })
    }
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
    (ip, any::<u16>()).prop_map(|(ip, port)| canonical(ip, port))
}

#[test]
fn an_endpoint_is_told_who_where_and_what() {
    let header = told().header(Some("10.0.0.9:4711".parse().unwrap()), "10.1.0.2:8080".parse().unwrap());
    let rest = header.strip_prefix(SIGNATURE).unwrap();
    let ([version, family, _, length], rest) = rest.split_first_chunk().unwrap();
    assert_eq!((*version, *family, usize::from(*length)), (0x21, 0x11, rest.len()));
    let (addresses, values) = rest.split_at(12);
    assert_eq!(addresses, [10, 0, 0, 9, 10, 1, 0, 2, 0x12, 0x67, 0x1f, 0x90]);
    let expected =
        [(0x02_u8, "api.shop.svc.clusterset.local"), (0xE2, "west"), (0xE1, "spiffe://west.demo/ns/shop/sa/web")];
    let expected: Vec<u8> = expected
        .iter()
        .flat_map(|(kind, text)| [&[*kind, 0, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat())
        .collect();
    assert_eq!(values, expected);
}

#[test]
fn the_gateways_own_connection_has_no_client() {
    assert_eq!(read(&LOCAL), Ok(Read::Whole { length: LOCAL.len(), client: None }));
    let unknown = told().header(None, "10.1.0.2:8080".parse().unwrap());
    assert_eq!(read(&unknown), Ok(Read::Whole { length: unknown.len(), client: None }));
}

#[test]
fn a_line_of_version_1_is_read_strictly() {
    let whole = |line: &str, client: Option<&str>| {
        let client = client.map(|client| client.parse().unwrap());
        assert_eq!(read(line.as_bytes()), Ok(Read::Whole { length: line.len(), client }), "{line:?}");
    };
    whole("PROXY TCP4 10.0.0.9 10.0.0.1 4711 80\r\n", Some("10.0.0.9:4711"));
    whole("PROXY TCP6 2001:db8::9 2001:db8::1 65535 0\r\n", Some("[2001:db8::9]:65535"));
    whole("PROXY UNKNOWN\r\n", None);
    whole("PROXY UNKNOWN ffff:f...f:ffff 65535\r\n", None);
    for bad in [
        "PROXY TCP4 10.0.0.9 10.0.0.1 4711 80\n",
        "PROXY TCP4 10.0.0.9 10.0.0.1 4711\r\n",
        "PROXY TCP4 10.0.0.9 10.0.0.1 4711 80 1\r\n",
        "PROXY TCP4 10.0.0.9 ::1 4711 80\r\n",
        "PROXY TCP6 10.0.0.9 ::1 4711 80\r\n",
        "PROXY TCP4 10.0.0.9 10.0.0.1 +4711 80\r\n",
        "PROXY TCP4 10.0.0.9 10.0.0.1 65536 80\r\n",
        "PROXY TCP4  10.0.0.9 10.0.0.1 4711 80\r\n",
        "PROXY UDP4 10.0.0.9 10.0.0.1 4711 80\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        "GET / HTTP/1.1\r\n",
        "\r\n\r\n\0\r\nQUIT!",
    ] {
        assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
    }
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    assert_eq!(read(&endless.as_bytes()[..106]), Ok(Read::More));
    assert!(read(&endless.as_bytes()[..107]).is_err());
}

#[test]
fn a_block_of_version_2_is_bounded_and_whole() {
    let block = |command: u8, family: u8, length: u16| {
        let mut block = SIGNATURE.to_vec();
        block.extend_from_slice(&[command, family]);
        block.extend_from_slice(&length.to_be_bytes());
        read(&block)
    };
    assert_eq!(block(0x21, 0x11, 4080), Ok(Read::More));
    for (command, family, length) in [
        (0x21, 0x11, 4081),
        (0x21, 0x11, 11),
        (0x21, 0x21, 35),
        (0x21, 0x12, 12),
        (0x21, 0x41, 0),
        (0x22, 0x11, 12),
        (0x11, 0x11, 12),
        (0x31, 0x11, 12),
    ] {
        assert!(block(command, family, length).is_err(), "{command:#x} {family:#x} {length}");
    }
}

proptest! {
    #[test]
    fn what_is_told_is_read(client in address(), endpoint in address(), behind: Vec<u8>) {
        let header = told().header(Some(client), endpoint);
        let whole = Read::Whole { length: header.len(), client: Some(client) };
        prop_assert_eq!(read(&[&header[..], &behind[..]].concat()), Ok(whole));
        for end in 0..header.len() {
            prop_assert_eq!(read(&header[..end]), Ok(Read::More));
        }
    }

    #[test]
    fn a_line_is_read_as_it_is_written(client in address(), proxy in any::<u16>(), behind: Vec<u8>) {
        let (family, other) = if client.is_ipv4() { ("TCP4", "10.0.0.1") } else { ("TCP6", "::1") };
        let line = format!("PROXY {family} {} {other} {} {proxy}\r\n", client.ip(), client.port());
        let whole = Read::Whole { length: line.len(), client: Some(client) };
        prop_assert_eq!(read(&[line.as_bytes(), &behind[..]].concat()), Ok(whole));
        for end in 0..line.len() {
            prop_assert_eq!(read(&line.as_bytes()[..end]), Ok(Read::More));
        }
    }

    /// Whatever comes is decided within the bound, and what was decided stays so.
    #[test]
    fn no_bytes_panic(
        signature in prop_oneof![Just(&b""[..]), Just(SIGNATURE), Just(&b"PROXY "[..])],
        bytes in prop::collection::vec(any::<u8>(), 0..5000),
    ) {
        let bytes = [signature, &bytes[..]].concat();
        let all = read(&bytes);
        if bytes.len() >= LONGEST {
            prop_assert_ne!(all, Ok(Read::More));
        }
        if let Ok(Read::Whole { length, .. }) = all {
            prop_assert!(length <= LONGEST && length <= bytes.len());
            prop_assert_eq!(read(&bytes[..length]), all);
        }
    }
}
