//! ● What the Secrets say, and what is to be done about it.

use isthmus_certs::{Authority, Identity, Revoked, Svid, TrustAnchors, TrustDomain, portable, renew::Renewal};
use isthmus_control_api::ClusterName;
use isthmus_control_kube::secrets::{CA, CRL, Data, GATEWAY, INVITE_KEY, TRUST, View, invitation};
use isthmus_link::Invite;
use std::{collections::BTreeMap, time::SystemTime};

/// The keys of a Secret that is an identity, as the files of a directory.
pub(super) const SVID: &str = "svid.pem";
pub(super) const SVID_KEY: &str = "svid.key";
pub(super) const CA_KEY: &str = "ca.key";

/// By what a linked cluster is trusted, as the Secret that its link names has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// By these; with what they have revoked, as a text that was checked.
    By(TrustAnchors, Option<Vec<u8>>),
    /// The Secret cannot be used: what was known before stays.
    Broken(String),
    /// There is no Secret: it is not trusted.
    Missing(String),
}

/// What a Secret's keys are to become; `None`: they go.
pub(super) type Changes = BTreeMap<String, Option<Vec<u8>>>;

/// By what each cluster is trusted whose link names a Secret.
pub(super) fn trust(view: &View, own: &TrustDomain) -> BTreeMap<ClusterName, Trust> {
    let linked = view.links.iter().filter_map(|(name, secret)| Some((name.parse().ok()?, secret.as_deref()?)));
    let linked = linked.filter(|(cluster, _): &(ClusterName, _)| *cluster != own.cluster);
    linked.map(|(cluster, secret)| (cluster.clone(), trust_in(view, own, &cluster, secret))).collect()
}

fn trust_in(view: &View, own: &TrustDomain, cluster: &ClusterName, secret: &str) -> Trust {
    let Some(kept) = view.secrets.get(secret) else {
        return Trust::Missing(format!("spec.credentialsRef: found no Secret {secret} beside the gateways"));
    };
    let Some(text) = kept.data.get(CA) else {
        return Trust::Broken(format!(
            "spec.credentialsRef: found no key {CA} in the Secret {secret}, expected the peer's CA"
        ));
    };
    let broken = |key: &str, why| Trust::Broken(format!("spec.credentialsRef: the Secret {secret}: {key}: {why}"));
    let anchors = match TrustAnchors::from_pem(own.sibling(cluster), text) {
        Ok(anchors) => anchors,
        Err(why) => return broken(CA, why),
    };
    let crl = kept.data.get(CRL);
    // A list that cannot be read may be of somebody who must not come in: what was known before stays.
    match crl.map(|crl| anchors.clone().with_revocations_from_pem(crl)).transpose() {
        Ok(_) => Trust::By(anchors, crl.cloned()),
        Err(why) => broken(CRL, why),
    }
}

/// What the Secret that gateways trust by has to become; nothing if it is as it should be.
pub(super) fn trust_changes(view: &View, trust: &BTreeMap<ClusterName, Trust>) -> Changes {
    let file = |cluster: &ClusterName, kind: &str| format!("{cluster}.{kind}");
    let known = view.secrets.get(TRUST).map(|kept| &kept.data);
    let mut changes = Changes::new();
    for (cluster, trust) in trust {
        let Trust::By(anchors, crl) = trust else { continue };
        let texts = [("pem", Some(anchors.to_pem().into_bytes())), ("crl", crl.clone())];
        for (kind, text) in texts.into_iter().filter_map(|(kind, text)| Some((kind, text?))) {
            let name = file(cluster, kind);
            if known.and_then(|known| known.get(&name)) != Some(&text) {
                changes.insert(name, Some(text));
            }
        }
    }
    let stays: Vec<_> = trust
        .iter()
        .flat_map(|(cluster, trust)| match trust {
            Trust::Missing(_) => vec![],
            Trust::By(_, None) => vec![file(cluster, "pem")],
            Trust::By(_, Some(_)) | Trust::Broken(_) => vec![file(cluster, "pem"), file(cluster, "crl")],
        })
        .collect();
    let goes = known.into_iter().flat_map(Data::keys).filter(|name| !stays.contains(name));
    changes.extend(goes.map(|name| (name.clone(), None)));
    changes
}

/// What this cluster's CA, whose `ca.pem` is `bundle`, has revoked, by its Secret `ca`: a text that was checked; `None`: nothing.
///
/// # Errors
/// What is wrong with it: what was known before stays.
pub(super) fn revoked(view: &View, ca: &str, bundle: &TrustAnchors) -> Result<Option<Vec<u8>>, String> {
    let kept = view.secrets.get(ca).ok_or_else(|| format!("found no Secret {ca}, expected this cluster's CA in it"))?;
    let list = kept.data.get(CRL);
    // One that cannot be read may be of somebody who must not come in.
    let checked = list.map(|list| bundle.clone().with_revocations_from_pem(list)).transpose();
    checked.map(|_| list.cloned()).map_err(|why| format!("the Secret {ca}: {CRL}: {why}"))
}

