//! Which kernels are not even asked.

use crate::LoadError;

/// Whether this kernel is of this release, `(major, minor)`, or later. One whose release cannot be read is asked.
///
/// # Errors
/// [`LoadError::Old`].
pub(crate) fn check(first: (u32, u32)) -> Result<(), LoadError> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if is_new_enough(&release, first) {
        Ok(())
    } else {
        Err(LoadError::Old(release.trim().to_owned(), first.0, first.1))
    }
}

fn is_new_enough(release: &str, first: (u32, u32)) -> bool {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= first,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        for new in ["6.1.0-18-amd64\n", "6.18.2", "7.0.0-rc1", "10.2", "who knows"] {
            assert!(is_new_enough(new, (6, 1)), "{new}");
        }
        for old in ["6.0.19", "5.15.0-91-generic\n", "5.4"] {
            assert!(!is_new_enough(old, (6, 1)), "{old}");
        }
    }
}
