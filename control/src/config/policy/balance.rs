//! The keys of a policy that say how endpoints and clusters are chosen.

use crate::config::{
    fields::{Fields, Refused, parsed},
    values,
};
use isthmus_control_api::policy::balance::{Algorithm, Failover, Near, Outliers};
use std::time::Duration;

pub(super) fn algorithm(text: &str) -> Result<Algorithm, Refused> {
    Algorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or(Refused(None))
}

pub(super) fn near(text: &str) -> Result<Near, Refused> {
    match text {
        "off" => Ok(Near::Off),
        "zone" => Ok(Near::Zone),
        "node" => Ok(Near::Node),
        _ => Err(Refused(None)),
    }
}

pub(super) fn duration_or_off(text: &str) -> Result<Option<Duration>, Refused> {
    if text == "off" { Ok(None) } else { values::duration(text).map(Some) }
}

pub(super) fn outliers(policy: &Fields<'_>) -> Outliers {
    let Some(fields) = policy.mapping_of("outliers", "policy.outliers") else { return Outliers::default() };
    let left_out = Outliers::default();
    let read = Outliers {
        failures: fields.value("failures", times).unwrap_or(left_out.failures),
        resets: fields.value("resets", times).unwrap_or(left_out.resets),
        slower_than: fields.value("slowerThan", factor_or_off).flatten(),
        ejection: fields.value("ejection", values::duration).unwrap_or(left_out.ejection),
        longest_ejection: fields.value("longestEjection", values::duration).unwrap_or(left_out.longest_ejection),
        max_ejected: fields.value("maxEjected", |text| percent(text, 0, 100)).unwrap_or(left_out.max_ejected),
    };
    if read.longest_ejection < read.ejection {
        let found = format!("{:?}, shorter than ejection, {:?}", read.longest_ejection, read.ejection);
        fields.conflict("longestEjection", found, "a duration that is no shorter than `ejection`");
    }
    read
}

pub(super) fn failover(policy: &Fields<'_>) -> Failover {
    let Some(fields) = policy.mapping_of("failover", "policy.failover") else { return Failover::default() };
    let left_out = Failover::default();
    Failover {
        healthy: fields.value("healthy", |text| percent(text, 0, 100)).unwrap_or(left_out.healthy),
        panic: fields.value("panic", |text| percent(text, 0, 99)).unwrap_or(left_out.panic),
        recovery: fields.value("recovery", values::duration).unwrap_or(left_out.recovery),
    }
}

fn times(text: &str) -> Result<u32, Refused> {
    parsed(text).and_then(|times| if (1..=1000).contains(&times) { Ok(times) } else { Err(Refused(None)) })
}

fn factor_or_off(text: &str) -> Result<Option<u32>, Refused> {
    match text {
        "off" => Ok(None),
        _ => parsed(text)
            .and_then(|factor| if (2..=1000).contains(&factor) { Ok(Some(factor)) } else { Err(Refused(None)) }),
    }
}

fn percent(text: &str, least: u32, most: u32) -> Result<u32, Refused> {
    let number = text.strip_suffix('%').ok_or(Refused(Some("a percentage ends with %")))?;
    parsed(number).and_then(|percent| if (least..=most).contains(&percent) { Ok(percent) } else { Err(Refused(None)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_and_factors_have_ranges() {
        assert_eq!(percent("50%", 0, 100).unwrap(), 50);
        for bad in ["50", "101%", "-1%", "%", "1.5%"] {
            assert!(percent(bad, 0, 100).is_err(), "{bad}");
        }
        assert_eq!(factor_or_off("20").unwrap(), Some(20));
        assert_eq!(factor_or_off("off").unwrap(), None);
        assert!(factor_or_off("1").is_err() && times("0").is_err());
    }

    #[test]
    fn every_word_of_an_algorithm_is_read_back() {
        for known in Algorithm::ALL {
            assert_eq!(algorithm(known.as_str()).unwrap(), known);
        }
        assert!(algorithm("maglev").is_err());
    }
}
