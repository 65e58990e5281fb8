//! ● The same decision where what a cluster is trusted by is in the Secret that its ClusterLink names.

use super::{Plan, decide};
use crate::cmd::linking::Change;
use isthmus_certs::{TrustAnchors, TrustDomain};
use isthmus_control_kube::secrets::{CA, Linked, credentials};

/// What linking with the cluster that offers `offered` would do, as [`decide`] has it. A link whose Secret says nothing that can be read is
/// no new one: who it is for is not known, and only `replace` takes another.
pub(in crate::cmd) fn decide_by(
    linked: &Linked,
    offered: &TrustAnchors,
    replace: bool,
    proven: impl Fn(&TrustAnchors) -> bool,
) -> Result<Plan, String> {
    match known(linked, offered.domain()) {
        Ok(known) => decide(known, offered, replace, proven),
        Err(_) if replace => Ok(Plan { change: Change::Replaced, bundle: offered.clone() }),
        Err(why) => {
            let cluster = &offered.domain().cluster;
            Err(format!(
                "{cluster} may be trusted already, by what cannot be read: {why}: put that right, or say that it may come with \
                 any CA (`isthmus join --replace` where you join, `isthmus invite --replace {cluster}` where you invite)"
            ))
        }
    }
}

/// What it is trusted by; an error if there is something that does not say it.
fn known(linked: &Linked, domain: &TrustDomain) -> Result<Option<TrustAnchors>, String> {
    let cluster = domain.cluster.as_str();
    let name = linked.names.clone().unwrap_or_else(|| credentials(cluster));
    let Some(kept) = &linked.trusted else {
        return match &linked.names {
            Some(name) => Err(format!("the ClusterLink {cluster} names the Secret {name}, which is not there")),
            None => Ok(None),
        };
    };
    let text = kept.data.get(CA).ok_or_else(|| format!("the Secret {name}: found no key {CA}"))?;
    TrustAnchors::from_pem(domain.clone(), text).map(Some).map_err(|why| format!("the Secret {name}: {CA}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_certs::Authority;
    use isthmus_control_kube::secrets::Kept;
    use std::time::SystemTime;

    fn ca() -> (Authority, TrustAnchors) {
        let authority = Authority::create("east.demo".parse().unwrap(), SystemTime::now()).unwrap();
        let bundle = TrustAnchors::new(authority.domain().clone(), vec![authority.certificate().clone()]).unwrap();
        (authority, bundle)
    }

    fn kept(key: &str, text: &str) -> Option<Kept> {
        Some(Kept { data: [(key.to_owned(), text.as_bytes().to_vec())].into(), ..Kept::default() })
    }

    #[test]
    fn a_link_that_names_any_secret_is_replaced_only_if_that_is_wanted() {
        let ((_, old), (_, new)) = (ca(), ca());
        let is_old = |known: &TrustAnchors| *known == old;
        let nobody = |_: &TrustAnchors| false;
        let pem = old.to_pem();
        let unknown = Linked::by(false, None, None);
        assert_eq!(decide_by(&unknown, &new, false, nobody).unwrap().change, Change::New);
        // By the Secret that the link names, whatever it is called, and by one that is left of a link.
        let theirs = Linked::by(true, Some("of-the-admin"), kept(CA, &pem));
        for linked in [theirs.clone(), Linked::by(false, None, kept(CA, &pem))] {
            assert_eq!(decide_by(&linked, &old, false, is_old).unwrap().change, Change::Renewed);
            assert!(decide_by(&linked, &new, false, nobody).unwrap_err().contains("with another CA"));
            assert_eq!(
                decide_by(&linked, &new, true, nobody).unwrap(),
                Plan { change: Change::Replaced, bundle: new.clone() }
            );
        }
        // Where nobody can say whom it is for, even who could prove it has to be let in.
        for (linked, why) in [
            (Linked::by(true, Some("gone"), None), "names the Secret gone, which is not there"),
            (Linked::by(true, Some("bad"), kept("ca.crt", &pem)), "the Secret bad: found no key ca.pem"),
            (Linked::by(true, None, kept(CA, "x")), "the Secret isthmus-link-east: ca.pem: "),
        ] {
            let refused = decide_by(&linked, &old, false, is_old).unwrap_err();
            assert!(refused.contains(why), "{refused}");
            assert_eq!(decide_by(&linked, &new, true, nobody).unwrap().change, Change::Replaced);
        }
    }
}
