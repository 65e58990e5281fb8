//! Whether the identity directory has what the configuration needs.

use crate::cmd::{
    check::line::{Line, Lines},
    identity::words::shell,
};
use isthmus_certs::{Directory, Identity, Role, TrustDomain};
use isthmus_control::{Config, config::ControlAt};
use isthmus_control_api::ClusterName;
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
    let identity = match directory.load() {
        Ok(identity) => identity,
        Err(error) => {
            lines.failed("identity.files", wanted, error.to_string(), make(config));
            return lines.into_vec();
        }
    };
    lines.ok("identity.files", wanted, Some(identity.id().to_string()));
    belongs(&mut lines, config, &identity, role);
    validity(&mut lines, config, &identity, directory.has_authority(), now);
    rights(&mut lines, &directory);
    for cluster in config.links.keys() {
        trust(&mut lines, config, &identity, cluster, now);
    }
    lines.into_vec()
}

/// What makes one.
fn make(config: &Config) -> String {
    let Config { clusterset, cluster, identity, .. } = config;
    let out = shell(identity);
    format!(
        "isthmus identity init --clusterset {clusterset} --cluster {cluster} --out {out}, if there is none; else restore the file"
    )
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

fn trust(lines: &mut Lines, config: &Config, identity: &Identity, cluster: &ClusterName, now: SystemTime) {
    let wanted = format!("it trusts the CA of {cluster}");
    let directory = shell(&config.identity);
    let take = format!(
        "isthmus identity trust --identity {directory} --cluster {cluster} --bundle CA.PEM, with the ca.pem of {cluster}"
    );
    let Some(bundle) = identity.bundle(cluster) else {
        return lines.failed(
            "identity.trust",
            wanted,
            "found no bundle of it",
            format!("{take}; or isthmus join does all of it"),
        );
    };
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
