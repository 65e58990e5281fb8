//! A link's two objects, which are written only as what was seen of them still stands.

use super::{CA, Data, Kept, Secrets, credentials, linked, unless_changed};
use crate::api::link::ClusterLink;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

/// Attempts to change a link whose status is written meanwhile.
const ATTEMPTS: usize = 5;

/// How a cluster is linked, as it was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Linked {
    /// Whether there is a ClusterLink.
    pub is_linked: bool,
    /// The Secret that it names in `credentialsRef`.
    pub names: Option<String>,
    /// That Secret; where none is named, the one that [`Secrets::link`] would write.
    pub trusted: Option<Kept>,
    /// The Secret that [`Secrets::link`] would write.
    own: Option<Kept>,
}

impl Linked {
    /// One that is trusted by what `names` holds, if it is there. For tests of what is decided by it.
    pub fn by(is_linked: bool, names: Option<&str>, trusted: Option<Kept>) -> Self {
        Self { is_linked, names: names.map(str::to_owned), trusted, own: None }
    }
}

impl Secrets {
    /// How `cluster` is linked.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn linked(&self, cluster: &str) -> Result<Linked, kube::Error> {
        let link = self.find_link(cluster).await?;
        let own_name = credentials(cluster);
        let own = self.get(&own_name).await?;
        let names = link.as_ref().and_then(names);
        let trusted = match &names {
            Some(name) if *name != own_name => self.get(name).await?,
            _ => own.clone(),
        };
        Ok(Linked { is_linked: link.is_some(), names, trusted, own })
    }

    /// Links with `cluster`, trusting it by the CA certificates `ca`; `None`: what it is trusted by stays. The Secret comes first, as a link
    /// without trust is dialled in vain. A link that is there keeps what is not said here; without endpoints those stay, too. Whether
    /// everything still was as `seen`: nothing is written over what somebody else has written since.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn link(
        &self,
        cluster: &str,
        endpoints: &[String],
        ca: Option<String>,
        seen: &Linked,
    ) -> Result<bool, kube::Error> {
        let (secret, mut link) = linked(&self.namespace, cluster, endpoints, ca.clone().unwrap_or_default());
        match (&ca, &seen.own) {
            (None, _) => {}
            (Some(ca), Some(own)) => {
                let data = [(CA.to_owned(), Some(ca.clone().into_bytes()))].into();
                if !self.set(&secret.name_any(), &data, own).await? {
                    return Ok(false);
                }
            }
            (Some(_), None) => {
                if !unless_changed(self.api().create(&PostParams::default(), &secret).await.map(drop))? {
                    return Ok(false);
                }
            }
        }
        if ca.is_none() && seen.names.is_some() {
            link.spec.credentials_ref = None;
        }
        let links: Api<ClusterLink> = Api::all(self.client.clone());
        if !seen.is_linked {
            return unless_changed(links.create(&PostParams::default(), &link).await.map(drop));
        }
        let spec = serde_json::to_value(&link.spec).unwrap_or(Value::Null);
        for _ in 0..ATTEMPTS {
            let Some(found) = self.find_link(cluster).await? else { return Ok(false) };
            if names(&found) != seen.names {
                return Ok(false);
            }
            let metadata = json!({"uid": found.uid(), "resourceVersion": found.resource_version()});
            let patch = json!({"metadata": metadata, "spec": spec});
            let done = links.patch(cluster, &PatchParams::default(), &Patch::Merge(patch)).await;
            if unless_changed(done.map(drop))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes a Secret of an invitation. Whether there was none of that name.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn invite(&self, id: &str, data: Data) -> Result<bool, kube::Error> {
        let label = [(super::INVITE.to_owned(), String::new())].into();
        let secret = super::secret(&self.namespace, &super::invitation(id), data, label);
        unless_changed(self.api().create(&PostParams::default(), &secret).await.map(drop))
    }

    /// Whether control takes those who were invited, as what is installed says; `None` where it was not installed by the chart.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn takes_invited(&self) -> Result<Option<bool>, kube::Error> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let text =
            maps.get_opt("isthmus").await?.and_then(|map| map.data).and_then(|mut data| data.remove("control.yaml"));
        Ok(text.map(|text| text.contains(" joins:")))
    }

    /// By a list: control may not get single ones.
    async fn find_link(&self, cluster: &str) -> Result<Option<ClusterLink>, kube::Error> {
        let links: Api<ClusterLink> = Api::all(self.client.clone());
        let only = ListParams::default().fields(&format!("metadata.name={cluster}"));
        Ok(links.list(&only).await?.items.into_iter().next())
    }
}

fn names(link: &ClusterLink) -> Option<String> {
    link.spec.credentials_ref.as_ref().map(|secret| secret.name.clone())
}
