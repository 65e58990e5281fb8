//! What is there and should not be: another installation, objects of an earlier one, imports that nobody writes any more.

use super::{Done, Installer, MANAGER, NotDone, within, within_kube};
use crate::{
    api::mcs::ServiceImport,
    error,
    mcs::marks::{self, MANAGED_BY},
};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Service},
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, ObjectMeta, Preconditions, PropagationPolicy, TypeMeta},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The label of everything that is installed.
const NAME: &str = "app.kubernetes.io/name";
/// Its value.
const OURS: &str = "isthmus";
/// Kinds that are never deleted because they are not rendered: what they hold was not installed.
const KEPT: [&str; 3] = ["Secret", "Namespace", "CustomResourceDefinition"];
/// The only kind that is installed outside our namespace, where imports may be written.
const OUTSIDE: &str = "RoleBinding";

/// What tells an object from others: its kind, namespace and name.
type Id = (String, Option<String>, String);

impl Installer {
    /// Fails if isthmus is installed in another namespace than `namespace`. Whether it is in this one.
    ///
    /// # Errors
    /// It is elsewhere, or the API server does not say.
    pub async fn find(&self, namespace: &str) -> Result<bool, NotDone> {
        let failed = |why| NotDone { object: "ClusterRoleBinding isthmus-control".into(), why };
        let bindings: Api<ClusterRoleBinding> = Api::all(self.client.clone());
        let binding = within(bindings.get_opt("isthmus-control")).await.map_err(failed)?;
        if let Some(other) = binding.as_ref().and_then(|binding| elsewhere(binding, namespace)) {
            return Err(failed(format!(
                "found isthmus in {other}, expected none, or in {namespace}: there is one installation a cluster: --namespace {other}"
            )));
        }
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        Ok(binding.is_some() || within(maps.get_opt("isthmus")).await.map_err(failed)?.is_some())
    }

    /// Whether a namespace is there that was not made by us.
    ///
    /// # Errors
    /// The API server does not say.
    pub async fn is_foreign(&self, namespace: &str) -> Result<bool, NotDone> {
        let failed = |why| NotDone { object: format!("Namespace {namespace}"), why };
        let found = within(Api::<Namespace>::all(self.client.clone()).get_opt(namespace)).await.map_err(failed)?;
        Ok(found.is_some_and(|found| found.labels().get(NAME).is_none_or(|name| name != OURS)))
    }

    /// Deletes what an earlier installation in `namespace` has applied of the kinds of `known`, and is not among `rendered`. What somebody
    /// else has applied stays, and Secrets, namespaces and definitions do.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached: what comes after was not tried.
    pub async fn prune(&self, namespace: &str, known: &[Value], rendered: &[Value]) -> Result<Vec<Value>, NotDone> {
        let wanted: BTreeSet<Id> = rendered.iter().map(id).collect();
        let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kinds: BTreeSet<_> =
            known.iter().chain(rendered).map(|object| (part(&object["apiVersion"]), part(&object["kind"]))).collect();
        let mut gone = Vec::new();
        for (version, kind) in kinds.into_iter().filter(|(_, kind)| !KEPT.contains(&kind.as_str())) {
            let failed = |why| NotDone { object: format!("{kind}s of an earlier installation"), why };
            let types = TypeMeta { api_version: version.clone(), kind: kind.clone() };
            let any = DynamicObject { types: Some(types), metadata: ObjectMeta::default(), data: Value::Null };
            let all = self.everywhere(&any).await.map_err(failed)?;
            let ours = ListParams::default().labels(&format!("{NAME}={OURS}"));
            let found = within(all.list_metadata(&ours)).await.map_err(failed)?;
            for found in found.items.iter().filter(|found| is_left(&kind, &found.metadata, namespace, &wanted)) {
                let object = json!({
                    "apiVersion": version,
                    "kind": kind,
                    "metadata": {"name": found.name_any(), "namespace": found.namespace()},
                });
                if self.delete(&object).await? == Done::Deleted {
                    gone.push(object);
                }
            }
        }
        Ok(gone)
    }

