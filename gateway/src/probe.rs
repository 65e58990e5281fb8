//! Streams that are opened to see whether they get through, and the peer's side of it.
//!
//! ```text
//! admin ── CoreProbe ──▶ core ── OPEN isthmus-system/echo:6, 32 KiB ══▶ peer ── the same bytes ══▶ core ──▶ admin
//! ```

mod echo;

pub(crate) use echo::{Place, serve};

use crate::{
    core::Core,
    measure,
    peer::Target,
    reserved::Reserved,
    status::{
        merge::millis,
        probe::{Answer, CoreProbe, ServiceQuery, TunnelProbe, line},
    },
    tunnel::{OpenRequest, Refusal, RefusalReason, Tunnel},
};
use isthmus_control_api::{ClusterName, ServicePort};
use std::{
    future::poll_fn,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{self, timeout, timeout_at},
};

/// How long a tunnel's stream may take, and all tunnels' together.
const PATIENCE: Duration = Duration::from_secs(5);
/// See [`PATIENCE`].
const ALL: Duration = Duration::from_secs(10);
/// Tunnels that are probed at once.
const AT_ONCE: usize = 16;
/// How much longer than one endpoint may take to accept a connection the peer may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// Does what admin asks for.
pub(crate) fn start(core: &Rc<Core>, asked: CoreProbe) {
    let core_ = core.clone();
    // Whoever asked may have given up when the answer is there.
    core.tasks.spawn_local(async move {
        let core = core_;
        match asked {
            CoreProbe::Links(to) => drop(to.send(links(&core).await)),
            CoreProbe::Service(query, to) => drop(to.send(service(&core, &query).await)),
            CoreProbe::Measure(query, to) => measure::start(&core, query, to).await,
        }
    });
}

/// Probes every live tunnel of the core.
async fn links(core: &Rc<Core>) -> Vec<(ClusterName, TunnelProbe)> {
    let (deadline, room) = (time::Instant::now() + ALL, Arc::new(Semaphore::new(AT_ONCE)));
    let mut probes = JoinSet::new();
    for (cluster, tunnel) in core.peers.each() {
        let (core, room) = (core.clone(), room.clone());
        probes.spawn_local(async move {
            let probed = timeout_at(deadline, async {
                let _turn = room.acquire().await;
                probe(&core, &*tunnel).await
            });
            let probed = probed.await.unwrap_or_else(|_| {
                let error = format!("it was not its turn within {} s", ALL.as_secs());
                TunnelProbe { error: Some(error), ..about(&core, &*tunnel) }
            });
            (cluster, probed)
        });
    }
    let mut found = Vec::with_capacity(probes.len());
    while let Some(probed) = probes.join_next().await {
        // One that panicked has said so, and is missing here.
        found.extend(probed.ok());
    }
    found
}

fn about(core: &Core, tunnel: &dyn Tunnel) -> TunnelProbe {
    TunnelProbe {
        core: core.id,
        transport: tunnel.transport().as_str().to_owned(),
        gateway: tunnel.gateway().to_string(),
        answered_ms: None,
        echoed_ms: None,
        error: None,
    }
}

/// Opens a stream on a tunnel, and has the peer give back what it is sent.
async fn probe(core: &Core, tunnel: &dyn Tunnel) -> TunnelProbe {
    let mut found = about(core, tunnel);
    let echoed = timeout(PATIENCE, echoed(core, tunnel, &mut found)).await;
    found.error = match echoed {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(line(&error)),
        Err(_) => {
            let seconds = PATIENCE.as_secs();
            let what = if found.answered_ms.is_some() { "give back what it was sent" } else { "answer" };
            Some(format!("the peer did not {what} within {seconds} s"))
        }
    };
    found
}

async fn echoed(core: &Core, tunnel: &dyn Tunnel, found: &mut TunnelProbe) -> Result<(), String> {
    let request = request(core, Reserved::Echo.service(), None);
    let began = Instant::now();
    let mut stream = tunnel.open(&request).map_err(|refusal| refusal.to_string())?;
    let opened = poll_fn(|cx| stream.poll_opened(cx)).await;
    match opened {
        Ok(()) => found.answered_ms = Some(millis(began.elapsed())),
        Err(refusal) if matches!(refusal.reason, RefusalReason::TunnelLost | RefusalReason::Timeout) => {
            return Err(refusal.to_string());
        }
        // One that does not know what it is asked for answers all the same.
        Err(_) => {
            found.answered_ms = Some(millis(began.elapsed()));
            return Ok(());
        }
    }
    let began = Instant::now();
    echo::ask(&mut *stream).await?;
    found.echoed_ms = Some(millis(began.elapsed()));
    Ok(())
}

/// Opens a stream as for a client, and resets it.
async fn service(core: &Core, ServiceQuery { cluster, service, client }: &ServiceQuery) -> Answer {
    let target = Target::any(cluster);
    if !core.peers.has(&target) {
        return None;
    }
    let request = request(core, service.clone(), *client);
    let began = Instant::now();
    let (mut stream, _tunnel) = match core.peers.open(&target, &request) {
        Ok(opened) => opened,
        Err(refusal) => return Some(Err(refusal)),
    };
    let limit = core.common.config.connect_timeout.saturating_add(ANSWER);
    let opened = timeout(limit, poll_fn(|cx| stream.poll_opened(cx))).await;
    Some(match opened {
        Ok(Ok(())) => Ok(began.elapsed()),
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => {
            let message = format!("{cluster} did not answer within {} s", limit.as_secs());
            Err(Refusal { reason: RefusalReason::Timeout, message, retry: true })
        }
    })
}

fn request(core: &Core, service: ServicePort, client: Option<SocketAddr>) -> OpenRequest {
    OpenRequest { service, source: core.source(client), sticky: false, traceparent: None, elsewhere: false }
}

#[cfg(test)]
mod tests;
