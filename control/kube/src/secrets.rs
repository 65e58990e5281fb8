//! Secrets beside our gateways: this cluster's own identity, what peers are trusted by, invitations.
//!
//! What is in them is not looked at here. A write names the version of what it replaces: of two writers, one is told to look again.

mod link;

pub use link::Linked;

use crate::{
    api::link::{ClusterLink, ClusterLinkSpec, SecretRef},
    error,
};
use futures_util::StreamExt as _;
use k8s_openapi::{
    ByteString,
    api::core::v1::{Secret, Service},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, Preconditions},
    runtime::{
        WatchStreamExt as _,
        reflector::{self, Store},
        watcher::{self, Config, watcher},
    },
};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    sync::Arc,
};
use tokio::{sync::watch, task::JoinSet};

/// The Secret with the SVID of the gateways, which mount it, and with what this cluster's CA has revoked, if anything.
pub const GATEWAY: &str = "isthmus-gateway";
/// The Secret with the bundles of the peers, which gateways mount: `<cluster>.pem` each, and `<cluster>.crl` where something is revoked.
pub const TRUST: &str = "isthmus-trust";
/// The label of the Secrets that hold an invitation each.
pub const INVITE: &str = "isthmus.io/invite";
/// The key of such a Secret with the invitation.
pub const INVITE_KEY: &str = "invite.json";
/// The key of a Secret of credentials, and of our own, with CA certificates.
pub const CA: &str = "ca.pem";

/// The key of a Secret of credentials, of our CA's and of the gateways', with what those CAs have revoked.
pub const CRL: &str = "crl.pem";

/// What a Secret holds.
pub type Data = BTreeMap<String, Vec<u8>>;

/// A Secret as it is. Its `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// What it holds.
    pub data: Data,
    /// Its uid and its resourceVersion.
    pub version: (String, String),
    /// Whether it is labelled as an invitation.
    pub is_invite: bool,
}

/// The Secrets of our namespace, and the links.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// By name.
    pub secrets: BTreeMap<String, Kept>,
    /// The links, by the peer's cluster id as the objects have it, with the Secret that each is trusted by.
    pub links: BTreeMap<String, Option<String>>,
}

/// The Secrets of a namespace.
#[derive(Clone)]
pub struct Secrets {
    client: Client,
    namespace: String,
}

impl Secrets {
    /// Those of `namespace`, where `client` leads.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn api(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A Secret, if it is there.
    ///
    /// # Errors
    /// The API server does not say.
    pub async fn get(&self, name: &str) -> Result<Option<Kept>, kube::Error> {
        Ok(self.api().get_opt(name).await?.map(|secret| Kept::of(&secret)))
    }

    /// Sets `data` in the Secret `name` if it still is what `before` was; a `None` takes a key away. Whether it was.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn set(
        &self,
        name: &str,
        data: &BTreeMap<String, Option<Vec<u8>>>,
        before: &Kept,
    ) -> Result<bool, kube::Error> {
        let data: BTreeMap<_, _> = data.iter().map(|(key, value)| (key, value.clone().map(ByteString))).collect();
        let (uid, version) = &before.version;
        let patch = json!({"metadata": {"uid": uid, "resourceVersion": version}, "data": data});
        let done = self.api().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        unless_changed(done.map(drop))
    }

    /// Deletes a Secret if it still is what `before` was: exactly one of all that try does.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn take(&self, name: &str, before: &Kept) -> Result<bool, kube::Error> {
        let (uid, version) = before.version.clone();
        let preconditions = Preconditions { uid: Some(uid), resource_version: Some(version) };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        unless_changed(self.api().delete(name, &params).await.map(drop))
    }

    /// Deletes a Secret. Whether it was there.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn delete(&self, name: &str) -> Result<bool, kube::Error> {
        unless_changed(self.api().delete(name, &DeleteParams::default()).await.map(drop))
    }

    /// Ends the link with `cluster`, and the trust in it, if [`Self::link`] made that. Whether link and Secret were there.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn unlink(&self, cluster: &str) -> Result<(bool, bool), kube::Error> {
        let links: Api<ClusterLink> = Api::all(self.client.clone());
        // Each of the two ends the link by itself: the second goes even if the first could not.
        let link = unless_changed(links.delete(cluster, &DeleteParams::default()).await.map(drop));
        let secret = self.delete(&credentials(cluster)).await?;
        Ok((link?, secret))
    }

    /// The links there are, by the peers' cluster ids.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn links(&self) -> Result<Vec<String>, kube::Error> {
        let links: Api<ClusterLink> = Api::all(self.client.clone());
        match links.list(&ListParams::default()).await {
            Ok(found) => Ok(found.iter().map(ResourceExt::name_any).collect()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The Secrets of invitations, by name.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn invitations(&self) -> Result<Vec<String>, kube::Error> {
        let found = self.api().list_metadata(&ListParams::default().labels(INVITE)).await?;
        Ok(found.iter().map(ResourceExt::name_any).collect())
    }

    /// Where the Service of our gateways is reached from outside: host and port, of its load balancer.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn gateway_addresses(&self) -> Result<Vec<(String, u16)>, kube::Error> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let Some(service) = services.get_opt(GATEWAY).await? else { return Ok(Vec::new()) };
        let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
        let port = ports.and_then(|ports| ports.first()).and_then(|port| u16::try_from(port.port).ok());
        let status = service.status.and_then(|status| status.load_balancer).and_then(|balancer| balancer.ingress);
        let hosts = status.unwrap_or_default().into_iter().filter_map(|at| at.ip.or(at.hostname));
        Ok(port.map(|port| hosts.map(|host| (host, port)).collect()).unwrap_or_default())
    }

    /// Whether the link with `cluster` is up; else what its object says of it.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn link_state(&self, cluster: &str) -> Result<Result<(), String>, kube::Error> {
        let links: Api<ClusterLink> = Api::all(self.client.clone());
        let found = links.get_opt(cluster).await?.and_then(|link| link.status).unwrap_or_default();
        let of = |kind: &str| found.conditions.iter().find(|condition| condition.type_ == kind);
        Ok(match of("Established") {
            Some(up) if up.status == "True" => Ok(()),
            Some(down) => {
                let trust = of("TrustValid").filter(|trust| trust.status == "False");
                Err(trust.unwrap_or(down).message.clone())
            }
            None => Err("nothing is said of it yet: no control runs, or it has not seen it".into()),
        })
    }

    /// Follows the Secrets and the links, until the tasks end with their owner. Nothing is said before all of it is known; what is not to
    /// be known stays as it was.
    pub fn watch(&self, tasks: &mut JoinSet<()>) -> watch::Receiver<Option<Arc<View>>> {
        let (changed, mut changes) = watch::channel(0_u64);
        let secrets = follow(self.api(), "secrets", tasks, &changed);
        let links = follow(Api::<ClusterLink>::all(self.client.clone()), "clusterlinks", tasks, &changed);
        let (to, view) = watch::channel(None);
        tasks.spawn(async move {
            // Neither writer goes while its task runs.
            if secrets.wait_until_ready().await.is_err() || links.wait_until_ready().await.is_err() {
                return;
            }
            loop {
                changes.borrow_and_update();
                let view = View::of(&secrets.state(), &links.state());
                to.send_if_modified(|known| {
                    let differs = known.as_deref() != Some(&view);
                    *known = Some(Arc::new(view));
                    differs
                });
                if changes.changed().await.is_err() || to.is_closed() {
                    return;
                }
            }
        });
        view
    }
}

