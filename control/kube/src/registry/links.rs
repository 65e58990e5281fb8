//! ● ClusterLinks as links: each by itself, so that one that is wrong is a link less and no more.

use crate::{
    api::link::{ClusterLink, ClusterLinkSpec},
    mcs::in_words,
};
use isthmus_control::{MOST_LINKS, config::policy::limits_of_link_from_json, registry::DesiredLink};
use isthmus_control_api::{ClusterName, Link, Namespaces, PeerAddress, TransportChoice};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Links by the cluster that they lead to.
pub(super) type Links = BTreeMap<ClusterName, DesiredLink>;

/// What is wrong with ClusterLinks, by their names.
pub(super) type Wrong = BTreeMap<String, String>;

/// The links of `all`, beside those of the file, and what is wrong with the others. `own` is this cluster. What was good stays as it was
/// where it is wrong now; one whose object has gone ends.
pub(super) fn links<'a>(
    all: impl Iterator<Item = &'a Arc<ClusterLink>>,
    file: &Links,
    own: &ClusterName,
    before: &Links,
) -> (Links, Wrong) {
    let (mut links, mut wrong) = (Links::new(), Wrong::new());
    for object in all {
        let name = object.metadata.name.clone().unwrap_or_default();
        let Some(cluster) = name.parse::<ClusterName>().ok().filter(|cluster| cluster != own) else {
            wrong.insert(
                name,
                format!("metadata.name: found {own:?}, expected another cluster's id", own = own.as_str()),
            );
            continue;
        };
        if file.contains_key(&cluster) {
            wrong.insert(name, "the configuration file has a link with the cluster, too, and that one counts".into());
            continue;
        }
        if file.len() + links.len() >= MOST_LINKS {
            wrong.insert(name, format!("more than {MOST_LINKS} links"));
            continue;
        }
        match link(&object.spec) {
            Ok(link) => {
                links.insert(cluster, link);
            }
            Err(why) => {
                wrong.insert(name, why);
                if let Some(good) = before.get(&cluster) {
                    links.insert(cluster, good.clone());
                }
            }
        }
    }
    (links, wrong)
}

/// The clusters whose services are mirrored.
pub(super) fn mirrored<'a>(all: impl Iterator<Item = &'a Arc<ClusterLink>>) -> BTreeSet<ClusterName> {
    let mirrors = all.filter(|link| link.spec.mirror);
    mirrors.filter_map(|link| link.metadata.name.as_deref()?.parse().ok()).collect()
}

fn link(spec: &ClusterLinkSpec) -> Result<DesiredLink, String> {
    let endpoints = spec.endpoints.iter().enumerate().map(|(index, text)| {
        text.parse::<PeerAddress>()
            .map_err(|_| format!("spec.endpoints[{index}]: found {text:?}, expected host:port, port 1 to 65535"))
    });
    let transport = match spec.transport.as_deref() {
        None | Some("auto") => TransportChoice::Auto,
        Some("tls") => TransportChoice::Tls,
        Some("quic") => TransportChoice::Quic,
        Some("h2") => TransportChoice::H2,
        Some(other) => return Err(format!("spec.transport: found {other:?}, expected auto, tls, quic or h2")),
    };
    let limits = spec.limits.as_ref().map(|limits| limits_of_link_from_json("spec.limits", limits));
    Ok(DesiredLink {
        link: Link {
            endpoints: endpoints.collect::<Result<_, _>>()?,
            transport,
            relay: None,
            exports: namespaces(spec.export_namespaces.as_deref()),
            limits: limits.transpose().map_err(|errors| in_words(&errors))?.unwrap_or_default(),
        },
        imports: namespaces(spec.import_namespaces.as_deref()),
        ..DesiredLink::default()
    })
}

/// `*` among them, or none stated: all.
fn namespaces(stated: Option<&[String]>) -> Namespaces {
    match stated {
        Some(these) if !these.iter().any(|name| name == "*") => {
            Namespaces::Only(these.iter().map(|name| name.as_str().into()).collect())
        }
        _ => Namespaces::All,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_pass_by_value, reason = "values are written where they are used")]

    use super::*;
    use isthmus_control_api::Limits;
    use serde_json::{Value, json};

    fn object(name: &str, spec: Value) -> Arc<ClusterLink> {
        let object = json!({"apiVersion": "isthmus.io/v1alpha1", "kind": "ClusterLink", "metadata": {"name": name}, "spec": spec});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn name(text: &str) -> ClusterName {
        text.parse().unwrap()
    }

    fn taken(objects: &[Arc<ClusterLink>], file: &Links, before: &Links) -> (Vec<String>, Vec<String>) {
        let (links, wrong) = links(objects.iter(), file, &name("west"), before);
        (
            links.into_keys().map(String::from).collect(),
            wrong.into_iter().map(|(name, why)| format!("{name}: {why}")).collect(),
        )
    }

    #[test]
    fn a_link_is_what_its_object_says() {
        let spec = json!({
            "endpoints": ["203.0.113.7:15008", "gw.east.example:15008"],
            "transport": "tls",
            "exportNamespaces": ["shop"],
            "limits": {"streams": 500, "bytesPerSecond": "1MiB"},
        });
        let (links, wrong) = links([object("east", spec)].iter(), &Links::new(), &name("west"), &Links::new());
        assert!(wrong.is_empty());
        let link = &links[&name("east")];
        assert_eq!(link.link.endpoints.len(), 2);
        assert_eq!(link.link.transport, TransportChoice::Tls);
        let limits = Limits { streams: Some(500), bytes_per_second: Some(1 << 20), ..Limits::default() };
        assert_eq!(link.link.limits, limits);
        assert!(
            link.link.exports.contains("shop")
                && !link.link.exports.contains("other")
                && link.imports.contains("other")
        );
    }

    #[test]
    fn one_that_is_wrong_says_why_and_takes_no_other_with_it() {
        let objects = [
            object("east", json!({"endpoints": ["east"]})),
            object("north", json!({"transport": "carrier-pigeon"})),
            object("narrow", json!({"limits": {"streams": 0, "stream": 5}})),
            object("south", json!({})),
            object("west", json!({})),
        ];
        let (links, wrong) = taken(&objects, &Links::new(), &Links::new());
        assert_eq!(links, ["south"]);
        assert_eq!(
            wrong,
            [
                "east: spec.endpoints[0]: found \"east\", expected host:port, port 1 to 65535",
                "narrow: spec.limits.stream: found an unknown key, expected \"streams\"; spec.limits.streams: found \"0\", expected a number from 1 to 10000000",
                "north: spec.transport: found \"carrier-pigeon\", expected auto, tls, quic or h2",
                "west: metadata.name: found \"west\", expected another cluster's id",
            ]
        );
    }

    #[test]
    fn what_was_good_stays_and_the_file_counts() {
        let bad = [object("east", json!({"endpoints": ["east"]}))];
        let before = Links::from([(name("east"), DesiredLink::default())]);
        let (links, wrong) = taken(&bad, &Links::new(), &before);
        assert_eq!((links.len(), wrong.len()), (1, 1));
        assert_eq!(taken(&[], &Links::new(), &before).0, [""; 0], "its object has gone");
        let (links, wrong) = taken(&[object("east", json!({}))], &before, &Links::new());
        assert!(links.is_empty());
        assert_eq!(wrong, ["east: the configuration file has a link with the cluster, too, and that one counts"]);
    }
}
