//! The words of labels: each an enum, so that nobody outside can add one.

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word for metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

words! {
    /// The bounds that refuse when they are reached.
    Bound {
        /// Connections of local clients, all together.
        Connections = "connections",
        /// Streams that one tunnel may carry.
        StreamsPerTunnel = "streams_per_tunnel",
        /// Tunnels that one peer may have.
        TunnelsPerPeer = "tunnels_per_peer",
        /// Tunnels to a cluster that a core has dialled and that drain: of more the oldest is closed.
        DrainingTunnels = "draining_tunnels",
        /// Handshakes under way.
        Handshakes = "handshakes",
        /// The memory budget.
        Memory = "memory",
        /// Connections to the admin address.
        AdminConnections = "admin_connections",
        /// Pages of the console that are open.
        ConsolePages = "console_pages",
        /// UDP flows of local clients, all together.
        UdpFlows = "udp_flows",
        /// Connections of those who want to join, and attempts in a time.
        Joins = "joins",
        /// Tunnels that are relayed between two clusters.
        RelayedTunnels = "relayed_tunnels",
        /// Gateways of one control, and what they are asked to open.
        Gateways = "gateways",
        /// Checks of endpoints under way.
        HealthChecks = "health_checks",
        /// Streams of a service, by its policy.
        ServiceStreams = "service_streams",
        /// Streams of a service that no upstream has taken yet, by its policy.
        ServicePending = "service_pending",
        /// Streams of a service begun a second, by its policy.
        ServiceOpens = "service_opens",
        /// The same of one cluster that they come from.
        PeerStreams = "peer_streams",
        /// The same of one cluster.
        PeerPending = "peer_pending",
        /// The same of one cluster.
        PeerOpens = "peer_opens",
        /// Streams of one cluster, all services together, by its link.
        LinkStreams = "link_streams",
        /// The same that no upstream has taken yet.
        LinkPending = "link_pending",
        /// The same begun a second.
        LinkOpens = "link_opens",
        /// The same of one address that they come from.
        SourceStreams = "source_streams",
        /// The same of one address.
        SourcePending = "source_pending",
        /// The same of one address.
        SourceOpens = "source_opens",
        /// Sources and peers that are counted apart at once.
        Sources = "sources",
        /// Sockets for endpoints: the files that the process may open, or memory.
        Sockets = "sockets",
        /// Further attempts of streams, by their service's budget.
        RetryBudget = "retry_budget",
        /// Probes that commands ask for, and echoes that peers do.
        Probes = "probes",
        /// Measurements that commands or peers ask for, and streams of peers' that may not be.
        Measurements = "measurements",
    }
}

words! {
    /// Why a UDP flow's datagram was dropped.
    Dropped {
        /// It waited too long, or found no room, because the tunnel takes less than the client or the endpoint sends.
        Slow = "slow",
        /// It is longer than what the client's or endpoint's network takes.
        TooLarge = "too_large",
        /// The kernel did not send it: no room, no route, or forbidden.
        Unsent = "unsent",
        /// The kernel had no room for it when it came, because the core was busy.
        Overflow = "overflow",
        /// Its flow was refused, or found no room in the table.
        Unopened = "unopened",
        /// Its flow ended before it could leave.
        Ended = "ended",
        /// Its service's policy allows no more bytes a second.
        Rate = "rate",
    }
}

words! {
    /// Why a span will not be at the collector.
    SpanDropped {
        /// The collector was away or too slow, and the queue was full.
        QueueFull = "queue_full",
        /// The collector has refused it for good.
        Rejected = "rejected",
        /// The collector did not take it for five minutes, or not at once when the gateway ended.
        Undelivered = "undelivered",
    }
}

words! {
    /// What became of a connection that was begun beside one that was late.
    Hedge {
        /// It was there first.
        Won = "won",
        /// It was not, or failed.
        Lost = "lost",
    }
}