    /// Deletes the ServiceImports that control has made, and with them what hangs on them. How many objects are left: those, and Services
    /// that Kubernetes' garbage collector has yet to take.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn withdraw(&self) -> Result<usize, NotDone> {
        let failed = |why| NotDone { object: "ServiceImports".into(), why };
        let ours = ListParams::default().labels(&format!("{MANAGED_BY}={}", marks::MANAGER));
        let all: Api<ServiceImport> = Api::all(self.client.clone());
        let found = match within_kube(all.list_metadata(&ours)).await.map_err(failed)? {
            Ok(found) => found.items,
            // There is no such kind.
            Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
            Err(error) => return Err(failed(error::describe(&error))),
        };
        for import in &found {
            let at: Api<ServiceImport> = Api::namespaced(self.client.clone(), &import.namespace().unwrap_or_default());
            let preconditions = Some(Preconditions { uid: import.uid(), resource_version: None });
            let propagation_policy = Some(PropagationPolicy::Background);
            let params = DeleteParams { preconditions, propagation_policy, ..DeleteParams::default() };
            match within_kube(at.delete(&import.name_any(), &params)).await.map_err(failed)? {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(failed(error::describe(&error))),
            }
        }
        let services: Api<Service> = Api::all(self.client.clone());
        let services = within(services.list_metadata(&ours)).await.map_err(failed)?;
        Ok(found.len() + services.items.len())
    }
}

/// The other namespace that a subject of ours is in.
fn elsewhere(binding: &ClusterRoleBinding, namespace: &str) -> Option<String> {
    let mut subjects = binding.subjects.iter().flatten().filter_map(|subject| subject.namespace.clone());
    subjects.find(|found| found != namespace)
}

/// ● Whether an object was applied by us, and is not wanted any more.
fn is_left(kind: &str, found: &ObjectMeta, namespace: &str, wanted: &BTreeSet<Id>) -> bool {
    let by = found.managed_fields.iter().flatten();
    let is_applied =
        by.into_iter().any(|by| by.manager.as_deref() == Some(MANAGER) && by.operation.as_deref() == Some("Apply"));
    let is_in_reach = kind == OUTSIDE || found.namespace.as_deref().is_none_or(|at| at == namespace);
    let id = (kind.to_owned(), found.namespace.clone(), found.name.clone().unwrap_or_default());
    is_applied && is_in_reach && !wanted.contains(&id)
}

fn id(object: &Value) -> Id {
    let part = |value: &Value| value.as_str().map(str::to_owned);
    let metadata = &object["metadata"];
    (
        part(&object["kind"]).unwrap_or_default(),
        part(&metadata["namespace"]),
        part(&metadata["name"]).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_applied_and_do_not_want_is_left_over() {
        let wanted: BTreeSet<Id> =
            [id(&json!({"kind": "Service", "metadata": {"name": "isthmus-gateway", "namespace": "mesh"}}))].into();
        let left = |kind: &str, namespace: Option<&str>, name: &str, by: (&str, &str)| {
            let fields = json!([{"manager": "kubelet", "operation": "Update"}, {"manager": by.0, "operation": by.1}]);
            let found = json!({"name": name, "namespace": namespace, "managedFields": fields});
            is_left(kind, &serde_json::from_value(found).unwrap(), "mesh", &wanted)
        };
        let ours = (MANAGER, "Apply");
        assert!(left("Service", Some("mesh"), "isthmus-dns", ours));
        assert!(left("ClusterRoleBinding", None, "isthmus-imports", ours));
        assert!(
            left("RoleBinding", Some("shop"), "isthmus-imports", ours),
            "a namespace that is none of imports any more"
        );
        assert!(!left("Service", Some("mesh"), "isthmus-gateway", ours), "it was rendered");
        assert!(!left("Service", Some("mesh"), "isthmus-dns", ("helm", "Apply")), "it is somebody else's");
        assert!(!left("Service", Some("mesh"), "isthmus-dns", (MANAGER, "Update")));
        assert!(!left("Service", Some("other"), "isthmus-dns", ours), "it is not of this installation");
    }

    #[test]
    fn an_installation_elsewhere_is_seen() {
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "isthmus-control"},
            "subjects": [{"kind": "ServiceAccount", "name": "isthmus-control", "namespace": "mesh"}]
        }))
        .unwrap();
        assert_eq!(elsewhere(&binding, "mesh"), None);
        assert_eq!(elsewhere(&binding, "isthmus-system").as_deref(), Some("mesh"));
    }
}
