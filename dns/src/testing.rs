//! What tests of several parts need.

use model::Service;

/// A service at these endpoints, whose port is `http`.
pub(crate) fn service(name: &str, endpoints: &[&str]) -> Service {
    Service {
        port_name: "http".into(),
        ..Service::new(
            name.parse().unwrap(),
            endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect(),
        )
    }
}
