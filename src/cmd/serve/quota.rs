//! Whether the process may use its CPUs all the time.

use std::path::Path;

/// Whether a control group of this process has a CPU quota: time spent asking for work would be taken from that for doing it.
///
/// Of cgroup v2, `cpu.max` (Linux, Documentation/admin-guide/cgroup-v2.rst). What cannot be read is taken for no quota.
pub(super) fn applies() -> bool {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups.lines().find_map(|line| line.strip_prefix("0::/")).is_some_and(|group| {
        let root = Path::new("/sys/fs/cgroup");
        is_limited(root, Path::new(group))
    })
}

/// Whether `group` or one of its ancestors has a quota.
fn is_limited(root: &Path, group: &Path) -> bool {
    group.ancestors().any(|group| {
        let quota = std::fs::read_to_string(root.join(group).join("cpu.max"));
        quota.is_ok_and(|quota| !quota.starts_with("max"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_of_any_ancestor_counts() {
        let root = tempfile::tempdir().unwrap();
        let pod = root.path().join("pods/one");
        std::fs::create_dir_all(&pod).unwrap();
        let group = Path::new("pods/one");
        assert!(!is_limited(root.path(), group));
        std::fs::write(pod.join("cpu.max"), "max 100000\n").unwrap();
        assert!(!is_limited(root.path(), group));
        std::fs::write(root.path().join("pods/cpu.max"), "150000 100000\n").unwrap();
        assert!(is_limited(root.path(), group));
        assert!(!is_limited(root.path(), Path::new("")));
    }
}
