//! What a gateway or a handshake service that answers says about this domain.

use ::http::StatusCode;
use certs::Fingerprint;
use model::{DomainId, OutboundRoute};

use super::hops::Hop;
use super::transit::{is_detour, stopped};
use super::{Finding, LET_HEADERS_PASS, Layer, place};
use crate::handshake::call_error::CallError;

const STATUS: &str = "`networkmesh status`";

const TOO_MANY: &str =
    "it is tried again; if it stays, somebody else asks in this domain's name, or too many domains at once";

/// The handshake service of the destination refused for `reason`, with `words`. The keys are that of this domain, and
/// that of the destination by the route.
pub(super) fn refused(
    destination: &DomainId,
    reason: &'static str,
    words: &str,
    own_key: &Fingerprint,
    peer_key: &Fingerprint,
) -> Finding {
    let remedy = match reason {
        "RouteMissing" => {
            format!("ask the operator of {destination} to add this DomainRoute with token authentication")
        }
        "KeyUnknownToPeer" => format!(
            "this domain's key is {own_key}: send it to the operator of {destination} (`networkmesh cert --public-key`) \
             for its route"
        ),
        "PeerKeyDiffers" => format!(
            "this domain's route has {peer_key} for {destination}: ask its operator for its public key, and put that into \
             the route"
        ),
        "SignatureMissing" | "SignatureWrong" => format!(
            "this domain's key is {own_key}; see whether a proxy between the two gateways changes bodies, and whether \
             both routes say the same of tokenConfig.handshake"
        ),
        "ClocksDiffer" => "set the clocks of both sides, for example by NTP".to_owned(),
        "AddressNotAllowed" => other_address(destination),
        "TooManyHandshakes" => TOO_MANY.to_owned(),
        "TokenNotReady" => format!("it is tried again; if it stays, ask its operator for {STATUS}"),
        _ => format!(
            "this domain's key is {own_key}, and {destination} has {peer_key} by the route: compare both with its \
             operator"
        ),
    };
    trust(reason, format!("{destination} refuses the handshake: {words}; {remedy}"))
}

/// The destination's share is sealed for somebody else.
pub(super) fn other_key_of_ours(destination: &DomainId, own_key: &Fingerprint) -> Finding {
    let message = format!(
        "{destination} answers with a share that is not encrypted for this domain's key {own_key}, but for another one \
         that it holds for this domain: send this one to its operator (`networkmesh cert --public-key`)"
    );
    trust("KeyUnknownToPeer", message)
}

/// The destination's answer is not what the key signs that the route has for it.
pub(super) fn wrong_signature(destination: &DomainId, error: &CallError) -> Finding {
    let message = format!(
        "{error}: compare that with the output of `networkmesh cert --fingerprint` at {destination}; if it is the same, \
         something between the two gateways changes answers"
    );
    trust("SignatureWrong", message)
}

/// The gateway `at` answered a handshake with an error.
pub(super) fn failed(route: &OutboundRoute, at: Hop<'_>, status: StatusCode) -> Finding {
    let destination = &route.destination;
    let Hop { domain, gateway, details } = at;
    if domain != destination.as_str() {
        return if is_detour(route) {
            stopped(route, at, status)
        } else {
            answered_by_another(route, domain)
        };
    }
    match status.as_u16() {
        401 => {
            let message = format!(
                "the gateway {gateway} does not take the handshake for one: something on the way removes or changes \
                 the header Kuscia-Host; {LET_HEADERS_PASS}"
            );
            trust("HeadersStripped", message)
        }
        // Its mesh does, to whom it passes handshakes on.
        403 if at.is_passed_on() => {
            let message =
                format!("{destination} refuses to tell of the token; {}", other_address(destination));
            trust("AddressNotAllowed", message)
        }
        404 => {
            let message = format!(
                "the gateway {gateway} knows no handshake at this path ({details}): set pathPrefix of the route's \
                 endpoint to what the proxy in front of it takes away"
            );
            trust("HandshakeRefused", message)
        }
        429 => {
            let message =
                format!("the gateway {gateway} says that there are too many handshakes; {TOO_MANY}");
            trust("TooManyHandshakes", message)
        }
        500.. => {
            let message = format!(
                "the gateway {gateway} is reached, and fails with HTTP {status} ({details}): ask the operator of \
                 {destination} whether its mesh runs, and for its `networkmesh status`"
            );
            trust("FailedAtPeer", message)
        }
        _ => {
            let message = format!(
                "the gateway {gateway} refuses the handshake with HTTP {status} ({details}): ask the operator of \
                 {destination} why"
            );
            trust("HandshakeRefused", message)
        }
    }
}

fn other_address(destination: &DomainId) -> String {
    format!(
        "ask the operator of {destination} to put the address from which it sees this domain's gateway into \
         sourceWhiteIPList of its route"
    )
}

/// Another domain's gateway is there.
fn answered_by_another(route: &OutboundRoute, domain: &str) -> Finding {
    let message = format!(
        "the gateway of domain {domain} answers at {} where {} was expected: check host, port and pathPrefix of the \
         route's endpoint",
        place(route),
        route.destination
    );
    trust("OtherDomainAnswered", message)
}

fn trust(reason: &'static str, message: String) -> Finding {
    Finding { layer: Layer::Trust, reason, message }
}
