//! `isthmus install`: what a cluster of Kubernetes needs, printed or applied.

mod manifests;
mod progress;
mod template;
mod uninstall;

pub(crate) use uninstall::{Uninstall, uninstall};

use super::{Failure, kubernetes::Cluster, serve::secrets::within};
use crate::output::Format;
use isthmus_certs::{Directory, TrustDomain};
use isthmus_control_api::{ClusterName, ClustersetName};
use isthmus_control_kube::{
    install::{Done, Installer},
    secrets::Secrets,
};
use progress::Progress;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Arguments of `isthmus install`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It renders the Helm chart of deploy/chart, which is part of this program, with the chart's values. What is there already is changed to what \
it should be, and what an earlier installation has applied, and this one would not, is deleted; a newer definition of a custom resource \
stays. The cluster's CA is made by its control, in the Secret isthmus-ca, unless --identity brings one.

Exit codes:
  0  everything is installed
  1  something was refused: what was done before stays, run it again
  2  the command line is wrong
  3  everything is installed, but does not run yet")]
pub(crate) struct Args {
    /// This cluster's id, unique in the clusterset
    #[arg(long = "cluster", value_name = "NAME")]
    name: ClusterName,
    /// The set of clusters that share services
    #[arg(long, value_name = "NAME")]
    clusterset: ClustersetName,
    #[command(flatten)]
    cluster: Cluster,
    /// The image, as repository:tag
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// A file with values for the chart (deploy/chart/values.yaml)
    #[arg(long, value_name = "FILE")]
    values: Option<PathBuf>,
    /// An identity directory, whose CA the cluster is to have
    #[arg(long, value_name = "DIR")]
    identity: Option<PathBuf>,
    /// Take over fields that somebody else manages
    #[arg(long)]
    force_conflicts: bool,
    /// Wait until gateways and control run, for so many seconds at most
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "300", value_parser = clap::value_parser!(u64).range(1..=3600))]
    wait: Option<u64>,
    /// Print the manifests and apply nothing; or how to print what was done
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Form,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// A text for people
    #[default]
    Table,
    /// One JSON object for scripts
    Json,
    /// The manifests, for kubectl apply --server-side
    Yaml,
}

/// Prints or applies.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let values = args.values()?;
    let namespace = manifests::namespace(&args.cluster.namespace);
    let rendered = manifests::rendered(&values, &args.cluster.namespace).map_err(Failure::failed)?;
    if args.output == Form::Yaml {
        if args.identity.is_some() {
            return Err(Failure::usage(
                "--identity: its CA's key would be printed: apply it, or leave --output yaml out",
            ));
        }
        let rest = [&namespace].into_iter().chain(&rendered).map(String::as_str);
        let mut all: Vec<&str> = manifests::crds().map(str::trim_end).collect();
        all.extend(rest.map(str::trim_end));
        let text = all.join("\n---\n");
        return Ok(std::io::stdout().write_all(format!("{text}\n").as_bytes())?);
    }
    let authority = args.authority()?;
    let definitions = manifests::objects(manifests::crds()).map_err(Failure::failed)?;
    let home = manifests::objects([namespace.as_str()]).map_err(Failure::failed)?;
    let objects = manifests::objects(rendered.iter().map(String::as_str)).map_err(Failure::failed)?;
    let known = manifests::known(&args.cluster.namespace).map_err(Failure::failed)?;
    super::linking::runtime()?.block_on(async {
        let client = args.cluster.client().await?;
        let installer = Installer::new(client.clone(), args.force_conflicts);
        let format = if args.output == Form::Json { Format::Json } else { Format::Table };
        let mut progress = Progress::new(format);
        installer.find(&args.cluster.namespace).await?;
        for definition in &definitions {
            progress.done(definition, installer.define(definition).await?);
        }
        for object in &home {
            // What pods somebody else's namespace takes is not ours to say.
            let is_foreign = installer.is_foreign(&args.cluster.namespace).await?;
            progress.done(object, if is_foreign { Done::Kept } else { installer.apply(object).await? });
        }
        for object in &objects {
            progress.done(object, installer.apply(object).await?);
            if object["metadata"]["name"] == "isthmus-ca"
                && let Some(data) = &authority
            {
                bring(&Secrets::new(client.clone(), &args.cluster.namespace), data).await?;
            }
        }
        for object in installer.prune(&args.cluster.namespace, &known, &objects).await? {
            progress.done(&object, Done::Deleted);
        }
        let waited = match args.wait {
            Some(seconds) => wait(&installer, &args.cluster.namespace, seconds, &mut progress).await?,
            None => Ok(()),
        };
        progress.end(&args.name, &args.cluster)?;
        waited
    })
}

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

