//! How endpoints are checked.

use serde::{Deserialize, Serialize};
use std::{ops::RangeInclusive, time::Duration};

/// How gateways find out whether an endpoint is well, whatever streams it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// From the beginning of one probe to that of the next, give or take a tenth.
    pub interval: Duration,
    /// How long one may take, all of it.
    pub timeout: Duration,
    /// So many good answers in a row bring an endpoint back; at least 1.
    pub healthy: u32,
    /// So many failures in a row put it out; at least 1.
    pub unhealthy: u32,
}

/// What an endpoint is asked, and what it has to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum Probe {
    /// It takes a connection.
    Tcp,
    /// It shakes hands, with any certificate; with one for `host`, if that is given.
    Tls {
        /// The name that it is asked for.
        host: Option<String>,
    },
    /// It answers a GET over HTTP/1.1.
    Http {
        /// Of what: begins with a slash.
        path: String,
        /// The Host header, if it is not to be the endpoint's address.
        host: Option<String>,
        /// Statuses that are good.
        expect: RangeInclusive<u16>,
    },
    /// It says SERVING, by gRPC's health checking protocol.
    Grpc {
        /// Of which gRPC service; empty: of the server.
        service: String,
        /// The authority, if it is not to be the endpoint's address.
        host: Option<String>,
    },
}
