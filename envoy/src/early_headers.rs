//! What a listener writes into requests before routing, whatever their client wrote there.

use envoy_types::pb::envoy::config::common::mutation_rules::v3::{
    HeaderMutation,
    header_mutation::{Action, RemoveOnMatch},
};
use envoy_types::pb::envoy::config::core::v3::{HeaderValueOption, TypedExtensionConfig};
use envoy_types::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3::HeaderMutation as EarlyHeaderMutation;
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};

use crate::clusters::service_cluster_name;
use crate::gateway::{Gateway, Side};
use crate::headers::{self, overwrite, peer_certificate, peer_issuer};
use crate::message::{extension, string_matcher};
use crate::scopes::scope_header;
use crate::settings::{ExternalProtocol, Settings};

/// Names the scope of the request, the cluster of the service asked for, and who is at the other end of the connection.
pub(crate) fn early_headers(side: Side, gateway: &Gateway, settings: &Settings) -> TypedExtensionConfig {
    let domain = &gateway.domain;
    let mut mutations = vec![set(scope_header(side, gateway))];
    match side {
        Side::Internal => {
            let clusters = [
                (headers::CLUSTER, "%REQ(:authority)%".to_owned()),
                (headers::CLUSTER_OF_LABEL, format!("%REQ(:authority)%.{domain}.svc")),
                (headers::CLUSTER_OF_DOMAIN, "%REQ(:authority)%.svc".to_owned()),
            ];
            let clusters = clusters.map(|(header, host)| set(overwrite(header, service_cluster_name(&host))));
            mutations.extend(clusters);
            // Applications speak for this domain only, and encrypt nothing in the name of its gateway.
            mutations.push(set(overwrite(headers::ORIGIN_SOURCE, domain.as_str())));
            mutations.push(remove(headers::TRANSIT_HASH));
            mutations.push(remove(headers::TRANSIT_FLAG));
            mutations.push(remove_all(headers::ENCRYPT_PREFIX));
        }
        Side::External => {
            let cluster = service_cluster_name(&format!("%REQ({})%", headers::HOST));
            // By these, clients could tell Envoy how often to try and how long to wait. Where no proxy is trusted,
            // Envoy takes them off by itself.
            if !settings.trusted_proxies.is_empty() {
                mutations.push(remove_all(headers::ENVOY_PREFIX));
                mutations.push(remove(headers::FORWARDED_PROTO));
            }
            mutations.push(set(overwrite(headers::CLUSTER, cluster)));
            mutations.extend(match settings.external_protocol {
                // Nobody is known by a certificate, whatever he says.
                ExternalProtocol::NoTls => [headers::PEER_ISSUER, headers::PEER_CERTIFICATE].map(remove),
                ExternalProtocol::Tls | ExternalProtocol::Mtls => [
                    set(overwrite(headers::PEER_ISSUER, peer_issuer("%DOWNSTREAM_PEER_ISSUER%"))),
                    set(overwrite(
                        headers::PEER_CERTIFICATE,
                        peer_certificate("%DOWNSTREAM_PEER_FINGERPRINT_256%"),
                    )),
                ],
            });
        }
        // The external listener has let the request in, and the routes there have said where it began.
        Side::Transit => {}
    }
    extension("envoy.http.early_header_mutation.header_mutation", &EarlyHeaderMutation { mutations })
}

fn set(header: HeaderValueOption) -> HeaderMutation {
    HeaderMutation { action: Some(Action::Append(header)) }
}

fn remove(header: &str) -> HeaderMutation {
    HeaderMutation { action: Some(Action::Remove(header.to_owned())) }
}

fn remove_all(prefix: &str) -> HeaderMutation {
    let prefix =
        StringMatcher { ignore_case: true, ..string_matcher(MatchPattern::Prefix(prefix.to_owned())) };
    HeaderMutation { action: Some(Action::RemoveOnMatch(RemoveOnMatch { key_matcher: Some(prefix) })) }
}
