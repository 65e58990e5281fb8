//! Kubernetes clusters for tests: real API servers on real etcd, with upstream's controllers. What has no part here are kubelets:
//! pods are Running because a program says so (tests/kube/pods.go), and where bytes must flow a test puts a server at a pod's
//! address.
//!
//! ```text
//!  this test ── relay (127.0.0.1) ──┐
//!                                   ├─ kube-apiserver :6443 ── etcd        one namespace
//!  isthmus, kube-proxy, CoreDNS ────┘      └ kube-controller-manager, pods
//! ```
//!
//! Start at [`KubeCluster`].

mod api_server;
mod conditions;
pub mod conformance;
mod controllers;
mod core_dns;
mod kubeconfig;
mod kubelet;
mod manifests;
mod options;
mod papers;
mod programs;
mod proxy;
mod relay;

pub use conditions::{object, watched};
pub use core_dns::{Clusterset, CoreDns};
pub use kubelet::Kubelet;
pub use options::Options;
pub use programs::program;
pub use proxy::KubeProxy;

use crate::{netns::Netns, process::Process, wait::PAUSE};
use ::kube::{
    Api, Client,
    api::{DynamicObject, PostParams},
    runtime::wait::{Condition, conditions::is_crd_established},
};
use api_server::ApiServer;
use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{Namespace, ServiceAccount},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kubeconfig::User;
use relay::Relay;
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Instant,
};
use tokio::runtime::Runtime;

/// One cluster. Dropping it ends its programs, also while a test panics, and then shows the ends of their logs.
pub struct KubeCluster {
    name: String,
    client: Client,
    // In the order in which they are to end.
    _pods: Process,
    _controllers: Process,
    server: ApiServer,
    relay: Relay,
    runtime: Option<Runtime>,
    dir: tempfile::TempDir,
}

