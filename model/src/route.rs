//! `DomainRoute`s, parsed for the side on which they stand.

use std::collections::BTreeMap;
use std::time::Duration;

use certs::{DomainKey, PublicKey};
use kube::ResourceExt as _;

use crate::api::{DomainEndpoint, DomainPort, DomainRoute, DomainRouteSpec, DomainRouteStatus, TokenConfig};
use crate::error::{FieldErrors, Problem};
use crate::token::{self, Token};
use crate::{DomainId, Host, Kind, ObjectRef};

/// Which side of a route this domain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// This domain is the source.
    Outbound,
    /// This domain is the destination.
    Inbound,
}

/// How requests of a route are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationKind {
    /// By a negotiated token.
    Token,
    /// Not at all; the source must only be known.
    None,
}

/// A way out of this domain.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboundRoute {
    /// The object it was made from.
    pub object: ObjectRef,
    /// The domain it leads to.
    pub destination: DomainId,
    /// The destination's gateway.
    pub endpoint: Endpoint,
    /// Whom a TLS port of that gateway is to prove to be.
    pub trust: Trust,
    /// How this domain proves who it is.
    pub auth: OutboundAuth,
    /// The object's status.
    pub status: DomainRouteStatus,
}

/// What the certificate of a destination's gateway is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The destination's own authority, as PEM, from its `Domain`: nobody else can have signed.
    Authority(String),
    /// The authorities that the system trusts, and the endpoint's host name.
    SystemRoots,
}

/// How a source authenticates its requests.
#[derive(Clone, Debug, PartialEq)]
pub enum OutboundAuth {
    /// It does not.
    None,
    /// By a token.
    Token {
        /// How it is negotiated.
        settings: TokenSettings,
        /// The one to send; `None` until one is negotiated.
        sending: Option<Token>,
    },
}

/// A way into this domain.
#[derive(Clone, Debug, PartialEq)]
pub struct InboundRoute {
    /// The object it was made from.
    pub object: ObjectRef,
    /// The domain it comes from.
    pub source: DomainId,
    /// How the source proves who it is.
    pub auth: InboundAuth,
    /// The object's status.
    pub status: DomainRouteStatus,
}

/// How a destination authenticates requests.
#[derive(Clone, Debug, PartialEq)]
pub enum InboundAuth {
    /// It does not; the source must only be known.
    None,
    /// By a token.
    Token {
        /// How it is negotiated.
        settings: TokenSettings,
        /// All that are accepted now, oldest first.
        accepted: Vec<Token>,
    },
}

/// How the token of a route is negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSettings {
    /// Public key of the domain at the other end.
    pub peer_key: PublicKey,
    /// Time from one token to the next; `None`: a token is never renewed.
    pub rolling_update_period: Option<Duration>,
}

/// The gateway of a destination: at most one port a protocol, at least one port in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its host.
    pub host: Host,
    /// Its ports, that for HTTP first.
    pub ports: Vec<EndpointPort>,
}

/// A port of a destination's gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// The traffic that takes it.
    pub protocol: PortProtocol,
    /// Its number.
    pub port: u16,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// What is put in front of paths: empty, or starting with `/` and not ending with it.
    pub path_prefix: String,
}

/// The traffic that a port of a gateway takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortProtocol {
    /// Everything, or all but gRPC where there is a port for gRPC too.
    Http,
    /// gRPC; everything where it is the only port.
    Grpc,
}

/// What a route is parsed against.
pub(crate) struct Context<'a> {
    pub(crate) domain: &'a DomainId,
    pub(crate) key: &'a DomainKey,
    /// The certificates of the `Domain` objects, for routes that leave keys out.
    pub(crate) certificates: &'a BTreeMap<String, DomainCertificate>,
}

/// The certificate of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DomainCertificate {
    pub(crate) pem: String,
    pub(crate) key: PublicKey,
}

/// A route of this domain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Route {
    Outbound(OutboundRoute),
    Inbound(InboundRoute),
}

/// Why a route is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// Reason of the `Accepted` condition: one word.
    pub(crate) reason: &'static str,
    pub(crate) errors: FieldErrors,
}

impl Rejection {
    pub(crate) fn invalid(errors: FieldErrors) -> Self {
        Self { reason: "Invalid", errors }
    }
}

/// Parses `object` for this domain; `None` where the domain is on neither side of it.
pub(crate) fn parse(object: &DomainRoute, context: &Context<'_>) -> Option<Result<Route, Rejection>> {
    let direction = if object.spec.source == context.domain.as_str() {
        Direction::Outbound
    } else if object.spec.destination == context.domain.as_str() {
        Direction::Inbound
    } else {
        return None;
    };
    Some(parse_side(object, direction, context))
}

