//! Prometheus metrics, computed when they are asked for.

mod dns;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::source::Severity;
use crate::status::{RouteStatus, Status};

/// The metrics of a mesh with this `status`, in OpenMetrics text.
pub(crate) fn render(status: Status, ready: bool, dns: Arc<::dns::Metrics>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("networkmesh");
    registry.register_collector(Box::new(Metrics { status, ready, dns }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Metrics {
    status: Status,
    ready: bool,
    dns: Arc<::dns::Metrics>,
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { status, ready, dns } = self;
        let mut gauge = |name: &str, help: &str, values: Vec<(Vec<(&str, String)>, i64)>| {
            let first = ConstGauge::new(0_i64);
            let mut family = encoder.encode_descriptor(name, help, None, first.metric_type())?;
            values
                .into_iter()
                .try_for_each(|(labels, value)| ConstGauge::new(value).encode(family.encode_family(&labels)?))
        };
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        gauge("ready", "1 if a configuration is loaded", vec![(vec![], i64::from(*ready))])?;
        gauge(
            "problems",
            "Things that are not as they should be",
            vec![(vec![], count(status.problems.len()))],
        )?;
        let errors =
            status.source.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        gauge(
            "source_problems",
            "What is wrong with the source of manifests",
            vec![(vec![], count(errors))],
        )?;
        gauge("rejected_objects", "Objects not in force", vec![(vec![], count(status.rejected.len()))])?;
        gauge("services", "Services of the domain", vec![(vec![], count(status.services.len()))])?;
        let labels =
            |route: &RouteStatus| vec![("route", route.name.clone()), ("direction", route.direction.clone())];
        let revisions =
            status.routes.iter().filter_map(|route| Some((labels(route), *route.token_revisions.last()?)));
        gauge("route_token_revision", "Revision of a route's newest token", revisions.collect())?;
        let expiries =
            status.routes.iter().filter_map(|route| Some((labels(route), route.token_expires?.as_second())));
        gauge("route_token_expiry_seconds", "End of a route's newest token, Unix time", expiries.collect())?;
        gauge("gateways", "Live gateways of the domain", vec![(vec![], count(status.gateways.len()))])?;
        let leads = status.controller.iter().map(|controller| (vec![], i64::from(controller.is_leader)));
        gauge("controller_leads", "1 if this mesh does the controller's part", leads.collect())?;
        gauge("envoys", "Connected Envoys", vec![(vec![], count(status.envoys.len()))])?;
        let mut resources = Vec::new();
        for envoy in &status.envoys {
            for (ty, counts) in &envoy.resources {
                for (state, number) in
                    [("sent", counts.sent), ("acked", counts.acked), ("nacked", counts.nacked)]
                {
                    let labels =
                        [("node", envoy.node.clone()), ("type", ty.clone()), ("state", state.to_owned())];
                    resources.push((labels.to_vec(), count(number)));
                }
            }
        }
        gauge("envoy_resources", "Resources by Envoy, type and state", resources)?;
        gauge(
            "dns_names",
            "Names of services and routes that the DNS answers",
            vec![(vec![], count(status.dns.names))],
        )?;
        let expiry = status.certificate.iter().map(|certificate| (vec![], certificate.not_after.as_second()));
        gauge("certificate_expiry_seconds", "End of the external certificate, Unix time", expiry.collect())?;
        let expiry = status.client_certificate.iter();
        let expiry = expiry.map(|certificate| (vec![], certificate.not_after.as_second())).collect();
        gauge("client_certificate_expiry_seconds", "End of the client certificate, Unix time", expiry)?;

        let mut counter = |name: &str, help: &str, label: &str, values: &BTreeMap<String, u64>| {
            let first = ConstCounter::new(0_u64);
            let mut family = encoder.encode_descriptor(name, help, None, first.metric_type())?;
            values.iter().try_for_each(|(value, number)| {
                ConstCounter::new(*number).encode(family.encode_family(&[(label, value.clone())])?)
            })
        };
        let handshakes = "Handshakes that other domains asked for, by what became of them";
        counter("handshakes", handshakes, "outcome", &status.handshakes)?;
        dns::encode(&mut encoder, dns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::well;

    #[test]
    fn every_line_is_a_comment_or_a_sample_whatever_names_hold() {
        let mut status = well();
        status.envoys[0].node = "a\"b\\c\nd 1\n# EOF".to_owned();
        let text = render(status, true, Arc::default()).expect("renders");
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert!(text.contains(r#"node="a\"b\\c\nd 1\n# EOF""#), "{text}");
        for line in text.lines().filter(|line| !line.starts_with("# ")) {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            assert!(name.starts_with("networkmesh_"), "{line}");
            value.parse::<f64>().expect("a number");
        }
    }

    #[test]
    fn what_the_status_says_is_counted() {
        let text = render(well(), false, Arc::default()).expect("renders");
        for line in [
            "networkmesh_ready{} 0",
            "networkmesh_problems{} 0",
            "networkmesh_services{} 0",
            "networkmesh_gateways{} 1",
            r#"networkmesh_route_token_revision{route="alice-bob",direction="outbound"} 3"#,
            r#"networkmesh_route_token_expiry_seconds{route="alice-bob",direction="outbound"} 1000"#,
            r#"networkmesh_envoy_resources{node="gateway",type="Cluster",state="acked"} 1"#,
            "networkmesh_certificate_expiry_seconds{} 2000",
            "networkmesh_client_certificate_expiry_seconds{} 2000",
            r#"networkmesh_handshakes_total{outcome="Answered"} 5"#,
            "networkmesh_dns_names{} 3",
            r#"networkmesh_dns_responses_total{rcode="NXDOMAIN",type="AAAA",transport="tcp"} 0"#,
            r#"networkmesh_dns_limited_total{how="dropped"} 0"#,
            r#"networkmesh_dns_cache_total{result="stale"} 0"#,
        ] {
            assert!(text.lines().any(|known| known == line), "{line}:\n{text}");
        }
    }
}
