//! Where the cgroups are.

use std::path::PathBuf;

/// The directory of the outermost cgroup that this process can see, if a cgroup2 file system is mounted: programs that are attached
/// there see the connections of everybody below.
pub fn cgroup_root() -> Option<PathBuf> {
    outermost(&std::fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// Of several mounts, the one that shows the most: in a container, its own cgroup is `/`, and one that contains it begins with `/..`.
fn outermost(mountinfo: &str) -> Option<PathBuf> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let outside = root.split('/').filter(|part| *part == "..").count();
        let inside = root.split('/').filter(|part| !part.is_empty() && *part != "..").count();
        (source.split(' ').next()? == "cgroup2").then(|| (outside, std::cmp::Reverse(inside), unescaped(at)))
    });
    mounts.max_by_key(|(outside, inside, _)| (*outside, *inside)).map(|(.., at)| at.into())
}

/// The kernel writes blanks, tabs, line ends and backslashes as three octal digits.
fn unescaped(path: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(path.to_owned(), |path, (escaped, plain)| path.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mountinfo: &str) -> Option<String> {
        outermost(mountinfo).map(|path| path.to_string_lossy().into_owned())
    }

    #[test]
    fn the_widest_of_several_is_taken() {
        let own = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let hosts = "31 24 0:26 /../../.. /host/cgroup ro,nosuid - cgroup2 cgroup2 rw\n";
        let below = "32 24 0:26 /app /mnt/app rw - cgroup2 cgroup2 rw\n";
        let first_version = "33 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(found(own).as_deref(), Some("/sys/fs/cgroup"));
        assert_eq!(found(&format!("{below}{own}{first_version}")).as_deref(), Some("/sys/fs/cgroup"));
        assert_eq!(found(&format!("{hosts}{own}")).as_deref(), Some("/host/cgroup"));
        assert_eq!(found(first_version), None);
    }

    #[test]
    fn blanks_in_the_path_are_read() {
        assert_eq!(found("1 2 0:1 / /mnt/a\\040b rw - cgroup2 c rw\n").as_deref(), Some("/mnt/a b"));
    }
}
