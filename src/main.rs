//! The command `isthmus`.

fn main() {}
