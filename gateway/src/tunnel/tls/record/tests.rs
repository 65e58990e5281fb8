use super::*;

/// RFC 8448, section 3: the keys of application data, each direction's records behind its handshake, and what they hold.
const CLIENT: (&str, &str) = ("17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9");
const SERVER: (&str, &str) = ("9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984");
const CLIENT_DATA: &str = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a\
                           6292a2977014bd1e3deae63aeebb21694915e4";
const CLIENT_ALERT: &str = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3";
const SERVER_DATA: &str = "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a59a8fcc49c4bf2\
                           e5f0a21c0047c2abf332540dd032e167c2955d";
const SERVER_ALERT: &str = "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn key((key, iv): (&str, &str), sequence: u64) -> RecordKey {
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &hex(key)).unwrap());
    RecordKey { key, iv: hex(iv).try_into().unwrap(), sequence }
}

fn sealed(key: &mut RecordKey, payload: &[u8], content: ContentType) -> Vec<u8> {
    let mut record = vec![0; HEADER];
    record.extend(payload);
    record.resize(HEADER + payload.len() + TAIL, 0);
    key.seal(&mut record, content).unwrap();
    record
}

#[test]
fn the_vectors_of_rfc_8448_are_sealed_and_opened() {
    let payload: Vec<u8> = (0..50).collect();
    // The server's first record is a ticket.
    for (keys, data, alert, first) in [(CLIENT, CLIENT_DATA, CLIENT_ALERT, 0), (SERVER, SERVER_DATA, SERVER_ALERT, 1)] {
        let (mut seal, mut open) = (key(keys, first), key(keys, first));
        for (wire, payload, content) in [(data, &payload[..], ContentType::Data), (alert, &[1, 0], ContentType::Alert)]
        {
            assert_eq!(sealed(&mut seal, payload, content), hex(wire));
            let mut wire = hex(wire);
            assert_eq!(whole_record(&wire), Ok(Some(wire.len())));
            let (opened, bytes) = open.open(&mut wire).unwrap();
            assert_eq!((opened, &*bytes), (content, payload));
        }
    }
}

/// Seals a `TLSInnerPlaintext` that this code would not make.
fn sealed_inner(inner: &[u8]) -> Vec<u8> {
    let (mut key, mut inner) = (key(CLIENT, 0), inner.to_vec());
    let header = header_of(inner.len() + 16);
    let nonce = key.next_nonce();
    let tag = key.key.seal_in_place_separate_tag(nonce, Aad::from(&header), &mut inner).unwrap();
    [&header[..], &inner, tag.as_ref()].concat()
}

#[test]
fn padding_is_taken_off_and_an_empty_record_is_allowed() {
    for (inner, payload) in [(&b"hello\x17\0\0\0"[..], &b"hello"[..]), (b"\x17", b""), (b"\0\0\x17\0", b"\0\0")] {
        let mut record = sealed_inner(inner);
        assert_eq!(key(CLIENT, 0).open(&mut record).unwrap(), (ContentType::Data, &mut payload.to_vec()[..]));
    }
    let mut longest = vec![9; MAX_PAYLOAD];
    longest.push(23);
    longest.resize(MAX_PAYLOAD + 256 - 16, 0);
    let mut record = sealed_inner(&longest);
    assert_eq!(record.len(), MAX_RECORD);
    assert_eq!(key(CLIENT, 0).open(&mut record).unwrap().1.len(), MAX_PAYLOAD);
}

#[test]
fn what_is_malformed_inside_is_refused() {
    // Only zeros; types that may not be inside; more than a record may hold.
    let long = [vec![9; MAX_PAYLOAD + 1], vec![23]].concat();
    for inner in [&[0; 5][..], b"x\x14", b"x\x18", b"x\xff", &long] {
        assert_eq!(key(CLIENT, 0).open(&mut sealed_inner(inner)).unwrap_err(), RecordError::Malformed);
    }
}

#[test]
fn headers_are_checked_before_anything_is_read() {
    assert_eq!(whole_record(&[]), Ok(None));
    assert_eq!(whole_record(&[23, 3, 3, 0]), Ok(None));
    assert_eq!(whole_record(&[23, 3, 3, 0, 17, 0]), Ok(None));
    for header in [[22, 3, 3, 0, 40], [20, 3, 3, 0, 1], [21, 3, 3, 0, 40], [23, 3, 3, 0, 16], [23, 3, 3, 0x41, 1]] {
        assert_eq!(whole_record(&header), Err(RecordError::Malformed), "{header:?}");
    }
    assert_eq!(whole_record(&[23, 3, 3, 0x41, 0]), Ok(None));
}

#[test]
fn what_was_not_sealed_in_this_place_does_not_open() {
    let mut seal = key(CLIENT, 0);
    let records: Vec<Vec<u8>> = (0..3).map(|i| sealed(&mut seal, &[i; 20], ContentType::Data)).collect();
    // Replayed, and out of order.
    for order in [[0, 0], [0, 2], [1, 0]] {
        let mut open = key(CLIENT, 0);
        let all: Result<Vec<_>, _> = order.iter().map(|&i| open.open(&mut records[i].clone()).map(drop)).collect();
        assert_eq!(all, Err(RecordError::BadRecord));
    }
    // With any one bit changed, in the header, too.
    for bit in 0..records[0].len() * 8 {
        let mut changed = records[0].clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(key(CLIENT, 0).open(&mut changed).unwrap_err(), RecordError::BadRecord, "bit {bit}");
    }
    // Cut short.
    let mut cut = records[0][..records[0].len() - 1].to_vec();
    cut[4] -= 1;
    assert_eq!(key(CLIENT, 0).open(&mut cut).unwrap_err(), RecordError::BadRecord);
}

#[test]
fn what_does_not_fit_a_record_is_not_sealed() {
    let mut key = key(CLIENT, 0);
    assert_eq!(key.seal(&mut [0; HEADER + TAIL - 1], ContentType::Data), Err(RecordError::Malformed));
    let mut long = vec![0; HEADER + MAX_PAYLOAD + 1 + TAIL];
    assert_eq!(key.seal(&mut long, ContentType::Data), Err(RecordError::Malformed));
    assert_eq!(key.used(), 0, "and no number was used up");
}
