//! What the configuration says to each part.

use std::sync::Arc;
use std::time::SystemTime;

use certs::{CertError, DomainAuthority, LeafRequest, LeafUsage};
use envoy::ExternalProtocol;
use futures_util::future::BoxFuture;

use crate::config::{Config, Dns, reachable};
use crate::program::Certificates;

/// What the domain proves itself with, and the futures that keep it fresh.
pub(super) fn certificates(config: &Config) -> Result<(Certificates, Vec<Renewal>), CertError> {
    let authority = Arc::new(DomainAuthority::new(config.domain.as_str(), &config.key, SystemTime::now())?);
    let authority_pem = authority.certificate_pem().to_owned();
    let (client, renewal) = certs::maintain(Arc::clone(&authority), client_certificate(config))?;
    let mut renewals: Vec<Renewal> = vec![Box::pin(renewal)];
    let external = match config.protocol {
        ExternalProtocol::NoTls => None,
        ExternalProtocol::Tls | ExternalProtocol::Mtls => {
            let (leaf, renewal) = certs::maintain(authority, external_certificate(config))?;
            renewals.push(Box::pin(renewal));
            Some(leaf)
        }
    };
    Ok((Certificates { authority_pem, external, client }, renewals))
}

/// Runs as long as somebody asks for the certificate.
pub(super) type Renewal = BoxFuture<'static, ()>;

fn external_certificate(config: &Config) -> LeafRequest {
    let domain = &config.domain;
    let own_names = [format!("{domain}.svc"), format!("*.{domain}.svc")];
    let external = config.listen.external.ip();
    let address = (!external.is_unspecified()).then(|| external.to_string());
    LeafRequest {
        common_name: format!("{domain}_ENVOY_EXTERNAL"),
        subject_alt_names: own_names
            .into_iter()
            .chain(address)
            .chain(config.certificates.hosts.clone())
            .collect(),
        usage: LeafUsage::Server,
        lifetime: config.certificates.lifetime,
    }
}

fn client_certificate(config: &Config) -> LeafRequest {
    LeafRequest {
        common_name: config.domain.to_string(),
        subject_alt_names: vec![format!("{}.svc", config.domain)],
        usage: LeafUsage::Client,
        lifetime: config.certificates.lifetime,
    }
}

/// How the Envoy of this mesh is set up.
pub(super) fn gateway_settings(config: &Config, certificates: &Certificates) -> envoy::Settings {
    envoy::Settings {
        instance: config.instance.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        internal: config.listen.internal,
        external: config.listen.external,
        external_protocol: config.protocol,
        authority_pem: certificates.authority_pem.clone(),
        handshake: reachable(config.listen.handshake),
        access_log: config.envoy.access_log.clone(),
        trusted_proxies: config.envoy.trusted_proxies.clone(),
        tracing: config.envoy.tracing.clone(),
    }
}

/// What the names of the domain have in common.
pub(super) fn zone_settings(config: &Config) -> dns::ZoneSettings {
    dns::ZoneSettings {
        domain: config.domain.clone(),
        gateway: config.dns.gateway.clone(),
        gateway_port: config.listen.internal.port(),
        ttl: config.dns.ttl,
    }
}

/// How the domain's DNS is set up.
pub(super) fn dns_settings(config: &Config) -> dns::Settings {
    let Dns { upstreams, recursion, responses_per_second, stale, rebinding, .. } = &config.dns;
    dns::Settings {
        recursion: recursion.clone().map_or_else(dns::Recursion::with_host_networks, Into::into),
        forward: dns::ForwardSettings {
            upstreams: if upstreams.is_empty() {
                dns::Upstreams::System
            } else {
                dns::Upstreams::Servers(upstreams.clone())
            },
            stale: *stale,
            rebinding: rebinding.clone(),
            ..dns::ForwardSettings::default()
        },
        responses_per_second: *responses_per_second,
        nsid: Some(config.instance.as_str().into()),
        ..dns::Settings::default()
    }
}
