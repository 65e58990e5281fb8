//! `isthmus services`: what local clients can use here, and what is served to others.

use super::{Failure, admin::Admin};
use crate::output::{Grid, Output};
use isthmus_gateway::status::{ServiceKind, ServiceStatus, Status};
use serde::Serialize;
use std::fmt;

/// Arguments of `isthmus services`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes:
  0  every service has a ready endpoint
  1  the gateway could not be asked
  2  the command line is wrong
  3  some have none, or a listener is not there: MESSAGE says what is wrong")]
pub(crate) struct Args {
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    output: Output,
}

/// Asks, prints, judges.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let json = super::linking::runtime()?.block_on(args.admin.get("/status"))?;
    let status: Status = serde_json::from_slice(&json)?;
    let view = View { services: status.services };
    args.output.print(&view)?;
    view.problem().map_or(Ok(()), |problem| Err(Failure::unwell(problem)))
}

#[derive(Debug, Serialize)]
struct View {
    services: Vec<ServiceStatus>,
}

impl View {
    fn problem(&self) -> Option<String> {
        let mut names: Vec<_> =
            self.services.iter().filter(|of| of.message.is_some()).map(ServiceStatus::name).collect();
        names.dedup();
        (!names.is_empty())
            .then(|| format!("something is wrong with {}: `isthmus check` has the fix", names.join(", ")))
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut grid = Grid::new(["SERVICE", "KIND", "LISTEN", "READY ENDPOINTS", "STREAMS", "MESSAGE"]);
        let clean = |text: String| text.chars().filter(|c| !c.is_control()).collect::<String>();
        let or_dash = |text: Option<String>| text.filter(|text| !text.is_empty()).map_or_else(|| "-".to_owned(), clean);
        for service in &self.services {
            let (kind, ready, streams) = match service.kind {
                ServiceKind::Import => {
                    let clusters: Vec<_> =
                        service.clusters.iter().map(|(name, ready)| format!("{name} {ready}")).collect();
                    ("import", or_dash(Some(clusters.join(", "))), None)
                }
                ServiceKind::Export => {
                    let streams: u32 = service.endpoints.iter().map(|endpoint| endpoint.inflight).sum();
                    ("export", service.endpoints.len().to_string(), Some(streams.to_string()))
                }
            };
            let listen = or_dash(service.listen.clone());
            let message = or_dash(service.message.clone());
            grid.row([clean(service.name()), kind.to_owned(), listen, ready, or_dash(streams), message]);
        }
        write!(f, "{grid}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn view() -> View {
        let services = json!([
            {"service": "shop/api", "port": 80, "kind": "import", "listen": "127.0.0.1:18080", "clusters": {"east": 2, "west": 1},
             "endpoints": [], "message": null},
            {"service": "shop/dns", "port": 53, "protocol": "UDP", "kind": "import", "listen": "127.0.0.1:53", "clusters": {},
             "endpoints": [], "message": "no cluster has a ready endpoint"},
            {"service": "shop/api", "port": 80, "kind": "export", "listen": null, "clusters": {}, "message": null,
             "endpoints": [{"address": "10.0.0.2:8080", "health": "healthy", "inflight": 3, "ewma_ms": 0.5, "failures": 0}]},
        ]);
        View { services: serde_json::from_value(services).unwrap() }
    }

    #[test]
    fn a_line_for_each_import_and_export() {
        let expected = "\
SERVICE          KIND    LISTEN           READY ENDPOINTS  STREAMS  MESSAGE
shop/api:80      import  127.0.0.1:18080  east 2, west 1   -        -
shop/dns:53/udp  import  127.0.0.1:53     -                -        no cluster has a ready endpoint
shop/api:80      export  -                1                3        -
";
        assert_eq!(view().to_string(), expected);
        assert_eq!(view().problem().unwrap(), "something is wrong with shop/dns:53/udp: `isthmus check` has the fix");
    }
}
