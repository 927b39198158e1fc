//! What the answer to a request shows that takes the way of applications' requests.

use ::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;
use model::{OutboundAuth, OutboundRoute, quoted};
use serde::Deserialize;

use super::hops::{Hop, hops};
use super::transit::{is_detour, not_begun, of_first_hop, stopped};
use super::{CHECK_ENDPOINT, Finding, LET_HEADERS_PASS, Layer, diagnose};
use crate::handshake::call_error::CallError;
use crate::handshake::path::Path;

/// The header by which a gateway says whose it is, in its own answer to a request that it let in; those that the answer
/// passes put themselves in front.
const DATAPATH: &str = "kuscia-datapath";

/// Whether requests of applications get to the destination's gateway and in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::handshake) enum DataPath {
    /// They do.
    Open {
        /// How the gateway shows that.
        reason: &'static str,
        /// The way that they take, as far as the gateways tell.
        path: Option<Path>,
    },
    /// They do not.
    Closed(Finding),
}

/// Body of a gateway's refusal.
#[derive(Default, Deserialize)]
struct Refusal {
    domain: Option<String>,
    /// `missing`, where no token arrived.
    token: Option<String>,
}

/// Judges the answer to `GET /` of the datapath host of the destination of `route`.
pub(in crate::handshake) fn of_data_path(
    answer: &Result<Response<Bytes>, CallError>,
    route: &OutboundRoute,
) -> DataPath {
    let destination = &route.destination;
    match answer {
        Ok(response) => judge(response, route),
        Err(CallError::OwnGateway(error)) => {
            let message =
                format!("this domain's gateway: {error}; is Envoy running with this mesh's bootstrap?");
            closed(Layer::Reach, "OwnGatewayDown", message)
        }
        Err(error) => {
            let message =
                format!("{error}; ask the operator of {destination} whether its Envoy runs and has room");
            closed(Layer::Reach, "AnswerTimeout", message)
        }
    }
}

/// The same, where no handshake tells why the destination is not reached: then the mesh looks itself. Takes no more than
/// three seconds.
pub(in crate::handshake) async fn of_data_path_alone(
    answer: Result<Response<Bytes>, CallError>,
    route: &OutboundRoute,
) -> DataPath {
    let shown = of_data_path(&answer, route);
    let error = match (&shown, answer) {
        (DataPath::Closed(Finding { layer: Layer::Reach, .. }), Ok(response)) => {
            CallError::of_response(&response)
        }
        (DataPath::Closed(Finding { layer: Layer::Reach, .. }), Err(error)) => error,
        _ => return shown,
    };
    diagnose(&error, route).await.map_or(shown, DataPath::Closed)
}

