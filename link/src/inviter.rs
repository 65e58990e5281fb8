//! The inviter's side of the conversation: who comes, with which invitation, and whether it is good.

use crate::{
    ALPN, Invite, InviteId, Invites, Refusal, Refused, Secret,
    invites::Standing,
    proof::{self, Exporter, Role},
    wire::{self, Accepted, Body, Hello, Offer, Welcome},
};
use isthmus_certs::{IdentityStore, TrustAnchors, TrustDomain, introduce};
use isthmus_control_api::PeerAddress;
use rustls_pki_types::CertificateDer;
use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// From the first byte to the proof that the joiner was invited.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// From there to the offer, and again for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the other side to take the last message.
const GOODBYE: Duration = Duration::from_secs(1);

/// Who serves invitations.
pub trait Host {
    /// This gateway's identity.
    fn identity(&self) -> &IdentityStore;

    /// This cluster's CA certificates, as they are now.
    ///
    /// # Errors
    /// They cannot be read.
    fn bundle(&self) -> Result<TrustAnchors, Refused>;

    /// The invitations.
    fn invites(&self) -> &Invites;

    /// Whether a grant would be taken; the invitation is good, and not used up yet.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, grant: &Grant) -> Result<(), Refused>;

    /// Trusts the cluster and links with it. The invitation is used up.
    fn grant(&self, grant: &Grant) -> impl Future<Output = Result<(), Refused>>;
}

/// What a joiner asks for, all of it proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The invitation that it came with.
    pub invite: InviteId,
    /// The joiner's CA certificates.
    pub bundle: TrustAnchors,
    /// Where it can be dialled; none: it dials.
    pub endpoints: Vec<PeerAddress>,
    /// Whether the invitation allows to replace the CA of a cluster that is linked.
    pub replace: bool,
    /// What it showed of itself in the handshake, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// When that was.
    pub at: SystemTime,
}

impl Grant {
    /// Whether the joiner is a gateway of `known`, too, and not only of what it gave itself: CA certificates are public, and to name one
    /// proves nothing.
    pub fn proves(&self, known: &TrustAnchors) -> bool {
        introduce::belongs(&self.chain, known, self.at).is_ok()
    }
}

/// How a conversation ended.
#[derive(Debug)]
pub enum Outcome {
    /// The two clusters are linked.
    Linked(TrustDomain),
    /// Somebody looked whether a gateway is here, and went.
    Probed,
    /// It was refused.
    Refused(Refused),
    /// The connection broke, or took too long.
    Broke(io::Error),
}

type Tls = TlsStream<TcpStream>;

/// Serves one connection of which `received` came already. `now` is asked for the time; `proven` is called once the joiner has proven that
/// it was invited.
pub async fn serve(
    host: &impl Host,
    socket: TcpStream,
    received: &[u8],
    now: impl Fn() -> SystemTime,
    proven: impl FnOnce(),
) -> Outcome {
    let (mut stream, hello) = match within(HANDSHAKE, greet(host, socket, received)).await {
        Ok(Some(greeted)) => greeted,
        Ok(None) => return Outcome::Probed,
        Err(error) => return Outcome::Broke(error),
    };
    let invite = match recognise(host, &stream, &hello, now()) {
        Ok(invite) => invite,
        Err((refused, proven)) => return refuse(&mut stream, refused, proven.then(&now)).await,
    };
    proven();
    let grant = match within(PATIENCE, hear(host, &mut stream, &invite, now())).await {
        Ok(Ok(grant)) => grant,
        Ok(Err(refused)) => return refuse(&mut stream, refused, Some(now())).await,
        Err(error) => return Outcome::Broke(error),
    };
    if let Err(refused) = take(host, &invite, &grant).await {
        return refuse(&mut stream, refused, Some(now())).await;
    }
    let told = within(PATIENCE, wire::send(&mut stream, Body::Accepted(Accepted {}))).await;
    part(&mut stream).await;
    // The link is made: should the joiner not have heard it, it will be told when it comes with another invitation.
    drop(told);
    Outcome::Linked(grant.bundle.domain().clone())
}

/// Shakes hands and hears the first message; `None` if there is none.
async fn greet(host: &impl Host, socket: TcpStream, received: &[u8]) -> io::Result<Option<(Tls, Hello)>> {
    let bundle = host.bundle().map_err(io::Error::other)?;
    let config = introduce::server_config(host.identity(), &bundle, ALPN).map_err(io::Error::other)?;
    let accepting = TlsAcceptor::from(config).accept_with(socket, |connection| {
        // What is wrong with it is reported by the next step.
        let mut bytes = received;
        while !bytes.is_empty() && connection.read_tls(&mut bytes).is_ok_and(|n| n > 0) {
            if connection.process_new_packets().is_err() {
                break;
            }
        }
    });
    let mut stream = accepting.await?;
    match wire::receive(&mut stream, wire::SHORT).await? {
        None => Ok(None),
        Some(Body::Hello(hello)) => Ok(Some((stream, hello))),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "another message than the first")),
    }
}

