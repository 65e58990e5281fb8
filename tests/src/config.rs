//! A gateway's configuration, written as its users write it.

use crate::topology::Cluster;
use std::{
    fmt::{self, Write as _},
    net::{IpAddr, SocketAddr},
};

/// Which transport a link asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TLS and QUIC, each stream over what its path asks for.
    Auto,
    /// Our multiplexer over TLS.
    Tls,
    /// QUIC.
    Quic,
    /// HTTP/2 CONNECT.
    H2,
    /// Our multiplexer over TLS, and the local hop of both gateways in the kernel.
    TlsAndLocalHop,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Tls | Self::TlsAndLocalHop => "tls",
            Self::Quic => "quic",
            Self::H2 => "h2",
        })
    }
}

/// A link of a configuration.
#[derive(Debug, Clone)]
pub struct Link {
    /// The linked cluster.
    pub cluster: String,
    /// Where to dial it, each as `host:port`; none where it dials us.
    pub endpoints: Vec<String>,
    /// The transport to dial with, where we dial.
    pub transport: Option<Transport>,
    /// What the cluster serves, where its gateway is of another make and cannot say so itself.
    pub services: Vec<String>,
    /// The cluster that relays it, if any is to.
    pub relay: Option<String>,
}

/// An import of a configuration.
#[derive(Debug, Clone)]
pub struct Import {
    /// `namespace/name`.
    pub service: String,
    /// The service's port.
    pub port: u16,
    /// Where local clients find it.
    pub listen: SocketAddr,
    /// TCP or UDP.
    pub protocol: &'static str,
    /// The names that it is for; none: all.
    pub server_names: &'static [&'static str],
}

/// The configuration of one gateway.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its cluster.
    pub cluster: String,
    /// Its identity directory.
    pub identity: String,
    /// Where it takes tunnels.
    pub tunnel: SocketAddr,
    /// Its admin address.
    pub admin: SocketAddr,
    /// Its links.
    pub links: Vec<Link>,
    /// `namespace/name`, the service's port, the endpoints.
    pub exports: Vec<(String, u16, Vec<SocketAddr>)>,
    /// `namespace/name`, a port of TCP and of UDP, the endpoints, which serve both on the same port.
    pub exports_of_both: Vec<(String, u16, Vec<IpAddr>)>,
    /// Its imports.
    pub imports: Vec<Import>,
    /// Which clusters its imports prefer, if not all alike.
    pub affinity: Option<&'static str>,
    /// Whether clients of its imports stay with their endpoints.
    pub sticky: bool,
    /// The limits of all its links, as a YAML flow mapping.
    pub link_limits: Option<&'static str>,
    /// The policy of all its exports, as a YAML flow mapping.
    pub export_policy: Option<&'static str>,
    /// The policy of all its imports, as a YAML flow mapping.
    pub import_policy: Option<&'static str>,
    /// Further keys of each import, as they are: `policy: {…}`.
    pub import_more: Option<&'static str>,
    /// Further keys of each export.
    pub export_more: Option<&'static str>,
    /// Further top-level lines, as they are.
    pub more: String,
}

