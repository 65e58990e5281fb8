//! ● The services that stand for single endpoints.

use isthmus_control_api::ServiceName;
use sha2::{Digest as _, Sha256};

/// Bytes of the digest that a name has: 128 bits, so that nobody finds two that are alike.
const BYTES: usize = 16;

/// What such a name begins with.
const PREFIX: &str = "member-";

/// The name under which one endpoint of a headless service is served to peers: of the same namespace, so what is decided by
/// namespace holds for it, too. Both sides work it out, so a stream asks for it as for any other service.
pub fn member_service(service: &ServiceName, key: &str) -> ServiceName {
    // Neither a service's name nor a key has a slash.
    let digest = Sha256::digest(format!("{}/{key}", service.name()));
    let digits: String = digest.iter().take(BYTES).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{}/{PREFIX}{digits}", service.namespace()).parse();
    // A namespace that was good, and 39 letters, digits and a dash.
    name.unwrap_or_else(|_| service.clone())
}

/// Whether a name may be one of those.
pub fn is_member_service(service: &ServiceName) -> bool {
    service.name().starts_with(PREFIX) && service.name().len() == PREFIX.len() + 2 * BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_has_a_name_of_its_own_in_the_services_namespace() {
        let [db, other]: [ServiceName; 2] = ["shop/db", "shop/d"].map(|name| name.parse().unwrap());
        let names = [member_service(&db, "db-0"), member_service(&db, "db-1"), member_service(&other, "bdb-0")];
        assert!(names.iter().all(|name| name.namespace() == "shop" && is_member_service(name)));
        assert!(names[0] != names[1] && names[0] != names[2]);
        assert_eq!(names[0], member_service(&db, "db-0"));
    }
}
