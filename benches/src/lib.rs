//! The load harness: isthmus side by side with its peers.
