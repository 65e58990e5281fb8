//! What proxies in front of a gateway send before their clients' bytes.

use isthmus_gateway::proxy_protocol::{LONGEST, Read, read};

/// It is decided within the bound, at the header's last byte and not before, and by the header alone.
pub fn header(input: &[u8]) {
    let all = read(input);
    assert!(all != Ok(Read::More) || input.len() < LONGEST);
    if let Ok(Read::Whole { length, .. }) = all {
        assert!(length <= LONGEST && length <= input.len());
        assert_eq!(read(&input[..length]), all);
        assert_eq!(read(&input[..length - 1]), Ok(Read::More));
    }
}
