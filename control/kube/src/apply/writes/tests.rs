#![allow(clippy::needless_pass_by_value, reason = "values are written where they are used")]

use super::*;
use proptest::prelude::*;

fn import(mut labels: Value) -> ServiceImport {
    labels[mcs::MANAGED_BY] = json!(mcs::MANAGER);
    serde_json::from_value(json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
        "metadata": {"namespace": "shop", "name": "api", "labels": labels},
        "spec": {"type": "ClusterSetIP", "ports": [{"port": 80, "protocol": "TCP"}], "ipFamilies": ["IPv4"]},
    }))
    .unwrap()
}

/// As the API server has it once it was applied.
fn stored(mut import: ServiceImport) -> ServiceImport {
    let fields = json!([{"manager": MANAGER, "operation": "Apply", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:ports": {}, "f:type": {}, "f:ipFamilies": {}}}}]);
    import.metadata.managed_fields = serde_json::from_value(fields).unwrap();
    import.metadata.uid = Some("u".into());
    import
}

fn key() -> ObjectKey {
    ObjectKey::new("shop", "api")
}

fn world(import: ServiceImport) -> World {
    World { imports: [import].into_iter().collect(), ..World::default() }
}

#[test]
fn what_is_there_is_not_written() {
    let plan = ServicePlan { import: Some(import(json!({"a": "1"}))), ..ServicePlan::default() };
    assert_eq!(of_service(&key(), &plan, &world(stored(import(json!({"a": "1"}))))), []);
    let [write] = &of_service(&key(), &plan, &World::default())[..] else { panic!() };
    assert_eq!(write.target.to_string(), "ServiceImport shop/api");
    let Action::Create(body) = &write.action else { panic!("{:?}", write.action) };
    assert_eq!(body["apiVersion"], "multicluster.x-k8s.io/v1beta1");
}

#[test]
fn only_the_object_that_was_seen_is_changed() {
    let plan = ServicePlan { import: Some(import(json!({"b": "1"}))), ..ServicePlan::default() };
    let writes = of_service(&key(), &plan, &world(stored(import(json!({})))));
    assert!(matches!(&writes[..], [Write { action: Action::Apply(body), .. }] if body["metadata"]["uid"] == "u"));
}

/// It came after the plan was made.
#[test]
fn what_somebody_else_made_is_not_written() {
    let status: Option<crate::api::mcs::ServiceImportStatus> =
        serde_json::from_value(json!({"clusters": [{"cluster": "east"}]})).unwrap();
    let plan = ServicePlan { import: Some(import(json!({"b": "1"}))), import_status: status, ..ServicePlan::default() };
    let mut theirs = stored(import(json!({})));
    theirs.metadata.labels = None;
    assert_eq!(of_service(&key(), &plan, &world(theirs)), []);
}

#[test]
fn a_status_waits_for_its_object_and_is_written_when_it_differs() {
    let status = ServicePlan {
        import_status: serde_json::from_value(json!({"clusters": [{"cluster": "east"}]})).unwrap(),
        ..ServicePlan::default()
    };
    assert_eq!(of_service(&key(), &status, &World::default()), []);
    let mut there = stored(import(json!({})));
    let [write] = &of_service(&key(), &status, &world(there.clone()))[..] else { panic!() };
    assert_eq!(write.target.to_string(), "ServiceImport shop/api, status");
    there.status = status.import_status.clone();
    assert_eq!(of_service(&key(), &status, &world(there)), []);
}

#[test]
fn what_is_going_is_left_until_it_has_gone() {
    let plan = ServicePlan { import: Some(import(json!({"b": "1"}))), ..ServicePlan::default() };
    let mut going = stored(import(json!({})));
    going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-21T00:00:00Z")).unwrap();
    assert_eq!(of_service(&key(), &plan, &world(going)), []);
}

#[test]
fn only_the_object_that_was_seen_is_deleted() {
    let unwanted = Unwanted { kind: mcs::Kind::Slice, key: key(), uid: Some("u".into()) };
    let plan = ServicePlan { unwanted: vec![unwanted], ..ServicePlan::default() };
    let writes = of_service(&key(), &plan, &World::default());
    assert!(matches!(&writes[..], [Write { action: Action::Delete { uid: Some(uid) }, .. }] if uid == "u"));
}

/// A slice of ours with a label, as the API server has it in one of its versions.
fn slice_with(label: u8, version: usize) -> EndpointSlice {
    let fields = json!({"f:metadata": {"f:labels": {"f:a": {}}}});
    serde_json::from_value(json!({
        "metadata": {
            "namespace": "shop", "name": "api-east", "uid": "u", "resourceVersion": version.to_string(),
            "labels": {"a": label.to_string(), mcs::SLICE_MANAGED_BY: mcs::SLICE_MANAGER},
            "managedFields": [{"manager": MANAGER, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields}],
        },
        "addressType": "IPv4", "endpoints": [],
    }))
    .unwrap()
}

/// The same, as it is to be.
fn wanted_with(label: u8) -> Wanted {
    let mut slice = slice_with(label, 1);
    slice.metadata.managed_fields = None;
    (slice.metadata.uid, slice.metadata.resource_version) = (None, None);
    Wanted::of(&slice).unwrap()
}

#[test]
fn a_slice_that_was_found_right_is_compared_again_once_it_has_changed() {
    let wanted = wanted_with(1);
    let plan = ServicePlan { slices: vec![wanted.clone()], ..ServicePlan::default() };
    let writes = |label, version| {
        let slices = [slice_with(label, version)].into_iter().collect();
        of_service(&key(), &plan, &World { slices, ..World::default() })
    };
    assert_eq!(writes(1, 1), []);
    assert!(wanted.is_known_right(&slice_with(1, 1)));
    let [write] = &writes(2, 2)[..] else { panic!("somebody has changed it") };
    assert_eq!(write.target.to_string(), "EndpointSlice shop/api-east");
    assert_eq!(writes(1, 3), []);
}

proptest! {
    /// Each step somebody may change the object, or another plan want something else of it.
    #[test]
    fn what_is_known_of_slices_changes_no_write(steps in prop::collection::vec((0u8..3, 0u8..3), 1..20)) {
        let mut wanted = wanted_with(0);
        for (version, (label, is_wanted)) in steps.into_iter().enumerate() {
            let anew = wanted_with(is_wanted);
            if wanted != anew {
                wanted = anew.clone();
            }
            // Looked at twice, as of an object that has not changed meanwhile.
            for _ in 0..2 {
                let observed = Arc::new(slice_with(label, version));
                prop_assert_eq!(slice(&wanted, Some(&observed)), slice(&anew, Some(&observed)));
                prop_assert_eq!(slice(&wanted, Some(&observed)).is_none(), label == is_wanted);
            }
        }
    }
}
