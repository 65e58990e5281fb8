//! The DNS server, if the configuration has one.

use crate::cmd::Failure;
use isthmus_control::Config;
use isthmus_control_dns::{Server, Zone};
use std::sync::Arc;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Serves names by what it is told through the sender that it gives, until `stop`. Nobody looks at it where there is no such server.
///
/// # Errors
/// The domain is none, or the address cannot be had.
pub(super) fn serve(
    config: &Config,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<watch::Sender<Arc<Zone>>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("{}: {error}", config.path.display()));
    let domain = config.dns.as_ref().map_or("clusterset.local", |dns| dns.domain.as_str());
    let zone = Zone::unknown(domain).map_err(|error| failed(&error))?;
    let Some(dns) = &config.dns else { return Ok(watch::Sender::new(Arc::new(zone))) };
    // The bound of a duration in the configuration is an hour.
    let ttl = u32::try_from(dns.ttl.as_secs()).unwrap_or(u32::MAX);
    let (tell, zones) = watch::channel(Arc::new(zone.with_ttl(ttl)));
    let server = Server::bind(&[dns.listen]).map_err(|error| failed(&error))?;
    tracing::info!(listen = %dns.listen, %domain, "answering DNS queries");
    tasks.spawn(server.run(zones, stop.clone()));
    Ok(tell)
}
