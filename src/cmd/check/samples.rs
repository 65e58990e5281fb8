//! What a gateway that is well says, for tests.

use isthmus_gateway::status::Status;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// When it says so.
pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(3600)
}

/// West's status, changed like this.
pub(super) fn status(change: impl FnOnce(&mut Value)) -> Status {
    let mut json = json!({
        "cluster": "west", "clusterset": "demo", "version": "0.1.0", "ready": true, "not_ready": null,
        "table": {"version": 12, "age_seconds": 35.2},
        "links": [{
            "cluster": "east", "state": "up", "transport": "tls", "direction": "dialled", "rtt_ms": 1.234, "streams_in": 3,
            "streams_out": 14, "tunnels": 2, "sync_age_seconds": 2.0, "cert_expiry": "1970-01-01T23:00:00Z", "message": null,
            "clock_ahead_seconds": 0.2, "degraded": false, "gateways": {"reached": 2, "known": 2, "addresses": []},
        }],
        "services": [
            {"service": "shop/api", "port": 80, "kind": "import", "listen": "127.0.0.1:18080",
             "clusters": {"east": 2}, "endpoints": [], "message": null},
            {"service": "shop/api", "port": 80, "kind": "export", "listen": null, "clusters": {}, "message": null,
             "endpoints": [{"address": "10.0.0.2:8080", "health": "healthy", "inflight": 3, "ewma_ms": 0.5, "failures": 0}]},
        ],
        "identity": {"id": "spiffe://west.demo/ns/isthmus-system/sa/gateway", "not_after": "1970-01-01T22:00:00Z",
                     "renews_at": "1970-01-01T10:00:00Z", "last_error": null, "trusts": ["east"],
                     "directory": "/etc/isthmus/west", "bundles": "/etc/isthmus/west/bundles"},
        "silent_cores": [],
        "control": {
            "config": "west.yaml", "lastReloadError": null, "needsRestart": [], "untold": [],
            "peers": {"east": {"up": true, "received": "synced", "sent": "synced", "imported": 1, "exported": 1, "error": null}},
        },
    });
    change(&mut json);
    serde_json::from_value(json).unwrap_or_else(|e| panic!("the sample is no status: {e}"))
}
