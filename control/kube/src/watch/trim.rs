//! ● Objects in little memory: without what nobody here reads, and with no room for more than they have.
//!
//! There is an EndpointSlice for every service of every linked cluster: what one of them takes counts a hundred thousand times.

use crate::{
    apply::{MANAGERS, diff},
    index::Watched,
};
use k8s_openapi::{api::discovery::v1::EndpointSlice, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry};
use kube::{Resource, ResourceExt as _};

/// The annotation in which kubectl keeps a copy of the object.
const COPY: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Leaves out what nobody here reads and takes most of the memory.
pub(super) fn trim<K: Resource>(object: &mut K, watched: Watched) {
    let ours = |entry: &ManagedFieldsEntry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        MANAGERS.contains(&manager)
    };
    object.annotations_mut().remove(COPY);
    let meta = object.meta_mut();
    if let Some(entries) = &mut meta.managed_fields {
        match watched {
            Watched::Namespaces | Watched::Nodes | Watched::Gateways => entries.clear(),
            _ => entries.retain(ours),
        }
        entries.iter_mut().for_each(diff::pack);
        entries.shrink_to_fit();
    }
    if let Some(owners) = &mut meta.owner_references {
        owners.shrink_to_fit();
    }
}

/// Gives back what the lists of an EndpointSlice have room for beyond what is in them: each was read with room for four.
pub(super) fn shrink(slice: &mut EndpointSlice) {
    if let Some(endpoints) = &mut slice.endpoints {
        endpoints.shrink_to_fit();
        endpoints.iter_mut().for_each(|endpoint| endpoint.addresses.shrink_to_fit());
    }
    if let Some(ports) = &mut slice.ports {
        ports.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::{MANAGER, diff::differs};
    use serde_json::{Value, json};

    /// As the API server has a slice of ours that somebody has labelled, too.
    fn slice() -> EndpointSlice {
        let entry = |manager: &str, fields: Value| json!({"manager": manager, "operation": "Apply", "apiVersion": "discovery.k8s.io/v1", "fieldsType": "FieldsV1", "fieldsV1": fields});
        let ours = json!({
            "f:addressType": {}, "f:endpoints": {}, "f:ports": {},
            "f:metadata": {"f:labels": {"f:a": {}}, "f:ownerReferences": {"k:{\"uid\":\"u\"}": {}}},
        });
        let object = json!({
            "metadata": {
                "name": "api-east", "namespace": "shop", "uid": "x", "labels": {"a": "1", "theirs": "2"},
                "annotations": {COPY: "{}", "kept": "1"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "ServiceImport", "name": "api", "uid": "u"}],
                "managedFields": [entry(MANAGER, ours), entry("kubectl", json!({"f:metadata": {"f:labels": {"f:theirs": {}}}}))],
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"]}],
            "ports": [{"port": 80}],
        });
        serde_json::from_value(object).unwrap()
    }

    fn trimmed() -> EndpointSlice {
        let mut slice = slice();
        trim(&mut slice, Watched::Slices);
        shrink(&mut slice);
        slice
    }

    #[test]
    fn what_is_trimmed_says_what_is_read() {
        let (whole, trimmed) = (slice(), trimmed());
        let bare = |slice: &EndpointSlice| {
            let mut slice = slice.clone();
            slice.metadata.managed_fields = None;
            slice.annotations_mut().remove(COPY);
            slice
        };
        assert_eq!(bare(&whole), bare(&trimmed));
        let managers: Vec<_> =
            trimmed.metadata.managed_fields.iter().flatten().map(|of| of.manager.as_deref()).collect();
        assert_eq!(managers, [Some(MANAGER)]);
    }

    #[test]
    fn what_we_applied_is_still_told_from_what_we_did_not() {
        let wanted = |labels: Value| {
            let meta =
                json!({"name": "api-east", "namespace": "shop", "labels": labels, "ownerReferences": [{"uid": "u"}]});
            json!({"metadata": meta, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]})
        };
        for observed in [slice(), trimmed()].map(|slice| serde_json::to_value(slice).unwrap()) {
            assert!(!differs(&wanted(json!({"a": "1"})), &observed, MANAGER, ""));
            assert!(differs(&wanted(json!({})), &observed, MANAGER, ""), "a label that we applied is to go");
            assert!(differs(&wanted(json!({"a": "2"})), &observed, MANAGER, ""));
        }
    }

    #[test]
    fn lists_have_room_for_what_is_in_them() {
        let EndpointSlice { metadata, endpoints, ports, .. } = trimmed();
        fn spare<T>(of: Option<&Vec<T>>) -> usize {
            of.map_or(0, |list| list.capacity() - list.len())
        }
        let addresses = endpoints.as_ref().map(|endpoints| &endpoints[0].addresses);
        assert_eq!([spare(endpoints.as_ref()), spare(ports.as_ref()), spare(addresses)], [0; 3]);
        assert_eq!([spare(metadata.managed_fields.as_ref()), spare(metadata.owner_references.as_ref())], [0; 2]);
    }

    #[test]
    fn nobody_reads_who_applied_what_of_nodes() {
        let mut node = slice();
        trim(&mut node, Watched::Nodes);
        assert_eq!(node.metadata.managed_fields, Some(Vec::new()));
    }
}
