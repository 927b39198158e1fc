//! What a controller does in a cluster, without an API server.

mod changes;
mod cluster;
mod detours;
mod gateways;
mod namespaces;
mod objects;
mod routes;
mod tokens;
