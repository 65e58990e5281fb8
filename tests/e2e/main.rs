//! Two clusters, end to end.

fn main() {}
