//! Talks with endpoints that are right, and with some that are deliberately not.

use super::*;
use crate::{restarts::Side, server};
use isthmus_tests::endpoint;
use tokio::net::TcpListener;

const EAST: Served = Served { side: Side::East, host: 1, life: 4 };

/// What a talk of this kind comes to with whoever `serve` is, and whom the client takes him for.
async fn talk<S>(kind: Kind, serve: impl FnOnce(TcpStream) -> S) -> (Result<u64, Fault>, Option<Served>)
where
    S: Future<Output = io::Result<()>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut talk = Talk::new(stream);
    let serving = serve(listener.accept().await.unwrap().0);
    let talking = async {
        let told = talk.tell(kind, &mut Dice::new(7)).await;
        let served = talk.served(&told).await;
        drop(talk);
        (told, served)
    };
    // Endpoints whose client has gone may fail.
    let (told, _) = tokio::join!(talking, serving);
    told
}

/// What the client wants; the endpoint has said who it is.
async fn wanted(stream: &mut TcpStream) -> io::Result<(u64, u64)> {
    stream.write_all(&EAST.to_bytes()).await?;
    stream.read_u8().await?;
    Ok((stream.read_u64().await?, stream.read_u64().await?))
}

fn is_wrong(told: &Result<u64, Fault>, words: &str) -> bool {
    matches!(told, Err(Fault::Wrong(what)) if what.contains(words))
}

#[tokio::test]
async fn with_the_right_endpoint_all_kinds_are_right() {
    for kind in [Kind::Short, Kind::Chat, Kind::Download, Kind::Upload, Kind::ResetByClient, Kind::ResetByEndpoint] {
        let (told, served) = talk(kind, |stream| server::serve(stream, EAST)).await;
        assert!(matches!(told, Ok(bytes) if bytes > 0), "{kind:?}: {told:?}");
        assert_eq!(served, Some(EAST), "{kind:?}");
    }
}

#[tokio::test]
async fn a_wrong_byte_is_found_whichever_way_it_goes() {
    let (down, _) = talk(Kind::Download, |mut stream| async move {
        let (seed, length) = wanted(&mut stream).await?;
        let mut bytes = taken(seed, length);
        bytes[0] ^= 1;
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    })
    .await;
    assert!(is_wrong(&down, "not the right ones"), "{down:?}");
    let (up, _) = talk(Kind::Upload, |mut stream| async move {
        let (seed, length) = wanted(&mut stream).await?;
        client::receive(&mut stream).await.clean()?;
        stream.write_all(Pattern::digest(seed, length - 1).as_bytes()).await
    })
    .await;
    assert!(is_wrong(&up, "other bytes than"), "{up:?}");
    let (back, _) = talk(Kind::Short, |mut stream| async move {
        wanted(&mut stream).await?;
        let mut bytes = vec![0; 8 * 1024];
        loop {
            let n = stream.read(&mut bytes).await?;
            if n == 0 {
                return Ok(());
            }
            bytes[0] ^= 1;
            stream.write_all(&bytes[..n]).await?;
        }
    })
    .await;
    assert!(is_wrong(&back, "other ones came back"), "{back:?}");
}

#[tokio::test]
async fn bytes_that_are_missing_or_too_many_are_found() {
    for (more, expected) in [(0, "then Fin"), (2, "not the right ones")] {
        let (told, _) = talk(Kind::Download, |mut stream| async move {
            let (seed, length) = wanted(&mut stream).await?;
            stream.write_all(&taken(seed, length - 1 + more)).await?;
            stream.shutdown().await
        })
        .await;
        assert!(is_wrong(&told, expected), "{told:?}");
    }
}

/// An endpoint that is stopped before it has begun with a connection must not make it look whole.
#[tokio::test]
async fn a_connection_that_nobody_answers_is_reset_and_a_clean_end_of_it_is_wrong() {
    let (told, served) = talk(Kind::Download, |stream| {
        drop(server::serve(stream, EAST));
        async { Ok(()) }
    })
    .await;
    assert!(matches!(told, Err(Fault::Reset)) && served.is_none(), "{told:?}");
    let (told, _) = talk(Kind::Download, |mut stream| async move {
        stream.read_exact(&mut [0; server::HEAD]).await?;
        stream.shutdown().await
    })
    .await;
    assert!(is_wrong(&told, "no endpoint had answered"), "{told:?}");
}

/// Whether that is a fault is the tally's to say: it knows whom to ask about.
#[tokio::test]
async fn a_reset_is_told_with_who_was_reset() {
    for kind in [Kind::Download, Kind::Upload, Kind::Chat] {
        let (told, served) = talk(kind, |mut stream| async move {
            wanted(&mut stream).await?;
            endpoint::reset(stream);
            Ok(())
        })
        .await;
        assert!(matches!(told, Err(Fault::Reset)), "{kind:?}: {told:?}");
        assert_eq!(served, Some(EAST), "{kind:?}");
    }
}
