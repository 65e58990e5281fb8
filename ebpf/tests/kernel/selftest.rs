//! This kernel passes, and what the self-test leaves behind.

use crate::programs;
use isthmus_ebpf::selftest;

#[test]
fn this_kernel_passes_and_nothing_stays_behind() {
    let programs = programs();
    selftest::run(&programs).unwrap();
    let counts = programs.counts().unwrap();
    assert!(counts.redirected > 0 && counts.unread > 0 && counts.full == 0, "{counts:?}");
    assert_eq!(programs.ends().unwrap(), 0);
}
