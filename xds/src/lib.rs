//! An Envoy xDS server: aggregated discovery, delta and state-of-the-world.
