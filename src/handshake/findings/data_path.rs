//! What the answer to a request with the token shows, which takes the way of applications' requests.

use ::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;
use model::DomainId;
use serde::Deserialize;

use super::hops::hops;
use super::{CHECK_ENDPOINT, LET_HEADERS_PASS, quoted};
use crate::handshake::call_error::CallError;

/// The header by which a gateway says whose it is, in its own answer to a request that it let in.
const DATAPATH: &str = "kuscia-datapath";

/// Whether requests of applications get to the destination's gateway and in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::handshake) enum DataPath {
    /// They do. The reason tells how the gateway shows that.
    Open(&'static str),
    /// They do not: a reason, and what to do.
    Closed(&'static str, String),
}

/// Body of a gateway's refusal.
#[derive(Default, Deserialize)]
struct Refusal {
    domain: Option<String>,
    /// `missing`, where no token arrived.
    token: Option<String>,
}

/// Judges the answer to `GET /` of the destination's datapath host.
pub(in crate::handshake) fn of_data_path(
    answer: &Result<Response<Bytes>, CallError>,
    destination: &DomainId,
) -> DataPath {
    match answer {
        Ok(response) => judge(response, destination),
        Err(CallError::OwnGateway(error)) => {
            let message =
                format!("this domain's gateway: {error}; is Envoy running with this mesh's bootstrap?");
            DataPath::Closed("OwnGatewayDown", message)
        }
        Err(error) => {
            let message =
                format!("{error}; ask the operator of {destination} whether its Envoy runs and has room");
            DataPath::Closed("AnswerTimeout", message)
        }
    }
}

fn judge(response: &Response<Bytes>, destination: &DomainId) -> DataPath {
    let status = response.status();
    if status == StatusCode::OK
        && let Some(domain) = header(response.headers(), DATAPATH)
    {
        return if domain == destination.as_str() {
            DataPath::Open("Answered")
        } else {
            other(destination, domain)
        };
    }
    let message = header(response.headers(), "kuscia-error-message").unwrap_or_default();
    let hops = hops(message);
    let refusal: Refusal = serde_json::from_slice(response.body()).unwrap_or_default();
    let (domain, place) = match hops.as_slice() {
        [_, .., last] => (last.domain, last.gateway),
        // A gateway that says so in the body only.
        [own] if own.is_passed_on() && refusal.domain.is_some() => {
            let domain = refusal.domain.as_deref().unwrap_or_default();
            (domain, domain)
        }
        [own] if !own.is_passed_on() => {
            let message = format!(
                "this domain's own gateway answers HTTP {status} ({}): see the other conditions, and whether its Envoy \
                 has taken the route",
                quoted(own.details)
            );
            return DataPath::Closed("FailedHere", message);
        }
        _ => {
            let server = header(response.headers(), "server").unwrap_or("none");
            let message = format!(
                "what answers HTTP {status} is no gateway of a domain (header server: {}); {CHECK_ENDPOINT}",
                quoted(server)
            );
            return DataPath::Closed("NotAGateway", message);
        }
    };
    if domain != destination.as_str() {
        return other(destination, domain);
    }
    let place = quoted(place);
    match status.as_u16() {
        // Kuscia's gateway has let the request in, and knows no such service.
        404 => DataPath::Open("AnsweredAsKuscia"),
        401 if refusal.token.as_deref() == Some("missing") => {
            let message = format!(
                "the gateway of {destination} ({place}) got no header Kuscia-Token, which this domain's sends: \
                 something on the way removes it; {LET_HEADERS_PASS}"
            );
            DataPath::Closed("HeadersStripped", message)
        }
        401 => {
            let message = format!(
                "the gateway of {destination} ({place}) does not accept this domain's token: its Envoy lags or rejects \
                 its routes (ask its operator for `networkmesh status`), or a proxy on the way removes or changes the \
                 header Kuscia-Token; {LET_HEADERS_PASS}"
            );
            DataPath::Closed("TokenRejected", message)
        }
        _ => {
            let message = format!(
                "the gateway of {destination} ({place}) fails with HTTP {status}: {}; ask its operator for \
                 `networkmesh status`",
                quoted(message)
            );
            DataPath::Closed("FailedAtPeer", message)
        }
    }
}

fn other(destination: &DomainId, domain: &str) -> DataPath {
    let domain = quoted(domain);
    let message = format!("domain {domain} answers where {destination} was expected; {CHECK_ENDPOINT}");
    DataPath::Closed("OtherDomainAnswered", message)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
