//! ● Host names that are Services.

/// The Service that a host stands for to whoever is in `namespace`, as namespace and name; `None` if it can be none.
pub fn service(host: &str, namespace: &str) -> Option<(String, String)> {
    let labels: Vec<_> = host.trim_end_matches('.').split('.').collect();
    if labels.iter().any(|label| label.is_empty() || label.contains('*')) {
        return None;
    }
    match labels.as_slice() {
        [name] => Some((namespace.to_owned(), (*name).to_owned())),
        [name, namespace] | [name, namespace, "svc", ..] => Some(((*namespace).to_owned(), (*name).to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_whole_names_are_of_one_service() {
        for host in ["api", "api.shop", "api.shop.svc", "api.shop.svc.cluster.local", "api.shop.svc.clusterset.local."]
        {
            assert_eq!(service(host, "shop"), Some(("shop".into(), "api".into())), "{host}");
        }
        for host in ["", "*.shop.svc.cluster.local", "www.example.com", "api..svc"] {
            assert_eq!(service(host, "shop"), None, "{host}");
        }
    }
}
