//! A cluster of Kubernetes, from outside: before and after `isthmus install`.

use super::line::{Line, Lines};
use crate::cmd::{kubernetes::Cluster, serve::secrets::within};
use isthmus_control_kube::{
    install::Installer,
    secrets::{CA, Secrets},
};

/// What is installed, and runs.
const DEPLOYMENTS: [&str; 2] = ["isthmus-control", "isthmus-gateway"];

/// Lines about it. `before`: nothing has to be installed yet.
pub(super) async fn lines(at: &Cluster, before: bool) -> Vec<Line> {
    let namespace = &at.namespace;
    let mut lines = Lines::about(format!("Kubernetes, namespace {namespace}"));
    let (answers, installed) = ("the API server answers, and lets this user look", "isthmus is installed");
    let client = match at.client().await {
        Ok(client) => client,
        Err(error) => {
            let fix =
                format!("see that `kubectl{} version` answers: --context and --kubeconfig name the cluster", words(at));
            lines.failed("kubernetes.api", answers, error.message(), fix);
            return lines.into_vec();
        }
    };
    let installer = Installer::new(client.clone(), false);
    let is_there = match installer.find(namespace).await {
        Ok(is_there) => is_there,
        Err(error) => {
            let fix = format!(
                "see that `kubectl{} get clusterrolebindings` works for this user; if isthmus is in another namespace, name it",
                words(at)
            );
            lines.failed("kubernetes.api", answers, error.to_string(), fix);
            return lines.into_vec();
        }
    };
    lines.ok("kubernetes.api", answers, None);
    if !is_there {
        let fix = format!("isthmus install --cluster NAME --clusterset NAME{}", at.words());
        match before {
            true => lines.skipped("kubernetes.installed", installed, format!("nothing is in the way: {fix}")),
            false => lines.failed("kubernetes.installed", installed, "found nothing of it", fix),
        }
        return lines.into_vec();
    }
    lines.ok("kubernetes.installed", installed, None);
    if before {
        return lines.into_vec();
    }
    for name in DEPLOYMENTS {
        let found = installer.available(namespace, name).await.map_err(|error| error.to_string());
        pods(&mut lines, at, name, found);
    }
    authority(&mut lines, at, &Secrets::new(client, namespace)).await;
    let exec = format!("kubectl{} -n {namespace} exec deploy/isthmus-gateway -- isthmus check", words(at));
    lines.skipped("kubernetes.links", "links and services are well", format!("a gateway knows: {exec}"));
    lines.into_vec()
}

/// Whether the pods of a Deployment run: so many, of so many.
fn pods(lines: &mut Lines, at: &Cluster, name: &str, found: Result<(i32, i32), String>) {
    let wanted = format!("the pods of {name} run");
    let fix = format!("kubectl{} -n {} describe pods says why they do not", words(at), at.namespace);
    match found {
        Ok((ready, all)) if ready >= all => lines.ok("kubernetes.pods", wanted, Some(format!("{ready} of {all}"))),
        Ok((ready, all)) => lines.failed("kubernetes.pods", wanted, format!("{ready} of {all}"), fix),
        Err(error) => lines.failed("kubernetes.pods", wanted, error, fix),
    }
}

async fn authority(lines: &mut Lines, at: &Cluster, secrets: &Secrets) {
    let wanted = "control has made the cluster's CA";
    let fix = format!("kubectl{} -n {} logs deploy/isthmus-control says why it did not", words(at), at.namespace);
    match within(secrets.get("isthmus-ca")).await {
        Ok(Some(secret)) if secret.data.contains_key(CA) => lines.ok("kubernetes.ca", wanted, None),
        Ok(_) => lines.failed("kubernetes.ca", wanted, "the Secret isthmus-ca has none", fix),
        Err(why) => lines.skipped("kubernetes.ca", wanted, why),
    }
}

/// The cluster, as kubectl has it named.
fn words(at: &Cluster) -> String {
    let mut words = at.context.as_ref().map_or_else(String::new, |context| format!(" --context {context}"));
    if let Some(kubeconfig) = &at.kubeconfig {
        words = format!("{words} --kubeconfig {}", crate::cmd::identity::words::shell(kubeconfig));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::check::line::Mark;

    fn at() -> Cluster {
        Cluster { context: Some("west".into()), kubeconfig: None, namespace: "mesh".into() }
    }

    #[test]
    fn pods_that_do_not_run_lead_to_what_says_why() {
        let of = |found| {
            let mut lines = Lines::about("Kubernetes");
            pods(&mut lines, &at(), "isthmus-control", found);
            lines.into_vec().remove(0)
        };
        assert_eq!(of(Ok((2, 2))).mark, Mark::Ok);
        for found in [Ok((0, 2)), Err("not found".to_owned())] {
            let line = of(found);
            assert_eq!(line.mark, Mark::Failed);
            assert_eq!(line.fix.unwrap(), "kubectl --context west -n mesh describe pods says why they do not");
        }
    }

    #[tokio::test]
    async fn a_cluster_that_cannot_be_asked_is_told_with_what_to_do() {
        let kubeconfig = tempfile::tempdir().unwrap().path().join("none");
        let lines = lines(&Cluster { kubeconfig: Some(kubeconfig), ..at() }, true).await;
        assert_eq!((lines.len(), lines[0].check, lines[0].mark), (1, "kubernetes.api", Mark::Failed));
    }
}
