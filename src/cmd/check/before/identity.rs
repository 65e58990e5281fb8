//! Whether the identity directory has what the configuration needs.

mod fix;

use crate::cmd::{
    check::{
        line::{Line, Lines},
        trust,
    },
    identity::words::shell,
};
use isthmus_certs::{Directory, Identity, Role, TrustDomain, issue::SVID_LIFETIME};
use isthmus_control::{Config, config::ControlAt};
use isthmus_control_api::ClusterName;
use isthmus_gateway::status::untrusted;
use std::time::{Duration, SystemTime};

/// A bundle that ends within this time is to be replaced: its peer has to be asked for its next CA.
const SOON: Duration = Duration::from_hours(24 * 30);

/// Lines about it.
pub(super) fn lines(config: &Config, now: SystemTime) -> Vec<Line> {
    let mut lines = Lines::about(format!("identity {}", config.identity.display()));
    let wanted = "it is there, and in order";
    if config.kubernetes.as_ref().is_some_and(|kubernetes| kubernetes.ca_secret.is_some()) {
        lines.skipped(
            "identity.files",
            wanted,
            "control makes it of the Secret that registry.kubernetes.caSecret names",
        );
        return lines.into_vec();
    }
    let role = match config.control {
        Some(ControlAt::Listen { .. }) => Role::Control,
        _ => Role::Gateway,
    };
    let directory = Directory::of(&config.identity, role).with_bundles(config.bundles.as_deref());
    let (identity, found) = match directory.load() {
        Ok(identity) => {
            let id = identity.id().to_string();
            (identity, id)
        }
        Err(error) => match made_at_start(&directory, now) {
            Some(identity) => (identity, format!("{error}: the start makes an SVID, from ca.key")),
            None => {
                lines.failed("identity.files", wanted, error.to_string(), fix::of(&error, config, &directory));
                return lines.into_vec();
            }
        },
    };
    lines.ok("identity.files", wanted, Some(found));
    belongs(&mut lines, config, &identity, role);
    validity(&mut lines, config, &identity, directory.has_authority(), now);
    rights(&mut lines, &directory);
    for cluster in config.links.keys() {
        trust(&mut lines, config, (&directory, &identity), cluster, now);
    }
    lines.into_vec()
}

/// What a start has where the SVID is missing or broken and the CA's key is here; nothing is written.
fn made_at_start(directory: &Directory, now: SystemTime) -> Option<Identity> {
    if directory.load_own().is_ok() {
        return None;
    }
    let svid = directory.issue_own(SVID_LIFETIME, now).ok()??;
    let domain = directory.authority().ok()??.domain().clone();
    let bundle = |cluster: ClusterName| directory.bundle(&domain.sibling(&cluster)).ok()?;
    let bundles: Option<Vec<_>> = directory.bundled().ok()?.into_iter().map(bundle).collect();
    Identity::new(svid, bundles?).ok()
}

fn belongs(lines: &mut Lines, config: &Config, identity: &Identity, role: Role) {
    let wanted = "it is this cluster's, and of the right role";
    let expected = TrustDomain::new(config.cluster.clone(), config.clusterset.clone()).to_string();
    let found = identity.domain().to_string();
    if found != expected {
        let fix = format!("name the directory of {expected} in `identity`, or correct `cluster` and `clusterset`");
        lines.failed("identity.cluster", wanted, format!("found that of {found}, expected that of {expected}"), fix);
    } else if identity.role() != role {
        let (found, expected) = (identity.role().as_str(), role.as_str());
        let fix = format!("isthmus identity issue --service-account isthmus-system/{expected} makes one");
        lines.failed(
            "identity.cluster",
            wanted,
            format!("found the SVID of a {found}, expected that of a {expected}"),
            fix,
        );
    } else {
        lines.ok("identity.cluster", wanted, None);
    }
}

fn validity(lines: &mut Lines, config: &Config, identity: &Identity, renews: bool, now: SystemTime) {
    let (wanted, validity) = ("its certificate is valid", identity.validity());
    let renew = format!("isthmus identity renew {}", shell(&config.identity));
    if now < validity.not_before {
        let fix = format!("set this machine's clock (`timedatectl set-ntp true`), then {renew}");
        lines.failed(
            "identity.validity",
            wanted,
            "it is not valid yet: this clock is behind, or another one was ahead",
            fix,
        );
    } else if now > validity.not_after && !renews {
        let fix = format!("have whoever has the CA renew it ({renew}, where ca.key is)");
        lines.failed("identity.validity", wanted, "it has ended, and ca.key is not here: nobody renews it", fix);
    } else if now > validity.not_after {
        lines.ok(
            "identity.validity",
            wanted,
            Some("it has ended, and is renewed at the start, from ca.key".to_owned()),
        );
    } else {
        lines.ok("identity.validity", wanted, None);
    }
}

fn rights(lines: &mut Lines, directory: &Directory) {
    let wanted = "nobody else can read its keys or change it";
    match directory.warnings() {
        Ok(warnings) if warnings.is_empty() => lines.ok("identity.rights", wanted, None),
        Ok(warnings) => {
            let fix = format!("chmod -R go= {}", shell(directory.path()));
            lines.failed("identity.rights", wanted, warnings.join("\n"), fix);
        }
        Err(error) => lines.skipped("identity.rights", wanted, error.to_string()),
    }
}

fn trust(
    lines: &mut Lines,
    config: &Config,
    (directory, identity): (&Directory, &Identity),
    cluster: &ClusterName,
    now: SystemTime,
) {
    let wanted = format!("it trusts the CA of {cluster}");
    let Some(bundle) = identity.bundle(cluster) else {
        let found = untrusted(cluster.as_str(), Some(&directory.bundle_path(cluster)));
        let fix = trust::by_hand(Some(&config.identity), cluster.as_str(), &shell(&config.path));
        return lines.failed("identity.trust", wanted, found, fix);
    };
    let take = fix::take(config, cluster.as_str());
    let last = bundle.validities().map(|validity| validity.not_after).max().unwrap_or(now);
    match last.duration_since(now) {
        Err(_) => lines.failed("identity.trust", wanted, "all of its CA certificates have ended", take),
        Ok(left) if left < SOON => {
            let found = format!("its CA ends within {} days", left.as_secs() / 86_400 + 1);
            lines.failed("identity.trust", wanted, found, format!("get its next one before that: {take}"));
        }
        Ok(_) => lines.ok("identity.trust", wanted, None),
    }
}
