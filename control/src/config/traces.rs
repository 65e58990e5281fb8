//! The `traces` section.

use super::{
    Traces,
    fields::{Fields, Refused, parsed},
    parse::directory_name,
};
use isthmus_control_api::PeerAddress;
use std::path::Path;

/// Of a ratio, which has so many decimals at most.
const DECIMALS: usize = 6;

/// `None` where there are to be none, or where something is wrong with it.
pub(super) fn read(top: &Fields<'_>, directory: &Path) -> Option<Traces> {
    if !top.has("traces") {
        return None;
    }
    let fields = top.mapping_or_empty("traces")?;
    // Each is read before the first that is wrong ends this: all that is wrong is to be noted.
    let endpoint = fields.value("endpoint", endpoint);
    let (ca_file, per_million) = (fields.value("caFile", directory_name), fields.value("ratio", per_million));
    let endpoint = endpoint?;
    if fields.has("caFile") && endpoint.starts_with("http:") {
        fields.conflict("caFile", "a caFile beside an endpoint without TLS".into(), "an endpoint of https://, or none");
    }
    Some(Traces { endpoint, ca_file: ca_file.map(|file| directory.join(file)), per_million: per_million? })
}

fn endpoint(text: &str) -> Result<String, Refused> {
    let (scheme, rest) = text.split_once("://").ok_or(Refused(None))?;
    if !matches!(scheme, "http" | "https") {
        return Err(Refused(None));
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(Refused(Some("gRPC has a path of its own")));
    }
    let address: PeerAddress = parsed(authority)?;
    Ok(format!("{scheme}://{address}"))
}

/// A part of one, as parts of a million.
fn per_million(text: &str) -> Result<u32, Refused> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let fits = |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !fits(whole, 1) || !fits(decimals, DECIMALS) {
        return Err(Refused(None));
    }
    let number: u32 = parsed(&format!("{whole}{decimals:0<DECIMALS$}"))?;
    if number <= 1_000_000 { Ok(number) } else { Err(Refused(None)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ratios_are_parts_of_a_million() {
        for (text, expected) in [("0", 0), ("1", 1_000_000), ("1.0", 1_000_000), ("0.01", 10_000), ("0.000001", 1)] {
            assert_eq!(per_million(text).ok(), Some(expected), "{text}");
        }
        for bad in ["", "-0.1", "1.000001", "2", ".5", "0.", "0.0000001", "1e-2", "0,1", "10%", "00.1"] {
            assert!(per_million(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_endpoint_is_scheme_host_and_port() {
        for (text, expected) in [
            ("http://127.0.0.1:4317", "http://127.0.0.1:4317"),
            ("https://collector.monitoring.svc:4317/", "https://collector.monitoring.svc:4317"),
            ("http://[::1]:4317", "http://[::1]:4317"),
        ] {
            assert_eq!(endpoint(text).ok().as_deref(), Some(expected), "{text}");
        }
        for bad in [
            "",
            "127.0.0.1:4317",
            "grpc://a:4317",
            "http://a",
            "http://a:0",
            "http://u:p@a:4317",
            "http://a:4318/v1/traces",
            "http://a:4317?b",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_ratio_is_what_it_looks_like(parts in 0u32..=1_000_000) {
            let text = format!("{}.{:06}", parts / 1_000_000, parts % 1_000_000);
            prop_assert_eq!(per_million(&text).ok(), Some(parts));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,12}") {
            let _ = (per_million(&text), endpoint(&format!("http://{text}")));
        }
    }
}
