//! Domain routes, services and endpoints as parsed, validated types.
