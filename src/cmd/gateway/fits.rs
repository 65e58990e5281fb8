//! ● Whether this gateway can serve a table: control does not know which addresses it has for itself.

use isthmus_control::Config;
use isthmus_control_api::{Listen, Table};

/// Says why not: an import's listener would be where the gateway itself listens.
pub(super) fn check(config: &Config) -> impl Fn(&Table) -> Result<(), String> + Send + Sync + use<> {
    let tunnel = config.tunnel.listen;
    let own = [
        ("admin", Listen::tcp(config.admin)),
        ("tunnel.listen", Listen::tcp(tunnel)),
        ("tunnel.listen", Listen::udp(tunnel)),
    ];
    move |table| {
        let mut pairs = table.imports.iter().flat_map(|import| own.iter().map(move |own| (import, own)));
        match pairs.find(|((listen, _), (_, own))| overlap(listen, own)) {
            None => Ok(()),
            Some(((listen, import), (key, own))) => Err(format!(
                "imports: found {} at {listen}, which {key} of this gateway has with {own}, expected an address of its own",
                import.service
            )),
        }
    }
}

/// Whether both cannot be listened on: an address and the wildcard are one.
fn overlap(one: &Listen, other: &Listen) -> bool {
    let (ip, of_other) = (one.address.ip(), other.address.ip());
    let same = ip == of_other || ip.is_unspecified() || of_other.is_unspecified();
    same && one.address.port() == other.address.port() && one.protocol == other.protocol
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_control_api::{Affinity, Import, ServicePort};
    use std::path::Path;

    #[test]
    fn an_import_may_not_take_the_gateways_own_place() {
        let text = "clusterset: demo\ncluster: west\nidentity: id\ntunnel: {listen: \"192.0.2.1:15008\"}\n";
        let fits = check(&Config::parse(text, Path::new("west.yaml")).unwrap());
        let service = ServicePort::tcp("shop/api".parse().unwrap(), 80);
        let import = Import {
            service,
            affinity: Affinity::None,
            clusters: Default::default(),
            weights: None,
            sticky: false,
            policy: Default::default(),
        };
        let at = |listen: &str| Table {
            imports: [(listen.parse().unwrap(), import.clone().into())].into(),
            ..Table::default()
        };
        for good in ["127.0.0.1:18080", "127.0.0.1:15008", "127.0.0.1:15020/udp", "192.0.2.2:15008"] {
            assert_eq!(fits(&at(good)), Ok(()), "{good}");
        }
        for bad in ["127.0.0.1:15020", "0.0.0.0:15020", "192.0.2.1:15008", "0.0.0.0:15008/udp"] {
            let why = fits(&at(bad)).unwrap_err();
            assert!(why.starts_with(&format!("imports: found shop/api:80 at {bad}, which ")), "{why}");
        }
    }
}
