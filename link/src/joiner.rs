//! The joiner's side of the conversation: finds the gateway that the token tells of, and asks it for a link.

use crate::{
    ALPN, Refusal, Refused, Token,
    proof::{self, Exporter, Role},
    wire::{self, Body, Hello, Offer},
};
use isthmus_certs::{Fingerprint, IdentityStore, RefusedHandshake, TrustAnchors, TrustDomain, introduce, tls};
use isthmus_control_api::PeerAddress;
use rustls_pki_types::CertificateDer;
use std::{
    fmt, io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// For an address to be connected to, and for its handshake.
const DIAL: Duration = Duration::from_secs(5);
/// For each answer: the inviter may take a while to put the link into use.
const ANSWER: Duration = Duration::from_secs(20);

/// Who joins.
#[derive(Debug)]
pub struct Me {
    /// This gateway's identity.
    pub identity: IdentityStore,
    /// This cluster's CA certificates.
    pub bundle: TrustAnchors,
    /// Where this cluster can be dialled; none: it dials.
    pub endpoints: Vec<PeerAddress>,
}

/// What the inviter gave in return.
#[derive(Debug)]
pub struct Offered {
    /// Its CA certificates.
    pub bundle: TrustAnchors,
    /// Where it answered.
    pub by: PeerAddress,
}

/// Why an address did not lead to the gateway.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// Nobody answers there, or its name is not known.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// Somebody takes the connection, and closes it in the handshake.
    #[error(
        "the connection was closed in its handshake ({0}): too many may be trying to join there: try again in some seconds"
    )]
    Closed(io::Error),
    /// It takes too long.
    #[error("no answer within {limit} s", limit = DIAL.as_secs())]
    Timeout,
    /// Somebody else answers.
    #[error("something else answers there ({0})")]
    Stranger(RefusedHandshake),
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No address leads to the inviter.
    #[error("{}", unreachable(.0))]
    Unreachable(Vec<(PeerAddress, Unreached)>),
    /// The inviter refused.
    #[error("{by} refused: {refused}")]
    Refused {
        /// Which address.
        by: PeerAddress,
        /// Why.
        refused: Refused,
        /// Its clock, if it told.
        clock: Option<SystemTime>,
    },
    /// Whoever answered does not know the secret.
    #[error(
        "{0} did not prove that it made this invitation: it was shown this gateway's SVID, and so its name, and was asked for nothing; \
         somebody may be in between"
    )]
    Unproven(PeerAddress),
    /// This side does not want what the inviter is.
    #[error("{0}")]
    Unwanted(String),
    /// The connection broke before anything was asked for.
    #[error("the connection to {0} broke: {1}: the invitation is still good, try again")]
    Broke(PeerAddress, io::Error),
    /// The connection broke before the answer.
    #[error(
        "the connection to {0} broke before its answer came: {1}: the invitation may be used up; let that side make \
         another one, which links even if this one did on that side"
    )]
    Unanswered(PeerAddress, io::Error),
}

/// Joins the cluster that made `token`. `consent` is asked before anything is sent that could make the link.
///
/// # Errors
/// See [`JoinError`]. Nothing is written here in any case.
pub async fn join(
    token: &Token,
    me: &Me,
    consent: impl Fn(&TrustAnchors) -> Result<(), String>,
) -> Result<Offered, JoinError> {
    let mut unreached = Vec::new();
    for endpoint in &token.endpoints {
        match dial(&me.identity, &token.inviter, token.ca, endpoint).await {
            Ok(stream) => return converse(token, me, stream, endpoint, &consent).await,
            Err(why) => unreached.push((endpoint.clone(), why)),
        }
    }
    Err(JoinError::Unreachable(unreached))
}

/// Whether the gateway of `domain` with that CA takes invitations at `endpoint`.
///
/// # Errors
/// It does not, or not there.
pub async fn probe(
    identity: &IdentityStore,
    domain: &TrustDomain,
    ca: Fingerprint,
    endpoint: &PeerAddress,
) -> Result<(), Unreached> {
    let mut stream = dial(identity, domain, ca, endpoint).await?;
    // It has shown who it is: how it takes the goodbye does not matter.
    drop(timeout(DIAL, stream.shutdown()).await);
    Ok(())
}

