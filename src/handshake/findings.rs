//! Why a link to a destination fails, in words on which an operator can act.
//!
//! Envoy's own words come first: they stand in `Kuscia-Error-Message` ([`words`]). Where they do not decide, the mesh
//! looks itself ([`examine()`]).

mod data_path;
mod examine;
mod hops;
mod peer;
#[cfg(test)]
mod tests;
mod transit;
mod words;

use std::fmt;

use ::http::StatusCode;
use model::{Direct, DomainId, HostPort, OutboundRoute};

use super::call_error::{CallError, PeerRefusal};
use examine::examine;
use transit::of_first_hop;
use words::of_envoy_words;

pub(super) use data_path::{DataPath, of_data_path, of_data_path_alone};

/// What is to be done about a proxy that does not pass what gateways send.
const LET_HEADERS_PASS: &str = "let all proxies between the two gateways pass headers that start with Kuscia- as they are (also the web firewall, and nginx's proxy_set_header)";

/// What to do about an answer that no gateway gives.
const CHECK_ENDPOINT: &str = "check host, port and pathPrefix of the route's endpoint, and what stands in front of the destination's gateway";

/// Why a link fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// How far the link goes.
    pub(super) layer: Layer,
    /// One word for the route's condition.
    pub(super) reason: &'static str,
    /// What is wrong, who saw it, and what to do.
    pub(super) message: String,
}

/// What fails of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    /// The destination's gateway is not reached, or one on the way to it.
    Reach,
    /// It is, and does not take this domain for whom it is.
    Trust,
}

/// Who saw what is wrong.
enum Witness<'a> {
    /// This domain's Envoy, in its own words.
    Envoy(&'a str),
    /// The mesh, by a connection of its own.
    Mesh,
}

/// How much is known without a look.
enum Told {
    /// All that there is to know.
    All(Finding),
    /// A look may tell more.
    Half(Finding),
}

/// Finds out why a call to the destination of `route` failed; `None`: the error says all itself.
///
/// Takes no more than three seconds, and at most two connections to the endpoint.
pub(super) async fn diagnose(error: &CallError, route: &OutboundRoute) -> Option<Finding> {
    match of_error(error, route)? {
        Told::All(finding) => Some(finding),
        Told::Half(guess) => {
            let found = examine(&route.first_hop().1.endpoint).await;
            Some(found.map_or(guess, |found| of_first_hop(route, found)))
        }
    }
}

fn of_error(error: &CallError, route: &OutboundRoute) -> Option<Told> {
    Some(match error {
        CallError::Http { status, message } => of_envoy_words(*status, message, route),
        CallError::NoAnswer { cause, .. } => Told::Half(no_answer(&place(route), cause)),
        CallError::BadAnswer { problem, .. } => {
            let message = format!(
                "{} answers, but not as a gateway of {} does: {problem}; {CHECK_ENDPOINT}",
                place(route),
                route.destination
            );
            Told::Half(Finding { layer: Layer::Reach, reason: "NotAGateway", message })
        }
        CallError::Refused(refusal) => {
            let PeerRefusal { reason, message, own_key, peer_key, .. } = refusal.as_ref();
            Told::All(peer::refused(&route.destination, reason, message, own_key, peer_key))
        }
        CallError::WrongSignature { .. } => Told::All(peer::wrong_signature(&route.destination, error)),
        CallError::KeyMismatch { own_key, .. } => {
            Told::All(peer::other_key_of_ours(&route.destination, own_key))
        }
        _ => return None,
    })
}

/// What to do where `header` of a probe did not arrive at `destination`.
pub(super) fn headers_stripped(destination: &DomainId, header: &str) -> String {
    format!(
        "{destination} got no valid header {header}, which this domain sends: something on the way removes or changes it; \
         {LET_HEADERS_PASS}"
    )
}

/// Envoy waits longer for a connection than the mesh waits for an answer: so this may be no connection, too.
fn no_answer(place: &HostPort, cause: &str) -> Finding {
    let what = format!("no proper answer came from {place}");
    let remedy = "see whether the destination's mesh runs, and what its `networkmesh status` says";
    Finding::reach("AnswerTimeout", &what, &Witness::Envoy(cause), remedy)
}

/// The port of the first gateway on the way to the destination that handshakes take.
fn place(route: &OutboundRoute) -> HostPort {
    let (_, Direct { endpoint, .. }) = route.first_hop();
    let port = endpoint.ports.first().map_or(0, |port| port.port);
    HostPort { host: endpoint.host.clone(), port }
}

