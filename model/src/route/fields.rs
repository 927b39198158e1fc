//! The fields of a `DomainRoute` that mean the same whoever reads them.

use kube::ResourceExt as _;

use super::{Direction, admission, direct};
use crate::DomainId;
use crate::api::{DomainEndpoint, DomainRoute, DomainRouteSpec, Transit};
use crate::error::{FieldErrors, Problem};

pub(super) use super::token_fields::TokenFields;

/// The fields that all read.
pub(super) struct Fields {
    pub(super) source: DomainId,
    pub(super) destination: DomainId,
    pub(super) auth: AuthFields,
    /// The domain whose gateway forwards the requests; `None`: there is no detour.
    pub(super) transit: Option<DomainId>,
}

/// `authenticationType`, and what belongs to it.
pub(super) enum AuthFields {
    None,
    Mtls,
    Token(TokenFields),
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

/// Checks every field that needs no key, for the domain that the route's namespace tells. Without a namespace it is
/// checked for the destination, and for the source if it has an endpoint.
pub(crate) fn check(object: &DomainRoute) -> Result<(), FieldErrors> {
    let namespace = object.namespace().unwrap_or_default();
    let direction = Direction::of(&object.spec, &namespace);
    if direction.is_none() && !namespace.is_empty() {
        return parse_forwarded(object, &namespace).map(drop);
    }
    let has_endpoint = object.spec.endpoint != DomainEndpoint::default();
    check_sides(
        object,
        direction == Some(Direction::Outbound) || (direction.is_none() && has_endpoint),
        direction != Some(Direction::Outbound),
    )
}

/// Checks every field that needs no key, for both sides.
pub(crate) fn check_both_sides(object: &DomainRoute) -> Result<(), FieldErrors> {
    check_sides(object, true, true)
}

fn check_sides(object: &DomainRoute, for_source: bool, for_destination: bool) -> Result<(), FieldErrors> {
    let mut errors = FieldErrors::default();
    let fields = parse(object, &mut errors);
    if for_source {
        match &object.spec.transit {
            Some(_) => direct::refuse_with_transit(&object.spec, &mut errors),
            None => drop(direct::parse(object, None, &mut errors)),
        }
    }
    if for_destination && let Some(fields) = fields {
        admission::parse(&object.spec, &fields, &mut errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Parses a route that stands with `domain` and begins and ends elsewhere: it says that requests may be forwarded. Answers
/// also the domain that it names.
pub(super) fn parse_forwarded(object: &DomainRoute, domain: &str) -> Result<(Fields, DomainId), FieldErrors> {
    let mut errors = FieldErrors::default();
    if object.spec.transit.is_none() {
        errors.add("spec.source", stranger(&object.spec, domain));
    }
    let fields = parse(object, &mut errors);
    let via = fields.as_ref().and_then(|fields| fields.transit.clone());
    fields.zip(via).filter(|_| errors.is_empty()).ok_or(errors)
}

/// What is wrong with a route that stands with `domain` and does not concern it.
fn stranger(spec: &DomainRouteSpec, domain: &str) -> Problem {
    let (source, destination) = (&spec.source, &spec.destination);
    let problem =
        format!("is {source:?} and spec.destination is {destination:?}, but the route stands in {domain:?}");
    let remedy = format!(
        "make one of the two {domain:?}, move the route to the namespace of one of them, or add transit if {domain:?} is to forward its requests"
    );
    Problem::new(problem, remedy)
}

/// Parses what all read.
pub(super) fn parse(object: &DomainRoute, errors: &mut FieldErrors) -> Option<Fields> {
    let spec = &object.spec;
    let source = errors.check("spec.source", spec.source.parse::<DomainId>());
    let destination = errors.check("spec.destination", spec.destination.parse::<DomainId>());
    let ends = source.zip(destination);
    if let Some((source, destination)) = &ends {
        check_ends(object, source, destination, errors);
    }
    let transit = spec.transit.as_ref().map(|transit| parse_transit(transit, spec, errors));
    refuse_unsupported(spec, errors);
    let auth = parse_authentication(spec, errors)?;
    let (source, destination) = ends?;
    let transit = match transit {
        Some(transit) => Some(transit?),
        None => None,
    };
    Some(Fields { source, destination, auth, transit })
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

fn parse_transit(transit: &Transit, spec: &DomainRouteSpec, errors: &mut FieldErrors) -> Option<DomainId> {
    const PATH: &str = "spec.transit.domain.domainID";
    if !matches!(transit.transit_method.as_str(), "" | "THIRD-DOMAIN") {
        let problem = format!("{:?} is not supported", transit.transit_method);
        errors.add(
            "spec.transit.transitMethod",
            Problem::new(problem, "use \"THIRD-DOMAIN\", or remove transit"),
        );
        return None;
    }
    let Some(domain) = &transit.domain else {
        errors.add(PATH, Problem::new("is missing", "name the domain that forwards the requests"));
        return None;
    };
    let id = errors.check(PATH, domain.domain_id.parse::<DomainId>())?;
    if [&spec.source, &spec.destination].iter().any(|end| *end == id.as_str()) {
        let remedy = "name a domain in between, or remove transit and give an endpoint";
        errors.add(PATH, Problem::new("is an end of the route itself", remedy));
    }
    Some(id)
}

/// A setting that is ignored would leave a route less protected than its author believes, so it is refused.
fn refuse_unsupported(spec: &DomainRouteSpec, errors: &mut FieldErrors) {
    if spec.body_encryption.is_some() {
        let problem = Problem::new("body encryption is not supported", "remove the field");
        errors.add("spec.bodyEncryption", problem);
    }
    if !matches!(spec.inter_conn_protocol.as_str(), "" | "kuscia") {
        let problem = format!("{:?} is not supported", spec.inter_conn_protocol);
        errors.add("spec.interConnProtocol", Problem::new(problem, "use \"kuscia\", or remove the field"));
    }
}

fn parse_authentication(spec: &DomainRouteSpec, errors: &mut FieldErrors) -> Option<AuthFields> {
    let problem = match spec.authentication_type.as_str() {
        "Token" => return TokenFields::parse(spec.token_config.as_ref(), errors).map(AuthFields::Token),
        "MTLS" if spec.transit.is_some() => Problem::new(
            "\"MTLS\" proves nothing through a domain in between",
            "use \"Token\" or \"None\" here, and \"MTLS\" on the routes from gateway to gateway",
        ),
        "MTLS" => return Some(AuthFields::Mtls),
        "None" => return Some(AuthFields::None),
        other => Problem::new(format!("{other:?} is unknown"), "use \"Token\", \"MTLS\" or \"None\""),
    };
    errors.add("spec.authenticationType", problem);
    None
}
