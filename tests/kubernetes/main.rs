//! What a real Kubernetes API server says to the manifests, and to those who have the rights in them.

#![allow(clippy::unwrap_used, missing_docs)]

mod cluster;
mod crds;
mod deploy;
mod rbac;