impl Args {
    fn values(&self) -> Result<Value, Failure> {
        let mut values = load(self.values.as_deref())?;
        manifests::set(&mut values, "cluster", json!(self.name.as_str()));
        manifests::set(&mut values, "clusterset", json!(self.clusterset.as_str()));
        if let Some(image) = &self.image {
            // A registry may have a port.
            let split = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/') && !tag.is_empty());
            let (repository, tag) =
                split.ok_or_else(|| Failure::usage(format!("--image: found {image:?}, expected repository:tag")))?;
            manifests::set(&mut values, "image.repository", json!(repository));
            manifests::set(&mut values, "image.tag", json!(tag));
        }
        Ok(values)
    }

    /// The certificates and the key of the CA in `--identity`, and what it has revoked, if anything: by their names in the Secret.
    fn authority(&self) -> Result<Option<Authority>, Failure> {
        let Some(path) = &self.identity else { return Ok(None) };
        let directory = Directory::new(path);
        let authority = directory.authority()?.ok_or_else(|| super::identity::issue::no_authority(path))?;
        let domain = TrustDomain::new(self.name.clone(), self.clusterset.clone());
        if *authority.domain() != domain {
            let found = authority.domain();
            return Err(Failure::failed(format!(
                "{}: found the CA of {found}, expected that of {domain}",
                path.display()
            )));
        }
        let list = directory.own_crl_path();
        let crl = match std::fs::read(&list) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::failed(format!("cannot read {}: {error}", list.display()))),
        };
        let certificates = directory.own_bundle(&domain)?.to_pem().into_bytes();
        let texts =
            [("ca.pem", Some(certificates)), ("ca.key", Some(authority.to_pem().1.into_bytes())), ("crl.pem", crl)];
        let there = texts.into_iter().filter(|(_, text)| text.is_some());
        Ok(Some(there.map(|(name, text)| (name.to_owned(), text)).collect()))
    }
}

/// The chart's values, with those of the file at `path`.
fn load(path: Option<&Path>) -> Result<Value, Failure> {
    let Some(path) = path else { return manifests::values(None).map_err(Failure::failed) };
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| Failure::failed(format!("{name}: {e}")))?;
    manifests::values(Some((&name, &text))).map_err(Failure::failed)
}

/// What a CA's Secret is to have.
type Authority = BTreeMap<String, Option<Vec<u8>>>;

/// Puts a CA into the Secret, if there is none; another one is not replaced.
async fn bring(secrets: &Secrets, data: &Authority) -> Result<(), Failure> {
    let place = format!("the Secret isthmus-ca in {}", secrets.namespace());
    let kept = within(secrets.get("isthmus-ca")).await.map_err(Failure::failed)?;
    let kept = kept.ok_or_else(|| Failure::failed(format!("{place} has gone")))?;
    if !kept.data.is_empty() {
        let is_same = |name| kept.data.get(name) == data.get(name).and_then(Option::as_ref);
        return match (is_same("ca.pem"), is_same("crl.pem") || !data.contains_key("crl.pem")) {
            (true, true) => Ok(()),
            (true, false) => Err(Failure::failed(format!(
                "{place}: found another revocation list than the identity's, which has not been put there: \
                 docs/identity.md, \"Revocation\", says how"
            ))),
            (false, _) => Err(Failure::failed(format!(
                "{place}: found another CA, expected none: delete the Secret if nothing trusts it"
            ))),
        };
    }
    let was_empty = within(secrets.set("isthmus-ca", data, &kept)).await.map_err(Failure::failed)?;
    was_empty
        .then_some(())
        .ok_or_else(|| Failure::failed(format!("{place} was filled meanwhile: a control runs already")))
}

/// Waits until everything runs. The inner error says that it does not.
async fn wait(
    installer: &Installer,
    namespace: &str,
    seconds: u64,
    progress: &mut Progress,
) -> Result<Result<(), Failure>, Failure> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    for name in ["isthmus-control", "isthmus-gateway"] {
        loop {
            let (ready, wanted) = installer.available(namespace, name).await?;
            if ready >= wanted {
                progress.say(&format!("Deployment {name}"), &format!("{ready} of {wanted} pods run"));
                break;
            }
            if Instant::now() > deadline {
                let why = format!(
                    "Deployment {name}: {ready} of {wanted} pods run after {seconds} s: kubectl -n {namespace} get pods says why"
                );
                return Ok(Err(Failure::unwell(why)));
            }
            sleep(LOOK).await;
        }
    }
    Ok(Ok(()))
}
