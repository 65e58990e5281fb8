//! Impairments as people write them: `80ms,0.1%,100mbit,jitter=5ms,reorder=1%,mtu=1400,noudp`.
//!
//! The time is a **round trip's**, as users speak of it and as ping shows it: each direction has half of it. Everything else is of
//! each direction. Words are separated by commas, in any order, each kind at most once.

use crate::impairments::{Impairments, Mtu, UdpBlock};
use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

/// What all words look like, for messages.
const WORDS: &str = "50ms (a round trip), 1% (loss), 100mbit (rate), jitter=5ms, unordered, reorder=1%, queue=256k, mtu=1400, \
                     silent-mtu=1400, noudp, noudp=15008 or blackhole";
/// The longest time that a word may name.
const LONGEST: Duration = Duration::from_secs(60);
/// The least bits a second.
const SLOWEST: f64 = 1e3;
/// The smallest MTU: what every IPv4 host must take.
const SMALLEST: u16 = 576;

/// The text says no impairments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}, expected {expected}")]
pub struct InvalidSpec {
    /// The word that was found.
    pub found: String,
    /// What was expected in its place.
    pub expected: String,
}

impl Impairments {
    /// How long a packet and its answer take over two such directions, without jitter and rate.
    pub fn round_trip(&self) -> Duration {
        self.delay * 2
    }
}

impl FromStr for Impairments {
    type Err = InvalidSpec;

    fn from_str(s: &str) -> Result<Self, InvalidSpec> {
        let (mut impairments, mut seen) = (Self::default(), BTreeSet::new());
        for word in s.split(',').map(str::trim) {
            let kind = read(word, &mut impairments)?;
            if !seen.insert(kind) {
                return Err(invalid(word, &format!("one {kind} only")));
            }
        }
        Ok(impairments)
    }
}

/// Reads a word, and says of which kind it is.
fn read(word: &str, to: &mut Impairments) -> Result<&'static str, InvalidSpec> {
    let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
    match (key, value) {
        ("jitter", Some(value)) => {
            to.jitter = duration(value).ok_or_else(|| invalid(word, "a time up to 60s, like jitter=5ms"))?;
            Ok("jitter")
        }
        ("unordered", None) => {
            to.unordered = true;
            Ok("unordered")
        }
        ("reorder", Some(value)) => {
            to.reorder = percent(value).ok_or_else(|| invalid(word, "a percentage, like reorder=1%"))?;
            Ok("reorder")
        }
        ("queue", Some(value)) => {
            to.queue = Some(bytes(value).ok_or_else(|| invalid(word, "bytes, like queue=65536, 256k or 1m"))?);
            Ok("queue")
        }
        ("mtu" | "silent-mtu", Some(value)) => {
            let bytes = value.parse().ok().filter(|bytes| *bytes >= SMALLEST);
            let bytes = bytes.ok_or_else(|| invalid(word, "576 to 65535 bytes, like mtu=1400"))?;
            to.mtu = Some(Mtu { bytes, silent: key == "silent-mtu" });
            Ok("MTU")
        }
        ("noudp", value) => {
            to.udp = Some(match value {
                None => UdpBlock::All,
                Some(port) => UdpBlock::Port(port.parse().map_err(|_| invalid(word, "a port, like noudp=15008"))?),
            });
            Ok("noudp")
        }
        ("blackhole", None) => {
            to.black_hole = true;
            Ok("blackhole")
        }
        (_, None) => read_figure(word, to).ok_or_else(|| invalid(word, WORDS)),
        _ => Err(invalid(word, WORDS)),
    }
}

/// A word without a name, which its unit tells.
fn read_figure(word: &str, to: &mut Impairments) -> Option<&'static str> {
    if let Some(loss) = percent(word) {
        to.loss = loss;
        return Some("loss");
    }
    if let Some(rate) = rate(word) {
        to.rate = Some(rate);
        return Some("rate");
    }
    to.delay = duration(word)? / 2;
    Some("round trip")
}

fn duration(text: &str) -> Option<Duration> {
    let seconds = scaled(text, &[("us", 1e-6), ("ms", 1e-3), ("s", 1.0)])?;
    // To the nanosecond: what a double makes of 0.1 ms must not show.
    let duration = Duration::from_nanos((seconds * 1e9).round() as u64);
    (duration <= LONGEST).then_some(duration)
}

fn percent(text: &str) -> Option<f64> {
    scaled(text, &[("%", 0.01)]).filter(|share| *share <= 1.0)
}

fn rate(text: &str) -> Option<u64> {
    let rate = scaled(text, &[("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)])?;
    (SLOWEST..=1e12).contains(&rate).then_some(rate.round() as u64)
}

fn bytes(text: &str) -> Option<u64> {
    let bytes = scaled(text, &[("k", 1024.0), ("m", 1024.0 * 1024.0), ("", 1.0)])?;
    (1.0..=1e9).contains(&bytes).then_some(bytes as u64)
}

/// A number, not negative, with one of these units.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    units.iter().find_map(|(unit, scale)| {
        let digits = text.strip_suffix(unit)?;
        let is_plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        digits.parse::<f64>().ok().filter(|number| is_plain && number.is_finite()).map(|number| number * scale)
    })
}