words! {
    /// From which address an endpoint was connected to whose export lets it see clients' own, and what came of that.
    EndpointSource {
        /// From the client's own.
        Transparent = "transparent",
        /// From the gateway's: the address is not known, or not one that the export takes from that cluster.
        Unlisted = "unlisted",
        /// From the gateway's: the client's is of the other version of IP.
        Family = "family",
        /// From the gateway's: nobody connects from such an address, or it is the endpoint's own.
        Unusable = "unusable",
        /// From the gateway's: its own file, or the kernel, does not let it use the other.
        NotPermitted = "not_permitted",
        /// From the client's own, and it failed; the endpoint takes connections from the gateway's.
        Unanswered = "unanswered",
        /// From the client's own, and it failed. The endpoint was not asked whether it takes the gateway's, as too many are being asked.
        Unasked = "unasked",
    }
}

words! {
    /// Why a client was refused that was to say whom it wants in its TLS.
    HelloRefusal {
        /// Nobody has the name that it asks for.
        UnknownName = "unknown_name",
        /// It asks for no name, and there is nobody for these.
        NoName = "no_name",
        /// It does not speak TLS.
        NotTls = "not_tls",
        /// It said something else than what a client says first.
        Malformed = "malformed",
        /// It said too much.
        TooLong = "too_long",
        /// It took too long.
        TooLate = "too_late",
        /// Its proxy was to say who it is, and said something else.
        BadProxyHeader = "bad_proxy_header",
    }
}

words! {
    /// Why dialling a peer failed.
    DialFailure {
        /// Its name could not be resolved.
        Resolve = "resolve",
        /// It refused the connection, or no route leads there.
        Connect = "connect",
        /// Nobody answered in time.
        Timeout = "timeout",
        /// The handshake failed: `isthmus_handshakes_refused_total` says why.
        Handshake = "handshake",
        /// The connection ended before the tunnel was there.
        Closed = "closed",
        /// No relay, or it refused.
        Relay = "relay",
        /// The peer takes no more tunnels of this gateway.
        Declined = "declined",
    }
}

words! {
    /// What became of somebody who came with an invitation.
    JoinResult {
        /// The clusters are linked.
        Linked = "linked",
        /// Without a valid proof: another token, or none.
        WrongProof = "wrong_proof",
        /// The invitation was used before.
        Used = "used",
        /// The invitation was over.
        Expired = "expired",
        /// Proven, and refused for what the cluster is.
        Refused = "refused",
        /// The connection broke, or no word of joining came.
        Broken = "broken",
    }
}

words! {
    /// What became of an attempt at a direct path.
    PunchResult {
        /// There is a direct tunnel.
        Direct = "direct",
        /// Nobody got through.
        Failed = "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_certs::HandshakeRefusal;

    #[test]
    fn places_are_those_of_all() {
        assert!(Bound::ALL.iter().enumerate().all(|(i, &bound)| bound as usize == i));
        assert!(Dropped::ALL.iter().enumerate().all(|(i, &dropped)| dropped as usize == i));
        assert!(HelloRefusal::ALL.iter().enumerate().all(|(i, &refusal)| refusal as usize == i));
        assert!(SpanDropped::ALL.iter().enumerate().all(|(i, &dropped)| dropped as usize == i));
        assert!(Hedge::ALL.iter().enumerate().all(|(i, &hedge)| hedge as usize == i));
        assert!(EndpointSource::ALL.iter().enumerate().all(|(i, &source)| source as usize == i));
        assert!(DialFailure::ALL.iter().enumerate().all(|(i, &failure)| failure as usize == i));
        assert!(JoinResult::ALL.iter().enumerate().all(|(i, &result)| result as usize == i));
        assert!(PunchResult::ALL.iter().enumerate().all(|(i, &result)| result as usize == i));
        assert!(HandshakeRefusal::ALL.iter().enumerate().all(|(i, &refusal)| refusal as usize == i));
    }
}
