mod measure;

use super::*;
use std::{net::SocketAddr, sync::atomic::AtomicUsize, sync::atomic::Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Long enough for a busy machine, where nothing is to be cut off.
const AMPLE: Limits = Limits {
    connections: 64,
    head: Duration::from_secs(60),
    connection: Duration::from_secs(120),
    cores: Duration::from_secs(60),
    goodbye: Duration::from_secs(60),
};

struct Admin {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    ready: watch::Sender<Readiness>,
    shutdown: CancellationToken,
    server: JoinSet<io::Result<()>>,
}

/// A gateway of two cores that both answer at once.
fn start(limits: Limits) -> Admin {
    start_with(limits, |_, CoreQuery(to, _)| drop(to.send(CoreReport::default())))
}

fn start_with(limits: Limits, ask: impl Fn(usize, CoreQuery) + Send + Sync + 'static) -> Admin {
    start_of(limits, ask, || ExtraStatus { cluster: "west".into(), ..ExtraStatus::default() })
}

/// The same, of which this is known besides.
fn start_about(limits: Limits, extra: impl Fn() -> ExtraStatus + Send + Sync + 'static) -> Admin {
    start_of(limits, |_, CoreQuery(to, _)| drop(to.send(CoreReport::default())), extra)
}

fn start_of(
    limits: Limits,
    ask: impl Fn(usize, CoreQuery) + Send + Sync + 'static,
    extra: impl Fn() -> ExtraStatus + Send + Sync + 'static,
) -> Admin {
    start_probed(limits, ask, extra, answer_probe)
}

/// The same, whose cores answer probes so.
fn start_probed(
    limits: Limits,
    ask: impl Fn(usize, CoreQuery) + Send + Sync + 'static,
    extra: impl Fn() -> ExtraStatus + Send + Sync + 'static,
    probe: impl Fn(usize, CoreProbe) + Send + Sync + 'static,
) -> Admin {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (metrics, shutdown, ready) = (Metrics::new(2), CancellationToken::new(), watch::Sender::default());
    let sources = AdminSources {
        metrics: metrics.clone(),
        cores: 2,
        ask: Arc::new(ask),
        probe: Arc::new(probe),
        ready: ready.subscribe(),
        extra: Arc::new(extra),
        console: console::Settings::default(),
        transparent_sources: Default::default(),
    };
    let mut server = JoinSet::new();
    server.spawn(serve_within(listener, sources, shutdown.clone(), limits));
    Admin { address, metrics, ready, shutdown, server }
}

impl Admin {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The whole answer to a request, until the server closes.
    async fn get(&self, path: &str) -> String {
        let mut socket = self.connect().await;
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: admin\r\n\r\n").as_bytes()).await.unwrap();
        read_all(&mut socket).await
    }
}

/// What comes until the end; a reset is an end.
async fn read_all(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

fn code(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn ready_follows_the_gateway() {
    let admin = start(AMPLE);
    let steps = [
        (Readiness::default(), "503", "not ready: the first endpoint table has not been applied"),
        (Readiness { table_applied: true, ..Readiness::default() }, "503", "not ready: not all listeners are bound"),
        (Readiness { table_applied: true, listeners_bound: true, draining: false }, "200", "ready"),
        (Readiness { table_applied: true, listeners_bound: true, draining: true }, "503", "not ready: draining"),
    ];
    for (readiness, expected, body) in steps {
        admin.ready.send_replace(readiness);
        let answer = admin.get("/readyz").await;
        assert_eq!(code(&answer), expected, "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}\n")), "{answer}");
    }
}

#[tokio::test]
async fn a_live_process_says_so() {
    let admin = start(AMPLE);
    assert_eq!(code(&admin.get("/livez").await), "200");
}

#[tokio::test]
async fn metrics_are_served_as_openmetrics() {
    let admin = start(AMPLE);
    admin.metrics.core(1).refused(Bound::Memory);
    let answer = admin.get("/metrics").await;
    assert!(answer.contains("content-type: application/openmetrics-text"), "{answer}");
    assert!(answer.contains("isthmus_refusals_total{bound=\"memory\"} 1\n"), "{answer}");
}

#[tokio::test]
async fn a_core_that_does_not_answer_is_named() {
    let limits = Limits { cores: Duration::from_millis(50), ..AMPLE };
    let kept = std::sync::Mutex::new(Vec::new());
    let admin = start_with(limits, move |core, query| match core {
        0 => drop(query.0.send(CoreReport::default())),
        _ => kept.lock().unwrap().push(query),
    });
    let answer = admin.get("/status").await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let status: Status = serde_json::from_str(body).unwrap();
    assert_eq!((status.cluster.as_str(), status.silent_cores), ("west", vec![1]));
}

#[tokio::test]
async fn events_that_are_taken_outlast_the_time_of_a_connection() {
    let limits = Limits { connection: Duration::from_secs(4), ..AMPLE };
    let (admin, begun) = (start(limits), Instant::now());
    let mut socket = admin.connect().await;
    socket.write_all(b"GET /console/events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut room = [0; 4096];
    while begun.elapsed() < limits.connection * 3 / 2 {
        assert_ne!(socket.read(&mut room).await.unwrap(), 0, "cut off after {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let admin = start(AMPLE);
    assert_eq!(code(&admin.get("/").await), "404");
    let mut socket = admin.connect().await;
    socket.write_all(b"POST /status HTTP/1.1\r\nhost: admin\r\ncontent-length: 1000000\r\n\r\n").await.unwrap();
    assert_eq!(code(&read_all(&mut socket).await), "405");
}

#[tokio::test]
async fn a_request_that_drips_is_cut_off() {
    let admin = start(Limits { head: Duration::from_millis(100), ..AMPLE });
    let mut socket = admin.connect().await;
    socket.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    // A byte at a time, without an end: only the server can end this.
    while socket.write_all(b"x").await.is_ok() {
        time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(code(&admin.get("/livez").await), "200");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_cut_off() {
    let admin = start(Limits { head: Duration::from_millis(50), ..AMPLE });
    assert_eq!(read_all(&mut admin.connect().await).await, "");
}

#[tokio::test]
async fn a_connection_ends_in_time_and_leaves_its_place() {
    let admin = start(Limits { connections: 1, connection: Duration::from_millis(100), ..AMPLE });
    let mut stuck = admin.connect().await;
    stuck.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n").await.unwrap();
    read_all(&mut stuck).await;
    // Its place is free again.
    while code(&admin.get("/livez").await) != "200" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let admin = start(AMPLE);
    let mut socket = admin.connect().await;
    let field = format!("x: {}\r\n", "y".repeat(LONGEST_HEAD));
    // The server may close before it has read everything.
    let _ = socket.write_all(format!("GET /livez HTTP/1.1\r\n{field}\r\n").as_bytes()).await;
    let answer = read_all(&mut socket).await;
    assert!(["431", ""].contains(&code(&answer)), "{answer}");
    let mut socket = admin.connect().await;
    let fields = "a: b\r\n".repeat(MOST_FIELDS + 1);
    let _ = socket.write_all(format!("GET /livez HTTP/1.1\r\n{fields}\r\n").as_bytes()).await;
    assert_eq!(code(&read_all(&mut socket).await), "431");
}

#[tokio::test]
async fn too_many_connections_are_refused_and_counted() {
    let admin = start(Limits { connections: 2, ..AMPLE });
    let mut held = [admin.connect().await, admin.connect().await];
    let mut third = admin.connect().await;
    let answer = read_all(&mut third).await;
    assert!(answer.is_empty() || code(&answer) == "503", "{answer}");
    // Those that were there first are served.
    held[0].write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert_eq!(code(&read_all(&mut held[0]).await), "200");
    let metrics = loop {
        // The place is free once the server's task has ended, a moment after its answer was read.
        let answer = admin.get("/metrics").await;
        if code(&answer) == "200" {
            break answer;
        }
    };
    assert!(!metrics.contains("isthmus_refusals_total{bound=\"admin_connections\"} 0\n"));
}

#[tokio::test]
async fn shutdown_lets_the_request_under_way_finish() {
    let asked = Arc::new(AtomicUsize::new(0));
    let queries = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (counted, kept) = (asked.clone(), queries.clone());
    let mut admin = start_with(AMPLE, move |_, query| {
        kept.lock().unwrap().push(query);
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let request = admin.get("/status");
    let shutdown = async {
        while asked.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        admin.shutdown.cancel();
        tokio::task::yield_now().await;
        queries.lock().unwrap().drain(..).for_each(|CoreQuery(to, _)| drop(to.send(CoreReport::default())));
    };
    let (answer, ()) = tokio::join!(request, shutdown);
    assert_eq!(code(&answer), "200");
    admin.server.join_next().await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(admin.address).await.is_err());
}

/// Both cores have a tunnel to east; only the second one has one that streams to services can be opened on.
fn answer_probe(core: usize, asked: CoreProbe) {
    match asked {
        CoreProbe::Links(to) => {
            let tunnel = status::probe::TunnelProbe {
                core,
                transport: "tls".into(),
                gateway: "0000000000000001".into(),
                answered_ms: Some(1.5),
                echoed_ms: Some(2.5),
                error: None,
            };
            drop(to.send(vec![("east".parse().unwrap(), tunnel)]));
        }
        CoreProbe::Service(_, to) => drop(to.send((core == 1).then_some(Ok(Duration::from_millis(3))))),
        CoreProbe::Measure(..) => panic!("nobody has asked for it"),
    }
}

impl Admin {
    async fn post(&self, path: &str, fields: &str) -> String {
        let mut socket = self.connect().await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\n{fields}\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        read_all(&mut socket).await
    }
}

fn body(answer: &str) -> serde_json::Value {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"))
}

#[tokio::test]
async fn links_are_probed_on_every_core() {
    let admin = start(AMPLE);
    let found = body(&admin.post("/probe/links", "").await);
    assert_eq!(found["links"][0]["cluster"], "east");
    let tunnels = found["links"][0]["tunnels"].as_array().unwrap();
    assert_eq!(tunnels.iter().map(|of| &of["core"]).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(code(&admin.get("/probe/links").await), "405", "a probe is not a look");
}

#[tokio::test]
async fn a_service_is_probed_on_the_first_core_that_can() {
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let serving = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = start_about(AMPLE, move || ExtraStatus {
        table: Arc::new(serving_table(&[serving.local_addr().unwrap(), refusing])),
        ..ExtraStatus::default()
    });
    let found = body(&admin.post("/probe/service/shop/api?from=10.0.0.7", "").await);
    assert_eq!(found["imports"][0]["clusters"][0]["opened_ms"], 3.0, "{found}");
    let endpoints = found["exports"][0]["endpoints"].as_array().unwrap();
    let failed = endpoints.iter().filter(|endpoint| endpoint["error"].is_string()).count();
    assert_eq!((endpoints.len(), failed), (2, 1), "{found}");
    assert_eq!(body(&admin.post("/probe/service/shop/db", "").await)["imports"], serde_json::json!([]));
    for (path, said) in
        [("/probe/service/shop/A", "each a DNS label"), ("/probe/service/shop/api?from=east", "an IP address")]
    {
        let answer = admin.post(path, "").await;
        assert!(code(&answer) == "400" && answer.contains(said), "{answer}");
    }
}

fn serving_table(endpoints: &[SocketAddr]) -> isthmus_control_api::Table {
    use isthmus_control_api::{Endpoint, Export, Import, ServicePort, Table};
    let port = ServicePort::tcp("shop/api".parse().unwrap(), 80);
    let import = Import {
        service: port.clone(),
        affinity: Default::default(),
        clusters: [("east".parse().unwrap(), 1)].into(),
        weights: None,
        sticky: false,
        policy: Default::default(),
    };
    let endpoints = endpoints.iter().map(|&address| Endpoint::at(address)).collect();
    Table {
        imports: [("127.0.0.1:80".parse().unwrap(), Arc::new(import))].into(),
        exports: [(port, Arc::new(Export { endpoints, ..Export::default() }))].into(),
        ..Table::default()
    }
}

#[tokio::test]
async fn a_page_in_a_browser_cannot_probe() {
    let admin = start(AMPLE);
    assert_eq!(code(&admin.post("/probe/links", "origin: http://example.com\r\n").await), "403");
}

#[tokio::test]
async fn probes_are_bounded_and_counted() {
    let admin = start(AMPLE);
    loop {
        let answer = admin.post("/probe/links", "").await;
        if code(&answer) == "429" {
            break;
        }
        assert_eq!(code(&answer), "200", "{answer}");
    }
    assert!(!admin.get("/metrics").await.contains("isthmus_refusals_total{bound=\"probes\"} 0\n"));
}