async fn dial(
    identity: &IdentityStore,
    domain: &TrustDomain,
    ca: Fingerprint,
    endpoint: &PeerAddress,
) -> Result<TlsStream<TcpStream>, Unreached> {
    let refused = |e: &rustls::Error| Unreached::Stranger(RefusedHandshake::from(e));
    let config = introduce::client_config(identity, domain, ca, ALPN).map_err(|e| refused(&e))?;
    let name = tls::server_name(identity, &domain.cluster).map_err(|e| refused(&e))?;
    let handshake = async {
        let socket = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(Unreached::Connect)?;
        TlsConnector::from(config).connect(name, socket).await.map_err(|error| {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            tls.map(refused).unwrap_or(Unreached::Closed(error))
        })
    };
    timeout(DIAL, handshake).await.unwrap_or(Err(Unreached::Timeout))
}

async fn converse(
    token: &Token,
    me: &Me,
    mut stream: TlsStream<TcpStream>,
    by: &PeerAddress,
    consent: &impl Fn(&TrustAnchors) -> Result<(), String>,
) -> Result<Offered, JoinError> {
    let broke = |error| JoinError::Broke(by.clone(), error);
    let exporter = exporter(&stream).map_err(broke)?;
    let bundle = welcomed(token, &mut stream, &exporter, by).await?;
    consent(&bundle).map_err(JoinError::Unwanted)?;
    let unanswered = |error| JoinError::Unanswered(by.clone(), error);
    let identity = me.identity.current();
    let offer = Offer {
        cluster: identity.domain().cluster.to_string(),
        clusterset: identity.domain().clusterset.to_string(),
        bundle: me.bundle.certificates().map(|certificate| certificate.to_vec()).collect(),
        endpoints: me.endpoints.iter().map(ToString::to_string).collect(),
    };
    within(wire::send(&mut stream, Body::Offer(offer))).await.map_err(unanswered)?;
    let answer = within(wire::receive(&mut stream, wire::LONG)).await.map_err(unanswered)?;
    drop(timeout(DIAL, stream.shutdown()).await);
    match answer {
        Some(Body::Accepted(_)) => Ok(Offered { bundle, by: by.clone() }),
        Some(Body::Refused(refused)) => Err(refusal(by, &refused)),
        Some(_) => Err(unanswered(io::ErrorKind::InvalidData.into())),
        None => Err(unanswered(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// Proves that we hold the token, and hears the same of the inviter: its CA certificates.
async fn welcomed(
    token: &Token,
    stream: &mut TlsStream<TcpStream>,
    exporter: &Exporter,
    by: &PeerAddress,
) -> Result<TrustAnchors, JoinError> {
    let broke = |error| JoinError::Broke(by.clone(), error);
    let proof = proof::prove(&token.secret, Role::Joiner, exporter).to_vec();
    let hello = Hello { version: wire::VERSION, invite: token.id.0.to_vec(), proof };
    within(wire::send(stream, Body::Hello(hello))).await.map_err(broke)?;
    let welcome = match within(wire::receive(stream, wire::LONG)).await.map_err(broke)? {
        Some(Body::Welcome(welcome)) => welcome,
        Some(Body::Refused(refused)) => return Err(refusal(by, &refused)),
        Some(_) => return Err(broke(io::ErrorKind::InvalidData.into())),
        None => return Err(broke(io::ErrorKind::UnexpectedEof.into())),
    };
    if !proof::verify(&token.secret, Role::Inviter, exporter, &welcome.proof) {
        return Err(JoinError::Unproven(by.clone()));
    }
    let certificates: Vec<_> = welcome.bundle.into_iter().map(CertificateDer::from).collect();
    let bundle = TrustAnchors::new(token.inviter.clone(), certificates);
    let bundle = bundle.map_err(|e| broke(io::Error::new(io::ErrorKind::InvalidData, e)))?;
    if bundle.certificates().any(|certificate| Fingerprint::of(certificate) == token.ca) {
        Ok(bundle)
    } else {
        Err(broke(io::Error::new(io::ErrorKind::InvalidData, "its CA certificates lack the one of the invitation")))
    }
}

fn refusal(by: &PeerAddress, told: &wire::Refused) -> JoinError {
    let clock = UNIX_EPOCH.checked_add(Duration::from_secs(told.now)).filter(|_| told.now != 0);
    let refused = Refused::new(Refusal::numbered(told.reason), &told.detail);
    JoinError::Refused { by: by.clone(), refused, clock }
}

fn exporter(stream: &TlsStream<TcpStream>) -> io::Result<Exporter> {
    stream.get_ref().1.export_keying_material([0; 32], proof::LABEL, None).map_err(io::Error::other)
}

async fn within<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(ANSWER, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn unreachable(attempts: &[(PeerAddress, Unreached)]) -> impl fmt::Display {
    let lines: Vec<String> = attempts.iter().map(|(endpoint, why)| format!("\n  {endpoint}: {why}")).collect();
    format!("no address of the invitation leads to the gateway that made it:{}", lines.concat())
}
