//! The way to the API server.

pub use kube::Client;
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{path::Path, time::Duration};

/// For a connection to the API server.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// This is no pod, and no kubeconfig was named.
    #[error("found no pod of a cluster ({0}), expected one, or registry.kubernetes.kubeconfig")]
    NoPod(#[from] kube::config::InClusterError),
    /// The kubeconfig is none, or has not what is asked of it.
    #[error("{path}: {error}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong with it.
        error: kube::config::KubeconfigError,
    },
    /// What they say leads nowhere: a certificate that is none, for example.
    #[error("{0}")]
    Client(String),
}

/// A client for the API server that `kubeconfig` leads to, by `context` or its current one; without a kubeconfig, for that of the cluster
/// which this pod is of. And where that is, for people. Nothing is sent yet: an API server that is not there is no error here.
///
/// # Errors
/// There is no telling where the API server is, or how to trust it.
pub async fn client(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<(Client, String), ConnectError> {
    let mut config = match kubeconfig {
        None => Config::incluster()?,
        Some(path) => from_file(path, context)
            .await
            .map_err(|error| ConnectError::Kubeconfig { path: path.display().to_string(), error })?,
    };
    config.connect_timeout = Some(CONNECT);
    let url = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|error| ConnectError::Client(crate::error::describe(&error)))?;
    Ok((client, url.trim_end_matches('/').to_owned()))
}

/// A client for the cluster that a person means: by the kubeconfig named, `KUBECONFIG` or ~/.kube/config, and its context named or current.
///
/// # Errors
/// There is no such kubeconfig, or no such context in it.
pub async fn as_operator(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Client, ConnectError> {
    if let Some(path) = kubeconfig {
        return client(Some(path), context).await.map(|(client, _)| client);
    }
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let found = Config::from_kubeconfig(&options).await;
    let mut config = found.map_err(|error| ConnectError::Kubeconfig { path: "kubeconfig".into(), error })?;
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).map_err(|error| ConnectError::Client(crate::error::describe(&error)))
}

async fn from_file(path: &Path, context: Option<&str>) -> Result<Config, kube::config::KubeconfigError> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await
}
