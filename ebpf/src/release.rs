//! Which kernels are not even asked.

use crate::LoadError;

/// Whether this kernel may be given the programs. A release that cannot be read is the self-test's matter.
///
/// # Errors
/// [`LoadError::Old`].
pub(crate) fn check() -> Result<(), LoadError> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if is_new_enough(&release) { Ok(()) } else { Err(LoadError::Old(release.trim().to_owned())) }
}

/// Whether a kernel of this release takes a tracing program with a map whose elements are allocated as they come: before 6.1 it says
/// that in a warning with a stack trace, as of a fault of its own.
fn is_new_enough(release: &str) -> bool {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (6, 1),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        for new in ["6.1.0-18-amd64\n", "6.18.2", "7.0.0-rc1", "10.2", "who knows"] {
            assert!(is_new_enough(new), "{new}");
        }
        for old in ["6.0.19", "5.15.0-91-generic\n", "5.4"] {
            assert!(!is_new_enough(old), "{old}");
        }
    }
}
