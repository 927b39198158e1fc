//! What a source may do beside proving who it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::direct::parse_certificates;
use super::fields::{AuthFields, Fields};
use crate::api::{DomainRouteSpec, SecretString};
use crate::error::{FieldErrors, Problem};
use crate::{DomainId, names};

/// The client certificate that a route names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePin {
    /// The certificate, as PEM.
    pub pem: Arc<str>,
    /// SHA-256 of its DER form, in lower-case hexadecimal.
    pub fingerprint: String,
}

/// A header that is added to requests of a source. Its value may be a credential.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// Its name, in lower case.
    pub name: String,
    /// Its value.
    pub value: SecretString,
}

impl fmt::Debug for RequestHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.name, self.value)
    }
}

/// Another domain to which requests of a source are forwarded (`transitMethod: THIRD-DOMAIN`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Where they go.
    pub destination: DomainId,
    /// The domains that may have made them, sorted: the source itself, or others whose requests it brings.
    pub origins: Box<[DomainId]>,
}

/// Most entries of `sourceWhiteIPList`: each request of the source is compared with them.
const MAX_NETWORKS: usize = 1_000;

/// Most headers of `requestHeadersToAdd`.
const MAX_HEADERS: usize = 64;

/// Most bytes of the value of a header.
const MAX_HEADER_VALUE: usize = 8 * 1024;

/// Names of headers on which the gateways rely: a route must not write them.
const RESERVED_HEADERS: [&str; 7] =
    ["host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "keep-alive"];

/// How the names of such headers begin.
const RESERVED_PREFIXES: [&str; 4] = ["kuscia-", "x-nm-", "x-envoy-", "proxy-"];

/// Where a route names its client certificate.
pub(super) const PIN: &str = "spec.mTLSConfig.sourceClientCert";

/// What the destination alone reads of a route.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Admission {
    pub(super) addresses: Arc<[IpNet]>,
    pub(super) request_headers: Arc<[RequestHeader]>,
    /// Whether client certificates have a part in the route.
    pub(super) has_certificates: bool,
    /// The client certificate that the source shows, where it authenticates by one.
    pub(super) pin: Option<Pin>,
}

/// The client certificate that a route names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pin {
    pub(super) certificate: CertificatePin,
    /// Whether it could sign others: then it can only be that of the `Domain`.
    pub(super) is_authority: bool,
}

/// Parses what the destination alone reads.
pub(super) fn parse(spec: &DomainRouteSpec, fields: &Fields, errors: &mut FieldErrors) -> Option<Admission> {
    if let Some(transit) = &fields.transit {
        refuse_with_transit(spec, transit, errors);
        return Some(Admission::default());
    }
    let addresses = parse_addresses(&spec.source_white_ip_list, errors);
    let request_headers = parse_headers(&spec.request_headers_to_add, errors);
    let is_mtls = matches!(fields.auth, AuthFields::Mtls);
    let named = spec.mtls_config.as_ref().map(|config| config.source_client_cert.as_str());
    let named = named.filter(|named| is_mtls && !named.is_empty());
    let pin = named.map(|named| errors.check(PIN, parse_pin(named, &fields.source)));
    Some(Admission {
        addresses: addresses?,
        request_headers: request_headers?,
        has_certificates: is_mtls || spec.mtls_config.is_some(),
        pin: match pin {
            Some(pin) => Some(pin?),
            None => None,
        },
    })
}

/// What the destination would have to check of a domain whose gateway it never talks to.
fn refuse_with_transit(spec: &DomainRouteSpec, transit: &DomainId, errors: &mut FieldErrors) {
    let settings = [
        ("spec.mTLSConfig", spec.mtls_config.is_some()),
        ("spec.sourceWhiteIPList", !spec.source_white_ip_list.is_empty()),
        ("spec.requestHeadersToAdd", !spec.request_headers_to_add.is_empty()),
    ];
    for (path, _) in settings.into_iter().filter(|(_, is_given)| *is_given) {
        let remedy =
            format!("put it on the route from the domain that brings the requests, such as {transit}");
        errors.add(path, Problem::new("has no effect on a route with transit", remedy));
    }
}

fn parse_addresses(list: &[String], errors: &mut FieldErrors) -> Option<Arc<[IpNet]>> {
    const PATH: &str = "spec.sourceWhiteIPList";
    if list.len() > MAX_NETWORKS {
        let problem = format!("has {} entries", list.len());
        errors.add(
            PATH,
            Problem::new(problem, format!("give {MAX_NETWORKS} at most: join addresses to networks")),
        );
        return None;
    }
    let mut networks = BTreeSet::new();
    let mut is_good = true;
    for (position, entry) in list.iter().enumerate() {
        let network = entry.parse::<IpNet>().or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| {
            let shown: String = entry.chars().take(80).collect();
            let remedy = "give an address such as 192.0.2.1 or a network such as 2001:db8::/32";
            Problem::new(format!("{shown:?} is neither an IP address nor a network"), remedy)
        });
        match errors.check(&format!("{PATH}[{position}]"), network) {
            Some(network) => drop(networks.insert(network.trunc())),
            None => is_good = false,
        }
    }
    is_good.then(|| networks.into_iter().collect())
}

