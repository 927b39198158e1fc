//! What the configuration says to each part.

use std::time::{Duration, SystemTime};

use certs::{CertError, DomainAuthority, LeafRequest, LeafUsage};
use envoy::ExternalProtocol;

use crate::config::{Config, reachable};
use crate::program::ExternalCertificate;

/// The certificate of the external listener, where that speaks TLS, and the future that keeps it fresh.
pub(super) fn external_certificate(
    config: &Config,
) -> Result<Option<(ExternalCertificate, impl Future<Output = ()> + Send + 'static)>, CertError> {
    if config.protocol == ExternalProtocol::NoTls {
        return Ok(None);
    }
    let domain = &config.domain;
    let authority = DomainAuthority::new(domain.as_str(), &config.key, SystemTime::now())?;
    let authority_pem = authority.certificate_pem().to_owned();
    let own_names = [format!("{domain}.svc"), format!("*.{domain}.svc")];
    let external = config.listen.external.ip();
    let address = (!external.is_unspecified()).then(|| external.to_string());
    let request = LeafRequest {
        common_name: format!("{domain}_ENVOY_EXTERNAL"),
        subject_alt_names: own_names
            .into_iter()
            .chain(address)
            .chain(config.certificates.hosts.clone())
            .collect(),
        usage: LeafUsage::Server,
        lifetime: config.certificates.lifetime,
    };
    let (leaf, renewal) = certs::maintain(authority, request)?;
    Ok(Some((ExternalCertificate { authority_pem, leaf }, renewal)))
}

/// How the Envoy of this mesh is set up.
pub(super) fn gateway_settings(config: &Config) -> envoy::Settings {
    envoy::Settings {
        instance: config.instance.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        internal: config.listen.internal,
        external: config.listen.external,
        external_protocol: config.protocol,
        handshake: reachable(config.listen.handshake),
        access_log: config.envoy.access_log.clone(),
    }
}

/// How the domain's DNS is set up.
pub(super) fn dns_settings(config: &Config) -> dns::Settings {
    let upstreams = &config.dns.upstreams;
    dns::Settings {
        gateway: config.dns.gateway.clone(),
        ttl: Duration::from_secs(config.dns.ttl.into()),
        recursion_subnets: config.dns.recursion.clone(),
        upstreams: if upstreams.is_empty() {
            dns::Upstreams::System
        } else {
            dns::Upstreams::Servers(upstreams.clone())
        },
        ..dns::Settings::default()
    }
}
