//! One endpoint of eight is twenty times slower than the others: what a client waits for the first byte, through each setup's
//! least-request (HAProxy: leastconn).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::first;
use crate::ground::local;
use crate::metric::Metric;
use crate::origin::BODY;
use crate::schedule::{Plan, Run, Stage};
use crate::setup::Setup;

/// What is compared.
pub const SETUPS: [Setup; 4] = [Setup::IsthmusTls, Setup::EnvoyTcp, Setup::EnvoyHbone, Setup::Haproxy];
/// Endpoints of the service.
const ENDPOINTS: usize = 8;
/// How long a quick one takes to answer.
const QUICK: Duration = Duration::from_millis(5);
/// How long the slow one takes.
const SLOW: Duration = Duration::from_millis(100);
/// Everybody has found out by then.
const WARM_UP: Duration = Duration::from_secs(2);

/// Measures each setup once a round of `plan`, for its seconds each time.
pub fn run(plan: &Plan, stage: &Stage<'_>, out: &mut dyn Write) -> Result<Run> {
    let (started, Stage { env, .. }) = (Instant::now(), *stage);
    let interrupted = || env.interrupted();
    let mut origin = stage.origin()?;
    origin.endpoints = (0..ENDPOINTS).map(|n| serve(if n == 0 { SLOW } else { QUICK })).collect::<Result<_>>()?;
    let site = stage.site(&origin);
    let pairs = plan.setups.iter().map(|setup| setup.start(&site, &plan.name)).collect::<Result<Vec<_>>>()?;
    let mut run = Run::default();
    for round in 1..=plan.rounds {
        for pair in &pairs {
            first::run(pair.web, WARM_UP, &interrupted)?;
            let found = first::run(pair.web, Duration::from_secs(plan.scale.seconds.into()), &interrupted)?;
            let Some([p50, p99]) = found.percentiles else {
                return Err(Error::Load(format!("{}: no answer", pair.setup.title())));
            };
            let [p50, p99] = [p50, p99].map(|time| time.as_secs_f64() * 1e3);
            run.samples.record(round, pair.setup, &[(Metric::FirstP50, p50), (Metric::FirstP99, p99)]);
            let line = format!(
                "round {round}  {:<12} first byte p50 {p50:.1} ms, p99 {p99:.1} ms, {} failed",
                pair.setup.key(),
                found.failed
            );
            // Progress that cannot be shown is no reason to end the measurement.
            let _ = writeln!(out, "{line}");
        }
    }
    run.took = started.elapsed();
    Ok(run)
}

/// An HTTP server whose every answer takes so long. It ends with the process.
fn serve(after: Duration) -> Result<SocketAddr> {
    let failed = || Error::io("starting an endpoint");
    let listener = TcpListener::bind(local(0)).map_err(failed())?;
    let address = listener.local_addr().map_err(failed())?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, after));
        }
    });
    Ok(address)
}

/// Answers every request of a connection.
fn answer(mut stream: TcpStream, after: Duration) {
    let body = "x".repeat(BODY);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n{body}");
    let (mut head, mut room) = (Vec::new(), [0; 1024]);
    while let Ok(count @ 1..) = stream.read(&mut room) {
        head.extend_from_slice(&room[..count]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            thread::sleep(after);
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[test]
    fn an_endpoint_answers_after_its_time() {
        let address = serve(SLOW).unwrap();
        let mut stream = http::connect(address).unwrap();
        let begun = Instant::now();
        assert_eq!(http::exchange(&mut stream, "/").unwrap(), BODY);
        assert_eq!(http::exchange(&mut stream, "/").unwrap(), BODY);
        assert!(begun.elapsed() >= 2 * SLOW);
    }
}
