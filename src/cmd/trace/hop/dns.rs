//! The name by which clients find the service.

use super::Hop;
use isthmus_control_api::ServiceName;
use std::time::{Duration, Instant};
use tokio::{net::lookup_host, time::timeout};

/// For a lookup.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks it up, as a program here does. Only a name that was given has to be there: not every cluster serves names.
pub(super) async fn hop(service: &ServiceName, name: Option<&str>) -> Hop {
    let usual = format!("{}.{}.svc.clusterset.local", service.name(), service.namespace());
    let asked = name.unwrap_or(&usual);
    let began = Instant::now();
    let error = match timeout(PATIENCE, lookup_host((asked, 0))).await {
        Ok(Ok(found)) => {
            let mut addresses: Vec<_> = found.map(|address| address.ip().to_string()).collect();
            addresses.dedup();
            let took = began.elapsed().as_secs_f64() * 1e3;
            return Hop::ok("dns", asked, Some(took), addresses.join(", "));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
    };
    match name {
        Some(name) => Hop::failed("dns", name, error),
        None => {
            Hop::skipped("dns", asked, "no such name here: clients take the listener's address, or another resolver")
        }
    }
}
