//! The drivers over real sockets, and peers that misbehave.

use super::{
    super::{DecodeError, MAX_FRAME, PROTOCOL, samples::summary},
    *,
};
use std::cell::{Cell, RefCell};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn hello() -> Hello {
    Hello { protocol: PROTOCOL, cluster: "east".parse().unwrap(), epoch: 1 }
}

fn receiver() -> Receiver {
    Receiver::new("east".parse().unwrap(), summaries(1, 1))
}

fn summaries(count: usize, ready: u32) -> Arc<Summaries> {
    let name = |n: usize| format!("shop/s{n}").parse().unwrap();
    let services = (0..count).map(|n| (name(n), Arc::new(summary(80, ready)))).collect();
    Arc::new(Summaries { services, ..Summaries::default() })
}

fn bytes(message: &Message) -> Vec<u8> {
    let encoded = message.encode();
    [&u32::try_from(encoded.len()).unwrap().to_be_bytes(), encoded.as_slice()].concat()
}

/// What `receive` makes of a peer that writes `bytes` and closes, and what the peer is told.
async fn received(bytes: &[u8]) -> (ExchangeError, Arc<Summaries>, Vec<u8>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let view = RefCell::new(receiver().view().clone());
    let report = |receiver: &Receiver| *view.borrow_mut() = receiver.view().clone();
    let peer = async {
        theirs.write_all(bytes).await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut told = Vec::new();
        theirs.read_to_end(&mut told).await.unwrap();
        told
    };
    let (error, told) = tokio::join!(receive(ours, receiver(), report), peer);
    (error, view.into_inner(), told)
}

#[tokio::test]
async fn exports_arrive_and_so_do_their_changes() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (exports, watched) = watch::channel(summaries(100, 1));
    let (seen, mut view) = watch::channel(Arc::default());
    let report = |receiver: &Receiver| drop(seen.send_replace(receiver.view().clone()));
    let changes = async {
        for state in [summaries(100, 1), summaries(99, 2), summaries(0, 0), summaries(1000, 1)] {
            exports.send_replace(state.clone());
            view.wait_for(|view| *view == state).await.unwrap();
        }
    };
    tokio::select! {
        ended = send(ours, hello(), watched, |_| {}) => panic!("{ended:?}"),
        ended = receive(theirs, receiver(), report) => panic!("{ended:?}"),
        () = changes => {}
    }
}

#[tokio::test]
async fn a_peer_that_dies_in_the_middle_of_a_snapshot_changes_nothing() {
    let snapshot = bytes(&Message::Snapshot { version: 1, services: (*summaries(50, 1)).clone() });
    let cut = [bytes(&Message::Hello(hello())), snapshot[..snapshot.len() / 2].to_vec()].concat();
    let (error, view, _) = received(&cut).await;
    assert!(matches!(error, ExchangeError::Stream(_)), "{error}");
    assert_eq!(&view, receiver().view());
}

#[tokio::test]
async fn garbage_is_refused_and_the_peer_is_told_why() {
    let garbage = [&8u32.to_be_bytes()[..], b"GET / HT"].concat();
    let (error, view, told) = received(&garbage).await;
    assert!(matches!(error, ExchangeError::Malformed(DecodeError::Field(_) | DecodeError::Protobuf(_))), "{error}");
    assert_eq!(&view, receiver().view());
    let told = super::super::decode(&told[4..]).unwrap();
    assert!(matches!(&told, Message::Nack { version: 0, reason } if reason.contains("malformed")), "{told:?}");
}

#[tokio::test]
async fn an_oversized_frame_is_refused_by_its_length() {
    for length in [MAX_FRAME as u32 + 1, u32::MAX] {
        let (error, ..) = received(&length.to_be_bytes()).await;
        assert!(matches!(error, ExchangeError::OutOfPlace(_)), "{error}");
    }
}

#[tokio::test]
async fn another_clusters_exports_are_refused() {
    let other = Hello { cluster: "south".parse().unwrap(), ..hello() };
    let (error, ..) = received(&bytes(&Message::Hello(other))).await;
    assert!(matches!(error, ExchangeError::WrongCluster(_)), "{error}");
}

/// The runtime's clock jumps ahead whenever all wait: no real time passes.
#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_given_up() {
    for count in [0, crate::MAX_SERVICE_PORTS] {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (_exports, watched) = watch::channel(summaries(count, 1));
        let error = send(ours, hello(), watched, |_| {}).await.unwrap_err();
        assert!(matches!(error, ExchangeError::Silent), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_given_up() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let error = receive(ours, receiver(), |_| {}).await;
    assert!(matches!(error, ExchangeError::Silent), "{error}");
}

/// One byte at a time, each in time: the frame as a whole has to be in time.
#[tokio::test(start_paused = true)]
async fn a_peer_that_drips_is_given_up() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let drip = async {
        theirs.write_all(&1000u32.to_be_bytes()).await.unwrap();
        while theirs.write_all(b"x").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    };
    let (error, ()) = tokio::join!(receive(ours, receiver(), |_| {}), drip);
    assert!(matches!(error, ExchangeError::Silent), "{error}");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_quiet_stream() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (_exports, watched) = watch::channel(summaries(3, 1));
    let answers = Cell::new(0);
    let report = |synced| answers.set(answers.get() + u32::from(synced));
    tokio::select! {
        ended = send(ours, hello(), watched, report) => panic!("{ended:?}"),
        ended = receive(theirs, receiver(), |_| {}) => panic!("{ended:?}"),
        () = sleep(PATIENCE * 10) => {}
    }
    assert!(answers.get() > 20, "{}", answers.get());
}
