//! Every key of the configuration, once: what parses it, what documents it and what hints at it all read this list.

/// One key: where it stands, what it takes, and what it is for.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The mapping it belongs to, as `exports[].ports[]`; empty for the top.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What it takes, as a noun phrase: also what an error says was expected.
    pub takes: &'static str,
    /// What it is when left out; the text is parsed like any other.
    pub left_out: LeftOut,
    /// A value that is right.
    pub example: &'static str,
    /// What it is for, in a sentence or two.
    pub about: &'static str,
}

/// What a key is when left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// It must not be left out.
    Required,
    /// As if this were written.
    Text(&'static str),
    /// What this sentence says.
    Rule(&'static str),
}

use self::LeftOut::{Required, Rule, Text};

const fn key(
    place: (&'static str, &'static str),
    takes: &'static str,
    left_out: LeftOut,
    example: &'static str,
    about: &'static str,
) -> Key {
    Key { section: place.0, name: place.1, takes, left_out, example, about }
}

pub(super) const NAME: &str = "a DNS label: 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit";
pub(super) const SERVICE: &str = "namespace/name, each a DNS label";
pub(super) const PORT: &str = "a port number, 1 to 65535";
pub(super) const LISTEN: &str = "ip:port to listen on, port 1 to 65535";
pub(super) const DURATION: &str = "a duration from 100ms to 1h, as 500ms, 30s or 5m";
pub(super) const LONG_DURATION: &str = "a duration from 1s to 720h, as 30s, 5m or 24h";
pub(super) const PROTOCOL: &str = "TCP or UDP";
pub(super) const NAMESPACE: &str = "a namespace: a DNS label";
pub(super) const NAMESPACE_NAME: &str = "the name of a Service: a DNS label";
pub(super) const HOST: &str = "an IP address or a DNS name";
pub(super) const SELECTOR: &str = "a label selector of at most 512 bytes";
pub(super) const PORTS: &str = "first-last, ports from 1024 to 65535";
pub(super) const CIDRS: &str = "a list of 1 to 1000 CIDRs, as 10.0.0.0/8, or IP addresses";
pub(super) const NETWORKS: &str = "a list of 1 to 64 CIDRs or IP addresses";
pub(super) const SUBDOMAIN: &str = "a DNS subdomain";
pub(super) const WEIGHTS: &str =
    "cluster=share, joined by commas, each cluster once, shares from 0 to 1000000, one above 0";
pub(super) const PLACE: &str = "a name of at most 253 printable characters";
pub(super) const ENDPOINT: &str = "ip:port or ip";
pub(super) const TIMES: &str = "a number from 1 to 1000";
pub(super) const COUNT: &str = "a number from 1 to 10000000";

/// All keys, in the order of the reference.
pub const KEYS: &[Key] = &[
    key(
        ("", "clusterset"),
        "DNS labels joined by dots, at most 189 bytes",
        Required,
        "demo",
        "The set of clusters that share services. The same on all of them.",
    ),
    key(
        ("", "cluster"),
        NAME,
        Required,
        "west",
        "This cluster's id, unique in the clusterset. With the clusterset it names the trust domain, `west.demo`.",
    ),
    key(
        ("", "identity"),
        "a directory",
        Required,
        "west-identity/",
        "Where `isthmus identity init` wrote key, certificate, CA and the peers' bundles. Relative to this file.",
    ),
    key(
        ("", "bundles"),
        "a directory",
        Rule("`bundles/` in `identity`"),
        "/etc/isthmus/trust",
        "Where the peers' bundles lie, each as `<cluster>.pem`, if not beside the identity. Relative to this file.",
    ),
    key(
        ("", "tunnel"),
        "a mapping",
        Rule("its keys' defaults"),
        "{listen: \"0.0.0.0:15008\"}",
        "How peers reach this gateway.",
    ),
    key(
        ("", "admin"),
        LISTEN,
        Text("127.0.0.1:15020"),
        "127.0.0.1:15020",
        "Where /livez, /readyz, /metrics, /status and the console are served. But for the console it has no authentication: keep it on loopback or behind a firewall.",
    ),
    key(
        ("", "console"),
        "a mapping",
        Rule("its keys' defaults"),
        "{tokenFile: console-token}",
        "The page at /console/ of the admin address: docs/console.md.",
    ),
    key(
        ("", "state"),
        "a directory",
        Rule("`<cluster>-state/` beside this file"),
        "/var/lib/isthmus",
        "Where the last good table is kept for the next start. Relative to this file; made if it does not exist.",
    ),
    key(
        ("", "accessLog"),
        "off, stdout, or a file",
        Text("off"),
        "/var/log/isthmus/access.log",
        "Where to write a line of JSON for each stream, after its end. Relative to this file; reopened when it was moved away.",
    ),
    key(
        ("", "traces"),
        "a mapping",
        Rule("no traces"),
        "{endpoint: \"http://127.0.0.1:4317\"}",
        "Spans of sampled streams for OpenTelemetry: docs/traces.md.",
    ),
    key(("", "drain"), DURATION, Text("30s"), "30s", "How long streams may go on after SIGTERM."),
    key(
        ("", "cores"),
        "all, or a number from 1 to 1024",
        Text("all"),
        "4",
        "How many cores to serve on, a thread each.",
    ),
    key(
        ("", "busyPoll"),
        "auto, on or off",
        Text("auto"),
        "off",
        "Whether a core goes on asking for work for 150 µs before it sleeps, while it serves one busy stream: docs/operations.md. `auto`: unless the process has a CPU quota.",
    ),
    key(
        ("", "sharedListener"),
        "off or on",
        Text("off"),
        "on",
        "`on`: one listening socket a core takes the connections to all TCP imports, by a program in the kernel; for thousands of them: docs/shared-listener.md. Where that cannot be, each import has listeners of its own, as with `off`.",
    ),
    key(
        ("", "transparentSources"),
        NETWORKS,
        Rule("none: it never does"),
        "[10.1.0.0/16]",
        "The addresses that this gateway may connect to endpoints from as clients' own, where an export's policy has `transparentSource`: docs/transparent-source.md.",
    ),
    key(
        ("", "zone"),
        PLACE,
        Rule("the environment's ISTHMUS_ZONE, or that of endpoints on the same node"),
        "eu-west-1a",
        "The zone that this gateway runs in: for policies that prefer near endpoints.",
    ),
    key(
        ("", "node"),
        PLACE,
        Rule("the environment's ISTHMUS_NODE, or not known"),
        "node-7",
        "The node that it runs on.",
    ),
    key(
        ("", "limits"),
        "a mapping",
        Rule("its keys' defaults"),
        "{memory: 2GiB}",
        "Bounds on what the process takes. Beyond each, new work is refused and counted.",
    ),
    key(
        ("", "udp"),
        "a mapping",
        Rule("its keys' defaults"),
        "{idleTimeout: 30s}",
        "How UDP flows are served: docs/operations.md.",
    ),
    key(
        ("", "registry"),
        "file, kubernetes, or {kubernetes: a mapping}",
        Text("file"),
        "kubernetes",
        "What says what this cluster exports and imports: this file, or the API server of a Kubernetes cluster (docs/kubernetes.md).",
    ),
    key(
        ("", "dns"),
        "a mapping",
        Rule("no DNS server"),
        "{listen: \"0.0.0.0:53\"}",
        "Answers for clusterset.local: docs/dns.md. With `registry: kubernetes` only.",
    ),
    key(
        ("", "control"),
        "a mapping",
        Rule("gateway and control are one process"),
        "{address: \"10.0.0.9:15010\"}",
        "Where control and gateways meet, if they are processes of their own: docs/push.md.",
    ),
    key(
        ("", "links"),
        "a list of at most 256 mappings",
        Rule("no links"),
        "[{cluster: east}]",
        "The clusters to link with. Each side lists the other.",
    ),
    key(
        ("", "relay"),
        "a mapping",
        Rule("nothing is relayed"),
        "{allow: [west, east]}",
        "Between which linked clusters this gateway relays tunnels: docs/relay.md.",
    ),
    key(
        ("", "exports"),
        "a list of at most 10000 mappings",
        Rule("no exports"),
        "see above",
        "What this cluster serves to the clusters that it is linked with.",
    ),
    key(
        ("", "imports"),
        "a list of at most 10000 mappings",
        Rule("no imports"),
        "see above",
        "What local clients can use, and at which address.",
    ),
    key(
        ("", "sources"),
        "a list of at most 10000 mappings",
        Rule("clients are known by their addresses only"),
        "[{cidrs: [10.0.1.0/24], namespace: shop, serviceAccount: web}]",
        "Whose the addresses of local clients are: what peers are told of them, and what access policies decide by. The smallest network counts.",
    ),
    key(
        ("", "accessPolicies"),
        "a list of at most 1000 mappings",
        Rule("linked clusters may use all that is exported"),
        "[{name: closed, services: [\"*\"]}]",
        "Who may use what this cluster serves: docs/policy.md. At most 10000 rules of all of them together.",
    ),
    key(
        ("tunnel", "listen"),
        LISTEN,
        Text("0.0.0.0:15008"),
        "0.0.0.0:15008",
        "Where peers' tunnels are accepted: TCP, and UDP for QUIC. Without UDP it goes on with TCP.",
    ),
    key(
        ("tunnel", "advertise"),
        "a list of at most 16 host:port",
        Rule("nothing"),
        "[\"gw.west.example:15008\"]",
        "Where peers can dial this gateway: what `isthmus invite` and `isthmus join` tell the other side.",
    ),
    key(
        ("console", "tokenFile"),
        "a file",
        Rule("none: the console is served on loopback only"),
        "/etc/isthmus/console-token",
        "What whoever opens the console has to know: a line of 16 to 256 printable ASCII characters without spaces. Relative to this file; read each time it is asked for.",
    ),
    key(
        ("traces", "endpoint"),
        "http:// or https://, host:port, and nothing behind it",
        Required,
        "http://collector.monitoring.svc:4317",
        "The OTLP receiver for gRPC of a collector. `https`: over TLS. It need not be there.",
    ),
    key(
        ("traces", "ratio"),
        "a number from 0 to 1 of at most six decimals",
        Text("0.01"),
        "0.1",
        "Which part of the traces that begin at this gateway is sampled: of its own clients' streams, and of those of peers that say nothing. Peers that say something are followed.",
    ),
    key(
        ("traces", "caFile"),
        "a file",
        Rule("the system's certificate authorities"),
        "/etc/isthmus/collector-ca.pem",
        "What the collector's certificate is trusted by over TLS, as PEM. Relative to this file.",
    ),
    key(
        ("limits", "memory"),
        "a size from 16MiB to 1TiB, as 512MiB or 2GiB",
        Text("1GiB"),
        "2GiB",
        "Bytes that peers may have under way to us, all streams together. Near it, windows shrink. A stream takes 64 KiB at least, so it bounds their number, too.",
    ),
    key(
        ("limits", "connections"),
        COUNT,
        Text("100000"),
        "100000",
        "Local connections at once, all listeners together. Each core takes its share.",
    ),
    key(
        ("limits", "streamsPerPeer"),
        COUNT,
        Text("50000"),
        "50000",
        "Streams at once that a linked cluster may have open to this one on one tunnel. It dials a tunnel for each of its cores.",
    ),
    key(
        ("limits", "handshakes"),
        COUNT,
        Text("256"),
        "256",
        "TLS handshakes under way at once, so that strangers cost little.",
    ),
    key(
        ("limits", "handshakeTimeout"),
        DURATION,
        Text("10s"),
        "10s",
        "From a tunnel's first byte to its proven identity.",
    ),
    key(
        ("limits", "connectTimeout"),
        DURATION,
        Text("5s"),
        "5s",
        "For connecting to one endpoint, before it is given up. A peer may take 3 s longer to answer for a stream.",
    ),
    key(
        ("limits", "udpFlows"),
        COUNT,
        Text("10000"),
        "10000",
        "UDP flows of local clients at once, all listeners together. Each core takes its share. Beyond it the flow that has been silent longest gives way.",
    ),
    key(
        ("udp", "idleTimeout"),
        DURATION,
        Text("60s"),
        "30s",
        "A UDP flow ends when nothing has moved for so long, either way.",
    ),
    key(
        ("dns", "listen"),
        LISTEN,
        Text("0.0.0.0:53"),
        "[::]:5353",
        "Where queries are answered, by UDP and TCP. `[::]` takes IPv4 as well.",
    ),
    key(
        ("dns", "domain"),
        "DNS labels joined by dots",
        Text("clusterset.local"),
        "clusterset.local",
        "The domain of the clusterset's names, at most 61 bytes.",
    ),
    key(("dns", "ttl"), DURATION, Text("5s"), "30s", "How long clients may keep an answer, in whole seconds."),
    key(
        ("registry", "kubernetes"),
        "a mapping",
        Required,
        "{namespace: isthmus-system}",
        "How to reach the API server, and what is ours there.",
    ),
    key(
        ("registry.kubernetes", "kubeconfig"),
        "a file",
        Rule("this runs in a pod of the cluster"),
        "/etc/isthmus/kubeconfig",
        "How to reach the API server from outside. Relative to this file.",
    ),
    key(
        ("registry.kubernetes", "context"),
        "a context's name",
        Rule("the kubeconfig's current one"),
        "east",
        "Which context of the kubeconfig.",
    ),
    key(
        ("registry.kubernetes", "namespace"),
        NAMESPACE,
        Text("isthmus-system"),
        "isthmus-system",
        "Where our gateways' pods are, and the Lease by which replicas elect who writes.",
    ),
    key(
        ("registry.kubernetes", "gatewaySelector"),
        SELECTOR,
        Text("app.kubernetes.io/name=isthmus,app.kubernetes.io/component=gateway"),
        "app=gateway",
        "Which pods there are our gateways: what imports lead to.",
    ),
    key(
        ("registry.kubernetes", "ports"),
        PORTS,
        Text("20000-29999"),
        "20000-29999",
        "The ports that imported service ports get on the gateways, one each. Nothing else may listen on them there.",
    ),
    key(
        ("registry.kubernetes", "portsPerCluster"),
        COUNT,
        Text("2500"),
        "2500",
        "How many of them the services of one linked cluster can have. What this cluster exports as well is its own.",
    ),
    key(
        ("registry.kubernetes", "addressesPerCluster"),
        COUNT,
        Text("2500"),
        "2500",
        "How many Services with a virtual address are made for the services of one linked cluster, and for endpoints of headless ones.",
    ),
    key(
        ("registry.kubernetes", "caSecret"),
        "a Secret's name",
        Rule("`identity` has the CA, and no Secret is read"),
        "isthmus-ca",
        "The Secret of that namespace with this cluster's CA, which is made if it is empty. Then the gateways' SVID and what peers are trusted by are kept in Secrets, too: docs/install.md.",
    ),
    key(
        ("registry.kubernetes", "podIdentity"),
        "true or false",
        Text("false"),
        "true",
        "Whether all pods are watched, so that gateways know by its address which service account a client has: docs/policy.md. It takes the right to list and watch pods of all namespaces.",
    ),
    key(
        ("registry.kubernetes", "compat"),
        "a list of cilium, gke, istio, linkerd, skupper or submariner",
        Rule("none"),
        "[cilium, linkerd]",
        "The systems whose manifests are taken as they are: docs/compat.md. `--compat` adds to them.",
    ),
    key(
        ("registry.kubernetes", "externalDns"),
        "a mapping",
        Rule("nothing is told to it"),
        "{service: isthmus-gateway}",
        "DNSEndpoints are written for exports that are annotated for ExternalDNS: docs/dns.md.",
    ),
    key(
        ("registry.kubernetes.externalDns", "service"),
        NAMESPACE_NAME,
        Text("isthmus-gateway"),
        "isthmus-gateway",
        "The Service in our namespace whose load balancer leads to the gateways: names get its addresses.",
    ),
    key(
        ("registry.kubernetes.externalDns", "addresses"),
        "a list of 1 to 64 IP addresses or DNS names",
        Rule("those of the Service"),
        "[203.0.113.7]",
        "The addresses that names get, whatever the Service has.",
    ),
    key(
        ("control", "listen"),
        LISTEN,
        Rule("this is no control"),
        "0.0.0.0:15010",
        "For `isthmus control`: where this cluster's gateways come.",
    ),
    key(
        ("control", "address"),
        "host:port, port 1 to 65535",
        Rule("this is no gateway with a control of its own"),
        "10.0.0.9:15010",
        "For `isthmus gateway`: where its control is. Links, relay, exports and imports come from there, and are not stated here.",
    ),
    key(
        ("control", "joins"),
        "ip:port beside listen, host:port beside address",
        Rule("invitations are for `isthmus run` only"),
        "10.0.0.9:15011",
        "Where a gateway brings those who come with an invitation, for control to take. With `registry.kubernetes.caSecret` only.",
    ),
    key(("links[]", "cluster"), NAME, Required, "east", "The peer cluster's id."),
    key(
        ("links[]", "endpoints"),
        "a list of 1 to 16 host:port",
        Rule("nothing: the peer dials us"),
        "[\"203.0.113.7:15008\"]",
        "Where the peer's gateways can be dialled: all of them, by addresses or by names that are looked up again and again.",
    ),
    key(
        ("links[]", "transport"),
        "auto, tls, quic or h2",
        Text("auto"),
        "tls",
        "What to dial with. `auto` dials TLS and QUIC, keeps both, and takes for each stream what its path asks for; HTTP/2 where the peer speaks nothing else.",
    ),
    key(
        ("links[]", "relay"),
        NAME,
        Rule("no relay"),
        "hub",
        "The linked cluster that relays tunnels between the peer and us, where neither can dial the other: docs/relay.md. Both sides name it.",
    ),
    key(
        ("links[]", "services"),
        "a list of 1 to 1000 namespace/name:port",
        Rule("the peer says so itself"),
        "[\"shop/api:80\"]",
        "What the peer serves, if it is no isthmus (an Envoy, say) and cannot tell. Then nothing is exchanged with it.",
    ),
    key(
        ("relay", "allow"),
        "a list of 2 to 256 cluster ids",
        Rule("nobody"),
        "[west, east]",
        "Tunnels are relayed between any two of these.",
    ),
    key(
        ("relay", "tunnels"),
        COUNT,
        Text("256"),
        "256",
        "Tunnels at once between any two clusters. Each core of a gateway has one.",
    ),
    key(
        ("relay", "bytesPerSecond"),
        "a size from 64KiB to 1TiB, as 10MiB",
        Rule("no bound"),
        "10MiB",
        "Bytes a second between any two clusters, both ways together.",
    ),
    key(
        ("exports[]", "service"),
        SERVICE,
        Required,
        "shop/api",
        "The service's name, the same in every cluster that exports it.",
    ),
    key(("exports[]", "ports"), "a list of 1 to 64 mappings", Required, "[{port: 80}]", "The service's ports."),
    key(
        ("exports[]", "endpoints"),
        "a list of 1 to 1000 of ip:port, ip, or mappings",
        Required,
        "[\"10.0.0.2:8080\"]",
        "Who serves it. `ip:port` if the service has one port; a bare `ip` takes each port's `targetPort`.",
    ),
    key(
        ("exports[]", "policy"),
        "a mapping",
        Rule("its keys' defaults"),
        "{balance: leastRequest}",
        "How its streams are served at the endpoints.",
    ),
    key(
        ("exports[].endpoints[]", "address"),
        ENDPOINT,
        Required,
        "10.0.0.2:8080",
        "Where it listens, as without a mapping.",
    ),
    key(
        ("exports[].endpoints[]", "zone"),
        PLACE,
        Rule("not known"),
        "eu-west-1a",
        "The zone that it is in: see `near`.",
    ),
    key(("exports[].endpoints[]", "node"), PLACE, Rule("not known"), "node-7", "The node that it is on: see `near`."),
    key(("exports[].ports[]", "name"), NAME, Rule("no name"), "http", "The port's name, unique within the service."),
    key(
        ("exports[].ports[]", "port"),
        PORT,
        Required,
        "80",
        "What clients ask for. Unique within the service and protocol: 53 may be there for TCP and for UDP.",
    ),
    key(("exports[].ports[]", "protocol"), PROTOCOL, Text("TCP"), "UDP", "What the endpoints speak on it."),
    key(
        ("exports[].ports[]", "targetPort"),
        PORT,
        Rule("the same as `port`"),
        "8080",
        "Which port of a bare `ip` endpoint serves it.",
    ),
    key(("imports[]", "service"), SERVICE, Required, "shop/api", "Which service to use."),
    key(("imports[]", "port"), PORT, Required, "80", "Which of its ports."),
    key(
        ("imports[]", "protocol"),
        PROTOCOL,
        Text("TCP"),
        "UDP",
        "Of which protocol. To use both under one number takes two entries, which may have the same `listen`.",
    ),
    key(
        ("imports[]", "listen"),
        LISTEN,
        Required,
        "127.0.0.1:18080",
        "Where local clients connect to, or send datagrams to.",
    ),
    key(
        ("imports[]", "serverNames"),
        "a list of 1 to 100 DNS names in lower case, or *. before one",
        Rule("clients that ask for no name, or for none of another import at the same `listen`"),
        "[api.example, \"*.api.example\"]",
        "Which clients of TLS it is for, by the name that they ask for (SNI): docs/server-names.md. `*.` stands for one label. Several imports may have the same `listen` then, one of them without names.",
    ),
    key(
        ("imports[]", "affinity"),
        "local, remote or none",
        Text("none"),
        "local",
        "`local`: this cluster's own endpoints while there are any. `remote`: other clusters' while there are any. `none`: all alike, by their number.",
    ),
    key(
        ("imports[]", "sessionAffinity"),
        "clientIP or none",
        Text("none"),
        "clientIP",
        "`clientIP`: the streams of one client, by its address, go to the same cluster and the same endpoint, as long as these serve. `none`: each where it is best.",
    ),
    key(
        ("imports[]", "weights"),
        WEIGHTS,
        Rule("by `affinity` and ready endpoints"),
        "east=80,west=20",
        "The clusters' shares of streams; one that is not named has none. What is not ready leaves its share to the others; clusters without one serve only while none with one is ready. `affinity` does not count then.",
    ),
    key(
        ("imports[]", "policy"),
        "a mapping",
        Rule("its keys' defaults"),
        "{balance: leastRequest}",
        "How its streams are served at the client's side.",
    ),
    key(
        ("policy", "balance"),
        "leastRequest, roundRobin, random or sourceAddress",
        Text("leastRequest"),
        "roundRobin",
        "Which endpoint takes the next stream. `leastRequest`: of two at random, the one that is less loaded. `roundRobin`: one after the other, on each core. `random`: any. `sourceAddress`: the client's own one, by its address; at an import that is `sessionAffinity: clientIP`.",
    ),
    key(
        ("policy", "near"),
        "off, zone or node",
        Text("off"),
        "zone",
        "Of an export: which endpoints are preferred. `zone`: those in the gateway's `zone`. `node`: those on its `node`, then those in its zone. One that costs three times as much as a farther one gives way to it.",
    ),
    key(
        ("policy", "slowStart"),
        "off, or a duration from 100ms to 1h",
        Text("off"),
        "10s",
        "Of an export: how long an endpoint that is new, or back, takes to get its whole share: it begins with a tenth of it. Not with `sourceAddress`.",
    ),
    key(
        ("policy", "outliers"),
        "a mapping",
        Rule("its keys' defaults"),
        "{resets: 3}",
        "Of an export: which endpoints are left out for what their streams show.",
    ),
    key(
        ("policy", "failover"),
        "a mapping",
        Rule("its keys' defaults"),
        "{healthy: 70%}",
        "When streams go to other clusters than the preferred one. `panic` of an export, the others of an import.",
    ),
    key(
        ("policy.outliers", "failures"),
        TIMES,
        Text("3"),
        "5",
        "An endpoint is left out after so many failures to connect in a row.",
    ),
    key(
        ("policy.outliers", "resets"),
        TIMES,
        Text("5"),
        "3",
        "The same after so many streams in a row that it reset before its first byte.",
    ),
    key(
        ("policy.outliers", "slowerThan"),
        "off, or a number from 2 to 1000",
        Text("off"),
        "10",
        "The same when it takes so many times as long as the median endpoint, three seconds in a row. `leastRequest` hardly uses a slow endpoint anyway.",
    ),
    key(
        ("policy.outliers", "ejection"),
        DURATION,
        Text("1s"),
        "5s",
        "For how long it is left out the first time. Each further time is twice as long. Then one stream tries it.",
    ),
    key(
        ("policy.outliers", "longestEjection"),
        DURATION,
        Text("60s"),
        "5m",
        "For how long it is left out at most. One that was well for as long begins with `ejection` again.",
    ),
    key(
        ("policy.outliers", "maxEjected"),
        "a percentage from 0% to 100%",
        Text("50%"),
        "30%",
        "How many of the endpoints may be left out at the same time, rounded up; never all of them.",
    ),
    key(
        ("policy.failover", "healthy"),
        "a percentage from 0% to 100%",
        Text("50%"),
        "70%",
        "While fewer of this cluster's endpoints are healthy, its share of streams shrinks with them: the rest goes to the next cluster. 0%: it keeps all of them while one is healthy.",
    ),
    key(
        ("policy.failover", "panic"),
        "a percentage from 0% to 99%",
        Text("0%"),
        "20%",
        "Of an export: while no more of its endpoints are healthy, health is not heeded, as the fault is probably elsewhere. 0%: only when none is.",
    ),
    key(
        ("policy.failover", "recovery"),
        DURATION,
        Text("10s"),
        "30s",
        "How long a cluster that is well again takes to get its whole share back.",
    ),
    key(("sources[]", "cidrs"), CIDRS, Required, "[10.0.1.0/24]", "The addresses. Each network once."),
    key(("sources[]", "namespace"), NAMESPACE, Required, "shop", "The namespace of what has them."),
    key(("sources[]", "serviceAccount"), SUBDOMAIN, Required, "web", "The service account that it acts as."),
    key(("sources[]", "pod"), SUBDOMAIN, Rule("not told"), "web-0", "Which pod it is, for access records."),
    key(
        ("accessPolicies[]", "name"),
        "a DNS subdomain, alone or behind a namespace and /",
        Required,
        "shop-callers",
        "Its name, unique: access records and metrics have it.",
    ),
    key(
        ("accessPolicies[]", "services"),
        "a list of 1 to 1000 of *, namespace/* and namespace/name",
        Required,
        "[shop/api]",
        "What it selects. Of what any policy selects, only what a rule allows may be used.",
    ),
    key(
        ("accessPolicies[]", "ports"),
        "a list of 1 to 1000 ports, each alone or with /tcp or /udp behind it",
        Rule("all ports"),
        "[80, 53/udp]",
        "Which of these services' ports. A number alone is of both protocols.",
    ),
    key(
        ("accessPolicies[]", "dryRun"),
        "true or false",
        Text("false"),
        "true",
        "Whether it only says, in access records and metrics, what it would do.",
    ),
    key(
        ("accessPolicies[]", "rules"),
        "a list of at most 10000 mappings",
        Rule("none: nobody may use what it selects"),
        "[{name: web}]",
        "Whom it allows and denies. What denies counts more than what allows, of all policies together.",
    ),
    key(
        ("accessPolicies[].rules[]", "name"),
        "a DNS label other than default",
        Required,
        "web",
        "Its name, unique in the policy: access records and metrics have `shop-callers:web`.",
    ),
    key(
        ("accessPolicies[].rules[]", "action"),
        "allow or deny",
        Text("allow"),
        "deny",
        "What becomes of streams that it is for.",
    ),
    key(
        ("accessPolicies[].rules[]", "from"),
        "a list of 1 to 100 mappings",
        Rule("everybody"),
        "[{clusters: [west]}]",
        "Which sources it is for: those that any of these fits. What one of these states has to fit as a whole.",
    ),
    key(
        ("accessPolicies[].rules[].from[]", "clusters"),
        "a list of 1 to 1000 cluster ids",
        Rule("any"),
        "[west]",
        "The clusters that they come from; this cluster's own id is for its own clients.",
    ),
    key(
        ("accessPolicies[].rules[].from[]", "namespaces"),
        "a list of 1 to 1000 namespaces",
        Rule("any, or none known"),
        "[shop]",
        "Their namespaces.",
    ),
    key(
        ("accessPolicies[].rules[].from[]", "serviceAccounts"),
        "a list of 1 to 1000 namespace/name",
        Rule("any, or none known"),
        "[shop/web]",
        "Their service accounts.",
    ),
    key(
        ("accessPolicies[].rules[].from[]", "cidrs"),
        CIDRS,
        Rule("any, or none known"),
        "[10.0.1.0/24]",
        "Networks of their addresses, as their own gateway sees them. Clusters may have the same addresses: name them beside it.",
    ),
    key(
        ("policy", "localHop"),
        "off or on",
        Text("off"),
        "on",
        "TCP. `on`: connections between the gateway and endpoints (of an export) or clients (of an import) on its node pass by most of TCP, in the kernel. Not for programs that read with splice(2), MSG_WAITALL or kTLS: docs/local-hop.md.",
    ),
    key(
        ("policy", "proxyProtocol"),
        "off or v2",
        Text("off"),
        "v2",
        "Of an export, TCP. `v2`: an endpoint is told of the client by a header of the PROXY protocol in front of its bytes: docs/proxy-protocol.md.",
    ),
    key(
        ("policy", "acceptProxyProtocol"),
        NETWORKS,
        Rule("nobody's"),
        "[10.0.7.0/24]",
        "Of an import, TCP. Whose headers of the PROXY protocol are taken: who connects from there has to send one. Others' bytes are not looked at.",
    ),
    key(
        ("policy", "transparentSource"),
        "a list of 1 to 64 mappings",
        Rule("nobody's: endpoints see the gateway's address"),
        "[{cluster: west, cidrs: [10.1.0.0/16]}]",
        "Of an export, TCP. Whose clients endpoints are connected to from the client's own address. It needs a capability, and routes that bring answers back to the gateway: docs/transparent-source.md.",
    ),
    key(
        ("policy", "health"),
        "a mapping",
        Rule("no checks"),
        "{check: http, path: /healthz}",
        "Of an export, TCP. How gateways ask endpoints whether they are well: docs/health.md. What streams meet counts as well.",
    ),
    key(
        ("policy", "timeouts"),
        "a mapping",
        Rule("its keys' defaults"),
        "{firstByte: 10s, idle: 5m}",
        "How long streams may take: docs/limits.md.",
    ),
    key(
        ("policy", "retries"),
        "a mapping",
        Rule("its keys' defaults"),
        "{budget: 10%}",
        "How many streams may be tried again at another upstream: docs/limits.md.",
    ),
    key(
        ("policy", "limits"),
        "a mapping",
        Rule("no limits"),
        "{streams: 1000, perSource: {streams: 10}}",
        "How many streams there may be in one gateway: docs/limits.md. Beyond it new ones are refused.",
    ),
    key(
        ("policy.timeouts", "connect"),
        DURATION,
        Rule("`limits.connectTimeout`, and 3 s more for a peer"),
        "1s",
        "Of an export: for connecting to one endpoint. Of an import: for a cluster's answer.",
    ),
    key(
        ("policy.timeouts", "firstByte"),
        DURATION,
        Rule("no bound"),
        "10s",
        "From the client's first byte to the endpoint's.",
    ),
    key(
        ("policy.timeouts", "idle"),
        LONG_DURATION,
        Rule("no bound; for UDP `udp.idleTimeout`"),
        "5m",
        "While nothing moves either way.",
    ),
    key(
        ("policy.timeouts", "maxAge"),
        LONG_DURATION,
        Rule("no bound"),
        "24h",
        "From a stream's beginning, whatever it does.",
    ),
    key(
        ("policy.retries", "budget"),
        "a percentage from 0% to 100%",
        Text("20%"),
        "50%",
        "Streams that are being tried again at once, of the service's live streams.",
    ),
    key(
        ("policy.retries", "perSecond"),
        "a number from 0 to 1000000",
        Text("10"),
        "0",
        "So many a second may be tried again whatever the budget; what is not used is kept for ten seconds.",
    ),
    key(
        ("policy.limits", "perPeer"),
        "a mapping",
        Rule("no limits"),
        "{streams: 500}",
        "Of an export. The same for each cluster that streams come from, this one as well.",
    ),
    key(
        ("policy.limits", "perSource"),
        "a mapping",
        Rule("no limits"),
        "{opensPerSecond: 20}",
        "The same for each address that streams come from.",
    ),
    key(("policy.limits", "streams"), COUNT, Rule("no limit"), "1000", "Streams at once."),
    key(
        ("policy.limits", "pending"),
        COUNT,
        Rule("no limit"),
        "100",
        "Streams at once that no upstream has taken yet.",
    ),
    key(("policy.limits", "opensPerSecond"), COUNT, Rule("no limit"), "500", "Streams begun a second."),
    key(
        ("policy.limits", "bytesPerSecond"),
        "a size from 64KiB to 1TiB, as 10MiB",
        Rule("no limit"),
        "10MiB",
        "Bytes moved a second, both ways together. Streams wait, and are not refused.",
    ),
    key(("policy.limits.perPeer, perSource", "streams"), COUNT, Rule("no limit"), "10", "As above."),
    key(("policy.limits.perPeer, perSource", "pending"), COUNT, Rule("no limit"), "5", "As above."),
    key(("policy.limits.perPeer, perSource", "opensPerSecond"), COUNT, Rule("no limit"), "20", "As above."),
    key(
        ("policy.limits.perPeer, perSource", "bytesPerSecond"),
        "a size from 64KiB to 1TiB, as 10MiB",
        Rule("no limit"),
        "1MiB",
        "As above.",
    ),
    key(
        ("policy.transparentSource[]", "cluster"),
        NAME,
        Required,
        "west",
        "Whose clients. This cluster's own id is for its own.",
    ),
    key(
        ("policy.transparentSource[]", "cidrs"),
        NETWORKS,
        Required,
        "[10.1.0.0/16]",
        "The networks that they are in, as their own gateway sees them. No other cluster of the list may have addresses of these.",
    ),
    key(
        ("policy.health", "check"),
        "tcp, tls, http or grpc",
        Required,
        "http",
        "`tcp`: it takes a connection. `tls`: it shakes hands. `http`: it answers a GET. `grpc`: it says SERVING.",
    ),
    key(("policy.health", "interval"), DURATION, Text("5s"), "2s", "From one check to the next, give or take a tenth."),
    key(("policy.health", "timeout"), DURATION, Text("1s"), "500ms", "How long a check may take, all of it."),
    key(
        ("policy.health", "healthy"),
        "a number from 1 to 100",
        Text("2"),
        "1",
        "So many good answers in a row bring an endpoint back.",
    ),
    key(
        ("policy.health", "unhealthy"),
        "a number from 1 to 100",
        Text("3"),
        "2",
        "So many failures in a row put an endpoint out.",
    ),
    key(
        ("policy.health", "path"),
        "a path that begins with '/', at most 512 bytes",
        Text("/"),
        "/healthz",
        "What is asked for, by `http`.",
    ),
    key(
        ("policy.health", "expect"),
        "a status, or the first and the last, from 200 to 599",
        Text("200-399"),
        "204",
        "Statuses that are good, for `http`.",
    ),
    key(
        ("policy.health", "host"),
        HOST,
        Rule("the endpoint's address"),
        "api.example",
        "What it is called: the Host header of `http`, the authority of `grpc`; for `tls` what its certificate has to be for, which is not looked at otherwise.",
    ),
    key(
        ("policy.health", "grpcService"),
        "a service's name, at most 253 bytes",
        Rule("the server as a whole"),
        "shop.Api",
        "Of which service `grpc` asks.",
    ),
];

/// The keys of one section.
pub(super) fn section(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

/// The reference as Markdown tables, one a section: what docs/configuration.md holds between its markers.
pub fn reference() -> String {
    let mut sections: Vec<&str> = KEYS.iter().map(|key| key.section).collect();
    sections.dedup();
    sections.iter().map(|&name| table(name)).collect::<Vec<_>>().join("\n")
}

fn table(name: &str) -> String {
    let title = if name.is_empty() { "Top level" } else { name };
    let rows: String = section(name).map(row).collect();
    format!("### {title}\n\n| key | takes | when left out | example | |\n|---|---|---|---|---|\n{rows}")
}

fn row(key: &Key) -> String {
    let default = match key.left_out {
        Required => "**must be there**".into(),
        Text(text) => format!("`{text}`"),
        Rule(rule) => rule.into(),
    };
    let example = if key.example == "see above" { key.example.into() } else { format!("`{}`", key.example) };
    format!("| `{}` | {} | {default} | {example} | {} |\n", key.name, key.takes, key.about)
}
