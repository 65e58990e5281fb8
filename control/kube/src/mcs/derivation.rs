//! ● Whose a Service is: what carries our mark can be written by anybody who may write Services in its namespace.

use super::{
    Grouped as _, Kind, ObjectKey, Problem, World,
    import::{KIND, MEMBER},
    marks::is_ours,
    names::derived_name,
};
use crate::{api::mcs::SOURCE_CLUSTER, compat::skupper, optional::OptionalKind};
use k8s_openapi::api::core::v1::Service;
use kube::{ResourceExt as _, api::DynamicObject};

/// Whether a Service is one that is derived from an import that is there: it says so, that import owns it, and its name is the one that
/// we give; or the same of a Listener. Nothing else is believed when it says which gateway ports are its own.
pub(super) fn is_derived(world: &World, service: &Service) -> bool {
    is_ours(service) && (is_imported(world, service) || is_listened_for(world, service))
}

/// Whether a Listener that is there owns it, and its name is the Listener's host.
fn is_listened_for(world: &World, service: &Service) -> bool {
    let ObjectKey { namespace, name } = ObjectKey::of(service);
    service.owner_references().iter().any(|owner| {
        let listener = world.optional_object(OptionalKind::Listener, &ObjectKey::new(&namespace, &owner.name));
        let is_owner = |object: &&DynamicObject| object.metadata.uid.as_ref() == Some(&owner.uid);
        let host = listener.map(|object| &**object).filter(is_owner).and_then(|object| skupper::listener(object).ok());
        owner.kind == OptionalKind::Listener.resource().kind && host.is_some_and(|listener| *listener.host == *name)
    })
}

fn is_imported(world: &World, service: &Service) -> bool {
    let import = |of: &ObjectKey| world.imports.get(of).filter(|import| is_ours(&***import)).cloned();
    let Some((of, import)) = service.group().and_then(|of| import(&of).map(|import| (of, import))) else {
        return false;
    };
    let uid = import.metadata.uid.as_ref();
    let owned = service.owner_references().iter().any(|owner| {
        owner.kind == KIND && owner.controller == Some(true) && *owner.name == *of.name && Some(&owner.uid) == uid
    });
    owned && has_derived_name(service, &of)
}

/// The Service of that name, if there is one.
///
/// # Errors
/// It is somebody else's, or belongs to another service of the clusterset than `of`.
pub(super) fn observed<'a>(world: &'a World, key: &ObjectKey, of: &ObjectKey) -> Result<Option<&'a Service>, Problem> {
    let Some(service) = world.services.get(key).map(|service| &**service) else { return Ok(None) };
    if !is_ours(service) {
        return Err(Problem::NotOurs { kind: Kind::Service, key: key.clone() });
    }
    match service.group() {
        Some(by) if by != *of => Err(Problem::Taken { key: key.clone(), by }),
        _ => Ok(Some(service)),
    }
}

/// The name of the Service that stands for one endpoint of a service.
pub(super) fn member_name(of: &ObjectKey, cluster: &str, member: &str) -> String {
    derived_name(&format!("{of}/{cluster}/{member}"))
}

/// The name of a service's mirror.
pub(super) fn mirror_name(of: &ObjectKey, cluster: &str) -> String {
    format!("{}-{cluster}", of.name)
}

/// The name of the union of the clusters that have it federated.
pub(super) fn federated_name(of: &ObjectKey) -> String {
    format!("{}-federated", of.name)
}

fn has_derived_name(service: &Service, of: &ObjectKey) -> bool {
    let label = |name| service.labels().get(name);
    let names = match (label(SOURCE_CLUSTER), label(MEMBER)) {
        (None, _) => vec![derived_name(&of.to_string()), federated_name(of)],
        (Some(cluster), Some(member)) => vec![member_name(of, cluster, member)],
        (Some(cluster), None) => vec![mirror_name(of, cluster)],
    };
    service.metadata.name.as_ref().is_some_and(|name| names.contains(name))
}
