//! Kubernetes for the control plane: what the API server says, and what is written to it.

#![forbid(unsafe_code)]
