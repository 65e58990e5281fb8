//! `isthmus uninstall`: everything is taken out again but what others trust us by.

use super::{LOOK, load, manifests, progress::Progress};
use crate::{
    cmd::{Failure, kubernetes::Cluster, linking, serve::secrets::within},
    output::Output,
};
use isthmus_control_kube::{install::Installer, secrets::Secrets};
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// For Kubernetes to take what hangs on imports.
const WITHDRAWN: Duration = Duration::from_secs(60);

/// Arguments of `isthmus uninstall`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Links end, and everything that was imported goes, what this cluster exports itself included. The Secret isthmus-ca stays, so that a later \
installation is the same cluster to others, unless --delete-ca is named. Definitions of custom resources stay, and with them the users' \
ServiceExports.")]
pub(crate) struct Uninstall {
    #[command(flatten)]
    cluster: Cluster,
    /// The file with values for the chart that it was installed with
    #[arg(long, value_name = "FILE")]
    values: Option<PathBuf>,
    /// Delete the cluster's CA, too: it cannot be had back
    #[arg(long)]
    delete_ca: bool,
    #[command(flatten)]
    output: Output,
}

/// Takes everything out again.
pub(crate) fn uninstall(args: &Uninstall) -> Result<(), Failure> {
    let mut values = load(args.values.as_deref())?;
    // What the names are does not hang on these.
    manifests::set(&mut values, "cluster", json!("any"));
    manifests::set(&mut values, "clusterset", json!("any"));
    let namespace = &args.cluster.namespace;
    let rendered = manifests::rendered(&values, namespace).map_err(Failure::failed)?;
    let mut objects = manifests::objects(rendered.iter().map(String::as_str)).map_err(Failure::failed)?;
    let known = manifests::known(namespace).map_err(Failure::failed)?;
    objects.reverse();
    linking::runtime()?.block_on(async {
        let client = args.cluster.client().await?;
        let installer = Installer::new(client.clone(), false);
        if !installer.find(namespace).await? {
            return Err(Failure::failed(format!(
                "found no isthmus in {namespace}, expected one: --namespace names another"
            )));
        }
        let secrets = Secrets::new(client, namespace);
        let mut progress = Progress::new(args.output.format);
        // While control runs: the other side is told.
        for link in within(secrets.links()).await.map_err(Failure::failed)? {
            within(secrets.unlink(&link)).await.map_err(Failure::failed)?;
            progress.say(&format!("ClusterLink {link}"), "deleted");
        }
        for name in within(secrets.invitations()).await.map_err(Failure::failed)? {
            within(secrets.delete(&name)).await.map_err(Failure::failed)?;
            progress.say(&format!("Secret {name}"), "deleted");
        }
        for object in &objects {
            if is_ca(object) && !args.delete_ca {
                progress.say("Secret isthmus-ca", "stays: --delete-ca deletes it");
                continue;
            }
            progress.done(object, installer.delete(object).await?);
        }
        // Of other values than are named now.
        for object in installer.prune(namespace, &known, &[]).await? {
            progress.done(&object, isthmus_control_kube::install::Done::Deleted);
        }
        // Now that nobody may write them any more.
        withdrawn(&installer, &mut progress).await?;
        progress.print()
    })
}

fn is_ca(object: &Value) -> bool {
    object["kind"] == "Secret" && object["metadata"]["name"] == "isthmus-ca"
}

async fn withdrawn(installer: &Installer, progress: &mut Progress) -> Result<(), Failure> {
    let deadline = Instant::now() + WITHDRAWN;
    loop {
        let left = installer.withdraw().await?;
        if left == 0 {
            progress.say("ServiceImports", "deleted, with what hung on them");
            return Ok(());
        }
        if Instant::now() > deadline {
            progress.say(
                &format!("{left} ServiceImports and Services"),
                "left: Kubernetes' garbage collector has not taken them yet",
            );
            return Ok(());
        }
        sleep(LOOK).await;
    }
}
