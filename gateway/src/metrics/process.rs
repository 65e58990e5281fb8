//! What the kernel knows of this process.

use std::fs;

/// The process at the time of a scrape. What /proc does not tell is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Process {
    /// Bytes of memory that are resident.
    pub resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// The most that may be open.
    pub most_fds: Option<u64>,
}

impl Process {
    /// Asks /proc.
    pub fn read() -> Self {
        Self {
            resident_bytes: fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident_bytes),
            // The directory's own descriptor is one of those it lists.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| (fds.count() as u64).saturating_sub(1)),
            most_fds: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        }
    }
}

/// `VmRSS:     1234 kB` of /proc/self/status, in bytes.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t    1234 kB\nX: 1\n"), Some(1_263_616));
        assert_eq!(resident_bytes("VmRSS: a lot"), None);
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let process = Process::read();
        assert!(process.resident_bytes > Some(0) && process.open_fds > Some(0));
    }
}
