//! A domain that runs no mesh: its gateway does Kuscia's handshake by hand.

use ::http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use certs::{DomainKey, PublicKey};
use jiff::Timestamp;
use networkmesh::harness::domain::Domain;
use networkmesh::http::{Limits, Target, send};
use proto::handshake::{Ciphertext, HandshakeKind, HandshakeRequest, HandshakeResponse, Status, TokenConfig};
use serde_json::{Value, json};

const SHARE_BYTES: usize = 16;

pub(crate) struct Partner {
    pub(crate) name: &'static str,
    pub(crate) key: DomainKey,
}

impl Partner {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, key: DomainKey::generate().unwrap() }
    }

    pub(crate) fn public_key(&self) -> String {
        self.key.public_key().to_base64_pem()
    }

    /// Negotiates a token, with which the partner may then call `destination`. The error is the destination's message.
    pub(crate) async fn handshake(&self, destination: &Domain) -> Result<(String, i64), String> {
        let (share, answer) = ask_for_token(destination, self.name, self.key.public_key()).await;
        if answer["status"]["code"].as_i64().unwrap_or_default() != 0 {
            return Err(answer["status"]["message"].as_str().unwrap().to_owned());
        }
        let other_share = self.key.open(answer["token"]["token"].as_str().unwrap(), SHARE_BYTES).unwrap();
        let token = STANDARD.encode([&share[..], &other_share].concat());
        Ok((token, answer["token"]["revision"].as_i64().unwrap()))
    }

    /// The same by signed requests. Where the first one is refused for its time, a second one is of the time that is
    /// expected.
    pub(crate) async fn signed_handshake(&self, destination: &Domain) -> Result<(String, i64), String> {
        let mut answer = self.ask_signed(destination, now()).await;
        if outcome(&answer).reason == "ClocksDiffer" {
            answer = self.ask_signed(destination, answer.last_request_time.saturating_add(1)).await;
        }
        match &answer.token {
            Some(token) => Ok((self.token_in(&answer), token.revision.into())),
            None => Err(outcome(&answer).message.clone()),
        }
    }

    async fn ask_signed(&self, destination: &Domain, request_time: i64) -> HandshakeResponse {
        ask(destination, &signed_request(self.name, &self.key, destination, request_time)).await
    }

    /// The token that the answer to a signed request gives.
    pub(crate) fn token_in(&self, answer: &HandshakeResponse) -> String {
        let rest = self.key.open(&answer.token.as_ref().unwrap().token.0, SHARE_BYTES).unwrap();
        STANDARD.encode([&SHARE[..], &rest].concat())
    }
}

/// The source's share in all signed requests.
const SHARE: [u8; SHARE_BYTES] = [7; SHARE_BYTES];

/// A request as `source`, which has `key`, signs it at that time.
pub(crate) fn signed_request(
    source: &str,
    key: &DomainKey,
    destination: &Domain,
    request_time: i64,
) -> HandshakeRequest {
    let mut request = HandshakeRequest {
        domain_id: source.to_owned(),
        kind: HandshakeKind::Rsa,
        token_config: Some(TokenConfig {
            token: Ciphertext(destination.public_key.seal(&SHARE).unwrap()),
            revision: 0,
            pubhash: key.public_key().pubhash(),
        }),
        request_time,
        nonce: STANDARD.encode([9; 16]),
        ..HandshakeRequest::default()
    };
    sign(&mut request, &destination.name, key);
    request
}

pub(crate) fn sign(request: &mut HandshakeRequest, destination: &str, key: &DomainKey) {
    request.signature = STANDARD.encode(key.sign(&request.signed_bytes(destination)).unwrap());
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap()
}

/// Sends a request for a token to a gateway of the destination.
pub(crate) async fn ask(gateway: &Domain, request: &HandshakeRequest) -> HandshakeResponse {
    let body = serde_json::to_string(request).unwrap();
    let response = post_handshake(gateway, &request.domain_id, body).await;
    assert_eq!(response.status(), 200, "{response:?}");
    serde_json::from_slice(response.body()).unwrap()
}

#[track_caller]
pub(crate) fn outcome(answer: &HandshakeResponse) -> &Status {
    answer.status.as_ref().unwrap()
}

/// Asks for a token in the name of a source, which takes no more than its public key. Answers the source's share of the
/// token, and what the destination says.
pub(crate) async fn ask_for_token(
    destination: &Domain,
    source: &str,
    source_key: &PublicKey,
) -> ([u8; SHARE_BYTES], Value) {
    let mut share = [0; SHARE_BYTES];
    aws_lc_rs::rand::fill(&mut share).unwrap();
    let pem = source_key.to_pkcs1_pem();
    let request = json!({
        "domain_id": source,
        "type": "RSA",
        "token_config": {
            "token": destination.public_key.seal(&share).unwrap(),
            "pubhash": STANDARD.encode(digest::digest(&digest::SHA256, pem.as_bytes())),
        },
        "request_time": 1_700_000_000_000_000_000_i64,
    });
    let response = post_handshake(destination, source, request.to_string()).await;
    assert_eq!(response.status(), 200, "{response:?}");
    (share, serde_json::from_slice(response.body()).unwrap())
}

/// Sends anything to the handshake service of `destination`.
pub(crate) async fn post_handshake(destination: &Domain, source: &str, body: String) -> Response<Bytes> {
    let host = format!("kuscia-handshake.{}.svc", destination.name);
    let mut post = Request::post("/handshake").header("content-type", "application/json");
    post.headers_mut().unwrap().extend(headers(source, &host, None));
    let post = post.body(body.into()).unwrap();
    send(&Target::Tcp(destination.addresses.external), post, Limits::default()).await.unwrap()
}

/// The headers with which a gateway of `source` asks for `host`.
pub(crate) fn headers(source: &str, host: &str, token: Option<&str>) -> HeaderMap {
    let all = [
        ("host", Some(host)),
        ("kuscia-host", Some(host)),
        ("kuscia-source", Some(source)),
        ("kuscia-token", token),
    ];
    let given = all.into_iter().filter_map(|(name, value)| {
        Some((HeaderName::from_static(name), HeaderValue::from_str(value?).unwrap()))
    });
    given.collect()
}
