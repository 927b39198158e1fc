//! Certificates, keys and authorities, which Envoy fetches by name.

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, SdsSecretConfig, Secret, TlsCertificate, TlsParameters, secret,
    tls_parameters::TlsProtocol,
};
use model::{ClientCertificate, DomainId, OutboundRoute, Trust};

use crate::message::{ads, inline};
use crate::resource::{Resource, type_url};
use crate::settings::{Certificate, KeyMaterial, Settings};

/// Certificate and key of the external listener.
pub(crate) const EXTERNAL_SERVER: &str = "external-server";
/// Certificate and key by which this domain proves to gateways of others who it is.
pub(crate) const OWN_CLIENT: &str = "own-client";
/// This domain's authority.
pub(crate) const DOMAIN_AUTHORITY: &str = "domain-authority";
/// Name of Envoy's TLS transport socket.
pub(crate) const TLS_SOCKET: &str = "envoy.transport_sockets.tls";

/// What this domain proves itself with.
pub(crate) fn own_secrets(keys: &KeyMaterial) -> Vec<Resource> {
    let own = |name, own: &Certificate| certificate(name, &own.chain_pem, &own.key_pem);
    let server = keys.external.as_ref().map(|external| own(EXTERNAL_SERVER, external));
    server.into_iter().chain([own(OWN_CLIENT, &keys.client)]).collect()
}

/// This domain's authority.
pub(crate) fn own_authority(settings: &Settings) -> Resource {
    authority(DOMAIN_AUTHORITY.to_owned(), &settings.authority_pem)
}

/// What the destination's gateway is checked against, if that is the destination's own authority, and what it is shown,
/// if that is the route's own certificate.
pub(crate) fn peer_secrets(route: &OutboundRoute) -> Vec<Resource> {
    let destination = &route.destination;
    let direct = route.direct().filter(|direct| direct.endpoint.ports.iter().any(|port| port.tls));
    let authority = direct.and_then(|direct| match &direct.trust {
        Trust::Authority(pem) => Some(authority(peer_authority(destination), pem)),
        Trust::SystemRoots | Trust::Anybody => None,
    });
    let client = direct.and_then(|direct| match direct.client.as_ref()? {
        ClientCertificate::Own => None,
        ClientCertificate::Given { chain_pem, key_pem } => {
            Some(certificate(&client_certificate(destination), chain_pem, key_pem.expose()))
        }
    });
    authority.into_iter().chain(client).collect()
}

/// Name of the authority of another domain.
pub(crate) fn peer_authority(peer: &DomainId) -> String {
    format!("peer|{peer}")
}

/// The domain whose authority has this name, see [`peer_authority`].
pub(crate) fn peer_of_authority(name: &str) -> Option<DomainId> {
    name.strip_prefix("peer|")?.parse().ok()
}

/// Name of the certificate that the gateway of another domain is shown, where the route brings one.
pub(crate) fn client_certificate(peer: &DomainId) -> String {
    format!("client|{peer}")
}

/// The domain whose gateway is shown the certificate of this name, see [`client_certificate`].
pub(crate) fn peer_of_client_certificate(name: &str) -> Option<DomainId> {
    name.strip_prefix("client|")?.parse().ok()
}

pub(crate) fn sds(name: impl Into<String>) -> SdsSecretConfig {
    SdsSecretConfig { name: name.into(), sds_config: Some(ads()) }
}

/// TLS 1.2 with forward secrecy and authenticated encryption only, or TLS 1.3, which has no others (RFC 9325).
pub(crate) fn tls_params() -> TlsParameters {
    let suites = [
        "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]",
        "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
    ];
    TlsParameters {
        tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
        tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
        cipher_suites: suites.map(str::to_owned).into(),
        ..TlsParameters::default()
    }
}

fn certificate(name: &str, chain_pem: &str, key_pem: &str) -> Resource {
    let certificate = TlsCertificate {
        certificate_chain: Some(inline(chain_pem)),
        private_key: Some(inline(key_pem)),
        ..TlsCertificate::default()
    };
    resource(name.to_owned(), secret::Type::TlsCertificate(certificate))
}

fn authority(name: String, pem: &str) -> Resource {
    let context = CertificateValidationContext {
        trusted_ca: Some(inline(pem)),
        ..CertificateValidationContext::default()
    };
    resource(name, secret::Type::ValidationContext(context))
}

pub(crate) fn resource(name: String, secret: secret::Type) -> Resource {
    let secret = Secret { name: name.clone(), r#type: Some(secret) };
    Resource::new(type_url::SECRET, name, &secret)
}
