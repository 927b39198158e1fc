//! Calls to the handshake service of a destination, through this domain's own gateway.

use std::net::SocketAddr;
use std::time::Duration;

use ::http::{HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use certs::DomainKey;
use jiff::Timestamp;
use model::{
    DomainId, OutboundRoute, TOKEN_BYTES, Token, TokenMethod, TokenSettings, TokenValue, Way, quoted,
};
use proto::handshake::{
    Ciphertext, HandshakeKind, HandshakeRequest, HandshakeResponse, StatusResponse, TokenConfig, TokenState,
};
use zeroize::Zeroizing;

use super::call_error::{CallError, PeerRefusal, refusal_reason};
use super::mint::SHARE_BYTES;
use super::proof;
use super::signing::{WrongSignature, sign_request, verify_answer};
use crate::http::{Cause, Limits, Target, send};

/// An answer is some hundred bytes; a peer may not make us read more than this.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A destination answers a handshake only once its gateways accept the token, which may take it half a minute.
const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(35);

const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is asked of a destination.
pub(super) struct Terms<'a> {
    pub(super) settings: &'a TokenSettings,
    /// Revision of the token in use, or 0.
    pub(super) revision: i64,
    /// Nanoseconds since the Unix epoch.
    pub(super) request_time: i64,
    /// A token counts only if the destination has signed it.
    pub(super) must_be_signed: bool,
}

/// This side's half of a token.
type Share = Zeroizing<[u8; SHARE_BYTES]>;

/// A token fresh from a handshake.
pub(super) struct Negotiated {
    pub(super) value: TokenValue,
    pub(super) revision: i64,
    /// By the destination's clock.
    pub(super) expires: Timestamp,
    /// When it was asked for, where both sides have signed.
    pub(super) request_time: Option<i64>,
}

/// Calls destinations in the name of one domain.
#[derive(Clone, Debug)]
pub(super) struct HandshakeClient {
    pub(super) domain: DomainId,
    pub(super) key: DomainKey,
    /// Where applications of this domain reach the gateway.
    pub(super) gateway: SocketAddr,
}

impl HandshakeClient {
    /// Negotiates a token with `destination`.
    pub(super) async fn negotiate(
        &self,
        destination: &DomainId,
        terms: &Terms<'_>,
    ) -> Result<Negotiated, CallError> {
        let (request, share) = self.ask(destination, terms)?;
        let body = serde_json::to_vec(&request).map_err(CallError::internal)?;
        let post = self.request(Method::POST, destination).header("content-type", "application/json");
        let response = self.call(destination, post, body.into(), NEGOTIATION_TIMEOUT).await?;
        let bad = |problem: &str| CallError::bad_answer(destination, problem);
        let answer: HandshakeResponse =
            serde_json::from_slice(response.body()).map_err(|_| bad("the answer is not its JSON"))?;
        let peer_key = &terms.settings.peer_key;
        let verified = verify_answer(&answer, &request, destination.as_str(), peer_key);
        let status = answer.status.ok_or_else(|| bad("the answer has no status"))?;
        if status.code != 0 {
            // Where the keys differ the signature is none, and the refusal says what is wrong.
            let is_signed = verified.unwrap_or(false);
            return Err(CallError::Refused(Box::new(PeerRefusal {
                destination: destination.clone(),
                reason: refusal_reason(&status),
                message: quoted(&status.message),
                own_key: self.key.public_key().fingerprint(),
                peer_key: peer_key.fingerprint(),
                expected_time: Some(answer.last_request_time).filter(|time| is_signed && *time > 0),
            })));
        }
        let is_signed = verified.map_err(|WrongSignature| CallError::WrongSignature {
            destination: destination.clone(),
            peer_key: peer_key.fingerprint(),
        })?;
        if terms.must_be_signed && !is_signed {
            return Err(CallError::NotSigned { destination: destination.clone() });
        }
        let answer = answer.token.ok_or_else(|| bad("the answer has no token"))?;
        let value = self.whole(destination, &answer, share)?;
        let expires = Timestamp::from_nanosecond(answer.expiration_time.into());
        let expires = expires.map_err(|_| bad("the token's end is no time"))?;
        let request_time = is_signed.then_some(request.request_time);
        Ok(Negotiated { value, revision: answer.revision.into(), expires, request_time })
    }