fn parse_side(object: &DomainRoute, direction: Direction, context: &Context<'_>) -> Result<Route, Rejection> {
    let parsed = check(object, direction).map_err(Rejection::invalid)?;
    let reference = ObjectRef {
        kind: Kind::DomainRoute,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    };
    let status = object.status.clone().unwrap_or_default();
    let settings = match (parsed.authentication, &object.spec.token_config) {
        (AuthenticationKind::Token, Some(config)) => {
            Some(token_settings(config, &parsed.peer, direction, context)?)
        }
        _ => None,
    };
    Ok(match parsed.endpoint {
        Some(endpoint) => {
            let auth = settings.map_or(OutboundAuth::None, |settings| OutboundAuth::Token {
                settings,
                sending: token::sending(&status.token_status, context.key),
            });
            let certificate = context.certificates.get(parsed.peer.as_str());
            let trust = certificate.map_or(Trust::SystemRoots, |known| Trust::Authority(known.pem.clone()));
            Route::Outbound(OutboundRoute {
                object: reference,
                destination: parsed.peer,
                endpoint,
                trust,
                auth,
                status,
            })
        }
        None => {
            let auth = settings.map_or(InboundAuth::None, |settings| InboundAuth::Token {
                settings,
                accepted: token::accepted(&status.token_status, context.key),
            });
            Route::Inbound(InboundRoute { object: reference, source: parsed.peer, auth, status })
        }
    })
}

/// The fields that do not depend on keys. `endpoint` is set on the outbound side only.
struct Checked {
    peer: DomainId,
    authentication: AuthenticationKind,
    endpoint: Option<Endpoint>,
}

/// Checks every field of a route, as far as that needs no keys, and reports everything that is wrong with it.
pub(crate) fn check_fields(object: &DomainRoute) -> Result<(), FieldErrors> {
    check(object, Direction::Outbound).map(|_| ())
}

fn check(object: &DomainRoute, direction: Direction) -> Result<Checked, FieldErrors> {
    let spec = &object.spec;
    let mut errors = FieldErrors::default();
    let source = errors.check("spec.source", spec.source.parse::<DomainId>());
    let destination = errors.check("spec.destination", spec.destination.parse::<DomainId>());
    check_name(object, &mut errors);
    refuse_unsupported(spec, &mut errors);
    let authentication = errors.check("spec.authenticationType", parse_authentication(spec));
    if authentication == Some(AuthenticationKind::Token) {
        check_token_config(spec.token_config.as_ref(), &mut errors);
    }
    let endpoint = match direction {
        Direction::Outbound if spec.transit.is_none() => parse_endpoint(&spec.endpoint, &mut errors),
        Direction::Outbound | Direction::Inbound => None,
    };
    let peer = match direction {
        Direction::Outbound => destination,
        Direction::Inbound => source,
    };
    match (peer, authentication) {
        (Some(peer), Some(authentication)) if errors.is_empty() => {
            Ok(Checked { peer, authentication, endpoint })
        }
        _ => Err(errors),
    }
}

fn check_name(object: &DomainRoute, errors: &mut FieldErrors) {
    let expected = format!("{}-{}", object.spec.source, object.spec.destination);
    if object.name_any() != expected {
        let problem = format!("is {:?}, but the route leads from source to destination", object.name_any());
        errors.add("metadata.name", Problem::new(problem, format!("name it {expected:?}")));
    }
    if object.spec.source == object.spec.destination {
        let problem = Problem::new("is the source itself", "name the domain that the route leads to");
        errors.add("spec.destination", problem);
    }
}

/// A setting that is ignored would leave a route less protected than its author believes, so it is refused.
fn refuse_unsupported(spec: &DomainRouteSpec, errors: &mut FieldErrors) {
    let settings = [
        ("spec.transit", spec.transit.is_some(), "transit"),
        ("spec.bodyEncryption", spec.body_encryption.is_some(), "body encryption"),
        ("spec.mTLSConfig", spec.mtls_config.is_some(), "authentication by client certificates"),
        ("spec.sourceWhiteIPList", !spec.source_white_ip_list.is_empty(), "a list of source addresses"),
        ("spec.requestHeadersToAdd", !spec.request_headers_to_add.is_empty(), "adding request headers"),
    ];
    for (path, set, what) in settings {
        if set {
            errors.add(path, Problem::new(format!("{what} is not supported"), "remove the field"));
        }
    }
    if !matches!(spec.inter_conn_protocol.as_str(), "" | "kuscia") {
        let problem = format!("{:?} is not supported", spec.inter_conn_protocol);
        errors.add("spec.interConnProtocol", Problem::new(problem, "use \"kuscia\", or remove the field"));
    }
}

fn parse_authentication(spec: &DomainRouteSpec) -> Result<AuthenticationKind, Problem> {
    match spec.authentication_type.as_str() {
        "Token" => Ok(AuthenticationKind::Token),
        "None" => Ok(AuthenticationKind::None),
        other => Err(Problem::new(format!("{other:?} is not supported"), "use \"Token\" or \"None\"")),
    }
}

