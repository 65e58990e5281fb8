//! End-to-end topologies on real kernels.
