//! What of its memory the process needs no more once it runs.
//!
//! The kernel maps a program's code in pieces of 64 KiB around what is first run, and keeps them: most of what an idle gateway has in
//! memory is code, much of which only its start has run. And glibc keeps what is freed: the more, the larger the pieces were that the
//! process has ever freed.

use rustix::mm::{Advice, madvise};
use std::{ffi::c_void, fs, path::Path};

/// Gives back what the start has needed: free heap, and code, which is mapped again piece by piece as it runs.
///
/// Where it cannot be done, everything stays as it is.
pub fn give_back() {
    trim();
    for Code { from, length, .. } in own_code() {
        // SAFETY: the range is a mapping of this process that is only executed, and backed by the program's file throughout, as none of
        // its pages is a private copy (relocations, a debugger's or a uprobe's breakpoints): what is dropped is mapped again from the
        // file's pages, as it was.
        let result = unsafe { madvise(from as *mut c_void, length, Advice::LinuxDontNeed) };
        if let Err(error) = result {
            tracing::debug!(%error, "the start's code stays in memory");
        }
    }
}

/// None where the kernel does not say.
fn own_code() -> Vec<Code> {
    let (maps, program) = (fs::read_to_string("/proc/self/smaps"), fs::read_link("/proc/self/exe"));
    maps.ok().zip(program.ok()).map(|(maps, program)| code_of(&maps, &program)).unwrap_or_default()
}

/// Pieces of memory from so many bytes on have mappings of their own, which end with them. Much larger than what streams copy with, as
/// each costs system calls.
#[cfg(target_env = "gnu")]
const OWN_MAPPING: libc::c_int = 1 << 20;
/// Free bytes at the end of a heap that the kernel gets back at once.
#[cfg(target_env = "gnu")]
const AT_ONCE: libc::c_int = 2 << 20;

/// Has the allocator keep no more than a little of what is freed.
///
/// # Safety
/// There are no other threads yet (mallopt(3), attributes).
#[cfg(target_env = "gnu")]
pub unsafe fn keep_little() {
    // SAFETY: these take numbers only; that nothing else allocates meanwhile is the caller's affair.
    unsafe {
        // What they answer is whether glibc knows them: all releases do (mallopt(3)).
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING);
        libc::mallopt(libc::M_TRIM_THRESHOLD, AT_ONCE);
    }
}

/// Other allocators are left as they are.
///
/// # Safety
/// None is needed here.
#[cfg(not(target_env = "gnu"))]
pub unsafe fn keep_little() {}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Code {
    from: usize,
    length: usize,
    /// KiB of it that are in memory.
    resident: u64,
}

/// ● The program's own code, by `/proc/self/smaps` (proc_pid_smaps(5)), where no page of it is a private copy. What cannot be understood is
/// left alone.
fn code_of(maps: &str, program: &Path) -> Vec<Code> {
    let (mut found, mut current) = (Vec::new(), None::<Code>);
    for line in maps.lines() {
        match line.split_once(':') {
            Some(("Rss", size)) => current = current.and_then(|code| Some(Code { resident: kib(size)?, ..code })),
            // The last one that is looked at.
            Some(("Anonymous", size)) => found.extend(current.take().filter(|_| kib(size) == Some(0))),
            _ => current = mapping(line, program).or(current),
        }
    }
    found
}

/// What the first line of a mapping says, if it is of the program's code.
fn mapping(line: &str, program: &Path) -> Option<Code> {
    let mut fields = line.splitn(6, ' ');
    let (range, permissions) = (fields.next()?, fields.next()?);
    let file = Path::new(fields.nth(3)?.trim_start());
    let (from, to) = range.split_once('-')?;
    let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
    let length = to.checked_sub(from)?;
    (permissions == "r-xp" && file == program).then_some(Code { from, length, resident: 0 })
}

fn kib(size: &str) -> Option<u64> {
    size.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_is_executed_of_the_program_and_has_no_private_page() {
        let fields = |rss: u32, anonymous: u32| {
            format!("Size:  100 kB\nRss:   {rss} kB\nPss:   7 kB\nAnonymous:   {anonymous} kB\nVmFlags: rd ex mr\n")
        };
        let maps = [
            ("55d0c0000000-55d0c01f0000 r--p 00000000 fe:00 131 /usr/bin/isthmus", fields(8, 0)),
            (
                "55d0c01f0000-55d0c1530000 r-xp 001ef000 fe:00 131                        /usr/bin/isthmus",
                fields(4096, 0),
            ),
            (
                "55d0c1530000-55d0c15d0000 r--p 0152e000 fe:00 131                        /usr/bin/isthmus",
                fields(640, 640),
            ),
            ("55d0c15d0000-55d0c15e0000 rwxp 015ce000 fe:00 131                        /usr/bin/isthmus", fields(8, 0)),
            (
                "55d0c1600000-55d0c1700000 r-xp 001ef000 fe:00 131                        /usr/bin/isthmus",
                fields(16, 4),
            ),
            ("7f2e40000000-7f2e40021000 rw-p 00000000 00:00 0", fields(8, 8)),
            (
                "7f2e50000000-7f2e50100000 r-xp 00028000 fe:00 997                        /usr/lib/libc.so.6",
                fields(8, 0),
            ),
            ("7ffd3a5d2000-7ffd3a5d4000 r-xp 00000000 00:00 0                          [vdso]", fields(8, 0)),
            ("nonsense", String::new()),
        ];
        let maps: String = maps.iter().map(|(line, fields)| format!("{line}\n{fields}")).collect();
        let found = code_of(&maps, Path::new("/usr/bin/isthmus"));
        assert_eq!(found, [Code { from: 0x55d0_c01f_0000, length: 0x134_0000, resident: 4096 }]);
    }

    #[test]
    fn it_goes_on_running_with_less_code_in_memory() {
        let resident = || own_code().iter().map(|code| code.resident).sum::<u64>();
        // What has run, and does not run again until it was measured.
        let written = || serde_json::to_string_pretty(&serde_json::json!({"a": [1, 2.5, "x"]})).unwrap();
        let (before_text, before) = (written(), resident());
        give_back();
        let after = resident();
        assert!(after < before, "{before} KiB before, {after} KiB after");
        assert_eq!(written(), before_text);
    }
}
