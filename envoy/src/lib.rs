//! Translation of a domain's snapshot into Envoy resources.
