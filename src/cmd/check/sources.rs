//! ● Whether endpoints answer clients' own addresses, and what brings the answers back.

use super::line::Lines;
use isthmus_gateway::{
    socket::transparent::{MARK, TABLE},
    status::probe::{ExportProbe, SourceProbe, SourceProblem},
};
use std::collections::BTreeMap;

/// A line for each network of `transparentSource`.
pub(super) fn lines(lines: &mut Lines, export: &ExportProbe) {
    let mut networks = BTreeMap::<_, Vec<&SourceProbe>>::new();
    for probe in &export.sources {
        networks.entry((&probe.cluster, &probe.network)).or_default().push(probe);
    }
    for ((cluster, network), probes) in networks {
        let wanted = format!("its endpoints answer {network}, clients of {cluster}");
        let failed: Vec<_> = probes.iter().filter_map(|probe| Some((*probe, probe.problem?))).collect();
        // Who does not answer the gateway either has a line of its own.
        let alone: Vec<_> = failed.iter().filter(|(probe, _)| probe.gateway.is_some()).collect();
        let of = |problem| alone.iter().find(|(_, found)| *found == problem).map(|(probe, _)| *probe);
        let first = alone.first().map(|(probe, problem)| (*probe, *problem));
        // What is wrong with this host is wrong for all of them.
        let mut worst = [SourceProblem::NotAllowed, SourceProblem::NotPermitted, SourceProblem::NotRouted].into_iter();
        let worst = worst.find_map(|problem| Some((of(problem)?, problem)));
        match worst.or(first) {
            Some((probe, problem)) => {
                let words = |(probe, _): &&(&SourceProbe, SourceProblem)| {
                    format!("{}: {}", probe.endpoint, probe.error.as_deref().unwrap_or("it failed"))
                };
                let found = alone.iter().map(words).collect::<Vec<_>>().join("\n");
                lines.failed("export.source", wanted, format!("{found}{}", cause(problem)), fix(probe, problem));
            }
            None if failed.is_empty() => {
                let slowest = probes.iter().filter_map(|probe| probe.connected_ms).reduce(f64::max);
                lines.ok("export.source", wanted, slowest.map(|slowest| format!("within {slowest:.1} ms")));
            }
            None => lines.skipped("export.source", wanted, "they do not answer the gateway either"),
        }
    }
}

/// What is missing, where that is known.
fn cause(problem: SourceProblem) -> &'static str {
    match problem {
        SourceProblem::NotAllowed => " (its own file does not allow the network in transparentSources)",
        SourceProblem::NotPermitted => " (the gateway may not use addresses of others)",
        SourceProblem::Here => " (it is an address of the gateway's own host, whose answers do not leave it)",
        SourceProblem::NotRouted => "\nthis host has no rule and route for marked answers",
        SourceProblem::NoAnswer => {
            "\nthis host has rule and route for marked answers: either nothing marks them, or they go another way"
        }
        SourceProblem::Unknown => "\nwhether this host has rule and route for marked answers, the kernel does not say",
        SourceProblem::Failed => "",
    }
}

/// What puts it right: behind a line that ends with a colon, commands for that place.
fn fix(probe: &SourceProbe, problem: SourceProblem) -> String {
    let SourceProbe { network, endpoint, gateway, .. } = probe;
    let routes = routing(network);
    let there = gateway.as_ref().map_or_else(String::new, |gateway| {
        let ip = ip(network);
        format!("\nat {endpoint}, or at its router, unless its default route leads here:\n{ip} route add {network} via {gateway}")
    });
    match problem {
        SourceProblem::NotAllowed => format!(
            "if endpoints may see such addresses, add {network} to transparentSources in the gateway's own file and start it \
             again; otherwise take transparentSource out of the export's policy"
        ),
        SourceProblem::NotPermitted => {
            "give the gateway the capability CAP_NET_RAW (AmbientCapabilities=CAP_NET_RAW in its unit), or take \
             transparentSource out of the export's policy"
                .into()
        }
        SourceProblem::Here => {
            "move the endpoint to another host or network namespace, or take transparentSource out of the export's policy".into()
        }
        SourceProblem::NotRouted | SourceProblem::Unknown => format!("at the gateway's host:\n{routes}\n{}{there}", MARKING.trim()),
        SourceProblem::NoAnswer => format!("at the gateway's host:\n{}{there}", MARKING.trim()),
        SourceProblem::Failed => {
            format!("let connections from {network} to {endpoint} pass (firewall, reverse path filter, address checks of the cloud)")
        }
    }
}

