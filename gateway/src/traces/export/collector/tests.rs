use super::*;
use crate::traces::export::Remedy;
use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Response};
use std::{future, process::Command, thread};
use tokio::net::TcpListener;
use tonic::Code;

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// Its connection is closed.
    Lost,
    /// Its connection is closed with a GOAWAY.
    SentAway(Reason),
    /// It alone is ended.
    Reset(Reason),
    /// It is answered with this status of gRPC.
    Answered(Code),
}

/// Takes a connection, reads a request and does that with it.
async fn serve(listener: &TcpListener, fate: Fate) {
    let (socket, _) = listener.accept().await.unwrap();
    let mut connection = h2::server::handshake(socket).await.unwrap();
    let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
    match fate {
        Fate::Lost => return,
        Fate::SentAway(reason) => connection.abrupt_shutdown(reason),
        Fate::Reset(reason) => respond.send_reset(reason),
        Fate::Answered(code) => {
            let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut send = respond.send_response(head, false).unwrap();
            if code == Code::Ok {
                // An empty message.
                send.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
            }
            send.send_trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), status(code))])).unwrap();
        }
    }
    while connection.accept().await.is_some() {}
}

fn status(code: Code) -> HeaderValue {
    HeaderValue::from(i32::from(code))
}

/// A collector whose requests meet these fates, one a connection.
async fn meeting(fates: Vec<Fate>) -> (Collector, impl Future<Output = ()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = Collector::new(&Traces { endpoint, ca_file: None, per_million: 0 }).unwrap();
    let serving = async move {
        for fate in fates {
            serve(&listener, fate).await;
        }
        future::pending::<()>().await;
    };
    (collector, serving)
}

async fn meet(fate: Fate) -> Status {
    let (mut collector, serving) = meeting(vec![fate]).await;
    tokio::select! {
        answer = collector.export(ExportRequest::default()) => answer.unwrap_err(),
        () = serving => unreachable!("it serves until the end"),
    }
}

#[tokio::test]
async fn whatever_ends_a_request_without_an_answer_may_pass() {
    use Fate::{Lost, Reset, SentAway};
    for fate in [
        Lost,
        SentAway(Reason::NO_ERROR),
        SentAway(Reason::INTERNAL_ERROR),
        Reset(Reason::INTERNAL_ERROR),
        Reset(Reason::ENHANCE_YOUR_CALM),
        Reset(Reason::CANCEL),
    ] {
        let status = meet(fate).await;
        assert_eq!(Remedy::of(&status), Remedy::Later, "{fate:?}: {status:?}");
    }
}

#[tokio::test]
async fn an_answer_counts_as_it_is() {
    for (code, remedy) in [
        (Code::Unknown, Remedy::None),
        (Code::Internal, Remedy::None),
        (Code::Unavailable, Remedy::Later),
        (Code::ResourceExhausted, Remedy::Smaller),
    ] {
        let status = meet(Fate::Answered(code)).await;
        assert_eq!((status.code(), Remedy::of(&status)), (code, remedy), "{status:?}");
    }
}

#[tokio::test]
async fn a_collector_that_closes_with_a_request_in_flight_gets_it_again() {
    let (mut collector, serving) = meeting(vec![Fate::Lost, Fate::Answered(Code::Ok)]).await;
    let exporting = async {
        let mut failures = 0;
        // It may take another attempt until the client has seen that its connection is gone.
        loop {
            match collector.export(ExportRequest::default()).await {
                Ok(unwanted) => return (unwanted, failures),
                Err(status) => assert_eq!(Remedy::of(&status), Remedy::Later, "{status:?}"),
            }
            failures += 1;
        }
    };
    let (unwanted, failures) = tokio::select! {
        answer = exporting => answer,
        () = serving => unreachable!("it serves until the end"),
    };
    assert_eq!(unwanted, 0);
    assert!(failures > 0);
}

/// In a process of its own, whose environment says that the system has no certificate authorities.
#[test]
fn a_system_without_certificate_authorities_is_told_of_ca_file() {
    const ROOTS: &str = "SSL_CERT_FILE";
    if std::env::var_os(ROOTS).is_none_or(|file| file != "/dev/null") {
        let test = thread::current().name().unwrap().to_owned();
        let mut own = Command::new(std::env::current_exe().unwrap());
        let output = own.args(["--exact", &test]).env(ROOTS, "/dev/null").env_remove("SSL_CERT_DIR").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let traces = Traces { endpoint: "https://collector:4317".into(), ca_file: None, per_million: 0 };
    let error = Collector::new(&traces).unwrap_err().to_string();
    assert!(error.contains("no traces.caFile") && error.contains("no native certs found"), "{error}");
}
