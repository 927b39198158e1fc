//! How a gateway names itself and says what went wrong.
//!
//! Each gateway that an erroneous response passes puts itself in front of `Kuscia-Error-Message`, so that it reads
//! `<alice/host-1/internal> => <bob/host-2/external $cluster_not_found$ unknown service>`. Between the `$` stands
//! Envoy's [response code detail](https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/response_code_details).
//! A gateway that forwards names one of the two listeners that the request passes: the inner.

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use model::DomainId;
use serde_json::{Map, Value};

use crate::headers::{self, add_if_absent, overwrite, overwrite_if_present};
use crate::settings::Settings;

/// Where a request comes from: one listener for each. Its only filter chain is named so too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Applications of this domain.
    Internal,
    /// Gateways of other domains.
    External,
    /// This gateway itself, which forwards between others.
    Transit,
}

impl Side {
    pub(crate) const ALL: [Self; 3] = [Self::Internal, Self::External, Self::Transit];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::External => "external",
            Self::Transit => "transit",
        }
    }

    /// The header that says which service is asked for.
    pub(crate) fn host_header(self) -> &'static str {
        match self {
            Self::Internal | Self::Transit => headers::AUTHORITY,
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

    /// An error message of this gateway alone, in which Envoy puts the listener.
    pub(crate) fn error_message(&self, details: &str, text: &str) -> String {
        format!("<{} ${details}$ {text}>", self.place("%FILTER_CHAIN_NAME%"))
    }

    fn place(&self, listener: &str) -> String {
        format!("{}/{}/{listener}", self.domain, self.instance)
    }

    /// A JSON body that names this gateway and the reason.
    pub(crate) fn error_body(&self, reason: &str) -> String {
        self.body([("reason", reason)])
    }

    /// A JSON body that names this gateway and has these fields.
    pub(crate) fn body<const N: usize>(&self, fields: [(&str, &str); N]) -> String {
        let own = [
            ("domain", self.domain.as_str()),
            ("instance", self.instance.as_str()),
            ("kuscia", self.version.as_str()),
        ];
        let object: Map<String, Value> =
            own.into_iter().chain(fields).map(|(name, value)| (name.to_owned(), value.into())).collect();
        format!("{}\n", Value::Object(object))
    }

    /// What this gateway adds to responses that came from elsewhere, for its own applications.
    pub(crate) fn response_headers(&self) -> Vec<HeaderValueOption> {
        [self.passed_errors().to_vec(), Self::trace_headers().to_vec()].concat()
    }

    /// Puts this gateway in front of what others say of an error.
    pub(crate) fn passed_errors(&self) -> [HeaderValueOption; 2] {
        let passed = format!("<{}> => %RESP({})%", self.place("%FILTER_CHAIN_NAME%"), headers::ERROR_MESSAGE);
        let [internal, external, transit] = Side::ALL.map(|side| {
            format!("'<{} $via_upstream$ the upstream answered with an error>'", self.place(side.name()))
        });
        // Envoy joins no texts in such an expression, and leaves out headers whose value is empty.
        let answered = format!(
            "%CEL(response.code < 400 ? '' : xds.filter_chain_name == 'internal' ? {internal} : \
             xds.filter_chain_name == 'external' ? {external} : {transit})%"
        );
        [
            overwrite_if_present(headers::ERROR_MESSAGE, passed),
            add_if_absent(headers::ERROR_MESSAGE, answered),
        ]
    }

    /// Tells an application the trace of its request.
    fn trace_headers() -> [HeaderValueOption; 2] {
        ["x-b3-traceid", "x-b3-spanid"].map(|name| add_if_absent(name, format!("%REQ({name})%")))
    }

    /// Keeps an nginx between two gateways from buffering streams.
    pub(crate) fn unbuffered() -> HeaderValueOption {
        overwrite("x-accel-buffering", "no")
    }
}

/// The text without characters that mean something in JSON, header values or Envoy's formats.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+') { c } else { '-' })
        .collect()
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
