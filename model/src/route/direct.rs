//! What the source reads of a route that leads straight to its destination.

use std::sync::Arc;
use std::time::Duration;

use certs::{Certificate, DomainKey, PrivateKey};
use kube::ResourceExt as _;

use super::{ClientCertificate, Direct, Endpoint, EndpointPort, PortProtocol, Timeouts, Trust};
use crate::api::{
    DomainEndpoint, DomainPort, DomainRoute, DomainRouteSpec, EndpointTls, MtlsConfig, SecretString,
};
use crate::domain::DomainCertificate;
use crate::error::{FieldErrors, Problem};
use crate::{Host, names};

/// Where the route carries gRPC over HTTP/1.1.
const GRPC_DEGRADE: &str = "kuscia.secretflow/grpc-degrade";

/// Longest time that a request may take, in seconds: 30 days.
const MAX_TIMEOUT: i64 = 30 * 24 * 60 * 60;

/// The way to a gateway, as far as the route tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DirectTerms {
    pub(super) endpoint: Endpoint,
    /// `None`: as the destination's `Domain` has it.
    pub(super) trust: Option<Trust>,
    pub(super) client: Option<ClientCertificate>,
}

impl DirectTerms {
    /// The way to the gateway of a destination that has this certificate.
    pub(super) fn with(&self, certificate: Option<&DomainCertificate>) -> Direct {
        let trust = self.trust.clone().unwrap_or_else(|| match certificate {
            Some(certificate) => Trust::Authority(Arc::clone(&certificate.pem)),
            None => Trust::SystemRoots,
        });
        Direct { endpoint: self.endpoint.clone(), trust, client: self.client.clone() }
    }
}

/// Parses what the source alone reads. `own_key` is this domain's key: `None` where it is not known.
pub(super) fn parse(
    object: &DomainRoute,
    own_key: Option<&DomainKey>,
    errors: &mut FieldErrors,
) -> Option<DirectTerms> {
    let spec = &object.spec;
    let endpoint = parse_endpoint(object, errors);
    let is_mtls = spec.authentication_type == "MTLS";
    let has_tls = spec.endpoint.ports.iter().any(|port| port.is_tls);
    if is_mtls {
        for (position, _) in spec.endpoint.ports.iter().enumerate().filter(|(_, port)| !port.is_tls) {
            let problem = Problem::new("is false, and authenticationType is MTLS", "set it to true");
            errors.add(format!("spec.endpoint.ports[{position}].isTLS"), problem);
        }
    } else {
        let settings = [
            ("spec.endpoint.tls", spec.endpoint.tls.is_some()),
            ("spec.mTLSConfig", spec.mtls_config.is_some()),
        ];
        for (path, _) in settings.into_iter().filter(|(_, is_given)| *is_given && !has_tls) {
            let problem =
                Problem::new("is given, and no port speaks TLS", "set isTLS of the ports, or remove it");
            errors.add(path, problem);
        }
    }
    let skips = spec.endpoint.tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify);
    let config = spec.mtls_config.as_ref();
    let trust = parse_trust(config, skips, errors);
    let client = match config {
        Some(config) => parse_client(config, own_key, errors).map(Some),
        None => Some(is_mtls.then_some(ClientCertificate::Own)),
    };
    Some(DirectTerms { endpoint: endpoint?, trust: trust?, client: client? })
}

/// What the source would ignore of a route that makes a detour.
pub(super) fn refuse_with_transit(spec: &DomainRouteSpec, errors: &mut FieldErrors) {
    if spec.mtls_config.is_some() {
        let remedy = "put it on the route to the first domain of the detour";
        errors.add("spec.mTLSConfig", Problem::new("has no effect on a route with transit", remedy));
    }
}

