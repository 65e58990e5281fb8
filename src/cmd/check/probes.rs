//! Has a gateway open streams, and connects to its listeners.

use super::services::Probed;
use crate::cmd::admin::{self, here};
use isthmus_control_api::Listen;
use isthmus_gateway::status::{
    ServiceKind, ServiceStatus, Status,
    probe::{LinksProbe, ServiceProbe},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};

/// Services that are tried without being named.
const SERVICES: usize = 32;
/// For a listener to take a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// What became of a stream on every tunnel; or why there is nothing.
pub(super) async fn links(admin: &str) -> Result<LinksProbe, String> {
    let json = admin::probe(admin, "/probe/links").await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}

/// What became of streams and connections; of one service only, if it is named.
pub(super) async fn services(admin: &str, status: &Status, only: Option<&str>) -> Probed {
    let wanted = |service: &&ServiceStatus| only.is_none_or(|only| only == service.service);
    let all: Vec<_> = status.services.iter().filter(wanted).filter(|service| service.protocol.is_tcp()).collect();
    let names: BTreeSet<_> = all.iter().map(|service| &service.service).collect();
    let mut services = BTreeMap::new();
    for name in names.into_iter().take(SERVICES) {
        services.insert(name.clone(), service(admin, name).await);
    }
    let mut listeners = BTreeMap::new();
    let imports = all.iter().filter(|service| service.kind == ServiceKind::Import);
    let imports = imports.filter(|service| services.contains_key(&service.service));
    for listen in imports.filter_map(|service| service.listen.as_ref()) {
        listeners.insert(listen.clone(), connect(listen).await);
    }
    Probed { services, listeners }
}

async fn service(admin: &str, name: &str) -> Result<ServiceProbe, String> {
    let json = admin::probe(admin, &format!("/probe/service/{name}")).await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}

/// Connects as a client does, and goes.
async fn connect(listen: &str) -> Result<(), String> {
    let listen: Listen = listen.parse().map_err(|_| format!("{listen} is no address"))?;
    match timeout(CONNECT, TcpStream::connect(here(listen.address))).await {
        Ok(connected) => connected.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", CONNECT.as_secs())),
    }
}
