//! The fields of a `DomainRoute` that mean the same whoever reads them.

use std::time::Duration;

use certs::PublicKey;
use kube::ResourceExt as _;

use super::{
    AuthenticationKind, Direction, Endpoint, EndpointPort, HandshakePolicy, PortProtocol, Timeouts,
    TokenMethod,
};
use crate::api::{DomainEndpoint, DomainPort, DomainRoute, DomainRouteSpec, TokenConfig};
use crate::error::{FieldErrors, Problem};
use crate::{DomainId, Host, names};

pub(super) const SOURCE_KEY: &str = "spec.tokenConfig.sourcePublicKey";
pub(super) const DESTINATION_KEY: &str = "spec.tokenConfig.destinationPublicKey";

/// Longest time from one token to the next, in seconds: ten years, so that no clock overflows by it.
const MAX_ROLLING_UPDATE_PERIOD: u64 = 10 * 365 * 24 * 60 * 60;

/// The fields that both sides read.
pub(super) struct Fields {
    pub(super) source: DomainId,
    pub(super) destination: DomainId,
    /// `None` where the source need not authenticate.
    pub(super) tokens: Option<TokenFields>,
}

/// The fields of `tokenConfig`.
pub(super) struct TokenFields {
    pub(super) source_key: Option<PublicKey>,
    pub(super) destination_key: Option<PublicKey>,
    pub(super) rolling_update_period: Option<Duration>,
    pub(super) method: TokenMethod,
    pub(super) handshake: HandshakePolicy,
}

impl Direction {
    /// The side of a route that `domain` is; `None` where it is neither.
    pub(super) fn of(spec: &DomainRouteSpec, domain: &str) -> Option<Self> {
        if spec.source == domain {
            return Some(Self::Outbound);
        }
        (spec.destination == domain).then_some(Self::Inbound)
    }
}