fn invalid(word: &str, expected: &str) -> InvalidSpec {
    InvalidSpec { found: word.chars().take(100).collect(), expected: expected.to_owned() }
}

impl fmt::Display for Impairments {
    /// As [`Impairments::from_str`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Debug of a duration would have µs, which is not what anybody types.
        let milliseconds = |time: Duration| format!("{}ms", time.as_nanos() as f64 / 1e6);
        f.write_str(&milliseconds(self.round_trip()))?;
        let percent = |share: f64| format!("{}%", (share * 1e8).round() / 1e6);
        let words = [
            (self.loss > 0.0).then(|| percent(self.loss)),
            self.rate.map(|rate| format!("{}kbit", rate as f64 / 1e3)),
            (!self.jitter.is_zero()).then(|| format!("jitter={}", milliseconds(self.jitter))),
            self.unordered.then(|| "unordered".to_owned()),
            (self.reorder > 0.0).then(|| format!("reorder={}", percent(self.reorder))),
            self.queue.map(|bytes| format!("queue={bytes}")),
            self.mtu.map(|mtu| format!("{}mtu={}", if mtu.silent { "silent-" } else { "" }, mtu.bytes)),
            self.udp.map(|block| match block {
                UdpBlock::All => "noudp".to_owned(),
                UdpBlock::Port(port) => format!("noudp={port}"),
            }),
            self.black_hole.then(|| "blackhole".to_owned()),
        ];
        words.into_iter().flatten().try_for_each(|word| write!(f, ",{word}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_word_says_what_it_means() {
        let text = "80ms,0.1%,100mbit,jitter=5ms,unordered,reorder=1%,queue=256k,silent-mtu=1400,noudp=15008,blackhole";
        let expected = Impairments {
            delay: Duration::from_millis(40),
            jitter: Duration::from_millis(5),
            unordered: true,
            loss: 0.001,
            reorder: 0.01,
            rate: Some(100_000_000),
            queue: Some(256 * 1024),
            mtu: Some(Mtu { bytes: 1400, silent: true }),
            udp: Some(UdpBlock::Port(15008)),
            black_hole: true,
        };
        assert_eq!(text.parse(), Ok(expected));
        assert_eq!("50ms".parse::<Impairments>().unwrap().round_trip(), Duration::from_millis(50));
        assert_eq!(" 1s , 1.5gbit ,noudp".parse::<Impairments>().unwrap().udp, Some(UdpBlock::All));
    }

    #[test]
    fn a_wrong_word_is_named_with_what_was_expected() {
        for (text, word, expected) in [
            ("", "", "50ms"),
            ("50", "50", "50ms (a round trip)"),
            ("50ms,1%,2%", "2%", "one loss only"),
            ("50ms,101%", "101%", "1% (loss)"),
            ("-5ms", "-5ms", "50ms"),
            ("61s", "61s", "50ms"),
            ("50ms,jitter=5", "jitter=5", "jitter=5ms"),
            ("50ms,reorder=1", "reorder=1", "reorder=1%"),
            ("mtu=575", "mtu=575", "576"),
            ("mtu=1400,silent-mtu=1400", "silent-mtu=1400", "one MTU only"),
            ("noudp=x", "noudp=x", "a port"),
            ("1bit", "1bit", "100mbit"),
            ("nan%", "nan%", "1%"),
            ("delay=5ms", "delay=5ms", "50ms"),
        ] {
            let error = text.parse::<Impairments>().unwrap_err();
            assert!(error.found == word && error.expected.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn times_are_printed_in_milliseconds() {
        for text in ["0ms", "0.5ms,jitter=0.25ms", "50ms,1%", "2000ms"] {
            assert_eq!(text.parse::<Impairments>().unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(
            (rtt_us, jitter_us) in (0_u64..10_000_000, 0_u64..1_000_000),
            (loss, reorder) in (0_u32..=10_000, 0_u32..=10_000),
            rate in prop::option::of(1_000_u64..100_000_000_000),
            (mtu, silent) in (prop::option::of(576_u16..), any::<bool>()),
            udp in prop::option::of(prop::option::of(any::<u16>())),
        ) {
            let impairments = Impairments {
                delay: Duration::from_micros(rtt_us) / 2,
                jitter: Duration::from_micros(jitter_us),
                loss: f64::from(loss) / 10_000.0,
                reorder: f64::from(reorder) / 10_000.0,
                rate,
                mtu: mtu.map(|bytes| Mtu { bytes, silent }),
                udp: udp.map(|port| port.map_or(UdpBlock::All, UdpBlock::Port)),
                ..Impairments::default()
            };
            let read: Impairments = impairments.to_string().parse().unwrap();
            prop_assert!((read.loss - impairments.loss).abs() < 1e-9 && (read.reorder - impairments.reorder).abs() < 1e-9);
            prop_assert_eq!(Impairments { loss: 0.0, reorder: 0.0, ..read }, Impairments { loss: 0.0, reorder: 0.0, ..impairments });
        }

        #[test]
        fn no_text_breaks_it(text in "[0-9.a-z%=,-]{0,30}") {
            let _ = text.parse::<Impairments>();
        }
    }
}
