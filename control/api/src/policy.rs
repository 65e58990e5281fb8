//! How the streams of one service port are served: what a `policy` of an export or an import says.
//!
//! An export's rules what gateways do at the endpoints, an import's what they do at the client's side.

pub mod balance;
pub mod health;
pub mod limits;
pub mod source;

use crate::Cidr;
use balance::{Algorithm, Failover, Near, Outliers};
use health::HealthCheck;
use limits::{Retries, ServiceLimits, Timeouts};
use serde::{Deserialize, Serialize};
use source::TransparentSource;
use std::{sync::Arc, time::Duration};

/// What there is to say about it. What is left out is as in [`Default`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServicePolicy {
    /// How endpoints are chosen.
    pub balance: Algorithm,
    /// Which endpoints are preferred for where they are.
    pub near: Near,
    /// How long a new endpoint takes to get its whole share; `None`: it has it at once.
    pub slow_start: Option<Duration>,
    /// Which endpoints are left out for what their streams show.
    pub outliers: Outliers,
    /// When streams go to other clusters than the preferred one.
    pub failover: Failover,
    /// Whether local connections may pass by most of TCP in the kernel: an export's with its endpoints, an import's with its clients.
    /// Streams of TCP only.
    pub local_hop: bool,
    /// Whether endpoints are told of the client, in front of its bytes. Streams of TCP only.
    pub proxy_protocol: ProxyProtocol,
    /// Proxies that tell of their client, in front of its bytes: who connects from one of these networks has to. At most 64.
    pub accept_proxy_protocol: Vec<Cidr>,
    /// Whose own addresses endpoints see as those that connect, by cluster; others come from the gateway's. Streams of TCP only. At most 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transparent_source: Vec<TransparentSource>,
    /// How endpoints are checked, if they are: ports of TCP only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// How long streams may take. Flows of UDP have `idle` and `max_age` of it.
    pub timeouts: Timeouts,
    /// How many may be tried again.
    pub retries: Retries,
    /// How many there may be.
    pub limits: ServiceLimits,
}

/// How endpoints are told of the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProxyProtocol {
    /// Not at all.
    #[default]
    Off,
    /// By a header of version 2 of HAProxy's PROXY protocol.
    V2,
}

/// Whether nothing is said: then it is left out where it is written.
pub(crate) fn is_default(policy: &Arc<ServicePolicy>) -> bool {
    **policy == ServicePolicy::default()
}
