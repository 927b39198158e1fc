//! What a gateway answers by itself.

use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLogFilter, AndFilter, ComparisonFilter, ExtensionFilter, HeaderFilter, StatusCodeFilter,
    access_log_filter::FilterSpecifier, comparison_filter::Op, extension_filter,
};
use envoy_types::pb::envoy::config::core::v3::RuntimeUInt32;
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    LocalReplyConfig, ResponseMapper,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, string_matcher::MatchPattern};

use crate::callers::Denied;
use crate::gateway::{Gateway, Side};
use crate::headers::{self, add_if_absent};
use crate::message::{any, json_format, string_matcher, uint};

/// The first mapper that fits is taken.
pub(crate) fn local_replies(side: Side, gateway: &Gateway) -> LocalReplyConfig {
    let message = |text: &str| {
        let message = gateway.error_message("%RESPONSE_CODE_DETAILS%", text);
        vec![add_if_absent(headers::ERROR_MESSAGE, message)]
    };
    let unauthorized = ResponseMapper {
        filter: Some(denied(Denied::Unauthorized)),
        status_code: uint(401),
        // Tells a source whose token something on the way took off from one whose token is not accepted.
        body_format_override: Some(json_format(gateway.body([
            ("reason", "unauthorized."),
            ("token", &format!("%CEL('{}' in request.headers ? 'refused' : 'missing')%", headers::TOKEN)),
        ]))),
        headers_to_add: message("unauthorized."),
        ..ResponseMapper::default()
    };
    let refused = |reason, text: &str| ResponseMapper {
        filter: Some(denied(reason)),
        body_format_override: Some(json_format(gateway.error_body(&format!("{text}.")))),
        headers_to_add: message(text),
        ..ResponseMapper::default()
    };
    let wrong_address = refused(Denied::AddressNotAllowed, "this domain may not come from this address");
    let ambiguous = refused(Denied::Ambiguous, "a header that must say one thing says several");
    let host = format!("%REQ({})%", side.host_header());
    let about_host = |reason| Some(json_format(gateway.body([("host", &host), ("reason", reason)])));
    let may_not_call = ResponseMapper {
        filter: Some(all_of(vec![denied(Denied::DomainNotAllowed), is_plain(side.host_header())])),
        body_format_override: about_host("this domain may not call the service."),
        headers_to_add: message("this domain may not call the service"),
        ..ResponseMapper::default()
    };
    let not_found = expression("response.code_details in ['cluster_not_found', 'route_not_found']");
    let unknown_service = |filter| ResponseMapper {
        filter: Some(all_of(vec![filter, is_plain(side.host_header())])),
        status_code: uint(404),
        body_format_override: about_host("unknown service."),
        headers_to_add: message("unknown service"),
        ..ResponseMapper::default()
    };
    // To others, a service of this domain alone does not exist.
    let hidden_service = unknown_service(denied(Denied::UnknownService));
    let unknown_service = unknown_service(not_found);
    let other = ResponseMapper {
        filter: Some(status_from(400)),
        headers_to_add: message("%RESPONSE_FLAGS_LONG%"),
        ..ResponseMapper::default()
    };
    LocalReplyConfig {
        mappers: vec![
            unauthorized,
            wrong_address,
            ambiguous,
            may_not_call,
            hidden_service,
            unknown_service,
            other,
        ],
        body_format: None,
    }
}

/// The request's header is a host that can be put into JSON as it is.
fn is_plain(header: &str) -> AccessLogFilter {
    let regex = RegexMatcher { regex: r"[\w.:\[\]-]*".to_owned(), ..RegexMatcher::default() };
    let matcher = HeaderMatcher {
        name: header.to_owned(),
        treat_missing_header_as_empty: true,
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(string_matcher(
            MatchPattern::SafeRegex(regex),
        ))),
        ..HeaderMatcher::default()
    };
    filter(FilterSpecifier::HeaderFilter(HeaderFilter { header: Some(matcher) }))
}

/// An RBAC filter denied the request for this reason.
fn denied(reason: Denied) -> AccessLogFilter {
    expression(&format!("response.code_details == 'rbac_access_denied_matched_policy[{}]'", reason.name()))
}

fn expression(cel: &str) -> AccessLogFilter {
    let expression = ExpressionFilter { expression: cel.to_owned(), cel_config: None };
    filter(FilterSpecifier::ExtensionFilter(ExtensionFilter {
        name: "envoy.access_loggers.extension_filters.cel".to_owned(),
        config_type: Some(extension_filter::ConfigType::TypedConfig(any(&expression))),
    }))
}

fn status_from(status: u32) -> AccessLogFilter {
    let value = RuntimeUInt32 { default_value: status, runtime_key: "local_reply.min_status".to_owned() };
    let comparison = ComparisonFilter { op: Op::Ge.into(), value: Some(value) };
    filter(FilterSpecifier::StatusCodeFilter(StatusCodeFilter { comparison: Some(comparison) }))
}

fn all_of(filters: Vec<AccessLogFilter>) -> AccessLogFilter {
    filter(FilterSpecifier::AndFilter(AndFilter { filters }))
}

fn filter(specifier: FilterSpecifier) -> AccessLogFilter {
    AccessLogFilter { filter_specifier: Some(specifier) }
}
