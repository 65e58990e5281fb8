//! ● A stream's `:authority`: `<name>.<namespace>.svc.clusterset.local:<port>`, the name that the MCS API gives a service.

use isthmus_control_api::ServicePort;

const SUFFIX: &str = ".svc.clusterset.local";

/// An `:authority` that names no service port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("authority {0:?} is not <name>.<namespace>.svc.clusterset.local:<port>")]
pub struct BadAuthority(String);

/// The authority of a service port.
pub fn format(service: &ServicePort) -> String {
    format!("{}:{}", host(service), service.port)
}

/// The name alone.
pub fn host(service: &ServicePort) -> String {
    let service = &service.service;
    format!("{}.{}{SUFFIX}", service.name(), service.namespace())
}

/// Reads an authority. DNS names have no case, a port has no sign and no leading zeros.
///
/// # Errors
/// Anything else, with what was found.
pub fn parse(authority: &str) -> Result<ServicePort, BadAuthority> {
    split(authority).ok_or_else(|| BadAuthority(authority.chars().take(120).collect()))
}

fn split(authority: &str) -> Option<ServicePort> {
    let (host, port) = authority.rsplit_once(':')?;
    let (name, namespace) = {
        let cut = host.len().checked_sub(SUFFIX.len())?;
        let suffix = host.get(cut..)?;
        if !suffix.eq_ignore_ascii_case(SUFFIX) {
            return None;
        }
        host[..cut].split_once('.')?
    };
    let service = format!("{namespace}/{name}").to_ascii_lowercase();
    Some(ServicePort::tcp(service.parse().ok()?, parse_port(port)?))
}

/// 1 to 65535, in the one way to write it.
pub(super) fn parse_port(port: &str) -> Option<u16> {
    if port.starts_with('0') || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    port.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_a_service_of_the_clusterset_with_a_port_will_do() {
        let shop = ServicePort::tcp("shop/api".parse().unwrap(), 80);
        assert_eq!(parse("api.shop.svc.clusterset.local:80"), Ok(shop.clone()));
        assert_eq!(parse("API.Shop.svc.ClusterSet.local:80"), Ok(shop));
        for bad in [
            "",
            ":80",
            "api.shop.svc.clusterset.local",
            "api.shop.svc.clusterset.local:",
            "api.shop.svc.clusterset.local:0",
            "api.shop.svc.clusterset.local:080",
            "api.shop.svc.clusterset.local:+80",
            "api.shop.svc.clusterset.local:65536",
            "api.shop.svc.clusterset.local.:80",
            "api.shop.svc.cluster.local:80",
            "shop.svc.clusterset.local:80",
            "a.api.shop.svc.clusterset.local:80",
            ".shop.svc.clusterset.local:80",
            "api..svc.clusterset.local:80",
            "api/x.shop.svc.clusterset.local:80",
            "10.0.0.1:80",
            "[::1]:80",
            "ä.shop.svc.clusterset.local:80",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            ns in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
            name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
            port in 1_u16..,
        ) {
            let service = ServicePort::tcp(format!("{ns}/{name}").parse().unwrap(), port);
            prop_assert_eq!(parse(&format(&service)), Ok(service));
        }

        #[test]
        fn no_text_panics_and_what_is_read_can_be_written(text in ".{0,100}|[a-c.]{0,9}\\.svc\\.clusterset\\.local:[0-9]{0,6}") {
            if let Ok(service) = parse(&text) {
                prop_assert_eq!(format(&service), text.to_ascii_lowercase());
            }
        }
    }
}