impl KubeCluster {
    /// Starts a cluster: the API server answers, the custom resources of deploy/crds/ are served, the controllers run.
    ///
    /// # Panics
    /// Without root or the programs, or if it does not become ready.
    pub fn start(options: &Options) -> Self {
        let name = options.name.clone();
        let dir = tempfile::Builder::new().prefix(&format!("isthmus-kube-{name}-")).tempdir();
        let dir = dir.unwrap_or_else(|e| panic!("a temporary directory: {e}"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap_or_else(|e| panic!("a runtime: {e}"));
        let mut server = ApiServer::start(options, dir.path());
        let relay = Relay::start(server.netns(), server.address(), runtime.handle());
        let admin = admin(&server, &name, relay.address());
        let client = runtime.block_on(kubeconfig::client(admin.clone()));
        kubeconfig::write(&outside(dir.path()), &admin);
        kubeconfig::write(&inside(dir.path()), &self::admin(&server, &name, server.address()));
        runtime.block_on(answers(&client, &mut server));
        // Before the controllers: what they have not seen at their start, the garbage collector looks for every 30 s only.
        runtime.block_on(serve_custom_resources(&client));
        let kubeconfig = inside(dir.path());
        let _controllers = controllers::controllers(&server, options, &kubeconfig, dir.path());
        let _pods = controllers::pods(&server, options, &kubeconfig, dir.path());
        let cluster = Self { name, client, _pods, _controllers, server, relay, runtime: Some(runtime), dir };
        cluster.wait_account("default");
        cluster
    }

    /// Starts several at the same time.
    ///
    /// # Panics
    /// If one of them does not become ready.
    pub fn start_all<const N: usize>(options: &[Options; N]) -> [Self; N] {
        thread::scope(|scope| {
            let starting = options.each_ref().map(|options| scope.spawn(move || Self::start(options)));
            starting.map(|cluster| cluster.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A client that may do anything.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The namespace that its API server is in.
    pub fn netns(&self) -> &Arc<Netns> {
        self.server.netns()
    }

    /// Where its API server listens in that namespace.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// A directory that is removed in the end.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The administrator's kubeconfig for programs of this machine. Its one context has the cluster's name.
    pub fn kubeconfig(&self) -> PathBuf {
        outside(self.dir.path())
    }

    /// The administrator's kubeconfig for programs in the namespace, or with a route to it.
    pub fn kubeconfig_inside(&self) -> PathBuf {
        inside(self.dir.path())
    }

    /// A client that may do what RBAC lets this service account do.
    ///
    /// # Panics
    /// If there is no such account.
    pub fn client_of(&self, namespace: &str, account: &str) -> Client {
        let user = self.token(namespace, account);
        self.block_on(kubeconfig::client(self.kubeconfig_for(self.relay.address(), &user)))
    }

    /// A service account's kubeconfig, for programs in the namespace.
    ///
    /// # Panics
    /// If there is no such account.
    pub fn kubeconfig_of(&self, namespace: &str, account: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{namespace}-{account}.kubeconfig"));
        let user = self.token(namespace, account);
        kubeconfig::write(&path, &self.kubeconfig_for(self.server.address(), &user));
        path
    }

    /// Applies every document of `yaml`, in order, as `kubectl apply --server-side --force-conflicts` would.
    ///
    /// # Panics
    /// If the API server refuses one.
    pub fn apply(&self, yaml: &str) -> Vec<DynamicObject> {
        let applied = self.block_on(manifests::apply(&self.client, yaml));
        applied.unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// Deletes every object that `yaml` names.
    ///
    /// # Panics
    /// If the API server refuses, or has none.
    pub fn delete(&self, yaml: &str) {
        let deleted = self.block_on(manifests::delete(&self.client, yaml));
        deleted.unwrap_or_else(|e| panic!("{}: {e}", self.name));
    }

    /// Makes a Kubernetes namespace that pods can be made in.
    ///
    /// # Panics
    /// If the API server refuses.
    pub fn make_namespace(&self, name: &str) {
        let namespace = Namespace { metadata: named(name), ..Namespace::default() };
        let made = self.block_on(Api::all(self.client.clone()).create(&PostParams::default(), &namespace));
        made.unwrap_or_else(|e| panic!("{}: namespace {name}: {e}", self.name));
        self.wait_account(name);
    }

    /// Ends the API server, as a power cut would. Its data is kept.
    pub fn kill_api_server(&mut self) {
        self.server.kill();
    }

    /// Starts it again, at the same place.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start_api_server(&mut self) {
        self.server.run();
        match &self.runtime {
            Some(runtime) => runtime.block_on(answers(&self.client, &mut self.server)),
            None => unreachable!("only dropping takes the runtime"),
        }
    }

    /// SIGSTOP for the API server: connections stay, new ones are taken by the kernel, and nothing answers.
    pub fn pause_api_server(&self) {
        self.server.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume_api_server(&self) {
        self.server.signal(Signal::CONT);
    }

    /// Runs a test's asynchronous part to its end.
    ///
    /// # Panics
    /// If `future` does.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        match &self.runtime {
            Some(runtime) => runtime.block_on(future),
            None => unreachable!("only dropping takes the runtime"),
        }
    }

    fn kubeconfig_for(&self, server: SocketAddr, user: &User) -> Value {
        kubeconfig::kubeconfig(&self.name, server, &self.server.papers().file("ca.pem"), user)
    }

    fn token(&self, namespace: &str, account: &str) -> User {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let request = TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() };
        let token = self.block_on(accounts.create_token_request(account, &PostParams::default(), &request));
        let token = token.unwrap_or_else(|e| panic!("{}: a token for {namespace}/{account}: {e}", self.name));
        User::Token(token.status.and_then(|status| status.token).unwrap_or_default())
    }

    /// Pods of a namespace are refused until its default account is there.
    fn wait_account(&self, namespace: &str) {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        self.block_on(object(accounts, "default", &format!("{namespace} has a service account"), |found| {
            found.map(drop).ok_or_else(|| "none".into())
        }));
    }
}

impl fmt::Debug for KubeCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeCluster").field("name", &self.name).field("server", &self.server).finish_non_exhaustive()
    }
}

impl Drop for KubeCluster {
    fn drop(&mut self) {
        // Without waiting for tasks: what they were to tell is of no use any more.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Writes one kubeconfig with the administrator's context of each cluster.
///
/// # Panics
/// If it cannot be written, or there are no clusters.
pub fn write_kubeconfig(path: &Path, clusters: &[&KubeCluster]) {
    let all = clusters.iter().map(|cluster| admin(&cluster.server, &cluster.name, cluster.relay.address()));
    kubeconfig::write(path, &kubeconfig::merged(all.collect()));
}

fn outside(dir: &Path) -> PathBuf {
    dir.join("admin.kubeconfig")
}

fn inside(dir: &Path) -> PathBuf {
    dir.join("admin-inside.kubeconfig")
}

fn admin(server: &ApiServer, name: &str, address: SocketAddr) -> Value {
    let papers = server.papers();
    let user = User::Certificate { certificate: papers.file("admin.pem"), key: papers.file("admin.key") };
    kubeconfig::kubeconfig(name, address, &papers.file("ca.pem"), &user)
}

/// Waits for /readyz. There is nothing to watch before.
async fn answers(client: &Client, server: &mut ApiServer) {
    let deadline = Instant::now() + conditions::BOUND;
    loop {
        let request = ::http::Request::get("/readyz").body(Vec::new());
        let request = request.unwrap_or_else(|e| panic!("/readyz: {e}"));
        match client.request_text(request).await {
            Ok(_) => return,
            Err(e) => assert!(Instant::now() < deadline, "not within {:?}: /readyz: {e}", conditions::BOUND),
        }
        server.check();
        tokio::time::sleep(PAUSE).await;
    }
}

async fn serve_custom_resources(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for (path, yaml) in manifests::custom_resources() {
        let applied = manifests::apply(client, &yaml).await.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for name in applied.iter().filter_map(|applied| applied.metadata.name.as_deref()) {
            object(definitions.clone(), name, "a custom resource is served", |found| {
                let served = is_crd_established().matches_object(found);
                if served { Ok(()) } else { Err("it is not established".into()) }
            })
            .await;
        }
    }
}

fn named(name: &str) -> ::kube::core::ObjectMeta {
    ::kube::core::ObjectMeta { name: Some(name.to_owned()), ..::kube::core::ObjectMeta::default() }
}
