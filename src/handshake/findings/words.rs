//! What this domain's Envoy says of a failed request: its response code details, and in them why the transport failed.
//!
//! `upstream_reset_before_response_started{remote_connection_failure|TLS_error:|268435703:…}`, for example: between the
//! braces the reason of the reset, behind the bar that of the transport. As Envoy 1.40 has it.

use ::http::StatusCode;
use model::{HostPort, OutboundRoute, quoted};

use super::hops::hops;
use super::transit::{not_begun, of_first_hop};
use super::{Finding, Told, Witness, peer, place};

type Make = fn(&HostPort, &Witness<'_>) -> Finding;
type Certainty = fn(Finding) -> Told;

/// Words in details and what they mean. The first that is found decides.
const MEANINGS: [(&str, Make, Certainty); 15] = [
    // Nor does it say what the resolver said.
    ("no_healthy_upstream", Finding::unresolved, Told::Half),
    ("CERTIFICATE_VERIFY_FAILED", Finding::certificate, Told::All),
    ("WRONG_VERSION_NUMBER", Finding::plaintext, Told::All),
    ("_ALERT_", Finding::tls_refused, Told::All),
    ("Connection_refused", Finding::refused, Told::All),
    ("No_route_to_host", Finding::no_route, Told::All),
    ("Network_is_unreachable", Finding::no_route, Told::All),
    ("Connection_timed_out", Finding::connect_timeout, Told::All),
    // TLS included: a connection may be there.
    ("connection_timeout", Finding::connect_timeout, Told::Half),
    // This is also what a listener with TLS does to a request without.
    ("connection_termination", Finding::closed, Told::Half),
    ("remote_connection_failure", Finding::closed, Told::Half),
    ("remote_reset", Finding::closed, Told::Half),
    // So is this.
    ("protocol_error", no_http, Told::Half),
    ("response_timeout", Finding::silent, Told::All),
    ("idle_timeout", Finding::silent, Told::All),
];

/// What the answer `status` with this `Kuscia-Error-Message` tells of the way to the destination of `route`.
pub(super) fn of_envoy_words(status: StatusCode, message: &str, route: &OutboundRoute) -> Told {
    let hops = hops(message);
    let ([own] | [own, ..]) = hops.as_slice() else {
        let witness = Witness::Envoy("it passed the answer on");
        return Told::Half(Finding::http_not_of_a_gateway(&place(route), status, &witness));
    };
    if let [_, .., last] = hops.as_slice() {
        return Told::All(peer::failed(route, *last, status));
    }
    let place = place(route);
    if own.is_passed_on() {
        let witness = Witness::Envoy("it passed the answer on");
        return Told::Half(Finding::http_not_of_a_gateway(&place, status, &witness));
    }
    let details = quoted(own.details);
    if let Some(finding) = not_begun(route, &details) {
        return Told::All(finding);
    }
    match MEANINGS.iter().find(|(words, ..)| details.contains(words)) {
        Some((_, make, certainty)) => certainty(of_first_hop(route, make(&place, &Witness::Envoy(&details)))),
        None => {
            let what = format!("this domain's own gateway does not pass requests to {}", route.destination);
            let remedy =
                "see whether its Envoy has taken the route: `networkmesh status` shows what it rejects";
            Told::All(Finding::reach("FailedHere", &what, &Witness::Envoy(&details), remedy))
        }
    }
}

fn no_http(place: &HostPort, witness: &Witness<'_>) -> Finding {
    Finding::not_a_gateway(place, "it speaks no HTTP", witness)
}