fn parse_endpoint(object: &DomainRoute, errors: &mut FieldErrors) -> Option<Endpoint> {
    let endpoint = &object.spec.endpoint;
    let host = errors.check("spec.endpoint.host", endpoint.host.parse::<Host>());
    let ports = parse_ports(endpoint, errors);
    let server_name = parse_server_name(endpoint.tls.as_ref());
    let server_name = errors.check("spec.endpoint.tls.serverName", server_name);
    let timeouts = parse_timeouts(endpoint, errors);
    let grpc_degrade = match object.labels().get(GRPC_DEGRADE).map(String::as_str) {
        None | Some("" | "False") => Ok(false),
        Some("True") => Ok(true),
        Some(other) => Err(Problem::new(format!("{other:?} is unknown"), "use \"True\" or \"False\"")),
    };
    let grpc_degrade = errors.check(&format!("metadata.labels[{GRPC_DEGRADE}]"), grpc_degrade);
    Some(Endpoint {
        host: host?,
        ports,
        server_name: server_name?,
        timeouts: timeouts?,
        grpc_degrade: grpc_degrade?,
    })
}

fn parse_ports(endpoint: &DomainEndpoint, errors: &mut FieldErrors) -> Vec<EndpointPort> {
    if endpoint.ports.is_empty() {
        let remedy =
            "add the port of the destination's gateway, such as {name: http, port: 1080, protocol: HTTP}";
        errors.add("spec.endpoint.ports", Problem::new("is empty", remedy));
    }
    let mut ports: Vec<EndpointPort> = Vec::new();
    for (position, port) in endpoint.ports.iter().enumerate() {
        let path = format!("spec.endpoint.ports[{position}]");
        let Some(port) = parse_port(port, &path, errors) else { continue };
        if ports.iter().any(|other| other.protocol == port.protocol) {
            let problem = Problem::new("is the protocol of an earlier port too", "keep one port a protocol");
            errors.add(format!("{path}.protocol"), problem);
            continue;
        }
        ports.push(port);
    }
    ports.sort_by_key(|port| port.protocol);
    ports
}

fn parse_port(port: &DomainPort, path: &str, errors: &mut FieldErrors) -> Option<EndpointPort> {
    let number = errors.check(&format!("{path}.port"), names::parse_port(port.port));
    let protocol = match port.protocol.as_str() {
        "HTTP" => Ok(PortProtocol::Http),
        "GRPC" => Ok(PortProtocol::Grpc),
        other => Err(Problem::new(format!("{other:?} is unknown"), "use \"HTTP\" or \"GRPC\"")),
    };
    let protocol = errors.check(&format!("{path}.protocol"), protocol);
    let path_prefix = errors.check(&format!("{path}.pathPrefix"), parse_path_prefix(&port.path_prefix));
    Some(EndpointPort { protocol: protocol?, port: number?, tls: port.is_tls, path_prefix: path_prefix? })
}

fn parse_path_prefix(prefix: &str) -> Result<String, Problem> {
    let prefix = prefix.trim_end_matches('/');
    if !prefix.is_empty() && !prefix.starts_with('/') {
        return Err(Problem::new("must start with \"/\"", format!("write \"/{prefix}\"")));
    }
    if !prefix.bytes().all(|c| c.is_ascii_graphic() && !matches!(c, b'?' | b'#' | b'%' | b'\\')) {
        let remedy = "use letters, digits and the signs that a path may hold unescaped";
        return Err(Problem::new("has characters that are not plain parts of a path", remedy));
    }
    Ok(prefix.to_owned())
}

/// The name of SNI, which holds DNS names only (RFC 6066 section 3).
fn parse_server_name(tls: Option<&EndpointTls>) -> Result<Option<Host>, Problem> {
    let Some(name) = tls.map(|tls| tls.server_name.as_str()).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    match name.parse::<Host>()? {
        name @ Host::Name(_) => Ok(Some(name)),
        Host::Address(_) => Err(Problem::new("is an address", "give a DNS name, or remove the field")),
    }
}

