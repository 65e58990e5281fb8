//! The collector's OTLP receiver, by gRPC over HTTP/2.

use super::Export;
use crate::traces::{
    Traces,
    otlp::{EXPORT, ExportRequest, ExportResponse},
};
use http::uri::PathAndQuery;
use std::{error::Error, io, time::Duration};
use tokio::time;
use tonic::{
    Request, Status,
    client::Grpc,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_prost::ProstCodec;

/// How long an attempt may take, connecting and all.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How long connecting may.
const CONNECT: Duration = Duration::from_secs(5);
/// A longer answer than it ever has.
const ANSWER: usize = 64 * 1024;

/// Where it is, and a connection if there is one.
#[derive(Debug)]
pub(in crate::traces) struct Collector {
    endpoint: Endpoint,
    client: Option<Grpc<Channel>>,
}

impl Collector {
    /// Connects when there is something to be sent.
    ///
    /// # Errors
    /// The address or the file with the CA is wrong.
    pub(in crate::traces) fn new(traces: &Traces) -> io::Result<Self> {
        let endpoint = Endpoint::from_shared(traces.endpoint.clone()).map_err(io::Error::other)?;
        let mut endpoint = endpoint.connect_timeout(CONNECT).user_agent(AGENT).map_err(io::Error::other)?;
        if traces.endpoint.starts_with("https:") {
            endpoint = endpoint.tls_config(tls(traces)?).map_err(|error| {
                let whose = traces.ca_file.as_ref().map_or_else(
                    || "no traces.caFile, and the system's certificate authorities cannot be had".into(),
                    |file| format!("caFile {:?}", file.display().to_string()),
                );
                io::Error::other(format!("{whose}: {}", causes(&error)))
            })?;
        }
        Ok(Self { endpoint, client: None })
    }
}

const AGENT: &str = concat!("isthmus/", env!("CARGO_PKG_VERSION"));

fn tls(traces: &Traces) -> io::Result<ClientTlsConfig> {
    let config = ClientTlsConfig::new();
    let Some(file) = &traces.ca_file else { return Ok(config.with_native_roots()) };
    let unreadable = |error| io::Error::other(format!("caFile {:?}: {error}", file.display().to_string()));
    let pem = std::fs::read(file).map_err(unreadable)?;
    if !pem.windows(BEGIN.len()).any(|at| at == BEGIN) {
        return Err(unreadable(io::Error::other("no certificate in it, expected PEM")));
    }
    Ok(config.ca_certificate(Certificate::from_pem(pem)))
}

/// How a certificate begins.
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

impl Export for Collector {
    async fn export(&mut self, request: ExportRequest) -> Result<u64, Status> {
        let connect = || Grpc::new(self.endpoint.connect_lazy()).max_decoding_message_size(ANSWER);
        let client = self.client.get_or_insert_with(connect);
        let answer = time::timeout(ATTEMPT, ask(client, request)).await.unwrap_or_else(|_| {
            // The next attempt has a connection of its own: this one may be dead, and nobody has told.
            self.client = None;
            Err(Status::deadline_exceeded(format!("no answer within {} s", ATTEMPT.as_secs())))
        })?;
        let Some(refused) = answer.partial_success else { return Ok(0) };
        if refused.rejected_spans > 0 {
            let (spans, why) = (refused.rejected_spans, refused.error_message);
            tracing::debug!(spans, why, "the collector of traces does not want some spans");
        }
        Ok(u64::try_from(refused.rejected_spans).unwrap_or(0))
    }
}

async fn ask(client: &mut Grpc<Channel>, request: ExportRequest) -> Result<ExportResponse, Status> {
    client.ready().await.map_err(|error| Status::unavailable(causes(&error)))?;
    let codec = ProstCodec::<ExportRequest, ExportResponse>::default();
    let asked = client.unary(Request::new(request), PathAndQuery::from_static(EXPORT), codec).await;
    asked.map(tonic::Response::into_inner).map_err(|status| match status.source() {
        // It is the transport that has failed, whatever code tonic gives it, and not the collector that has answered.
        Some(error) => Status::unavailable(causes(error)),
        None => status,
    })
}

/// An error and what is behind it, in one line.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
