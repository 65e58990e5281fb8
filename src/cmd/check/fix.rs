//! ● From what is wrong with a link to what puts it right.

/// Where a fix is applied: names for its words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// This cluster.
    pub(super) own: &'a str,
    /// The linked one.
    pub(super) peer: &'a str,
}

/// A part of a message, and what to do about it: `OWN` and `PEER` stand for the clusters. The first that fits counts.
const FIXES: &[(&str, &str)] = &[
    (
        "the clocks differ",
        "set both clocks by NTP (`timedatectl set-ntp true`; `chronyc tracking` shows how far one is off)",
    ),
    ("not_yet_valid", "compare the clocks of OWN and PEER, and set the wrong one by NTP (`timedatectl set-ntp true`)"),
    ("cannot look up", "see that `getent ahosts NAME` answers here, or write an IP address into links[PEER].endpoints"),
    (
        "looking up",
        "see that the resolvers of /etc/resolv.conf answer here, or write an IP address into links[PEER].endpoints",
    ),
    (
        "is not looked up",
        "see that the resolvers of /etc/resolv.conf answer here, or write an IP address into links[PEER].endpoints",
    ),
    ("the lookup of", "see that `getent ahosts NAME` answers here, or write an IP address into links[PEER].endpoints"),
    ("does not relay", "at the relay: let it relay between both (`relay: {allow: [OWN, PEER]}`)"),
    ("is to relay", "at PEER: give its link with OWN the same relay (links[OWN].relay)"),
    ("no tunnel to it", "start the relay, and see above what is wrong with the link with it"),
    ("waits for", "run `isthmus check` at PEER, which dials: it says what is wrong"),
    ("wrong_trust_domain", "links[PEER].endpoints leads to another cluster: correct it, or the link's cluster name"),
    ("not_linked", "at PEER: link it with OWN (`isthmus invite` here, `isthmus join TOKEN` there)"),
    ("revoked", "at PEER: have a new certificate made (`isthmus identity renew DIR`), or take the revocation back"),
    (
        "expired",
        "at PEER: have its certificate renewed (`isthmus identity renew DIR`), and see why nobody did: its `isthmus check` says",
    ),
    (
        "unknown_issuer",
        "PEER has another CA than is trusted here: take its ca.pem (`isthmus identity trust --cluster PEER --bundle ca.pem --identity DIR`), or join again with `isthmus join --replace`",
    ),
    (
        "bad_svid",
        "at PEER: give the gateway an SVID of a gateway (`isthmus identity issue --service-account isthmus-system/gateway`)",
    ),
    (
        "tls_version",
        "something else than isthmus answers there, or a middlebox breaks TLS 1.3: correct links[PEER].endpoints, or let the tunnel port pass untouched",
    ),
    (
        "alpn",
        "something else than isthmus answers there, or a version that speaks another protocol: correct links[PEER].endpoints, or upgrade the older side",
    ),
    (
        "does not speak isthmus/1",
        "upgrade the older of OWN and PEER, or correct links[PEER].endpoints if something else answers there",
    ),
    (
        "no_certificate",
        "something else than a gateway comes or answers there: correct links[PEER].endpoints, or find out who it is",
    ),
    ("malformed", "something else than TLS comes or answers there: correct links[PEER].endpoints"),
    ("by_peer", "PEER refuses OWN: `isthmus check` at PEER says why"),
    ("see its log", "PEER refuses OWN: `isthmus check` at PEER says why"),
    ("was refused", "find out who shows such a certificate: the log of this gateway has its address"),
    (
        "connection refused",
        "start the gateway of PEER, or correct links[PEER].endpoints: expected is its tunnel.listen",
    ),
    (
        "Connection refused",
        "start the gateway of PEER, or correct links[PEER].endpoints: expected is its tunnel.listen",
    ),
    ("unreachable", "give this host a route to PEER, or correct links[PEER].endpoints"),
    ("No route to host", "give this host a route to PEER, or correct links[PEER].endpoints"),
    (
        "large packets",
        "let ICMP \"fragmentation needed\" pass on the path, or lower the MTU of this host's uplink (`ip link set dev DEVICE mtu 1280`)",
    ),
    (
        "the path loses",
        "find the lossy hop (`mtr PEER`); `transport: auto` or `quic` for links[PEER] suffers least meanwhile",
    ),
    (
        "broke within",
        "find out what cuts connections on the path (a NAT or firewall that forgets them, a restart of PEER)",
    ),
    (
        "gateways are reached",
        "start the gateways that are missing, or take their addresses out of links[PEER].endpoints",
    ),
    ("the peer takes", "allow more streams and tunnels at PEER (limits.streamsPerPeer), or use fewer `cores` here"),
    (
        "timeout",
        "let TCP and UDP of the tunnel port pass to PEER (firewall, security group), and see that its gateway runs",
    ),
    (
        "timed out",
        "let TCP and UDP of the tunnel port pass to PEER (firewall, security group), and see that its gateway runs",
    ),
    (
        "no answer",
        "let TCP and UDP of the tunnel port pass to PEER (firewall, security group), and see that its gateway runs",
    ),
    ("does not answer", "see that PEER runs and is not stuck, and that the path to it is not cut"),
    ("did not", "see that PEER runs and is not stuck, and that the path to it is not cut"),
    ("reset", "`isthmus check` at PEER, and the log of its gateway, say what ended it"),
    ("other", "the log of this gateway, and that of PEER, have the details"),
];

