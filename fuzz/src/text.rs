//! Texts that people write: names, addresses, configurations.

use isthmus_certs::SpiffeId;
use isthmus_control::Config;
use isthmus_control_api::{ClusterName, ClustersetName, PeerAddress, ServiceName};
use std::{fmt::Display, path::Path, str::FromStr};

/// Names and addresses: what parses is written as it was read.
pub fn names(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    round_trip::<ClusterName>(text);
    round_trip::<ClustersetName>(text);
    round_trip::<ServiceName>(text);
    round_trip::<SpiffeId>(text);
    if let Ok(address) = text.parse::<PeerAddress>() {
        // The port may have had leading zeros.
        assert_eq!(address.to_string().parse().as_ref(), Ok(&address));
    }
}

fn round_trip<T: FromStr + Display>(text: &str) {
    if let Ok(name) = text.parse::<T>() {
        assert_eq!(name.to_string(), text);
    }
}

/// A configuration: each line of its errors names the file, so nothing in it can forge a line.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Err(errors) = Config::parse(text, Path::new("fuzz.yaml")) {
        let told = errors.to_string();
        assert!(told.lines().all(|line| line.starts_with("fuzz.yaml:")), "{told}");
    }
}
