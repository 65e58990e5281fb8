use super::*;
use crate::{
    admin::{AdminSources, Readiness, serve},
    metrics::{Metrics, streams::Side},
    status::{CoreQuery, CoreReport, ExtraStatus},
    stream::record::Record,
};
use isthmus_control_api::{Link, ServicePort, Table};
use serde_json::Value;
use std::{
    io,
    net::SocketAddr,
    sync::Mutex,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// A gateway of one core, and what it is asked.
struct Gateway {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    tap: Arc<Tap>,
    table: Arc<Mutex<Table>>,
    asked: watch::Receiver<u32>,
    shutdown: CancellationToken,
    server: JoinSet<io::Result<()>>,
    _ready: watch::Sender<Readiness>,
}

fn start(token_file: Option<PathBuf>) -> Gateway {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (metrics, tap, shutdown) = (Metrics::new(1), Arc::<Tap>::default(), CancellationToken::new());
    let (count, asked) = watch::channel(0);
    let (ready, is_ready) = watch::channel(Readiness::default());
    let links = [("east".parse().unwrap(), Link::default())].into();
    let table = Arc::new(Mutex::new(Table { links, ..Table::default() }));
    let of_status = table.clone();
    let sources = AdminSources {
        probe: Arc::new(|_, _| {}),
        metrics: metrics.clone(),
        cores: 1,
        ask: Arc::new(move |_, CoreQuery(to, _)| {
            count.send_modify(|count| *count += 1);
            drop(to.send(CoreReport::default()));
        }),
        ready: is_ready,
        extra: Arc::new(move || {
            let table = Arc::new(of_status.lock().unwrap().clone());
            ExtraStatus { cluster: "west".into(), table, ..ExtraStatus::default() }
        }),
        console: Settings { token_file, records: Records(Some(tap.clone())), tunnels: None },
        transparent_sources: Default::default(),
    };
    let mut server = JoinSet::new();
    server.spawn(serve(listener, sources, shutdown.clone()));
    Gateway { address, metrics, tap, table, asked, shutdown, server, _ready: ready }
}

/// An event stream, read as it comes.
struct Events(BufReader<TcpStream>);

impl Gateway {
    async fn send(&self, path: &str, fields: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    }

    /// The whole answer; what is compressed is left out.
    async fn get(&self, path: &str, fields: &str) -> String {
        let mut bytes = Vec::new();
        self.send(path, fields).await.read_to_end(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    async fn watch(&self, path: &str) -> Events {
        Events(BufReader::new(self.send(path, "").await))
    }
}

impl Events {
    /// The next event's kind and data; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        let (mut kind, mut line) = (String::new(), String::new());
        while self.0.read_line(&mut line).await.unwrap() > 0 {
            if let Some(of) = line.strip_prefix("event: ") {
                kind = of.trim().to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((kind, serde_json::from_str(data).unwrap()));
            }
            line.clear();
        }
        None
    }
}

#[tokio::test]
async fn the_page_is_served_with_a_policy_that_lets_nothing_in() {
    let gateway = start(None);
    let redirect = gateway.get("/console", "").await;
    assert!(redirect.starts_with("HTTP/1.1 308") && redirect.contains("location: /console/"), "{redirect}");
    for file in ["", "console.js", "console.css", "index.html"] {
        let answer = gateway.get(&format!("/console/{file}"), "").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("content-encoding: gzip"), "{file}");
        assert!(answer.contains("content-security-policy: default-src 'none'; script-src 'self';"), "{file}");
    }
    let unknown = gateway.get("/console/other.js", "").await;
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
}

#[tokio::test]
async fn without_the_token_nothing_of_the_console_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "0123456789abcdef\n").unwrap();
    let gateway = start(Some(path.clone()));
    for path in ["/console/", "/console/console.js", "/console/events", "/console/events/link/east"] {
        let answer = gateway.get(path, "").await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("www-authenticate: Basic realm"), "{answer}");
    }
    let bearer = "authorization: Bearer 0123456789abcdef\r\n";
    assert!(gateway.get("/console/", bearer).await.starts_with("HTTP/1.1 200"));
    // It is read anew: another token counts at once, and none at all lets nobody in.
    std::fs::write(&path, "fedcba9876543210").unwrap();
    assert!(gateway.get("/console/", bearer).await.starts_with("HTTP/1.1 401"));
    std::fs::remove_file(&path).unwrap();
    assert!(gateway.get("/console/", bearer).await.starts_with("HTTP/1.1 503"));
    assert!(gateway.get("/livez", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_foreign_name_for_this_host_is_refused() {
    let gateway = start(None);
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.write_all(b"GET /console/events HTTP/1.1\r\nhost: evil.example:15020\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("as localhost or by address only"), "{answer}");
}

/// The page may be linked to from elsewhere. What it shows is for itself.
#[tokio::test]
async fn a_page_of_another_site_has_no_events() {
    let gateway = start(None);
    for fields in
        ["sec-fetch-site: cross-site\r\n", "sec-fetch-site: same-site\r\n", "origin: https://evil.example\r\n"]
    {
        for path in ["/console/events", "/console/events/link/east", "/console/events/service/shop/api"] {
            let answer = gateway.get(path, fields).await;
            assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("of another site's"), "{path}: {answer}");
        }
        assert!(gateway.get("/console/", fields).await.starts_with("HTTP/1.1 200"), "{fields}");
    }
    for site in ["same-origin", "none"] {
        let socket = gateway.send("/console/events", &format!("sec-fetch-site: {site}\r\n")).await;
        assert_eq!(Events(BufReader::new(socket)).next().await.unwrap().0, "all", "{site}");
    }
}

#[tokio::test]
async fn pages_are_told_everything_and_then_what_changes() {
    let gateway = start(None);
    let mut page = gateway.watch("/console/events").await;
    let (kind, all) = page.next().await.unwrap();
    assert_eq!((kind.as_str(), &all["head"]["cluster"]), ("all", &"west".into()));
    assert_eq!(all["links"]["east"]["state"], "waiting");
    gateway.table.lock().unwrap().links.insert("north".parse().unwrap(), Link::default());
    loop {
        let (kind, some) = page.next().await.unwrap();
        assert_eq!(kind, "some");
        assert!(some["links"].get("east").is_none(), "it did not change: {some}");
        if some["links"].get("north").is_some() {
            break;
        }
    }
    // One that comes later has it all, at once.
    let (kind, all) = gateway.watch("/console/events").await.next().await.unwrap();
    assert_eq!((kind.as_str(), all["links"].as_object().unwrap().len()), ("all", 2));
}

#[tokio::test]
async fn nothing_is_asked_while_nobody_looks_and_once_for_all_who_do() {
    let mut gateway = start(None);
    gateway.get("/livez", "").await;
    assert_eq!(*gateway.asked.borrow_and_update(), 0);
    let mut pages = [gateway.watch("/console/events").await, gateway.watch("/console/events").await];
    for page in &mut pages {
        page.next().await.unwrap();
    }
    let before = *gateway.asked.borrow_and_update();
    for page in &mut pages {
        page.next().await.unwrap();
    }
    let looks = *gateway.asked.borrow_and_update() - before;
    assert!(looks <= 2, "{looks} looks for one event of two pages");
}

#[tokio::test]
async fn a_services_last_streams_are_recorded_while_its_page_is_open() {
    let gateway = start(None);
    let service: ServicePort = ServicePort::tcp("shop/api".parse().unwrap(), 80);
    assert!(!gateway.tap.wants(&service));
    let mut page = gateway.watch("/console/events/service/shop/api").await;
    let (kind, detail) = page.next().await.unwrap();
    assert_eq!((kind.as_str(), &detail["trace"]["service"]), ("detail", &"shop/api".into()));
    assert!(gateway.tap.wants(&service) && !gateway.tap.wants(&ServicePort::tcp("shop/db".parse().unwrap(), 80)));
    for _ in 0..1_000 {
        gateway.tap.take(&record(&service));
    }
    let records = loop {
        let (_, detail) = page.next().await.unwrap();
        let records = detail["records"].as_array().unwrap().clone();
        if !records.is_empty() {
            break records;
        }
    };
    assert_eq!((records.len(), &records[0]["closed"]), (50, &"fin".into()));
}

#[tokio::test]
async fn a_links_page_has_its_history_and_handshakes() {
    let gateway = start(None);
    gateway.metrics.core(0).handshake(crate::tunnel::Direction::Dialled);
    let mut page = gateway.watch("/console/events/link/east").await;
    let (_, detail) = page.next().await.unwrap();
    assert_eq!(detail["history"]["changes"][0]["state"], "waiting");
    assert_eq!(detail["handshakes"]["dialled"], 1);
    let unknown = gateway.watch("/console/events/link/nowhere").await.next().await.unwrap();
    assert!(unknown.1["history"].is_null());
    let wrong = gateway.get("/console/events/link/No-Cluster", "").await;
    assert!(wrong.starts_with("HTTP/1.1 400") && wrong.contains("expected: a cluster"), "{wrong}");
}

#[tokio::test]
async fn pages_are_bounded_and_those_beyond_are_counted() {
    let gateway = start(None);
    let mut pages = Vec::new();
    for _ in 0..MOST_LOOKERS {
        let mut page = gateway.watch("/console/events").await;
        page.next().await.unwrap();
        pages.push(page);
    }
    let refused = gateway.get("/console/events", "").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("too many pages"), "{refused}");
    let scrape = gateway.get("/metrics", "").await;
    assert!(scrape.contains("isthmus_refusals_total{bound=\"console_pages\"} 1\n"));
    drop(pages.pop());
    // Its place is free once the gateway has noticed.
    while gateway.watch("/console/events").await.next().await.is_none() {}
}

#[tokio::test]
async fn pages_end_with_the_gateway() {
    let mut gateway = start(None);
    let mut page = gateway.watch("/console/events").await;
    page.next().await.unwrap();
    gateway.shutdown.cancel();
    while page.next().await.is_some() {}
    gateway.server.join_next().await.unwrap().unwrap().unwrap();
}

fn record(service: &ServicePort) -> Record {
    Record {
        time: SystemTime::UNIX_EPOCH,
        service: service.clone(),
        side: Side::Egress,
        peer: None,
        source: None,
        client: None,
        policy: None,
        dry_run: None,
        endpoint: None,
        bytes_up: 1,
        bytes_down: 2,
        duration: Duration::from_millis(3),
        connect: None,
        first_byte: None,
        closed: crate::close::Closed::Fin,
        retries: 0,
        choices: Vec::new(),
        traceparent: None,
    }
}
