//! How a gateway names itself and says what went wrong.
//!
//! Each gateway that an erroneous response passes puts itself in front of `Kuscia-Error-Message`, so that it reads
//! `<alice/host-1/internal> => <bob/host-2/external $cluster_not_found$ unknown service>`. Between the `$` stands
//! Envoy's [response code detail](https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/response_code_details).

use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLogFilter, AndFilter, ComparisonFilter, ExtensionFilter, HeaderFilter, StatusCodeFilter,
    access_log_filter::FilterSpecifier, comparison_filter::Op, extension_filter,
};
use envoy_types::pb::envoy::config::core::v3::{HeaderValueOption, RuntimeUInt32};
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    LocalReplyConfig, ResponseMapper,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, string_matcher::MatchPattern};
use model::DomainId;
use serde_json::{Map, Value};

use crate::callers::Denied;
use crate::headers::{self, add_if_absent, overwrite, overwrite_if_present};
use crate::message::{any, json_format, string_matcher, uint};
use crate::settings::Settings;

/// Who is at the other end of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Applications of this domain.
    Internal,
    /// Gateways of other domains.
    External,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::External => "external",
        }
    }

    /// The header that says which service is asked for.
    fn host_header(self) -> &'static str {
        match self {
            Self::Internal => headers::AUTHORITY,
            Self::External => headers::HOST,
        }
    }
}

/// The names of a gateway, as they stand in messages.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub(crate) domain: DomainId,
    instance: String,
    version: String,
}

impl Gateway {
    pub(crate) fn new(domain: &DomainId, settings: &Settings) -> Self {
        Self {
            domain: domain.clone(),
            instance: plain(&settings.instance),
            version: plain(&settings.version),
        }
    }

    /// An error message of this gateway alone.
    pub(crate) fn error_message(&self, side: Side, details: &str, text: &str) -> String {
        format!("<{}/{}/{} ${details}$ {text}>", self.domain, self.instance, side.name())
    }

    /// A JSON body that names this gateway and the reason.
    pub(crate) fn error_body(&self, reason: &str) -> String {
        self.body([("reason", reason)])
    }

    fn body<const N: usize>(&self, fields: [(&str, &str); N]) -> String {
        let own = [
            ("domain", self.domain.as_str()),
            ("instance", self.instance.as_str()),
            ("kuscia", self.version.as_str()),
        ];
        let object: Map<String, Value> =
            own.into_iter().chain(fields).map(|(name, value)| (name.to_owned(), value.into())).collect();
        format!("{}\n", Value::Object(object))
    }

    /// What this gateway adds to responses that came from elsewhere.
    pub(crate) fn response_headers(&self, side: Side) -> Vec<HeaderValueOption> {
        let via = format!(
            "<{}/{}/{}> => %RESP({})%",
            self.domain,
            self.instance,
            side.name(),
            headers::ERROR_MESSAGE
        );
        let answered = self.error_message(side, "via_upstream", "the upstream answered with an error");
        vec![
            overwrite_if_present(headers::ERROR_MESSAGE, via),
            // Envoy leaves out headers whose value is empty.
            add_if_absent(headers::ERROR_MESSAGE, format!("%CEL(response.code >= 400 ? '{answered}' : '')%")),
            // Keeps an nginx on the way from buffering streams.
            overwrite("x-accel-buffering", "no"),
            add_if_absent("x-b3-traceid", "%REQ(x-b3-traceid)%"),
            add_if_absent("x-b3-spanid", "%REQ(x-b3-spanid)%"),
        ]
    }

    /// What this gateway answers by itself. The first mapper that fits is taken.
    pub(crate) fn local_replies(&self, side: Side) -> LocalReplyConfig {
        let message = |text: &str| {
            let message = self.error_message(side, "%RESPONSE_CODE_DETAILS%", text);
            vec![add_if_absent(headers::ERROR_MESSAGE, message)]
        };
        let unauthorized = ResponseMapper {
            filter: Some(denied(Denied::Unauthorized)),
            status_code: uint(401),
            // Tells a source whose token something on the way took off from one whose token is not accepted.
            body_format_override: Some(json_format(self.body([
                ("reason", "unauthorized."),
                ("token", &format!("%CEL('{}' in request.headers ? 'refused' : 'missing')%", headers::TOKEN)),
            ]))),
            headers_to_add: message("unauthorized."),
            ..ResponseMapper::default()
        };
        let host = format!("%REQ({})%", side.host_header());
        let about_host = |reason| Some(json_format(self.body([("host", &host), ("reason", reason)])));
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
            mappers: vec![unauthorized, may_not_call, hidden_service, unknown_service, other],
            body_format: None,
        }
    }
}

/// The text without characters that mean something in JSON, header values or Envoy's formats.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+') { c } else { '-' })
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_cannot_break_out_of_a_message() {
        assert_eq!(plain("gw-1.example_x"), "gw-1.example_x");
        assert_eq!(plain("a%REQ(x)%'\"<>\n"), "a-REQ-x-------");
    }
}
