//! Proof of use: how the mesh learns that a source has a token.
//!
//! Whoever knows a source's public key can ask for a token in its name, but only the source can open what comes back. So
//! a request that gets in with a token proves that its source has it:
//!
//! ```text
//! request ─► token-auth: allowed by the policy unproven|<source>|<revision>
//!              └─ name of the policy ─► metadata of the request ─► access log, if the name begins so ─► the mesh
//! ```
//!
//! The token filter writes the name of the policy that decided, so a denied request has that of its denial, whatever
//! token it carries and whatever it says of its source. Once the mesh knows, the token is let in by the policy of all
//! others, and nothing is logged any more. No header goes into this log.

use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, MetadataFilter, access_log::ConfigType, access_log_filter::FilterSpecifier,
};
use envoy_types::pb::envoy::config::core::v3::{
    ApiVersion, GrpcService,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
};
use envoy_types::pb::envoy::data::accesslog::v3::HttpAccessLogEntry;
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{
    MetadataMatcher, ValueMatcher,
    metadata_matcher::{PathSegment, path_segment::Segment},
    string_matcher::MatchPattern,
    value_matcher::MatchPattern as ValuePattern,
};
use envoy_types::pb::google::protobuf::{BoolValue, value::Kind};
use model::DomainId;

use crate::bootstrap::XDS_CLUSTER;
use crate::message::{any, string_matcher, uint};

/// What the names of the policies of unproven tokens begin with.
const UNPROVEN: &str = "unproven|";

/// Where the token filter writes which policy decided: the namespace and the key in the metadata of a request.
const RBAC_METADATA: &str = "envoy.filters.http.rbac";
const POLICY: &str = "enforced_effective_policy_id";

/// The policy that lets a request with an unproven token in.
pub(crate) fn policy_of(source: &DomainId, revision: i64) -> String {
    format!("{UNPROVEN}{source}|{revision}")
}

/// Source and revision of the unproven token that let a request in, as the access log tells of it; `None` for any other
/// entry.
#[must_use]
pub fn token_used(entry: &HttpAccessLogEntry) -> Option<(DomainId, i64)> {
    let metadata = entry.common_properties.as_ref()?.metadata.as_ref()?;
    let policy = metadata.filter_metadata.get(RBAC_METADATA)?.fields.get(POLICY)?;
    let Some(Kind::StringValue(policy)) = &policy.kind else { return None };
    let (source, revision) = policy.strip_prefix(UNPROVEN)?.split_once('|')?;
    Some((source.parse().ok()?, revision.parse().ok()?))
}

/// Tells the mesh of every request that an unproven token let in.
pub(crate) fn access_log() -> AccessLog {
    let policy = MetadataMatcher {
        filter: RBAC_METADATA.to_owned(),
        path: vec![PathSegment { segment: Some(Segment::Key(POLICY.to_owned())) }],
        value: Some(ValueMatcher {
            match_pattern: Some(ValuePattern::StringMatch(string_matcher(MatchPattern::Prefix(
                UNPROVEN.to_owned(),
            )))),
        }),
        ..MetadataMatcher::default()
    };
    let filter = FilterSpecifier::MetadataFilter(MetadataFilter {
        matcher: Some(policy),
        match_if_key_not_found: Some(BoolValue { value: false }),
    });
    let mesh = EnvoyGrpc { cluster_name: XDS_CLUSTER.to_owned(), ..EnvoyGrpc::default() };
    let config = HttpGrpcAccessLogConfig {
        common_config: Some(CommonGrpcAccessLogConfig {
            log_name: "used-tokens".to_owned(),
            grpc_service: Some(GrpcService {
                target_specifier: Some(TargetSpecifier::EnvoyGrpc(mesh)),
                ..GrpcService::default()
            }),
            transport_api_version: ApiVersion::V3.into(),
            // Every entry is larger, so each is sent at once. With 0, which means that too, entries would pile up
            // without bound before a mesh that does not read.
            buffer_size_bytes: uint(1),
            ..CommonGrpcAccessLogConfig::default()
        }),
        ..HttpGrpcAccessLogConfig::default()
    };
    AccessLog {
        name: "envoy.access_loggers.http_grpc".to_owned(),
        filter: Some(AccessLogFilter { filter_specifier: Some(filter) }),
        config_type: Some(ConfigType::TypedConfig(any(&config))),
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::Metadata;
    use envoy_types::pb::envoy::data::accesslog::v3::AccessLogCommon;
    use envoy_types::pb::google::protobuf::{Struct, Value};

    use super::*;

    fn entry(namespace: &str, key: &str, policy: Kind) -> HttpAccessLogEntry {
        let fields = Struct { fields: [(key.to_owned(), Value { kind: Some(policy) })].into() };
        let metadata =
            Metadata { filter_metadata: [(namespace.to_owned(), fields)].into(), ..Metadata::default() };
        let common = AccessLogCommon { metadata: Some(metadata), ..AccessLogCommon::default() };
        HttpAccessLogEntry { common_properties: Some(common), ..HttpAccessLogEntry::default() }
    }

    fn told(policy: &str) -> Option<(DomainId, i64)> {
        token_used(&entry(RBAC_METADATA, POLICY, Kind::StringValue(policy.to_owned())))
    }

    #[test]
    fn the_policy_of_an_unproven_token_names_it() {
        let alice: DomainId = "alice".parse().unwrap();
        for revision in [0, 7, i64::MAX, -1] {
            assert_eq!(told(&policy_of(&alice, revision)), Some((alice.clone(), revision)));
        }
    }

    #[test]
    fn every_other_entry_names_no_token() {
        for policy in [
            "",
            "allowed",
            "unauthorized",
            "unproven|",
            "unproven|alice",
            "unproven|alice|",
            "unproven||7",
            "unproven|Alice|7",
            "unproven|alice|7|8",
            "unproven|alice|99999999999999999999",
            "xunproven|alice|7",
        ] {
            assert_eq!(told(policy), None, "{policy}");
        }
        let name = || Kind::StringValue("unproven|alice|7".to_owned());
        assert_eq!(token_used(&entry("envoy.filters.http.other", POLICY, name())), None);
        assert_eq!(token_used(&entry(RBAC_METADATA, "shadow_effective_policy_id", name())), None);
        assert_eq!(token_used(&entry(RBAC_METADATA, POLICY, Kind::NumberValue(7.0))), None);
        assert_eq!(token_used(&HttpAccessLogEntry::default()), None);
    }
}
