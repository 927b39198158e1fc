//! Who may enter, and who may call what.
//!
//! A header that a request repeats is matched as one value, joined by commas, so it never matches.

use envoy_types::pb::google::protobuf::Any;
use model::{Access, DomainId, InboundAuth, InboundRoute, PortScope, Service};

use crate::headers::{self, peer_certificate, peer_issuer};
use crate::message::cidr_range;
use crate::proof::policy_of;
use crate::rbac::{Filter, Matcher, OnMatch, Rule};

/// Name of the policy that lets a request in.
const ALLOWED: &str = "allowed";

/// Why a request is denied. Envoy puts the name into the response code details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The source is unknown, or did not prove itself.
    Unauthorized,
    /// A header that must say one thing says several.
    Ambiguous,
    /// The source may not come from this address.
    AddressNotAllowed,
    /// The source may not call this service.
    DomainNotAllowed,
    /// No other domain may call this service.
    UnknownService,
}

impl Denied {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Ambiguous => "ambiguous",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::DomainNotAllowed => "domain_not_allowed",
            Self::UnknownService => "unknown_service",
        }
    }
}

/// Lets nobody in: what holds for a request without a route configuration, as its source is unknown.
pub(crate) fn nobody() -> Any {
    Filter::new(Matcher::always(deny(Denied::Unauthorized))).any()
}

/// Lets the route's source in, if it proves who it is, and then if it comes from where it may.
///
/// The source was looked up before; it is compared once more because a request may name several.
pub(crate) fn source_of(route: &InboundRoute) -> Any {
    let source = [(route.source.to_string(), proof_of(route))].into_iter();
    Filter::new(Matcher::header(headers::SOURCE, source, deny(Denied::Unauthorized))).per_route()
}

/// A token that is used for the first time is let in by a policy of its own name, which [`proof`](crate::proof) tells
/// the mesh.
fn proof_of(route: &InboundRoute) -> OnMatch {
    let let_in = |policy: &str| admitted(route, OnMatch::allow(policy));
    match &route.auth {
        InboundAuth::None => let_in(ALLOWED),
        InboundAuth::Token { accepted, .. } => {
            let tokens = accepted.iter().map(|token| {
                let policy = if token.proven { ALLOWED } else { &policy_of(&route.source, token.revision) };
                (token.value.header_value(), let_in(policy))
            });
            OnMatch::matcher(Matcher::header(headers::TOKEN, tokens, deny(Denied::Unauthorized)))
        }
        InboundAuth::Mtls { pin } => {
            let pinned = pin.iter().map(|pin| (peer_certificate(&pin.fingerprint), let_in(ALLOWED)));
            let pinned = Matcher::header(headers::PEER_CERTIFICATE, pinned, deny(Denied::Unauthorized));
            // Envoy has verified that an authority of this name has signed, and each is that of the domain it names.
            let issued = route.authority.iter();
            let issued = issued.map(|_| (peer_issuer(&format!("CN={}", route.source)), let_in(ALLOWED)));
            OnMatch::matcher(Matcher::header(headers::PEER_ISSUER, issued, OnMatch::matcher(pinned)))
        }
    }
}

/// Once it is proved who sends a request: it must come from where it may, and say once where it began and where it goes
/// if both are choices, for routes are found by any value of a header that is repeated.
fn admitted(route: &InboundRoute, let_in: OnMatch) -> OnMatch {
    let has_choices = !route.origins.is_empty() || !route.forwards.is_empty();
    let choices = [headers::ORIGIN_SOURCE, headers::HOST].into_iter().filter(|_| has_choices);
    let mut rules: Vec<_> = choices.map(|header| Rule::several(header, deny(Denied::Ambiguous))).collect();
    let networks: Vec<_> = route.addresses.iter().map(cidr_range).collect();
    let otherwise = if networks.is_empty() {
        let_in
    } else {
        rules.push(Rule::address(networks, let_in));
        deny(Denied::AddressNotAllowed)
    };
    if rules.is_empty() { otherwise } else { OnMatch::matcher(Matcher::rules(rules, otherwise)) }
}

/// Lets the domains that may call `service` through, of which `domain` itself is one; `None` if all may.
///
/// The domain is that where a request began. What says so is true: for applications of this domain it is set, and for
/// other domains checked or overwritten before.
pub(crate) fn callers_of(service: &Service, domain: &DomainId) -> Option<Any> {
    let own = || [(domain.to_string(), OnMatch::allow(ALLOWED))].into_iter();
    let matcher = match (&service.scope, &service.access) {
        (PortScope::Cluster, Access::Anyone) => return None,
        (PortScope::Cluster, Access::Only(domains)) => {
            let callers = domains.iter().map(|domain| (domain.to_string(), OnMatch::allow(ALLOWED)));
            Matcher::header(headers::ORIGIN_SOURCE, own().chain(callers), deny(Denied::DomainNotAllowed))
        }
        (PortScope::Domain | PortScope::Local, _) => {
            Matcher::header(headers::ORIGIN_SOURCE, own(), deny(Denied::UnknownService))
        }
    };
    Some(Filter::new(matcher).any())
}

fn deny(reason: Denied) -> OnMatch {
    OnMatch::deny(reason.name())
}
