//! Manifests, as `kubectl apply --server-side` takes them.

use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{ApiResource, Scope, pinned_kind},
};
use std::path::PathBuf;

/// Who the API server takes us for in `managedFields`.
const FIELD_MANAGER: &str = "tests";

/// Applies every document of `yaml`, in order, and takes the fields from whoever had them.
pub(super) async fn apply(client: &Client, yaml: &str) -> Result<Vec<DynamicObject>, String> {
    let mut applied = Vec::new();
    for object in parse(yaml)? {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let (name, api) = (object.name_any(), api_of(client, &object).await?);
        let done = api.patch(&name, &params, &Patch::Apply(&object)).await;
        applied.push(done.map_err(|e| format!("{} {name}: {e}", kind(&object)))?);
    }
    Ok(applied)
}

/// Deletes every object that `yaml` names.
pub(super) async fn delete(client: &Client, yaml: &str) -> Result<(), String> {
    for object in parse(yaml)? {
        let name = object.name_any();
        let done = api_of(client, &object).await?.delete(&name, &Default::default()).await;
        done.map_err(|e| format!("{} {name}: {e}", kind(&object)))?;
    }
    Ok(())
}

fn parse(yaml: &str) -> Result<Vec<DynamicObject>, String> {
    let documents: Vec<Option<DynamicObject>> =
        serde_saphyr::from_multiple(yaml).map_err(|e| format!("a manifest: {e}"))?;
    Ok(documents.into_iter().flatten().collect())
}

async fn api_of(client: &Client, object: &DynamicObject) -> Result<Api<DynamicObject>, String> {
    let types = object.types.as_ref().ok_or("a manifest without apiVersion and kind")?;
    let kind = GroupVersionKind::try_from(types).map_err(|e| e.to_string())?;
    let (resource, capabilities) = pinned_kind(client, &kind).await.map_err(|e| format!("{}: {e}", kind.kind))?;
    Ok(match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => namespaced(client, object, &resource),
    })
}

fn namespaced(client: &Client, object: &DynamicObject, resource: &ApiResource) -> Api<DynamicObject> {
    let namespace = object.namespace().unwrap_or_else(|| client.default_namespace().to_owned());
    Api::namespaced_with(client.clone(), &namespace, resource)
}

fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("an object", |types| &types.kind)
}

/// The custom resources that we ship.
pub(super) fn custom_resources() -> Vec<(PathBuf, String)> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds"));
    let failed = |e: std::io::Error| -> ! { panic!("{}: {e}", dir.display()) };
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| failed(e));
    let paths = entries.map(|entry| entry.unwrap_or_else(|e| failed(e)).path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    paths.sort();
    let read = |path: PathBuf| (path.clone(), std::fs::read_to_string(&path).unwrap_or_else(|e| failed(e)));
    paths.into_iter().map(read).collect()
}
