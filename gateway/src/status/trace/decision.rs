//! ● Which rule of an access policy would decide on a stream of somebody's, and what a service takes of its limits.

use crate::{
    policy::{Caller, Policies},
    source::KnownSources,
    status::ExtraStatus,
};
use isthmus_certs::TrustDomain;
use isthmus_control_api::{ClusterName, InvalidName, ServiceAccount, ServiceName, ServicePort};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, str::FromStr};

/// On whose behalf a stream would be opened: `cluster`, `cluster/namespace/account`, each with `@address` behind it if that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whom {
    /// Where it would come from.
    pub cluster: ClusterName,
    /// As whom it would act.
    pub account: Option<ServiceAccount>,
    /// From where, as its own gateway sees it.
    pub address: Option<IpAddr>,
}

/// What would be decided on a stream to one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortDecision {
    /// `namespace/name:port`.
    pub name: String,
    /// Whether it would be opened.
    pub allowed: bool,
    /// Which rule says so, `policy:rule`; `None`: no policy selects the port.
    pub by: Option<String>,
    /// Which rule would say otherwise, if its policy were no dry run.
    pub otherwise: Option<String>,
}

/// What a port's streams take now of what its policy may bound, in this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// `namespace/name:port`.
    pub name: String,
    /// `egress`, by the import's policy, or `ingress`, by the export's.
    pub side: String,
    /// Streams at once.
    pub streams: u32,
    /// Of them, those that no upstream has taken yet.
    pub pending: u32,
    /// Of those, how many times they are being tried again.
    pub retrying: u32,
}

const EXPECTED: &str = "CLUSTER[/NAMESPACE/ACCOUNT][@ADDRESS]";

impl FromStr for Whom {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName { found: s.chars().take(200).collect(), expected: EXPECTED };
        let (who, address) = match s.split_once('@') {
            Some((who, address)) => (who, Some(address.parse().map_err(|_| invalid())?)),
            None => (s, None),
        };
        let (cluster, account) = match who.split_once('/') {
            Some((cluster, account)) => (cluster, Some(account.parse().map_err(|_| invalid())?)),
            None => (who, None),
        };
        Ok(Self { cluster: cluster.parse().map_err(|_| invalid())?, account, address })
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cluster)?;
        self.account.as_ref().map_or(Ok(()), |account| write!(f, "/{}", account.as_str()))?;
        self.address.map_or(Ok(()), |address| write!(f, "@{address}"))
    }
}

/// What the policies of this cluster say of streams of `whom` to each port of `service` that is exported here. A local client of whom
/// nothing but the address is said is who `sources` says it is.
pub(super) fn decide(service: &ServiceName, whom: &Whom, extra: &ExtraStatus) -> Vec<PortDecision> {
    let domain = |cluster: &str| format!("{cluster}.{}", extra.clusterset).parse::<TrustDomain>().ok();
    let Some(domain) = domain(whom.cluster.as_str()) else { return Vec::new() };
    let is_here = whom.cluster.as_str() == extra.cluster;
    let known = whom
        .address
        .filter(|_| is_here && whom.account.is_none())
        .and_then(|address| KnownSources::new(&domain, &extra.table.sources).of(address).map(|known| known.id.clone()));
    let id = whom.account.as_ref().map(|account| domain.account(account)).or(known);
    let caller = match &id {
        Some(id) => Caller::new(&whom.cluster, id, whom.address),
        None => Caller { cluster: &whom.cluster, account: None, address: whom.address.map(|ip| ip.to_canonical()) },
    };
    let policies = Policies::new(&extra.table.policies);
    let ports = extra.table.exports.keys().filter(|port| port.service == *service);
    let decision = |port: &ServicePort| {
        let decision = policies.decide(&caller, port);
        PortDecision {
            name: port.to_string(),
            allowed: decision.allowed,
            by: decision.by.map(ToString::to_string),
            otherwise: decision.otherwise.map(ToString::to_string),
        }
    };
    ports.map(decision).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_control_api::{
        AccessPolicy, Export, Table, Workload,
        access::{Action, Rule, SourceMatch},
    };
    use std::sync::Arc;

    #[test]
    fn whom_is_read_as_it_is_written() {
        for good in ["west", "west/shop/web", "west@10.0.0.9", "west/shop/web.v1@2001:db8::1"] {
            assert_eq!(good.parse::<Whom>().unwrap().to_string(), good);
        }
        for bad in ["", "west/", "west/shop", "west/shop/web/x", "west@", "west@host", "/shop/web", "West"] {
            assert_eq!(bad.parse::<Whom>().unwrap_err().expected, EXPECTED, "{bad:?}");
        }
    }

    #[test]
    fn the_rule_that_decides_is_named_for_each_port() {
        let web = SourceMatch { service_accounts: ["shop/web".parse().unwrap()].into(), ..SourceMatch::default() };
        let rule = Rule { name: "web".parse().unwrap(), action: Action::Allow, from: vec![web] };
        let policy = |dry_run| {
            let services = ["shop/api".parse().unwrap()].into();
            Arc::new(AccessPolicy { services, dry_run, rules: vec![rule.clone()], ..AccessPolicy::default() })
        };
        let workload = Workload { account: "shop/web".parse().unwrap(), pod: None };
        let port = ServicePort::tcp("shop/api".parse().unwrap(), 80);
        let table = |dry_run| Table {
            exports: [(port.clone(), Arc::new(Export::default()))].into(),
            policies: [("callers".parse().unwrap(), policy(dry_run))].into(),
            sources: [("10.0.0.9/32".parse().unwrap(), Arc::new(workload.clone()))].into(),
            ..Table::default()
        };
        let ask = |dry_run, whom: &str, service: &str| {
            let table = Arc::new(table(dry_run));
            let (cluster, clusterset) = ("east".into(), "demo".into());
            let extra = ExtraStatus { cluster, clusterset, table, ..ExtraStatus::default() };
            decide(&service.parse().unwrap(), &whom.parse().unwrap(), &extra)
        };
        let decided = |allowed, by: Option<&str>, otherwise: Option<&str>| {
            let [by, otherwise] = [by, otherwise].map(|name| name.map(str::to_owned));
            vec![PortDecision { name: port.to_string(), allowed, by, otherwise }]
        };
        let allowed = decided(true, Some("callers:web"), None);
        let denied = decided(false, Some("callers:default"), None);
        assert_eq!(ask(false, "west/shop/web", "shop/api"), allowed);
        assert_eq!(ask(false, "west/shop/job", "shop/api"), denied);
        assert_eq!(ask(false, "west", "shop/api"), denied);
        assert_eq!(ask(false, "east@10.0.0.9", "shop/api"), allowed, "its sources know the address");
        assert_eq!(ask(false, "west@10.0.0.9", "shop/api"), denied, "another cluster's address may be the same");
        assert_eq!(ask(true, "west", "shop/api"), decided(true, None, Some("callers:default")));
        assert_eq!(ask(false, "west", "shop/db"), []);
    }
}
