//! Any sequence of calls against the plainest model there is: one `Vec` of payload bytes, in order.

use super::*;
use crate::tunnel::tls::record::RecordKey;
use proptest::prelude::*;
use rustls::{
    ConnectionTrafficSecrets,
    crypto::cipher::{AeadKey, Iv},
};

#[derive(Debug, Clone)]
enum Op {
    Gather(Vec<usize>),
    AppendSplit(usize),
    /// Wants so many bytes behind a prefix and gets at most so many; `None` fails.
    Fill(usize, usize, Option<usize>),
    Push(ContentType, usize),
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    let content = prop_oneof![Just(ContentType::Alert), Just(ContentType::Handshake), Just(ContentType::Data)];
    prop_oneof![
        prop::collection::vec(0..5000usize, 1..4).prop_map(Op::Gather),
        (0..40_000usize).prop_map(Op::AppendSplit),
        (prop_oneof![0..2000usize, 0..200_000usize], 0..16usize, prop::option::weighted(0.9, 0..200_000usize))
            .prop_map(|(want, prefix, most)| Op::Fill(want, prefix, most)),
        (content, 0..100usize).prop_map(|(content, length)| Op::Push(content, length)),
        Just(Op::Close),
    ]
}

fn key() -> RecordKey {
    let secrets = ConnectionTrafficSecrets::Aes256Gcm { key: AeadKey::from([3; 32]), iv: Iv::from([5; 12]) };
    RecordKey::new(0, &secrets).unwrap()
}

/// Bytes that are told apart from their neighbours.
fn bytes(at: &mut usize, length: usize) -> Vec<u8> {
    *at += length;
    (*at - length..*at).map(|i| (i ^ (i >> 8)) as u8).collect()
}

fn fill(buffer: &mut RecordBuffer, at: &mut usize, want: usize, prefix: usize, most: Option<usize>) -> Vec<u8> {
    let mut model = Vec::new();
    let mut stretches = Vec::new();
    let filled = buffer.fill(
        want,
        prefix,
        |slices| {
            let room: usize = slices.iter().map(|slice| slice.len()).sum();
            assert!(room <= want && (room > 0 || want == 0), "room for {room} of {want}");
            assert!(slices.iter().all(|slice| !slice.is_empty()), "an empty slice");
            let content = bytes(at, most.ok_or(())?.min(room));
            let mut rest = &content[..];
            for slice in slices {
                let n = slice.len().min(rest.len());
                slice[..n].copy_from_slice(&rest[..n]);
                rest = &rest[n..];
            }
            model = content;
            Ok::<_, ()>(model.len())
        },
        |stamp, length| {
            stamp.fill(0xee);
            stretches.push(length);
        },
    );
    assert_eq!(filled, most.map(|_| model.len()).ok_or(()));
    assert_eq!(stretches.iter().sum::<usize>(), model.len());
    let mut rest = &model[..];
    let mut expected = Vec::new();
    for length in stretches {
        expected.extend(vec![0xee; prefix]);
        expected.extend(&rest[..length]);
        rest = &rest[length..];
    }
    expected
}

proptest! {
    #[test]
    fn what_is_laid_out_comes_out_of_the_records(ops in prop::collection::vec(op(), 0..30)) {
        let (mut buffer, mut model, mut at) = (RecordBuffer::default(), Vec::new(), 0);
        let mut others = Vec::new();
        for op in ops {
            match op {
                Op::Gather(lengths) => {
                    let parts: Vec<_> = lengths.iter().map(|&length| bytes(&mut at, length)).collect();
                    buffer.gather(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
                    model.extend(parts.concat());
                }
                Op::AppendSplit(length) => {
                    let part = bytes(&mut at, length);
                    buffer.append_split(&part);
                    model.extend(part);
                }
                Op::Fill(want, prefix, most) => model.extend(fill(&mut buffer, &mut at, want, prefix, most)),
                Op::Push(ContentType::Data, length) => {
                    let part = bytes(&mut at, length);
                    buffer.push(ContentType::Data, &part);
                    model.extend(part);
                }
                Op::Push(content, length) => {
                    let part = bytes(&mut at, length);
                    buffer.push(content, &part);
                    others.push((content, part));
                }
                Op::Close => buffer.close(),
            }
        }
        buffer.close();
        let (mut seal, mut open, mut from) = (key(), key(), 0);
        let (mut data, mut seen) = (Vec::new(), Vec::new());
        while let Some((record, content)) = buffer.closed_record(from) {
            from += record.len();
            seal.seal(record, content).unwrap();
            let (opened, payload) = open.open(record).unwrap();
            prop_assert_eq!(opened, content);
            match content {
                ContentType::Data => data.extend_from_slice(payload),
                _ => seen.push((content, payload.to_vec())),
            }
        }
        prop_assert_eq!(from, buffer.len(), "records lie without gaps");
        prop_assert!(data == model, "the payload differs");
        prop_assert_eq!(seen, others);
        buffer.clear();
        prop_assert!(buffer.is_empty() && buffer.closed_record(0).is_none());
    }
}
