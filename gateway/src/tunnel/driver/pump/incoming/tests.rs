use super::*;
use crate::tunnel::tls::record::HEADER;
use std::{future::poll_fn, io::Write, os::unix::net::UnixStream};

fn pair() -> (UnixStream, Socket) {
    let (near, far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    (near, Socket::new(far.into()).unwrap())
}

/// Something that has the shape of a record, with a payload of `byte`s.
fn record_of(byte: u8, length: usize) -> Vec<u8> {
    let mut record = vec![23, 3, 3];
    record.extend(u16::try_from(length).unwrap().to_be_bytes());
    record.resize(HEADER + length, byte);
    record
}

async fn fill(incoming: &mut Incoming, socket: &Socket) -> usize {
    poll_fn(|cx| incoming.poll_fill(cx, socket)).await.unwrap()
}

#[tokio::test]
async fn a_quiet_peer_costs_little_memory_and_a_busy_one_no_more_than_the_most() {
    let (mut near, far) = pair();
    let mut incoming = Incoming::new(Vec::new());
    near.write_all(&record_of(1, 100)).unwrap();
    fill(&mut incoming, &far).await;
    assert_eq!(incoming.bytes.len(), LEAST);
    assert!(incoming.next_record().unwrap().is_some());

    // More than the buffer holds lies there before the first read.
    for byte in 0..6 {
        near.write_all(&record_of(byte, 16_000)).unwrap();
    }
    let writer = std::thread::spawn(move || {
        for byte in 6..200 {
            near.write_all(&record_of(byte, 16_000)).unwrap();
        }
    });
    let mut expected = 0;
    while expected < 200 {
        assert!(fill(&mut incoming, &far).await > 0, "ended after {expected} records");
        while let Some(record) = incoming.next_record().unwrap() {
            assert_eq!(incoming.bytes(record), record_of(expected, 16_000));
            expected += 1;
        }
        assert!(incoming.bytes.len() <= MOST);
    }
    writer.join().unwrap();
    assert!(incoming.bytes.len() > LEAST);
    incoming.release_if_empty();
    assert_eq!(incoming.bytes.capacity(), 0);
}

#[tokio::test]
async fn what_came_behind_the_handshake_is_kept_however_much_it_is() {
    let (mut near, far) = pair();
    let early: Vec<u8> = (0..5).flat_map(|byte| record_of(byte, 16_000)).collect();
    let cut = early.len() - 1_000;
    let mut incoming = Incoming::new(early[..cut].to_vec());
    near.write_all(&early[cut..]).unwrap();
    // Nothing is read into a buffer without room: that would look like the connection's end.
    assert_eq!(fill(&mut incoming, &far).await, 1_000);
    for byte in 0..5 {
        let record = incoming.next_record().unwrap().unwrap();
        assert_eq!(incoming.bytes(record), record_of(byte, 16_000));
    }
    assert_eq!(incoming.next_record().unwrap(), None);
}

#[tokio::test]
async fn half_a_record_is_not_given_away() {
    let (mut near, far) = pair();
    let mut incoming = Incoming::new(Vec::new());
    let record = record_of(7, 5_000);
    near.write_all(&record[..3_000]).unwrap();
    fill(&mut incoming, &far).await;
    incoming.release_if_empty();
    assert_eq!(incoming.next_record().unwrap(), None);
    near.write_all(&record[3_000..]).unwrap();
    fill(&mut incoming, &far).await;
    let whole = incoming.next_record().unwrap().unwrap();
    assert_eq!(incoming.bytes(whole), record);
}