impl Config {
    /// One without links, exports and imports.
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            cluster: cluster.name().to_owned(),
            identity: cluster.identity_dir().display().to_string(),
            tunnel: cluster.tunnel_address(),
            admin: crate::admin::ADDRESS,
            links: Vec::new(),
            exports: Vec::new(),
            exports_of_both: Vec::new(),
            imports: Vec::new(),
            affinity: None,
            sticky: false,
            link_limits: None,
            export_policy: None,
            import_policy: None,
            import_more: None,
            export_more: None,
            more: String::new(),
        }
    }

    /// Links it with a cluster that this one dials.
    #[must_use]
    pub fn dials(mut self, peer: &Cluster, transport: Transport) -> Self {
        self.links.push(Link {
            cluster: peer.name().to_owned(),
            endpoints: vec![peer.tunnel_address().to_string()],
            transport: Some(transport),
            services: Vec::new(),
            relay: None,
        });
        self
    }

    /// Makes it the configuration of one of several gateways of `cluster`.
    #[must_use]
    pub fn of(mut self, cluster: &str) -> Self {
        cluster.clone_into(&mut self.cluster);
        self
    }

    /// Links it with a cluster whose gateways are at these `host:port`; none: they dial this one.
    #[must_use]
    pub fn links(mut self, cluster: &str, endpoints: &[String], transport: Option<Transport>) -> Self {
        let (cluster, endpoints) = (cluster.to_owned(), endpoints.to_vec());
        self.links.push(Link { cluster, endpoints, transport, services: Vec::new(), relay: None });
        self
    }

    /// Links it with a cluster that dials this one.
    #[must_use]
    pub fn is_dialled_by(mut self, peer: &Cluster) -> Self {
        self.links.push(Link {
            cluster: peer.name().to_owned(),
            endpoints: Vec::new(),
            transport: None,
            services: Vec::new(),
            relay: None,
        });
        self
    }

    /// Links it with a cluster that neither dials nor is dialled: a third one relays.
    #[must_use]
    pub fn reaches(mut self, peer: &Cluster, relay: &Cluster) -> Self {
        self.links.push(Link {
            cluster: peer.name().to_owned(),
            endpoints: Vec::new(),
            transport: None,
            services: Vec::new(),
            relay: Some(relay.name().to_owned()),
        });
        self
    }

    /// Exports port 80 of a service.
    #[must_use]
    pub fn exports(mut self, service: &str, endpoints: &[SocketAddr]) -> Self {
        self.exports.push((service.to_owned(), 80, endpoints.to_vec()));
        self
    }

    /// Imports port 80 of a service.
    #[must_use]
    pub fn imports(self, service: &str, listen: SocketAddr) -> Self {
        self.imports_named(service, listen, &[])
    }

    /// Imports port 80 of a service for those who ask for these names in their TLS.
    #[must_use]
    pub fn imports_named(mut self, service: &str, listen: SocketAddr, names: &'static [&'static str]) -> Self {
        let service = service.to_owned();
        self.imports.push(Import { service, port: 80, listen, protocol: "TCP", server_names: names });
        self
    }

    /// Exports a port of a service, for TCP and for UDP.
    #[must_use]
    pub fn exports_both(mut self, service: &str, port: u16, endpoints: &[IpAddr]) -> Self {
        self.exports_of_both.push((service.to_owned(), port, endpoints.to_vec()));
        self
    }

    /// Imports a port of a service, for TCP and for UDP.
    #[must_use]
    pub fn imports_both(mut self, service: &str, listen: SocketAddr) -> Self {
        let imports = ["TCP", "UDP"].map(|protocol| {
            let (service, port) = (service.to_owned(), listen.port());
            Import { service, port, listen, protocol, server_names: &[] }
        });
        self.imports.extend(imports);
        self
    }

    /// Has all imports prefer these clusters: `local`, `remote` or `none`.
    #[must_use]
    pub fn with_affinity(mut self, affinity: &'static str) -> Self {
        self.affinity = Some(affinity);
        self
    }

    /// Gives all links these limits.
    #[must_use]
    pub fn with_link_limits(mut self, limits: &'static str) -> Self {
        self.link_limits = Some(limits);
        self
    }

    /// Gives all exports this policy.
    #[must_use]
    pub fn with_export_policy(mut self, policy: &'static str) -> Self {
        self.export_policy = Some(policy);
        self
    }

    /// Gives all imports this policy.
    #[must_use]
    pub fn with_import_policy(mut self, policy: &'static str) -> Self {
        self.import_policy = Some(policy);
        self
    }

    /// Adds top-level lines as they are.
    #[must_use]
    pub fn with(mut self, lines: &str) -> Self {
        self.more.push_str(lines);
        self.more.push('\n');
        self
    }

    /// The file's text.
    pub fn to_yaml(&self) -> String {
        let mut yaml = String::new();
        // Writing into a string cannot fail.
        let _ = self.write_into(&mut yaml);
        yaml
    }

    fn write_into(&self, yaml: &mut String) -> fmt::Result {
        let Self { cluster, identity, tunnel, admin, more, .. } = self;
        writeln!(yaml, "clusterset: {}\ncluster: {cluster}\nidentity: {identity}", crate::topology::CLUSTERSET)?;
        writeln!(yaml, "tunnel: {{listen: \"{tunnel}\"}}\nadmin: \"{admin}\"")?;
        writeln!(yaml, "links:{}", if self.links.is_empty() { " []" } else { "" })?;
        for link in &self.links {
            writeln!(yaml, "  - cluster: {}", link.cluster)?;
            if let Some(transport) = link.transport {
                writeln!(yaml, "    transport: {transport}")?;
            }
            if !link.endpoints.is_empty() {
                writeln!(yaml, "    endpoints: {}", list(&link.endpoints))?;
            }
            if let Some(relay) = &link.relay {
                writeln!(yaml, "    relay: {relay}")?;
            }
            if let Some(limits) = self.link_limits {
                writeln!(yaml, "    limits: {limits}")?;
            }
            if !link.services.is_empty() {
                writeln!(yaml, "    services: {}", list(&link.services))?;
            }
        }
        let none = self.exports.is_empty() && self.exports_of_both.is_empty();
        writeln!(yaml, "exports:{}", if none { " []" } else { "" })?;
        for (service, port, endpoints) in &self.exports {
            writeln!(yaml, "  - service: {service}\n    ports: [{{name: http, port: {port}, protocol: TCP}}]")?;
            writeln!(yaml, "    endpoints: {}", list(endpoints))?;
            policy(yaml, self.export_policy)?;
            self.export_more.iter().try_for_each(|more| writeln!(yaml, "    {more}"))?;
        }
        for (service, port, endpoints) in &self.exports_of_both {
            writeln!(yaml, "  - service: {service}\n    ports: [{{port: {port}}}, {{port: {port}, protocol: UDP}}]")?;
            writeln!(yaml, "    endpoints: {}", list(endpoints))?;
            policy(yaml, self.export_policy)?;
        }
        writeln!(yaml, "imports:{}", if self.imports.is_empty() { " []" } else { "" })?;
        for Import { service, port, listen, protocol, server_names } in &self.imports {
            writeln!(
                yaml,
                "  - service: {service}\n    port: {port}\n    listen: \"{listen}\"\n    protocol: {protocol}"
            )?;
            if !server_names.is_empty() {
                writeln!(yaml, "    serverNames: {}", list(server_names))?;
            }
            if let Some(affinity) = self.affinity {
                writeln!(yaml, "    affinity: {affinity}")?;
            }
            if self.sticky {
                writeln!(yaml, "    sessionAffinity: clientIP")?;
            }
            policy(yaml, self.import_policy)?;
            self.import_more.iter().try_for_each(|more| writeln!(yaml, "    {more}"))?;
        }
        yaml.write_str(more)
    }
}

fn policy(yaml: &mut String, policy: Option<&str>) -> fmt::Result {
    policy.map_or(Ok(()), |policy| writeln!(yaml, "    policy: {policy}"))
}

fn list(addresses: &[impl fmt::Display]) -> String {
    let quoted: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!("[{}]", quoted.join(", "))
}
