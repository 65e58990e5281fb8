//! `isthmus link`: links as manifests, for clusters that are kept in a repository.

use super::{Failure, kubernetes::Cluster};
use clap::Subcommand;
use isthmus_certs::{Directory, TrustAnchors};
use isthmus_control_api::PeerAddress;
use isthmus_control_kube::secrets::credentials;
use std::{io::Write as _, path::PathBuf};

/// Arguments of `isthmus link`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print what another cluster has to apply to be linked with this one
    Generate(Generate),
}

/// Arguments of `isthmus link generate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Two clusters are linked once each has applied what this prints of the other. There is no secret in it: CA certificates are public. But who can \
change it on its way can speak for this cluster.")]
struct Generate {
    #[command(flatten)]
    cluster: Cluster,
    /// This cluster's identity directory, instead of asking the cluster
    #[arg(long, value_name = "DIR", conflicts_with_all = ["context", "kubeconfig"])]
    identity: Option<PathBuf>,
    /// Where the other cluster can dial this one's gateways; may be repeated. Otherwise what the Service isthmus-gateway has
    #[arg(long = "endpoint", value_name = "HOST:PORT", conflicts_with = "dialled_by_us")]
    endpoints: Vec<PeerAddress>,
    /// The other cluster does not dial: this one does
    #[arg(long)]
    dialled_by_us: bool,
}

/// Prints the manifests.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let Command::Generate(args) = &args.command;
    let (bundle, found) = match &args.identity {
        Some(path) => {
            let directory = Directory::new(path);
            let own = directory.load_own()?;
            (directory.own_bundle(own.domain())?, Vec::new())
        }
        None => super::linking::runtime()?.block_on(async {
            let opened = args.cluster.open().await?;
            let asks = args.endpoints.is_empty() && !args.dialled_by_us;
            let found = if asks { opened.endpoints().await? } else { Vec::new() };
            Ok::<_, Failure>((opened.bundle, found))
        })?,
    };
    let endpoints = if args.endpoints.is_empty() { &found } else { &args.endpoints };
    if endpoints.is_empty() && !args.dialled_by_us {
        return Err(Failure::failed(
            "found no address at which the other cluster could dial this one: name one with --endpoint HOST:PORT, or say \
             --dialled-by-us, if this one dials",
        ));
    }
    let text = manifests(&bundle, endpoints, &args.cluster.namespace);
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// ● The Secret and the ClusterLink that another cluster applies to be linked with the one of `bundle`.
fn manifests(bundle: &TrustAnchors, endpoints: &[PeerAddress], namespace: &str) -> String {
    let (domain, name) = (bundle.domain(), &bundle.domain().cluster);
    let secret = credentials(name.as_str());
    let pem: String = bundle.to_pem().lines().map(|line| format!("    {line}\n")).collect();
    let endpoints: Vec<_> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    let dialled =
        if endpoints.is_empty() { String::new() } else { format!("\n  endpoints: [{}]", endpoints.join(", ")) };
    format!(
        "# Links whoever applies it with {name} ({domain}), once that one has applied the same of it.\napiVersion: v1\nkind: Secret\n\
         metadata: {{name: {secret}, namespace: {namespace}}}\nstringData:\n  ca.pem: |\n{pem}---\n\
         apiVersion: isthmus.io/v1alpha1\nkind: ClusterLink\nmetadata: {{name: {name}}}\nspec:{dialled}\n  \
         credentialsRef: {{name: {secret}}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_certs::Authority;
    use serde_json::Value;
    use std::time::SystemTime;

    #[test]
    fn what_is_printed_is_a_link_and_what_it_is_trusted_by() {
        let authority = Authority::create("east.demo".parse().unwrap(), SystemTime::now()).unwrap();
        let pem = authority.to_pem().0;
        let bundle = TrustAnchors::from_pem(authority.domain().clone(), pem.as_bytes()).unwrap();
        for endpoints in [vec![], vec!["203.0.113.7:15008".parse().unwrap(), "gw.example:1".parse().unwrap()]] {
            let text = manifests(&bundle, &endpoints, "mesh");
            let [secret, link]: [Value; 2] = serde_saphyr::from_multiple(&text).unwrap().try_into().unwrap();
            assert_eq!(
                (secret["stringData"]["ca.pem"].as_str(), &secret["metadata"]["namespace"]),
                (Some(&*pem), &"mesh".into())
            );
            assert_eq!(link["spec"]["credentialsRef"]["name"], secret["metadata"]["name"]);
            assert_eq!(link["metadata"]["name"], "east");
            let found = link["spec"]["endpoints"].as_array().map_or(0, Vec::len);
            assert_eq!(found, endpoints.len());
            assert!(!text.contains("KEY"), "{text}");
        }
    }
}
