//! Linked clusters as everything else of control sees them.

use crate::exchange::summary::Summaries;
use isthmus_control_api::{ClusterName, ServiceName, ServicePort};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// All linked clusters.
pub type PeerViews = BTreeMap<ClusterName, PeerView>;

/// What is known of a linked cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerView {
    /// Whether a tunnel to it is live.
    pub up: bool,
    /// Whether it has said since our start what it exports. Until then `exports` is what it said before, if anything.
    pub synced: bool,
    /// Whether no tunnel to it is live although there has been time enough since our start: it is down, not only not heard of yet.
    pub late: bool,
    /// What it last said that it exports, within the namespaces that are taken from it.
    pub exports: Arc<Summaries>,
    /// Our services that it is not told of, since there is no room for them.
    pub untold: Arc<BTreeSet<ServiceName>>,
    /// What the configuration says that it serves: each counts for one endpoint.
    pub stated: Arc<BTreeSet<ServicePort>>,
}
