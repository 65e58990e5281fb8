//! A gRPC server that says whether it is serving: that of tonic.

use crate::{endpoint::Endpoint, netns::Netns};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use std::{io, net::SocketAddr};
use tokio::runtime::Handle;
use tonic_health::{ServingStatus, server::HealthReporter};

/// A running one, which is serving at first.
#[derive(Debug)]
pub struct GrpcHealth {
    reporter: HealthReporter,
    tasks: Handle,
    _endpoint: Endpoint,
}

impl GrpcHealth {
    /// Serves in `netns`.
    ///
    /// # Panics
    /// If the address cannot be had.
    pub fn serve(netns: &Netns, tasks: &Handle, address: SocketAddr) -> Self {
        let (reporter, server) = tonic_health::server::health_reporter();
        let endpoint = Endpoint::serve(netns, tasks, address, move |stream| {
            let service = TowerToHyperService::new(server.clone());
            async move {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                builder.serve_connection(TokioIo::new(stream), service).await.map_err(io::Error::other)
            }
        });
        Self { reporter, tasks: tasks.clone(), _endpoint: endpoint }
    }

    /// Says from now on whether `service` is serving.
    pub fn set(&self, service: &str, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.tasks.block_on(self.reporter.set_service_status(service, status));
    }
}