/// What to do where nothing better is known.
const ASK: &str =
    "run `isthmus check` at PEER, too: it sees the other side; the logs of both gateways have the details";

/// What puts right what a message tells, a line for each thing.
pub(super) fn of(message: &str, place: Place<'_>) -> String {
    let mut fixes: Vec<&str> = Vec::new();
    for part in message.split("; ") {
        let fix = FIXES.iter().find(|(words, _)| part.contains(words)).map(|(_, fix)| *fix);
        fixes.extend(fix.filter(|fix| !fixes.contains(fix)));
    }
    if fixes.is_empty() {
        fixes.push(ASK);
    }
    fixes.join("\n").replace("PEER", place.peer).replace("OWN", place.own)
}

/// What to do where a stream was not opened, by the reason of OPENED.
pub(super) fn of_refusal(reason: &str, service: &str, place: Place<'_>) -> String {
    let fix = match reason {
        "denied" => {
            "at PEER: let an access policy allow OWN SERVICE, or ask on behalf of a client that it allows (`isthmus trace SERVICE --client ADDRESS`)"
        }
        "no_such_export" => "at PEER: export SERVICE (exports, or a ServiceExport)",
        "no_endpoint" => {
            "at PEER: start an endpoint of SERVICE, or correct exports[].endpoints: `isthmus check` there names those that fail"
        }
        "timeout" => {
            "at PEER: see that the endpoints of SERVICE answer and no firewall drops what goes there: `isthmus check` there names those that fail"
        }
        "limit" => "at PEER: wait until there is room, or raise the limit that `isthmus_refusals_total` names there",
        "draining" => "wait until the gateway of PEER has restarted",
        _ => "see above what is wrong with the link with PEER",
    };
    fix.replace("PEER", place.peer).replace("OWN", place.own).replace("SERVICE", service)
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_certs::HandshakeRefusal;

    const PLACE: Place<'_> = Place { own: "west", peer: "east" };

    #[test]
    fn every_reason_of_a_refused_handshake_has_a_fix() {
        for reason in HandshakeRefusal::ALL {
            let fix = of(&format!("handshake: {reason}: found this, expected that"), PLACE);
            assert!(!fix.contains(&ASK.replace("PEER", "east")), "{reason} has none");
            assert!(!fix.contains("PEER") && !fix.contains("OWN"), "{fix}");
        }
    }

    #[test]
    fn each_part_of_a_message_has_its_own_line() {
        let message = "the path loses 3.0% of what goes there, 0.0% of what comes back; \
                       the clocks differ: the peer's is 60 s ahead of this one; the clocks differ: again";
        let fix = of(message, PLACE);
        assert_eq!(fix.lines().count(), 2, "{fix}");
        assert!(fix.contains("mtr east") && fix.contains("NTP"), "{fix}");
    }

    #[test]
    fn what_nobody_has_thought_of_leads_to_the_other_side() {
        assert!(of("gremlins", PLACE).starts_with("run `isthmus check` at east"));
    }

    #[test]
    fn every_refusal_of_a_stream_names_what_to_change() {
        for reason in ["denied", "no_such_export", "no_endpoint", "timeout", "limit", "draining", "no_tunnel"] {
            let fix = of_refusal(reason, "shop/api", PLACE);
            assert!(fix.contains("east") && !fix.contains("SERVICE"), "{fix}");
        }
    }
}