fn judge(response: &Response<Bytes>, route: &OutboundRoute) -> DataPath {
    let destination = &route.destination;
    let status = response.status();
    if status == StatusCode::OK
        && let Some(said) = header(response.headers(), DATAPATH)
    {
        return match Path::of_header(said) {
            Ok(path) if path.answered_by == *destination => {
                DataPath::Open { reason: "Answered", path: Some(path) }
            }
            _ => other(route, said),
        };
    }
    let message = header(response.headers(), "kuscia-error-message").unwrap_or_default();
    let hops = hops(message);
    let refusal: Refusal = serde_json::from_slice(response.body()).unwrap_or_default();
    let at = match hops.as_slice() {
        [_, .., last] => *last,
        // A gateway that says so in the body only.
        [own] if own.is_passed_on() && refusal.domain.is_some() => {
            let domain = refusal.domain.as_deref().unwrap_or_default();
            Hop { domain, gateway: domain, details: "" }
        }
        [own] if !own.is_passed_on() => return failed_here(own.details, status, route),
        _ => {
            let server = header(response.headers(), "server").unwrap_or("none");
            let message = format!(
                "what answers HTTP {status} is no gateway of a domain (header server: {}); {CHECK_ENDPOINT}",
                quoted(server)
            );
            return closed(Layer::Reach, "NotAGateway", message);
        }
    };
    match (at.domain == destination.as_str(), status.as_u16()) {
        (false, _) if is_detour(route) => DataPath::Closed(stopped(route, at, status)),
        (false, _) => other(route, at.domain),
        // Kuscia's gateway has let the request in, and knows no such service.
        (true, 404) => DataPath::Open { reason: "AnsweredAsKuscia", path: None },
        // It is the gateway before it that the destination lets in, or not.
        (true, 401 | 403) if is_detour(route) => DataPath::Closed(stopped(route, at, status)),
        (true, 401) => not_let_in(route, &quoted(at.gateway), refusal.token.as_deref() == Some("missing")),
        (true, 403) => {
            let message = format!(
                "the gateway of {destination} ({}) lets this domain in from other addresses only; ask its operator to put \
                 the one from which it sees this domain's gateway into sourceWhiteIPList of its route",
                quoted(at.gateway)
            );
            closed(Layer::Trust, "AddressNotAllowed", message)
        }
        (true, _) => {
            let message = format!(
                "the gateway of {destination} ({}) fails with HTTP {status}: {}; ask its operator for \
                 `networkmesh status`",
                quoted(at.gateway),
                quoted(message)
            );
            closed(Layer::Trust, "FailedAtPeer", message)
        }
    }
}

/// The gateway at `place` answers 401.
fn not_let_in(route: &OutboundRoute, place: &str, is_token_missing: bool) -> DataPath {
    let destination = &route.destination;
    let (reason, message) = match &route.auth {
        OutboundAuth::Token { .. } if is_token_missing => (
            "HeadersStripped",
            format!(
                "the gateway of {destination} ({place}) got no header Kuscia-Token, which this domain's sends: \
                 something on the way removes it; {LET_HEADERS_PASS}"
            ),
        ),
        OutboundAuth::Token { .. } => (
            "TokenRejected",
            format!(
                "the gateway of {destination} ({place}) does not accept this domain's token: its Envoy lags or rejects \
                 its routes (ask its operator for `networkmesh status`), or a proxy on the way removes or changes the \
                 header Kuscia-Token; {LET_HEADERS_PASS}"
            ),
        ),
        OutboundAuth::Mtls => (
            "CertificateRefused",
            format!(
                "the gateway of {destination} ({place}) does not take this domain's client certificate for one of this \
                 domain: give its operator the output of `networkmesh cert --base64` for spec.cert of the Domain there, or \
                 the certificate of mTLSConfig.sourceClientCert for its route; and see whether its route says \
                 authenticationType: MTLS too, and that no proxy on the way ends TLS"
            ),
        ),
        OutboundAuth::None => (
            "AuthenticationWanted",
            format!(
                "the gateway of {destination} ({place}) does not let this domain in as it is: its operator must add this \
                 DomainRoute, and both sides must say the same authenticationType"
            ),
        ),
    };
    closed(Layer::Trust, reason, message)
}

/// This domain's own gateway made the answer.
fn failed_here(details: &str, status: StatusCode, route: &OutboundRoute) -> DataPath {
    let message = format!(
        "this domain's own gateway answers HTTP {status} ({}): see the other conditions, and whether its Envoy \
         has taken the route",
        quoted(details)
    );
    let failed = || of_first_hop(route, Finding { layer: Layer::Reach, reason: "FailedHere", message });
    DataPath::Closed(not_begun(route, details).unwrap_or_else(failed))
}

fn other(route: &OutboundRoute, domain: &str) -> DataPath {
    let domain = quoted(domain);
    let message =
        format!("domain {domain} answers where {} was expected; {CHECK_ENDPOINT}", route.destination);
    closed(Layer::Trust, "OtherDomainAnswered", message)
}

fn closed(layer: Layer, reason: &'static str, message: String) -> DataPath {
    DataPath::Closed(Finding { layer, reason, message })
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
