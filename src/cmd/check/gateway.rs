//! ● What is wrong with a running gateway itself, by its status.

use super::line::{Line, Lines};
use crate::{cmd::identity::words::shell, output::count};
use isthmus_gateway::status::{IdentityReport, Status};
use serde_json::Value;
use std::{path::Path, time::SystemTime};

/// Lines about the gateway that answers at `admin`.
pub(super) fn lines(status: &Status, admin: &str, now: SystemTime) -> Vec<Line> {
    let mut lines = Lines::about(format!("gateway of {} at {admin}", status.cluster));
    lines.ok("gateway.answers", "it answers", Some(format!("isthmus {}", status.version)));
    ready(&mut lines, status);
    cores(&mut lines, status);
    identity(&mut lines, status, now);
    configuration(&mut lines, &status.control);
    attachment(&mut lines, &status.control);
    registry(&mut lines, &status.control["registry"]);
    untold(&mut lines, &status.control["untold"]);
    local_hop(&mut lines, status);
    if status.links.is_empty() {
        let why = "no cluster is linked: `isthmus invite` here and `isthmus join TOKEN` there link two";
        lines.skipped("gateway.links", "it is linked with other clusters", why);
    }
    lines.into_vec()
}

fn ready(lines: &mut Lines, status: &Status) {
    let wanted = "it is ready";
    match &status.not_ready {
        None => lines.ok("gateway.ready", wanted, None),
        Some(why) if why == "draining" => {
            lines.failed(
                "gateway.ready",
                wanted,
                why.as_str(),
                "start the next one: this one ends when its streams have",
            );
        }
        Some(why) => {
            let fix = "wait a few seconds; if it stays so, its log has the addresses that cannot be listened on";
            lines.failed("gateway.ready", wanted, why.as_str(), fix);
        }
    }
}

fn cores(lines: &mut Lines, status: &Status) {
    let wanted = "every core answers";
    if status.silent_cores.is_empty() {
        return lines.ok("gateway.cores", wanted, None);
    }
    let fix = "give it more CPU, or restart it if /livez says that a core is stuck";
    lines.failed("gateway.cores", wanted, format!("no answer of the cores {:?}", status.silent_cores), fix);
}

fn identity(lines: &mut Lines, status: &Status, now: SystemTime) {
    let (wanted, identity) = ("its certificate is valid, and kept up", &status.identity);
    let ended = identity.not_after.is_some_and(|end| SystemTime::from(end) <= now);
    let found = match (&identity.message, &identity.last_error) {
        (Some(message), Some(error)) => Some(format!("{message}\n{error}")),
        (found, None) | (None, found) => found.clone(),
    };
    match (found, ended) {
        (None, false) => lines.ok("gateway.identity", wanted, identity.id.clone()),
        (found, _) => {
            let found = found.unwrap_or_else(|| "it has ended: peers refuse new tunnels".to_owned());
            lines.failed("gateway.identity", wanted, found, identity_fix(identity));
        }
    }
}

/// What puts right what its files have: it is taken up without a restart.
fn identity_fix(identity: &IdentityReport) -> String {
    let directory = shell(Path::new(identity.directory.as_deref().unwrap_or("DIR")));
    let error = identity.last_error.as_deref().unwrap_or_default();
    if identity.bundles.as_ref().is_some_and(|bundles| error.contains(&format!("{bundles}/"))) {
        return format!(
            "take that cluster's ca.pem anew (isthmus identity trust --identity {directory} --cluster PEER --bundle CA.PEM), or take the \
             file away; who was trusted before is, still"
        );
    }
    if error.contains("Permission denied") {
        return format!(
            "let the user that the gateway runs as read and write it (`ls -l {directory}` says whose it is)"
        );
    }
    format!(
        "put ca.key back into {directory}, or have whoever renews svid.pem do so (`isthmus identity renew {directory}`, where ca.key is); \
         it is taken up without a restart"
    )
}