/// What the gateways' Secret has to become for them to know what their own CA has revoked; nothing if it is as it should be.
pub(super) fn revoked_changes(view: &View, list: Option<&Vec<u8>>) -> Changes {
    let known = view.secrets.get(GATEWAY).and_then(|kept| kept.data.get(CRL));
    if known == list { Changes::new() } else { [(CRL.to_owned(), list.cloned())].into() }
}

/// Whether the gateways' SVID, as their Secret has it, serves on: it is of this CA, not near its end, and not revoked. `bundle` is what
/// `ca.pem` is, with what is revoked.
pub(super) fn serves(view: &View, bundle: &TrustAnchors, now: SystemTime) -> bool {
    let Some(kept) = view.secrets.get(GATEWAY) else { return false };
    let text = |key: &str| kept.data.get(key).map(Vec::as_slice).unwrap_or_default();
    let svid = Svid::from_pem(text(SVID), text(SVID_KEY));
    let identity = svid.and_then(|svid| portable::gateway(svid, bundle, now));
    // One leader at a time renews, so there is nobody to keep apart from.
    let is_due = |validity| Renewal::plan(validity, 0.5).due(now);
    let goes_on = |identity: Identity| !is_due(identity.validity()) && !is_revoked(&identity, bundle);
    text(CA) == bundle.to_pem().as_bytes() && identity.is_ok_and(goes_on)
}

fn is_revoked(identity: &Identity, bundle: &TrustAnchors) -> bool {
    let serial = Revoked::parse_serial(identity.serial());
    serial.is_ok_and(|serial| bundle.revocations().revoked().any(|revoked| revoked.serial == serial))
}

/// The gateways' Secret with this SVID.
pub(super) fn gateway(svid: &Svid, bundle: &TrustAnchors) -> Changes {
    let (chain, key) = svid.to_pem();
    let texts = [(CA, bundle.to_pem()), (SVID, chain), (SVID_KEY, key)];
    texts.map(|(name, text)| (name.to_owned(), Some(text.into_bytes()))).into()
}

/// The Secret with a new CA.
pub(super) fn authority(authority: &Authority) -> Changes {
    let (certificate, key) = authority.to_pem();
    [(CA, certificate), (CA_KEY, key)].map(|(name, text)| (name.to_owned(), Some(text.into_bytes()))).into()
}

/// The CA of a Secret's data, and the certificates of its `ca.pem`; `None` if it has none yet.
///
/// # Errors
/// What is wrong with it.
pub(super) fn own(data: &Data, domain: &TrustDomain) -> Result<Option<(Authority, TrustAnchors)>, String> {
    let (certificates, key) = match (data.get(CA), data.get(CA_KEY)) {
        (None, None) => return Ok(None),
        (Some(certificates), Some(key)) => (certificates, key),
        (found, _) => {
            let found = if found.is_some() { CA } else { CA_KEY };
            return Err(format!("found {found} alone, expected {CA} and {CA_KEY}, or neither"));
        }
    };
    let bundle = TrustAnchors::from_pem(domain.clone(), certificates).map_err(|why| format!("{CA}: {why}"))?;
    let authority = Authority::from_pem(certificates, key).map_err(|why| format!("{CA}, {CA_KEY}: {why}"))?;
    Ok(Some((authority, bundle)))
}

/// Whether a CA may be made where there is none: not for a cluster that others are linked with, who trust the one that it had.
///
/// # Errors
/// What there is that another CA would break, and what to do.
pub(super) fn may_create(trusts: bool, links: &[String]) -> Result<(), String> {
    let found = match links {
        [] if !trusts => return Ok(()),
        [] => format!("bundles of linked clusters in the Secret {TRUST}"),
        links => format!("ClusterLinks ({})", links.join(", ")),
    };
    Err(format!(
        "found no CA, and {found}, expected the CA that those trust: put it back (`isthmus install --identity DIR`, or the Secret from a \
         backup); or, to have a new one made, end all links first (`isthmus unlink`, on both sides), and empty {TRUST}"
    ))
}

/// The invitations that are kept, and the Secrets of those that nobody needs any more.
pub(super) fn invites(view: &View, now: SystemTime) -> (Vec<Invite>, Vec<String>) {
    let (mut all, mut over) = (Vec::new(), Vec::new());
    for (name, kept) in view.secrets.iter().filter(|(_, kept)| kept.is_invite) {
        let id = name.strip_prefix(&invitation("")).and_then(|id| id.parse().ok());
        let text = kept.data.get(INVITE_KEY).and_then(|text| std::str::from_utf8(text).ok());
        let Some(invite) = id.zip(text).and_then(|(id, text)| Invite::from_json(id, text)) else { continue };
        if invite.is_forgotten(now) { over.push(name.clone()) } else { all.push(invite) }
    }
    (all, over)
}

#[cfg(test)]
mod tests;
