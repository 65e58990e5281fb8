//! What a core would do with the next streams of a service, and why.

use super::Core;
use crate::{
    balance::{Balancer, Standing, Tried, client::Draw, locality},
    metrics::streams::Side,
    status::trace::{CoreCluster, CoreEndpoint, CoreTrace, Taken},
};
use isthmus_control_api::{ClusterName, Import, Listen, ServiceName, ServicePort};
use std::{collections::HashMap, time::Instant};

/// Streams that are chosen for in thought: all are over at once.
const STREAMS: u32 = 200;

impl Core {
    /// What it would do with streams of `service`. The state of its balancers does not change by it.
    pub(super) fn trace(&self, service: &ServiceName, now: Instant) -> CoreTrace {
        let table = self.table.borrow();
        let imports = table.imports.iter().filter(|(_, import)| import.service.service == *service);
        let balancers = self.balancers.borrow();
        let exports = balancers.iter().filter(|(port, _)| port.service == *service);
        CoreTrace {
            clusters: imports.flat_map(|(listen, import)| self.clusters(listen, import, now)).collect(),
            endpoints: exports.flat_map(|(port, balancer)| self.endpoints(port, balancer, now)).collect(),
            taken: self.taken(service),
        }
    }

    fn taken(&self, service: &ServiceName) -> Vec<Taken> {
        let (gates, mut taken) = (self.gates.borrow(), Vec::new());
        for side in [Side::Egress, Side::Ingress] {
            let of_service = gates[side as usize].iter().filter(|(port, _)| port.service == *service);
            taken.extend(of_service.map(|(port, gate)| {
                let [streams, pending, retrying] = gate.taken();
                Taken { name: port.to_string(), side: side.as_str().to_owned(), streams, pending, retrying }
            }));
        }
        taken
    }

    fn clusters(&self, listen: &Listen, import: &Import, now: Instant) -> Vec<(Listen, CoreCluster)> {
        let standing = self.balancers.borrow().get(&import.service).map(|balancer| balancer.clone().standing(now));
        let candidates = locality::Candidates {
            affinity: import.affinity,
            local: u32::try_from(standing.unwrap_or_default().total).unwrap_or(u32::MAX),
            clusters: &import.clusters,
            weights: import.weights.as_ref(),
        };
        let link = |name: &ClusterName| self.peers.is_live(name).then(|| self.peers.round_trip(name));
        let mut sides = self.sides.borrow().get(&import.service).cloned().unwrap_or_default();
        let mut shares = self.shares.borrow().get(listen).cloned().unwrap_or_default();
        let (known, local_part) = (sides.snapshot(now), shares.local_part());
        // In thought, no stream finds out anything.
        let standing_now = Standing { is_due: false, ..standing.unwrap_or_default() };
        let mut chosen: HashMap<Option<ClusterName>, u32> = HashMap::new();
        for _ in 0..STREAMS {
            let how = (&locality::Tried::default(), Draw::Random(self.random()));
            match sides.choose((&mut shares, &import.policy), (&candidates, standing_now), &link, how, now) {
                Some(locality::Choice::Local) => *chosen.entry(None).or_default() += 1,
                Some(locality::Choice::Cluster(name)) => *chosen.entry(Some(name.clone())).or_default() += 1,
                None => {}
            }
        }
        let here = standing.map(|standing| CoreCluster {
            cluster: None,
            healthy: Some(standing.healthy),
            link: None,
            part: local_part,
            health: None,
            chosen: chosen.get(&None).copied().unwrap_or(0),
        });
        let there = import.clusters.keys().map(|name| {
            let known = known.iter().find(|of| of.cluster == *name);
            CoreCluster {
                cluster: Some(name.clone()),
                healthy: None,
                link: link(name),
                part: known.map_or(1.0, |of| of.part),
                health: known.map(|of| of.health),
                chosen: chosen.get(&Some(name.clone())).copied().unwrap_or(0),
            }
        });
        here.into_iter().chain(there).map(|of| (listen.clone(), of)).collect()
    }

    fn endpoints(&self, port: &ServicePort, balancer: &Balancer, now: Instant) -> Vec<(ServicePort, CoreEndpoint)> {
        let (mut thought, mut chosen) = (balancer.clone(), HashMap::new());
        for _ in 0..STREAMS {
            if let Some(pick) = thought.pick(now, Draw::Random(self.random()), &Tried::default()) {
                *chosen.entry(pick.address).or_insert(0) += 1;
                thought.released(pick, now);
            }
        }
        let endpoint = |status: crate::balance::EndpointStatus| {
            let chosen = chosen.get(&status.address).copied().unwrap_or(0);
            (port.clone(), CoreEndpoint { status, chosen })
        };
        balancer.snapshot(now).into_iter().map(endpoint).collect()
    }
}
