//! ● Gateways that could not serve a service a moment ago: others of their cluster are asked before them.

use isthmus_control_api::{GatewayId, ServicePort};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// For how long others are asked first.
const FOR: Duration = Duration::from_secs(10);
/// Services and gateways that are remembered, at most. Further ones are not: they are asked as if nothing were known.
const MOST: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shunned(HashMap<(ServicePort, GatewayId), Instant>);

impl Shunned {
    /// A gateway has refused a stream for `service` that another one may take, or has not answered in time.
    pub(super) fn note(&mut self, service: &ServicePort, gateway: GatewayId, now: Instant) {
        if self.0.len() >= MOST {
            self.0.retain(|_, since| now.saturating_duration_since(*since) < FOR);
        }
        if gateway.is_known() && self.0.len() < MOST {
            self.0.insert((service.clone(), gateway), now);
        }
    }

    /// It has taken one.
    pub(super) fn clear(&mut self, service: &ServicePort, gateway: GatewayId) {
        if !self.0.is_empty() {
            self.0.remove(&(service.clone(), gateway));
        }
    }

    /// Whether others are to be asked before it.
    pub(super) fn has(&self, service: &ServicePort, gateway: GatewayId, now: Instant) -> bool {
        !self.0.is_empty()
            && self.0.get(&(service.clone(), gateway)).is_some_and(|since| now.saturating_duration_since(*since) < FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ServicePort {
        ServicePort::tcp(name.parse().unwrap(), 80)
    }

    #[test]
    fn others_are_asked_first_for_a_while_and_for_that_service_only() {
        let (mut shunned, now, api) = (Shunned::default(), Instant::now(), service("shop/api"));
        shunned.note(&api, GatewayId(1), now);
        assert!(shunned.has(&api, GatewayId(1), now + Duration::from_secs(9)));
        assert!(!shunned.has(&api, GatewayId(2), now) && !shunned.has(&service("shop/db"), GatewayId(1), now));
        assert!(!shunned.has(&api, GatewayId(1), now + FOR));
        shunned.note(&api, GatewayId(1), now);
        shunned.clear(&api, GatewayId(1));
        assert!(!shunned.has(&api, GatewayId(1), now));
    }

    #[test]
    fn no_more_is_remembered_than_may_be_and_what_is_over_makes_room() {
        let (mut shunned, now, api) = (Shunned::default(), Instant::now(), service("shop/api"));
        (1..=2 * MOST as u64).for_each(|gateway| shunned.note(&api, GatewayId(gateway), now));
        assert_eq!(shunned.0.len(), MOST);
        shunned.note(&api, GatewayId(u64::MAX), now + FOR);
        assert!(shunned.has(&api, GatewayId(u64::MAX), now + FOR));
        assert_eq!(shunned.0.len(), 1);
        shunned.note(&api, GatewayId::UNKNOWN, now);
        assert!(!shunned.has(&api, GatewayId::UNKNOWN, now));
    }
}
