//! The TLS configurations of tunnels.

use super::{H2, ISTHMUS};
use isthmus_certs::{AllowedClusters, IdentityStore, tls};
use isthmus_control_api::{ClusterName, Table, TransportChoice};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::sync::watch;

/// TLS configurations: one for what peers dial, and one for each cluster and transport that is dialled. Certificates are not in
/// them: each handshake takes those that are current.
pub(crate) struct TlsConfigs {
    identity: IdentityStore,
    server: Arc<rustls::ServerConfig>,
    /// The same without HTTP/2: over QUIC, and inside a relay's streams.
    isthmus: Arc<rustls::ServerConfig>,
    /// Taken when a tunnel is dialled, never on a stream's path.
    clients: Mutex<BTreeMap<(ClusterName, u8), Arc<rustls::ClientConfig>>>,
}

impl TlsConfigs {
    /// Configurations for `identity`. Peers must belong to a cluster that the table links with.
    pub(crate) fn new(identity: &IdentityStore, table: watch::Receiver<Arc<Table>>) -> Result<Self, rustls::Error> {
        let linked = AllowedClusters::new(move |cluster| table.borrow().links.contains_key(cluster));
        let server = tls::server_config(identity, linked, &[ISTHMUS, H2])?;
        let mut isthmus = rustls::ServerConfig::clone(&server);
        isthmus.alpn_protocols = vec![ISTHMUS.to_vec()];
        Ok(Self { identity: identity.clone(), server, isthmus: Arc::new(isthmus), clients: Mutex::default() })
    }

    /// What peers dial.
    pub(crate) fn server(&self) -> Arc<rustls::ServerConfig> {
        self.server.clone()
    }

    /// The same where there is no HTTP/2.
    pub(crate) fn isthmus_server(&self) -> Arc<rustls::ServerConfig> {
        self.isthmus.clone()
    }

    /// What a cluster is dialled with.
    ///
    /// # Errors
    /// TLS cannot be configured.
    pub(in crate::peer) fn client(
        &self,
        cluster: &ClusterName,
        choice: TransportChoice,
    ) -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
        let alpn: &[&[u8]] = match choice {
            TransportChoice::Auto => &[ISTHMUS, H2],
            TransportChoice::Tls | TransportChoice::Quic => &[ISTHMUS],
            TransportChoice::H2 => &[H2],
        };
        let mut clients = self.clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = (cluster.clone(), choice as u8);
        if let Some(config) = clients.get(&key) {
            return Ok(config.clone());
        }
        let config = tls::client_config(&self.identity, cluster, alpn)?;
        clients.insert(key, config.clone());
        Ok(config)
    }
}