fn parse_headers(
    given: &BTreeMap<String, SecretString>,
    errors: &mut FieldErrors,
) -> Option<Arc<[RequestHeader]>> {
    const PATH: &str = "spec.requestHeadersToAdd";
    if given.len() > MAX_HEADERS {
        let problem = format!("has {} headers", given.len());
        errors.add(PATH, Problem::new(problem, format!("give {MAX_HEADERS} at most")));
        return None;
    }
    let mut headers: BTreeMap<String, &SecretString> = BTreeMap::new();
    let mut is_good = true;
    for (name, value) in given {
        let shown: String = name.chars().take(80).collect();
        let lower = name.to_ascii_lowercase();
        let parsed = check_header(&lower, value).and_then(|()| match headers.insert(lower, value) {
            None => Ok(()),
            Some(_) => Err(Problem::new("is given twice, in other letters", "keep one of the two")),
        });
        is_good &= errors.check(&format!("{PATH}[{shown}]"), parsed).is_some();
    }
    let header = |(name, value): (String, &SecretString)| RequestHeader { name, value: value.clone() };
    is_good.then(|| headers.into_iter().map(header).collect())
}

/// Checks a header whose name is in lower case (RFC 9110 sections 5.1 and 5.5). Nothing that is said shows its value.
fn check_header(name: &str, value: &SecretString) -> Result<(), Problem> {
    if name.starts_with(':')
        || RESERVED_HEADERS.contains(&name)
        || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    {
        return Err(Problem::new("is a header of the gateways themselves", "choose another name"));
    }
    if !names::is_token(name) {
        let remedy = "use letters, digits and the signs !#$%&'*+-.^_`|~";
        return Err(Problem::new("is no name of a header (RFC 9110)", remedy));
    }
    let value = value.expose();
    if value.trim().is_empty() {
        // Envoy would leave the header as the source has sent it.
        return Err(Problem::new("has an empty value", "give a value, or remove the header"));
    }
    if value.len() > MAX_HEADER_VALUE {
        let problem = format!("has a value of {} bytes", value.len());
        return Err(Problem::new(problem, format!("give {MAX_HEADER_VALUE} bytes at most")));
    }
    if !value.bytes().all(|c| c.is_ascii_graphic() || matches!(c, b' ' | b'\t')) {
        let remedy = "use visible ASCII characters, spaces and tabs: encode the rest, such as in base64";
        return Err(Problem::new("has a value that no header can carry", remedy));
    }
    Ok(())
}

/// Whoever bears the issuer of another domain's certificates, or could be taken for it, would pass for that domain.
fn parse_pin(base64: &str, source: &DomainId) -> Result<Pin, Problem> {
    let certificates = parse_certificates(base64)?;
    let Some(certificate) = certificates.first() else {
        return Err(Problem::new("holds no certificate", "give the base64 of a PEM certificate"));
    };
    if !certificate.is_v3() {
        let remedy = "make the certificate again, with extensions";
        return Err(Problem::new("is no certificate of X.509 version 3", remedy));
    }
    if let Some(other) = certificate.issuer().and_then(|issuer| other_domain(issuer, source)) {
        let problem = format!("is issued by \"CN={other}\", which is how the domain {other} would issue it");
        let remedy =
            format!("have it issued by CN={source}, or by an authority whose name tells more, such as O=");
        return Err(Problem::new(problem, remedy));
    }
    let signer = certificate.subject().filter(|_| certificate.may_sign());
    if let Some(other) = signer.and_then(|subject| other_domain(subject, source)) {
        let problem = format!("is for \"CN={other}\" and could sign as the domain {other} would");
        let remedy = "have it made with a keyUsage without keyCertSign, such as digitalSignature";
        return Err(Problem::new(problem, remedy));
    }
    Ok(Pin {
        certificate: CertificatePin {
            pem: certificate.pem().into(),
            fingerprint: certificate.fingerprint().to_owned(),
        },
        is_authority: certificate.is_authority(),
    })
}

/// The domain that a common name stands for, if that is not `source`. Names of certificates are compared without regard to
/// case and outer spaces (RFC 5280 section 7.1).
fn other_domain(name: &str, source: &DomainId) -> Option<DomainId> {
    name.trim().to_ascii_lowercase().parse().ok().filter(|other| other != source)
}