fn parse_timeouts(endpoint: &DomainEndpoint, errors: &mut FieldErrors) -> Option<Timeouts> {
    let default = Timeouts::default();
    let Some(given) = &endpoint.timeouts else { return Some(default) };
    let mut seconds = |field: &str, given: Option<i64>, least: i64, most: i64| match given {
        None => Some(None),
        Some(seconds) if (least..=most).contains(&seconds) => {
            Some(Some(Duration::from_secs(seconds.unsigned_abs())))
        }
        Some(seconds) => {
            let remedy = format!("give seconds from {least} to {most}, or remove the field");
            let problem = Problem::new(format!("{seconds} is out of range"), remedy);
            errors.add(format!("spec.endpoint.timeouts.{field}"), problem);
            None
        }
    };
    let connect = seconds("connectSeconds", given.connect_seconds, 1, 300);
    let idle = seconds("idleSeconds", given.idle_seconds, 1, MAX_TIMEOUT);
    let request = seconds("requestSeconds", given.request_seconds, 0, MAX_TIMEOUT);
    Some(Timeouts {
        connect: connect?.unwrap_or(default.connect),
        idle: idle?.unwrap_or(default.idle),
        request: request?.filter(|request| !request.is_zero()),
    })
}

fn parse_trust(config: Option<&MtlsConfig>, skips: bool, errors: &mut FieldErrors) -> Option<Option<Trust>> {
    const PATH: &str = "spec.mTLSConfig.tlsCA";
    let authority = config.map(|config| config.tls_ca.as_str()).filter(|authority| !authority.is_empty());
    let Some(authority) = authority else { return Some(skips.then_some(Trust::Anybody)) };
    if skips {
        let remedy = "remove it, or remove spec.endpoint.tls.insecureSkipVerify";
        errors.add(PATH, Problem::new("has no effect beside insecureSkipVerify", remedy));
    }
    let certificates = errors.check(PATH, parse_certificates(authority))?;
    let pem: String = certificates.iter().map(Certificate::pem).collect();
    Some(Some(Trust::Authority(pem.into())))
}

fn parse_client(
    config: &MtlsConfig,
    own_key: Option<&DomainKey>,
    errors: &mut FieldErrors,
) -> Option<ClientCertificate> {
    const CERTIFICATE: &str = "spec.mTLSConfig.sourceClientCert";
    const KEY: &str = "spec.mTLSConfig.sourceClientPrivateKey";
    let given = &config.source_client_private_key;
    if config.source_client_cert.is_empty() {
        if !given.is_empty() {
            let problem = Problem::new(
                "is given, and there is no sourceClientCert",
                "give the certificate of this key, or remove it: the mesh makes a certificate then",
            );
            errors.add(KEY, problem);
        }
        return Some(ClientCertificate::Own);
    }
    let chain = errors.check(CERTIFICATE, parse_certificates(&config.source_client_cert));
    let key = if given.is_empty() {
        own_key.map(PrivateKey::from)
    } else {
        let key = PrivateKey::from_base64_pem(given.expose());
        errors.check(KEY, key.map_err(|error| Problem::new(error.to_string(), "give the base64 of its PEM")))
    };
    let (chain, key) = (chain?, key?);
    if !chain.first().is_some_and(|first| first.belongs_to(&key)) {
        let problem = if given.is_empty() {
            Problem::new(
                "is no certificate of this domain's key, and there is no sourceClientPrivateKey",
                "give the key of the certificate, or remove both: the mesh makes a certificate then",
            )
        } else {
            Problem::new(
                "is not the certificate of sourceClientPrivateKey",
                "give the two that were made together, the certificate first if there are more",
            )
        };
        errors.add(CERTIFICATE, problem);
    }
    let chain_pem: String = chain.iter().map(Certificate::pem).collect();
    let key_pem = Arc::new(SecretString::from(key.pem().to_owned()));
    Some(ClientCertificate::Given { chain_pem: chain_pem.into(), key_pem })
}

/// Certificates in a field of `mTLSConfig`.
pub(super) fn parse_certificates(base64: &str) -> Result<Vec<Certificate>, Problem> {
    Certificate::all_from_base64_pem(base64)
        .map_err(|error| Problem::new(error.to_string(), "give the base64 of PEM certificates"))
}
