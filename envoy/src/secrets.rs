//! Certificates, keys and authorities, which Envoy fetches by name.

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, SdsSecretConfig, Secret, TlsCertificate, TlsParameters, secret,
    tls_parameters::TlsProtocol,
};
use model::{DomainId, OutboundRoute, Trust};

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
    let server = keys.external.as_ref().map(|external| certificate(EXTERNAL_SERVER, external));
    server.into_iter().chain([certificate(OWN_CLIENT, &keys.client)]).collect()
}

/// This domain's authority.
pub(crate) fn own_authority(settings: &Settings) -> Resource {
    authority(DOMAIN_AUTHORITY.to_owned(), &settings.authority_pem)
}

/// What the destination's gateway is checked against, if that is the destination's own authority.
pub(crate) fn peer_secret(route: &OutboundRoute) -> Option<Resource> {
    let direct = route.direct()?;
    let uses_tls = direct.endpoint.ports.iter().any(|port| port.tls);
    match &direct.trust {
        Trust::Authority(pem) if uses_tls => Some(authority(peer_authority(&route.destination), pem)),
        Trust::Authority(_) | Trust::SystemRoots | Trust::Anybody => None,
    }
}

/// Name of the authority of another domain.
pub(crate) fn peer_authority(peer: &DomainId) -> String {
    format!("peer|{peer}")
}

/// The domain whose authority has this name, see [`peer_authority`].
pub(crate) fn peer_of_authority(name: &str) -> Option<DomainId> {
    name.strip_prefix("peer|")?.parse().ok()
}

pub(crate) fn sds(name: impl Into<String>) -> SdsSecretConfig {
    SdsSecretConfig { name: name.into(), sds_config: Some(ads()) }
}

pub(crate) fn tls_versions() -> TlsParameters {
    TlsParameters {
        tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
        tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
        ..TlsParameters::default()
    }
}

fn certificate(name: &str, certificate: &Certificate) -> Resource {
    let certificate = TlsCertificate {
        certificate_chain: Some(inline(certificate.chain_pem.as_str())),
        private_key: Some(inline(certificate.key_pem.as_str())),
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

fn resource(name: String, secret: secret::Type) -> Resource {
    let secret = Secret { name: name.clone(), r#type: Some(secret) };
    Resource::new(type_url::SECRET, name, &secret)
}