/// Checks every field that needs no key, for the side that the route's namespace tells. An endpoint is asked for only
/// where that is the source.
pub(crate) fn check(object: &DomainRoute) -> Result<(), FieldErrors> {
    let namespace = object.namespace().unwrap_or_default();
    let direction = Direction::of(&object.spec, &namespace);
    if direction.is_none() && !namespace.is_empty() {
        return Err(stranger(object, &namespace));
    }
    let mut errors = FieldErrors::default();
    parse(object, direction, &mut errors);
    let endpoint = &object.spec.endpoint;
    let is_given = *endpoint != DomainEndpoint::default();
    if direction == Some(Direction::Outbound) || (direction.is_none() && is_given) {
        parse_endpoint(endpoint, &mut errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// What is wrong with a route that stands with `domain` and does not concern it.
pub(super) fn stranger(object: &DomainRoute, domain: &str) -> FieldErrors {
    let (source, destination) = (&object.spec.source, &object.spec.destination);
    let problem =
        format!("is {source:?} and spec.destination is {destination:?}, but the route stands in {domain:?}");
    let remedy = format!("make one of the two {domain:?}, or move the route to the namespace of one of them");
    let mut errors = FieldErrors::one("spec.source", Problem::new(problem, remedy));
    parse(object, None, &mut errors);
    errors
}

/// Parses what both sides read. `direction` is `None` where the side is not known.
pub(super) fn parse(
    object: &DomainRoute,
    direction: Option<Direction>,
    errors: &mut FieldErrors,
) -> Option<Fields> {
    let spec = &object.spec;
    let source = errors.check("spec.source", spec.source.parse::<DomainId>());
    let destination = errors.check("spec.destination", spec.destination.parse::<DomainId>());
    let ends = source.zip(destination);
    if let Some((source, destination)) = &ends {
        check_ends(object, source, destination, errors);
    }
    refuse_unsupported(spec, direction, errors);
    let tokens = match errors.check("spec.authenticationType", parse_authentication(spec))? {
        AuthenticationKind::Token => Some(parse_tokens(spec.token_config.as_ref(), errors)?),
        AuthenticationKind::Mtls | AuthenticationKind::None => None,
    };
    let (source, destination) = ends?;
    Some(Fields { source, destination, tokens })
}

fn check_ends(object: &DomainRoute, source: &DomainId, destination: &DomainId, errors: &mut FieldErrors) {
    if source == destination {
        let problem = Problem::new("is the source itself", "name the domain that the route leads to");
        errors.add("spec.destination", problem);
    }
    let (name, expected) = (object.name_any(), format!("{source}-{destination}"));
    if name != expected {
        let problem = format!("is {name:?}, but the route leads from {source} to {destination}");
        errors.add("metadata.name", Problem::new(problem, format!("name it {expected:?}")));
    }
}

/// A setting that is ignored would leave a route less protected than its author believes, so it is refused by the side
/// that it is meant for.
fn refuse_unsupported(spec: &DomainRouteSpec, direction: Option<Direction>, errors: &mut FieldErrors) {
    let for_destination = direction != Some(Direction::Outbound);
    let addresses = for_destination && !spec.source_white_ip_list.is_empty();
    let headers = for_destination && !spec.request_headers_to_add.is_empty();
    let settings = [
        ("spec.transit", spec.transit.is_some(), "transit"),
        ("spec.bodyEncryption", spec.body_encryption.is_some(), "body encryption"),
        ("spec.mTLSConfig", spec.mtls_config.is_some(), "authentication by client certificates"),
        ("spec.sourceWhiteIPList", addresses, "a list of source addresses"),
        ("spec.requestHeadersToAdd", headers, "adding request headers"),
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

fn parse_tokens(config: Option<&TokenConfig>, errors: &mut FieldErrors) -> Option<TokenFields> {
    let Some(config) = config else {
        let remedy = "add it, with tokenGenMethod: RSA-GEN";
        errors.add("spec.tokenConfig", Problem::new("is missing, and authenticationType is Token", remedy));
        return None;
    };
    let method = errors.check("spec.tokenConfig.tokenGenMethod", parse_method(&config.token_gen_method));
    let handshake = errors.check("spec.tokenConfig.handshake", parse_handshake(&config.handshake));
    let period = parse_period(config.rolling_update_period);
    let period = errors.check("spec.tokenConfig.rollingUpdatePeriod", period);
    let source_key = errors.check(SOURCE_KEY, parse_key(&config.source_public_key));
    let destination_key = errors.check(DESTINATION_KEY, parse_key(&config.destination_public_key));
    Some(TokenFields {
        source_key: source_key?,
        destination_key: destination_key?,
        rolling_update_period: period?,
        method: method?,
        handshake: handshake?,
    })
}

fn parse_method(name: &str) -> Result<TokenMethod, Problem> {
    match name {
        "RSA-GEN" => Ok(TokenMethod::Rsa),
        "UID-RSA-GEN" => Ok(TokenMethod::Uid),
        other => Err(Problem::new(
            format!("{other:?} is unknown"),
            "use \"RSA-GEN\", or \"UID-RSA-GEN\" with a peer that has no other",
        )),
    }
}

fn parse_handshake(name: &str) -> Result<HandshakePolicy, Problem> {
    match name {
        "" => Ok(HandshakePolicy::WhatPeerCan),
        "signed" => Ok(HandshakePolicy::Signed),
        "compatible" => Ok(HandshakePolicy::Compatible),
        other => Err(Problem::new(
            format!("{other:?} is unknown"),
            "use \"signed\" or \"compatible\", or remove the field",
        )),
    }
}

fn parse_period(seconds: i64) -> Result<Option<Duration>, Problem> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(None),
        Ok(seconds) if seconds <= MAX_ROLLING_UPDATE_PERIOD => Ok(Some(Duration::from_secs(seconds))),
        _ => {
            let remedy =
                format!("give seconds, at most {MAX_ROLLING_UPDATE_PERIOD}, or 0 to keep a token for ever");
            Err(Problem::new(format!("{seconds} is out of range"), remedy))
        }
    }
}

fn parse_key(base64: &str) -> Result<Option<PublicKey>, Problem> {
    if base64.is_empty() {
        return Ok(None);
    }
    PublicKey::from_base64_pem(base64).map(Some).map_err(|error| {
        let remedy = "give the base64 of the PEM of an RSA public key of 2048 bits or more";
        Problem::new(error.to_string(), remedy)
    })
}

/// Parses what the source alone reads.
pub(super) fn parse_endpoint(endpoint: &DomainEndpoint, errors: &mut FieldErrors) -> Option<Endpoint> {
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
            continue;
        }
        ports.push(port);
    }
    ports.sort_by_key(|port| port.protocol);
    Some(Endpoint {
        host: host?,
        ports,
        server_name: None,
        timeouts: Timeouts::default(),
        grpc_degrade: false,
    })
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
