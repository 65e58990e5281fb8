//! Which port a relay is dialled from.

use super::*;

#[test]
fn a_relay_that_cannot_be_dialled_is_dialled_from_either_port_in_turn() {
    let mut anew = false;
    let ports = [true, true, true, false, true].map(|failed| {
        anew = is_anew_in_turn(failed, anew);
        anew
    });
    assert_eq!(ports, [true, false, true, false, true]);
}
