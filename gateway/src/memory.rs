//! What of its memory the process needs no more once it runs.
//!
//! The kernel maps a program's code in pieces of 64 KiB around what is first run, and keeps them: half of what an idle gateway has in
//! memory would be code that read its configuration, printed, or asked for help texts. And glibc keeps what is freed: the more, the
//! larger the pieces were that the process has ever freed.

use rustix::mm::{Advice, madvise};
use std::{ffi::c_void, fs, path::Path};

/// Gives back what the start has needed: free heap, and code, which is mapped again piece by piece as it runs.
///
/// It takes a millisecond or two; where it cannot be done, everything stays as it is.
pub fn give_back() {
    trim();
    let (Ok(maps), Ok(program)) = (fs::read_to_string("/proc/self/maps"), fs::read_link("/proc/self/exe")) else {
        return;
    };
    for Code { from, length } in code_of(&maps, &program) {
        // SAFETY: the range is a mapping of this process that is never written, only executed, and backed by the program's file
        // throughout: code has no relocations, so what is dropped here is read again from the file's pages, as it was.
        let result = unsafe { madvise(from as *mut c_void, length, Advice::LinuxDontNeed) };
        if let Err(error) = result {
            tracing::debug!(%error, "the start's code stays in memory");
        }
    }
}

/// Pieces of memory from so many bytes on have mappings of their own, which end with them: above every buffer of a stream's path.
#[cfg(target_env = "gnu")]
const OWN_MAPPING: libc::c_int = 1 << 20;
/// Free bytes at the end of a heap that the kernel gets back at once.
#[cfg(target_env = "gnu")]
const AT_ONCE: libc::c_int = 2 << 20;

/// Has the allocator keep no more than a little of what is freed. To be called before there are other threads.
#[cfg(target_env = "gnu")]
pub fn keep_little() {
    // SAFETY: these take numbers only, and nothing else allocates meanwhile.
    unsafe {
        // What they answer is whether glibc knows them: all releases do (mallopt(3)).
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING);
        libc::mallopt(libc::M_TRIM_THRESHOLD, AT_ONCE);
    }
}

/// Other allocators are left as they are.
#[cfg(not(target_env = "gnu"))]
pub fn keep_little() {}

/// Gives free heap back to the kernel.
#[cfg(target_env = "gnu")]
pub(crate) fn trim() {
    // SAFETY: it takes no pointer, and the allocator's own locks make it safe in any thread.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Other allocators do it by themselves, or not at all.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn trim() {}

/// A mapping of code.
#[derive(Debug, PartialEq, Eq)]
struct Code {
    from: usize,
    length: usize,
}

/// ● The program's own code, by `/proc/self/maps` (proc_pid_maps(5)). What cannot be understood is left alone.
fn code_of<'m>(maps: &'m str, program: &'m Path) -> impl Iterator<Item = Code> + 'm {
    maps.lines().filter_map(move |line| {
        let mut fields = line.splitn(6, ' ');
        let (range, permissions) = (fields.next()?, fields.next()?);
        let file = Path::new(fields.nth(3)?.trim_start());
        let (from, to) = range.split_once('-')?;
        let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
        let length = to.checked_sub(from)?;
        (permissions == "r-xp" && file == program).then_some(Code { from, length })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_is_executed_of_the_program_and_nothing_else() {
        let maps = "\
55d0c0000000-55d0c01f0000 r--p 00000000 fe:00 131 /usr/bin/isthmus
55d0c01f0000-55d0c1530000 r-xp 001ef000 fe:00 131                        /usr/bin/isthmus
55d0c1530000-55d0c15d0000 r--p 0152e000 fe:00 131                        /usr/bin/isthmus
55d0c15d0000-55d0c15e0000 rwxp 015ce000 fe:00 131                        /usr/bin/isthmus
7f2e40000000-7f2e40021000 rw-p 00000000 00:00 0
7f2e50000000-7f2e50100000 r-xp 00028000 fe:00 997                        /usr/lib/libc.so.6
7ffd3a5d2000-7ffd3a5d4000 r-xp 00000000 00:00 0                          [vdso]
nonsense
";
        let found: Vec<_> = code_of(maps, Path::new("/usr/bin/isthmus")).collect();
        assert_eq!(found, [Code { from: 0x55d0_c01f_0000, length: 0x134_0000 }]);
    }

    #[test]
    fn it_goes_on_running_with_less_in_memory() {
        let resident = || {
            let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
            let rss = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
            rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        // What has run, and does not run again until it is measured.
        let touched = serde_json::to_string_pretty(&serde_json::json!({"a": [1, 2.5, "x"]})).unwrap();
        let before = resident();
        give_back();
        assert!(resident() < before, "{before}");
        assert_eq!(serde_json::to_string_pretty(&serde_json::json!({"a": [1, 2.5, "x"]})).unwrap(), touched);
    }
}
