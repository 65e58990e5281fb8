//! What many have today: the service has an external name and a load balancer of layer 4, and the client speaks TLS to
//! the origin through it. HAProxy in TCP mode is the load balancer, nginx ends TLS.
//!
//! The name costs nothing here: wrk looks it up once, so it is left out, in this path's favour.

use super::{Pair, Place, Setup, haproxy};
use crate::error::Result;
use crate::ground::local;

pub(super) fn start(place: &Place<'_>) -> Result<Pair> {
    let (port, bulk) = (place.port()?, place.port()?);
    let origin = place.site.origin;
    let routes = [
        ("web", place.listen(port), vec![local(origin.secure)]),
        ("bulk", place.listen(bulk), vec![local(origin.bulk.port())]),
    ];
    let balancer = haproxy::command(place, "ingress", &haproxy::config(place, &routes, "", ""))?;
    let far = |port| place.site.ground.far_socket(port);
    let pair = Pair::new(Setup::Legacy, far(port), far(bulk), vec![place.ingress(balancer)?]);
    Ok(Pair { url: format!("https://{}/", pair.web), ..pair })
}
