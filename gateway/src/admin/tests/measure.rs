use super::*;
use crate::{
    status::{
        TunnelReport,
        measure::{Arrived, CoreMeasured, End, MeasureAnswer, MeasureQuery, NotMeasured, StreamMeasured, Way},
    },
    tunnel::{Direction, Refusal, RefusalReason, Transport, TunnelHealth, TunnelStatus},
};
use isthmus_control_api::{Link, Table};
use tokio::sync::mpsc;

type Measuring = (usize, MeasureQuery, oneshot::Sender<MeasureAnswer>);

/// A gateway whose two cores have a tunnel to east each; what they are asked to measure.
fn start_linked() -> (Admin, mpsc::Receiver<Measuring>) {
    let (to, asked) = mpsc::channel(8);
    let extra = || {
        let links = ["east", "north"].map(|name| (name.parse().unwrap(), Link::default())).into();
        let table = Arc::new(Table { links, ..Table::default() });
        ExtraStatus { cluster: "west".into(), table, ..ExtraStatus::default() }
    };
    let ask = |_, CoreQuery(to, _): CoreQuery| {
        drop(to.send(CoreReport { tunnels: vec![tunnel()], ..CoreReport::default() }));
    };
    let probe = move |core, probe| match probe {
        CoreProbe::Measure(query, answer) => to.try_send((core, query, answer)).unwrap(),
        other => panic!("{other:?}"),
    };
    (start_probed(AMPLE, ask, extra, probe), asked)
}

fn tunnel() -> TunnelReport {
    let status = TunnelStatus {
        transport: Transport::Tls,
        direction: Direction::Dialled,
        health: TunnelHealth::Live,
        rtt: None,
        streams_out: 0,
        streams_in: 0,
        peer: None,
    };
    TunnelReport { cluster: "east".parse().unwrap(), status, address: None, cert_expiry: None, via: None }
}

fn measured(bytes: u64, end: End) -> CoreMeasured {
    let mut arrived = Arrived::default();
    arrived.note(bytes, Duration::ZERO, Duration::from_secs(1));
    let stream = StreamMeasured { transport: "tls", gateway: "1".into(), arrived, end };
    CoreMeasured { streams: vec![stream], idle: vec![Duration::from_millis(1)], ..CoreMeasured::default() }
}

#[tokio::test]
async fn cores_measure_together_and_their_findings_are_one() {
    let (admin, mut asked) = start_linked();
    let answer = admin.post("/measure/east?direction=up&seconds=2&streams=3&mebibytes=7", "");
    let cores = async {
        for expected in [(0, 2), (1, 1)] {
            let (core, query, to) = asked.recv().await.unwrap();
            assert_eq!((core, query.streams), expected);
            assert_eq!((query.way, query.ends - query.begins), (Way::Up, Duration::from_secs(2)));
            assert_eq!((query.cluster.as_str(), query.allowance.left()), ("east", 7 << 20));
            to.send(Ok(measured(500, End::Time))).unwrap();
        }
    };
    let (answer, ()) = tokio::join!(answer, cores);
    let found = body(&answer);
    assert_eq!((&found["bytes"], &found["seconds"], &found["peer"]), (&1000.into(), &1.0.into(), &"east".into()));
    assert_eq!(code(&admin.get("/measure/east").await), "405", "it is not a look");
}

#[tokio::test]
async fn one_link_is_measured_at_a_time_and_who_goes_ends_it() {
    let (admin, mut asked) = start_linked();
    let mut first = admin.connect().await;
    first.write_all(b"POST /measure/east?streams=1 HTTP/1.1\r\nhost: admin\r\n\r\n").await.unwrap();
    let (_, _, mut to) = asked.recv().await.unwrap();
    let answer = admin.post("/measure/east", "").await;
    assert!(code(&answer) == "429" && answer.contains("measures another link now"), "{answer}");
    assert!(admin.get("/metrics").await.contains("isthmus_refusals_total{bound=\"measurements\"} 1\n"));
    drop(first);
    to.closed().await;
    // Its place is free again.
    let again = admin.post("/measure/east?streams=1", "");
    let core = async { asked.recv().await.unwrap().2.send(Ok(measured(1, End::Time))).unwrap() };
    let (again, ()) = tokio::join!(again, core);
    assert_eq!(code(&again), "200", "{again}");
}

#[tokio::test]
async fn a_refusal_ends_it_for_all_cores_and_says_what_to_do() {
    let (admin, mut asked) = start_linked();
    let (peer, here): (fn(Refusal) -> NotMeasured, _) = (NotMeasured::Peer, NotMeasured::Here);
    for (side, reason, status, said) in [
        (peer, RefusalReason::NoSuchExport, "502", "east's gateway knows no measurements: it is older"),
        (peer, RefusalReason::Denied, "502", "east refuses to be measured: so it is"),
        (peer, RefusalReason::Limit, "502", "east refuses to be measured: so it is"),
        (peer, RefusalReason::Draining, "502", "east's gateway drains: so it is"),
        (peer, RefusalReason::Timeout, "502", "`isthmus check --link east` says more"),
        (here, RefusalReason::Limit, "503", "this gateway did not open the streams to east: so it is: try fewer"),
        (here, RefusalReason::TunnelLost, "503", "so it is: `isthmus check --link east` says more"),
    ] {
        let answer = admin.post("/measure/east", "");
        let cores = async {
            let (_, _, mut first) = asked.recv().await.unwrap();
            let (_, _, second) = asked.recv().await.unwrap();
            let message = "so it is".to_owned();
            second.send(Err(side(Refusal { reason, message, retry: false }))).unwrap();
            first.closed().await;
        };
        let (answer, ()) = tokio::join!(answer, cores);
        assert!(code(&answer) == status && answer.contains(said), "{answer}");
    }
}

#[tokio::test]
async fn streams_that_bring_nothing_are_no_measurement() {
    let (admin, mut asked) = start_linked();
    let answer = admin.post("/measure/east?streams=1", "");
    let core = async {
        let lost = measured(0, End::Failed("the tunnel ended".into()));
        asked.recv().await.unwrap().2.send(Ok(lost)).unwrap();
    };
    let (answer, ()) = tokio::join!(answer, core);
    assert!(code(&answer) == "502" && answer.contains("nothing was measured: the tunnel ended"), "{answer}");
}

#[tokio::test]
async fn what_cannot_be_measured_is_refused() {
    let (admin, _asked) = start_linked();
    assert_eq!(code(&admin.post("/measure/east", "origin: http://example.com\r\n").await), "403");
    for (path, expected, said) in [
        ("/measure/south", "400", "no link with south: expected east, north"),
        ("/measure/east?seconds=60", "400", "a number from 1 to 10"),
        ("/measure/north", "409", "no tunnel to north is up"),
    ] {
        let answer = admin.post(path, "").await;
        assert!(code(&answer) == expected && answer.contains(said), "{answer}");
    }
}