fn check_token_config(config: Option<&TokenConfig>, errors: &mut FieldErrors) {
    let Some(config) = config else {
        let remedy = "add it, with tokenGenMethod: RSA-GEN";
        errors.add("spec.tokenConfig", Problem::new("is missing, and authenticationType is Token", remedy));
        return;
    };
    if config.token_gen_method != "RSA-GEN" {
        let problem = format!("{:?} is not supported", config.token_gen_method);
        errors.add("spec.tokenConfig.tokenGenMethod", Problem::new(problem, "use \"RSA-GEN\""));
    }
    if config.rolling_update_period < 0 {
        let problem = Problem::new("is negative", "give seconds, or 0 to keep a token for ever");
        errors.add("spec.tokenConfig.rollingUpdatePeriod", problem);
    }
}

fn parse_endpoint(endpoint: &DomainEndpoint, errors: &mut FieldErrors) -> Option<Endpoint> {
    let host = errors.check("spec.endpoint.host", endpoint.host.parse::<Host>());
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
        }
        ports.push(port);
    }
    ports.sort_by_key(|port| port.protocol);
    Some(Endpoint { host: host?, ports })
}

fn parse_port(port: &DomainPort, path: &str, errors: &mut FieldErrors) -> Option<EndpointPort> {
    let number = errors.check(&format!("{path}.port"), parse_port_number(port.port));
    let protocol = match port.protocol.as_str() {
        "HTTP" => Ok(PortProtocol::Http),
        "GRPC" => Ok(PortProtocol::Grpc),
        other => Err(Problem::new(format!("{other:?} is unknown"), "use \"HTTP\" or \"GRPC\"")),
    };
    let protocol = errors.check(&format!("{path}.protocol"), protocol);
    let path_prefix = errors.check(&format!("{path}.pathPrefix"), parse_path_prefix(&port.path_prefix));
    Some(EndpointPort { protocol: protocol?, port: number?, tls: port.is_tls, path_prefix: path_prefix? })
}

fn parse_port_number(number: i64) -> Result<u16, Problem> {
    u16::try_from(number)
        .ok()
        .filter(|number| *number != 0)
        .ok_or_else(|| Problem::new(format!("{number} is not a port"), "give a number from 1 to 65535"))
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

fn token_settings(
    config: &TokenConfig,
    peer: &DomainId,
    direction: Direction,
    context: &Context<'_>,
) -> Result<TokenSettings, Rejection> {
    const SOURCE: &str = "spec.tokenConfig.sourcePublicKey";
    const DESTINATION: &str = "spec.tokenConfig.destinationPublicKey";
    let source = (SOURCE, config.source_public_key.as_str());
    let destination = (DESTINATION, config.destination_public_key.as_str());
    let (own, other) = match direction {
        Direction::Outbound => (source, destination),
        Direction::Inbound => (destination, source),
    };
    check_own_key(own, context.key.public_key())?;
    let mut errors = FieldErrors::default();
    let peer_key = errors.check(other.0, peer_key(other.1, peer, context));
    let Some(peer_key) = peer_key else { return Err(Rejection { reason: "PeerKeyMissing", errors }) };
    let period = u64::try_from(config.rolling_update_period).ok().filter(|seconds| *seconds > 0);
    Ok(TokenSettings { peer_key, rolling_update_period: period.map(Duration::from_secs) })
}

/// The route may leave this domain's key out, but where it names one, it must be ours: the peer reads the same route.
fn check_own_key((path, given): (&str, &str), own: &PublicKey) -> Result<(), Rejection> {
    if given.is_empty() {
        return Ok(());
    }
    let mut errors = FieldErrors::default();
    let Some(key) =
        errors.check(path, PublicKey::from_base64_pem(given).map_err(|error| key_problem(&error)))
    else {
        return Err(Rejection::invalid(errors));
    };
    if key == *own {
        return Ok(());
    }
    let problem = format!("is the key {}, but this domain's key is {}", key.fingerprint(), own.fingerprint());
    let remedy = "put this domain's public key there on both sides (`networkmesh cert --public-key`), or mend domainKeyData";
    errors.add(path, Problem::new(problem, remedy));
    Err(Rejection { reason: "KeyMismatch", errors })
}

fn peer_key(given: &str, peer: &DomainId, context: &Context<'_>) -> Result<PublicKey, Problem> {
    if !given.is_empty() {
        return PublicKey::from_base64_pem(given).map_err(|error| key_problem(&error));
    }
    context.certificates.get(peer.as_str()).map(|known| known.key.clone()).ok_or_else(|| {
        let remedy =
            format!("put the public key of {peer} there, or add a Domain {peer} with its certificate");
        Problem::new("is missing", remedy)
    })
}

fn key_problem(error: &certs::KeyError) -> Problem {
    Problem::new(error.to_string(), "give the base64 of the PEM of an RSA public key of 2048 bits or more")
}
