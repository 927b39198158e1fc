//! TLS to services and gateways.

use envoy_types::pb::envoy::config::core::v3::{DataSource, TransportSocket, data_source, transport_socket};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SdsSecretConfig, SubjectAltNameMatcher,
    UpstreamTlsContext,
    common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
    subject_alt_name_matcher::SanType,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use model::Host;

use crate::message::{any, string_matcher};
use crate::secrets::{TLS_SOCKET, sds, tls_params};

/// The authorities that Envoy's host trusts, where Debian, Alpine and Envoy's own images keep them. Envoy knows no
/// name for them: its `system_root_certs` does nothing.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Whom the other end must prove to be.
pub(super) enum Trusted<'a> {
    /// Somebody for whom the authority in this secret has signed, and for this host, if there is one.
    By(String, Option<&'a Host>),
    /// This host, by an authority that the system trusts.
    BySystem(&'a Host),
    /// Nobody.
    Anyway,
}

/// TLS, asking for the name `host` (SNI, RFC 6066, which knows no addresses), and with this client certificate for who
/// asks for one.
pub(super) fn tls_socket(
    host: &Host,
    trusted: Trusted<'_>,
    client: Option<SdsSecretConfig>,
) -> TransportSocket {
    let context = UpstreamTlsContext {
        sni: match host {
            Host::Address(_) => String::new(),
            Host::Name(name) => name.clone(),
        },
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(tls_params()),
            tls_certificate_sds_secret_configs: client.into_iter().collect(),
            validation_context_type: Some(validation(trusted)),
            ..CommonTlsContext::default()
        }),
        ..UpstreamTlsContext::default()
    };
    TransportSocket {
        name: TLS_SOCKET.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(&context))),
    }
}

fn validation(trusted: Trusted<'_>) -> ValidationContextType {
    match trusted {
        Trusted::By(authority, None) => {
            ValidationContextType::ValidationContextSdsSecretConfig(sds(authority))
        }
        Trusted::By(authority, Some(host)) => {
            ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
                default_validation_context: Some(is_for(host)),
                validation_context_sds_secret_config: Some(sds(authority)),
                ..CombinedCertificateValidationContext::default()
            })
        }
        Trusted::BySystem(host) => ValidationContextType::ValidationContext(CertificateValidationContext {
            trusted_ca: Some(DataSource {
                specifier: Some(data_source::Specifier::Filename(SYSTEM_ROOTS.to_owned())),
                ..DataSource::default()
            }),
            ..is_for(host)
        }),
        Trusted::Anyway => ValidationContextType::ValidationContext(CertificateValidationContext::default()),
    }
}

fn is_for(host: &Host) -> CertificateValidationContext {
    let san_type = match host {
        Host::Address(_) => SanType::IpAddress,
        Host::Name(_) => SanType::Dns,
    };
    CertificateValidationContext {
        match_typed_subject_alt_names: vec![SubjectAltNameMatcher {
            san_type: san_type.into(),
            matcher: Some(string_matcher(MatchPattern::Exact(host.to_string()))),
            ..SubjectAltNameMatcher::default()
        }],
        ..CertificateValidationContext::default()
    }
}