    /// A request for a token, and this side's share of it, where it has one.
    fn ask(
        &self,
        destination: &DomainId,
        terms: &Terms<'_>,
    ) -> Result<(HandshakeRequest, Option<Share>), CallError> {
        let mut request = HandshakeRequest {
            domain_id: self.domain.to_string(),
            kind: HandshakeKind::Uid,
            request_time: terms.request_time,
            ..HandshakeRequest::default()
        };
        let mut share = None;
        if terms.settings.method == TokenMethod::Rsa {
            let bytes = share.insert(Zeroizing::new([0; SHARE_BYTES]));
            aws_lc_rs::rand::fill(&mut bytes[..]).map_err(CallError::internal)?;
            let sealed = terms.settings.peer_key.seal(&bytes[..]).map_err(CallError::internal)?;
            request.kind = HandshakeKind::Rsa;
            request.token_config = Some(TokenConfig {
                token: Ciphertext(sealed),
                revision: terms.revision,
                pubhash: self.key.public_key().pubhash(),
            });
        }
        sign_request(&mut request, destination.as_str(), &self.key).map_err(CallError::internal)?;
        Ok((request, share))
    }

    /// The token of which this side has `share`, and the destination gives the rest.
    fn whole(
        &self,
        destination: &DomainId,
        answer: &proto::handshake::Token,
        share: Option<Share>,
    ) -> Result<TokenValue, CallError> {
        let missing = TOKEN_BYTES - share.as_ref().map_or(0, |share| share.len());
        let rest = self.key.open(&answer.token.0, missing).map_err(|_| CallError::KeyMismatch {
            destination: destination.clone(),
            own_key: self.key.public_key().fingerprint(),
        })?;
        let mut token = Zeroizing::new([0; TOKEN_BYTES]);
        let (own, others) = token.split_at_mut(TOKEN_BYTES - missing);
        if let Some(share) = share {
            own.copy_from_slice(&share[..]);
        }
        others.copy_from_slice(&rest);
        Ok(TokenValue::new(*token))
    }

    /// Asks the destination of `route` for the state of `token`, and proves that this domain has it: with the token, or
    /// where others forward the request, without giving it away.
    pub(super) async fn probe(&self, route: &OutboundRoute, token: &Token) -> Result<TokenState, CallError> {
        let destination = &route.destination;
        let (name, value) = match route.way {
            Way::Direct(_) => ("kuscia-token", Zeroizing::new(token.value.header_value())),
            Way::Transit(_) => {
                (proof::HEADER, Zeroizing::new(proof::proof(token, &self.domain, destination)))
            }
        };
        let mut value = HeaderValue::from_str(&value).map_err(CallError::internal)?;
        value.set_sensitive(true);
        let request = self
            .request(Method::GET, destination)
            .header("kuscia-token-revision", token.revision)
            .header(name, value);
        let response = self.call(destination, request, Bytes::new(), PROBE_TIMEOUT).await?;
        let answer: StatusResponse = serde_json::from_slice(response.body())
            .map_err(|_| CallError::bad_answer(destination, "the answer is not its JSON"))?;
        if answer.namespace != destination.as_str() {
            let actual = quoted(&answer.namespace);
            return Err(CallError::OtherDomain { expected: destination.clone(), actual });
        }
        Ok(answer.state)
    }

    /// Sends a request the way that applications' requests take, with the token that the gateway puts in. Any answer
    /// is one.
    pub(super) async fn try_data_path(&self, destination: &DomainId) -> Result<Response<Bytes>, CallError> {
        let request = Request::get(format!("http://{}/", destination.datapath_host()));
        let request = request.body(Bytes::new()).map_err(CallError::internal)?;
        self.send(destination, request, PROBE_TIMEOUT).await
    }

    fn request(&self, method: Method, destination: &DomainId) -> ::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("http://{}/handshake", destination.handshake_host()))
            .header("kuscia-source", self.domain.as_str())
    }

    async fn call(
        &self,
        destination: &DomainId,
        request: ::http::request::Builder,
        body: Bytes,
        total: Duration,
    ) -> Result<Response<Bytes>, CallError> {
        let request = request.body(body).map_err(CallError::internal)?;
        let response = self.send(destination, request, total).await?;
        if response.status() == StatusCode::OK {
            Ok(response)
        } else {
            Err(CallError::of_response(&response))
        }
    }

    async fn send(
        &self,
        destination: &DomainId,
        request: Request<Bytes>,
        total: Duration,
    ) -> Result<Response<Bytes>, CallError> {
        let limits = Limits { total, body: MAX_ANSWER_BYTES, ..Limits::default() };
        send(&Target::Tcp(self.gateway), request, limits).await.map_err(|error| match error.cause {
            Cause::Refused | Cause::Connect(_) => CallError::OwnGateway(error),
            cause => CallError::NoAnswer { destination: destination.clone(), cause: cause.to_string() },
        })
    }
}