fn configuration(lines: &mut Lines, control: &Value) {
    let wanted = "its configuration is in use";
    let file = control["config"].as_str().unwrap_or("its configuration file");
    if let Some(error) = control["lastReloadError"].as_str() {
        let fix = format!("correct {file}: what was good before goes on meanwhile");
        return lines.failed("gateway.configuration", wanted, format!("the last change was refused\n{error}"), fix);
    }
    let waiting: Vec<_> = control["needsRestart"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !waiting.is_empty() {
        let found = format!("changes of {} take effect at the next start", waiting.join(", "));
        return lines.failed("gateway.configuration", wanted, found, "restart the gateway, or undo the changes");
    }
    if control["config"].is_string() {
        lines.ok("gateway.configuration", wanted, Some(file.to_owned()));
    }
}

/// Where control is another process.
fn attachment(lines: &mut Lines, control: &Value) {
    let (wanted, attachment) = ("it is attached to its control", &control["attachment"]);
    let Some(attached) = attachment["attached"].as_bool() else { return };
    let address = attachment["address"].as_str().unwrap_or_default();
    if let Some(why) = attachment["rejected"].as_str() {
        let fix =
            "upgrade this gateway to the version of its control: it goes on with the last table that it understood";
        return lines.failed("gateway.control", wanted, format!("a table of control was refused: {why}"), fix);
    }
    if attached {
        return lines.ok("gateway.control", wanted, Some(address.to_owned()));
    }
    let why = attachment["error"].as_str().unwrap_or("no connection");
    let fix =
        format!("start control, and see that {address} (control.address) leads there: it goes on with its last table");
    lines.failed("gateway.control", wanted, format!("not attached to {address}: {why}"), fix);
}

/// Where the registry is Kubernetes.
fn registry(lines: &mut Lines, registry: &Value) {
    let wanted = "control has what the API server has";
    let Some(synced) = registry["synced"].as_bool() else { return };
    let mut wrong: Vec<String> = Vec::new();
    if !synced {
        wrong.push("not synced: the table is the last good one".to_owned());
    }
    for (kind, watch) in registry["watches"].as_object().into_iter().flatten() {
        wrong.extend(watch["error"].as_str().map(|error| format!("{kind}: {error}")));
    }
    wrong.extend(registry["leader"]["error"].as_str().map(|error| format!("lease: {error}")));
    for list in ["failures", "problems"] {
        let found = registry[list].as_array().into_iter().flatten().filter_map(Value::as_str);
        wrong.extend(found.take(5).map(str::to_owned));
    }
    if wrong.is_empty() {
        return lines.ok("gateway.registry", wanted, None);
    }
    let fix = "see that the API server answers, that `isthmus install` has run with this version (definitions and rights), and \
               correct the objects that are named";
    lines.failed("gateway.registry", wanted, wrong.join("\n"), fix);
}

fn untold(lines: &mut Lines, untold: &Value) {
    let names: Vec<_> = untold.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !names.is_empty() {
        let found = format!("{} services are not told to peers, there being too many: {}", names.len(), names[0]);
        lines.failed("gateway.exports", "peers are told of every export", found, "export fewer services");
    }
}

/// Where a service asks for it.
fn local_hop(lines: &mut Lines, status: &Status) {
    let Some(hop) = &status.local_hop else { return };
    let wanted = "the local hop is on";
    let reason = || hop.reason.clone().unwrap_or_default();
    match hop.state.as_str() {
        "unused" => return,
        "on" => lines.ok("gateway.localHop", wanted, None),
        "starting" => lines.skipped("gateway.localHop", wanted, "it is being tested: ask again in a few seconds"),
        "off" => {
            let fix = "give the gateway what docs/local-hop.md says that it needs, or take localHop out of the policies: streams go by TCP";
            lines.failed("gateway.localHop", wanted, reason(), fix);
        }
        _ => {
            let found = format!("it was turned off while it was on: {}", reason());
            let fix = "restart the gateway to have it tested again; if it comes back, take localHop out of the policies: streams go by TCP";
            lines.failed("gateway.localHop", wanted, found, fix);
        }
    }
    if hop.unread.is_empty() {
        return;
    }
    let found = hop.unread.iter().map(|unread| {
        let who = unread.endpoint.map_or_else(|| "clients".to_owned(), |endpoint| endpoint.to_string());
        let streams = count(usize::try_from(unread.streams).unwrap_or(usize::MAX), "stream");
        format!(
            "{who}: nothing was read for {} s, on {streams} of those that are looked at (one of sixteen)",
            unread.seconds
        )
    });
    let found = found.collect::<Vec<_>>().join("\n");
    let fix = "if that program moves bytes with splice(2) (HAProxy: `option splice-auto`, `splice-request`, `splice-response`) or reads \
               by kTLS, turn that off there, or `localHop` for its service; if it is only slow, nothing is wrong";
    lines.failed("gateway.localHopRead", "what the local hop brings is read", found, fix);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::check::{line::Mark, samples};
    use serde_json::json;

    /// What failed of a status that is changed like this: the checks, and what the first one says.
    fn failed(change: impl FnOnce(&mut Value)) -> (Vec<&'static str>, String) {
        let lines = lines(&samples::status(change), "127.0.0.1:15020", samples::now());
        let failed: Vec<_> = lines.into_iter().filter(|line| line.mark == Mark::Failed).collect();
        assert!(failed.iter().all(|line| line.fix.as_ref().is_some_and(|fix| !fix.is_empty())), "{failed:?}");
        let found = failed.first().and_then(|line| line.found.clone()).unwrap_or_default();
        (failed.iter().map(|line| line.check).collect(), found)
    }

    #[test]
    fn a_gateway_that_is_well_fails_nothing() {
        assert_eq!(failed(|_| ()).0, [""; 0]);
    }

    #[test]
    fn each_thing_that_is_wrong_fails_its_check() {
        let is = |change: fn(&mut Value), check: &str, words: &str| {
            let (checks, found) = failed(change);
            assert_eq!(checks, [check]);
            assert!(found.contains(words), "{found}");
        };
        is(|status| status["not_ready"] = json!("draining"), "gateway.ready", "draining");
        is(|status| status["silent_cores"] = json!([1]), "gateway.cores", "[1]");
        is(|status| status["identity"]["not_after"] = json!("1970-01-01T00:00:01Z"), "gateway.identity", "ended");
        is(|status| status["identity"]["message"] = json!("renewal is overdue"), "gateway.identity", "overdue");
        is(|status| status["identity"]["last_error"] = json!("ca.key: gone"), "gateway.identity", "ca.key");
        is(|status| status["control"]["lastReloadError"] = json!("line 3"), "gateway.configuration", "line 3");
        is(|status| status["control"]["needsRestart"] = json!(["admin"]), "gateway.configuration", "admin");
        let attachment = json!({"attached": false, "address": "control:15010", "error": "refused"});
        is(|status| status["control"]["attachment"] = attachment_of(false), "gateway.control", "control:15010");
        assert!(failed(|status| status["control"]["attachment"] = attachment).1.contains("refused"));
        is(|status| status["control"]["registry"] = json!({"synced": false}), "gateway.registry", "not synced");
        let watches = |status: &mut Value| {
            status["control"]["registry"] =
                json!({"synced": true, "watches": {"serviceexports": {"error": "no such kind"}}});
        };
        is(watches, "gateway.registry", "serviceexports: no such kind");
        is(|status| status["control"]["untold"] = json!(["shop/api"]), "gateway.exports", "shop/api");
        is(|status| status["local_hop"] = hop("off", "no cgroup2", &json!([])), "gateway.localHop", "no cgroup2");
        is(
            |status| status["local_hop"] = hop("distrusted", "a map", &json!([])),
            "gateway.localHop",
            "off while it was on: a map",
        );
        let unread = |status: &mut Value| {
            let unread = json!([{"endpoint": null, "streams": 1, "seconds": 5}, {"endpoint": "10.0.0.2:8080", "streams": 3, "seconds": 9}]);
            status["local_hop"] = hop("on", "", &unread);
        };
        is(unread, "gateway.localHopRead", "10.0.0.2:8080: nothing was read for 9 s, on 3 streams");
    }

    #[test]
    fn an_identity_that_is_not_kept_up_leads_to_the_file_that_is_wrong() {
        let fix = |error: &str| {
            let status = samples::status(|json| json["identity"]["last_error"] = json!(error));
            let lines = lines(&status, "127.0.0.1:15020", samples::now());
            lines.into_iter().find(|line| line.check == "gateway.identity").unwrap().fix.unwrap()
        };
        assert!(fix("ca.key: gone").starts_with("put ca.key back into /etc/isthmus/west"));
        let bundle = fix("/etc/isthmus/west/bundles/east.pem: found no certificate, expected one");
        assert!(bundle.contains("isthmus identity trust --identity /etc/isthmus/west "), "{bundle}");
        let forbidden = fix("cannot read /etc/isthmus/west/svid.key: Permission denied (os error 13)");
        assert!(forbidden.contains("ls -l /etc/isthmus/west"), "{forbidden}");
    }

    #[test]
    fn a_local_hop_that_is_well_or_that_nobody_asks_for_fails_nothing() {
        for state in ["unused", "starting", "on"] {
            assert_eq!(failed(|status| status["local_hop"] = hop(state, "", &json!([]))).0, [""; 0], "{state}");
        }
    }

    fn hop(state: &str, reason: &str, unread: &Value) -> Value {
        json!({"state": state, "reason": reason, "joined": 0, "refused": 0, "redirected": 0, "bytes": 0, "by_tcp": 0, "late": 0,
               "encrypted": 0, "unread": unread})
    }

    fn attachment_of(attached: bool) -> Value {
        json!({"attached": attached, "address": "control:15010"})
    }
}
