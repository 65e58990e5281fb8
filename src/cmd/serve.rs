//! What the commands that serve have in common: `run`, `control` and `gateway`.
//!
//! ```text
//! run      Process + Ruling + Carrying, joined by `tunnels`
//! control  Process + Ruling, joined to gateways by isthmus_push::Server
//! gateway  Process + Carrying, joined to its control by isthmus_push::Client
//! ```

pub(super) mod carry;
mod compat;
pub(super) mod joins;
pub(super) mod kubernetes;
mod names;
mod quota;
pub(super) mod report;
pub(super) mod rule;
pub(super) mod secrets;
pub(super) mod tunnels;

pub(super) use compat::Compat;

use super::Failure;
use isthmus_certs::{Directory, IdentityStore, Role};
use isthmus_control::Config;
use isthmus_gateway::{
    POOL,
    admin::{self, AdminSources},
    console::Token,
};
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// What every command that serves takes.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The configuration (docs/configuration.md)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How log lines look
    #[arg(long, value_enum, default_value_t)]
    log: crate::log::LogFormat,
}

/// A process that serves, before it does.
pub(super) struct Process {
    pub(super) config: Config,
    pub(super) identity: IdentityStore,
    pub(super) signals: Signals,
    /// Told of each SIGHUP.
    pub(super) reload: Arc<Notify>,
    /// Everything that ends with the process, and has no last words.
    pub(super) tasks: JoinSet<()>,
    /// Cancelled when nothing more is to be done.
    pub(super) stop: CancellationToken,
    /// Until it is served.
    admin: Option<TcpListener>,
}

/// Runs `serve` as a process of that role, until SIGTERM or SIGINT; what is to be done then is up to it.
pub(super) fn run<F>(
    options: &Options,
    role: Role,
    compat: &Compat,
    serve: impl FnOnce(Process) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    // SAFETY: this is the first that these commands do, and there are no threads before the runtime.
    unsafe { isthmus_gateway::memory::keep_little() };
    let mut config = Config::load(&options.config)?.with_links();
    config.check_files()?;
    compat.add_to(&mut config)?;
    crate::log::init(options.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().thread_name(POOL).build()?;
    let result = runtime.block_on(async {
        secrets::prepare(&config, role).await?;
        console_is_usable(&config).await?;
        serve(Process::start(config, role)?).await
    });
    // Lookups of DNS names may hang in their threads: nothing waits for them.
    runtime.shutdown_background();
    result
}

impl Process {
    fn start(config: Config, role: Role) -> Result<Self, Failure> {
        let signals = Signals::new()?;
        let (hangup, reload) = (signal(SignalKind::hangup())?, Arc::<Notify>::default());
        let admin = TcpListener::bind(config.admin)
            .map_err(|e| Failure::failed(format!("admin: cannot listen on {}: {e}", config.admin)))?;
        let (identity, renewal) = IdentityStore::open(directory(&config, role))?;
        belongs(&config, &identity, role)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(renewal.run());
        tasks.spawn(hangups(hangup, reload.clone()));
        Ok(Self { config, identity, signals, reload, tasks, stop: CancellationToken::new(), admin: Some(admin) })
    }

    /// Serves the admin address to the end: it answers during the drain as well, as /readyz has to say so.
    pub(super) fn admin(&mut self, sources: AdminSources) {
        let Some(listener) = self.admin.take() else { return };
        let served = admin::serve(listener, sources, self.stop.clone());
        self.tasks.spawn(async {
            if let Err(error) = served.await {
                tracing::error!(%error, "the admin address is not served any more");
            }
        });
    }
}

/// The console's token must be there at the start; later on it is read whenever it is needed.
async fn console_is_usable(config: &Config) -> Result<(), Failure> {
    match &config.console.token_file {
        Some(path) => {
            let read = Token::read(path).await.map_err(|e| Failure::failed(format!("{}: {e}", config.path.display())));
            read.map(drop)
        }
        None => Ok(()),
    }
}

/// Where the identity of a process of that role lies: a path that whoever reads status or log can use, wherever he is.
pub(super) fn directory(config: &Config, role: Role) -> Directory {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Directory::of(absolute(&config.identity), role).with_bundles(config.bundles.as_deref().map(absolute).as_deref())
}

/// SIGHUP asks for a look at the configuration, and ends nothing. Where nobody is told, as control says what to do, there is nothing
/// to look at.
async fn hangups(mut hangup: Signal, reload: Arc<Notify>) {
    while hangup.recv().await.is_some() {
        reload.notify_one();
    }
}

/// What ends the process.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one's name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The identity must be that of the cluster that the configuration names, and of a process of that role.
pub(super) fn belongs(config: &Config, identity: &IdentityStore, role: Role) -> Result<(), Failure> {
    let current = identity.current();
    let expected = format!("{}.{}", config.cluster, config.clusterset);
    let found = current.id().trust_domain();
    let (path, directory) = (config.path.display(), config.identity.display());
    if found != expected {
        let message =
            format!("{path}: identity: {directory} holds the identity of {found:?}, expected that of {expected:?}");
        return Err(Failure::failed(message));
    }
    if current.role() != role {
        let (found, expected) = (current.role().as_str(), role.as_str());
        let message = format!(
            "{path}: identity: {directory} holds the SVID of a {found}, expected that of a {expected}: \
             `isthmus identity issue --service-account isthmus-system/{expected}` makes one"
        );
        return Err(Failure::failed(message));
    }
    Ok(())
}