/// The invitation that the joiner has proven to hold, if it is good; otherwise why not, and whether it was proven.
fn recognise(host: &impl Host, stream: &Tls, hello: &Hello, now: SystemTime) -> Result<Invite, (Refused, bool)> {
    if hello.version != wire::VERSION {
        let detail = format_args!("found version {} of joining, expected {}", hello.version, wire::VERSION);
        return Err((Refused::new(Refusal::Malformed, detail), false));
    }
    let wrong = || {
        let detail =
            "no such invitation: it was made by another gateway or withdrawn, or the token is not what was printed";
        (Refused::new(Refusal::WrongProof, detail), false)
    };
    let exporter = exporter(stream).ok_or_else(wrong)?;
    let id = <[u8; 8]>::try_from(hello.invite.as_slice()).map(InviteId).map_err(|_| wrong())?;
    let found = host.invites().find(id, now);
    // Whether there is an invitation with this id takes as long to be told as that the secret is another.
    let secret = found.as_ref().map_or(Secret([0; 24]), |(invite, _)| invite.secret.clone());
    let proven = proof::verify(&secret, Role::Joiner, &exporter, &hello.proof);
    let (invite, standing) = found.filter(|_| proven).ok_or_else(wrong)?;
    let refused = |reason, detail: &str| Err((Refused::new(reason, detail), true));
    match standing {
        Standing::Good => Ok(invite),
        Standing::Used => refused(Refusal::Used, "the invitation was used before: each links once"),
        Standing::Expired => refused(
            Refusal::Expired,
            "the invitation is over: each is good for 15 minutes, by one clock that is not set back",
        ),
    }
}

/// Proves that we know the secret too, and hears who the joiner is.
async fn hear(
    host: &impl Host,
    stream: &mut Tls,
    invite: &Invite,
    now: SystemTime,
) -> io::Result<Result<Grant, Refused>> {
    let bundle = match host.bundle() {
        Ok(bundle) => bundle,
        Err(refused) => return Ok(Err(refused)),
    };
    let exporter = exporter(stream).ok_or_else(|| io::Error::other("the connection has no exporter"))?;
    let proof = proof::prove(&invite.secret, Role::Inviter, &exporter).to_vec();
    let bundle = bundle.certificates().map(|certificate| certificate.to_vec()).collect();
    wire::send(stream, Body::Welcome(Welcome { proof, bundle })).await?;
    let malformed = |detail: &str| Ok(Err(Refused::new(Refusal::Malformed, detail)));
    match wire::receive(stream, wire::LONG).await? {
        Some(Body::Offer(offer)) => {
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            Ok(examine(host, &offer, chain, invite, now))
        }
        Some(_) => malformed("found another message, expected an offer"),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Whether what is offered can be granted. Changes nothing.
fn examine(
    host: &impl Host,
    offer: &Offer,
    chain: &[CertificateDer<'_>],
    invite: &Invite,
    now: SystemTime,
) -> Result<Grant, Refused> {
    let malformed = |e: String| Refused::new(Refusal::Malformed, format_args!("the joiner's offer: {e}"));
    check_names(host.identity().current().domain(), &offer.domain().map_err(malformed)?)?;
    let (bundle, endpoints) = offer.content().map_err(malformed)?;
    let foreign =
        |e| Refused::new(Refusal::Identity, format_args!("the joiner's certificate is not of its own CA: {e}"));
    introduce::belongs(chain, &bundle, now).map_err(foreign)?;
    let replace = invite.replace.as_ref() == Some(&bundle.domain().cluster);
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    let grant = Grant { invite: invite.id, bundle, endpoints, replace, chain, at: now };
    host.check(&grant).map(|()| grant)
}

fn check_names(ours: &TrustDomain, theirs: &TrustDomain) -> Result<(), Refused> {
    if ours.clusterset != theirs.clusterset {
        let detail = format_args!("found the clusterset {}, expected {}", theirs.clusterset, ours.clusterset);
        return Err(Refused::new(Refusal::Clusterset, detail));
    }
    if ours.cluster == theirs.cluster {
        let detail = format_args!("both clusters are called {}: names are unique in a clusterset", ours.cluster);
        return Err(Refused::new(Refusal::SameName, detail));
    }
    Ok(())
}

/// Uses the invitation up, then grants.
async fn take(host: &impl Host, invite: &Invite, grant: &Grant) -> Result<(), Refused> {
    match host.invites().redeem(invite.id) {
        Ok(true) => host.grant(grant).await,
        Ok(false) => Err(Refused::new(Refusal::Used, "the invitation was used before: each links once")),
        Err(error) => Err(Refused::new(Refusal::Failed, format_args!("the invitation cannot be used up: {error}"))),
    }
}

/// Says no. Our clock is told to those only who have proven that they were invited.
async fn refuse(stream: &mut Tls, refused: Refused, clock: Option<SystemTime>) -> Outcome {
    let now = clock.map_or(0, |now| now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let told = wire::Refused { reason: refused.reason.number(), detail: refused.detail.clone(), now };
    // Who does not hear it is refused all the same.
    drop(within(PATIENCE, wire::send(stream, Body::Refused(told))).await);
    part(stream).await;
    Outcome::Refused(refused)
}

/// Closes so that the last message arrives: a socket that is closed with bytes unread is reset.
async fn part(stream: &mut Tls) {
    let parting = async {
        stream.shutdown().await?;
        let mut rest = [0; 256];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    drop(timeout(GOODBYE, parting).await);
}

fn exporter(stream: &Tls) -> Option<Exporter> {
    stream.get_ref().1.export_keying_material([0; 32], proof::LABEL, None).ok()
}

async fn within<T>(limit: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
