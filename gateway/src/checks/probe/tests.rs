use super::*;
use std::time::Duration;
use tokio::{io::AsyncReadExt as _, net::TcpListener};

fn probes() -> [Probe; 4] {
    [
        Probe::Tcp,
        Probe::Tls { host: None },
        Probe::Http { path: "/".into(), host: None, expect: 200..=299 },
        Probe::Grpc { service: String::new(), host: None },
    ]
}

/// Asks an endpoint that says these bytes, reads, and closes.
async fn ask_one_that_says(bytes: &'static [u8], probe: Probe) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let saying = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut asked = [0; 4096];
        let _ = stream.read(&mut asked).await;
    };
    let (interval, timeout) = (Duration::from_secs(1), Duration::from_secs(10));
    let check = HealthCheck { probe, interval, timeout, healthy: 1, unhealthy: 1 };
    let tls = Tls::new().unwrap();
    tokio::join!(run(&check, address, false, &tls), saying).0.unwrap()
}

#[tokio::test(flavor = "local")]
async fn what_is_another_protocol_is_not_well() {
    for bytes in [&b""[..], b"220 mail.example ESMTP\r\n", b"\0\0\0\x04\x01\0\0\0\0oops", b"HTTP/1.1 999 \r\n\r\n"] {
        for probe in probes() {
            let is_tcp = probe == Probe::Tcp;
            let found = ask_one_that_says(bytes, probe.clone()).await;
            assert_eq!(found.is_ok(), is_tcp, "{probe:?} of {bytes:?}: {found:?}");
            assert!(
                !found.is_err_and(|error| error.contains("no answer")),
                "{probe:?} of {bytes:?} took all of its time"
            );
        }
    }
}

#[tokio::test(flavor = "local")]
async fn a_status_is_taken_or_not() {
    let http = || Probe::Http { path: "/".into(), host: None, expect: 200..=299 };
    assert_eq!(ask_one_that_says(b"HTTP/1.1 204 No Content\r\n\r\n", http()).await, Ok(()));
    let refused = ask_one_that_says(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", http()).await;
    assert_eq!(refused, Err("status 503".into()));
}
