//! Which address of a cluster a request goes to.

use envoy_types::pb::envoy::config::cluster::v3::{
    LoadBalancingPolicy, OutlierDetection, cluster::CommonLbConfig, load_balancing_policy::Policy,
};
use envoy_types::pb::envoy::config::route::v3::route_action::{
    HashPolicy,
    hash_policy::{ConnectionProperties, Cookie, FilterState, PolicySpecifier},
};
use envoy_types::pb::envoy::extensions::filters::common::set_filter_state::v3::{
    FilterStateValue,
    filter_state_value::{Key, Value},
};
use envoy_types::pb::envoy::extensions::filters::http::set_filter_state::v3::Config as SetFilterState;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::ConsistentHashingLbConfig;
use envoy_types::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::RingHash;
use envoy_types::pb::envoy::r#type::v3::Percent;
use model::Affinity;

use crate::headers;
use crate::message::{any, duration, extension, http_filter, text_format, uint};

/// Where [`origin_filter`] puts the domain that made a request.
const ORIGIN: &str = "networkmesh.origin";

/// The load balancing policy of a service; `None`: that of the cluster.
///
/// The hash policies stand here and not in the routes, which are the same for all services.
pub(super) fn affinity(affinity: &Affinity) -> Option<LoadBalancingPolicy> {
    let hash_policy = match affinity {
        Affinity::None => return None,
        Affinity::Client => vec![
            HashPolicy {
                policy_specifier: Some(PolicySpecifier::FilterState(FilterState { key: ORIGIN.to_owned() })),
                terminal: true,
            },
            hash(PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true })),
        ],
        Affinity::Cookie(cookie) => vec![hash(PolicySpecifier::Cookie(Cookie {
            name: cookie.name.to_string(),
            ttl: duration(cookie.ttl),
            path: "/".to_owned(),
            ..Cookie::default()
        }))],
    };
    let ring = RingHash {
        consistent_hashing_lb_config: Some(ConsistentHashingLbConfig {
            hash_policy,
            ..ConsistentHashingLbConfig::default()
        }),
        ..RingHash::default()
    };
    Some(LoadBalancingPolicy {
        policies: vec![Policy {
            typed_extension_config: Some(extension("envoy.load_balancing_policies.ring_hash", &ring)),
        }],
    })
}

fn hash(policy: PolicySpecifier) -> HashPolicy {
    HashPolicy { policy_specifier: Some(policy), terminal: false }
}

/// The filter of the external listener by which services with [`Affinity::Client`] tell clients apart: all gateways of a
/// domain are one. Applications of this domain do not pass it and are told apart by their addresses.
///
/// What it notes is what the source says, which nothing but the choice between replicas may depend on.
pub(crate) fn origin_filter() -> HttpFilter {
    let origin = FilterStateValue {
        key: Some(Key::ObjectKey(ORIGIN.to_owned())),
        factory_key: "envoy.hashable_string".to_owned(),
        value: Some(Value::FormatString(text_format(format!("%REQ({})%", headers::ORIGIN_SOURCE)))),
        skip_if_empty: true,
        ..FilterStateValue::default()
    };
    let config = SetFilterState { on_request_headers: vec![origin], ..SetFilterState::default() };
    http_filter("origin", any(&config))
}

/// Addresses that refuse connections are left out for a while. What an application answers is no reason to: one that
/// answers with errors still says more than none.
pub(super) fn outlier_detection() -> OutlierDetection {
    OutlierDetection {
        split_external_local_origin_errors: true,
        enforcing_consecutive_5xx: uint(0),
        enforcing_success_rate: uint(0),
        enforcing_local_origin_success_rate: uint(0),
        max_ejection_percent: uint(100),
        ..OutlierDetection::default()
    }
}

/// If no address is well, all are tried as if they were: a check that is wrong must not cut anybody off. Envoy's own
/// threshold, a half, would send requests to the broken one of two.
pub(super) fn last_resort() -> CommonLbConfig {
    CommonLbConfig { healthy_panic_threshold: Some(Percent { value: 1.0 }), ..CommonLbConfig::default() }
}
