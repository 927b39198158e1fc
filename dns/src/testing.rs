//! What tests of several parts need.

use model::{Access, Affinity, PortScope, Protocol, Service};

/// A service at these endpoints, whose port is `http`.
pub(crate) fn service(name: &str, endpoints: &[&str]) -> Service {
    Service {
        name: name.parse().unwrap(),
        scope: PortScope::Cluster,
        access: Access::Anyone,
        protocol: Protocol::Http,
        tls: None,
        affinity: Affinity::None,
        external: None,
        through_gateway: false,
        has_ready_time: false,
        port_name: "http".into(),
        endpoints: endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect(),
    }
}
