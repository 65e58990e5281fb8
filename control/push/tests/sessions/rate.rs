//! What a storm of changes costs: bytes, CPU of control's side and of a gateway's, and the time to get there.
//!
//! `RATE="10000 100 10" cargo test --release -p isthmus-push --test sessions rate -- --ignored --nocapture`: services, changes a second,
//! seconds. Two gateways. What control needs to make a table, and a gateway to use it, is not in it.

use crate::sides::{Ca, Control, Gateway};
use isthmus_control_api::{Endpoint, Export, ServicePort, Table};
use isthmus_push::PushKind;
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::{runtime::Builder, sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

#[test]
#[ignore = "a measurement by hand"]
fn rate() {
    let text = std::env::var("RATE").unwrap_or_default();
    let args: Vec<u32> = text.split_whitespace().map(|arg| arg.parse().unwrap()).collect();
    let [services, rate, seconds] = args[..].try_into().unwrap_or([10_000, 100, 10]);
    let ca: &'static Ca = Box::leak(Box::new(Ca::new("west.demo")));
    let (to_control, mut tables) = mpsc::channel(4);
    let first = table(services);
    thread::spawn({
        let mut table = first.clone();
        move || {
            thread::sleep(Duration::from_secs(3));
            let begin = Instant::now();
            for n in 0..rate * seconds {
                table = changed(&table, n % services, n);
                to_control.blocking_send(table.clone()).unwrap();
                let next = begin + Duration::from_secs(1) * (n + 1) / rate;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        }
    });
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async move {
        let control = Control::start(ca, 1, first).await;
        let address = control.address();
        let over = CancellationToken::new();
        let follow = |id| {
            let over = over.clone();
            thread::spawn(move || gateway(ca, id, address, &over))
        };
        let gateways: Vec<_> = (1..3).map(follow).collect();
        sleep(Duration::from_secs(2)).await;
        let (whole, before, begun) = (control.pushed(), cpu(), Instant::now());
        while let Some(table) = tables.recv().await {
            control.publish(table);
        }
        let (used, seconds) = (cpu() - before, begun.elapsed().as_secs_f64());
        let last = control.newest();
        sleep(Duration::from_secs(1)).await;
        let pushed = control.pushed();
        let deltas: Vec<usize> = pushed.iter().skip(whole.len()).map(|(_, bytes)| *bytes).collect();
        assert!(pushed.iter().skip(whole.len()).all(|(kind, _)| *kind == PushKind::Delta));
        let status = control.status();
        assert!(
            status.gateways.len() == 2 && status.gateways.iter().all(|one| one.table_version == Some(last.version))
        );
        over.cancel();
        let mut took = control.propagation();
        took.sort();
        let changes = last.version - 1;
        println!("{services} services, {changes} changes in {seconds:.1} s, 2 gateways");
        println!(
            "snapshot {} bytes; {} deltas, {} bytes each, {} bytes a change and gateway",
            whole[0].1,
            deltas.len(),
            deltas.iter().sum::<usize>() / deltas.len(),
            deltas.iter().sum::<usize>() / 2 / changes as usize
        );
        println!("control's side {:.1}% of a core", percent(used, seconds));
        for gateway in gateways {
            println!("a gateway's side {:.1}% of a core", percent(gateway.join().unwrap(), seconds));
        }
        println!("published to taken: p50 {:?}, p99 {:?}", took[took.len() / 2], took[took.len() * 99 / 100]);
    });
}

/// Follows until it is over; CPU time.
fn gateway(ca: &Ca, id: u64, control: std::net::SocketAddr, over: &CancellationToken) -> Duration {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let _gateway = Gateway::start_alone(ca, id, control, (Arc::default(), 0));
        sleep(Duration::from_secs(1)).await;
        let before = cpu();
        over.cancelled().await;
        cpu() - before
    })
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn percent(used: Duration, seconds: f64) -> f64 {
    used.as_secs_f64() / seconds * 100.0
}

fn service(n: u32) -> ServicePort {
    ServicePort::tcp(format!("namespace-{}/service-{n}", n % 100).parse().unwrap(), 80)
}

fn export(ip: u32) -> Arc<Export> {
    let endpoints = (1..=10).map(|port| Endpoint::at((ip.to_be_bytes(), 8000 + port).into())).collect();
    Arc::new(Export { port_name: Some("http".into()), endpoints, ..Export::default() })
}

fn table(services: u32) -> Arc<Table> {
    let exports = (0..services).map(|n| (service(n), export(n))).collect();
    Arc::new(Table { version: 1, exports, ..Table::default() })
}

fn changed(table: &Table, service_number: u32, n: u32) -> Arc<Table> {
    let mut table = Table { version: table.version + 1, ..table.clone() };
    table.exports.insert(service(service_number), export(0x0a00_0000 + n));
    Arc::new(table)
}