impl Finding {
    fn reach(reason: &'static str, what: &str, witness: &Witness<'_>, remedy: &str) -> Self {
        Self { layer: Layer::Reach, reason, message: format!("{what} ({witness}); {remedy}") }
    }

    fn unresolved(place: &HostPort, witness: &Witness<'_>) -> Self {
        let what = format!("the name {} has no address", place.host);
        Self::reach(
            "EndpointUnresolved",
            &what,
            witness,
            "correct endpoint.host of the route, or the DNS that this host asks",
        )
    }

    fn refused(place: &HostPort, witness: &Witness<'_>) -> Self {
        let what = format!("{place} refuses connections");
        let remedy = "check host and port of the route's endpoint, and whether the destination's Envoy runs";
        Self::reach("ConnectionRefused", &what, witness, remedy)
    }

    fn connect_timeout(place: &HostPort, witness: &Witness<'_>) -> Self {
        let what = format!("{place} does not take a connection in time");
        let remedy = "check the route's endpoint, and the firewalls of both sides: one drops what it does not let pass";
        Self::reach("ConnectTimeout", &what, witness, remedy)
    }

    fn no_route(place: &HostPort, witness: &Witness<'_>) -> Self {
        let what = format!("no way leads to {place}");
        let remedy = "check the address of the route's endpoint, and the network and firewall of this host";
        Self::reach("NoRouteToHost", &what, witness, remedy)
    }

    fn silent(place: &HostPort, witness: &Witness<'_>) -> Self {
        let what = format!("{place} takes a connection and does not answer in time");
        let remedy =
            "see whether the destination's gateway and mesh run, and what its `networkmesh status` says";
        Self::reach("AnswerTimeout", &what, witness, remedy)
    }

    fn plaintext(place: &HostPort, witness: &Witness<'_>) -> Self {
        let what = format!("the route says that {place} speaks TLS, but it answers without");
        let remedy = "set isTLS of the endpoint's port to false, or let the destination set protocol TLS";
        Self::reach("PeerSpeaksPlaintext", &what, witness, remedy)
    }

    fn tls(place: &HostPort, witness: &Witness<'_>) -> Self {
        let what = format!("the route says that {place} speaks no TLS, but it does");
        let remedy =
            "set isTLS of the endpoint's port to true, and give the destination's certificate in its Domain";
        Self::reach("PeerSpeaksTls", &what, witness, remedy)
    }

    fn certificate(place: &HostPort, witness: &Witness<'_>) -> Self {
        let what = format!("the certificate of {place} is not trusted");
        let remedy = "put the destination's certificate (its `networkmesh cert --base64`) into spec.cert of its Domain; \
                      without one, the system's authorities must have signed for the endpoint's host";
        Self::reach("CertificateRejected", &what, witness, remedy)
    }

    fn tls_refused(place: &HostPort, witness: &Witness<'_>) -> Self {
        let what = format!("{place} speaks TLS, but refuses this domain's");
        let remedy = "ask the destination what its listener wants: a client's certificate (MTLS), another name, newer TLS";
        Self::reach("TlsRefused", &what, witness, remedy)
    }

    fn closed(place: &HostPort, witness: &Witness<'_>) -> Self {
        let what = format!("{place} takes connections and closes them without an answer");
        let remedy = "check the port and isTLS of the route's endpoint, and the load balancer or firewall in front of the \
                      destination's gateway: it may have no gateway behind it, or not let this host in";
        Self::reach("ConnectionClosed", &what, witness, remedy)
    }

    /// `answer` says what came.
    fn not_a_gateway(place: &HostPort, answer: &str, witness: &Witness<'_>) -> Self {
        let what = format!("what answers at {place} is no gateway of a domain: {answer}");
        Self::reach("NotAGateway", &what, witness, CHECK_ENDPOINT)
    }

    fn http_not_of_a_gateway(place: &HostPort, status: StatusCode, witness: &Witness<'_>) -> Self {
        Self::not_a_gateway(place, &format!("it says HTTP {status} by itself"), witness)
    }
}

impl fmt::Display for Witness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Envoy(words) => write!(f, "this domain's Envoy: {words}"),
            Self::Mesh => {
                let host = rustix::system::uname();
                write!(f, "the mesh looked itself, from host {}", host.nodename().to_string_lossy())
            }
        }
    }
}
