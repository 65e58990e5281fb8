//! One write, as a request to the API server.

use super::{Action, MANAGER, STATUS_MANAGER, Target, Write};
use crate::error::describe;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
    core::Status,
};
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// A version that no object has: the first that etcd stores is 2. An apply that states it makes what is not there, for which versions
/// do not matter, and is refused for what is.
const NO_VERSION: &str = "1";
/// For one request.
const REQUEST: Duration = Duration::from_secs(15);

/// Sends it. Whatever has not been answered at `until` is given up: somebody else may write then.
///
/// # Errors
/// What the API server says to it, or that it says nothing, in a line.
pub(super) async fn send(client: &Client, write: &Write, until: Instant) -> Result<(), String> {
    let until = until.min(Instant::now() + REQUEST);
    match timeout_at(until.into(), request(client, write)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(describe(&error)),
        Err(_) => Err("the API server did not answer in time".into()),
    }
}

async fn request(client: &Client, write: &Write) -> kube::Result<()> {
    let api = api(client, &write.target);
    let name = &write.target.key.name;
    match &write.action {
        Action::Create(body) => {
            let mut body = body.clone();
            body["metadata"]["resourceVersion"] = NO_VERSION.into();
            match api.patch(name, &PatchParams::apply(MANAGER), &Patch::Apply(body)).await {
                Err(kube::Error::Api(status)) if status.code == 409 => Err(there_already(&write.target)),
                result => result.map(drop),
            }
        }
        Action::Apply(body) => {
            let params = PatchParams::apply(MANAGER).force();
            api.patch(name, &params, &Patch::Apply(body)).await.map(drop)
        }
        Action::Status(body) => {
            let params = PatchParams::apply(STATUS_MANAGER).force();
            api.patch_status(name, &params, &Patch::Apply(body)).await.map(drop)
        }
        Action::Delete { uid } => {
            let preconditions = Preconditions { uid: uid.clone(), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
            match api.delete(name, &params).await {
                // It has gone already, or another has its name now.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
                result => result.map(drop),
            }
        }
    }
}

/// It was made by somebody, and the watch has not shown it yet.
fn there_already(target: &Target) -> kube::Error {
    let message = format!("{target} has been made meanwhile, and is left alone until it has been seen");
    kube::Error::Api(Status::failure(&message, "Conflict").with_code(409).boxed())
}

fn api(client: &Client, target: &Target) -> Api<DynamicObject> {
    let resource = target.kind.resource();
    match &*target.key.namespace {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    }
}
