//! A cluster of Kubernetes from outside, as its operator reaches it.

use super::Failure;
use isthmus_certs::{Authority, Identity, IdentityStore, TrustAnchors, TrustDomain};
use isthmus_control_api::PeerAddress;
use isthmus_control_kube::{
    connect::{self, Client},
    secrets::{CA, Secrets},
};
use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// How long an SVID lives that a command makes for itself.
const BRIEF: Duration = Duration::from_mins(2);

/// `--context` and its like: flatten it into a subcommand's arguments.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Cluster {
    /// The context of the kubeconfig that leads to the cluster; otherwise its current one
    #[arg(long, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// The kubeconfig; otherwise KUBECONFIG, or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// The namespace that isthmus is in
    #[arg(long, value_name = "NAMESPACE", default_value = "isthmus-system")]
    pub(super) namespace: String,
}

impl Cluster {
    /// Whether a cluster was named.
    pub(super) fn is_named(&self) -> bool {
        self.context.is_some() || self.kubeconfig.is_some()
    }

    /// A client for it.
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        let found = connect::as_operator(self.kubeconfig.as_deref(), self.context.as_deref()).await;
        Ok(found?)
    }

    /// The same as arguments, for people to repeat.
    pub(super) fn words(&self) -> String {
        let mut words = String::new();
        if let Some(context) = &self.context {
            words = format!(" --context {context}");
        }
        if let Some(kubeconfig) = &self.kubeconfig {
            words = format!("{words} --kubeconfig {}", super::identity::words::shell(kubeconfig));
        }
        if self.namespace != "isthmus-system" {
            words = format!("{words} --namespace {}", self.namespace);
        }
        words
    }

    /// The cluster's CA and its Secrets.
    pub(super) async fn open(&self) -> Result<Opened, Failure> {
        let secrets = Secrets::new(self.client().await?, &self.namespace);
        let place = format!("the Secret isthmus-ca in {}", self.namespace);
        let found = super::serve::secrets::within(secrets.get("isthmus-ca")).await;
        let kept = found.map_err(|why| Failure::failed(format!("{place}: {why}")))?;
        let kept = kept.ok_or_else(|| {
            Failure::failed(format!("found no isthmus in this cluster ({place}): `isthmus install` puts it there"))
        })?;
        let part = |name: &str| kept.data.get(name).map(Vec::as_slice);
        let (Some(certificates), Some(key)) = (part(CA), part("ca.key")) else {
            return Err(Failure::failed(format!(
                "{place}: found no CA yet, expected one: control makes it when it runs"
            )));
        };
        let authority = Authority::from_pem(certificates, key).map_err(|e| Failure::failed(format!("{place}: {e}")))?;
        let domain = authority.domain().clone();
        let bundle =
            TrustAnchors::from_pem(domain, certificates).map_err(|e| Failure::failed(format!("{place}: {e}")))?;
        Ok(Opened { secrets, authority, bundle })
    }
}

/// A cluster that isthmus is in.
pub(super) struct Opened {
    pub(super) secrets: Secrets,
    pub(super) authority: Authority,
    /// Its CA certificates.
    pub(super) bundle: TrustAnchors,
}

impl Opened {
    /// Its trust domain.
    pub(super) fn domain(&self) -> &TrustDomain {
        self.authority.domain()
    }

    /// Where its gateways can be dialled, as their Service says.
    pub(super) async fn endpoints(&self) -> Result<Vec<PeerAddress>, Failure> {
        let found = super::serve::secrets::within(self.secrets.gateway_addresses()).await.map_err(Failure::failed)?;
        Ok(found
            .into_iter()
            .take(isthmus_link::MOST_ENDPOINTS)
            .map(|(host, port)| PeerAddress { host, port })
            .collect())
    }

    /// A gateway's identity for the handshakes of a command.
    pub(super) fn identity(&self) -> Result<IdentityStore, Failure> {
        let svid = self.authority.issue(&self.domain().gateway(), BRIEF, SystemTime::now())?;
        Ok(IdentityStore::new(Identity::new(svid, [])?))
    }
}