impl Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Kept {
    fn of(secret: &Secret) -> Self {
        let data = secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
        Self {
            data: data.collect(),
            version: (secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default()),
            is_invite: secret.labels().contains_key(INVITE),
        }
    }
}

impl Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("keys", &self.data.keys()).field("version", &self.version).finish_non_exhaustive()
    }
}

impl View {
    fn of(secrets: &[Arc<Secret>], links: &[Arc<ClusterLink>]) -> Self {
        let secrets = secrets.iter().map(|secret| (secret.name_any(), Kept::of(secret)));
        let links = links.iter().map(|link| {
            let credentials = link.spec.credentials_ref.as_ref().map(|secret| secret.name.clone());
            (link.name_any(), credentials)
        });
        Self { secrets: secrets.collect(), links: links.collect() }
    }
}

/// The Secret by which a cluster is trusted that was linked by invitation.
pub fn credentials(cluster: &str) -> String {
    format!("isthmus-link-{cluster}")
}

/// The Secret of the invitation with this id.
pub fn invitation(id: &str) -> String {
    format!("isthmus-invite-{id}")
}

/// What links with `cluster`: the Secret that it is trusted by, and the link.
pub fn linked(namespace: &str, cluster: &str, endpoints: &[String], ca: String) -> (Secret, ClusterLink) {
    let name = credentials(cluster);
    let spec = ClusterLinkSpec {
        endpoints: endpoints.to_vec(),
        credentials_ref: Some(SecretRef { name: name.clone() }),
        ..ClusterLinkSpec::default()
    };
    let data = Data::from([(CA.to_owned(), ca.into_bytes())]);
    (secret(namespace, &name, data, BTreeMap::new()), ClusterLink::new(cluster, spec))
}

/// A Secret of ours.
pub fn secret(namespace: &str, name: &str, data: Data, labels: BTreeMap<String, String>) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: (!labels.is_empty()).then_some(labels),
            ..ObjectMeta::default()
        },
        data: Some(data.into_iter().map(|(key, value)| (key, ByteString(value))).collect()),
        type_: Some("Opaque".into()),
        ..Secret::default()
    }
}

/// Whether it was done: it was not if the object is another one now, or none.
fn unless_changed(done: Result<(), kube::Error>) -> Result<bool, kube::Error> {
    match done {
        Ok(()) => Ok(true),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(error),
    }
}

fn follow<K>(api: Api<K>, what: &'static str, tasks: &mut JoinSet<()>, changed: &watch::Sender<u64>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let changed = changed.clone();
    tasks.spawn(async move {
        let events = reflector::reflector(writer, watcher(api, Config::default())).default_backoff();
        let (mut events, mut failed) = (std::pin::pin!(events), None);
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => {
                    failed = None;
                    changed.send_modify(|count| *count = count.wrapping_add(1));
                }
                Err(error) => {
                    let error = describe(&error, what);
                    if failed.as_ref() != Some(&error) {
                        tracing::warn!(%error, "the watch of {what} fails: what is known stays");
                    }
                    failed = Some(error);
                }
            }
        }
    });
    store
}

fn describe(error: &watcher::Error, what: &str) -> String {
    error::describe_watch(error, what, None)
}