fn routing(network: &str) -> String {
    let (ip, all) = (ip(network), if network.contains(':') { "::/0" } else { "0.0.0.0/0" });
    format!("{ip} rule add fwmark {MARK:#x} lookup {TABLE}\n{ip} route add local {all} dev lo table {TABLE}")
}

fn ip(network: &str) -> &'static str {
    if network.contains(':') { "ip -6" } else { "ip" }
}

/// Marks what answers a socket that has somebody else's address; messages of ICMP about it, too.
const MARKING: &str = "
nft add table inet isthmus_source
nft add chain inet isthmus_source answers '{ type filter hook prerouting priority mangle; }'
nft add rule inet isthmus_source answers meta l4proto '{ tcp, icmp, ipv6-icmp }' socket transparent 1 meta mark set 0x1571
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::check::line::{Line, Mark};

    fn source(endpoint: &str, gateway: bool, problem: Option<SourceProblem>) -> SourceProbe {
        SourceProbe {
            cluster: "west".into(),
            network: "10.1.0.0/16".into(),
            endpoint: endpoint.into(),
            gateway: gateway.then(|| "10.0.0.1".into()),
            connected_ms: problem.is_none().then_some(0.5),
            problem,
            error: problem.map(|_| "no answer to 10.1.0.1 within 3 s".into()),
        }
    }

    fn line(sources: Vec<SourceProbe>) -> Line {
        let mut about = Lines::about("export shop/api:80");
        lines(&mut about, &ExportProbe { name: "shop/api:80".into(), endpoints: Vec::new(), sources });
        let [line] = about.into_vec().try_into().unwrap();
        line
    }

    #[test]
    fn the_rules_and_the_mark_are_those_that_the_gateway_looks_for() {
        assert!(MARKING.contains(&format!("{MARK:#x}")));
        assert_eq!(
            routing("fd00::/64"),
            "ip -6 rule add fwmark 0x1571 lookup 5489\nip -6 route add local ::/0 dev lo table 5489"
        );
    }

    #[test]
    fn what_is_missing_is_named_with_its_commands() {
        let missing = line(vec![source("10.0.0.2:80", true, Some(SourceProblem::NotRouted))]);
        assert_eq!((missing.check, missing.mark), ("export.source", Mark::Failed));
        assert!(missing.found.unwrap().contains("no rule and route"));
        let fix = missing.fix.unwrap();
        assert!(fix.contains("ip rule add fwmark 0x1571 lookup 5489\n") && fix.contains("\nnft add rule "), "{fix}");
        assert!(fix.ends_with("\nip route add 10.1.0.0/16 via 10.0.0.1"), "{fix}");
        let unmarked = line(vec![source("10.0.0.2:80", true, Some(SourceProblem::NoAnswer))]).fix.unwrap();
        assert!(!unmarked.contains("ip rule") && unmarked.contains("nft"), "{unmarked}");
        let forbidden = [SourceProblem::Failed, SourceProblem::NotPermitted];
        let sources = forbidden.map(|problem| source("10.0.0.2:80", true, Some(problem)));
        assert!(line(sources.to_vec()).fix.unwrap().contains("CAP_NET_RAW"));
        let not_allowed = line(vec![source("10.0.0.2:80", true, Some(SourceProblem::NotAllowed))]).fix.unwrap();
        assert!(not_allowed.contains("add 10.1.0.0/16 to transparentSources"), "{not_allowed}");
    }

    #[test]
    fn what_the_kernel_does_not_say_is_not_claimed_and_has_the_whole_fix() {
        let unknown = line(vec![source("10.0.0.2:80", true, Some(SourceProblem::Unknown))]);
        let (found, fix) = (unknown.found.unwrap(), unknown.fix.unwrap());
        assert!(found.contains("the kernel does not say") && !found.contains("this host has no rule"), "{found}");
        assert!(
            ["ip rule add", "nft add rule", "ip route add 10.1.0.0/16 via"].iter().all(|part| fix.contains(part)),
            "{fix}"
        );
    }

    #[test]
    fn endpoints_that_answer_nobody_are_not_the_sources_matter() {
        assert_eq!(line(vec![source("10.0.0.2:80", true, None)]).mark, Mark::Ok);
        assert_eq!(line(vec![source("10.0.0.2:80", false, Some(SourceProblem::NotRouted))]).mark, Mark::Skipped);
    }
}
