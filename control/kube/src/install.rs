//! Putting objects of any kind into a cluster, and taking them out again: what `isthmus install` does.

mod leftover;
mod revision;

use crate::error;
use k8s_openapi::{
    api::apps::v1::Deployment, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PropagationPolicy},
    core::{ApiResource, GroupVersionKind},
    discovery::{self, Scope},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use revision::Verdict;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// Who the API server takes us for in `managedFields`.
const MANAGER: &str = "isthmus-install";
/// For a custom resource to be served.
const ESTABLISHED: Duration = Duration::from_secs(60);
/// For one request.
const REQUEST: Duration = Duration::from_secs(30);

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It was not there.
    Created,
    /// It was there, and is another now.
    Changed,
    /// It was as it should be.
    Unchanged,
    /// A newer one, or somebody else's, is there, and stays.
    Kept,
    /// It is not there any more.
    Deleted,
    /// It was not there.
    Absent,
}

/// An object was refused, and everything after it was not tried.
#[derive(Debug, thiserror::Error)]
#[error("{object}: {why}")]
pub struct NotDone {
    /// Its kind and name.
    pub object: String,
    /// Why, with what to do.
    pub why: String,
}

/// Applies objects one after another.
pub struct Installer {
    client: Client,
    force: bool,
}

impl Installer {
    /// Where `client` leads. With `force` fields are taken from whoever has them.
    pub fn new(client: Client, force: bool) -> Self {
        Self { client, force }
    }

    /// Applies an object, server-side.
    ///
    /// # Errors
    /// The API server refuses it, or cannot be reached.
    pub async fn apply(&self, object: &Value) -> Result<Done, NotDone> {
        let (name, object) = parse(object)?;
        let failed = |why| NotDone { object: name.clone(), why };
        let api = self.api(&object).await.map_err(failed)?;
        let (called, patch) = (object.name_any(), Patch::Apply(&object));
        let before = within(api.get_opt(&called)).await.map_err(failed)?;
        let mut params = PatchParams::apply(MANAGER);
        params.force = self.force;
        let done = within(api.patch(&called, &params, &patch));
        let after = done.await.map_err(|why| failed(explain(why)))?;
        Ok(match before {
            None => Done::Created,
            Some(before) if before.resource_version() == after.resource_version() => Done::Unchanged,
            Some(_) => Done::Changed,
        })
    }

    /// Applies the definition of a custom resource, unless a newer one is there, or one that somebody else has made of it; and waits until
    /// it is served.
    ///
    /// # Errors
    /// As with [`Self::apply`], or it is not served in time, or what is there lacks a version that we need.
    pub async fn define(&self, object: &Value) -> Result<Done, NotDone> {
        let (what, shipped) = parse(object)?;
        let failed = |why| NotDone { object: what.clone(), why };
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let name = shipped.name_any();
        let found = within(api.get_opt(&name)).await.map_err(failed)?;
        let found = found.map(|found| serde_json::to_value(found).unwrap_or_default());
        let done = match found.as_ref().map_or(Verdict::Apply, |found| revision::compare(found, object)) {
            Verdict::Apply => {
                // A definition that is older is replaced whoever has applied it.
                let installer = Self { client: self.client.clone(), force: true };
                installer.apply(object).await?
            }
            Verdict::Keep => Done::Kept,
            Verdict::Lacks(why) => return Err(failed(why)),
        };
        match timeout(ESTABLISHED, await_condition(api, &name, is_crd_established())).await {
            Ok(Ok(_)) => Ok(done),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("it was not served within {} s", ESTABLISHED.as_secs()))),
        }
    }

    /// Deletes an object, and what hangs on it.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn delete(&self, object: &Value) -> Result<Done, NotDone> {
        let (name, object) = parse(object)?;
        let failed = |why| NotDone { object: name.clone(), why };
        let api = self.api(&object).await.map_err(failed)?;
        let params =
            DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
        match within_kube(api.delete(&object.name_any(), &params)).await.map_err(failed)? {
            Ok(_) => Ok(Done::Deleted),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Done::Absent),
            Err(error) => Err(failed(error::describe(&error))),
        }
    }

    /// How many pods of a Deployment are available, of how many; once its newest state is known.
    ///
    /// # Errors
    /// The API server does not say.
    pub async fn available(&self, namespace: &str, name: &str) -> Result<(i32, i32), NotDone> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let failed = |why| NotDone { object: format!("Deployment {name}"), why };
        let found = within(api.get(name)).await.map_err(failed)?;
        let wanted = found.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let status = found.status.unwrap_or_default();
        let is_known = status.observed_generation >= found.metadata.generation;
        let ready = status.available_replicas.unwrap_or(0).min(status.updated_replicas.unwrap_or(0));
        Ok((if is_known { ready } else { 0 }, wanted))
    }

    async fn api(&self, object: &DynamicObject) -> Result<Api<DynamicObject>, String> {
        let (resource, scope) = self.kind(object).await?;
        Ok(match (scope, object.namespace()) {
            (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            (Scope::Namespaced, None) => Api::default_namespaced_with(self.client.clone(), &resource),
            (Scope::Cluster, _) => Api::all_with(self.client.clone(), &resource),
        })
    }

    /// All objects of the kind that `object` is of.
    async fn everywhere(&self, object: &DynamicObject) -> Result<Api<DynamicObject>, String> {
        let (resource, _) = self.kind(object).await?;
        Ok(Api::all_with(self.client.clone(), &resource))
    }

    async fn kind(&self, object: &DynamicObject) -> Result<(ApiResource, Scope), String> {
        let types = object.types.as_ref().ok_or("found no apiVersion and kind, expected both")?;
        let kind = GroupVersionKind::try_from(types).map_err(|error| error.to_string())?;
        let (resource, capabilities) = within(discovery::pinned_kind(&self.client, &kind)).await?;
        Ok((resource, capabilities.scope))
    }
}

/// An object, and its kind and name for people.
fn parse(object: &Value) -> Result<(String, DynamicObject), NotDone> {
    let part = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let name = format!("{} {}", part(&object["kind"]), part(&object["metadata"]["name"]));
    let parsed = serde_json::from_value(object.clone());
    parsed.map(|parsed| (name.clone(), parsed)).map_err(|error| NotDone { object: name, why: error.to_string() })
}

fn explain(why: String) -> String {
    if why.contains("conflict with") {
        return format!("{why}: somebody else manages these fields (Helm?); --force-conflicts takes them over");
    }
    why
}

async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    within_kube(request).await?.map_err(|error| error::describe(&error))
}

async fn within_kube<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Result<T, kube::Error>, String> {
    let late = |_| format!("the API server did not answer within {} s", REQUEST.as_secs());
    timeout(REQUEST, request).await.map_err(late)
}
