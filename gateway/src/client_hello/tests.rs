use super::*;
use proptest::prelude::*;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    client::{EchGreaseConfig, EchMode},
    crypto::aws_lc_rs,
};
use std::sync::Arc;

fn config() -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

fn greasing() -> ClientConfig {
    let suite = aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
    let (key, _) = rustls::crypto::hpke::Hpke::generate_key_pair(suite).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_ech(EchMode::Grease(EchGreaseConfig::new(suite, key))).unwrap();
    builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

/// What a client says first.
fn hello(config: ClientConfig, name: &str) -> Vec<u8> {
    let mut client = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = vec![];
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn all(bytes: &[u8]) -> Result<Read, BadHello> {
    Reader::default().take(bytes)
}

fn named(name: &str) -> Result<Read, BadHello> {
    Ok(Read::Whole(Some(name.into())))
}

/// The same handshake bytes, in records of no more than so many.
fn fragmented(hello: &[u8], size: usize) -> Vec<u8> {
    let records = hello[5..].chunks(size).map(|chunk| {
        let [high, low] = u16::try_from(chunk.len()).unwrap().to_be_bytes();
        [&[HANDSHAKE, VERSION, 1, high, low], chunk].concat()
    });
    records.collect::<Vec<_>>().concat()
}

#[test]
fn a_name_is_read_if_there_is_one() {
    assert_eq!(all(&hello(config(), "Api.Shop.example")), named("api.shop.example"));
    assert_eq!(all(&hello(config(), "192.0.2.1")), Ok(Read::Whole(None)));
    let mut silent = config();
    silent.enable_sni = false;
    assert_eq!(all(&hello(silent, "api.example")), Ok(Read::Whole(None)));
}

#[test]
fn what_follows_is_not_looked_at() {
    let bytes = [hello(config(), "api.example"), vec![0xff; 40_000]].concat();
    assert_eq!(all(&bytes), named("api.example"));
}

#[test]
fn many_records_and_extensions_that_nobody_knows_are_read() {
    let greasing = hello(greasing(), "api.example");
    let ech = [0xfe, 0x0d];
    assert!(greasing.windows(2).any(|at| at == ech), "it has the extension of ECH");
    assert_eq!(all(&greasing), named("api.example"));
    for size in [1, 7, 100] {
        assert_eq!(all(&fragmented(&greasing, size)), named("api.example"), "in records of {size}");
    }
}

#[test]
fn what_is_no_client_hello_says_why() {
    for other in [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-x", &[HANDSHAKE, 2], &[0x80, 0x2e, 1]] {
        assert_eq!(all(other), Err(BadHello::NotTls), "{other:?}");
    }
    let mut bytes = hello(config(), "api.example");
    // A server's, and one whose length is not what its records have.
    bytes[5] = 2;
    assert!(matches!(all(&bytes), Err(BadHello::Malformed { alert, .. }) if alert[0] == 21));
    // A record that is never whole, and handshake bytes without an end.
    let endless = fragmented(&[&[0; 5][..], &[1, 0, 0xff, 0xff], &[0; 60_000]].concat(), 1000);
    let mut reader = Reader::default();
    let mut read = 0;
    let end = endless.chunks(100).map(|chunk| {
        read += chunk.len();
        reader.take(chunk)
    });
    let end = end.take_while(|said| *said == Ok(Read::More)).count();
    assert!(end * 100 < LONGEST && read <= LONGEST + 100, "{end}, {read}");
}

proptest! {
    #[test]
    fn however_it_is_cut_up_the_same_is_read(cuts in prop::collection::vec(1_usize..400, 1..20), size in 1_usize..300) {
        let bytes = fragmented(&hello(config(), "a.b.example"), size);
        let (mut reader, mut rest, mut cuts) = (Reader::default(), &bytes[..], cuts.into_iter().cycle());
        loop {
            let (chunk, left) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            rest = left;
            match reader.take(chunk) {
                Ok(Read::More) => prop_assert!(!rest.is_empty()),
                said => {
                    prop_assert_eq!(said, named("a.b.example"));
                    break;
                }
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..200) {
        let _ = all(&bytes);
        let mut hello = hello(config(), "api.example");
        hello.splice(at..at, bytes);
        let _ = all(&hello);
    }
}
